"""Rules of linear operations that work on each axis by itself: interpolation, adaptive averages, padding at the edges.

On an axis, every output position is a weighted sum of input positions. Weights are computed as the kernels compute them
(aten/src/ATen/native/UpSample.h and cpu/UpSampleKernel.cpp): in float64 for float64, in float32 for every other dtype.
A weight is the difference of a place on the axis and a position, and has an error as large as the place's: beside it
stands how many units of rounding it may be off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product as every
from typing import Any, Final, TypeAlias

import numpy as np

from diffcheck.algebra.expr import ONE, Expr, constant, product, rounded
from diffcheck.rules.registry import Array, Decisions, Rule, array, guarded
from diffcheck.rules.windows import Sums

Taps: TypeAlias = list[list[tuple[int, Expr, float]]]
"""For every output position of an axis: input positions, their weights, and by how many units of rounding, relatively,
these may differ from the kernel's."""
Rounding: TypeAlias = Callable[[float], float]
"""To the numbers that a kernel computes weights with."""
_SLACK: Final = 4.0
"""An error of so many units is any operation's."""
_CUBIC: Final = -0.75
"""The free coefficient of the cubic kernel."""


def _links(taps: Sequence[Taps], bits: int) -> list[tuple[tuple[int, ...], tuple[int, ...], Callable[[Expr], Expr]]]:
    """Output place, input place and what the weights over all axes make of a number."""
    return [
        (out, tuple(i for i, _, _ in combination), _weighing(combination, bits))
        for out in np.ndindex(*(len(axis) for axis in taps))
        for combination in every(*(axis[i] for axis, i in zip(taps, out, strict=True)))
    ]


def _weighing(combination: Sequence[tuple[int, Expr, float]], bits: int) -> Callable[[Expr], Expr]:
    weight = product(w for _, w, _ in combination)
    doubt = math.fsum(d for _, _, d in combination)
    if doubt <= _SLACK:
        return lambda e: weight * e
    left = max(bits - math.ceil(math.log2(doubt)), 1)
    return lambda e: rounded(weight * e, left)


def resampled(x: Array, taps: Sequence[Taps], bits: int = 53) -> Array:
    """The weighted sums over the last axes; weights are computed with so many bits."""
    lead = x.shape[: x.ndim - len(taps)]
    sums = Sums(lead + tuple(len(axis) for axis in taps))
    links = _links(taps, bits)
    for outer in np.ndindex(*lead):
        for out, place, weighed in links:
            sums.add(outer + out, weighed(x.item(*outer, *place)))
    return sums.result()


def resampled_backward(g: Array, taps: Sequence[Taps], shape: Sequence[int], bits: int = 53) -> Array:
    """Every cotangent, weighted, added where it came from."""
    sums = Sums(shape)
    links = _links(taps, bits)
    for outer in np.ndindex(*g.shape[: g.ndim - len(taps)]):
        for out, place, weighed in links:
            sums.add(outer + place, weighed(g.item(*outer, *out)))
    return sums.result()


# ---------------------------------------------------------------------------------------------------------------------
# Interpolation
# ---------------------------------------------------------------------------------------------------------------------


def _ratio(inputs: int, outputs: int, align_corners: bool, scale: float | None) -> float:
    """How far apart, in input positions, neighbouring output positions are."""
    if align_corners:
        return (inputs - 1) / (outputs - 1) if outputs > 1 else 0.0
    return 1.0 / scale if scale is not None and scale > 0 else inputs / outputs


def _in_float32(value: float) -> float:
    return float(np.float32(value))


def nearest(inputs: int, outputs: int, _align: bool, scale: float | None, _: Rounding) -> Taps:
    """The input position below. The kernel's scale is a float32 in every precision."""
    ratio = np.float32(_ratio(inputs, outputs, False, scale))
    return [[(min(int(np.floor(np.float32(i) * ratio)), inputs - 1), ONE, 0.0)] for i in range(outputs)]


def nearest_exact(inputs: int, outputs: int, _align: bool, scale: float | None, _: Rounding) -> Taps:
    """The input position whose centre is nearest."""
    ratio = float(np.float32(_ratio(inputs, outputs, False, scale)))
    return [[(min(int(np.floor(np.float32((i + 0.5) * ratio))), inputs - 1), ONE, 0.0)] for i in range(outputs)]


def _tap(position: int, weight: float, place: float) -> tuple[int, Expr, float]:
    """A weight that is the difference of a place, in three operations, and a position."""
    return position, constant(weight), 3 * (abs(place) + 1) / abs(weight) if weight else 0.0


def linear(inputs: int, outputs: int, align_corners: bool, scale: float | None, real: Rounding) -> Taps:
    """Two neighbours, weighted by their distance."""
    if inputs == outputs:
        return [[(i, ONE, 0.0)] for i in range(outputs)]
    ratio = real(_ratio(inputs, outputs, align_corners, scale))
    found = []
    for i in range(outputs):
        place = real(ratio * i if align_corners else max(real(ratio * (i + 0.5)) - 0.5, 0.0))
        first = min(math.floor(place), inputs - 1)
        share = real(min(max(place - first, 0.0), 1.0))
        second = first + (first < inputs - 1)
        found.append([_tap(first, real(1.0 - share), place), _tap(second, share, place)])
    return found


def cubic(inputs: int, outputs: int, align_corners: bool, scale: float | None, real: Rounding) -> Taps:
    """Four neighbours, those outside replaced by the edge."""
    ratio = real(_ratio(inputs, outputs, align_corners, scale))

    def near(x: float) -> float:
        return ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1

    def far(x: float) -> float:
        return ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC

    found = []
    for i in range(outputs):
        place = real(ratio * i if align_corners else real(ratio * (i + 0.5)) - 0.5)
        first = min(math.floor(place), inputs - 1)
        share = real(min(max(place - first, 0.0), 1.0))
        weights = map(real, (far(share + 1.0), near(share), near(1.0 - share), far(2.0 - share)))
        slope = 2 * abs(place)  # of the kernel, at most
        found.append([_tap(min(max(first - 1 + k, 0), inputs - 1), w, slope) for k, w in enumerate(weights)])
    return found


def smoothed(inputs: int, outputs: int, align_corners: bool, scale: float | None, real: Rounding) -> Taps:
    """Linear with antialiasing: a triangle as wide as the distance of output positions."""
    ratio = real(_ratio(inputs, outputs, align_corners, scale))
    width = max(ratio, 1.0)
    narrowness = real(1.0 / width)
    found = []
    for i in range(outputs):
        centre = real(ratio * (i + 0.5))
        start = max(int(real(centre - width) + 0.5), 0)
        end = min(int(real(centre + width) + 0.5), inputs)
        distances = [real((real(j - centre) + 0.5) * narrowness) for j in range(start, end)]
        weights = [real(max(1.0 - abs(distance), 0.0)) for distance in distances]
        mass = 0.0
        for weight in weights:
            mass = real(mass + weight)
        spread = 2 * centre * narrowness / mass  # of the weight itself, and of the sum
        found.append([_tap(start + k, real(weight / mass), spread) for k, weight in enumerate(weights)])
    return found


Kernel = Callable[[int, int, bool, float | None, Rounding], Taps]


def _axes(
    decisions: Decisions,
    kernel: Kernel,
    inputs: Sequence[int],
    outputs: Sequence[int],
    rest: Sequence[Any],
    aligns: bool,
) -> list[Taps]:
    align, scales = (rest[0], rest[1:]) if aligns else (False, rest)
    scales = tuple(scales) or (None,) * len(outputs)
    real = float if _bits(decisions) == 53 else _in_float32
    return [kernel(n, m, align, s, real) for n, m, s in zip(inputs, outputs, scales, strict=True)]


def _bits(decisions: Decisions) -> int:
    """Of the numbers that weights are computed with."""
    return 53 if decisions.arguments[0].dtype.itemsize == 8 else 24


def _interpolation(kernel: Kernel, *, aligns: bool = True) -> Rule:
    def apply(decisions: Decisions, x: Array, outputs: Sequence[int], *rest: Any) -> Array:
        taps = _axes(decisions, kernel, x.shape[-len(outputs) :], outputs, rest, aligns)
        return resampled(x, taps, _bits(decisions))

    return guarded(apply)


def _interpolation_backward(kernel: Kernel, *, aligns: bool = True) -> Rule:
    def apply(decisions: Decisions, g: Array, outputs: Sequence[int], shape: Sequence[int], *rest: Any) -> Array:
        taps = _axes(decisions, kernel, shape[-len(outputs) :], outputs, rest, aligns)
        return resampled_backward(g, taps, shape, _bits(decisions))

    return guarded(apply)


def _both(name: str, kernel: Kernel, *, aligns: bool = True) -> dict[str, Rule]:
    return {
        f"aten.{name}.default": _interpolation(kernel, aligns=aligns),
        f"aten.{name}_backward": _interpolation_backward(kernel, aligns=aligns),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Averages and edges
# ---------------------------------------------------------------------------------------------------------------------


def adaptive(inputs: int, outputs: int) -> list[range]:
    """The input positions under each output position."""
    return [range(i * inputs // outputs, -(-(i + 1) * inputs // outputs)) for i in range(outputs)]


def _averages(inputs: Sequence[int], outputs: Sequence[int]) -> list[Taps]:
    return [
        [[(j, ONE / constant(len(window)), 0.0) for j in window] for window in adaptive(n, m)]
        for n, m in zip(inputs, outputs, strict=True)
    ]


def _adaptive_average(axes: int) -> dict[str, Rule]:
    def forward(x: Array, outputs: Sequence[int]) -> Array:
        return resampled(x, _averages(x.shape[-axes:], outputs))

    def backward(g: Array, x: Array) -> Array:
        return resampled_backward(g, _averages(x.shape[-axes:], g.shape[-axes:]), x.shape)

    return {
        f"aten._adaptive_avg_pool{axes}d": array(forward),
        f"aten._adaptive_avg_pool{axes}d_backward": array(backward),
    }


def replicated(i: int, size: int) -> int:
    """Outside is the edge."""
    return min(max(i, 0), size - 1)


def reflected(i: int, size: int) -> int:
    """Outside is the mirror image; the edge itself is not repeated."""
    i = abs(i)
    return 2 * (size - 1) - i if i >= size else i


def _edges(size: Sequence[int], widths: Sequence[int], inside: Callable[[int, int], int]) -> list[Taps]:
    pairs = list(zip(widths[::2], widths[1::2], strict=True))[::-1]
    return [
        [[(inside(i, n), ONE, 0.0)] for i in range(-before, n + after)]
        for n, (before, after) in zip(size, pairs, strict=True)
    ]


def _padding(name: str, axes: int, inside: Callable[[int, int], int]) -> dict[str, Rule]:
    def forward(x: Array, widths: Sequence[int]) -> Array:
        return resampled(x, _edges(x.shape[-axes:], widths, inside))

    def backward(g: Array, x: Array, widths: Sequence[int]) -> Array:
        return resampled_backward(g, _edges(x.shape[-axes:], widths, inside), x.shape)

    return {f"aten.{name}_pad{axes}d": array(forward), f"aten.{name}_pad{axes}d_backward": array(backward)}


RULES: Final[dict[str, Rule]] = {
    **_both("upsample_nearest1d", nearest, aligns=False),
    **_both("upsample_nearest2d", nearest, aligns=False),
    **_both("upsample_nearest3d", nearest, aligns=False),
    **_both("_upsample_nearest_exact1d", nearest_exact, aligns=False),
    **_both("_upsample_nearest_exact2d", nearest_exact, aligns=False),
    **_both("_upsample_nearest_exact3d", nearest_exact, aligns=False),
    **_both("upsample_linear1d", linear),
    **_both("upsample_bilinear2d", linear),
    **_both("upsample_trilinear3d", linear),
    **_both("upsample_bicubic2d", cubic),
    **_both("_upsample_bilinear2d_aa", smoothed),
    **_adaptive_average(2),
    **_adaptive_average(3),
    **_padding("replication", 1, replicated),
    **_padding("replication", 2, replicated),
    **_padding("replication", 3, replicated),
    **_padding("reflection", 1, reflected),
    **_padding("reflection", 2, reflected),
    **_padding("reflection", 3, reflected),
}
