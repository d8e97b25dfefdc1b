"""Rules that move elements or make new tensors: copies, concatenation, padding, scattering of views, factories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import ONE, ZERO, Expr, total
from diffcheck.errors import Unsupported
from diffcheck.rules.pointwise import trunc, truth
from diffcheck.rules.registry import Array, Decisions, Rule, array, elements, elementwise, filled, guarded, lift


def converted(x: Array, real: Any, dtype: torch.dtype) -> Array:
    """The shadow of a tensor converted to another dtype: rounding aside, only booleans and integers lose anything."""
    if dtype.is_complex:
        raise Unsupported("complex numbers", "shadows hold real numbers")
    if dtype == torch.bool:
        return truth(x, real)  # type: ignore[no-any-return]
    if real.is_floating_point() and not dtype.is_floating_point:
        return elementwise(trunc, x)
    return x


def to_copy(decisions: Decisions, x: Any, **_: Any) -> Array:
    """A copy in another dtype; under vmap, PyTorch makes a tensor of a Python number in this way."""
    if not isinstance(x, np.ndarray):
        return filled((), lift(x))
    return converted(x.copy(), decisions.arguments[0], decisions.result.dtype)


def roll(x: Array, shifts: Sequence[int], dims: Sequence[int] = ()) -> Array:
    """Elements pushed off one end come in at the other; without axes, the flattened array is rolled."""
    return np.roll(x, tuple(shifts), tuple(dims)) if dims else np.roll(x, tuple(shifts))


def pad(x: Array, widths: Sequence[int], value: Any = 0) -> Array:
    """Pads, from the last axis on; negative widths crop."""
    pairs = [(0, 0)] * (x.ndim - len(widths) // 2) + list(zip(widths[::2], widths[1::2], strict=True))[::-1]
    shape = [before + n + after for n, (before, after) in zip(x.shape, pairs, strict=True)]
    result = filled(shape, lift(value))
    target = tuple(slice(max(b, 0), n - max(a, 0)) for n, (b, a) in zip(shape, pairs, strict=True))
    source = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, pairs, strict=True))
    result[target] = x[source]
    return result


def triangle(x: Array, diagonal: int, *, upper: bool) -> Array:
    """The upper or lower triangle, zeros elsewhere."""
    offset = np.arange(x.shape[-1]) - np.arange(x.shape[-2])[:, None]
    result = x.copy()
    result[..., (offset < diagonal) if upper else (offset > diagonal)] = ZERO
    return result


def diagonals(x: Array, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Array:
    """The array with the last axis spread over the diagonal of two new ones."""
    size = x.shape[-1] + abs(offset)
    result = filled((*x.shape[:-1], size, size), ZERO)
    i = np.arange(x.shape[-1])
    result[..., i + max(-offset, 0), i + max(offset, 0)] = x
    return np.moveaxis(result, (-2, -1), (dim1, dim2))


def concatenated(parts: Sequence[Array], dim: int = 0) -> Array:
    """Concatenation; PyTorch lets one-dimensional empty tensors of any company pass."""
    return np.concatenate([p for p in parts if p.shape != (0,)] or list(parts[:1]), axis=dim)


def written(x: Array, window: Callable[[Array], Array], values: Array) -> Array:
    """A copy of the array with new values in a window (a view) of it."""
    result = x.copy()
    window(result)[...] = values
    return result


def _index(dim: int, which: int | slice, rank: int) -> tuple[Any, ...]:
    return (slice(None),) * (dim % rank) + (which,)


def _diagonal(x: Array, offset: int, dim1: int, dim2: int) -> Array:
    view = np.diagonal(x, offset, dim1, dim2)
    view.flags.writeable = True
    return view


def _set_diagonal(x: Array, values: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    return written(x, lambda a: _diagonal(a, offset, dim1, dim2), values)


def _set_slice(
    x: Array, values: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Array:
    return written(x, lambda a: a[_index(dim, slice(start, end, step), a.ndim)], values)


def _set_selected(x: Array, values: Array, dim: int, index: int) -> Array:
    # A slice of one, not a number: selecting from a vector would leave the array for its element.
    position = index % x.shape[dim]
    return written(
        x, lambda a: a[_index(dim, slice(position, position + 1), a.ndim)], np.expand_dims(values, dim % x.ndim)
    )


def unfold_backward(g: Array, sizes: Sequence[int], dim: int, size: int, step: int) -> Array:
    """Every window's entries added where the window had been taken."""
    if not sizes:
        return g.reshape(())
    windows = np.moveaxis(g, (dim % len(sizes), -1), (0, 1))
    target = np.moveaxis(filled(sizes, ZERO), dim, 0)
    for start, window in enumerate(windows):
        for i in range(size):
            # A slice of one, not a number: a vector's element would leave the array.
            at = slice(start * step + i, start * step + i + 1)
            target[at] = elementwise(lambda a, b: a + b, target[at], window[i : i + 1])
    return np.moveaxis(target, 0, dim)


def _filled(value: Expr) -> Rule:
    return array(lambda size, *_, **__: filled(size, value))


def _filled_like(value: Expr) -> Rule:
    return array(lambda x, *_, **__: filled(x.shape, value))


def _new(value: Expr) -> Rule:
    return array(lambda _, size, *__, **___: filled(size, value))


RULES: Final[dict[str, Rule]] = {
    # Copies
    "aten.clone": array(lambda x, **_: x.copy()),
    "aten._to_copy": guarded(to_copy),
    "prims.convert_element_type": guarded(lambda d, x, _: to_copy(d, x)),
    "aten.copy": guarded(lambda d, _, x, *__, **___: converted(x, d.arguments[1], d.arguments[0].dtype)),
    "aten.fill": array(lambda x, value: np.broadcast_to(np.asarray(lift(value), dtype=object), x.shape)),
    "aten.zero": _filled_like(ZERO),
    # Moves
    "aten.cat": array(concatenated),
    "aten.stack": array(lambda parts, dim=0: np.stack(parts, axis=dim)),
    "aten.flip": array(lambda x, dims: np.flip(x, tuple(dims))),
    "aten.roll": array(roll),
    "aten.repeat": array(lambda x, counts: np.tile(x, tuple(counts))),
    "aten.constant_pad_nd": array(pad),
    "aten.tril": array(lambda x, diagonal=0: triangle(x, diagonal, upper=False)),
    "aten.triu": array(lambda x, diagonal=0: triangle(x, diagonal, upper=True)),
    "aten.diag_embed": array(diagonals),
    "aten.trace": array(lambda x: elements([total(np.diagonal(x))], ())),
    # Views that write, and what autograd runs for views
    "aten.slice_scatter": array(_set_slice),
    "aten.select_scatter": array(_set_selected),
    "aten.diagonal_scatter": array(_set_diagonal),
    "aten.slice_backward": array(lambda g, sizes, *where: _set_slice(filled(sizes, ZERO), g, *where)),
    "aten.select_backward": array(lambda g, sizes, *where: _set_selected(filled(sizes, ZERO), g, *where)),
    "aten.diagonal_backward": array(lambda g, sizes, *where: _set_diagonal(filled(sizes, ZERO), g, *where)),
    "aten.unfold_backward": array(unfold_backward),
    # Factories. Memory that nobody has written to yet counts as zeros.
    "aten.zeros": _filled(ZERO),
    "aten.ones": _filled(ONE),
    "aten.full": array(lambda size, value, **_: filled(size, scalar(value))),
    "aten.scalar_tensor": array(lambda value, **_: filled((), scalar(value))),
    "aten.empty": _filled(ZERO),
    "aten.empty_strided": _filled(ZERO),
    "aten.empty_permuted": _filled(ZERO),
    "aten.zeros_like": _filled_like(ZERO),
    "aten.ones_like": _filled_like(ONE),
    "aten.full_like": array(lambda x, value, **_: filled(x.shape, scalar(value))),
    "aten.empty_like": _filled_like(ZERO),
    "aten.new_zeros": _new(ZERO),
    "aten.new_ones": _new(ONE),
    "aten._new_zeros_with_same_feature_meta": array(
        lambda x, other, self_num_batch_dims=0: filled(x.shape[:self_num_batch_dims] + other.shape, ZERO)
    ),
    "aten.new_full": array(lambda _, size, value, **__: filled(size, scalar(value))),
    "aten.new_empty": _new(ZERO),
    "aten.new_empty_strided": _new(ZERO),
}
