"""Times pytest in a project that has no cases, with the plugin installed and without it.

Run as `python tests/benchmarks/startup.py [--repeats 15]`. The runs take turns, and processor time is counted: what
else the machine does changes it little.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = ("-p", "no:diffcheck")
PLAIN = [word for name in ("hypothesispytest", "jaxtyping", "syrupy", "xdist") for word in ("-p", f"no:{name}")]
"""The other plugins of our environment take longer than pytest itself."""
PROJECTS = {"one test": (1, 1), "200 files of 20 tests": (200, 20)}


def installed(folder: Path) -> dict[str, str]:
    """An environment in which the plugin of this tree is known, however pytest was installed."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]["diffcheck"]
    known = folder / "diffcheck_of_this_tree-0.dist-info"
    known.mkdir(parents=True)
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: diffcheck-of-this-tree\nVersion: 0\n")
    (known / "entry_points.txt").write_text(f"[pytest11]\ndiffcheck = {entry}\n")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def project(folder: Path, files: int, tests: int) -> Path:
    """A project without cases, which imports nothing; it has a folder called `cases` as many have."""
    (folder / "cases").mkdir(parents=True)
    (folder / "cases" / "models.py").write_text("X = 1\n")
    (folder / "pyproject.toml").write_text('[project]\nname = "somebody-elses"\n')
    for number in range(files):
        text = "".join(f"def test_{i}():\n    pass\n\n" for i in range(tests))
        (folder / f"test_{number}.py").write_text(text)
    return folder


def seconds(folder: Path, environment: dict[str, str], *options: str) -> float:
    """The processor time of one run, as a whole process."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *PLAIN, *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def report(repeats: int) -> Iterator[str]:
    """A line per project: medians of both, and the median of what a pair differs by."""
    yield f"| project without cases, medians of {repeats} | without the plugin, ms | with it, ms | difference, ms |"
    yield "|---|---|---|---|"
    with tempfile.TemporaryDirectory() as place:
        environment = installed(Path(place, "site"))
        for name, (files, tests) in PROJECTS.items():
            folder = project(Path(place, name.replace(" ", "_")), files, tests)
            seconds(folder, environment)  # bytecode, and the files into memory
            pairs = [(seconds(folder, environment, *WITHOUT), seconds(folder, environment)) for _ in range(repeats)]
            without, with_it = (statistics.median(times) * 1000 for times in zip(*pairs, strict=True))
            difference = statistics.median(b - a for a, b in pairs) * 1000
            yield f"| {name} | {without:.0f} | {with_it:.0f} | {difference:+.0f} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    for line in report(parser.parse_args().repeats):
        print(line, flush=True)


if __name__ == "__main__":
    main()
