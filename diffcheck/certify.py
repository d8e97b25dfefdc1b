"""Enclosures of the reference, bounds from the dtype's precision, and the verdict on one computed number.

The quick bound is the radius of the reference's ball at the precision of the dtype. What exceeds it is settled by the
rounding of what was executed: the traced formula on balls of that precision, underflow and overflow included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from itertools import product
from typing import Final

import numpy as np
from flint import arb

from diffcheck.compiler import BOUNDED, EXACT, ONE, UNIT, ZERO, Program, Selections, compile_graph
from diffcheck.expr import Expr, symbols
from diffcheck.formats import Format
from diffcheck.running_error import RunningError, running_error

RADII: Final = 4.0
"""How many radii of the quick bound, or of the executed formula's ball, count as rounding. Kernels order their
operations differently from the reference and fuse some; in `docs/how-it-works.md` stands what was measured."""
LOST_BITS: Final = 10
"""An error within the executed rounding is `inaccurate` once it exceeds the quick bound by a factor of 2**LOST_BITS; in
a format of fewer than 20 bits, by one that takes half of them."""
_FIRST_BITS: Final = 64
"""The precision at which the reference is evaluated first: 11 bits more than float64 has, and one machine word."""
_FAR_NARROWER: Final = 2**20
"""A decided enclosure is so many times narrower than the bound, or than an ulp."""
_MOST_BITS: Final = 4096
_EXECUTED_BITS: Final = 512
"""The precision at which the executed formula is told from the reference."""
_MOST_FORCED: Final = 6


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


class _Programs:
    """A reference as the programs that are wanted of it, each compiled when it is first run."""

    def __init__(self, reference: Sequence[Expr], variables: Sequence[str]) -> None:
        self._reference = reference
        used = symbols(reference)
        self.used = [i for i, name in enumerate(variables) if name in used]
        """The variables that occur in it, by position: a program is given the values of these only."""
        self._inputs = [variables[i] for i in self.used]

    @cached_property
    def exact(self) -> Program:
        """The reference on balls."""
        return compile_graph(self._reference, self._inputs, EXACT)

    @cached_property
    def bounded(self) -> Program:
        """The reference on balls as wide as rounding."""
        return compile_graph(self._reference, self._inputs, BOUNDED)

    @cached_property
    def ranged(self) -> dict[Format, Program]:
        """The reference on balls as wide as rounding, underflow and overflow, by format."""
        return {}

    def in_range(self, fmt: Format) -> Program:
        """See `ranged`."""
        if fmt not in self.ranged:
            self.ranged[fmt] = compile_graph(self._reference, self._inputs, fmt.careful)
        return self.ranged[fmt]

    @cached_property
    def running(self) -> RunningError | None:
        """The widths of such balls for many inputs at once, if NumPy knows all functions that occur."""
        return running_error(self._reference, self._inputs)


@dataclass(slots=True)
class _Kept:
    """What is common to all numbers of one input, since many may be off."""

    values: tuple[float, ...]
    radii: list[float] | None = None
    sharper: dict[int, list[arb]] = field(default_factory=dict)
    """The reference, by precision."""
    executed: tuple[list[arb], list[arb]] | None = None


class Certifier:
    """A trace's reference and executed formula, compiled once, for one floating-point format.

    Args:
        variables: Names of the variables, in the order in which values will be given.
        reference: An expression per number to be compared.
        executed: The formula that was executed, per number.
        fmt: The format in which PyTorch computed.
        second_order: Whether the reference is a derivative of a derivative. There PyTorch takes other ways while a mode
            looks on (prod's double backward divides, or it does not), so that a right executed formula is right
            whatever its own rounding.
        seeds: How many of the variables, the last ones, are cotangents or tangents.
    """

    def __init__(
        self,
        variables: Sequence[str],
        reference: Sequence[Expr],
        executed: Sequence[Expr],
        fmt: Format,
        *,
        second_order: bool = False,
        seeds: int = 0,
    ) -> None:
        distinct = list(dict.fromkeys(reference))
        position = {node: i for i, node in enumerate(distinct)}
        self._slots = [position[node] for node in reference]
        self._all_distinct = len(distinct) == len(reference)
        self._variables = tuple(variables)
        self._executed = tuple(executed)
        self._format = fmt
        self._second_order = second_order
        self._inputs = len(variables) - seeds
        self._programs = _Programs(distinct, variables)
        self._rounding: Program | None = None
        self._kept = _Kept(())
        self._executed_exact: Program | None = None

    def in_format(self, fmt: Format) -> Certifier:
        """The same for another format, with the same programs."""
        if fmt == self._format:
            return self
        other = copy(self)
        other.__dict__.update(_format=fmt, _rounding=None, _kept=_Kept(()))
        return other

    @property
    def _most_cancelled(self) -> float:
        """A sum that cancels more digits is counted in units of its bound only: its own ulps say nothing."""
        return 2.0 ** (-self._format.bits // 2)

    @property
    def _first_precision(self) -> int:
        return max(_FIRST_BITS, self._format.bits + 11)

    def _exact(self, values: Sequence[float], precision: int, selections: Selections) -> list[arb]:
        """The distinct expressions of the reference as balls."""
        used = self._programs.used
        chosen = values if len(used) == len(values) else [values[i] for i in used]
        return self._programs.exact(list(map(arb, chosen)), precision, selections)

    def _bounded(self, values: Sequence[float], selections: Selections) -> list[arb]:
        """The same as wide as the format's rounding."""
        point = [arb(values[i]) for i in self._programs.used]
        return self._programs.bounded(point, self._format.bits, selections)

    def _in_range(self, values: Sequence[float], selections: Selections) -> list[arb]:
        """The same with the format's underflow and overflow."""
        point = [arb(values[i]) for i in self._programs.used]
        return self._programs.in_range(self._format)(point, self._format.bits, selections)

    def enclose(self, values: Sequence[float], precision: int | None = None) -> list[arb]:
        """Enclosures of the reference at an input, one per number."""
        found = self._exact(values, precision or self._first_precision, Selections())
        return [found[slot] for slot in self._slots]

    def judge_all(self, points: Sequence[Sequence[float]], computed: Sequence[Sequence[float]]) -> list[Judgement]:
        """Judges computed numbers at several inputs.

        The quick bounds of all inputs come from one running error analysis. What it does not show to be rounding, and
        kinks, are judged one by one.

        Args:
            points: By input, the values of the variables.
            computed: By input, what PyTorch returned, per number.
        """
        running = self._programs.running if self._slots else None
        if running is None:
            return [self.judge(values, numbers) for values, numbers in zip(points, computed, strict=True)]
        fmt = self._format
        exact, used, precision = self._programs.exact, self._programs.used, self._first_precision
        chosen = points if len(used) == len(self._variables) else [[values[i] for i in used] for values in points]
        radii = running(np.array(chosen), fmt.bits)
        if not self._all_distinct:
            radii = radii[:, self._slots]
        errors = np.full(radii.shape, np.inf)
        for row, values, numbers in zip(errors, chosen, computed, strict=True):
            selections = Selections()
            true = exact(list(map(arb, values)), precision, selections)
            if not selections.boundary and not selections.undecided:
                row[:] = self._errors(true, numbers)
        plain = (errors <= RADII * radii) & (radii < np.inf)
        settled = np.all(plain | (errors <= fmt.smallest), axis=1)
        counted = np.where(plain, errors, 0.0)
        sizes = np.array(computed)
        with np.errstate(all="ignore"):
            ratios = np.where(counted > 0, counted / radii, 0.0).max(axis=1).tolist()
            uncancelled = radii < np.abs(sizes) * self._most_cancelled
            ulps = np.where(uncancelled, counted / fmt.ulps(sizes), 0.0).max(axis=1).tolist()
        return [
            Judgement(ulps[i], ratios[i]) if settled[i] else self.judge(points[i], computed[i])
            for i in range(len(points))
        ]

    def _errors(self, true: Sequence[arb], computed: Sequence[float]) -> list[float]:
        """Upper bounds of the distances between computed numbers and their true values, by distinct expression."""
        if self._all_distinct:
            return [float((t - c).abs_upper()) for t, c in zip(true, computed, strict=True)]
        # The same number is often computed for the same expression: the gradient of a sum.
        pairs = list(zip(self._slots, computed, strict=True))
        known = {pair: float((true[pair[0]] - pair[1]).abs_upper()) for pair in set(pairs)}
        return [known[pair] for pair in pairs]

    def judge(self, values: Sequence[float], computed: Sequence[float]) -> Judgement:
        """Judges computed numbers at one input.

        Args:
            values: Of the variables.
            computed: What PyTorch returned, per number.
        """
        values = self._kept_at(values).values
        selections = Selections()
        true = self._exact(values, self._first_precision, selections)
        judgement = Judgement()
        if selections.boundary or selections.undecided:
            self._judge_kink(values, computed, selections.boundary | selections.undecided, judgement)
            return judgement
        slots = self._slots
        errors = self._errors(true, computed)
        radii = [float(ball.rad()) for ball in self._bounded(values, Selections())]
        bounds = radii if self._all_distinct else [radii[slot] for slot in slots]
        smallest = self._format.smallest
        # Within an infinite bound is anything: there the executed formula decides.
        beyond = [
            i
            for i, (e, r) in enumerate(zip(errors, bounds, strict=True))
            if not e <= RADII * r < math.inf and not e <= smallest
        ]
        for position in beyond:
            self._settle(position, computed[position], values, true[slots[position]], bounds[position], judgement)
        self._measure(computed, errors, bounds, judgement)
        return judgement

    def _measure(
        self,
        computed: Sequence[float],
        errors: Sequence[float],
        bounds: Sequence[float],
        judgement: Judgement,
    ) -> None:
        """The largest error of the numbers that are plainly within the bound."""
        ratio = relative = 0.0
        worst = 0
        for i, (error, bound) in enumerate(zip(errors, bounds, strict=True)):
            if not 0 < error <= RADII * bound:
                continue  # settled otherwise, or underflow
            if error > ratio * bound:
                ratio = error / bound
            size = abs(computed[i])
            if error > relative * size and bound < size * self._most_cancelled:
                relative, worst = error / size, i
        judgement.max_bounds = max(judgement.max_bounds, ratio)
        if relative:
            judgement.max_ulps = max(judgement.max_ulps, errors[worst] / self._format.ulp(computed[worst]))

    # -- what the quick bound does not settle ----------------------------------------------------------------------

    def _settle(
        self, position: int, number: float, values: Sequence[float], true: arb, bound: float, judgement: Judgement
    ) -> None:
        verdict = self._verdict(position, number, values, true, bound)
        if verdict.outcome is Outcome.UNDEFINED:
            judgement.undefined += 1
            return
        if verdict.outcome is not Outcome.WITHIN:
            judgement.failures[position] = verdict
        if verdict.bound > 0 and math.isfinite(verdict.error):
            judgement.max_bounds = max(judgement.max_bounds, verdict.error / verdict.bound)
        certified = abs(float(verdict.certified.mid()))
        if math.isfinite(verdict.error) and verdict.bound < certified * self._most_cancelled:
            judgement.max_ulps = max(judgement.max_ulps, verdict.error / self._format.ulp(certified))

    def _verdict(self, position: int, number: float, values: Sequence[float], true: arb, bound: float) -> Verdict:
        bound = max(bound, self._running_bound(position, values))
        true, decided = self._sharpened(position, values, true, bound if math.isfinite(bound) else 0.0)
        fmt = self._format
        if not true.is_finite():
            return Verdict(Outcome.UNDEFINED, true, math.nan, bound)
        error = float((arb(number) - true).abs_upper())
        if not decided:
            return Verdict(Outcome.UNDECIDED, true, error, bound)
        if math.isnan(number) and self._beyond_range(position, values):
            return Verdict(Outcome.UNDEFINED, true, math.nan, bound)
        # Where the reference is exact, or nearly so, an ulp is what is at stake.
        scale = max(bound, fmt.ulp(float(true.mid())))
        if math.isinf(number) and (true > 0) == (number > 0):
            beyond = arb(fmt.largest) - (RADII * scale if scale < math.inf else 0.0)
            if abs(true) >= beyond:  # the true value, or what it rounds to, is beyond the format's range
                return Verdict(Outcome.WITHIN, true, 0.0, bound)
        if error <= RADII * scale + fmt.smallest < math.inf:
            # Where the reference is exact, kernels still round: PyTorch's gradient of prod divides the product by x,
            # but only where no dispatch mode looks on, so that the executed formula does not show it.
            return Verdict(Outcome.WITHIN, true, error, scale)
        differs, executed_bound = self._executed_rounding(position, values, true)
        if fmt.is_narrow and not differs:
            in_range = float(self._in_range(values, Selections())[self._slots[position]].rad())
            if math.isinf(in_range):  # in this format the formula has no value here, whoever computes it
                return Verdict(Outcome.UNDEFINED, true, error, bound)
            scale = max(scale, in_range)
        most = scale * 2.0 ** min(LOST_BITS, fmt.bits // 2)
        # Balls of a half precision are soon infinite, where rounding is far from doing anything.
        if fmt.bits >= 2 * LOST_BITS and math.isinf(bound) and math.isinf(executed_bound):
            most = abs(float(true.mid())) / 2  # rounding may do anything: what has no digit right is told all the same
        lost = math.isinf(error) or error > most
        explained = error <= RADII * executed_bound or self._second_order
        # In a narrow format a right formula leaves the range on ordinary ways, and loses all of its digits there.
        left = not math.isfinite(number) and fmt.is_narrow and math.isinf(executed_bound)
        if differs or not (explained or left) or not (math.isfinite(number) or left):
            outcome = Outcome.WRONG
        elif left or (lost and not (abs(true) < arb(fmt.smallest_normal))):
            outcome = Outcome.INACCURATE
        else:
            outcome = Outcome.WITHIN
        shown = executed_bound if outcome is Outcome.WITHIN else scale
        if outcome is not Outcome.WITHIN and not (math.isfinite(error) and true.rad() * _FAR_NARROWER <= error):
            true, _ = self._sharpened(position, values, true, 0.0)  # beside a large bound, it need not have digits yet
        return Verdict(outcome, true, error, shown, executed_bound, differs)

    def _beyond_range(self, position: int, values: Sequence[float]) -> bool:
        """Whether the derivative exceeds the format once cotangents (tangents) that are 0 are not.

        Nothing can be done there: the derivative of exp at 1024 is no float64, and 0 times infinity is NaN.
        """
        inputs = self._inputs
        if 0.0 not in values[inputs:]:
            return False
        unit = [*values[:inputs], *(v or 1.0 for v in values[inputs:])]
        true = self._exact(unit, _EXECUTED_BITS, Selections())[self._slots[position]]
        return bool(abs(true) >= arb(self._format.largest))

    def _running_bound(self, position: int, values: Sequence[float]) -> float:
        """The radius by running error analysis; 0 if there is none.

        A ball does not round what happens to be exact, in the order in which the reference adds up: x·w - z·w + b with
        large products that cancel. In another order, which is PyTorch's, it is not.
        """
        if self._programs.running is None:
            return 0.0
        kept = self._kept_at(values)
        if kept.radii is None:
            point = np.array([values], dtype=float)[:, self._programs.used]
            kept.radii = self._programs.running(point, self._format.bits)[0].tolist()
        radius: float = kept.radii[self._slots[position]]
        return radius if math.isfinite(radius) else 0.0

    def _sharpened(self, position: int, values: Sequence[float], true: arb, bound: float) -> tuple[arb, bool]:
        """The enclosure at rising precision, until it is far narrower than the bound and than an ulp."""
        fmt = self._format
        precision = self._first_precision
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
            true = self._sharper(values, precision)[self._slots[position]]

    def _sharper(self, values: Sequence[float], precision: int) -> list[arb]:
        """The reference at an input and a higher precision."""
        known = self._kept_at(values).sharper
        if precision not in known:
            known[precision] = self._exact(values, precision, Selections())
        return known[precision]

    def discrepancy(self, values: Sequence[float]) -> float:
        """How far the executed formulas are from the reference at an input, in units of the bound; at most 2**100."""
        ours = self._executed_at(values)
        true = self._exact(values, _EXECUTED_BITS, Selections())
        narrow = self._bounded(values, Selections())
        worst = 0.0
        for mine, slot in zip(ours, self._slots, strict=True):
            gap, ball = (mine - true[slot]).abs_lower(), narrow[slot]
            if gap.is_finite() and ball.is_finite():
                worst = max(worst, float(gap) / max(float(ball.rad()), self._format.smallest))
        return min(worst, 2.0**100)

    def _executed_at(self, values: Sequence[float], precision: int = _EXECUTED_BITS) -> list[arb]:
        """The executed formulas, whatever their rounding."""
        if self._executed_exact is None:
            self._executed_exact = compile_graph(self._executed, self._variables, EXACT)
        return self._executed_exact(list(map(arb, values)), precision, Selections())

    def formulas_part(self, position: int, values: Sequence[float]) -> bool:
        """Whether the executed formula certainly is another one than the reference, by however little.

        At an input, and at numbers that are in no relation to each other: at x = 0 much is equal.
        """
        executed = compile_graph([self._executed[position]], self._variables, EXACT)
        unrelated = [0.7310585 + 0.1370517 * i for i in range(len(values))]
        for numbers in (unrelated, values):
            (ours,) = executed([arb(v) for v in numbers], _EXECUTED_BITS, Selections())
            if not ours.overlaps(self._exact(numbers, _EXECUTED_BITS, Selections())[self._slots[position]]):
                return True
        return False

    def _executed_rounding(self, position: int, values: Sequence[float], true: arb) -> tuple[bool, float]:
        """Whether the executed formula is another one at this input, and how far rounding can take it."""
        fmt = self._format
        exact, ball = (found[position] for found in self._executed_both(values))
        precision = _EXECUTED_BITS
        while not exact.is_finite() and precision < _MOST_BITS:  # 1 - sigmoid(512) is 0 to 700 bits
            precision *= 2
            exact = self._executed_at(values, precision)[position]
        if not exact.is_finite():
            return True, math.inf
        gap = (exact - true).abs_lower()
        radius = float(ball.rad()) if ball.is_finite() else math.inf
        # PyTorch's constants are rounded: a formula whose value is off by less than an ulp is not another one.
        allowed = max(fmt.ulp(float(true.mid())), 0.0 if math.isinf(radius) else radius * 2.0**-10)
        return float(gap) > allowed, radius

    def _executed_both(self, values: Sequence[float]) -> tuple[list[arb], list[arb]]:
        """The executed formulas at an input, exactly and with their rounding."""
        kept = self._kept_at(values)
        if kept.executed is None:
            fmt = self._format
            if self._rounding is None:
                self._rounding = compile_graph(self._executed, self._variables, fmt.careful)
            rounded = self._rounding(list(map(arb, values)), fmt.bits, Selections())
            kept.executed = self._executed_at(values), rounded
        return kept.executed

    def _kept_at(self, values: Sequence[float]) -> _Kept:
        if self._kept.values is not values:
            key = tuple(values)
            if self._kept.values != key:
                self._kept = _Kept(key)
        return self._kept

    # -- kinks -----------------------------------------------------------------------------------------------------

    def _judge_kink(
        self, values: Sequence[float], computed: Sequence[float], at: set[int], judgement: Judgement
    ) -> None:
        """Judges by the hull of the adjacent branches: every selector on its boundary, both ways."""
        judgement.kink = True
        indices = sorted(at)
        if self._second_order or len(indices) > _MOST_FORCED:
            # Where the first derivative jumps there is no second one: each term may stand on a side of its own.
            forced = [dict.fromkeys(indices, UNIT)]
        else:
            forced = [dict(zip(indices, v, strict=True)) for v in product((ZERO, ONE), repeat=len(indices))]
        branches = [self._exact(values, self._first_precision, Selections(f)) for f in forced]
        bounds = [self._bounded(values, Selections(f)) for f in forced]
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
                self._settle(position, number, values, sides[0], max(radii, default=0.0), judgement)
                continue
            differs, executed_bound = self._executed_rounding(position, values, hull)
            if (
                self._format.is_narrow
                and not differs
                and not all(self._in_range(values, Selections(f))[slot].is_finite() for f in forced)
            ):
                judgement.undefined += 1
                continue
            if not differs and outside <= RADII * executed_bound and math.isfinite(number):
                continue
            judgement.failures[position] = Verdict(Outcome.WRONG, hull, outside, slack / RADII, at_kink=True)

    def _outside(self, number: float, lowest: arb, highest: arb) -> float:
        """How far a number is from an interval; an overflow is inside of what is beyond the format's range."""
        if math.isnan(number):
            return math.inf
        if math.isinf(number):
            beyond = highest >= self._format.largest if number > 0 else lowest <= -self._format.largest
            return 0.0 if beyond else math.inf
        return max(0.0, float((lowest - number).upper()), float((number - highest).upper()))


def holds(guards: Program, expected: Sequence[bool], values: Sequence[float], precision: int) -> bool:
    """Whether an input certainly takes the path that these guards describe."""
    selections = Selections()
    found = guards([arb(v) for v in values], precision, selections)
    if selections.undecided:
        return False
    return all(value == (1 if want else 0) for value, want in zip(found, expected, strict=True))
