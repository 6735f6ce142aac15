"""Model scripts: read one, find what it defines, and make a Study of it."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vi_compare.errors import InputError, first_line, nearest

# Lines of a notebook, or of a script exported from one, that are IPython's and no Python.
IPYTHON = re.compile(r"\s*([%!]|get_ipython\(\)|\?|\w[\w.]*\?+\s*$)")


def read(path: str | Path) -> Path:
    """Check that a script is there and parses, without running it.

    Raises:
        InputError: when it is missing, is no file, or does not parse.
    """
    path = Path(path)
    try:
        source = source_of(path)
    except FileNotFoundError:
        raise InputError(f"there is no script {path}; give the path of a model script") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a Python file") from None
    except ValueError as error:
        raise InputError(f"{path} does not parse: {error}; give a Python file") from None
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
    package, root = _package(path)
    names: dict[str, Any] = {"__name__": name, "__file__": str(path), "__doc__": None}
    names |= {"__package__": package} if package else {}
    # The docstring opens the page, also where `python -OO` strips those of modules.
    code = compile(source_of(path), str(path), "exec", optimize=min(sys.flags.optimize, 1))
    places, arguments = sys.path[:], sys.argv[:]
    sys.path[:0] = [str(root), str(path.parent.resolve())]
    # A script that reads the command line must not see that of vi-compare.
    sys.argv[:] = [str(path)]
    said_by_the_script = io.StringIO()
    try:
        # Who reads the command line prints how to use it before it exits.
        with contextlib.redirect_stderr(said_by_the_script):
            exec(code, names)
    except (InputError, KeyboardInterrupt):
        raise
    except SystemExit as error:
        said_by_the_script = io.StringIO()
        raise InputError(
            f"{path} raises SystemExit{_line(error, path)}, perhaps because it reads the command "
            f"line, which is empty here; put that under if __name__ == '__main__'"
        ) from error
    except BaseException as error:  # whatever a user's script raises
        said = f"{type(error).__name__}{_line(error, path)}: {first_line(error)}"
        raise InputError(f"{path} raises {said}") from error
    finally:
        sys.path[:], sys.argv[:] = places, arguments
        sys.stderr.write(said_by_the_script.getvalue())
    return names


def source_of(path: Path) -> str:
    """Python source: the text of a script, or the code cells of a notebook without what only
    IPython reads (``%``, ``!``, ``?``, ``get_ipython()``); line numbers are kept.

    Raises:
        OSError, UnicodeDecodeError: when the file cannot be read.
        ValueError: when a notebook is none.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        try:
            cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
            text = "\n".join("".join(cell["source"]) for cell in cells)
        except (ValueError, LookupError, TypeError):
            raise ValueError("it is no notebook") from None
    lines = ("" if IPYTHON.match(line) else line for line in text.split("\n"))
    return "\n".join(lines)


def _package(path: Path) -> tuple[str, Path]:
    """The package that a script stands in, for its relative imports, and where that is
    imported from; "" for a script that stands alone."""
    folder, names = path.resolve().parent, []
    while (folder / "__init__.py").is_file():
        names.append(folder.name)
        folder = folder.parent
    return ".".join(reversed(names)), folder


def _line(error: BaseException, path: Path) -> str:
    traceback, line = error.__traceback__, None
    while traceback:
        if traceback.tb_frame.f_code.co_filename == str(path):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return f" at line {line}" if line else ""


def split(text: str | Path) -> tuple[Path, str | None]:
    """``SCRIPT`` or ``SCRIPT:NAME`` -> path and name; a colon in an existing path is no sign."""
    head, colon, name = str(text).rpartition(":")
    if not colon or Path(text).exists() or not head.endswith((".py", ".ipynb")):
        return Path(text), None
    return Path(head), name


def load(path: str | Path, name: str | None = None, data: str | Path | None = None):
    """The `Study` that a script defines, or the default one of its ``model``.

    Args:
        path: of the script.
        name: of another model or study in it.
        data: a file with the model's keyword arguments, instead of the script's.

    Raises:
        InputError: as `read` and `execute`, or when there is no model of that name.
    """
    from dataclasses import replace

    from vi_compare.files.data import read_data

    path = read(path)
    names = execute(path)
    study = _study(path, names) if name is None else _named(path, names, name)
    for field in ("guides", "quantities", "judge", "coords", "dims"):
        if field in names and not getattr(study, field) and _is_meant(field, names[field]):
            study = replace(study, **{field: names[field]})
    if data is not None:
        # Exact draws, printed figures and names of entries are of the script's own data.
        own = read_data(Path(data), study.model)
        coords = study.coords if study.data is None else {}
        if coords != study.coords:
            own.told += ("the script's coords are those of its own data, and were left out",)
        study = replace(study, data=own, exact=None, published=(), coords=coords)
    description = (names.get("__doc__") or "").strip()
    title = path.stem if name is None else f"{path.stem}:{name}"
    return replace(study, name=title, description=study.description or description)


def _is_meant(field: str, value: Any) -> bool:
    """Many a script has ``dims = 3``, or the places of its data in ``coords``."""
    return field not in ("coords", "dims") or isinstance(value, Mapping) or callable(value)


def _study(path: Path, names: dict[str, Any]):
    from vi_compare.study import Study

    study = names.get("study")
    if study is not None and not isinstance(study, Study):
        kind = type(study).__name__
        raise InputError(f"{path}: study is a {kind}; it must be a vi_compare.Study")
    if study is not None and callable(study.model):
        return study
    if not callable(names.get("model")):
        others = _models(names)
        hint = f"; give one of its functions, as in {path}:{others[0]}" if others else ""
        raise InputError(
            f"{path} defines no function `model`; define a NumPyro model of that name{hint}"
        )
    return Study(names["model"], data=names.get("data"), exact=names.get("exact"))


def _named(path: Path, names: dict[str, Any], name: str):
    """The study of that name, or one of the model of that name on the script's data."""
    from vi_compare.study import Study

    found = names.get(name)
    if isinstance(found, Study):
        return found
    if not callable(found):
        known = [*_models(names), *(n for n, v in names.items() if isinstance(v, Study))]
        raise InputError(f"{path} defines no model {name!r}; {nearest(name, known)}")
    return Study(found, data=names.get("data"))


def _models(names: dict[str, Any]) -> list[str]:
    """Functions written in the script itself."""
    own = names["__name__"]
    return [n for n, v in names.items() if inspect.isfunction(v) and v.__module__ == own]
