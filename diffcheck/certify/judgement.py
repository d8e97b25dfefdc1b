"""What can be said of a computed number, and how much of its error counts as rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from flint import arb

from diffcheck.verdict import Verdict


class Outcome(Enum):
    """What became of one computed number."""

    WITHIN = Verdict.AGREES
    """Within the bound."""
    INACCURATE = Verdict.INACCURATE
    WRONG = Verdict.WRONG
    UNDEFINED = Verdict.UNDEFINED
    """There is no derivative at this input."""
    UNDECIDED = Verdict.UNDECIDED
    """Precision ran out."""

    @property
    def verdict(self) -> Verdict:
        """On a case of which nothing worse is known."""
        return self.value


@dataclass(frozen=True, slots=True)
class Assessment:
    """One number that is not plainly within the quick bound."""

    outcome: Outcome
    certified: arb
    error: float
    """An upper bound of the distance between the computed and the true value."""
    bound: float
    executed_bound: float = math.nan
    """The radius of the executed formula's own ball."""
    formula_differs: bool = False
    """The executed formula has another value than the reference here, whatever the rounding."""
    at_kink: bool = False


@dataclass(slots=True)
class Judgement:
    """All numbers of one run, judged."""

    max_ulps: float = 0.0
    max_bounds: float = 0.0
    kink: bool = False
    undefined: set[int] = field(default_factory=set)
    """The positions of numbers that had no derivative to be compared with."""
    out_of_range: set[int] = field(default_factory=set)
    """Those of derivatives of a value that is infinite, undefined, or beyond the format."""
    blind: set[int] = field(default_factory=set)
    """Those of numbers within a bound which is wider than the number: nothing was compared."""
    failures: dict[int, Assessment] = field(default_factory=dict)
    """By position: what is inaccurate, wrong or undecided."""

    @property
    def left_out(self) -> set[int]:
        """The positions of numbers that there was nothing to compare with."""
        return self.undefined | self.out_of_range

    @property
    def worst(self) -> Outcome | None:
        """What is worst of its failures; None if there are none."""
        outcomes = (failure.outcome for failure in self.failures.values())
        return max(outcomes, key=lambda outcome: outcome.verdict.severity, default=None)

    @property
    def worst_number(self) -> int:
        """The position of the number that a finding is about: the first of the worst."""
        return min(position for position, failure in self.failures.items() if failure.outcome is self.worst)
