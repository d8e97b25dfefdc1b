"""The one-way flow of the package: who may know whom, read from the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from diffcheck.torch_internals import HOOKS

PACKAGE = Path(__file__).parents[2] / "diffcheck"

# A file imports only from files above it (what it needs only when a function is called may stand below).
ORDER = (
    "errors", "config", "alarm", "verdict", "versions", "torch_internals", "device", "expr", "heads", "constants",
    "symbolic", "derive",
    "normal_form", "symmetry", "fingerprints", "identity", "witness", "balls", "compiler", "levels", "elementary",
    "extended", "running_error", "formats", "enclosure", "judgement", "settle", "certify", "formula", "autodiff",
    "operation", "rule", "rules", "storages", "application", "stand_in", "frames", "grad_mode", "shadow", "spelled",
    "domain", "nested", "case", "given", "faults", "draw", "trace", "batch", "evaluate", "scale", "repro", "diagnosis",
    "search", "finding", "visit", "conclude", "check", "protocol",
)  # fmt: skip
DIFFERENTIATION = ("symbolic", "derive")
CERTIFICATE = (
    "balls", "compiler", "levels", "elementary", "extended", "running_error", "formats", "enclosure", "judgement",
    "settle", "certify",
)  # fmt: skip
PROOF = ("normal_form", "symmetry", "fingerprints", "identity", "witness")
ORACLE = ("expr", "heads", "constants", *DIFFERENTIATION, *PROOF, *CERTIFICATE, "formula")


def _names(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), names=names, level=0):
            return [module, *(f"{module}.{alias.name}" for alias in names)]
        case ast.ImportFrom():
            pytest.fail(f"line {node.lineno}: a relative import")
    return []


@cache
def imports(path: Path, *, only_at_import: bool = False) -> frozenset[str]:
    """Everything that a file imports; or what is imported when it is."""
    tree = ast.parse(path.read_text())
    if not only_at_import:
        return frozenset(name for node in ast.walk(tree) for name in _names(node))
    found: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        found.update(_names(node))
        pending.extend(ast.iter_child_nodes(node))
    return frozenset(found)


def rooms(names: frozenset[str]) -> set[str]:
    """The package's own files and folders among imported names."""
    known = {path.stem for path in PACKAGE.iterdir()}
    parts = [name.split(".") for name in names]
    return {p[1] for p in parts if p[0] == "diffcheck" and len(p) > 1 and p[1] in known}


def reachable(room: str) -> set[str]:
    """What a file imports, and what that imports, and so on."""
    seen: set[str] = set()
    pending = [room]
    while pending:
        for path in files(pending.pop()):
            new = rooms(imports(path)) - seen
            seen |= new
            pending.extend(new)
    return seen - {room}


def files(room: str) -> list[Path]:
    return sorted((PACKAGE / room).glob("*.py")) if (PACKAGE / room).is_dir() else [PACKAGE / f"{room}.py"]


def test_the_files_of_the_core_are_all_known_here():
    others = {"__init__", "__main__", "cli", "gradcheck", "library", "load", "results", "run", "select"}
    others |= {"dynamo", "show", "strategies", "workers"}
    assert {p.stem for p in PACKAGE.glob("*.py")} - others <= set(ORDER)
    assert all(path.exists() for room in ORDER for path in files(room))


@pytest.mark.parametrize("room", ORDER)
def test_a_file_imports_only_from_files_above_it(room: str):
    above = set(ORDER[: ORDER.index(room)]) | {room}
    for path in files(room):
        assert rooms(imports(path, only_at_import=True)) <= above, path


def test_autodiff_shares_nothing_with_the_oracle():
    assert reachable("autodiff") == {"torch_internals", "versions", "errors"}
    assert not {"sympy", "flint"} & {name.split(".")[0] for name in imports(PACKAGE / "autodiff.py")}


@pytest.mark.parametrize("room", ORACLE)
def test_the_oracle_knows_neither_autograd_nor_the_trace(room: str):
    assert reachable(room) <= {*ORACLE, "errors"}
    torch = {name for path in files(room) for name in imports(path) if name.split(".")[0] == "torch"}
    assert torch == ({"torch"} if room == "formats" else set())  # for what `torch.finfo` says of a format


@pytest.mark.parametrize(
    ("rooms_here", "forbidden"),
    [
        (DIFFERENTIATION, PROOF + CERTIFICATE),
        (PROOF, DIFFERENTIATION + CERTIFICATE),
        (CERTIFICATE, DIFFERENTIATION + PROOF),
    ],
    ids=["differentiation", "proof", "certificate"],
)
def test_derivative_proof_and_certificate_do_not_know_each_other(
    rooms_here: tuple[str, ...], forbidden: tuple[str, ...]
):
    for room in rooms_here:
        assert not reachable(room) & set(forbidden), room


def test_rules_know_the_algebra_only():
    for path in files("rules"):
        assert rooms(imports(path)) <= {"rules", "expr", "heads", "constants", "errors"}, path


def test_sympy_and_flint_each_have_their_rooms():
    users = {"sympy": set[str](), "flint": set[str]()}
    for room in ORDER:
        for path in files(room):
            for library, found in users.items():
                if any(name.split(".")[0] == library for name in imports(path)):
                    found.add(room)
    assert users["sympy"] <= {"symbolic", "formula", "diagnosis"}
    balls = {"balls", "compiler", "elementary", "enclosure", "judgement", "settle", "certify"}
    assert users["flint"] <= {"normal_form", *balls, "evaluate", "diagnosis"}


def test_nothing_is_imported_by_a_computed_name():
    """But PyTorch's inside, by names that all begin with torch."""
    assert all(name.startswith("torch.") for name in HOOKS)
    for room in (room for room in ORDER if room != "torch_internals"):
        for path in files(room):
            called = {getattr(n.func, "id", getattr(n.func, "attr", "")) for n in ast.walk(ast.parse(path.read_text()))
                      if isinstance(n, ast.Call)}  # fmt: skip
            assert not called & {"__import__", "import_module"}, path


def test_importing_the_package_imports_nothing_heavy():
    heavy = ("torch", "sympy", "flint", "hypothesis", "numpy", "jaxtyping", "rich", "typer")
    code = f"import sys, diffcheck; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent, timeout=60
    )
    assert done.stdout.strip() == "[]"
