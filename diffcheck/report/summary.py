"""A finished run, and what follows from its results."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from diffcheck.verdict import PASSING, Result, Verdict, left_out

if TYPE_CHECKING:
    from collections.abc import Iterable

INTERNAL: Final = "internal error of diffcheck"
"""How the reason of a result begins when the fault is ours."""


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that a report is made of."""

    results: tuple[Result, ...]
    seed: int
    seconds: float
    strict: bool = False
    """Whether only `proved` passes."""
    stopped: str = ""
    """Why it ended early: `interrupted`, `first failure`; empty if it did not."""
    not_run: tuple[str, ...] = ()
    """The ids of the cases without a result: it had stopped, or they have nothing to check in the modes asked for."""
    deselected: int = 0
    """How many cases `-k` left out."""


def passes(result: Result, *, strict: bool) -> bool:
    """Tell whether a result counts as passed."""
    return result.verdict is Verdict.PROVED if strict else result.verdict in PASSING


def fails(result: Result, *, strict: bool) -> bool:
    """Tell whether a result counts as failed; what is not available does neither, unless it was asked for by name."""
    return not passes(result, strict=strict) and not left_out(result)


def is_internal(result: Result) -> bool:
    """Tell whether a result stands for a fault of diffcheck itself."""
    return result.verdict is Verdict.ERROR and result.reason.startswith(INTERNAL)


def counts(results: Iterable[Result]) -> dict[str, int]:
    """Count the results of each verdict that occurs, the passing verdicts last."""
    tally = Counter(result.verdict for result in results)
    order = [verdict for verdict in Verdict if verdict not in PASSING] + [Verdict.PROVED, Verdict.AGREES]
    return {verdict.value: tally[verdict] for verdict in order if tally[verdict]}


class Exit(IntEnum):
    """What the exit codes say; they are pytest's."""

    PASSED = 0
    FAILED = 1
    INTERRUPTED = 2
    INTERNAL = 3
    USAGE = 4
    NOTHING = 5


def exit_code(run: Run) -> Exit:
    """Say in one number how a run ended."""
    if run.stopped == "interrupted":
        return Exit.INTERRUPTED
    if any(map(is_internal, run.results)):
        return Exit.INTERNAL
    if any(fails(result, strict=run.strict) for result in run.results):
        return Exit.FAILED
    return Exit.PASSED if any(passes(result, strict=run.strict) for result in run.results) else Exit.NOTHING
