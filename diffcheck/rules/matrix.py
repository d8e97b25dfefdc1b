"""Rules of products of vectors and matrices."""

from __future__ import annotations

from typing import Final

import numpy as np

from diffcheck.constants import scalar
from diffcheck.expr import ZERO, Expr, total
from diffcheck.rules.registry import Array, Rule, array, elements, elementwise, matrix_product


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
    "aten.addbmm": array(lambda x, a, b, **scales: accumulated(x, batch_sum(a, b), **scales)),
}
