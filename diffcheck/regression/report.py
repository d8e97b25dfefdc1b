"""The lines that a pipeline's results carry: losses, equations, tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import sympy
import torch
from flint import arb
from torch import Tensor

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import ONE, ZERO
from diffcheck.certify.balls import Selections
from diffcheck.certify.compiler import Program
from diffcheck.derive import chain_rule
from diffcheck.derive.symbolic import to_sympy
from diffcheck.regression.affine import shown
from diffcheck.regression.digits import digits_of, normal_equations_in_floats

if TYPE_CHECKING:
    from diffcheck.regression.bounds import EndPoint, Stability
    from diffcheck.regression.closed_form import NormalEquations, Solution
    from diffcheck.regression.formulas import BatchFormulas
    from diffcheck.regression.pipeline import Pipeline
    from diffcheck.regression.training import Record

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_MOST_SHOWN = 6
"""Of a system, so many equations are written out."""


def subscript(number: int) -> str:
    """300 as ₃₀₀."""
    return str(number).translate(_SUBSCRIPTS)


def losses(record: Record) -> tuple[str, ...]:
    """The loss on all of the data after each epoch."""
    return tuple(f"epoch {epoch}, loss {value:f}" for epoch, value in enumerate(record.losses, start=1))


def system_line(equations: NormalEquations) -> str:
    """What ∇L = 0 came to, in one line."""
    if equations.scale is None:
        return "∇L = 0 is the linear system H·θ = b"
    return "∇L = 0 is XᵀX·θ = Xᵀy"


def system(row: BatchFormulas) -> list[tuple[list[Any], Any]]:
    """∇L = 0 on any number of rows: per equation the coefficients of the parameters and the right side, of row i."""
    hessian = [to_sympy(line) for line in row.hessian]
    right = to_sympy(row.right)
    content = sympy.gcd_list([c for line in hessian for c in (e.as_coeff_Mul()[0] for e in line) if c] or [1])
    factor = content if content.is_number and content else sympy.Integer(1)
    return [([e / factor for e in line], b / factor) for line, b in zip(hessian, right, strict=True)]


def _any_row(text: str) -> str:
    """X[0,1] of the one traced row as X[i,1]."""
    return re.sub(r"\b([Xy])\[0([,\]])", r"\1[i\2", text)


def _sum(coefficient: Any) -> str:
    if coefficient.is_number:
        return "n" if coefficient == 1 else f"{coefficient}*n"
    return f"Σ {_any_row(str(sympy.factor_terms(coefficient)))}"


def equations(known: NormalEquations, pipeline: Pipeline) -> tuple[str, ...]:
    """The system that SymPy found, as sums over the rows, and what was proved and solved."""
    lines = [f"SymPy sets ∇L to zero: {len(pipeline.names)} equations, sums over the n rows i"]
    for coefficients, right in system(pipeline.row)[:_MOST_SHOWN]:
        terms = [f"({_sum(c)})·{name}" for c, name in zip(coefficients, pipeline.names, strict=True) if c != 0]
        lines.append(f"  {' + '.join(terms)} = {_sum(right)}")
    if len(pipeline.names) > _MOST_SHOWN:
        lines.append("  …")
    if known.scale is not None:
        columns = ", ".join(_any_row(str(c)) for c in known.design.row(0))
        lines.append(
            f"on {known.rows} rows of symbols: ∇L = {known.scale}·(XᵀX·θ - Xᵀy) for all data, "
            f"the row of X being ({columns})"
        )
    if known.numerators:
        terms_of = [len(sympy.Add.make_args(e)) for e in (*known.numerators, known.denominator)]
        lines.append(
            f"solved in symbols: {', '.join(map(str, terms_of[:-1]))} terms over a determinant of {terms_of[-1]}, "
            "checked by substitution"
        )
    return tuple(lines)


def solution(known: Solution, pipeline: Pipeline) -> tuple[str, ...]:
    """The least-squares solution on the data."""
    if known.balls is None:
        return ()
    how = "in certified balls" if known.exact is None else "over the rationals"
    values = [
        f"  {name} = {value.str(17, radius=False)}" for name, value in zip(pipeline.names, known.balls, strict=True)
    ]
    return (f"solved {how}, rank {known.rank} of {known.dimension}:", *values)


def digits_kept(pipeline: Pipeline, known: Solution, features: Tensor, labels: Tensor) -> tuple[str, ...]:
    """How many digits PyTorch's own ways to the same solution keep, in the dtype of the data."""
    row = pipeline.row
    if known.balls is None or len(row.outputs) != len(row.labels):
        return ()
    slopes = [chain_rule.pull_back([o], [ONE], row.theta) for o in row.outputs]
    at_zero = dict.fromkeys(row.theta, ZERO)
    count = len(row.theta)
    flat = graph.substitute([*(e for line in slopes for e in line), *row.outputs], at_zero)
    program = Program(flat, row.data)
    design, target = [], []
    for x, y in zip(
        features.reshape(len(features), -1).tolist(), labels.reshape(len(labels), -1).tolist(), strict=True
    ):
        values = [float(v.mid()) for v in program([arb(v) for v in (*x, *y)], 64, Selections())]
        for k, label in enumerate(y):
            design.append(values[k * count : (k + 1) * count])
            target.append(label - values[len(y) * count + k])
    a, b = torch.tensor(design, dtype=pipeline.dtype), torch.tensor(target, dtype=pipeline.dtype).reshape(-1, 1)
    name = str(pipeline.dtype).removeprefix("torch.")
    lstsq = digits_of(torch.linalg.lstsq(a, b).solution.reshape(-1).tolist(), known.balls)
    normal = digits_of(normal_equations_in_floats(a, b), known.balls)
    return (f"torch.linalg.lstsq keeps {lstsq:.1f} digits in {name}, the normal equations {normal:.1f}",)


def end_point(bound: EndPoint, stable: Stability, learning_rate: float) -> tuple[str, ...]:
    """The distance to the solution and its bounds, as a table."""
    rows = (
        ("distance of the last parameters to the solution", shown(bound.distance)),
        ("bound from the batches' maps and gradients", f"{bound.from_batches:.3g}"),
        ("bound from the norms of their products", f"{bound.from_norms:.3g}"),
        ("bound from learning rate and spectrum alone", f"{bound.from_spectrum:.3g}"),
        ("eigenvalues of the batches' H, from", shown(bound.smallest)),
        ("  to", shown(bound.largest)),
        ("contraction of a step, at most", shown(bound.contraction, 6)),
        ("largest gradient of a batch at the solution", f"{bound.noise:.3g}"),
    )
    width = max(len(what) for what, _ in rows)
    return (*(f"{what:<{width}}  {value}" for what, value in rows), stable.describe(learning_rate))
