"""Rules of orthogonal factors, least squares and pseudo-inverses, and of systems that a Cholesky factor solves.

All of it is written as the textbook has it, for matrices of full rank: kernels reflect where this projects, to the same
values.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from diffcheck.algebra.expr import MINUS_ONE, ONE, ZERO, Expr, call, number, total
from diffcheck.errors import Unsupported
from diffcheck.rules.backward_error import as_seen, columns_as_seen, orthonormal
from diffcheck.rules.linalg import cholesky, cholesky_factor, identity, per_matrix, solve_triangular, transposed
from diffcheck.rules.reduction import exact
from diffcheck.rules.registry import Array, Decisions, Rule, array, filled, guarded, in_numpy, matrix_product


def _dot(a: Array, b: Array) -> Expr:
    return total(x * y for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# Cholesky's factor as a solver
# ---------------------------------------------------------------------------------------------------------------------


def solve_by_factor(b: Array, factor: Array, upper: bool = False) -> Array:
    """The solution of l lᵀ x = b."""
    lower = transposed(factor) if upper else factor
    inner = solve_triangular(lower, b, upper=False)
    return solve_triangular(transposed(lower), inner, upper=True)


def inverse_by_factor(factor: Array, upper: bool = False) -> Array:
    """The inverse of l lᵀ."""
    return solve_by_factor(np.broadcast_to(identity(factor.shape[-1]), factor.shape), factor, upper)


def old_triangular_solve(
    b: Array, a: Array, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Array, Array]:
    """The solution of a x = b, or with the transpose of a; and a."""
    matrix = transposed(a) if transpose else a
    return solve_triangular(matrix, b, upper=upper != transpose, unitriangular=unitriangular), a


# ---------------------------------------------------------------------------------------------------------------------
# Orthogonal factors
# ---------------------------------------------------------------------------------------------------------------------


def _orthogonalized(a: Array, signs: list[float]) -> tuple[Array, Array]:
    """By Gram and Schmidt; the kernel says which sign each diagonal element of R has."""
    rows, columns = a.shape
    rank = min(rows, columns)
    q, r = filled((rows, rank), ZERO), filled((rank, columns), ZERO)
    for j in range(columns):
        rest = a[:, j].copy()
        for i in range(min(j, rank)):
            r[i, j] = _dot(q[:, i], a[:, j])
            rest = np.array([e - r.item(i, j) * b for e, b in zip(rest, q[:, i], strict=True)], dtype=object)
        if j < rank:
            length = call("sqrt", _dot(rest, rest))
            r[j, j] = length if signs[j] >= 0 else -length
            q[:, j] = [e / r.item(j, j) for e in rest]
    return q, r


def orthogonal(decisions: Decisions, a: Array, mode: str = "reduced") -> tuple[Array | None, Array]:
    """Q and R."""
    rows, columns = a.shape[-2:]
    if mode == "complete" and rows > columns:
        raise Unsupported("aten.linalg_qr", "the last columns of a complete Q are defined up to a choice")
    real = in_numpy(decisions.result[1].diagonal(dim1=-2, dim2=-1))
    lead = a.shape[:-2]
    rank = min(rows, columns)
    q, r = filled((*lead, rows, rank), ZERO), filled((*lead, rank, columns), ZERO)
    for index in np.ndindex(*lead):
        columns_q, r[index] = _orthogonalized(columns_as_seen(a[index]), real[index].tolist())
        q[index] = orthonormal(columns_q)
    return (None if mode == "r" else q), r


def _reflected(v: Array, tau: Expr, x: Array) -> Array:
    """(1 - τ v vᵀ) x."""
    along = [tau * _dot(v, x[:, j]) for j in range(x.shape[1])]
    result = x.copy()
    for i, j in np.ndindex(*x.shape):
        result[i, j] = x.item(i, j) - v.item(i) * along[j]
    return result


def _reflectors(a: Array, tau: Array) -> list[tuple[Array, Expr]]:
    found = []
    for k in range(len(tau)):
        v = filled((a.shape[0],), ZERO)
        v[k] = ONE
        v[k + 1 :] = a[k + 1 :, k]
        found.append((v, tau.item(k)))
    return found


def _product_of_reflectors(a: Array, tau: Array, x: Array, transpose: bool) -> Array:
    reflectors = _reflectors(a, tau)
    for v, t in reflectors if transpose else reversed(reflectors):
        x = _reflected(v, t, x)
    return x


def householder_product(a: Array, tau: Array) -> Array:
    """The first columns of the product of reflectors, which the columns of a hold below the diagonal."""
    start = np.broadcast_to(identity(a.shape[-2])[:, : a.shape[-1]], a.shape)
    return per_matrix(lambda m, t, x: _product_of_reflectors(m, t[:, 0], x, transpose=False), a, tau[..., None], start)


def multiplied_by_reflectors(a: Array, tau: Array, x: Array, left: bool = True, transpose: bool = False) -> Array:
    """The product of reflectors, or its transpose, times x; or x times it."""
    if not left:
        return transposed(multiplied_by_reflectors(a, tau, transposed(x), transpose=not transpose))
    return per_matrix(lambda m, t, y: _product_of_reflectors(m, t[:, 0], y, transpose), a, tau[..., None], x)


# ---------------------------------------------------------------------------------------------------------------------
# Least squares
# ---------------------------------------------------------------------------------------------------------------------


def _has_full_rank(real: Any, operation: str, **tolerances: Any) -> bool:
    """Whether all matrices have full rank, and not none at all, as the kernel counts it.

    Raises:
        Unsupported: Something between.
    """
    ranks = torch.linalg.matrix_rank(real.detach(), **tolerances)
    if bool((ranks == min(real.shape[-2:])).all()):
        return True
    if not bool(ranks.any()):
        return False
    raise Unsupported(operation, "the matrix has not full rank: its pseudo-inverse has no closed form")


def pseudo_inverse(a: Array) -> Array:
    """(aᵀ a)⁻¹ aᵀ of a matrix with independent columns, aᵀ (a aᵀ)⁻¹ of one with independent rows."""
    if a.shape[0] < a.shape[1]:
        return pseudo_inverse(a.T).T
    return solve_by_factor(a.T, cholesky(matrix_product(a.T, a)))


def _pseudo_inverse(
    decisions: Decisions, a: Array, *relative: Any, hermitian: bool = False, **tolerances: Any
) -> Array:
    if relative:
        tolerances = {"rtol": relative[0]}
    real = {name: float(number(t.item()) or 0) if isinstance(t, np.ndarray) else t for name, t in tolerances.items()}
    if not _has_full_rank(decisions.arguments[0], "aten.linalg_pinv", hermitian=hermitian, **real):
        return filled((*a.shape[:-2], a.shape[-1], a.shape[-2]), ZERO)
    return per_matrix(lambda m: pseudo_inverse(as_seen(m)), a)


def least_squares(decisions: Decisions, a: Array, b: Array, *_: Any, **__: Any) -> tuple[Array | None, ...]:
    """The solution of least length; the squared residuals where the kernel gives them; the rank."""
    if not _has_full_rank(decisions.arguments[0], "aten.linalg_lstsq"):
        raise Unsupported("aten.linalg_lstsq", "the matrix is 0")
    is_vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    right = b[..., None] if is_vector else b
    solution = per_matrix(lambda m, r: matrix_product(pseudo_inverse(as_seen(m)), columns_as_seen(r)), a, right)
    residuals = None
    if decisions.result[1].numel():
        gaps = per_matrix(lambda m, x, r: matrix_product(m, x) + MINUS_ONE * r, a, solution, right)
        squares = [
            _dot(gaps[i][:, k], gaps[i][:, k]) for i in np.ndindex(*gaps.shape[:-2]) for k in range(gaps.shape[-1])
        ]
        residuals = np.array(squares, dtype=object).reshape(tuple(decisions.result[1].shape))
    return (solution[..., 0] if is_vector else solution), residuals, exact(decisions.result[2]), None


def _refused(operation: str, reason: str) -> Rule:
    def apply(*_: Any, **__: Any) -> Array:
        raise Unsupported(operation, reason)

    return array(apply)


_WITHOUT_CLOSED_FORM: Final = {
    "aten.linalg_eig": "eigenvalues have no closed form, and eigenvectors are defined up to a complex factor",
    "aten.linalg_matrix_exp": "the exponential of a matrix has no closed form",
}

RULES: Final[dict[str, Rule]] = {
    **{name: _refused(name, reason) for name, reason in _WITHOUT_CLOSED_FORM.items()},
    "aten.cholesky": array(cholesky_factor),
    "aten.cholesky_solve": array(solve_by_factor),
    "aten.cholesky_inverse": array(inverse_by_factor),
    "aten.triangular_solve": array(old_triangular_solve),
    "aten.linalg_qr": guarded(orthogonal),
    "aten.linalg_householder_product": array(householder_product),
    "aten.ormqr": array(multiplied_by_reflectors),
    "aten.linalg_pinv": guarded(_pseudo_inverse),
    "aten.linalg_lstsq": guarded(least_squares),
}
