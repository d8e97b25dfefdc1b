"""Linear algebra in balls: vectors are `arb_mat` columns, and every number that comes out is an enclosure or a bound.

Precision is python-flint's `ctx.prec`; whoever calls sets it with `precision`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from flint import arb, arb_mat, ctx

_SQUARINGS: Final = 10
"""A spectral radius is told from 1 by the 2**_SQUARINGS-th power of the matrix at the latest."""


@contextlib.contextmanager
def precision(bits: int) -> Iterator[None]:
    """Balls of this precision."""
    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


def error(number: float, true: arb, bits: int = 256) -> float:
    """An upper bound of the distance between a number and the true one, whatever the precision in force."""
    with precision(bits):
        return float(abs(true - number).upper())


def column(values: Sequence[arb | float]) -> arb_mat:
    """A vector."""
    return arb_mat(len(values), 1, list(values))


def identity(size: int) -> arb_mat:
    """The unit matrix."""
    return arb_mat(size, size, 1)


def absolute(matrix: arb_mat) -> arb_mat:
    """An upper bound of |a| for every entry a, exact as a ball."""
    return arb_mat([[arb(abs(a).upper()) for a in row] for row in matrix.tolist()])


def length(vector: arb_mat) -> arb:
    """The Euclidean norm of a vector; of a matrix, the Frobenius norm."""
    total = sum((entry * entry for entry in vector.entries()), arb(0))
    return total.sqrt() if not total.contains(0) else arb(total.abs_upper()).sqrt().union(arb(0))


def norm_bound(matrix: arb_mat) -> arb:
    """An upper bound of the spectral norm, at most p^(1/32) times it for p columns.

    With G = AᵀA: ‖A‖₂ = ‖G⁸‖₂^(1/16) <= ‖G⁸‖_F^(1/16), and the Frobenius norm is at most √p times the spectral one.
    """
    size = arb(length((matrix.transpose() * matrix) ** 8).upper())
    return arb(size.root(16).upper()) if not size.is_zero() else arb(0)


def extreme_eigenvalues(matrices: Sequence[arb_mat]) -> tuple[arb, arb]:
    """Enclosures of the smallest and the largest eigenvalue of some symmetric matrices.

    NumPy finds approximate V and Λ; their defects are enclosed. For A = VΛVᵀ + E and VᵀV = I + F, Ostrowski's theorem
    (Horn & Johnson, Matrix Analysis, 4.5.9) puts the eigenvalues of VΛVᵀ within max|Λ|·‖F‖ of Λ, and Weyl's those of A
    within ‖E‖ of those.
    """
    values, vectors = np.linalg.eigh([[[float(a.mid()) for a in row] for row in m.tolist()] for m in matrices])
    lowest, highest = arb.pos_inf(), arb.neg_inf()
    for matrix, eigenvalues, basis in zip(matrices, values, vectors, strict=True):
        v, diagonal = arb_mat(basis.tolist()), arb_mat(np.diag(eigenvalues).tolist())
        defect = length(matrix - v * diagonal * v.transpose())
        skew = length(v.transpose() * v - identity(len(eigenvalues)))
        radius = upper(defect + skew * float(np.abs(eigenvalues).max()))
        lowest = lowest.min(arb(float(eigenvalues[0]), radius))
        highest = highest.max(arb(float(eigenvalues[-1]), radius))
    return lowest, highest


def spectral_radius_exceeds_one(matrix: arb_mat) -> bool | None:
    """Whether repeating the linear map grows without bound; None where the radius is too near to 1 to tell.

    For P = A^(2^k): ρ(P) >= |tr P| / p, and ρ(P) <= ‖P‖_F.
    """
    power, size = matrix, matrix.nrows()
    for _ in range(_SQUARINGS + 1):
        if length(power) < 1:
            return False
        if abs(power.trace()) > size:
            return True
        power = power * power
        if not all(a.is_finite() for a in power.entries()):
            return None
    return None


def upper(ball: arb) -> float:
    """A float at or above everything in the ball."""
    return math.nextafter(float(ball.upper()), math.inf) if ball.is_finite() else math.inf
