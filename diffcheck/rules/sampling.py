"""Rules of grid sampling: values between the points of a grid, at places that may be differentiated themselves.

Which points a place lies between is read off the real numbers, and recorded: the kernels round it in the grid's dtype,
and 1.9993 is 2 in bfloat16. On an axis, a place gives positions,
weights and the weights' derivatives; everything else is the same for any number of axes and any weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as every
from typing import Any, Final

import numpy as np

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import (
    HALF,
    MINUS_ONE,
    ONE,
    ZERO,
    Expr,
    constant,
    greater,
    product,
    symbols,
    total,
    unfolded,
)
from diffcheck.algebra.expr import number as fraction
from diffcheck.rules.registry import Array, Decisions, Rule, filled, guarded, in_numpy
from diffcheck.rules.windows import Sums

_LINEAR, _NEAREST = 0, 1
_BORDER, _REFLECTION = 1, 2
_CUBIC: Final = constant(-3) / constant(4)
"""The free coefficient of the cubic kernel."""

_FEW_DIGITS: Final = 64
"""Places computed of fractions with such denominators are exact in every format."""

Tap = tuple[int, Expr, Expr]
"""A position on an axis (possibly outside of it), its weight, and the weight's derivative by the grid's number."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A coordinate: its expression, its real value, and its derivative by the grid's number."""

    at: Expr
    real: float
    slope: Expr


@dataclass(frozen=True, slots=True)
class _Sampler:
    """One call: how places are found and what stands between points."""

    decisions: Decisions
    mode: int
    padding: int
    align_corners: bool

    def reals(self, numbers: Any, size: int) -> Any:
        """The places on an axis that numbers of the grid name, in its dtype: what the kernel rounds them to."""
        if self.align_corners:
            return in_numpy((numbers + 1) / 2 * (size - 1))
        return in_numpy(((numbers + 1) * size - 1) / 2)

    def taps(self, number: Expr, real: float, size: int) -> list[Tap]:
        """The positions on an axis that a number of the grid names, with weights; `real` is its place."""
        place = self._unnormalized(_as_computed_with(number), real, size)
        if self.mode not in (_LINEAR, _NEAREST):
            return self._cubic(place, size)
        place = self._inside(place, size)
        if self.mode == _NEAREST:
            return [(self._nearest(place), ONE, ZERO)]
        first = self._floor(place)
        share = place.at - constant(first)
        return [(first, ONE - share, -place.slope), (first + 1, share, place.slope)]

    def _unnormalized(self, number: Expr, real: float, size: int) -> _Place:
        if self.align_corners:
            scale = HALF * constant(size - 1)
            return _Place((number + ONE) * scale, real, scale)
        n = constant(size)
        return _Place(((number + ONE) * n - ONE) * HALF, real, n * HALF)

    def _inside(self, place: _Place, size: int) -> _Place:
        if self.padding == _REFLECTION:
            place = self._reflected(place, size)
        if self.padding in (_BORDER, _REFLECTION):
            return self._clipped(place, size)
        return place

    def _clipped(self, place: _Place, size: int) -> _Place:
        if not self._decided(greater(place.at, ZERO), place.real > 0):
            return _Place(ZERO, 0.0, ZERO)
        last = constant(size - 1)
        if not self._decided(greater(last, place.at), place.real < size - 1):
            return _Place(last, float(size - 1), ZERO)
        return place

    def _reflected(self, place: _Place, size: int) -> _Place:
        low, high = (0.0, size - 1.0) if self.align_corners else (-0.5, size - 0.5)
        if low == high:
            return _Place(ZERO, 0.0, ZERO)
        start, span = scalar(low), scalar(high - low)
        if self._decided(greater(start, place.at), place.real < low):
            distance = _Place(start - place.at, low - place.real, -place.slope)
        else:
            distance = _Place(place.at - start, place.real - low, place.slope)
        turns = math.floor(distance.real / (high - low))
        self._decided(greater(constant(turns) * span, distance.at), value=False)
        self._decided(greater(constant(turns + 1) * span, distance.at), value=True)
        rest = distance.at - constant(turns) * span
        real = distance.real - turns * (high - low)
        if turns % 2 == 0:
            return _Place(rest + start, real + low, distance.slope)
        return _Place(span - rest + start, high - low - real + low, -distance.slope)

    def _floor(self, place: _Place) -> int:
        first = math.floor(place.real)
        self._decided(greater(constant(first), place.at), value=False)
        self._decided(greater(constant(first + 1), place.at), value=True)
        return first

    def _nearest(self, place: _Place) -> int:
        best = round(place.real)
        self._decided(greater(constant(best) - HALF, place.at), value=False)
        self._decided(greater(place.at, constant(best) + HALF), value=False)
        return best

    def _cubic(self, place: _Place, size: int) -> list[Tap]:
        first = self._floor(place)
        share = place.at - constant(first)
        a, one = _CUBIC, ONE
        two, three, four, five, eight = (constant(n) for n in (2, 3, 4, 5, 8))

        def near(x: Expr) -> tuple[Expr, Expr]:
            value = ((a + two) * x - (a + three)) * x * x + one
            return value, (three * (a + two) * x - two * (a + three)) * x

        def far(x: Expr) -> tuple[Expr, Expr]:
            value = ((a * x - five * a) * x + eight * a) * x - four * a
            return value, (three * a * x - constant(10) * a) * x + eight * a

        kernels = (far(share + one), near(share), near(one - share), far(two - share))
        signs = (ONE, ONE, MINUS_ONE, MINUS_ONE)
        found = []
        for k, ((value, slope), sign) in enumerate(zip(kernels, signs, strict=True)):
            # Each of the four points is brought inside by itself; that does not depend on the place.
            point = float(first - 1 + k)
            inside = self._inside(_Place(constant(int(point)), point, ZERO), size)
            found.append((int(inside.real), value, sign * slope * place.slope))
        return found

    def _decided(self, selector: Expr, value: bool) -> bool:
        if symbols([selector]):  # where a constant of the grid lies is no condition
            self.decisions.record(selector, value)
        return value


def _as_computed_with(number: Expr) -> Expr:
    """A number of the grid; a constant one with the rounding of what is computed of it, unless it has few digits."""
    value = fraction(number)
    return number if value is not None and value.denominator <= _FEW_DIGITS else unfolded(number)


def _located(
    sampler: _Sampler, x: Array, grid: Array, numbers: Any
) -> list[tuple[tuple[int, ...], list[tuple[tuple[int, ...], list[Tap]]]]]:
    """For every place of the grid: the points around it that lie inside, each with its taps, one per axis."""
    sizes = x.shape[2:]
    numbers = numbers.detach()
    # The grid's last axis runs from the array's last axis to its first.
    reals = [sampler.reals(numbers[..., left], size) for left, size in enumerate(reversed(sizes))]
    found = []
    for at in np.ndindex(*grid.shape[:-1]):
        axes = [
            sampler.taps(grid.item(*at, left), float(reals[left][at]), size)
            for left, size in zip(reversed(range(len(sizes))), sizes, strict=True)
        ]
        points = [
            (tuple(i for i, _, _ in taps), list(taps))
            for taps in every(*axes)
            if all(0 <= i < n for (i, _, _), n in zip(taps, sizes, strict=True))
        ]
        found.append((at, points))
    return found


def grid_sample(decisions: Decisions, x: Array, grid: Array, mode: int, padding: int, align_corners: bool) -> Array:
    """The weighted sum of the points around every place."""
    sampler = _Sampler(decisions, mode, padding, align_corners)
    result = filled((x.shape[0], x.shape[1], *grid.shape[1:-1]), ZERO)
    for (batch, *at), points in _located(sampler, x, grid, decisions.arguments[1]):
        for channel in range(x.shape[1]):
            result[(batch, channel, *at)] = total(
                x.item(batch, channel, *point) * product(w for _, w, _ in taps) for point, taps in points
            )
    return result


def grid_sample_backward(
    decisions: Decisions,
    g: Array,
    x: Array,
    grid: Array,
    mode: int,
    padding: int,
    align_corners: bool,
    mask: Sequence[bool],
) -> tuple[Array | None, Array | None]:
    """The gradients of the values and of the places."""
    sampler = _Sampler(decisions, mode, padding, align_corners)
    by_value = Sums(x.shape)
    by_place = Sums(grid.shape)
    for (batch, *at), points in _located(sampler, x, grid, decisions.arguments[2]):
        for channel in range(x.shape[1]):
            cotangent = g.item(batch, channel, *at)
            for point, taps in points:
                by_value.add((batch, channel, *point), cotangent * product(w for _, w, _ in taps))
                for axis in range(len(taps)):
                    slope = product(s if k == axis else w for k, (_, w, s) in enumerate(taps))
                    term = x.item(batch, channel, *point) * slope * cotangent
                    by_place.add((batch, *at, len(taps) - 1 - axis), term)
    return by_value.result() if mask[0] else None, by_place.result() if mask[1] else None


RULES: Final[dict[str, Rule]] = {
    "aten.grid_sampler_2d": guarded(grid_sample),
    "aten.grid_sampler_2d_backward": guarded(grid_sample_backward),
    "aten.grid_sampler_3d": guarded(grid_sample),
    "aten.grid_sampler_3d_backward": guarded(grid_sample_backward),
}
