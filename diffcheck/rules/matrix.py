"""Rules of products of vectors and matrices, and of distances between rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import ONE, ZERO, Expr, equal, power, total, vanishes, where
from diffcheck.rules.pointwise import absolute, sign
from diffcheck.rules.reduction import length
from diffcheck.rules.registry import Array, Rule, array, elements, elementwise, matrix_product, reduce, sum_over


def dot(a: Array, b: Array) -> Array:
    """The inner product of two vectors."""
    return elements([total(x * y for x, y in zip(a, b, strict=True))], ())


def batched(a: Array, b: Array) -> Array:
    """A matrix product per batch entry."""
    products = [matrix_product(x, y) for x, y in zip(a, b, strict=True)]
    return np.stack(products) if products else np.empty((0, a.shape[1], b.shape[2]), dtype=object)


def matrix_vector(a: Array, v: Array) -> Array:
    """A matrix times a vector."""
    return matrix_product(a, v.reshape(-1, 1)).reshape(-1)


def outer(a: Array, b: Array) -> Array:
    """All products of two vectors' elements."""
    return matrix_product(a.reshape(-1, 1), b.reshape(1, -1))


def batch_sum(a: Array, b: Array) -> Array:
    """The sum of a batch of matrix products."""
    return matrix_product(np.concatenate(list(a), axis=1), np.concatenate(list(b), axis=0))


def accumulated(start: Array, product: Array, beta: float = 1, alpha: float = 1) -> Array:
    """β · start + α · product; with β = 0 the start is not looked at."""
    b, a = scalar(beta), scalar(alpha)

    def combine(x: Expr, y: Expr) -> Expr:
        return a * y if b is ZERO else b * x + a * y

    return elementwise(combine, start, product)


def trilinear(
    a: Array,
    b: Array,
    c: Array,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    summed: Sequence[int],
    _: int = 1,
) -> Array:
    """The product of three tensors with axes inserted, summed over some."""
    spread = (np.expand_dims(t, tuple(axes)) for t, axes in ((a, expand1), (b, expand2), (c, expand3)))
    terms = elementwise(lambda x, y, z: x * y * z, *spread)
    return sum_over(terms, summed) if summed else terms


def _pairs(a: Array, b: Array) -> Array:
    return elementwise(lambda x, y: x - y, a[..., :, None, :], b[..., None, :, :])


def distances(a: Array, b: Array, order: float, _: Any = None) -> Array:
    """The p-norm of every row of one less every row of the other."""
    return reduce(lambda row: length(row, order), _pairs(a, b), -1)


def slope_of_length(d: Expr, n: Expr, order: float) -> Expr:
    """The derivative of the p-norm n by the entry d; 0 where all entries are 0."""
    if order == 0:
        slope = ZERO
    elif order == 1:
        slope = sign(d)
    elif order == math.inf:
        slope = sign(d) * equal(absolute(d), n)
    elif order == 2:
        slope = d / n
    else:
        p = scalar(order)
        slope = where(vanishes(d), ZERO, sign(d) * power(absolute(d), p - ONE) / power(n, p - ONE))
    return where(vanishes(n), ZERO, slope)


def distances_backward(g: Array, a: Array, b: Array, order: float, distance: Array) -> Array:
    """The gradient of the first argument; 0 where two rows coincide."""
    terms = elementwise(
        lambda c, d, n: c * slope_of_length(d, n, order), g[..., None], _pairs(a, b), distance[..., None]
    )
    return sum_over(terms, -2)


def _upper(n: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n) for j in range(i + 1, n)]


def distances_within(a: Array, order: float = 2) -> Array:
    """The p-norm of every row less every later one."""
    lengths = [
        length([x - y for x, y in zip(a[i], a[j], strict=True)], order) if a.shape[1] else ZERO
        for i, j in _upper(len(a))
    ]
    return elements(lengths, (len(lengths),))


def distances_within_backward(g: Array, a: Array, order: float, distance: Array) -> Array:
    """Every distance pulls at its two rows; 0 where they coincide."""
    terms: dict[tuple[int, int], list[Expr]] = {}
    for k, (i, j) in enumerate(_upper(len(a))):
        for c in range(a.shape[1]):
            pull = g.item(k) * slope_of_length(a.item(i, c) - a.item(j, c), distance.item(k), order)
            terms.setdefault((i, c), []).append(pull)
            terms.setdefault((j, c), []).append(-pull)
    return elements((total(terms.get(at, ())) for at in np.ndindex(*a.shape)), a.shape)


RULES: Final[dict[str, Rule]] = {
    "aten.dot": array(dot),
    "aten.vdot": array(dot),
    "aten.mv": array(matrix_vector),
    "aten.mm": array(matrix_product),
    "aten.bmm": array(batched),
    "aten.addmm": array(lambda x, a, b, **scales: accumulated(x, matrix_product(a, b), **scales)),
    "aten.addmv": array(lambda x, a, v, **scales: accumulated(x, matrix_vector(a, v), **scales)),
    "aten.addr": array(lambda x, a, b, **scales: accumulated(x, outer(a, b), **scales)),
    "aten.baddbmm": array(lambda x, a, b, **scales: accumulated(x, batched(a, b), **scales)),
    "aten._trilinear": array(trilinear),
    "aten._cdist_forward": array(distances),
    "aten._cdist_backward": array(distances_backward),
    "aten._pdist_forward": array(distances_within),
    "aten._pdist_backward": array(distances_within_backward),
    "aten.addbmm": array(lambda x, a, b, **scales: accumulated(x, batch_sum(a, b), **scales)),
}
