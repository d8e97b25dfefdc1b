"""Rules of linear systems: elimination by the kernel's own choice of pivots, triangular systems, Cholesky's factor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from diffcheck.algebra.expr import ONE, ZERO, Expr, call, computed_as, constant, product, total
from diffcheck.rules.layout import triangle
from diffcheck.rules.pointwise import absolute, sign
from diffcheck.rules.reduction import exact
from diffcheck.rules.registry import Array, Decisions, Rule, array, elements, filled, guarded, in_numpy, integers

_LARGEST_EXPANSION: Final = 4
"""Determinants up to this size are written as polynomials: n! terms."""


def per_matrix(function: Callable[..., Array], *batches: Array) -> Array:
    """Applies a function of matrices to each entry of broadcast batches."""
    lead = np.broadcast_shapes(*(b.shape[:-2] for b in batches))
    spread = [np.broadcast_to(b, lead + b.shape[-2:]) for b in batches]
    results = [function(*(b[index] for b in spread)) for index in np.ndindex(*lead)]
    return np.stack(results).reshape(lead + results[0].shape)


# ---------------------------------------------------------------------------------------------------------------------
# Triangular systems
# ---------------------------------------------------------------------------------------------------------------------


def substituted(a: Array, b: Array, *, upper: bool, unit: bool = False) -> Array:
    """The solution x of a x = b for a triangular matrix, row by row."""
    x = b.copy()
    n = a.shape[0]
    for i in range(n - 1, -1, -1) if upper else range(n):
        known = range(i + 1, n) if upper else range(i)
        for j in range(b.shape[1]):
            rest = b[i, j] - total(a[i, k] * x[k, j] for k in known)
            x[i, j] = rest if unit else rest / a[i, i]
    return x


def transposed(a: Array) -> Array:
    """Every matrix's transpose."""
    return np.swapaxes(a, -1, -2)


def solve_triangular(a: Array, b: Array, upper: bool = True, left: bool = True, unitriangular: bool = False) -> Array:
    """The solution of a x = b, or of x a = b."""
    if not left:
        return transposed(solve_triangular(transposed(a), transposed(b), not upper, unitriangular=unitriangular))
    return per_matrix(lambda m, r: substituted(m, r, upper=upper, unit=unitriangular), a, b)


def cholesky(a: Array) -> Array:
    """The lower triangular l with l lᵀ = a, from the lower triangle of a."""
    n = a.shape[0]
    factor = filled(a.shape, ZERO)
    for j in range(n):
        factor[j, j] = call("sqrt", a[j, j] - total(factor[j, k] * factor[j, k] for k in range(j)))
        for i in range(j + 1, n):
            factor[i, j] = (a[i, j] - total(factor[i, k] * factor[j, k] for k in range(j))) / factor[j, j]
    return factor


def cholesky_factor(a: Array, upper: bool = False) -> Array:
    """Cholesky's factor of every matrix, from the triangle that is asked for."""
    return transposed(per_matrix(cholesky, transposed(a))) if upper else per_matrix(cholesky, a)


# ---------------------------------------------------------------------------------------------------------------------
# Elimination
# ---------------------------------------------------------------------------------------------------------------------


def eliminated(decisions: Decisions, a: Array, pivots: Sequence[int]) -> Array:
    """L below the diagonal and U above, in one matrix. Relies on each pivot being the largest of its column."""
    lu = a.copy()
    rows, columns = lu.shape
    for k, pivot in enumerate(pivots):
        for i in range(k, rows):
            # Squares: they compare as absolute values do, and have no kink.
            decisions.ordered([lu[i, k] * lu[i, k], lu[pivot, k] * lu[pivot, k]] if i != pivot else [])
        lu[[k, pivot]] = lu[[pivot, k]]
        for i in range(k + 1, rows):
            lu[i, k] = lu[i, k] / lu[k, k]
            for j in range(k + 1, columns):
                lu[i, j] = lu[i, j] - lu[i, k] * lu[k, j]
    return lu


def _choices(pivots: Any) -> npt.NDArray[np.int64]:
    return in_numpy(pivots).astype(np.int64) - 1


def real_pivots(a: Any) -> npt.NDArray[np.int64]:
    """The pivots that partial pivoting chooses, where the kernel does not tell."""
    return _choices(torch.linalg.lu_factor(a.detach())[1])


def factored(decisions: Decisions, a: Array, pivots: npt.NDArray[np.int64]) -> Array:
    """The elimination of every matrix."""
    results = [eliminated(decisions, a[i], pivots[i].tolist()) for i in np.ndindex(*a.shape[:-2])]
    return np.stack(results).reshape(a.shape)


def swapped(b: Array, pivots: Sequence[int], *, back: bool = False) -> Array:
    """The rows exchanged as elimination did, or back again."""
    result = b.copy()
    for k, pivot in reversed(list(enumerate(pivots))) if back else enumerate(pivots):
        result[[k, pivot]] = result[[pivot, k]]
    return result


def _solved(lu: Array, pivots: Sequence[int], b: Array, *, adjoint: bool) -> Array:
    if adjoint:
        inner = substituted(transposed(lu), b, upper=False)
        return swapped(substituted(transposed(lu), inner, upper=True, unit=True), pivots, back=True)
    inner = substituted(lu, swapped(b, pivots), upper=False, unit=True)
    return substituted(lu, inner, upper=True)


def lu_solve(lu: Array, pivots: npt.NDArray[np.int64], b: Array, *, left: bool = True, adjoint: bool = False) -> Array:
    """The solution of a x = b from the elimination of a; of x a = b, and for the transpose of a."""
    if not left:
        return transposed(lu_solve(lu, pivots, transposed(b), adjoint=not adjoint))
    lead = np.broadcast_shapes(lu.shape[:-2], b.shape[:-2])
    lus, rights = (np.broadcast_to(m, lead + m.shape[-2:]) for m in (lu, b))
    rows = np.broadcast_to(pivots, lead + pivots.shape[-1:])
    results = [_solved(lus[i], rows[i].tolist(), rights[i], adjoint=adjoint) for i in np.ndindex(*lead)]
    return np.stack(results).reshape(rights.shape)


def _parity(order: Sequence[int]) -> int:
    return -1 if sum(order[i] > order[j] for j in range(len(order)) for i in range(j)) % 2 else 1


def determinant(a: Array, lu: Array, pivots: Sequence[int]) -> Expr:
    """The polynomial, if it is short; the kernel multiplies the pivots."""
    n = a.shape[0]
    flips = sum(k != pivot for k, pivot in enumerate(pivots))
    by_pivots = product([constant((-1) ** flips), *(lu[k, k] for k in range(n))])
    if n > _LARGEST_EXPANSION:
        return by_pivots
    terms = (
        product([constant(_parity(order)), *(a[i, j] for i, j in enumerate(order))]) for order in permutations(range(n))
    )
    return computed_as(total(terms), by_pivots)


def _as_eliminated(decisions: Decisions, a: Array) -> Array:
    """The kernel of the determinant eliminates in the transpose of a matrix that lies row by row."""
    return transposed(a) if decisions.arguments[0].is_contiguous() else a


def _det(decisions: Decisions, a: Array) -> tuple[Array, Array, Array]:
    pivots = _choices(decisions.result[2])
    lu = factored(decisions, _as_eliminated(decisions, a), pivots)
    values = (determinant(a[i], lu[i], pivots[i].tolist()) for i in np.ndindex(*a.shape[:-2]))
    return elements(values, a.shape[:-2]), lu, exact(decisions.result[2])


def _slogdet(decisions: Decisions, a: Array) -> tuple[Array, Array, Array, Array]:
    pivots = _choices(decisions.result[3])
    lu = factored(decisions, _as_eliminated(decisions, a), pivots)
    values = [determinant(a[i], lu[i], pivots[i].tolist()) for i in np.ndindex(*a.shape[:-2])]
    signs = elements(map(sign, values), a.shape[:-2])
    logarithms = elements((call("log", absolute(v)) for v in values), a.shape[:-2])
    return signs, logarithms, lu, exact(decisions.result[3])


def identity(n: int) -> Array:
    """The unit matrix."""
    return elements((ONE if i == j else ZERO for i in range(n) for j in range(n)), (n, n))


def _inverse(decisions: Decisions, a: Array, **_: Any) -> tuple[Array, None]:
    pivots = real_pivots(decisions.arguments[0])
    return lu_solve(factored(decisions, a, pivots), pivots, identity(a.shape[-1])), None


def _solve(
    decisions: Decisions, a: Array, b: Array, *, left: bool = True, **_: Any
) -> tuple[Array, Array, Array, None]:
    pivots = _choices(decisions.result[2])
    lu = factored(decisions, a, pivots)
    # A right side with one axis less than the matrices' batch is a batch of vectors.
    is_vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    result = lu_solve(lu, pivots, b[..., None] if is_vector else b, left=left or is_vector)
    return result[..., 0] if is_vector else result, lu, exact(decisions.result[2]), None


def _lu_factor(decisions: Decisions, a: Array, **_: Any) -> tuple[Array, Array, None]:
    return factored(decisions, a, _choices(decisions.result[1])), exact(decisions.result[1]), None


def _parts(permutation: Any, lu: Array) -> tuple[Array, Array, Array]:
    rank = min(lu.shape[-2:])
    lower = triangle(lu[..., :rank], -1, upper=False)
    lower[..., range(rank), range(rank)] = ONE
    return exact(permutation), lower, triangle(lu[..., :rank, :], 0, upper=True)


def _lu(decisions: Decisions, a: Array, **_: Any) -> tuple[Array, Array, Array]:
    return _parts(decisions.result[0], factored(decisions, a, real_pivots(decisions.arguments[0])))


RULES: Final[dict[str, Rule]] = {
    "aten.linalg_solve_triangular": array(solve_triangular),
    "aten.linalg_cholesky_ex": array(lambda a, upper=False, **_: (cholesky_factor(a, upper), None)),
    "aten.linalg_lu_factor_ex": guarded(_lu_factor),
    "aten.linalg_lu": guarded(_lu),
    "aten.lu_unpack": guarded(lambda d, lu, *_: _parts(d.result[0], lu)),
    "aten.linalg_lu_solve": array(lambda lu, p, b, **o: lu_solve(lu, integers(p, "aten.linalg_lu_solve") - 1, b, **o)),
    "aten.linalg_inv_ex": guarded(_inverse),
    "aten._linalg_solve_ex": guarded(_solve),
    "aten._linalg_det": guarded(_det),
    "aten._linalg_slogdet": guarded(_slogdet),
}
