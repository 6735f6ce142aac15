"""Imports point one way: DESIGN.md, "The house"."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "vi_compare"
LEAVES = ("guides", "divergences", "solvers", "metrics")

# Each layer may import from its own and from those above it. Modules that are not listed
# (moments, families, modes, ...) are helpers: they take the place that their imports give them.
LAYERS = (
    ("target", "evidence", "approximation"),
    ("guides", "divergences", "metrics", "reference"),
    ("solvers",),
    ("verdict", "study"),
    ("report",),
    ("cli",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def modules() -> dict[str, Path]:
    out = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        out[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return out


MODULES = modules()


def imports(path: Path, *, late: bool) -> set[str]:
    """Modules of the package that a file imports; `late` includes those inside functions.

    What is under TYPE_CHECKING is for the type checker and does not count.
    """
    tree = ast.parse(path.read_text())
    found: set[str] = set()

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.FunctionDef) and not late:
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
    return found


def ours(path: Path, *, late: bool = True) -> set[str]:
    return {name for name in imports(path, late=late) if name.split(".")[0] == "vi_compare"}


def part(module: str) -> str:
    """``vi_compare.guides.mixture`` -> ``guides``."""
    return module.split(".")[1] if "." in module else ""


def is_leaf(module: str) -> bool:
    """An entry of a plug-in folder: a leading underscore means a helper."""
    return module.count(".") == 2 and not module.split(".")[2].startswith("_")


def reach(module: str) -> set[str]:
    """Everything that importing a module imports in turn."""
    seen, todo = set(), [module]
    while todo:
        for name in ours(MODULES[todo.pop()], late=False) & MODULES.keys():
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return seen


@pytest.mark.parametrize("module", sorted(m for m in MODULES if part(m) in RANK))
def test_imports_point_one_way(module):
    mine = RANK[part(module)]
    above = {m for m in reach(module) if RANK.get(part(m), -1) > mine}
    assert not above, f"{module} ({LAYERS[mine]}) reaches up to {sorted(above)}"


@pytest.mark.parametrize("module", sorted(m for m in MODULES if part(m) in LEAVES and is_leaf(m)))
def test_leaves_do_not_import_each_other(module):
    kind = part(module)
    assert not [m for m in ours(MODULES[module]) - {module} if part(m) == kind and is_leaf(m)]


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


def test_help_does_not_wait_for_jax():
    """Importing the package and the command line must not import JAX."""
    import subprocess

    code = "import sys, vi_compare, vi_compare.cli; sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr.decode()
