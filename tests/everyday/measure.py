"""What a check says of one function of the corpus, beside what it should."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from diffcheck.checking.check import check
from diffcheck.settings import Settings
from diffcheck.verdict import PASSING, Result, Verdict, left_out
from tests.everyday.corpus import ENTRIES, Entry
from tests.everyday.gaps import GAPS

NO_FIELD: Final = {"corpus", "measure", "run", "gaps"}


@dataclass(frozen=True)
class Outcome:
    """What was said of one function with one seed."""

    name: str
    rows: tuple[Result, ...]
    complaints: tuple[str, ...]
    """A line for each row that is not as it should be."""
    seconds: float


@cache
def entries() -> tuple[Entry, ...]:
    """The corpus, by field."""
    for file in sorted(Path(__file__).parent.glob("*.py")):
        if file.stem not in NO_FIELD and not file.stem.startswith("test_"):
            import_module(f"tests.everyday.{file.stem}")
    return tuple(ENTRIES)


def judged(name: str, seed: int, examples: int, **options: Any) -> Outcome:
    """Checks the function of that name, at default settings but for the number of inputs."""
    (entry,) = (entry for entry in entries() if entry.name == name)
    started = time.process_time()
    settings = Settings(seed=seed, examples=examples, database=False, **options)
    rows = tuple(check(entry.case, settings, case_id=name, location=name))
    return Outcome(name, rows, tuple(complaints(entry, rows)), time.process_time() - started)


def complaints(entry: Entry, rows: Sequence[Result]) -> list[str]:
    """A line for each row that is not as it should be."""
    if entry.verdict:
        return _not_found(rows, entry.verdict)
    bad = [r for r in rows if r.verdict not in PASSING and not left_out(r) and not is_gap(entry.name, r)]
    judged_at_all = any(r.verdict in PASSING or is_gap(entry.name, r) for r in rows)
    return list(map(_line, bad)) or ([] if judged_at_all else ["nothing was judged"])


def is_gap(name: str, row: Result) -> bool:
    """Whether it is known that the row does not pass."""
    gap = GAPS.get(name)
    return gap is not None and row.mode in gap.modes and str(row.verdict) in gap.verdicts


def _not_found(rows: Sequence[Result], expected: Verdict) -> list[str]:
    """In every dtype something is wrong; `gradient=` is asked in one only."""
    if any(r.verdict is expected and r.mode == "gradient" for r in rows):
        return []
    found = {r.dtype for r in rows if r.verdict is expected}
    return [f"not found: {_line(r)}" for r in rows if r.dtype not in found]


def _line(r: Result) -> str:
    said = f"{r.mode} {r.dtype} {r.verdict}: {r.reason}"
    if r.finding is not None:
        f = r.finding
        at = ", ".join(f"{v.name}={list(v.entries)}" for v in f.inputs)
        why = f.diagnosis.name if f.diagnosis else ""
        said += f" | {f.headline} [{why}] at {at}: PyTorch {f.autograd!r}, certified {f.certified}"
    return said[:700]
