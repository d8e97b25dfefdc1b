"""The least-squares solution.

SymPy solves the symbolic gradient; on data the same system is solved exactly or in balls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sympy
from flint import arb, arb_mat, fmpq, fmpq_mat
from sympy.polys.matrices import DomainMatrix

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import ONE, ZERO
from diffcheck.certify.balls import Selections
from diffcheck.certify.compiler import Program
from diffcheck.derive import chain_rule
from diffcheck.derive.symbolic import to_sympy, variable
from diffcheck.regression.affine import precision
from diffcheck.regression.rational import NotRational, RationalProgram, exact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from diffcheck.regression.formulas import BatchFormulas

SOLVED_SYMBOLICALLY: Final = 3
"""Up to so many unknowns the system is also solved in symbols; its determinants grow like factorials."""
_EXACT_ENTRIES: Final = 300_000
"""Up to so many numbers of data the system is set up exactly, beyond that in balls."""
_BALL_BITS: Final = 512


# ---------------------------------------------------------------------------------------------------------------------
# In symbols
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NormalEquations:
    """∇L = 0 as SymPy understands it, on symbolic data."""

    rows: int
    unknowns: tuple[Any, ...]
    matrix: Any
    """A of the system Aθ = r that ∇L = 0 is."""
    right: Any
    design: Any
    """X: the network's derivative in its parameters, a row per output."""
    target: Any
    """The labels, less what the network returns for θ = 0."""
    scale: Any
    """A = scale·XᵀX and r = scale·Xᵀy, proved for all data; None if that is not so."""
    numerators: tuple[Any, ...]
    """The solution, as numerators over one common denominator; empty beyond `SOLVED_SYMBOLICALLY` unknowns."""
    denominator: Any


def normal_equations(batch: BatchFormulas) -> NormalEquations:
    """Sets the gradient of a batch's loss to zero and solves it."""
    unknowns = tuple(variable(str(e.payload)) for e in batch.theta)
    gradient = to_sympy(batch.gradient)
    matrix, right = sympy.linear_eq_to_matrix(gradient, *unknowns)
    slopes = [chain_rule.pull_back([o], [ONE], batch.theta) for o in batch.outputs]
    resting = graph.substitute(batch.outputs, dict.fromkeys(batch.theta, ZERO))
    design = sympy.Matrix([to_sympy(graph.substitute(row, dict.fromkeys(batch.theta, ZERO))) for row in slopes])
    target = (
        sympy.Matrix([label - o for label, o in zip(to_sympy(batch.labels), to_sympy(resting), strict=True)])
        if len(batch.labels) == len(batch.outputs)
        else None
    )
    scale = _scale(matrix, right, design, target)
    numerators: tuple[Any, ...] = ()
    denominator: Any = None
    if len(unknowns) <= SOLVED_SYMBOLICALLY:
        numerators, denominator = _solved(matrix, right)
    return NormalEquations(batch.rows, unknowns, matrix, right, design, target, scale, numerators, denominator)


def _scale(matrix: Any, right: Any, design: Any, target: Any) -> Any:
    """The number c with A = c·XᵀX and r = c·Xᵀy, identically in all data."""
    if target is None:
        return None
    gram, moment = design.T * design, design.T * target
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
    domain = a.domain
    return tuple(domain.to_sympy(e) for e in numerators.to_list_flat()), domain.to_sympy(denominator)


# ---------------------------------------------------------------------------------------------------------------------
# On data
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Solution:
    """The minimiser of a quadratic ½θᵀHθ - bᵀθ + c, H positive semi-definite."""

    dimension: int
    rank: int | None
    """Of H, exactly; None where balls could not tell."""
    hessian: arb_mat
    right: arb_mat
    exact: tuple[fmpq, ...] | None
    """The solution over the rationals; None if there is no unique one, or it was found in balls."""
    balls: tuple[arb, ...] | None
    """Its enclosure; None if there is no unique one."""

    @property
    def unique(self) -> bool:
        """Whether there is one solution, certainly."""
        return self.balls is not None


def least_squares(design: Sequence[Sequence[fmpq]], target: Sequence[fmpq]) -> Solution:
    """The solution of XᵀXθ = Xᵀy, exactly.

    Args:
        design: X, a row per observation.
        target: y.
    """
    x = fmpq_mat([list(row) for row in design])
    transposed = x.transpose()
    return solve(transposed * x, transposed * fmpq_mat([[v] for v in target]))


def solve(hessian: fmpq_mat, right: fmpq_mat) -> Solution:
    """The solution of Hθ = b, exactly; none if H is singular."""
    size, rank = hessian.nrows(), hessian.rank()
    with precision(_BALL_BITS):
        exactly = tuple(hessian.solve(right).entries()) if rank == size else None
        balls = None if exactly is None else tuple(map(arb, exactly))
        return Solution(size, rank, arb_mat(hessian), arb_mat(right), exactly, balls)


def solve_in_balls(hessian: arb_mat, right: arb_mat) -> Solution:
    """The solution of Hθ = b in balls; that H is singular is beyond them, and then the rank is None."""
    size = hessian.nrows()
    with precision(_BALL_BITS):
        try:
            found = tuple(hessian.solve(right).entries())
        except ZeroDivisionError:
            return Solution(size, None, hessian, right, None, None)
    return Solution(size, size, hessian, right, None, found)


def minimiser(row: BatchFormulas, data: Iterable[tuple[Sequence[float], Sequence[float]]], how: str) -> Solution:
    """The minimiser of the loss over a whole data set.

    Args:
        row: The loss of one example.
        data: Features and labels of each example.
        how: Whether the whole loss is the "mean" or the "sum" of the examples'.
    """
    size = len(row.theta)
    upper = [(i, j) for i in range(size) for j in range(i, size)]
    outputs = [row.hessian[i][j] for i, j in upper] + list(row.right)
    rows = [(*x, *y) for x, y in data]
    divisor = len(rows) if how == "mean" else 1
    if len(rows) * len(rows[0]) <= _EXACT_ENTRIES:
        try:
            program = RationalProgram(outputs, row.data)
            sums = _column_sums([program([exact(v) for v in values]) for values in rows])
        except (NotRational, ZeroDivisionError):
            pass
        else:
            h, b = _assembled([s / divisor for s in sums], upper, size)
            return solve(fmpq_mat(h), fmpq_mat(b))
    compiled = Program(outputs, row.data)
    with precision(_BALL_BITS):
        evaluated = [compiled([arb(v) for v in values], _BALL_BITS, Selections()) for values in rows]
        h, b = _assembled([s / divisor for s in _column_sums(evaluated)], upper, size)
        return solve_in_balls(arb_mat(h), arb_mat(b))


def _column_sums(table: list[list[Any]]) -> list[Any]:
    """Pairwise, so that denominators stay short for as long as possible."""
    while len(table) > 1:
        paired = [[a + b for a, b in zip(u, v, strict=True)] for u, v in zip(table[::2], table[1::2], strict=False)]
        table = paired + ([table[-1]] if len(table) % 2 else [])
    return table[0]


def _assembled(values: list[Any], upper: list[tuple[int, int]], size: int) -> tuple[list[list[Any]], list[list[Any]]]:
    h: list[list[Any]] = [[None] * size for _ in range(size)]
    for (i, j), value in zip(upper, values, strict=False):
        h[i][j] = h[j][i] = value
    return h, [[v] for v in values[len(upper) :]]
