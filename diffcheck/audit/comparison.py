"""An audit beside an earlier one: which verdicts are others now, and what that means to who upgrades PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from diffcheck.audit.database import matches
from diffcheck.audit.earlier import Earlier
from diffcheck.verdict import PASSING, Result, Verdict

_FAILING: Final = frozenset({Verdict.WRONG, Verdict.INACCURATE, Verdict.ERROR})


class Change(StrEnum):
    """What became of a verdict."""

    WRONG = "wrong"
    """It is `wrong`, and was not; an entry that the earlier audit does not have counts as well."""
    WORSE = "worse"
    """It passed and does not, or it is `inaccurate` or an `error` and was neither, nor `wrong`."""
    MENDED = "mended"
    """It was `wrong`, `inaccurate` or an `error`, and passes."""
    BETTER = "better"
    """It was not judged, and passes."""
    OTHER = "other"
    """Another verdict, and neither of the above: `proved` is `agrees`, `wrong` is `inaccurate`."""


@dataclass(frozen=True, slots=True)
class Changed:
    """One entry in one mode, then and now."""

    earlier: Result | None
    """None if the earlier audit does not have it."""
    now: Result


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between two audits. Every result of this one is counted once."""

    earlier: Earlier
    torch: str
    """The version of PyTorch that this audit judged."""
    diffcheck: str
    changes: dict[Change, tuple[Changed, ...]]
    same: tuple[Result, ...]
    """The results whose verdicts did not change."""
    appeared: tuple[Result, ...]
    """Those that the earlier audit does not have, and that do not fail."""
    disappeared: tuple[Result, ...]
    """Those of the earlier audit that this one does not have."""
    not_asked: tuple[Result, ...]
    """Those of this audit that the earlier one was not asked for: they are not compared."""

    @property
    def regressed(self) -> bool:
        """Whether something is wrong or worse that was not."""
        return bool(self.changes[Change.WRONG] or self.changes[Change.WORSE])

    @property
    def still_wrong(self) -> tuple[Result, ...]:
        """What was wrong and is."""
        return tuple(result for result in self.same if result.verdict is Verdict.WRONG)


def compare(
    earlier: Earlier,
    results: Sequence[Result],
    *,
    torch: str,
    diffcheck: str,
    patterns: Sequence[str] = (),
    interrupted: bool = False,
) -> Comparison:
    """Puts the results of an audit beside those of an earlier one.

    Args:
        earlier: It judged the same derivatives: `refuse_other`.
        results: Of this audit.
        torch: The version of PyTorch.
        diffcheck: The version of diffcheck.
        patterns: The entries that this audit was asked for; all if there is none.
        interrupted: Whether it ended before it had judged them all: then nothing has disappeared.
    """
    was = {(result.id, result.mode): result for result in earlier.results}
    changes: dict[Change, list[Changed]] = {change: [] for change in Change}
    same, appeared, not_asked = [], [], []
    for result in results:
        before = was.get((result.id, result.mode))
        if before is None and not earlier.asked_for(result.id):
            not_asked.append(result)
        elif before is None and result.verdict not in _FAILING:
            appeared.append(result)
        elif before is not None and before.verdict is result.verdict:
            same.append(result)
        else:
            changes[_change(before, result)].append(Changed(before, result))
    modes = {result.mode for result in results}
    known = {(result.id, result.mode) for result in results}
    gone = [key for key in was if key[1] in modes and key not in known and matches(key[0], patterns)]
    return Comparison(
        earlier,
        torch,
        diffcheck,
        {change: tuple(found) for change, found in changes.items()},
        tuple(same),
        tuple(appeared),
        () if interrupted else tuple(was[key] for key in gone),
        tuple(not_asked),
    )


def _change(before: Result | None, now: Result) -> Change:
    failed = before is not None and before.verdict in _FAILING
    passed = before is not None and before.verdict in PASSING
    if now.verdict is Verdict.WRONG:
        return Change.WRONG
    if (passed and now.verdict not in PASSING) or (now.verdict in _FAILING and not failed):
        return Change.WORSE
    if now.verdict in PASSING and not passed:
        return Change.MENDED if failed else Change.BETTER
    return Change.OTHER
