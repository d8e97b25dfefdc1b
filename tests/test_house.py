"""The repository is what its documents say: files, commands, versions, licence, and reasons for every exception."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, Final

import grimp
import networkx as nx
import pytest
import typer

import diffcheck
from diffcheck.commands.cli import app

ROOT: Final = Path(__file__).parents[1]
AGREED: Final = {
    "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "cases", "diffcheck", "docs", "pyproject.toml", "tests",
}  # fmt: skip
IGNORED: Final = tuple(line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines())
DISPLAY: Final = {
    ("diffcheck.declare.case", "diffcheck.checking.show"),
    ("diffcheck.regression.declare", "diffcheck.regression.show"),
    ("diffcheck.results", "diffcheck.report.notebook"),
    ("diffcheck.results", "diffcheck.report.table"),
    ("diffcheck.verdict", "diffcheck.report.notebook"),
}
"""What is imported when something is shown, and not before."""
LONGEST_FILE: Final = 400
LONGEST_FUNCTION: Final = 60
STILL_LONGER: Final = {
    "algebra/expr.py": 528,
    "commands/cli.py": 511,
    "compare/evaluate.py": 483,
    "declare/domain.py": 450,
    "differentiate/autodiff.py": 476,
    "draw/inputs.py": 441,
    "trace/shadow.py": 495,
    "api/gradcheck.py::gradcheck": 78,
    "api/gradcheck.py::gradgradcheck": 71,
    "api/library.py::check": 69,
    "commands/cli.py::run": 128,
    "commands/cli.py::audit": 64,
    "declare/case.py::_declare": 62,
}
"""Files and functions that are to become two, and their lines: none of them may grow, and what has shrunk leaves."""


@cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def ignored(path: Path) -> bool:
    return any(fnmatch(part, pattern) for part in path.relative_to(ROOT).parts for pattern in IGNORED)


@cache
def texts() -> dict[str, str]:
    """Every text file of the repository."""
    places = [ROOT / ".ci", *(ROOT / name for name in AGREED), ROOT / ".gitignore"]
    files = [f for place in places for f in ([place] if place.is_file() else place.rglob("*")) if f.is_file()]
    return {str(f.relative_to(ROOT)): f.read_text(encoding="utf-8") for f in files if not ignored(f)}


def code_of(document: str) -> str:
    """The parts of a document that are code: spans in backticks and indented lines."""
    text = texts()[document]
    return "\n".join([*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^ {4}(.*)$", text, re.MULTILINE)])


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------


def test_the_top_level_holds_what_was_agreed_on():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    names = listed.stdout.splitlines() or [p.name for p in ROOT.iterdir() if not ignored(p)]
    assert {name.partition("/")[0] for name in names if not name.startswith(".")} == AGREED


def test_no_tool_of_a_workplace_is_named():
    names = [*(f"farm{dash}{tool}" for dash in "-_" for tool in ("bench", "studio")), f"/{'work'}/"]
    names += [f"`{'dup'}licates`", f"{'dup'}licates --"]
    found = [(file, name) for file, text in texts().items() for name in names if name in text]
    assert not found


def test_the_licence_is_bsd_3_clause():
    text = " ".join(texts()["LICENSE"].split())
    assert "Redistribution and use in source and binary forms" in text
    assert "Neither the name of the copyright holder nor the names of its contributors" in text
    assert pyproject()["project"]["license"] == "BSD-3-Clause"
    assert "BSD-3-Clause" in texts()["README.md"]


# ---------------------------------------------------------------------------------------------------------------------
# The architecture
# ---------------------------------------------------------------------------------------------------------------------


def packages() -> list[str]:
    return sorted(p.name for p in (ROOT / "diffcheck").iterdir() if (p / "__init__.py").is_file())


def modules() -> list[Path]:
    return sorted(p for p in (ROOT / "diffcheck").rglob("*.py") if not ignored(p))


@cache
def imports() -> nx.DiGraph[str]:
    """Who imports whom, inside functions and for type checkers only included; other packages too."""
    graph = grimp.build_graph("diffcheck", include_external_packages=True, cache_dir=None)
    return nx.DiGraph((m, n) for m in graph.modules for n in graph.find_modules_directly_imported_by(m))


def test_no_file_imports_itself_through_others():
    known = imports().copy()
    known.remove_edges_from(DISPLAY)
    assert not [sorted(circle) for circle in nx.strongly_connected_components(known) if len(circle) > 1]


def test_each_exception_is_one():
    assert all(imports().has_edge(*edge) for edge in DISPLAY)


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("sympy", {"checking", "derive", "explain", "regression"}),
        ("flint", {"certify", "compare", "explain", "prove", "regression"}),
    ],
)
def test_sympy_and_ball_arithmetic_have_their_rooms(library: str, rooms: set[str]):
    assert {name.split(".")[1] for name in imports().predecessors(library)} == rooms


@pytest.mark.parametrize("package", packages())
def test_a_package_says_what_goes_in_what_comes_out_and_where_to_add(package: str):
    readme = texts()[f"diffcheck/{package}/README.md"]
    assert re.search(r"^In: ", readme, re.MULTILINE)
    assert re.search(r"^Out: ", readme, re.MULTILINE)
    assert re.search(r"^To add ", readme, re.MULTILINE)
    for name in re.findall(r"`([\w/]+\.py)`", readme):
        assert any((folder / name).is_file() for folder in (ROOT / "diffcheck" / package, ROOT / "diffcheck", ROOT)), (
            name
        )


def test_the_architecture_names_every_package():
    named = set(re.findall(r"`(\w+)/`", texts()["docs/architecture.md"]))
    assert named >= set(packages())


def lengths() -> Iterator[tuple[str, int, int]]:
    """Every file and function, its lines, and how many it may have."""
    for file in modules():
        text = file.read_text(encoding="utf-8")
        name = file.relative_to(ROOT / "diffcheck").as_posix()
        yield name, len(text.splitlines()), LONGEST_FILE
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{name}::{node.name}", node.end_lineno - node.lineno + 1, LONGEST_FUNCTION


def test_nothing_is_longer_than_one_reads_in_a_sitting():
    longer = {name: lines for name, lines, most in lengths() if lines > most}
    assert {name: lines for name, lines in longer.items() if lines > STILL_LONGER.get(name, 0)} == {}
    assert STILL_LONGER.keys() <= longer.keys(), "it is short now: take it out of the list"


def test_nothing_is_imported_by_a_computed_name():
    for file in modules():
        called = {
            getattr(n.func, "id", getattr(n.func, "attr", ""))
            for n in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(n, ast.Call)
        }
        public_names = file.name in ("__init__.py", "torch_internals.py")
        assert public_names or not called & {"__import__", "import_module"}, file


def test_importing_the_package_imports_nothing_heavy():
    heavy = ("torch", "sympy", "flint", "hypothesis", "numpy", "jaxtyping", "rich", "typer")
    code = f"import sys, diffcheck; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))])
def test_links_lead_somewhere(document: str):
    for target in re.findall(r"\]\(([^)#\s]+)", texts()[document]):
        assert target.startswith("https://") or (ROOT / document).parent.joinpath(target).exists(), target


# ---------------------------------------------------------------------------------------------------------------------
# The README's commands
# ---------------------------------------------------------------------------------------------------------------------


def test_the_commands_of_the_readme_exist():
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    code = code_of("README.md")
    used = set(re.findall(r"(?:^|\$ |&& )diffcheck ([a-z]+)", code, re.MULTILINE))
    assert used == set(commands)
    options = {name for command in commands.values() for p in command.params for name in (*p.opts, *p.secondary_opts)}
    assert set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", code)) - {"-c"} <= options


def test_the_two_commands_are_there_and_ci_runs_them():
    readme, script = texts()["README.md"], texts()[".ci/run"].replace(" --quiet", "")
    assert "    pip install -c .ci/constraints.txt . && diffcheck run cases/\n" in readme
    assert "    pip install -c .ci/constraints.txt '.[test]' && pytest\n" in readme
    for command in ("pip install -c .ci/constraints.txt '.[test]'", "pytest", "diffcheck run cases/"):
        assert re.search(rf"^ *{re.escape(command)}$", script, re.MULTILINE), command


# ---------------------------------------------------------------------------------------------------------------------
# Versions and settings
# ---------------------------------------------------------------------------------------------------------------------


def test_the_version_stands_in_one_place():
    project = pyproject()
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    source = texts()[project["tool"]["hatch"]["version"]["path"]]
    assert re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE) == [diffcheck.__version__]
    assert [f for f, text in texts().items() if re.search(r"^__version__ =", text, re.MULTILINE)] == [
        "diffcheck/versions.py"
    ]


def test_what_is_needed_is_pinned():
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0].lower()) for line in pins()}
    project = pyproject()["project"]
    needed = [
        *project["dependencies"],
        *project["optional-dependencies"]["test"],
        *pyproject()["build-system"]["requires"],
    ]
    assert {re.split(r"[<>=!~ ;\[]", need)[0].lower() for need in needed} <= pinned


def test_pins_are_exact_and_hold_on_any_machine():
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins())
    assert len(pins()) == len({line.partition("==")[0].lower() for line in pins()})


def pins() -> list[str]:
    return [line for line in texts()[".ci/constraints.txt"].splitlines() if line and not line.startswith("#")]


def test_pytest_is_as_strict_as_it_should_be():
    options = pyproject()["tool"]["pytest"]["ini_options"]
    assert options["filterwarnings"][0] == "error"
    assert options["xfail_strict"] is True
    assert {"--strict-markers", "--strict-config", "--import-mode=importlib"} <= set(options["addopts"])


def test_every_exception_from_a_rule_gives_its_reason():
    assert not list(without_reason())


def without_reason() -> Iterator[str]:
    for file, text in texts().items():
        for number, line in enumerate(text.splitlines(), start=1):
            exception = re.search(r"# noqa(?!: [A-Z0-9, ]+ - \S)", line) if file.endswith(".py") else None
            if exception and file != "tests/test_house.py":
                yield f"{file}:{number}: {line.strip()}"
    ruff = texts()["pyproject.toml"].partition("\nignore = [")[2]
    for line in ruff.splitlines():
        if re.fullmatch(r'\s*"[A-Z]+\d*",?\s*', line):
            yield f"pyproject.toml: {line.strip()}"
