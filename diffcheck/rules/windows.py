"""Rules of operations that slide a window over the last axes: convolution and pooling, in any number of dimensions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product as every
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from diffcheck.algebra.expr import ZERO, Expr, constant, divide, total
from diffcheck.rules.reduction import exact
from diffcheck.rules.registry import Array, Decisions, Rule, array, elements, filled, guarded, integers, sum_over

Index = tuple[int, ...]


class Geometry(NamedTuple):
    """How windows lie on the axes that they slide over; each field has an entry per axis."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]

    def reached(self, window: Index, tap: Index) -> Index:
        """Where a tap of a window lies; possibly outside."""
        return tuple(w * s - p + t * d for w, t, s, p, d in zip(window, tap, *self, strict=True))

    def taps(
        self, windows: Sequence[int], size: Sequence[int], extent: Sequence[int]
    ) -> Iterator[tuple[Index, Index, Index]]:
        """Every window, tap of it, and the place inside the extent that the tap lies on."""
        for window in np.ndindex(*windows):
            for tap in np.ndindex(*size):
                place = self.reached(window, tap)
                if all(0 <= i < n for i, n in zip(place, extent, strict=True)):
                    yield window, tap, place


def _per_axis(value: Any, axes: int, default: Any = None) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value) or default
    return tuple(values) * (axes if len(values) == 1 else 1)


class Sums:
    """An array that is summed up term by term."""

    def __init__(self, shape: Sequence[int]) -> None:
        self._shape = tuple(shape)
        self._terms: dict[Index, list[Expr]] = defaultdict(list)

    def add(self, index: Index, term: Expr) -> None:
        """Adds a term to one element."""
        self._terms[index].append(term)

    def result(self) -> Array:
        """All the sums."""
        return elements((total(self._terms.get(i, ())) for i in np.ndindex(*self._shape)), self._shape)


# ---------------------------------------------------------------------------------------------------------------------
# Convolution
# ---------------------------------------------------------------------------------------------------------------------


def _links(
    inputs: Index, outputs: Index, weights: Index, geometry: Geometry, transposed: bool, groups: int
) -> Iterator[tuple[Index, Index, Index]]:
    """Every input, weight and output element that convolution multiplies: output += input · weight."""
    # A transposed convolution is a convolution in which input and output have changed places.
    narrow, wide = (inputs, outputs) if transposed else (outputs, inputs)
    narrow_per_group, wide_per_group = narrow[1] // groups, wide[1] // groups
    for window, tap, place in geometry.taps(narrow[2:], weights[2:], wide[2:]):
        for batch, group in every(range(inputs[0]), range(groups)):
            for i, j in every(range(narrow_per_group), range(wide_per_group)):
                at = (batch, group * narrow_per_group + i, *window)
                on = (batch, group * wide_per_group + j, *place)
                weight = (group * narrow_per_group + i, j, *tap)
                yield (at, weight, on) if transposed else (on, weight, at)


def convolution(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Array:
    """The sum over a window of input times weight, and the bias."""
    axes = x.ndim - 2
    stride, padding, dilation, extra = (_per_axis(v, axes) for v in (stride, padding, dilation, output_padding))
    size = weight.shape[2:]
    lengths = [
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1 if transposed else (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, s, p, d, k, e in zip(x.shape[2:], stride, padding, dilation, size, extra, strict=True)
    ]
    shape = (x.shape[0], weight.shape[1] * groups if transposed else weight.shape[0], *lengths)
    sums = Sums(shape)
    for i, w, o in _links(x.shape, shape, weight.shape, Geometry(stride, padding, dilation), transposed, groups):
        sums.add(o, x[i] * weight[w])
    if bias is not None:
        for o in np.ndindex(*shape):
            sums.add(o, bias[o[1]])
    return sums.result()


def convolution_backward(
    g: Array,
    x: Array,
    weight: Array,
    _bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    _output_padding: Sequence[int],
    groups: int,
    mask: Sequence[bool],
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of the input, the weight and the bias."""
    geometry = Geometry(*(_per_axis(v, x.ndim - 2) for v in (stride, padding, dilation)))
    by_input, by_weight = Sums(x.shape), Sums(weight.shape)
    for i, w, o in _links(x.shape, g.shape, weight.shape, geometry, transposed, groups):
        by_input.add(i, g[o] * weight[w])
        by_weight.add(w, g[o] * x[i])
    by_bias = sum_over(g, [a for a in range(g.ndim) if a != 1])
    return by_input.result() if mask[0] else None, by_weight.result() if mask[1] else None, by_bias if mask[2] else None


# ---------------------------------------------------------------------------------------------------------------------
# Pooling
# ---------------------------------------------------------------------------------------------------------------------


def _pooled_length(n: int, size: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    room = n + 2 * padding - dilation * (size - 1) - 1
    length = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    # The last window must begin inside the input or its left padding.
    return length - 1 if ceil_mode and (length - 1) * stride >= n + padding else length


class Pooling:
    """The windows of one pooling operation, over the last axes of an array."""

    def __init__(
        self, extent: Index, size: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False, dilation: Any = 1
    ) -> None:
        axes = len(extent)
        self.extent, self.size = extent, _per_axis(size, axes)
        self.geometry = Geometry(
            _per_axis(stride, axes, self.size), _per_axis(padding, axes), _per_axis(dilation, axes)
        )
        self.windows = tuple(
            _pooled_length(*row, ceil_mode) for row in zip(extent, self.size, *self.geometry, strict=True)
        )

    def members(self) -> dict[Index, list[Index]]:
        """The places in each window."""
        result: dict[Index, list[Index]] = {window: [] for window in np.ndindex(*self.windows)}
        for window, _, place in self.geometry.taps(self.windows, self.size, self.extent):
            result[window].append(place)
        return result

    def padded_count(self, window: Index) -> int:
        """The window's size where it lies on the input and its padding; beyond those nothing counts."""
        starts = self.geometry.reached(window, (0,) * len(window))
        return prod(
            min(start + k, n + p) - start
            for start, k, n, p in zip(starts, self.size, self.extent, self.geometry.padding, strict=True)
        )


def _divisors(pooling: Pooling, count_include_pad: bool, divisor: int | None) -> dict[Index, Expr]:
    return {
        window: constant(divisor or (pooling.padded_count(window) if count_include_pad else len(places)))
        for window, places in pooling.members().items()
    }


def _average_pool(axes: int) -> Rule:
    def apply(
        x: Array,
        size: Any,
        stride: Any = (),
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor: int | None = None,
    ) -> Array:
        pooling = Pooling(x.shape[-axes:], size, stride, padding, ceil_mode)
        divisors, members = _divisors(pooling, count_include_pad, divisor), pooling.members()
        lead = x.shape[:-axes]
        return elements(
            (
                divide(total(x.item(*outer, *place) for place in places), divisors[window])
                for outer in np.ndindex(*lead)
                for window, places in members.items()
            ),
            lead + pooling.windows,
        )

    return array(apply)


def _average_pool_backward(axes: int) -> Rule:
    def apply(
        g: Array,
        x: Array,
        size: Any,
        stride: Any,
        padding: Any,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor: int | None,
    ) -> Array:
        pooling = Pooling(x.shape[-axes:], size, stride, padding, ceil_mode)
        divisors, sums = _divisors(pooling, count_include_pad, divisor), Sums(x.shape)
        for outer in np.ndindex(*x.shape[:-axes]):
            for window, places in pooling.members().items():
                for place in places:
                    sums.add(outer + place, divide(g.item(*outer, *window), divisors[window]))
        return sums.result()

    return array(apply)


def _max_pool(axes: int) -> Rule:
    def apply(
        decisions: Decisions,
        x: Array,
        size: Any,
        stride: Any = (),
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> tuple[Array, Array]:
        pooling = Pooling(x.shape[-axes:], size, stride, padding, ceil_mode, dilation)
        chosen = exact(decisions.result[1])
        result = filled(chosen.shape, ZERO)
        for (window, places), outer in every(pooling.members().items(), np.ndindex(*x.shape[:-axes])):
            best = outer + unravelled(chosen.item(*outer, *window), pooling.extent)
            result[outer + window] = x[best]
            for place in places:
                if outer + place != best:
                    decisions.ordered([x.item(*outer, *place), x.item(*best)])
        return result, chosen

    return guarded(apply)


def unravelled(place: Expr, extent: Index) -> Index:
    """The index that a place in the flattened array stands for."""
    flat = integers(np.array([place], dtype=object), "aten.max_pool")
    return tuple(int(i) for i in np.unravel_index(int(flat[0]), extent))


def max_pool_backward(axes: int) -> Rule:
    """Every cotangent added where its maximum stood; the last argument says where."""

    def apply(g: Array, x: Array, *options: Any) -> Array:
        chosen, sums = options[-1], Sums(x.shape)
        for at in np.ndindex(*g.shape):
            sums.add(at[:-axes] + unravelled(chosen.item(*at), x.shape[-axes:]), g.item(*at))
        return sums.result()

    return array(apply)


RULES: Final[dict[str, Rule]] = {
    "aten.convolution": array(convolution),
    "aten.convolution_backward": array(convolution_backward),
    "aten.avg_pool2d": _average_pool(2),
    "aten.avg_pool2d_backward": _average_pool_backward(2),
    "aten.avg_pool3d": _average_pool(3),
    "aten.avg_pool3d_backward": _average_pool_backward(3),
    "aten.max_pool2d_with_indices": _max_pool(2),
    "aten.max_pool2d_with_indices_backward": max_pool_backward(2),
    "aten.max_pool3d_with_indices": _max_pool(3),
    "aten.max_pool3d_with_indices_backward": max_pool_backward(3),
}
