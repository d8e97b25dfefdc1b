"""The judgement on computed numbers: enclosures of the reference, and bounds from the dtype's precision.

The quick bound is the radius of the reference's ball at the precision of the dtype. What exceeds it is settled by the
rounding of what was executed (`settle`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import Final

import numpy as np
from flint import arb

from diffcheck.algebra.expr import Expr
from diffcheck.certify.balls import Selections
from diffcheck.certify.cells import Direction, Function, Neighbourhood
from diffcheck.certify.compiler import Program
from diffcheck.certify.enclosure import EXECUTED_BITS, MOST_BITS, Executed, Reference
from diffcheck.certify.existence import Blocks
from diffcheck.certify.floats import Floats
from diffcheck.certify.formats import RADII, Format
from diffcheck.certify.judgement import Judgement
from diffcheck.certify.kinks import KinkJudge, judge_by_term
from diffcheck.certify.settle import Formulas, Settler

_MOST_ROWS: Final = 2**19
"""Rows of tables, of as many inputs as are judged together."""
_SHARP: Final = 2.0**-8
"""An enclosure is used if it is so many times narrower than the bound."""


class Certifier:
    """A trace's reference and executed formula as programs, for one floating-point format.

    Args:
        variables: Names of the variables, in the order in which values will be given.
        reference: An expression per number to be compared.
        executed: The formula that was executed, per number.
        fmt: The format in which PyTorch computed.
        higher_order: Whether the reference is a derivative of a derivative. There PyTorch takes other ways while a mode
            looks on (prod's double backward divides, or it does not), so that a right executed formula is right
            whatever its own rounding.
        seeds: How many of the variables, the last ones, are cotangents or tangents.
        function: What is differentiated. It is asked what the derivative is where the reference does not say; without
            it there is none there.
    """

    def __init__(
        self,
        variables: Sequence[str],
        reference: Sequence[Expr],
        executed: Sequence[Expr],
        fmt: Format,
        *,
        higher_order: bool = False,
        seeds: int = 0,
        function: Function | None = None,
    ) -> None:
        self._reference = Reference(reference, variables)
        self._executed = Executed(executed, variables)
        self._format = fmt
        self._formulas = Formulas(self._reference, self._executed, fmt, higher_order, len(variables) - seeds)
        if function is not None:
            around = Neighbourhood(function, variables)
            blocks = Blocks(reference, variables, function.inputs)
            self._formulas = replace(self._formulas, around=around, blocks=blocks)
        self._settler: Settler | None = None
        """Of the input that was judged last."""

    def in_format(self, fmt: Format) -> Certifier:
        """The same for another format, with the same programs."""
        if fmt == self._format:
            return self
        other = copy(self)
        other.__dict__.update(_format=fmt, _formulas=replace(self._formulas, fmt=fmt), _settler=None)
        return other

    def enclose(self, values: Sequence[float], precision: int | None = None) -> list[arb]:
        """Enclosures of the reference at an input, one per number."""
        found = self._reference.exact(values, precision or self._formulas.first_precision, Selections())
        return [found[slot] for slot in self._reference.slots]

    def bounds(self, values: Sequence[float]) -> list[float]:
        """What rounding can do to the reference at an input, one per number."""
        found = self._reference.bounded(values, self._format, Selections())
        return [float(found[slot].rad()) for slot in self._reference.slots]

    def tolerances(self, values: Sequence[float]) -> list[float]:
        """How far from the reference a number may be at an input for no more reason than rounding, one per number."""
        return list(map(self._format.tolerance, self.bounds(values)))

    def judge_all(self, points: Floats, computed: Floats) -> list[Judgement]:
        """Judges computed numbers at several inputs.

        The quick bounds of all inputs come from one running error analysis, true values from one evaluation in
        double-word arithmetic, or from balls. What these do not show to be rounding, and kinks, are judged one by one.

        Args:
            points: The values of the variables, [inputs, variables].
            computed: What PyTorch returned, [inputs, numbers].
        """
        reference = self._reference
        running = reference.running if reference.slots else None
        if running is None:
            return [self.judge(*both) for both in zip(points.tolist(), computed.tolist(), strict=True)]
        at_once = max(1, _MOST_ROWS // running.rows)
        if len(points) > at_once:
            parts = [slice(start, start + at_once) for start in range(0, len(points), at_once)]
            return [one for part in parts for one in self.judge_all(points[part], computed[part])]
        fmt = self._format
        inputs = reference.used_columns(points)
        radii = running(inputs, fmt.bits)
        if not reference.all_distinct:
            radii = radii[:, reference.slots]
        gaps, errors = self._errors_of_all(inputs, computed, radii)
        for i in np.flatnonzero(np.isnan(errors[:, 0])).tolist():
            selections = Selections()
            true = reference.exact(points[i].tolist(), self._formulas.first_precision, selections)
            undecided = selections.boundary or selections.undecided
            gaps[i] = errors[i] = np.inf if undecided else self._errors(true, computed[i].tolist())
        tolerated = fmt.tolerance(radii)
        plain = (errors <= tolerated) & (tolerated < np.inf)
        settled = np.all(plain | (errors <= fmt.smallest), axis=1)
        counted = np.where(plain & (errors > fmt.smallest), errors, 0.0)  # less is underflow
        with np.errstate(all="ignore"):
            ratios = np.where(counted > 0, RADII * counted / tolerated, 0.0).max(axis=1).tolist()
            uncancelled = radii < np.abs(computed) * self._formulas.most_cancelled
            ulps = np.where(uncancelled & plain, gaps / fmt.ulps(computed), 0.0).max(axis=1).tolist()
            sizes = np.abs(computed)
            scales = np.maximum(sizes, np.abs(points[:, self._formulas.inputs :]).max(axis=1, initial=0.0)[:, None])
            floors = self._formulas.most_cancelled * scales.max(axis=1, keepdims=True)
            blind = (tolerated >= sizes) & (tolerated > floors) & (radii > 0)
        found = []
        for i in range(len(points)):
            if settled[i]:
                found.append(Judgement(ulps[i], ratios[i], blind=set(np.flatnonzero(blind[i]).tolist())))
            else:
                found.append(self.judge(points[i].tolist(), computed[i].tolist()))
        return found

    def _errors_of_all(self, inputs: Floats, computed: Floats, radii: Floats) -> tuple[Floats, Floats]:
        """The distances to the middles of enclosures, and what `_errors` gives; NaN at inputs that are left to balls.

        Args:
            inputs: The values of the variables that occur, [inputs, variables].
            computed: The numbers, [inputs, numbers].
            radii: Their quick bounds.
        """
        found = self._reference.extended
        if found is None or (self._reference.is_prepared and not found.pays(*computed.shape)):
            return np.full(computed.shape, np.nan), np.full(computed.shape, np.nan)
        true = found(inputs)
        high, low, errors = true if self._reference.all_distinct else true[:, :, self._reference.slots]
        with np.errstate(all="ignore"):
            gaps = np.abs((computed - high) - low)
            sharp = np.all((errors <= _SHARP * radii) & (errors < np.inf), axis=1, keepdims=True)
            return gaps, np.where(sharp, (gaps + errors) * (1 + 2.0**-50), np.nan)

    def _errors(self, true: Sequence[arb], computed: Sequence[float]) -> list[float]:
        """Upper bounds of the distances between computed numbers and their true values, by distinct expression."""
        if self._reference.all_distinct:
            return [float((t - c).abs_upper()) for t, c in zip(true, computed, strict=True)]
        # The same number is often computed for the same expression: the gradient of a sum.
        pairs = list(zip(self._reference.slots, computed, strict=True))
        known = {pair: float((true[pair[0]] - pair[1]).abs_upper()) for pair in set(pairs)}
        return [known[pair] for pair in pairs]

    def judge(self, values: Sequence[float], computed: Sequence[float]) -> Judgement:
        """Judges computed numbers at one input.

        Args:
            values: Of the variables.
            computed: What PyTorch returned, per number.
        """
        settler = self._settler_at(values)
        true, selections = self._decided(values)
        judgement = Judgement()
        slots = self._reference.slots
        at_boundary = bool(selections.boundary or selections.undecided)
        if at_boundary or not all(ball.is_finite() for ball in true):
            if at_boundary and (self._formulas.higher_order or settler.surroundings is None):
                judge_by_term(settler, computed, judgement)
                return judgement
            if settler.surroundings is not None:
                KinkJudge(settler, settler.surroundings, computed, judgement).judge()
                return judgement
        errors = self._errors(true, computed)
        radii = [float(ball.rad()) for ball in self._reference.bounded(values, self._format, Selections())]
        bounds = radii if self._reference.all_distinct else [radii[slot] for slot in slots]
        fmt = self._format
        # Within an infinite bound is anything: there the executed formula decides.
        beyond = [
            i
            for i, (e, r) in enumerate(zip(errors, bounds, strict=True))
            if not e <= fmt.tolerance(r) < math.inf and not e <= fmt.smallest
        ]
        for position in beyond:
            settler.settle(position, computed[position], true[slots[position]], bounds[position], judgement)
        self._measure(computed, errors, bounds, settler.scale, judgement)
        return judgement

    @property
    def around(self) -> tuple[Neighbourhood, Reference] | None:
        """What finds the cells around inputs, and the reference: if it is known what is differentiated."""
        return None if self._formulas.around is None else (self._formulas.around, self._reference)

    def near(self, values: Sequence[float], direction: Direction) -> tuple[Sequence[arb], int]:
        """A point beside an input, nearer than any format tells, and the precision at which it is looked at."""
        assert self._formulas.around is not None
        entered = self._formulas.around.enter(values, direction)
        return entered.near, entered.precision

    def judge_at_tie(
        self,
        values: Sequence[float],
        computed: Sequence[float],
        towards: Callable[[Direction], Certifier | None],
    ) -> Judgement:
        """Judges computed numbers at an input at which paths end, by the derivatives on all of them.

        Args:
            values: Of the variables.
            computed: What PyTorch returned, per number.
            towards: From a direction to the certifier of the path that lies there, if it is known.
        """

        def other(direction: Direction) -> tuple[Neighbourhood, Reference] | None:
            found = towards(direction)
            return None if found is None else found.around

        settler = Settler(self._formulas, values)
        assert settler.surroundings is not None
        judgement = Judgement()
        KinkJudge(settler, settler.surroundings.with_paths(other), computed, judgement).judge_tie()
        return judgement

    def _decided(self, values: Sequence[float]) -> tuple[list[arb], Selections]:
        """The reference, to as many digits as it takes to tell its selectors from those at their boundaries.

        And where it has none, to as many as tell 0 from what it divides by: 1 - sigmoid(915) is 0 to 1,300 bits.
        """
        for precision in (self._formulas.first_precision, EXECUTED_BITS):
            selections = Selections()
            true = self._reference.exact(values, precision, selections)
            if not selections.undecided:
                break
        for precision in (EXECUTED_BITS, MOST_BITS):
            if selections.boundary or selections.undecided or all(ball.is_finite() for ball in true):
                break
            true = self._reference.exact(values, precision, selections := Selections())
        return true, selections

    def _measure(
        self,
        computed: Sequence[float],
        errors: Sequence[float],
        bounds: Sequence[float],
        scale: float,
        judgement: Judgement,
    ) -> None:
        """The largest error of the numbers that are plainly within the bound."""
        ratio = relative = 0.0
        worst = 0
        for i, (error, bound) in enumerate(zip(errors, bounds, strict=True)):
            tolerated = self._format.tolerance(bound)
            if not self._format.smallest < error <= tolerated:
                continue  # settled otherwise, or underflow
            ratio = max(ratio, RADII * error / tolerated)
            size = abs(computed[i])
            if error > relative * size and bound < size * self._formulas.most_cancelled:
                relative, worst = error / size, i
        scale = max(scale, max((abs(c) for c in computed if math.isfinite(c)), default=0.0))
        for i, (error, bound, number) in enumerate(zip(errors, bounds, computed, strict=True)):
            if error <= self._format.tolerance(bound) < math.inf and self._formulas.is_blind(bound, abs(number), scale):
                judgement.blind.add(i)
        judgement.max_bounds = max(judgement.max_bounds, ratio)
        if relative:
            judgement.max_ulps = max(judgement.max_ulps, errors[worst] / self._format.ulp(computed[worst]))

    def discrepancy(self, values: Sequence[float]) -> float:
        """How far the executed formulas are from the reference at an input, in units of the bound; at most 2**100."""
        ours = self._executed.exact(values)
        true = self._reference.exact(values, EXECUTED_BITS, Selections())
        narrow = self._reference.bounded(values, self._format, Selections())
        worst = 0.0
        for mine, slot in zip(ours, self._reference.slots, strict=True):
            gap, ball = (mine - true[slot]).abs_lower(), narrow[slot]
            if gap.is_finite() and ball.is_finite():
                worst = max(worst, float(gap) / max(float(ball.rad()), self._format.smallest))
        return min(worst, 2.0**100)

    def formulas_part(self, position: int, values: Sequence[float]) -> bool:
        """Whether the executed formula certainly is another one than the reference, by however little.

        At an input, and at numbers that are in no relation to each other: at x = 0 much is equal.
        """
        executed = self._executed.program(position)
        unrelated = [0.7310585 + 0.1370517 * i for i in range(len(values))]
        for numbers in (unrelated, values):
            (ours,) = executed([arb(v) for v in numbers], EXECUTED_BITS, Selections())
            theirs = self._reference.exact(numbers, EXECUTED_BITS, Selections())[self._reference.slots[position]]
            if not ours.overlaps(theirs):
                return True
        return False

    def _settler_at(self, values: Sequence[float]) -> Settler:
        key = tuple(values)
        if self._settler is None or self._settler.values != key:
            self._settler = Settler(self._formulas, key)
        return self._settler


def holds(guards: Program, expected: Sequence[bool], values: Sequence[float], precision: int) -> bool:
    """Whether an input certainly takes the path that these guards describe."""
    return holds_near(guards, expected, [arb(v) for v in values], precision)


def holds_near(guards: Program, expected: Sequence[bool], values: Sequence[arb], precision: int) -> bool:
    """The same of a point that no format has."""
    selections = Selections()
    found = guards(values, precision, selections)
    if selections.undecided:
        return False
    return all(value == (1 if want else 0) for value, want in zip(found, expected, strict=True))
