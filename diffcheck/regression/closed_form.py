"""The least-squares solution.

SymPy solves the symbolic gradient; on data the same system is solved exactly or in balls.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import Any, Final

import sympy
from flint import arb, arb_mat, fmpq, fmpq_mat
from sympy.polys.matrices import DomainMatrix

from diffcheck.certify.balls import Selections
from diffcheck.certify.compiler import Program
from diffcheck.derive.symbolic import to_sympy, variable
from diffcheck.regression.affine import precision
from diffcheck.regression.formulas import BatchFormulas
from diffcheck.regression.rational import NotRational, RationalProgram, exact

_SOLVED_SYMBOLICALLY: Final = 3
"""Up to so many unknowns the system is also solved in symbols; its determinants grow like factorials."""
_EXACT_ENTRIES: Final = 300_000
"""Up to so many numbers of data the system is set up exactly, beyond that in balls."""
_BALL_BITS: Final = 512


@dataclass(frozen=True, slots=True)
class NormalEquations:
    """∇L = 0 as SymPy understands it, on symbolic data."""

    rows: int
    scale: Any
    """The number c with ∇L = c·(XᵀXθ - Xᵀy), proved for all data; None if that is not so."""
    numerators: tuple[Any, ...]
    """The solution, as numerators over one common denominator; empty beyond `_SOLVED_SYMBOLICALLY` unknowns."""
    denominator: Any


def normal_equations(batch: BatchFormulas) -> NormalEquations:
    """Sets the gradient of a batch's loss to zero and solves it."""
    unknowns = [variable(str(e.payload)) for e in batch.theta]
    matrix, right = sympy.linear_eq_to_matrix(to_sympy(batch.gradient), *unknowns)
    solved = _solved(matrix, right) if len(unknowns) <= _SOLVED_SYMBOLICALLY else ((), None)
    return NormalEquations(batch.rows, _scale(matrix, right, batch), *solved)


def _scale(matrix: Any, right: Any, batch: BatchFormulas) -> Any:
    """The number c with A = c·XᵀX and r = c·Xᵀy, identically in all data."""
    if len(batch.labels) != len(batch.resting):
        return None
    design = sympy.Matrix([to_sympy(row) for row in batch.design])
    gram, moment = design.T * design, design.T * sympy.Matrix(to_sympy(batch.target))
    candidate = sympy.cancel(sum(matrix.diagonal()) / sum(gram.diagonal()))
    if not candidate.is_number:
        return None
    same = all(sympy.expand(e) == 0 for e in (*(matrix - candidate * gram), *(right - candidate * moment)))
    return candidate if same else None


def _solved(matrix: Any, right: Any) -> tuple[tuple[Any, ...], Any]:
    """Aθ = r by fraction-free elimination, checked by substitution; empty where A is singular for all data."""
    a, r = DomainMatrix.from_Matrix(matrix).unify(DomainMatrix.from_Matrix(right))
    a, r = (a.to_field().to_dense(), r.to_field().to_dense()) if not a.domain.is_Poly else (a, r)
    try:
        numerators, denominator = a.solve_den(r)
    except Exception:  # noqa: BLE001 - SymPy has several exceptions for "singular"
        return (), None
    if a * numerators != r * denominator:
        return (), None
    return tuple(map(a.domain.to_sympy, numerators.to_list_flat())), a.domain.to_sympy(denominator)


@dataclass(frozen=True, slots=True)
class Solution:
    """The minimiser of a quadratic ½θᵀHθ - bᵀθ + c, H positive semi-definite."""

    rank: int | None
    """Of H, exactly; None where balls could not tell."""
    hessian: arb_mat
    exact: tuple[fmpq, ...] | None
    """The solution over the rationals; None if there is no unique one, or it was found in balls."""
    balls: tuple[arb, ...] | None
    """Its enclosure; None if there is no unique one, for certain."""


def least_squares(design: Sequence[Sequence[fmpq]], target: Sequence[fmpq]) -> Solution:
    """The solution of XᵀXθ = Xᵀy, exactly.

    Args:
        design: X, a row per observation.
        target: y.
    """
    x = fmpq_mat([list(row) for row in design])
    return solve(x.transpose() * x, x.transpose() * fmpq_mat(len(target), 1, list(target)))


def solve(hessian: Any, right: Any) -> Solution:
    """The solution of Hθ = b: of `fmpq_mat` exactly, none if H is singular; of `arb_mat` enclosed, or none found."""
    exactly, found = isinstance(hessian, fmpq_mat), None
    with precision(_BALL_BITS):
        with contextlib.suppress(ZeroDivisionError):
            found = tuple(hessian.solve(right).entries())
        rank = hessian.rank() if exactly else None if found is None else len(found)
        balls = None if found is None else tuple(map(arb, found))
        return Solution(rank, arb_mat(hessian), found if exactly else None, balls)


def minimiser(row: BatchFormulas, data: Sequence[Sequence[float]], how: str) -> Solution:
    """The minimiser of the loss over a whole data set.

    Args:
        row: The loss of one example.
        data: Features and labels of each example.
        how: Whether the whole loss is the "mean" or the "sum" of the examples'.
    """
    size, divisor = len(row.theta), len(data) if how == "mean" else 1
    if len(data) * len(data[0]) <= _EXACT_ENTRIES:
        with contextlib.suppress(NotRational, ZeroDivisionError):
            program = RationalProgram(row.system, row.data)
            sums = [s / divisor for s in _column_sums([program(list(map(exact, values))) for values in data])]
            return solve(fmpq_mat(size, size, sums[: size**2]), fmpq_mat(size, 1, sums[size**2 :]))
    compiled = Program(row.system, row.data)
    table = [compiled(list(map(arb, values)), _BALL_BITS, Selections()) for values in data]
    with precision(_BALL_BITS):
        sums = [s / divisor for s in _column_sums(table)]
    return solve(arb_mat(size, size, sums[: size**2]), arb_mat(size, 1, sums[size**2 :]))


def _column_sums(table: list[list[Any]]) -> list[Any]:
    """Pairwise, so that denominators stay short for as long as possible."""
    while len(table) > 1:
        paired = [list(map(add, u, v)) for u, v in zip(table[::2], table[1::2], strict=False)]
        table = paired + table[len(table) - len(table) % 2 :]
    return table[0]
