"""Rules that read and write elements by index. Indices are numbers: they may not depend on the inputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import ZERO, Expr, constant, divide, product, total
from diffcheck.rules.pointwise import largest, smallest, truth
from diffcheck.rules.registry import Array, Decisions, Rule, array, elements, filled, guarded, in_numpy, integers, lift

Positions = npt.NDArray[np.int64]


def mean(values: list[Expr]) -> Expr:
    """The sum divided by the count."""
    return divide(total(values), constant(len(values)))


REDUCTIONS: Final[dict[str, Callable[[list[Expr]], Expr]]] = {
    "sum": total,
    "add": total,
    "prod": product,
    "multiply": product,
    "mean": mean,
    "amax": largest,
    "amin": smallest,
}


def positions_of(x: Array) -> Positions:
    """Every element's place in row-major order."""
    return np.arange(x.size).reshape(x.shape)


def combined(
    x: Array,
    writes: Iterable[tuple[Any, Expr]],
    combine: Callable[[list[Expr]], Expr] | None = None,
    include_self: bool = True,
) -> Array:
    """The array after elements were written to places; what is written to twice combines, or keeps the last."""
    received: dict[int, list[Expr]] = defaultdict(list)
    for place, value in writes:
        received[int(place)].append(value)
    result = x.copy()
    for place, values in received.items():
        before = [x.flat[place]] if include_self else []
        result.flat[place] = values[-1] if combine is None else combine(before + values)
    return result


def rows_at(x: Array, dim: int, index: Array, operation: str) -> Positions:
    """The places of the slices that an index vector names along one axis."""
    chosen = integers(index.reshape(-1), operation)
    return np.take(positions_of(x), chosen, axis=dim) if x.ndim else positions_of(x)


def entries_at(x: Array, dim: int, index: Array, operation: str) -> Positions:
    """The places that `gather` reads and `scatter` writes."""
    chosen, places = integers(index, operation), positions_of(x)
    if not x.ndim or not index.ndim or not index.size:
        return places.reshape(-1)[chosen]
    inside = tuple(slice(None) if a == dim % x.ndim else slice(n) for a, n in enumerate(index.shape))
    return np.take_along_axis(places[inside], chosen, dim)


def taken(x: Array, places: Positions) -> Array:
    """The elements at these places."""
    return elements((x.flat[p] for p in places.flat), places.shape)


def scatter(
    x: Array, dim: int, index: Array, source: Any, reduce: str | None = None, *, include_self: bool = True
) -> Array:
    """Writes the source's elements to indexed places, or combines them with what stands there."""
    places = entries_at(x, dim, index, "aten.scatter")
    if isinstance(source, np.ndarray):
        values = source[tuple(slice(n) for n in index.shape)] if source.ndim else source
    else:
        values = filled(places.shape, lift(source))
    combine = None if reduce is None else REDUCTIONS[reduce]
    return combined(x, zip(places.flat, values.flat, strict=True), combine, include_self)


def subscript(decisions: Decisions, indices: Sequence[Array | None]) -> tuple[Any, ...]:
    """What NumPy calls a tuple of index tensors. Masks become the indices of their true elements, on the record."""
    parts: list[Any] = []
    for shadow, real in zip(indices, decisions.arguments[1], strict=True):
        if shadow is None:
            parts.append(slice(None))
        elif real.dtype in (torch.bool, torch.uint8):
            parts.extend(decisions.decide(truth(shadow, real), in_numpy(real)).nonzero())
        else:
            parts.append(integers(shadow, "aten.index"))
    return tuple(parts)


def index(decisions: Decisions, x: Array, indices: Sequence[Array | None]) -> Array:
    """Advanced indexing."""
    return taken(x, np.asarray(positions_of(x)[subscript(decisions, indices)]))


def index_put(
    decisions: Decisions,
    x: Array,
    indices: Sequence[Array | None],
    values: Array,
    accumulate: bool = False,
    _unsafe: bool = False,
) -> Array:
    """Writes, or adds, through advanced indexing."""
    places = np.asarray(positions_of(x)[subscript(decisions, indices)])
    spread = np.broadcast_to(values, places.shape)
    return combined(x, zip(places.flat, spread.flat, strict=True), total if accumulate else None)


def index_write(
    x: Array, dim: int, which: Array, source: Any, combine: Callable[[list[Expr]], Expr] | None = None
) -> Array:
    """Writes, or combines, whole slices."""
    places = rows_at(x, dim, which, "aten.index_add")
    values = (
        np.broadcast_to(source, places.shape) if isinstance(source, np.ndarray) else filled(places.shape, lift(source))
    )
    return combined(x, zip(places.flat, values.flat, strict=True), combine)


def scaled(x: Array, factor: float) -> Array:
    """Every element times a number."""
    return elements((scalar(factor) * e for e in x.flat), x.shape)


def flat_places(x: Array, which: Array) -> Positions:
    """Indices into the flattened array, negative ones from the end."""
    return positions_of(x).reshape(-1)[integers(which, "aten.take")]


def embedding_backward(g: Array, indices: Array, rows: int, padding_idx: int, scale_grad_by_freq: bool) -> Array:
    """Every looked-up row's cotangent added to the row, over how often it was looked up if that is asked for."""
    looked_up = [int(i) for i in integers(indices, "aten.embedding_dense_backward").flat]
    width = g.shape[-1]
    result = filled((rows, width), ZERO)
    for row in set(looked_up) - {padding_idx}:
        hits = [g.reshape(-1, width)[k] for k, i in enumerate(looked_up) if i == row]
        share = constant(len(hits) if scale_grad_by_freq else 1)
        result[row] = elements((divide(total(column), share) for column in zip(*hits, strict=True)), (width,))
    return result


def _real_mask(decisions: Decisions, x: Array, mask: Array) -> npt.NDArray[np.bool_]:
    real = decisions.arguments[1]
    return np.broadcast_to(decisions.decide(truth(mask, real), in_numpy(real)), x.shape)


def masked_select(decisions: Decisions, x: Array, mask: Array) -> Array:
    """The elements where a mask is true."""
    shape = np.broadcast_shapes(x.shape, mask.shape)
    spread = np.broadcast_to(x, shape)
    return taken(spread, _real_mask(decisions, spread, mask).reshape(-1).nonzero()[0])


def masked_scatter(decisions: Decisions, x: Array, mask: Array, source: Array) -> Array:
    """The source's elements, in order, where a mask is true."""
    shape = np.broadcast_shapes(x.shape, mask.shape)
    spread = np.broadcast_to(x, shape)
    places = _real_mask(decisions, spread, mask).reshape(-1).nonzero()[0]
    return combined(spread, zip(places, source.flat, strict=False))


def masked_scatter_backward(decisions: Decisions, g: Array, mask: Array, sizes: Sequence[int]) -> Array:
    """The cotangents where the mask is true, in order, and zeros for what the mask had no room for."""
    chosen = masked_select(decisions, g, mask)
    padded = filled((int(np.prod(sizes, dtype=int)),), ZERO)
    padded[: chosen.size] = chosen
    return padded.reshape(tuple(sizes))


def nonzero(decisions: Decisions, x: Array) -> Array:
    """The indices of the elements that are not zero, on the record."""
    real = decisions.arguments[0].detach()
    decisions.decide(truth(x, real), in_numpy(real) != 0)
    found = decisions.result
    return elements(map(constant, found.reshape(-1).tolist()), tuple(found.shape))


RULES: Final[dict[str, Rule]] = {
    "aten.gather": array(lambda x, dim, which, **_: taken(x, entries_at(x, dim, which, "aten.gather"))),
    "aten.scatter": array(scatter),
    "aten.scatter_add": array(lambda x, dim, which, source: scatter(x, dim, which, source, "sum")),
    "aten.scatter_reduce": array(scatter),
    "aten.index": guarded(index),
    "aten._unsafe_index": guarded(index),
    "aten.index_put": guarded(index_put),
    "aten._unsafe_index_put": guarded(index_put),
    "aten._index_put_impl": guarded(index_put),
    "aten.index_select": array(lambda x, dim, which: taken(x, rows_at(x, dim, which, "aten.index_select"))),
    "aten.index_add": array(
        lambda x, dim, which, source, alpha=1: index_write(x, dim, which, scaled(source, alpha), total)
    ),
    "aten.index_copy": array(index_write),
    "aten.index_fill": array(index_write),
    "aten.take": array(lambda x, which: taken(x, flat_places(x, which))),
    "aten.put": array(
        lambda x, which, source, accumulate=False: combined(
            x, zip(flat_places(x, which).flat, source.flat, strict=True), total if accumulate else None
        )
    ),
    "aten.embedding": array(lambda weight, which, *_, **__: weight[integers(which, "aten.embedding")]),
    "aten.embedding_dense_backward": array(embedding_backward),
    "aten.masked_select": guarded(masked_select),
    "aten.masked_scatter": guarded(masked_scatter),
    "aten.masked_scatter_backward": guarded(masked_scatter_backward),
    "aten.nonzero": guarded(nonzero),
}
