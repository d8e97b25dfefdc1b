"""The oldest versions that pass, and the table of docs/versions.md: by hand, for it takes gigabytes and an hour.

    python tests/versions/run.py sympy numpy …                    # the oldest version of each that passes
    python tests/versions/run.py torch                            # each minor version of PyTorch
    python tests/versions/run.py together                         # the lower bounds of pyproject.toml, all at once
    python tests/versions/run.py --python /usr/bin/python3.13     # everything newest on another Python
    python tests/versions/run.py --table docs/versions.md         # writes the table of what is recorded

The interpreter is that of an environment with `.[test]`: it stays as it is, a candidate goes into a folder before it on
the path. Passing is `diffcheck run cases/ --examples 20` and the core of the suite (packages.py). Minor versions are
bisected by a glance, and what that finds is looked at whole: its first release, then its last one, then the next minor
version, until one passes. The record is tests/versions/results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.versions.packages import FELT_BY, PACKAGES, TORCH, Package
from tests.versions.table import write_table

ROOT: Final = Path(__file__).parents[2]
RECORD: Final = Path(__file__).parent / "results.json"
_OUR_OPTIONS: Final = (
    "-o",
    "addopts=",
    "-o",
    "filterwarnings=default",
    "-p",
    "pytester",
    "--import-mode=importlib",
    "-p",
    "no:cacheprovider",
    "-q",
    "-x",
)
"""Without what belongs to pytest-xdist; old packages may warn of each other."""
_GLANCE: Final = ["diffcheck", "run", str(ROOT / "cases" / "autograd.py"), "--seed", "1", "--examples", "5", "-j", "1"]
"""What most versions that do not pass fail at."""
_WHAT_IT_IS: Final = """
import json, platform
from importlib.metadata import version
print(json.dumps([platform.python_version(), version("torch")]))
"""


def key(version: str) -> tuple[int, ...]:
    """How versions are ordered: only final releases are tried."""
    return tuple(map(int, version.split(".")))


def releases(package: Package, python: str) -> dict[tuple[int, ...], list[str]]:
    """The releases that there is a wheel of, oldest first, by step."""
    command = [python, "-m", "pip", "index", "versions", "--only-binary=:all:", package.name]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    listed = re.search(r"Available versions: (.*)", said)
    assert listed is not None, said
    found: dict[tuple[int, ...], list[str]] = {}
    names = {name.strip().partition("+")[0] for name in listed[1].split(",")}
    for name in sorted((n for n in names if re.fullmatch(r"[\d.]+", n)), key=key):
        if key(name) >= key(package.since):
            found.setdefault(key(name)[: package.parts], []).append(name)
    return found


@contextmanager
def overlay(requirements: Sequence[str], work: Path, python: str) -> Iterator[tuple[Path | None, str]]:
    """A folder with packages, put before the others on the path; or why it can't be made."""
    folder = Path(tempfile.mkdtemp(dir=work))
    command = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-cache-dir",
        "--only-binary=:all:",
        "--target",
        str(folder),
    ]
    try:
        made = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
        errors = [line for line in made.stderr.splitlines() if line.startswith("ERROR")]
        yield (None, errors[-1] if errors else made.stderr[-200:]) if made.returncode else (folder, "")
    finally:
        shutil.rmtree(folder)


def complaint(folder: Path | None, python: str, *commands: Sequence[str]) -> str:
    """Runs commands, and says in a line what fails; nothing if all pass. A busy machine makes nothing undecided."""
    path = os.pathsep.join(map(str, [folder, ROOT] if folder else [ROOT]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    with tempfile.TemporaryDirectory() as patient:
        Path(patient, "pyproject.toml").write_text("[tool.diffcheck]\nseconds = 3600\n")
        for command in commands:
            ended = subprocess.run(
                [python, "-m", *command],
                cwd=patient if command[0] == "diffcheck" else ROOT,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if ended.returncode:
                return f"{command[0]}: {_telling(ended.stdout + ended.stderr)}"
    return ""


def whole(tests: Sequence[str]) -> list[list[str]]:
    """What passing is."""
    return [
        ["diffcheck", "run", str(ROOT / "cases"), "--seed", "1", "--examples", "20", "-j", "1"],
        ["pytest", *_OUR_OPTIONS, *tests],
    ]


def _telling(output: str) -> str:
    """The line of an output that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for pattern in (r"\b\w*(Error|Warning|Exception)\b: .*", r"^E\s+.*", r"^(FAILED|ERROR|error|wrong)\b.*"):
        for line in lines:
            if told := re.search(pattern, line):
                return re.sub(r"^E\s+", "", told[0])[:160]
    return lines[-1][:160] if lines else "no output"


def tried(version: str, package: Package, work: Path, python: str, *commands: Sequence[str]) -> str:
    """Why a version of a package does not pass, or nothing if it does."""
    started = time.monotonic()
    with overlay([f"{package.name}=={version}", *package.beside], work, python) as (folder, why):
        why = complaint(folder, python, *commands) if folder else why
    print(f"{package.name} {version}: {why or 'passes'} ({time.monotonic() - started:.0f} s)", flush=True)
    return why


def oldest(package: Package, work: Path, python: str) -> dict[str, Any]:
    """Bisects over the minor versions by a glance, and looks whole at what that finds: upwards, until one passes."""
    steps = list(releases(package, python).values())
    outcomes: dict[str, str] = {}
    glance = ["pytest", *_OUR_OPTIONS, package.tests[0]] if package.name == "pytest" else _GLANCE

    def fails(version: str, *commands: Sequence[str]) -> bool:
        outcomes[version] = tried(version, package, work, python, *commands)
        return bool(outcomes[version])

    low, high = 0, len(steps) - 1
    while low < high:
        middle = (low + high) // 2
        if fails(steps[middle][-1], glance):
            low = middle + 1
        else:
            high = middle
    candidates = [steps[high][0], *(step[-1] for step in steps[high:])]
    found = next((version for version in candidates if not fails(version, *whole(package.tests))), None)
    failing = {version: why for version, why in outcomes.items() if why}
    return {
        "oldest": found,
        "newest": version_of(package.name),
        "fail": dict(sorted(failing.items(), key=lambda item: key(item[0]))),
    }


def each_torch(versions: Sequence[str], work: Path, python: str) -> dict[str, Any]:
    """The last release of every minor version of PyTorch, or those that were asked for."""
    wanted = versions or [found[-1] for found in releases(TORCH, python).values()]
    return {"tried": {version: tried(version, TORCH, work, python, *whole(list(FELT_BY))) for version in wanted}}


def lower_bounds() -> list[str]:
    """The oldest that pyproject.toml allows, as requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pytest = [r for r in project["optional-dependencies"]["test"] if r.startswith("pytest>")]
    return [requirement.replace(">=", "==") for requirement in [*project["dependencies"], *pytest]]


def together(work: Path, python: str) -> dict[str, Any]:
    """All lower bounds at once."""
    beside = [name for package in PACKAGES for name in package.beside]
    with overlay([*lower_bounds(), *beside], work, python) as (folder, why):
        why = complaint(folder, python, *whole(list(FELT_BY))) if folder else why
    print(f"{' '.join(lower_bounds())}: {why or 'pass'}")
    return {"requirements": lower_bounds(), "why": why}


def another_python(python: str, work: Path) -> dict[str, Any]:
    """Everything as new as it comes, on another Python."""
    place = Path(tempfile.mkdtemp(dir=work))
    try:
        subprocess.run([python, "-m", "venv", str(place)], check=True)
        inside = str(place / "bin" / "python")
        install = [inside, "-m", "pip", "install", "--quiet", "--no-cache-dir", "-e", f"{ROOT}[test]"]
        made = subprocess.run(install, capture_output=True, text=True, check=False)
        why = made.stderr[-200:] if made.returncode else complaint(None, inside, *whole(list(FELT_BY)))
        said = subprocess.run([inside, "-c", _WHAT_IT_IS], capture_output=True, text=True, check=False).stdout
    finally:
        shutil.rmtree(place)
    version, torch = json.loads(said) if said else (python, "none")
    print(f"Python {version}, torch {torch}: {why or 'passes'}")
    return {version: {"torch": torch, "why": why}}


def main() -> None:
    """Tries what the command line names, and keeps what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {package.name: package for package in PACKAGES}
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--versions", nargs="*", default=[], help="of PyTorch; by default the last of each minor one")
    parser.add_argument("--python", action="append", default=[], help="an interpreter to make an environment with")
    parser.add_argument("--table", type=Path, help="the page whose table is written")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()), help="a folder with room for gigabytes"
    )
    asked = parser.parse_args()
    for name in asked.names:
        if name == "torch":
            found = each_torch(asked.versions, asked.work, sys.executable)
            kept = json.loads(RECORD.read_text()).get(name, {"tried": {}}) if RECORD.exists() else {"tried": {}}
            found = {"tried": dict(sorted({**kept["tried"], **found["tried"]}.items(), key=lambda kv: key(kv[0])))}
        elif name == "together":
            found = together(asked.work, sys.executable)
        else:
            found = oldest(known[name], asked.work, sys.executable)
        record({name: found})
    for python in asked.python:
        before = json.loads(RECORD.read_text()).get("python", {}) if RECORD.exists() else {}
        record({"python": {**before, **another_python(python, asked.work)}})
    if asked.table:
        write_table(asked.table, json.loads(RECORD.read_text()))


def record(found: dict[str, Any]) -> None:
    """Keeps what was found beside what was."""
    before = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    RECORD.write_text(json.dumps({**before, **found}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
