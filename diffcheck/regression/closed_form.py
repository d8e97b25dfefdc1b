"""The least-squares solution.

SymPy solves the symbolic gradient; on data the same system is solved exactly or in balls.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import add
from typing import Any, Final

import sympy
import torch
from flint import arb, arb_mat, fmpq, fmpq_mat
from sympy.polys.matrices import DomainMatrix
from sympy.printing.pycode import PythonCodePrinter
from torch import Tensor

from diffcheck.certify.balls import Selections
from diffcheck.certify.compiler import Program
from diffcheck.certify.linear import precision
from diffcheck.derive.symbolic import to_sympy, variable
from diffcheck.regression.formulas import BatchFormulas

_SOLVED_SYMBOLICALLY: Final = 3
"""Up to so many unknowns the system is also solved in symbols; its determinants grow like factorials."""
_EXACT_ENTRIES: Final = 300_000
"""Up to so many numbers of data the system is set up exactly, beyond that in balls."""
_BALL_BITS: Final = 512
_MOST_DIGITS: Final = 16.0
"""A float64 has no more than so many."""


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


class _Exactly(PythonCodePrinter):  # type: ignore[misc]
    """Writes a fraction as what it is: Python's 1/3 is a float."""

    def _print_Rational(self, number: Any) -> str:  # noqa: N802 - SymPy's name for it
        return f"fmpq({number.p}, {number.q})"


def over_rationals(formulas: Sequence[Any], variables: Sequence[Any]) -> Callable[[Sequence[fmpq]], list[fmpq]] | None:
    """SymPy's formulas as a function over the rationals; None if they are not rational functions."""
    if not all(formula.is_rational_function(*variables) for formula in formulas):
        return None
    program = sympy.lambdify(variables, list(formulas), [{"fmpq": fmpq}], printer=_Exactly, cse=True)
    return lambda values: [fmpq(value) for value in program(*values)]


def exact(value: float | Decimal) -> fmpq:
    """A number as the fraction that it is."""
    return fmpq(*value.as_integer_ratio())


class Minimiser:
    """The minimiser of a loss over a whole data set.

    Args:
        row: The loss of one example.
        how: Whether the whole loss is the "mean" or the "sum" of the examples'.
    """

    def __init__(self, row: BatchFormulas, how: str) -> None:
        self._size, self._how = len(row.theta), how
        self._exact = over_rationals(to_sympy(row.system), list(map(variable, row.data)))
        self._enclosed = Program(row.system, row.data)

    def __call__(self, data: Sequence[Sequence[float]]) -> Solution:
        """On features and labels of each example."""
        size, divisor = self._size, len(data) if self._how == "mean" else 1
        if self._exact is not None and len(data) * len(data[0]) <= _EXACT_ENTRIES:
            with contextlib.suppress(ZeroDivisionError):
                sums = [s / divisor for s in _column_sums([self._exact(list(map(exact, row))) for row in data])]
                return solve(fmpq_mat(size, size, sums[: size**2]), fmpq_mat(size, 1, sums[size**2 :]))
        table = [self._enclosed(list(map(arb, row)), _BALL_BITS, Selections()) for row in data]
        with precision(_BALL_BITS):
            sums = [s / divisor for s in _column_sums(table)]
            return solve(arb_mat(size, size, sums[: size**2]), arb_mat(size, 1, sums[size**2 :]))


def _column_sums(table: list[list[Any]]) -> list[Any]:
    """Pairwise, so that denominators stay short for as long as possible."""
    while len(table) > 1:
        paired = [list(map(add, u, v)) for u, v in zip(table[::2], table[1::2], strict=False)]
        table = paired + table[len(table) - len(table) % 2 :]
    return table[0]


def digits_of(estimate: Sequence[float], solution: Sequence[arb]) -> float:
    """The digits that the worst coefficient keeps: min of -log₁₀ of the relative error, from 0 to `_MOST_DIGITS`.

    NIST's log relative error (McCullough, The American Statistician 52 (1998) 358); a coefficient that is 0 is
    judged by its absolute error.
    """
    kept = _MOST_DIGITS
    for number, true in zip(estimate, solution, strict=True):
        if not math.isfinite(number):
            return 0.0
        error = float(abs(true - number).upper())
        size = float(abs(true).lower())
        relative = error / size if size else error
        if relative:
            kept = min(kept, -math.log10(relative))
    return max(kept, 0.0)


def digits_kept(rows: Tensor, solution: Sequence[arb], drivers: Sequence[str | None] = (None,)) -> list[float]:
    """The digits that `torch.linalg.lstsq` keeps, by LAPACK's driver, and those that the normal equations keep.

    Args:
        rows: X and y side by side, a row per observation.
        solution: The least-squares solution.
        drivers: By default PyTorch's own choice.
    """
    design, target = rows[:, :-1].contiguous(), rows[:, -1:].contiguous()
    found = [torch.linalg.lstsq(design, target, driver=driver).solution for driver in drivers]
    try:
        found.append(torch.linalg.solve(design.T @ design, design.T @ target))
    except RuntimeError:  # torch.linalg.LinAlgError, which has no type: floats find the matrix singular
        found.append(torch.full_like(found[0], math.nan))
    return [digits_of(estimate.reshape(-1).tolist(), solution) for estimate in found]
