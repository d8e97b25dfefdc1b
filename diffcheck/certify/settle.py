"""What settles a number that the quick bound does not: digits of the reference, the executed rounding, and kinks.

The executed rounding is the traced formula on balls of the dtype's precision, underflow and overflow included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Final

import numpy as np
from flint import arb

from diffcheck.certify.balls import ONE, UNIT, ZERO, Selections
from diffcheck.certify.enclosure import EXECUTED_BITS, Executed, Reference
from diffcheck.certify.formats import Format
from diffcheck.certify.judgement import RADII, Assessment, Judgement, Outcome

LOST_BITS: Final = 10
"""An error within the executed rounding is `inaccurate` once it exceeds the quick bound by a factor of 2**LOST_BITS; in
a format of fewer than 20 bits, by one that takes half of them."""
_FIRST_BITS: Final = 64
"""The precision at which the reference is evaluated first: 11 bits more than float64 has, and one machine word."""
_FAR_NARROWER: Final = 2**20
"""A decided enclosure is so many times narrower than the bound, or than an ulp."""
_MOST_BITS: Final = 4096
_MOST_FORCED: Final = 6


@dataclass(frozen=True, slots=True)
class Formulas:
    """A trace's two formulas, in one floating-point format."""

    reference: Reference
    executed: Executed
    fmt: Format
    higher_order: bool
    """See `Certifier`."""
    inputs: int
    """So many variables come before the cotangents or tangents."""

    @property
    def most_cancelled(self) -> float:
        """A sum that cancels more digits is counted in units of its bound only: its own ulps say nothing."""
        return 2.0 ** (-self.fmt.bits // 2)

    @property
    def first_precision(self) -> int:
        """The precision at which the reference is evaluated first."""
        return max(_FIRST_BITS, self.fmt.bits + 11)


class Settler:
    """Settles the numbers of one input; what is common to all of them is kept, since many may be off.

    Args:
        formulas: What they are judged by.
        values: Of the variables.
    """

    def __init__(self, formulas: Formulas, values: Sequence[float]) -> None:
        self._formulas = formulas
        self._reference = formulas.reference
        self._slots = formulas.reference.slots
        self._format = formulas.fmt
        self.values = tuple(values)
        self._known: dict[int, list[arb]] = {}
        """The reference, by precision."""

    def _exact(self, precision: int, selections: Selections) -> list[arb]:
        return self._reference.exact(self.values, precision, selections)

    def _bounded(self, selections: Selections) -> list[arb]:
        return self._reference.bounded(self.values, self._format, selections)

    def _in_range(self, selections: Selections) -> list[arb]:
        return self._reference.in_range(self.values, self._format, selections)

    def settle(self, position: int, number: float, true: arb, bound: float, judgement: Judgement) -> None:
        """Judges one number, and writes down what came of it.

        Args:
            position: Of the number.
            number: What PyTorch returned.
            true: An enclosure of what it should be.
            bound: The quick bound.
            judgement: Of the input.
        """
        verdict = self._verdict(position, number, true, bound)
        if verdict.outcome is Outcome.UNDEFINED:
            judgement.undefined += 1
            return
        if verdict.outcome is not Outcome.WITHIN:
            judgement.failures[position] = verdict
        if verdict.bound > 0 and math.isfinite(verdict.error):
            judgement.max_bounds = max(judgement.max_bounds, verdict.error / verdict.bound)
        certified = abs(float(verdict.certified.mid()))
        if math.isfinite(verdict.error) and verdict.bound < certified * self._formulas.most_cancelled:
            judgement.max_ulps = max(judgement.max_ulps, verdict.error / self._format.ulp(certified))

    def _verdict(self, position: int, number: float, true: arb, bound: float) -> Assessment:
        bound = max(bound, self._running_bound(position))
        true, decided = self.sharpened(position, true, bound if math.isfinite(bound) else 0.0)
        fmt = self._format
        if not true.is_finite():
            return Assessment(Outcome.UNDEFINED, true, math.nan, bound)
        error = float((arb(number) - true).abs_upper())
        if not decided:
            return Assessment(Outcome.UNDECIDED, true, error, bound)
        if math.isnan(number) and self._beyond_range(position):
            return Assessment(Outcome.UNDEFINED, true, math.nan, bound)
        # Where the reference is exact, or nearly so, an ulp is what is at stake.
        ulp = fmt.ulp(float(true.mid()))
        scale = max(bound, ulp)
        if math.isinf(number) and (true > 0) == (number > 0):
            beyond = arb(fmt.largest) - (RADII * scale if scale < math.inf else 0.0)
            if abs(true) >= beyond:  # the true value, or what it rounds to, is beyond the format's range
                return Assessment(Outcome.WITHIN, true, 0.0, bound)
        if error <= (RADII * scale if RADII * scale < math.inf else RADII * ulp) + fmt.smallest:
            # Where the reference is exact, kernels still round: PyTorch's gradient of prod divides the product by x,
            # but only where no dispatch mode looks on, so that the executed formula does not show it.
            return Assessment(Outcome.WITHIN, true, error, scale)
        differs, executed_bound = self._executed_rounding(position, true)
        if fmt.is_narrow and not differs:
            in_range = float(self._ranged[self._slots[position]].rad())
            if math.isinf(in_range):  # in this format the formula has no value here, whoever computes it
                return Assessment(Outcome.UNDEFINED, true, error, bound)
            scale = max(scale, in_range)
        most = scale * 2.0 ** min(LOST_BITS, fmt.bits // 2)
        # Balls of a half precision are soon infinite, where rounding is far from doing anything.
        if fmt.bits >= 2 * LOST_BITS and math.isinf(bound) and math.isinf(executed_bound):
            most = abs(float(true.mid())) / 2  # rounding may do anything: what has no digit right is told all the same
        lost = math.isinf(error) or error > most
        explained = error <= RADII * executed_bound or self._formulas.higher_order
        # In a narrow format a right formula leaves the range on ordinary ways, and loses all of its digits there.
        left = not math.isfinite(number) and fmt.is_narrow and math.isinf(executed_bound)
        if differs or not (left or (explained and math.isfinite(number))):
            outcome = Outcome.WRONG
        elif left or (lost and not (abs(true) < arb(fmt.smallest_normal))):
            outcome = Outcome.INACCURATE
        else:
            outcome = Outcome.WITHIN
        shown = executed_bound if outcome is Outcome.WITHIN else scale
        if outcome is not Outcome.WITHIN and not (math.isfinite(error) and true.rad() * _FAR_NARROWER <= error):
            true, _ = self.sharpened(position, true, 0.0)  # beside a large bound, it need not have digits yet
        return Assessment(outcome, true, error, shown, executed_bound, differs)

    def _beyond_range(self, position: int) -> bool:
        """Whether the derivative exceeds the format once cotangents (tangents) that are 0 are not.

        Nothing can be done there: the derivative of exp at 1024 is no float64, and 0 times infinity is NaN.
        """
        inputs = self._formulas.inputs
        if 0.0 not in self.values[inputs:]:
            return False
        unit = [*self.values[:inputs], *(v or 1.0 for v in self.values[inputs:])]
        true = self._reference.exact(unit, EXECUTED_BITS, Selections())[self._slots[position]]
        return bool(abs(true) >= arb(self._format.largest))

    def _running_bound(self, position: int) -> float:
        """The radius by running error analysis; 0 if there is none.

        A ball does not round what happens to be exact, in the order in which the reference adds up: x·w - z·w + b with
        large products that cancel. In another order, which is PyTorch's, it is not.
        """
        if self._radii is None:
            return 0.0
        radius = self._radii[self._slots[position]]
        return radius if math.isfinite(radius) else 0.0

    @cached_property
    def _ranged(self) -> list[arb]:
        return self._in_range(Selections())

    @cached_property
    def _radii(self) -> list[float] | None:
        running = self._reference.running
        if running is None:
            return None
        point = np.array([self._reference.used(self.values)], dtype=float)
        found: list[float] = running(point, self._format.bits)[0].tolist()
        return found

    def sharpened(self, position: int, true: arb, bound: float) -> tuple[arb, bool]:
        """The enclosure at rising precision, until it is far narrower than the bound and than an ulp."""
        fmt = self._format
        precision = self._formulas.first_precision
        while True:
            if true.is_finite():
                # As balls: a millionth of the smallest subnormal number is 0 as a float.
                scale = arb(max(fmt.ulp(float(true.mid())), fmt.smallest, bound))
                if abs(true) >= arb(fmt.largest):
                    scale = abs(true)  # what is beyond the range has no ulp
                if true.rad() * _FAR_NARROWER <= scale:
                    return true, True
            if precision >= _MOST_BITS:
                return true, False
            precision *= 2
            true = self._sharper(precision)[self._slots[position]]

    def _sharper(self, precision: int) -> list[arb]:
        """The reference at a higher precision."""
        if precision not in self._known:
            self._known[precision] = self._exact(precision, Selections())
        return self._known[precision]

    def _executed_rounding(self, position: int, true: arb) -> tuple[bool, float]:
        """Whether the executed formula is another one at this input, and how far rounding can take it."""
        fmt = self._format
        exact, ball = (found[position] for found in self._executed_both)
        precision = EXECUTED_BITS
        while not exact.is_finite() and precision < _MOST_BITS:  # 1 - sigmoid(512) is 0 to 700 bits
            precision *= 2
            exact = self._formulas.executed.exact(self.values, precision)[position]
        if not exact.is_finite():
            exact = self._formulas.executed.at_boundaries(self.values, precision)[position]
        if not exact.is_finite():
            return True, math.inf
        gap = (exact - true).abs_lower()
        radius = float(ball.rad()) if ball.is_finite() else math.inf
        # PyTorch's constants are rounded: a formula whose value is off by less than an ulp is not another one.
        allowed = max(fmt.ulp(float(true.mid())), 0.0 if math.isinf(radius) else radius * 2.0**-10)
        return float(gap) > allowed, radius

    @cached_property
    def _executed_both(self) -> tuple[list[arb], list[arb]]:
        """The executed formulas, exactly and with their rounding."""
        executed = self._formulas.executed
        return executed.exact(self.values), executed.rounded(self.values, self._format)

    # -- kinks -----------------------------------------------------------------------------------------------------

    def judge_kink(self, computed: Sequence[float], at: set[int], judgement: Judgement) -> None:
        """Judges by the hull of the adjacent branches: every selector on its boundary, both ways."""
        judgement.kink = True
        indices = sorted(at)
        if self._formulas.higher_order or len(indices) > _MOST_FORCED:
            # Where the first derivative jumps there is no second one: each term may stand on a side of its own.
            forced = [dict.fromkeys(indices, UNIT)]
        else:
            forced = [dict(zip(indices, v, strict=True)) for v in product((ZERO, ONE), repeat=len(indices))]
        branches = [self._exact(self._formulas.first_precision, Selections(f)) for f in forced]
        bounds = [self._bounded(Selections(f)) for f in forced]
        in_range = [self._in_range(Selections(f)) for f in forced] if self._format.is_narrow else []
        for position, (number, slot) in enumerate(zip(computed, self._slots, strict=True)):
            sides = [b[slot] for b in branches if b[slot].is_finite()]
            # What is not known of a selector is no rounding.
            radii = [
                max(float(b[slot].rad()) - float(e[slot].rad()), 0.0)
                for b, e in zip(bounds, branches, strict=True)
                if b[slot].is_finite() and e[slot].is_finite()
            ]
            if not sides:
                judgement.undefined += 1
                continue
            lowest, highest = min(s.lower() for s in sides), max(s.upper() for s in sides)
            hull = lowest.union(highest)
            slack = RADII * max(max(radii, default=0.0), self._format.ulp(number)) + self._format.smallest
            outside = self._outside(number, lowest, highest)
            if outside <= slack:
                continue
            if len(sides) < len(branches) and not math.isfinite(number):
                judgement.undefined += 1
                continue
            if highest - lowest <= 2.0**-20 * self._format.ulp(float(hull.mid())):
                # Every branch gives the same here: this number is not at a kink.
                self.settle(position, number, sides[0], max(radii, default=0.0), judgement)
                continue
            differs, executed_bound = self._executed_rounding(position, hull)
            if not differs and not all(b[slot].is_finite() for b in in_range):
                judgement.undefined += 1
                continue
            if not differs and outside <= RADII * executed_bound and math.isfinite(number):
                continue
            judgement.failures[position] = Assessment(Outcome.WRONG, hull, outside, slack / RADII, at_kink=True)

    def _outside(self, number: float, lowest: arb, highest: arb) -> float:
        """How far a number is from an interval; an overflow is inside of what is beyond the format's range."""
        if math.isnan(number):
            return math.inf
        if math.isinf(number):
            beyond = highest >= self._format.largest if number > 0 else lowest <= -self._format.largest
            return 0.0 if beyond else math.inf
        return max(0.0, float((lowest - number).upper()), float((number - highest).upper()))
