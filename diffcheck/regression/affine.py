"""Linear algebra in balls: vectors are `arb_mat` columns, and every number that comes out is an enclosure or a bound.

Precision is python-flint's `ctx.prec`; whoever calls sets it with `precision`.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Final

import numpy as np
from flint import arb, arb_mat, ctx

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


def column(values: Sequence[arb]) -> arb_mat:
    """A vector."""
    return arb_mat([[v] for v in values])


def identity(size: int) -> arb_mat:
    """The unit matrix."""
    return arb_mat([[int(i == j) for j in range(size)] for i in range(size)])


def absolute(matrix: arb_mat) -> arb_mat:
    """An upper bound of |a| for every entry a, exact as a ball."""
    return arb_mat([[arb(abs(a).upper()) for a in row] for row in matrix.tolist()])


def length(vector: arb_mat) -> arb:
    """The Euclidean norm of a vector; of a matrix, the Frobenius norm."""
    total = arb(0)
    for entry in vector.entries():
        total += entry * entry
    return total.sqrt() if not total.contains(0) else arb(total.abs_upper()).sqrt().union(arb(0))


def norm_bound(matrix: arb_mat) -> arb:
    """An upper bound of the spectral norm, at most p^(1/32) times it for p columns.

    With G = AᵀA: ‖A‖₂ = ‖G⁸‖₂^(1/16) <= ‖G⁸‖_F^(1/16), and the Frobenius norm is at most √p times the spectral one.
    """
    power = matrix.transpose() * matrix
    for _ in range(3):
        power = power * power
    size = arb(length(power).upper())
    return arb(size.root(16).upper()) if not size.is_zero() else arb(0)


def extreme_eigenvalues(matrices: Sequence[arb_mat]) -> list[tuple[arb, arb]]:
    """Enclosures of the smallest and the largest eigenvalue of symmetric matrices.

    NumPy finds approximate V and Λ; their defects are enclosed. For A = VΛVᵀ + E and VᵀV = I + F, Ostrowski's theorem
    (Horn & Johnson, Matrix Analysis, 4.5.9) puts the eigenvalues of VΛVᵀ within max|Λ|·‖F‖ of Λ, and Weyl's those of A
    within ‖E‖ of those.
    """
    if not matrices:
        return []
    rough = np.array([[[float(a.mid()) for a in row] for row in m.tolist()] for m in matrices])
    found = []
    values, vectors = np.linalg.eigh(rough)
    for matrix, eigenvalues, basis in zip(matrices, values, vectors, strict=True):
        size = len(eigenvalues)
        v = arb_mat(basis.tolist())
        diagonal = arb_mat([[eigenvalues[i] if i == j else 0 for j in range(size)] for i in range(size)])
        defect = length(matrix - v * diagonal * v.transpose())
        skew = length(v.transpose() * v - identity(size))
        radius = (defect + skew * float(np.abs(eigenvalues).max())).upper()
        found.append((arb(float(eigenvalues[0]), float(radius)), arb(float(eigenvalues[-1]), float(radius))))
    return found


def spectral_radius_exceeds_one(matrix: arb_mat) -> bool | None:
    """Whether repeating the linear map grows without bound; None where the radius is too near to 1 to tell.

    For P = A^(2^k): ρ(P) >= |tr P| / p, and ρ(P) <= ‖P‖_F.
    """
    power, size = matrix, matrix.nrows()
    for _ in range(_SQUARINGS + 1):
        if length(power) < 1:
            return False
        trace = arb(0)
        for i in range(size):
            trace += power[i, i]
        if abs(trace) > size:
            return True
        power = power * power
        if not all(a.is_finite() for a in power.entries()):
            return None
    return None


def upper(ball: arb) -> float:
    """A float at or above everything in the ball."""
    return math.nextafter(float(ball.upper()), math.inf) if ball.is_finite() else math.inf


def lower(ball: arb) -> float:
    """A float at or below everything in the ball."""
    return math.nextafter(float(ball.lower()), -math.inf) if ball.is_finite() else -math.inf


def shown(ball: arb, digits: int = 3) -> str:
    """The midpoint in a few digits."""
    return f"{float(ball.mid()):.{digits}g}"
