"""Rules of eigenvalues and singular values, where they have a closed form: two of them, or one.

Eigenvectors and singular vectors are defined up to signs, which the kernel says. Sources: for a symmetric matrix
((a, b), (b, d)), m = (a + d)/2, h = (a - d)/2 and r = √(h² + b²), the eigenvalues are m ∓ r, and the projection on an
eigenvector v is v vᵀ = (1 ∓ ((h, b), (b, -h)) / r) / 2. Singular values are the roots of the eigenvalues of aᵀa, of
which the determinant is the sum of the squares of the minors of a (Cauchy and Binet).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any, Final

import numpy as np

from diffcheck.algebra.expr import HALF, ONE, TWO, ZERO, Expr, call, greater, total
from diffcheck.errors import Unsupported
from diffcheck.rules.backward_error import as_seen, orthonormal
from diffcheck.rules.pointwise import absolute
from diffcheck.rules.registry import Array, Decisions, Rule, elements, filled, guarded, in_numpy, matrix_product

_LARGEST: Final = 2


def _symmetric(decisions: Decisions, a: Array, leans: bool, real: Array) -> tuple[Array, Array]:
    """The eigenvalues of a symmetric matrix of one or two rows, from the smallest, and eigenvectors, in columns.

    Args:
        decisions: Where it is written down which way the matrix leans.
        a: The matrix, of which the lower triangle is read.
        leans: Whether its first diagonal element is the larger one.
        real: The kernel's eigenvectors, which say the signs.
    """
    if len(a) == 1:
        vector = elements([-ONE if real[0, 0] < 0 else ONE], (1, 1))
        return a[0], vector
    middle = (a.item(0, 0) + a.item(1, 1)) * HALF
    half = (a.item(0, 0) - a.item(1, 1)) * HALF
    beside = a.item(1, 0)
    distance = call("sqrt", half * half + beside * beside)
    vectors = filled((2, 2), ZERO)
    decisions.record(greater(half, ZERO), leans)
    for k, sign in enumerate((-ONE, ONE)):
        # Divided by what is not small: the larger component of the two.
        pivot = int(leans) ^ k
        towards = sign * half if pivot == 0 else -(sign * half)
        component = call("sqrt", (ONE + towards / distance) * HALF)
        if real[pivot, k] < 0:
            component = -component
        vectors[pivot, k] = component
        vectors[1 - pivot, k] = sign * beside / (TWO * distance * component)
    return elements([middle - distance, middle + distance], (2,)), vectors


def _in_batches(function: Callable[..., tuple[Array, ...]], a: Array, *real: Array) -> list[Array]:
    """Applies a function to each matrix and what is real for it."""
    found = [function(a[i], *(r[i] for r in real)) for i in np.ndindex(*a.shape[:-2])]
    return [np.stack(own).reshape((*a.shape[:-2], *own[0].shape)) for own in zip(*found, strict=True)]


def _refuse(operation: str, count: int, what: str) -> None:
    if count > _LARGEST:
        raise Unsupported(operation, f"more than {_LARGEST} {what} have no closed form that is short")


def _vectors_of(tensor: Any, shape: tuple[int, ...]) -> Array:
    """Real vectors; where the kernel was not asked for them, any signs do."""
    found: Array = in_numpy(tensor) if tensor.numel() else np.ones(shape)
    return found


def eigh(decisions: Decisions, a: Array, uplo: str = "L", compute_v: bool = True) -> tuple[Array, Array | None]:
    """Eigenvalues from the smallest up, and eigenvectors, of symmetric matrices of which one triangle is read."""
    _refuse("aten._linalg_eigh", a.shape[-1], "eigenvalues")

    def apply(matrix: Array, numbers: Array, real: Array) -> tuple[Array, Array]:
        leans = bool(numbers[0, 0] > numbers[-1, -1])
        seen = as_seen(matrix) if len(matrix) > 1 else matrix
        values, vectors = _symmetric(decisions, seen.T if uplo.upper() == "U" else seen, leans, real)
        return values, orthonormal(vectors)

    real = in_numpy(decisions.arguments[0]), _vectors_of(decisions.result[1], a.shape)
    values, vectors = _in_batches(apply, a, *real)
    return values, vectors if compute_v else None


def _determinant_root(a: Array) -> Expr:
    """√det(aᵀa) of two columns: the area that they span."""
    minors = [a.item(i, 0) * a.item(j, 1) - a.item(j, 0) * a.item(i, 1) for i, j in combinations(range(a.shape[0]), 2)]
    if len(minors) == 1:
        return absolute(minors[0])
    return call("sqrt", total(minor * minor for minor in minors))


def _tall_svd(decisions: Decisions, a: Array, numbers: Array, real: Array) -> tuple[Array, Array, Array]:
    """U, S and V of a matrix with at most as many columns as rows; the numbers that it holds, and V, are real."""
    a = as_seen(a)
    gram = matrix_product(a.T, a)
    lengths = np.linalg.norm(numbers, axis=0)
    squares, vectors = _symmetric(decisions, gram, bool(lengths[0] > lengths[-1]), real[:, ::-1])
    values = [call("sqrt", squares[-1])]
    if len(gram) > 1:  # the smaller one is no difference of large numbers
        values.append(_determinant_root(a) / values[0])
    right = vectors[:, ::-1]
    left = matrix_product(a, right)
    left = elements((left.item(i, k) / values[k] for i, k in np.ndindex(*a.shape)), a.shape)
    return orthonormal(left), elements(values, (len(values),)), orthonormal(right)


def svd(
    decisions: Decisions, a: Array, full_matrices: bool = False, compute_uv: bool = True, **_: Any
) -> tuple[Array | None, Array, Array | None]:
    """U, singular values from the largest down, and Vᵀ."""
    rows, columns = a.shape[-2:]
    _refuse("aten._linalg_svd", min(rows, columns), "singular values")
    if full_matrices and compute_uv and rows != columns:
        raise Unsupported("aten._linalg_svd", "the vectors that complete U or V are defined up to a choice")

    def apply(matrix: Array, numbers: Array, u: Array, v: Array) -> tuple[Array, Array, Array]:
        if rows < columns:
            right, values, left = _tall_svd(decisions, matrix.T, numbers.T, u)
        else:
            left, values, right = _tall_svd(decisions, matrix, numbers, v)
        return left, values, right.T

    rank = min(rows, columns)
    real_u = _vectors_of(decisions.result[0], (*a.shape[:-1], rank))
    real_v = np.swapaxes(_vectors_of(decisions.result[2], (*a.shape[:-2], rank, columns)), -1, -2)
    left, values, right = _in_batches(apply, a, in_numpy(decisions.arguments[0]), real_u, real_v)
    return (left, values, right) if compute_uv else (None, values, None)


RULES: Final[dict[str, Rule]] = {"aten._linalg_eigh": guarded(eigh), "aten._linalg_svd": guarded(svd)}
