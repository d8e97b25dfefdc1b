"""Rules of operations that answer with whole numbers and truth values: comparisons as a whole, places, bins, classes.

An answer is either a sum of selectors, which is decided when somebody needs the number (`trace.deciding`), or the
kernel's own with what it rests on put on record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import numpy as np

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import (
    ONE,
    ZERO,
    Expr,
    constant,
    equal,
    greater,
    greater_equal,
    logical_and,
    logical_not,
    logical_or,
    product,
    total,
)
from diffcheck.errors import Unsupported
from diffcheck.rules.pointwise import absolute, is_infinite, is_nan, largest, smallest
from diffcheck.rules.reduction import exact
from diffcheck.rules.registry import (
    Array,
    Decisions,
    Rule,
    array,
    elements,
    elementwise,
    filled,
    guarded,
    in_numpy,
    integers,
)


def close(x: Expr, y: Expr, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Expr:
    """[|x - y| ≤ atol + rtol · |y|], infinities and NaN as they are."""
    if is_nan(x) is ONE or is_nan(y) is ONE:
        return ONE if equal_nan and x is y else ZERO
    if is_infinite(x) is ONE or is_infinite(y) is ONE:
        return equal(x, y)
    within = greater_equal(scalar(atol) + scalar(rtol) * absolute(y), absolute(x - y))
    return logical_or(equal(x, y), within)


def all_of(selectors: Array) -> Array:
    """Whether all are 1, as an array without axes."""
    return elements([product(selectors.flat)], ())


def any_of(selectors: Array) -> Array:
    """Whether one is 1, as an array without axes."""
    return elements([logical_not(product(map(logical_not, selectors.flat)))], ())


def same(x: Array, y: Array) -> Array:
    """Whether two tensors have the same shape and entries."""
    return all_of(elementwise(equal, x, y)) if x.shape == y.shape else filled((), ZERO)


# ---------------------------------------------------------------------------------------------------------------------
# Places in an order, and bins
# ---------------------------------------------------------------------------------------------------------------------


def place_in(x: Expr, boundaries: Sequence[Expr], *, right: bool) -> Expr:
    """How many boundaries are below x; with `right`, or equal to it."""
    below = greater_equal if right else greater
    return total(below(x, boundary) for boundary in boundaries)


def bucketize(x: Any, boundaries: Array, *, right: bool = False, **_: Any) -> Array:
    """The place of every element among boundaries that rise."""
    row = list(boundaries.flat)
    return elementwise(lambda e: place_in(e, row, right=right), x)


def searchsorted(
    boundaries: Array, x: Any, *, right: bool = False, side: str | None = None, sorter: Array | None = None, **_: Any
) -> Array:
    """The place of every element in its row of boundaries, which `sorter` brings into order."""
    if sorter is not None:
        boundaries = np.take_along_axis(boundaries, integers(sorter, "aten.searchsorted"), -1)
    right = right or side == "right"
    if boundaries.ndim == 1:
        return bucketize(x, boundaries, right=right)
    rows = [
        [place_in(e, list(boundaries[index]), right=right) for e in x[index]] for index in np.ndindex(*x.shape[:-1])
    ]
    return elements((e for row in rows for e in row), x.shape)


def counts_of_bins(
    decisions: Decisions, x: Array, bins: int = 100, low: float = 0.0, high: float = 0.0
) -> tuple[Array, Array]:
    """How many elements are in each of some bins of one width, and between which elements' values these lie.

    The kernel rounds an element's place: which bin that is, is read off the real numbers, and recorded.
    """
    reals = decisions.arguments[0].detach().reshape(-1)
    start, stop = scalar(low), scalar(high)
    if low == high and x.size:
        start, stop = smallest(list(x.flat)), largest(list(x.flat))
        low, high = float(reals.min()), float(reals.max())
        if low == high:
            raise Unsupported("aten.histc", "all elements are equal, and so are the ends of the bins")
    places = ((reals - low) * (bins / (high - low))).long().clamp(max=bins - 1).tolist()
    counts = [0] * bins
    width = (stop - start) / constant(bins)
    for e, real, place in zip(x.flat, reals.tolist(), places, strict=True):
        inside = low <= real <= high
        decisions.record(logical_and(greater_equal(e, start), greater_equal(stop, e)), inside)
        if inside:
            counts[place] += 1
            decisions.record(greater(start + constant(place) * width, e), False)
            if place < bins - 1:
                decisions.record(greater(start + constant(place + 1) * width, e), True)
    if counts != [int(c) for c in decisions.result.detach().reshape(-1).tolist()]:
        raise Unsupported("aten.histc", "an element is within rounding of the end of a bin")
    return elements(map(constant, counts), (bins,)), elements(
        (start + constant(i) * width for i in range(bins + 1)), (bins + 1,)
    )


def histogram(
    decisions: Decisions,
    x: Array,
    bins: int = 100,
    *,
    range: Sequence[float] | None = None,  # noqa: A002 - PyTorch's name
    weight: Array | None = None,
    density: bool = False,
) -> tuple[Array, Array]:
    """The same, and the ends of the bins."""
    if weight is not None or density:
        raise Unsupported("aten.histogram", "it weighs what it counts")
    return counts_of_bins(replace(decisions, result=decisions.result[0]), x, bins, *(range or (0.0, 0.0)))


def bincount(x: Array, weights: Array | None = None, minlength: int = 0) -> Array:
    """How often every number occurs, or the sum of the weights where it does."""
    places = [int(i) for i in integers(x, "aten.bincount")]
    received: list[list[Expr]] = [[] for _ in range(max([minlength, *(i + 1 for i in places)]))]
    for i, weight in zip(places, filled(x.shape, ONE) if weights is None else weights, strict=True):
        received[i].append(weight)
    return elements(map(total, received), (len(received),))


# ---------------------------------------------------------------------------------------------------------------------
# Classes of equal elements: the kernel's are followed, and what they rest on is recorded
# ---------------------------------------------------------------------------------------------------------------------


def _rely_on_classes(decisions: Decisions, x: Array, reals: Any, *, ordered: bool) -> None:
    """Relies on which neighbours of a row are equal; `ordered`: in the order of the values, which is relied on too."""
    order = np.argsort(reals, kind="stable") if ordered else np.arange(len(reals))
    for i, j in pairwise(order.tolist()):
        decisions.record(equal(x[i], x[j]), bool(reals[i] == reals[j]))
        if ordered and reals[i] != reals[j]:
            decisions.ordered([x[i], x[j]])


def _classes(
    decisions: Decisions, x: Array, dim: int | None, results: tuple[Any, Any, Any], *, ordered: bool
) -> tuple[Array, Array, Array]:
    """The distinct slices along an axis (or elements), where each one went, and how many did."""
    values, where_to, counts = (r.detach() for r in results)
    reals = in_numpy(decisions.arguments[0])
    rows = x.reshape(1, -1) if dim is None else np.moveaxis(x, dim, -1).reshape(-1, x.shape[dim])
    their = reals.reshape(1, -1) if dim is None else np.moveaxis(reals, dim, -1).reshape(-1, x.shape[dim])
    for row, real in zip(rows, their, strict=True):
        _rely_on_classes(decisions, row, real, ordered=ordered)
    axis = 0 if dim is None else dim
    along = x.reshape(-1) if dim is None else x
    kept = np.unique(_class_of_each(their, ordered=ordered), return_index=True)[1]
    return np.take(along, kept, axis).reshape(tuple(values.shape)), exact(where_to), exact(counts)


def _class_of_each(rows: Any, *, ordered: bool) -> Any:
    """The number of the class that every column of some rows of reals is in."""
    columns = rows.T
    if ordered:
        return np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1)
    changes = (columns[1:] != columns[:-1]).any(axis=1)
    return np.concatenate([[0], np.cumsum(changes)]) if len(columns) else np.zeros(0, dtype=int)


RULES: Final[dict[str, Rule]] = {
    "aten.allclose": array(
        lambda x, y, *how, **named: all_of(elementwise(lambda a, b: close(a, b, *how, **named), x, y))
    ),
    "aten.equal": array(same),
    "aten._is_all_true": array(all_of),
    "aten._is_any_true": array(any_of),
    "aten.searchsorted": array(searchsorted),
    "aten.bucketize": array(bucketize),
    "aten.histc": guarded(lambda *args: counts_of_bins(*args)[0]),
    "aten.histogram.bin_ct": guarded(histogram),
    "aten.bincount": array(bincount),
    "aten._unique": guarded(lambda d, x, *_: _classes(d, x, None, (*d.result, d.result[1]), ordered=True)[:2]),
    "aten._unique2": guarded(lambda d, x, *_: _classes(d, x, None, d.result, ordered=True)),
    "aten.unique_dim": guarded(lambda d, x, dim, *_: _classes(d, x, dim, d.result, ordered=True)),
    "aten.unique_consecutive": guarded(
        lambda d, x, *o: _classes(d, x, o[2] if len(o) > 2 else None, d.result, ordered=False)
    ),
    "aten.unique_dim_consecutive": guarded(lambda d, x, dim, *_: _classes(d, x, dim, d.result, ordered=False)),
}
