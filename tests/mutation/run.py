"""Do the tests of the soundness core notice a change? Every mutant of `prove`, `certify` and `compare` is run by them.

    python tests/mutation/run.py --output docs/mutation.md [--sample N] [--seconds S] [diffcheck/prove/identity.py …]

A process that has imported PyTorch, SymPy and pytest is forked for each mutant; the child imports diffcheck with the
one module changed, and runs the tests of that module until one fails. Results are kept in `.mutation.jsonl` as they
come, so that the command goes on where it was ended; a module or a test that has changed since is run again.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.mutation.equivalent import EQUIVALENT  # noqa: E402 - after the path
from tests.mutation.mutants import Mutant, mutants  # noqa: E402 - after the path

CORE: Final = ("prove", "certify", "compare")
TESTS: Final = {
    "prove": ("tests/prove",),
    "certify": ("tests/certify", "tests/rules/test_special_points.py"),
    "compare": ("tests/compare", "tests/checking/test_check.py"),
}
"""Where a package's mutants should be noticed; first of all in the file of the module's own name."""
KEPT: Final = ROOT / ".mutation.jsonl"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one mutant."""

    key: str
    file: str
    line: int
    function: str
    change: str
    killed: bool
    how: str
    """The test's failure, a time-out, or that it survived."""
    seconds: float


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from another text."""

    def __init__(self, module: str, file: Path, source: str) -> None:
        self._module, self._file, self._source = module, file, source

    def find_spec(self, name: str, *_: Any) -> Any:
        return importlib.util.spec_from_loader(name, self, origin=str(self._file)) if name == self._module else None

    def exec_module(self, module: Any) -> None:
        module.__file__ = str(self._file)
        exec(compile(self._source, str(self._file), "exec"), module.__dict__)  # noqa: S102 - this is what it is for


def tests_of(file: Path) -> list[str]:
    """The test files, those of the module's own name first."""
    package = file.relative_to(ROOT / "diffcheck").parts[0]
    found = [path for place in TESTS[package] for path in _files(ROOT / place)]
    return [str(path) for path in sorted(found, key=lambda path: file.stem not in path.stem)]


def _files(place: Path) -> list[Path]:
    return sorted(place.glob("test_*.py")) if place.is_dir() else [place]


def judged(file: Path, mutant: Mutant, seconds: float) -> Outcome:
    """Runs the tests on a mutant, in a child."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _run(file, mutant.source)
    status = None
    while status is None and time.monotonic() - started < seconds:
        done, code = os.waitpid(child, os.WNOHANG)
        status = code if done else None
        time.sleep(0.02)
    if status is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    how = "time-out" if status is None else "survived" if status == 0 else "a test failed"
    name = str(file.relative_to(ROOT))
    taken = time.monotonic() - started
    return Outcome(_key(file, mutant), name, mutant.line, mutant.function, mutant.change, status != 0, how, taken)


def _run(file: Path, source: str) -> None:
    os.setpgrp()
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    sys.meta_path.insert(0, _Changed(module, file, source))
    import pytest

    options = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header"]
    try:
        code = int(pytest.main([*options, *tests_of(file)]))
    except BaseException:  # noqa: BLE001 - whatever a mutant does, it was noticed
        code = 1
    os._exit(min(code, 1))


def _key(file: Path, mutant: Mutant) -> str:
    text = "\0".join([str(file), mutant.source, *(Path(t).read_text(encoding="utf-8") for t in tests_of(file))])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def known() -> dict[str, Outcome]:
    """The outcomes of earlier runs."""
    if not KEPT.exists():
        return {}
    rows = [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    return {row["key"]: Outcome(**row) for row in rows}


def all_mutants(files: Sequence[Path]) -> Iterator[tuple[Path, Mutant]]:
    """The mutants of the files."""
    for file in files:
        for mutant in mutants(file.read_text(encoding="utf-8")):
            yield file, mutant


def page(found: Sequence[Outcome], command: str, of: int) -> str:
    """The report in Markdown."""
    survivors = [o for o in found if not o.killed and _reason(o) is None]
    equivalent = [o for o in found if not o.killed and _reason(o) is not None]
    counted = len(found) - len(equivalent)
    share = 100 * (counted - len(survivors)) / max(counted, 1)
    lines = [
        "# Mutation testing of the soundness core",
        "",
        f"Of {of:,} mutants of {', '.join(CORE)}, {len(found):,} were run; {share:.1f}% of those that are not",
        f"equivalent were noticed by a test ({len(survivors)} survived). Made by",
        "",
        f"    {command}",
        "",
        "| module | run | noticed | survived | equivalent |",
        "|---|---|---|---|---|",
    ]
    for file in sorted({o.file for o in found}):
        own = [o for o in found if o.file == file]
        left = sum(o in survivors for o in own)
        same = sum(o in equivalent for o in own)
        lines.append(f"| {file} | {len(own)} | {len(own) - left - same} | {left} | {same} |")
    if survivors:
        lines += ["", "## Survivors", "", "| where | in | change |", "|---|---|---|"]
        lines += [f"| {o.file}:{o.line} | {o.function} | {o.change} |" for o in survivors]
    if equivalent:
        lines += ["", "## Equivalent", "", "| where | in | change | why nothing can notice it |", "|---|---|---|---|"]
        lines += [f"| {o.file}:{o.line} | {o.function} | {o.change} | {_reason(o)} |" for o in equivalent]
    return "\n".join(lines) + "\n"


def _reason(outcome: Outcome) -> str | None:
    return EQUIVALENT.get((outcome.file.removeprefix("diffcheck/"), outcome.function, outcome.change))


def main() -> None:
    """Runs what is not known yet, and writes the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--sample", type=int, help="so many mutants, drawn from a seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=120.0, help="after which a mutant counts as noticed")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    os.chdir(ROOT)
    files = [f.resolve() for f in asked.files] or [
        f for package in CORE for f in sorted((ROOT / "diffcheck" / package).rglob("*.py")) if f.name != "__init__.py"
    ]
    chosen = everything = list(all_mutants(files))
    if asked.sample:
        chosen = random.Random(asked.seed).sample(everything, min(asked.sample, len(everything)))
    import flint  # noqa: F401 - imported once, for all children
    import hypothesis  # noqa: F401 - see above
    import pytest  # noqa: F401 - see above
    import sympy  # noqa: F401 - see above
    import torch

    torch.set_num_threads(1)
    before, found = known(), []
    for number, (file, mutant) in enumerate(chosen, start=1):
        outcome = before.get(_key(file, mutant)) or judged(file, mutant, asked.seconds)
        found.append(outcome)
        with KEPT.open("a", encoding="utf-8") as kept:
            kept.write(json.dumps(asdict(outcome)) + "\n")
        place = f"{outcome.file}:{outcome.line} {outcome.change}"
        print(f"{number}/{len(chosen)} {outcome.how} in {outcome.seconds:.1f} s: {place}", flush=True)
    sampled = f" --sample {asked.sample}" if asked.sample else ""
    report = page(found, f"python tests/mutation/run.py{sampled} --output docs/mutation.md", len(everything))
    if asked.output:
        asked.output.write_text(report, encoding="utf-8")
    else:
        print(report)


if __name__ == "__main__":
    main()
