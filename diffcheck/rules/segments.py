"""Rules of reductions over parts of an axis: segments, bags of embeddings, indexed reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import ONE, ZERO, Expr, constant, divide, equal, greater, product, total, where
from diffcheck.errors import Unsupported
from diffcheck.rules.indexing import REDUCTIONS, combined, positions_of, rows_at
from diffcheck.rules.pointwise import largest, smallest
from diffcheck.rules.reduction import exact
from diffcheck.rules.registry import Array, Decisions, Rule, array, elements, filled, guarded, integers

SUM, MEAN, MAX = 0, 1, 2
"""What PyTorch calls the modes of a bag."""


def index_reduce(x: Array, dim: int, which: Array, source: Array, how: str, *, include_self: bool = True) -> Array:
    """Combines whole slices with those that stand where an index says."""
    places = rows_at(x, dim, which, "aten.index_reduce")
    return combined(x, zip(places.flat, source.flat, strict=True), REDUCTIONS[how], include_self)


# ---------------------------------------------------------------------------------------------------------------------
# Segments
# ---------------------------------------------------------------------------------------------------------------------

_EMPTY: Final = {
    "sum": ZERO,
    "mean": constant(math.nan),
    "prod": ONE,
    "max": constant(-math.inf),
    "min": constant(math.inf),
}
"""What a segment without elements gives."""


def _segments(lead: tuple[int, ...], lengths: Array | None, offsets: Array | None) -> dict[tuple[int, ...], range]:
    """The elements of each segment: lengths or offsets may differ from one row to the next."""
    found = {}
    given = lengths if offsets is None else offsets
    numbers = integers(np.asarray(given), "aten.segment_reduce")
    for outer in np.ndindex(*lead):
        row = numbers[outer]
        bounds = np.concatenate([[0], np.cumsum(row)]) if offsets is None else row
        for k in range(len(bounds) - 1):
            found[*outer, k] = range(int(bounds[k]), int(bounds[k + 1]))
    return found


def segment_reduce(
    x: Array,
    how: str,
    *,
    lengths: Array | None = None,
    indices: Array | None = None,
    offsets: Array | None = None,
    axis: int = 0,
    initial: float | None = None,
    **_: Any,
) -> Array:
    """Each segment of an axis combined."""
    if indices is not None:
        raise Unsupported("aten.segment_reduce", "segments by indices")
    parts = _segments(x.shape[:axis], lengths, offsets)
    start = None if initial is None else scalar(initial)
    given = offsets if offsets is not None else lengths
    assert given is not None
    count = given.shape[axis] - (offsets is not None)
    rest = x.shape[axis + 1 :]
    result = filled((*x.shape[:axis], count, *rest), ZERO)
    for at, members in parts.items():
        for inner in np.ndindex(*rest):
            row = [x[(*at[:-1], i, *inner)] for i in members]
            result[(*at, *inner)] = _combined(how, row, start)
    return result


def _combined(how: str, row: list[Expr], start: Expr | None) -> Expr:
    if not row:
        return _EMPTY[how] if start is None else start
    begun = row if start is None else [start, *row]
    match how:
        case "sum":
            return total(begun)
        case "mean":
            return divide(total(begun), constant(len(row)))
        case "prod":
            return product(begun)
        case "max":
            return largest(begun)
        case _:
            return smallest(begun)


def segment_reduce_backward(
    g: Array,
    output: Array,
    x: Array,
    how: str,
    *,
    lengths: Array | None = None,
    offsets: Array | None = None,
    axis: int = 0,
    initial: float | None = None,
) -> Array:
    """The cotangent times what every element contributes."""
    result = filled(x.shape, ZERO)
    for at, members in _segments(x.shape[:axis], lengths, offsets).items():
        for inner in np.ndindex(*x.shape[axis + 1 :]):
            places = [(*at[:-1], i, *inner) for i in members]
            row = [x.item(*place) for place in places]
            start = ONE if initial is None else scalar(initial)
            parts = _contributions(how, g.item(*at, *inner), row, output.item(*at, *inner), start)
            for place, part in zip(places, parts, strict=True):
                result[place] = part
    return result


def _contributions(how: str, g: Expr, row: list[Expr], extreme: Expr, start: Expr) -> list[Expr]:
    """The cotangent times the derivative of a combination by each of its elements."""
    match how:
        case "sum":
            return [g] * len(row)
        case "mean":
            return [divide(g, constant(len(row)))] * len(row)
        case "prod":
            return [g * (start * product(row[:i] + row[i + 1 :])) for i in range(len(row))]
        case _:
            # The kernel shares positive cotangents among several extremes, and gives each of them a negative one whole.
            hits = [equal(e, extreme) for e in row]
            shared = where(greater(g, ZERO), g / total(hits), g)
            return [where(hit, shared, ZERO) for hit in hits]


# ---------------------------------------------------------------------------------------------------------------------
# Bags of embeddings
# ---------------------------------------------------------------------------------------------------------------------


def embedding_bag(
    decisions: Decisions,
    weight: Array,
    which: Array,
    offsets: Array,
    _by_frequency: bool = False,
    mode: int = SUM,
    _sparse: bool = False,
    factors: Array | None = None,
    include_last: bool = False,
    padding: int = -1,
) -> tuple[Array, ...]:
    """The sum, mean or maximum of the rows that each bag names; and what the backward kernels are told of the bags."""
    rows = integers(which, "aten._embedding_bag")
    starts = [int(i) for i in integers(offsets, "aten._embedding_bag")]
    ends = starts[1:] if include_last else [*starts[1:], len(rows)]
    result = filled((len(ends), weight.shape[1]), ZERO)
    chosen = decisions.result[3]
    for bag, (start, end) in enumerate(zip(starts, ends, strict=False)):
        members = [k for k in range(start, end) if rows[k] != padding]
        for column in range(weight.shape[1]):
            terms = [weight[rows[k], column] * (ONE if factors is None else factors[k]) for k in members]
            if mode == MAX and terms:
                best = weight[int(chosen[bag, column]), column]
                for term in terms:
                    decisions.ordered([term, best] if term is not best else [])
                result[bag, column] = best
            else:
                result[bag, column] = divide(total(terms), constant(len(terms) or 1)) if mode == MEAN else total(terms)
    return result, *(exact(part) for part in decisions.result[1:])


def _bags(offsets: Array | None, bag_of: Array, count: int, name: str) -> npt.NDArray[np.int64]:
    """Which bag each row that is looked up belongs to; kernels that add up at once leave it to be found out."""
    if offsets is None or bag_of.size:
        return integers(bag_of, name)
    found: npt.NDArray[np.int64] = np.searchsorted(integers(offsets, name), np.arange(count), side="right") - 1
    return found


def embedding_bag_backward(
    g: Array,
    which: Array,
    offsets: Array | None,
    bag_of: Array,
    sizes: Array,
    chosen: Array,
    rows: int,
    by_frequency: bool,
    mode: int,
    factors: Array | None,
    padding: int = -1,
) -> Array:
    """Every bag's cotangent added to its rows; of a maximum, to the rows that were chosen."""
    name = "aten._embedding_bag_dense_backward"
    result: dict[tuple[int, int], list[Expr]] = {}
    if mode == MAX:
        best = integers(chosen, name)
        for bag, column in np.ndindex(*g.shape):
            result.setdefault((int(best[bag, column]), column), []).append(g.item(bag, column))
    else:
        looked_up, counts = integers(which, name), integers(sizes, name)
        bags = _bags(offsets, bag_of, len(looked_up), name)
        for k, row in enumerate(looked_up):
            if row == padding:
                continue
            often = int((looked_up == row).sum()) if by_frequency else 1
            divisor = constant(often * (int(counts[bags[k]]) if mode == MEAN else 1))
            for column in range(g.shape[1]):
                term = g[bags[k], column] if factors is None else g[bags[k], column] * factors[k]
                result.setdefault((int(row), column), []).append(divide(term, divisor))
    shape = (rows, g.shape[1])
    return elements((total(result.get(index, ())) for index in np.ndindex(*shape)), shape)


def factors_backward(
    g: Array, weight: Array, which: Array, offsets: Array, bag_of: Array, _mode: int, padding: int = -1
) -> Array:
    """The inner product of every row that was looked up with its bag's cotangent."""
    name = "aten._embedding_bag_per_sample_weights_backward"
    rows = integers(which, name)
    bags = _bags(offsets, bag_of, len(rows), name)
    return elements(
        (
            ZERO if row == padding else total(a * b for a, b in zip(weight[row], g[bag], strict=True))
            for row, bag in zip(rows, bags, strict=True)
        ),
        (len(rows),),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Views written back
# ---------------------------------------------------------------------------------------------------------------------


def strided_scatter(
    decisions: Decisions, x: Array, source: Array, size: Sequence[int], stride: Sequence[int], offset: int | None = None
) -> Array:
    """A copy of the array, with a strided window on its memory written to."""
    if not decisions.arguments[0].is_contiguous():
        raise Unsupported("aten.as_strided_scatter", "strides on a tensor that is not contiguous")
    flat = positions_of(x).reshape(-1)
    places = np.lib.stride_tricks.as_strided(
        flat[(offset or 0) :], tuple(size), [s * flat.itemsize for s in stride], writeable=False
    )
    return combined(x, zip(places.flat, source.flat, strict=True))


RULES: Final[dict[str, Rule]] = {
    "aten.index_reduce": array(index_reduce),
    "aten.segment_reduce": array(segment_reduce),
    "aten._segment_reduce_backward": array(segment_reduce_backward),
    "aten._embedding_bag": guarded(embedding_bag),
    "aten._embedding_bag_forward_only": guarded(embedding_bag),
    "aten._embedding_bag_backward": array(
        lambda g, which, offsets, bag_of, sizes, chosen, rows, by_frequency, mode, _, *rest: embedding_bag_backward(
            g, which, offsets, bag_of, sizes, chosen, rows, by_frequency, mode, *rest
        )
    ),
    "aten._embedding_bag_dense_backward": array(lambda g, which, *rest: embedding_bag_backward(g, which, None, *rest)),
    "aten._embedding_bag_per_sample_weights_backward": array(factors_backward),
    "aten.as_strided_scatter": guarded(strided_scatter),
}
