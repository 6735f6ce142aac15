"""Model scripts: read one, find what it defines, and make a Study of it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

from vi_compare.errors import InputError


def read(path: str | Path) -> Path:
    """Check that a script is there and parses, without running it.

    Raises:
        InputError: when it is missing, is no file, or does not parse.
    """
    path = Path(path)
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no script {path}; give the path of a model script") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a Python file") from None
    try:
        ast.parse(source, str(path))
    except SyntaxError as error:
        raise InputError(f"{path} does not parse: line {error.lineno}: {error.msg}") from None
    except ValueError as error:
        raise InputError(f"{path} does not parse: {error}; give a Python file") from None
    return path


def execute(path: Path) -> dict[str, Any]:
    """Run a script as a module that is not ``__main__`` and return its names.

    Raises:
        InputError: when it raises; the line in the script is named.
    """
    name = f"vi_compare_script_{path.stem}"
    names: dict[str, Any] = {"__name__": name, "__file__": str(path), "__doc__": None}
    code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        exec(code, names)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        line = _line(error, path)
        first = str(error).strip().partition("\n")[0]
        raise InputError(f"{path} raises {type(error).__name__}{line}: {first}") from error
    finally:
        sys.path.pop(0)
    return names


def _line(error: BaseException, path: Path) -> str:
    traceback, line = error.__traceback__, None
    while traceback:
        if traceback.tb_frame.f_code.co_filename == str(path):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return f" at line {line}" if line else ""


def load(path: str | Path):
    """The `Study` that a script defines, or the default one of its ``model``.

    Raises:
        InputError: as `read` and `execute`, or when there is no ``model``.
    """
    from dataclasses import replace

    from vi_compare.study import Study

    path = read(path)
    names = execute(path)
    study = names.get("study")
    if study is not None and not isinstance(study, Study):
        kind = type(study).__name__
        raise InputError(f"{path}: study is a {kind}; it must be a vi_compare.Study")
    if not callable(names.get("model", getattr(study, "model", None))):
        raise InputError(f"{path} defines no function `model`; define a NumPyro model of that name")
    if study is None:
        study = Study(names["model"], data=names.get("data"), exact=names.get("exact"))
    description = (names.get("__doc__") or "").strip()
    return replace(study, name=path.stem, description=study.description or description)
