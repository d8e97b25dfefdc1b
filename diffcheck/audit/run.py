"""The run of an audit: entries → results, kept in a journal as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, Final, TypeAlias

from diffcheck.audit import database
from diffcheck.audit import judge as judging
from diffcheck.audit.database import Entry
from diffcheck.audit.journal import Journal
from diffcheck.audit.judge import Plan
from diffcheck.audit.pool import Done, Limits, Processes, each
from diffcheck.compare.evaluate import DTYPES
from diffcheck.modes import CPU
from diffcheck.processes import start_method
from diffcheck.verdict import Result
from diffcheck.versions import __version__

_MEMORY: Final = 3 * 2**30
"""What one entry may take, beyond what is shared with all."""


Work: TypeAlias = Callable[[Entry, Plan], Iterator[Result]]
"""From an entry to its results, one after the other."""


@dataclass(frozen=True, slots=True)
class Progress:
    """An entry is finished."""

    name: str
    results: tuple[Result, ...]


def audit(
    entries: Sequence[Entry],
    plan: Plan,
    *,
    jobs: int = 1,
    journal: Path | None = None,
    work: Work = judging.judge,
    limits: Limits | None = None,
) -> Iterator[Progress]:
    """Judges every entry that the journal does not know, and gives all as they are known.

    Args:
        entries: Of the database.
        plan: In which modes, and on how many samples.
        jobs: Entries at once.
        journal: Where results are kept, and looked up first.
        work: What is done with an entry, in a process of its own; on another device than the CPU, a function that can
            be imported.
        limits: Of that process; by default four times what the samples may take.

    Raises:
        LoadError: The journal stands for another audit.
    """
    kept = Journal(journal, asked(plan)) if journal is not None else None
    known = kept.read() if kept is not None else {}
    for entry in entries:
        if entry.name in known:
            yield Progress(entry.name, known[entry.name])
    if kept is not None:
        kept.begin()
    on_cpu = plan.device == CPU
    limits = limits or Limits(20 + 2 * plan.seconds * plan.samples * len(plan.modes), _MEMORY if on_cpu else None)
    open_positions = [i for i, entry in enumerate(entries) if entry.name not in known]
    if on_cpu and start_method() == "fork":
        warm_up()
        finished = each(open_positions, lambda i: work(entries[i], plan), limits, jobs)
    else:
        by_name = _ByName(tuple(entry.name for entry in entries), plan, work)
        finished = each(open_positions, by_name, limits, jobs, Processes("spawn", warm_up))
    for done in finished:
        results = _completed(entries[done.position], plan, done)
        if kept is not None:
            kept.append(entries[done.position].name, results)
        yield Progress(entries[done.position].name, results)


@dataclass(frozen=True, slots=True)
class _ByName:
    """The work in a process that has nothing in memory."""

    names: tuple[str, ...]
    plan: Plan
    work: Work

    def __call__(self, position: int) -> Iterator[Result]:
        known = _by_name(self.plan.dtype, self.plan.device)
        return self.work(known[self.names[position]], self.plan)


@cache
def _by_name(dtype: str, device: str) -> dict[str, Entry]:
    return {entry.name: entry for entry in database.entries((), DTYPES[dtype], device)}


def _completed(entry: Entry, plan: Plan, done: Done) -> tuple[Result, ...]:
    """The results of an entry, with one for each mode that its process did not get to."""
    if done.fault is None:
        return done.results
    verdict, reason = done.fault
    missing = plan.modes[len(done.results) :]
    return (
        *done.results,
        *(Result(entry.name, mode, plan.dtype, verdict, reason=reason, device=plan.device) for mode in missing),
    )


def asked(plan: Plan) -> dict[str, Any]:
    """What results must have in common to stand in one journal; which entries were asked for is no part of it."""
    return {
        "diffcheck": __version__,
        "torch": version_of("torch"),
        "modes": list(plan.modes),
        "dtype": plan.dtype,
        "device": plan.device,
        "samples": plan.samples,
    }


def warm_up() -> None:
    """Imports what every process would import by itself, and starts no thread: processes are forked from here."""
    import gc

    import torch

    from diffcheck.algebra.constants import known_constants
    from diffcheck.derive.symbolic import derive_all
    from diffcheck.differentiate.autodiff import import_forward_mode
    from diffcheck.rules import table

    table()
    derive_all()
    known_constants()
    torch.set_num_threads(1)
    import_forward_mode()
    gc.freeze()  # a tenth of an entry's time went into looking through modules for garbage
    gc.set_threshold(50_000, 20, 100)
