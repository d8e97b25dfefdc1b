"""What settles a number that the quick bound does not: digits of the reference, and the executed rounding.

The executed rounding is the traced formula on balls of the dtype's precision, underflow and overflow included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
from flint import arb

from diffcheck.certify.balls import UNIT, Selections
from diffcheck.certify.cells import Direction, Neighbourhood, Sample
from diffcheck.certify.enclosure import EXECUTED_BITS, MOST_BITS, Executed, Reference
from diffcheck.certify.existence import Block, Blocks, Surroundings
from diffcheck.certify.formats import Format
from diffcheck.certify.judgement import Assessment, Judgement, Outcome

LOST_BITS: Final = 10
"""An error within the executed rounding is `inaccurate` once it exceeds the quick bound by a factor of 2**LOST_BITS; in
a format of fewer than 20 bits, by one that takes half of them."""
_FIRST_BITS: Final = 64
"""The precision at which the reference is evaluated first: 11 bits more than float64 has, and one machine word."""
_FAR_NARROWER: Final = 2**20
"""A decided enclosure is so many times narrower than the bound, or than an ulp."""

Sharper: TypeAlias = Callable[[int], arb]
"""A number's true value at a precision."""


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
    around: Neighbourhood | None = None
    """What is differentiated, if it is known."""
    blocks: Blocks | None = None
    """Of the reference, likewise."""

    @property
    def most_cancelled(self) -> float:
        """A sum that cancels more digits is counted in units of its bound only: its own ulps say nothing."""
        return 2.0 ** (-self.fmt.bits // 2)

    def is_blind(self, bound: float, size: float, scale: float) -> bool:
        """Whether a bound judges nothing: it is wider than the number, and more than rounding of what others are."""
        reach = self.fmt.tolerance(bound)
        return bound > 0 and reach >= size and reach > self.most_cancelled * scale

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
        self._format = self.fmt = formulas.fmt
        self.values = tuple(values)
        self.scale = max(map(abs, self.values[formulas.inputs :]), default=0.0)
        """Of the numbers: that of the cotangents or tangents, at least."""
        self._known: dict[int, list[arb]] = {}
        """The reference, by precision."""

    def settle(
        self,
        position: int,
        number: float,
        true: arb,
        bound: float,
        judgement: Judgement,
        sharper: Sharper | None = None,
    ) -> None:
        """Judges one number, and writes down what came of it.

        Args:
            position: Of the number.
            number: What PyTorch returned.
            true: An enclosure of what it should be.
            bound: The quick bound.
            judgement: Of the input.
            sharper: Gives what it should be to more digits; the reference does, if nothing else is said.
        """
        verdict = self._verdict(position, number, true, bound, sharper)
        is_right = verdict.outcome is Outcome.WITHIN and math.isfinite(number)
        if not is_right and self._is_out_of_range(position, number):
            judgement.out_of_range.add(position)
            return
        if verdict.outcome is Outcome.UNDEFINED:
            judgement.undefined.add(position)
            return
        if verdict.outcome is not Outcome.WITHIN:
            judgement.failures[position] = verdict
        elif self._formulas.is_blind(verdict.bound, float(abs(verdict.certified).mid()), self.scale):
            judgement.blind.add(position)
        certified = abs(float(verdict.certified.mid()))
        has_digits = verdict.outcome is not Outcome.WITHIN or certified >= self._format.smallest_normal
        if verdict.bound > 0 and math.isfinite(verdict.error) and has_digits:
            judgement.max_bounds = max(judgement.max_bounds, verdict.error / verdict.bound)
        if math.isfinite(verdict.error) and verdict.bound < certified * self._formulas.most_cancelled:
            judgement.max_ulps = max(judgement.max_ulps, verdict.error / self._format.ulp(certified))

    def _verdict(self, position: int, number: float, true: arb, bound: float, sharper: Sharper | None) -> Assessment:
        bound = max(bound, self._running_bound(position))
        true, decided = self.sharpened(position, true, bound if math.isfinite(bound) else 0.0, sharper)
        fmt = self._format
        if not true.is_finite():
            return Assessment(Outcome.UNDEFINED, true, math.nan, bound)
        error = float((arb(number) - true).abs_upper())
        if not decided:
            return Assessment(Outcome.UNDECIDED, true, error, bound)
        # Where the reference is exact, or nearly so, an ulp is what is at stake.
        ulp = fmt.ulp(float(true.mid()))
        scale = max(bound, ulp)
        if math.isinf(number) and (true > 0) == (number > 0):
            beyond = arb(fmt.largest) - (fmt.tolerance(scale) if scale < math.inf else 0.0)
            if abs(true) >= beyond:  # the true value, or what it rounds to, is beyond the format's range
                return Assessment(Outcome.WITHIN, true, 0.0, bound)
        if error <= fmt.tolerance(scale if fmt.tolerance(scale) < math.inf else ulp):
            # Where the reference is exact, kernels still round: PyTorch's gradient of prod divides the product by x,
            # but only where no dispatch mode looks on, so that the executed formula does not show it.
            return Assessment(Outcome.WITHIN, true, error, scale)
        differs, executed_bound = self._executed_rounding(position, true)
        if (
            not differs
            and max(error, abs(number)) <= fmt.tolerance(fmt.smallest_normal)
            and abs(true) < fmt.smallest_normal
        ):
            return Assessment(Outcome.WITHIN, true, error, scale)  # below the normal range there are no digits to lose
        most = scale * 2.0 ** min(LOST_BITS, fmt.bits // 2)
        # Balls of a half precision are soon infinite, where rounding is far from doing anything.
        if fmt.bits >= 2 * LOST_BITS and math.isinf(bound) and math.isinf(executed_bound):
            most = abs(float(true.mid())) / 2  # rounding may do anything: what has no digit right is told all the same
        lost = math.isinf(error) or error > most
        explained = error <= fmt.tolerance(executed_bound) or self._formulas.higher_order
        # Right formulas leave the range on their way, and lose all of their digits there.
        left = not math.isfinite(number) and math.isinf(executed_bound)
        if differs or not (left or (explained and math.isfinite(number))):
            outcome = Outcome.WRONG
        elif left or (lost and not (abs(true) < arb(fmt.smallest_normal))):
            outcome = Outcome.INACCURATE
        else:
            outcome = Outcome.WITHIN
        shown = executed_bound if outcome is Outcome.WITHIN else scale
        width = true.rad() * _FAR_NARROWER
        if outcome is not Outcome.WITHIN and not (math.isfinite(error) and width <= error and width <= abs(true)):
            found, _ = self.sharpened(position, true, 0.0, sharper)  # beside a large bound, it need not have digits yet
            if not (math.isfinite(error) and width <= error) or 0 not in found:  # what cancels to 0 never has any
                true = found
        return Assessment(outcome, true, error, shown, executed_bound, differs)

    def _is_out_of_range(self, position: int, number: float) -> bool:
        """Whether the function's value is no number of the format, or the derivative is none that it is held to."""
        around = self.surroundings
        if around is not None and around.is_out_of_range(position):
            return True
        return math.isnan(number) and self._beyond_range(position)

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
    def _radii(self) -> list[float] | None:
        running = self._reference.running
        if running is None:
            return None
        point = np.array([self._reference.used(self.values)], dtype=float)
        found: list[float] = running(point, self._format.bits)[0].tolist()
        return found

    def sharpened(self, position: int, true: arb, bound: float, sharper: Sharper | None = None) -> tuple[arb, bool]:
        """The enclosure at rising precision, until it is far narrower than the bound and than an ulp."""
        fmt = self._format
        sharper = sharper or self._by_reference(position)
        precision = self._formulas.first_precision
        while True:
            if true.is_finite():
                # As balls: a millionth of the smallest subnormal number is 0 as a float.
                scale = arb(max(fmt.ulp(float(true.mid())), fmt.smallest, bound))
                if abs(true) >= arb(fmt.largest):
                    scale = abs(true)  # what is beyond the range has no ulp
                if true.rad() * _FAR_NARROWER <= scale:
                    return true, True
            if precision >= MOST_BITS:
                return true, False
            precision *= 2
            true = sharper(precision)

    def _by_reference(self, position: int) -> Sharper:
        def sharper(precision: int) -> arb:
            if precision not in self._known:
                self._known[precision] = self._reference.exact(self.values, precision, Selections())
            return self._known[precision][self._slots[position]]

        return sharper

    def _executed_rounding(self, position: int, true: arb) -> tuple[bool, float]:
        """Whether the executed formula is another one at this input, and how far rounding can take it."""
        fmt = self._format
        exact, ball = (found[position] for found in self._executed_both)
        precision = EXECUTED_BITS
        while not exact.is_finite() and precision < MOST_BITS:
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

    # -- what is around the input ----------------------------------------------------------------------------------

    @cached_property
    def surroundings(self) -> Surroundings | None:
        """The cells around the input, if it is known what is differentiated."""
        around = self._formulas.around
        if around is None:
            return None
        seeds = len(self.values) - self._formulas.inputs
        return Surroundings(around, self._reference, self.values, seeds, self._format.largest)

    @property
    def moving(self) -> int:
        """How many variables a direction has."""
        assert self._formulas.around is not None
        return len(self._formulas.around.function.inputs)

    @property
    def is_gradient(self) -> bool:
        """Whether the numbers are a gradient: one for each variable that moves."""
        assert self._formulas.around is not None
        steps = self._formulas.around.function.steps
        return len(steps) == 1 and steps != ("forward",)

    def blocks(self, numbers: Sequence[int]) -> list[Block]:
        """Some of the numbers, by what they depend on at this input."""
        assert self._formulas.blocks is not None
        return self._formulas.blocks.at(self.values, numbers)

    def in_cell(self, direction: Direction, precision: int) -> list[arb]:
        """The derivatives in a cell, at the input."""
        around = self._formulas.around
        assert around is not None
        selected = around.enter(self.values, direction).selected
        found = self._reference.in_cell(self.values, selected, precision)
        return [found[slot] for slot in self._slots]

    def radius(self, position: int, samples: Sequence[Sample]) -> float:
        """What rounding can do to a number in some cells; 0 if it can't be told."""
        slot = self._slots[position]
        found = 0.0
        for sample in samples:
            if id(sample) not in self._cell_radii:
                bounded = self._reference.bounded_in_cell(self.values, self._format, sample.selected)
                self._cell_radii[id(sample)] = [float(b.rad()) if b.is_finite() else 0.0 for b in bounded]
            found = max(found, self._cell_radii[id(sample)][slot])
        return found

    @cached_property
    def _cell_radii(self) -> dict[int, list[float]]:
        return {}

    @cached_property
    def either_way(self) -> list[arb]:
        """The numbers with every selector at its boundary both ways."""
        selections = Selections()
        self._reference.exact(self.values, self._formulas.first_precision, selections)
        forced = dict.fromkeys(selections.boundary | selections.undecided, UNIT)
        found = self._reference.exact(self.values, self._formulas.first_precision, Selections(forced))
        return [found[slot] for slot in self._slots]

    def radius_either_way(self, position: int) -> float:
        """What rounding can do to a number, with every selector at its boundary both ways."""
        ball = self._bounded_either_way[self._slots[position]]
        rounding = float(ball.rad()) - float(self.either_way[position].rad()) if ball.is_finite() else 0.0
        return max(rounding, 0.0) if math.isfinite(rounding) else 0.0

    @cached_property
    def _bounded_either_way(self) -> list[arb]:
        selections = Selections()
        self._reference.bounded(self.values, self._format, selections)
        forced = dict.fromkeys(selections.boundary | selections.undecided, UNIT)
        return self._reference.bounded(self.values, self._format, Selections(forced))

    def executed_at(self, positions: Sequence[int]) -> list[float] | None:
        """The executed formulas' exact values, rounded once; None if some have none."""
        exact = self._formulas.executed.at_boundaries(self.values, EXECUTED_BITS)
        found = [exact[p] for p in positions]
        return [float(e.mid()) for e in found] if all(e.is_finite() for e in found) else None

    def executed_radius(self, position: int) -> float:
        """How far rounding can take an executed formula."""
        ball = self._executed_both[1][position]
        return float(ball.rad()) if ball.is_finite() else math.inf
