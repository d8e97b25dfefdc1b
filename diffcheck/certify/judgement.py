"""What can be said of a computed number, and how much of its error counts as rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from flint import arb

RADII: Final = 4.0
"""How many radii of the quick bound, or of the executed formula's ball, count as rounding. Kernels order their
operations differently from the reference and fuse some; in `docs/how-it-works.md` stands what was measured."""


class Outcome(Enum):
    """What became of one computed number."""

    WITHIN = auto()
    """Within the bound."""
    INACCURATE = auto()
    WRONG = auto()
    UNDEFINED = auto()
    """There is no derivative at this input."""
    UNDECIDED = auto()
    """Precision ran out."""


@dataclass(frozen=True, slots=True)
class Verdict:
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
    undefined: int = 0
    """How many numbers had no derivative to be compared with."""
    failures: dict[int, Verdict] = field(default_factory=dict)
    """By position: what is inaccurate, wrong or undecided."""
