"""Imports point one way: DESIGN.md, "The house"."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "vi_compare"
LEAVES = ("guides", "divergences", "solvers", "metrics")

# From the top down: each part imports from itself and from the layers below it. A part is a
# module at the top of the package, or one of its folders.
LAYERS = (
    ("__init__", "__main__"),
    ("cli",),
    ("objects", "script", "terminal"),
    ("alpha_path", "calibration"),
    ("study",),
    ("run",),
    ("solvers",),
    ("divergences",),
    ("approximation", "files"),
    # An approximation is a guide at parameters: what a guide can do is its family's to say.
    ("guides",),
    ("families",),
    ("reference",),
    ("gaussian",),
    ("predictions", "starts"),
    ("difference", "report"),
    ("guide_trace", "metrics", "scores", "verdict"),
    ("target",),
    ("catalogue", "comparison", "evidence"),
    ("batches", "cache", "estimate", "formatting", "randomness", "settings", "streams", "timing"),
    ("psis", "values"),
    ("errors",),
)
DEPTH = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}
MOST_AT_THE_TOP = 26


def modules() -> dict[str, Path]:
    out = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        out[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return out


MODULES = modules()


@cache
def imports(path: Path, *, late: bool) -> frozenset[str]:
    """Modules that a file imports; `late` includes those inside functions and those that are
    for the type checker alone."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()

    def visit(node):
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if not late and (for_types or isinstance(node, ast.FunctionDef)):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return frozenset(found)


def ours(module: str) -> frozenset[str]:
    """The package's own modules that a module imports, late and type-only imports too."""
    return imports(MODULES[module], late=True) & MODULES.keys() - {module}


def part(module: str) -> str:
    """``vi_compare.guides.mixture`` -> ``guides``."""
    return module.split(".")[1] if "." in module else "__init__"


def is_leaf(module: str) -> bool:
    """An entry of a plug-in folder: a leading underscore means a helper."""
    return module.count(".") == 2 and not module.split(".")[2].startswith("_")


def reach(module: str) -> set[str]:
    """Everything that a module imports, and what that imports in turn."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        new = ours(todo.pop()) - seen
        seen |= new
        todo += new
    return seen


def test_every_module_has_a_layer():
    unlisted = {m for m in MODULES if part(m) not in DEPTH}
    assert not unlisted, f"name the layer of {sorted(unlisted)}"
    assert {part(m) for m in MODULES} == DEPTH.keys(), "a layer names what is not there"


def test_few_modules_stand_at_the_top():
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_AT_THE_TOP


def constants(path: Path) -> list[str]:
    """UPPER_CASE names that a module assigns, those of unpacked tuples one by one."""
    found = []
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets += [node.target] if isinstance(node, ast.AnnAssign) else []
        for target in targets:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            found += [name.id for name in names if isinstance(name, ast.Name)]
    return [name for name in found if re.fullmatch(r"_?[A-Z][A-Z0-9_]*", name)]


def test_tunables_are_fields_of_records_and_not_constants():
    """A module has a constant where it is one fact. The ABOUT of every metric is not counted:
    another metric is one new file and no other edit."""
    named = [name for path in MODULES.values() for name in constants(path)]
    assert sum(name != "ABOUT" for name in named) < 90


def test_no_class_name_has_two_meanings():
    where: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                where.setdefault(node.name, []).append(module)
    assert not {name: modules for name, modules in where.items() if len(modules) > 1}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module):
    mine = part(module)
    up = {m for m in ours(module) if part(m) != mine and DEPTH[part(m)] <= DEPTH[mine]}
    assert not up, f"{module} reaches up to {sorted(up)}"


@pytest.mark.parametrize("module", sorted(m for m in MODULES if part(m) in LEAVES and is_leaf(m)))
def test_leaves_do_not_import_each_other(module):
    kind = part(module)
    assert not [m for m in ours(module) if part(m) == kind and is_leaf(m)]


def test_no_module_imports_itself_in_a_circle():
    circles = [m for m in MODULES if m in reach(m)]
    assert not circles


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.py")), ids=lambda p: p.stem)
def test_a_model_script_imports_few_packages(path):
    known = {"vi_compare", "numpyro", "jax", "numpy", *sys.stdlib_module_names}
    used = {name.split(".")[0] for name in imports(path, late=False)}
    assert used <= known
    # Data may ship inside a package that only `data()` asks for.
    late = {name.split(".")[0] for name in imports(path, late=True)}
    assert late - known <= {"sklearn"}


@pytest.mark.parametrize("package", ["jax", "pandas", "xarray", "arviz_base", "arviz_stats"])
def test_help_does_not_wait_for_what_is_large(package):
    """Importing the package and the command line must not import JAX, pandas or ArviZ."""
    import subprocess

    code = f"import sys, vi_compare, vi_compare.cli; sys.exit({package!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr.decode()
