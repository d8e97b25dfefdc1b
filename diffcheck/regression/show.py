"""What is written of a pipeline: as a person would write it down, and the lines that its results carry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sympy
import torch
from flint import arb

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr
from diffcheck.certify.balls import Selections
from diffcheck.certify.compiler import Program
from diffcheck.derive import text
from diffcheck.derive.symbolic import to_sympy
from diffcheck.errors import DiffcheckError
from diffcheck.prove.identity import Status
from diffcheck.regression.bounds import EndPoint, Stability
from diffcheck.regression.closed_form import digits_kept
from diffcheck.regression.declare import Regression
from diffcheck.regression.formulas import BatchFormulas
from diffcheck.regression.pipeline import Pipeline, Training, prepare
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


def of_any_row(row: BatchFormulas, formulas: Iterable[Expr]) -> list[Expr]:
    """Formulas of the one traced row, whose index is 0, as those of row i."""
    data = [(e, str(e.payload)) for e in (*row.features, *row.labels)]
    return graph.substitute(list(formulas), {e: graph.symbol(name.replace("[0", "[i", 1)) for e, name in data})


def system(row: BatchFormulas) -> list[tuple[list[Any], Any]]:
    """∇L = 0 on any number of rows: per equation the coefficients of the parameters and the right side, of row i."""
    flat = to_sympy(of_any_row(row, row.system))
    size = len(row.theta)
    hessian, right = [flat[i * size : (i + 1) * size] for i in range(size)], flat[size**2 :]
    content = sympy.gcd_list([c for line in hessian for c in (e.as_coeff_Mul()[0] for e in line) if c] or [1])
    factor = content if content.is_number and content else sympy.Integer(1)
    return [([e / factor for e in line], b / factor) for line, b in zip(hessian, right, strict=True)]


def _sum(coefficient: Any) -> str:
    if coefficient.is_number:
        return "n" if coefficient == 1 else f"{coefficient}*n"
    return f"Σ {sympy.factor_terms(coefficient)}"


def equations(pipeline: Pipeline) -> tuple[str, ...]:
    """The system that SymPy found, as sums over the rows, and what was proved and solved."""
    known, row = pipeline.equations, pipeline.row
    lines = [f"SymPy sets ∇L to zero: {len(pipeline.names)} equations, sums over the n rows i"]
    for coefficients, right in system(row)[:_MOST_SHOWN]:
        terms = [f"({_sum(c)})·{name}" for c, name in zip(coefficients, pipeline.names, strict=True) if c != 0]
        lines.append(f"  {' + '.join(terms)} = {_sum(right)}")
    if len(pipeline.names) > _MOST_SHOWN:
        lines.append("  …")
    if known.scale is not None:
        columns = ", ".join(map(str, to_sympy(of_any_row(row, row.design[0]))))
        of_symbols = f"on {known.rows} rows of symbols: ∇L = {known.scale}·(XᵀX·θ - Xᵀy) for all data"
        lines.append(f"{of_symbols}, the row of X being ({columns})")
    if known.numerators:
        *counts, last = (len(sympy.Add.make_args(e)) for e in (*known.numerators, known.denominator))
        solved = f"solved in symbols: {', '.join(map(str, counts))} terms over a determinant of {last}"
        lines.append(f"{solved}, checked by substitution")
    return tuple(lines)


def solution(training: Training) -> tuple[str, ...]:
    """The least-squares solution on the data, and what PyTorch's own ways to it keep of its digits."""
    known, names = training.solution, training.pipeline.names
    if known.balls is None:
        return ()
    how = "in certified balls" if known.exact is None else "over the rationals"
    values = [f"  {name} = {value.str(17, radius=False)}" for name, value in zip(names, known.balls, strict=True)]
    return (f"solved {how}, rank {known.rank} of {len(names)}:", *values, *_digits_kept(training, known.balls))


def _digits_kept(training: Training, balls: tuple[arb, ...]) -> tuple[str, ...]:
    row = training.pipeline.row
    if len(row.resting) != len(row.labels):
        return ()
    program = Program([e for x, y in zip(row.design, row.target, strict=True) for e in (*x, y)], row.data)
    table = [[float(v.mid()) for v in program([arb(v) for v in line], 64, Selections())] for line in training.data]
    rows = torch.tensor(table, dtype=training.pipeline.dtype).reshape(-1, len(balls) + 1)
    (lstsq, normal), dtype = digits_kept(rows, balls), training.pipeline.dtype_name
    return (f"torch.linalg.lstsq keeps {lstsq:.1f} digits in {dtype}, the normal equations {normal:.1f}",)


def end_point(bound: EndPoint, stable: Stability) -> tuple[str, ...]:
    """The distance to the solution and its bounds, as a table."""
    rows = (
        ("distance of the last parameters to the solution", f"{bound.distance:.3g}"),
        ("bound from the batches' maps and gradients", f"{bound.from_batches:.3g}"),
        ("bound from the norms of their products", f"{bound.from_norms:.3g}"),
        ("bound from learning rate and spectrum alone", f"{bound.from_spectrum:.3g}"),
        ("eigenvalues of the batches' H, from", _shown(bound.smallest)),
        ("  to", _shown(bound.largest)),
        ("contraction of a step, at most", _shown(bound.contraction, 6)),
        ("largest gradient of a batch at the solution", f"{bound.noise:.3g}"),
    )
    width = max(len(what) for what, _ in rows)
    return (*(f"{what:<{width}}  {value}" for what, value in rows), str(stable))


def _shown(ball: arb, digits: int = 3) -> str:
    return f"{float(ball.mid()):.{digits}g}"


def show(declared: Regression, *, latex: bool = False) -> str:
    """The loss, its gradient, the normal equations that follow, the update that runs, and whether it is proved."""
    try:
        pipeline = prepare(declared, torch.float64)
        return _latex(pipeline) if latex else _text(pipeline)
    except DiffcheckError as error:
        return f"{declared.name}: {error}"


def _text(pipeline: Pipeline) -> str:
    declared, row, names = pipeline.declared, pipeline.row, pipeline.names
    step = pipeline.step(1)
    verdict = {
        Status.PROVED: "is θ - lr·∇L for all parameters, data and learning rates: proved",
        Status.REFUTED: f"is not θ - lr·∇L, at {names[step.proof.position or 0]}",
        Status.UNDECIDED: f"could not be compared with θ - lr·∇L by algebra ({step.proof.why})",
    }[step.proof.status]
    lines = [
        declared.name,
        *([f"  {declared.doc.splitlines()[0]}"] if declared.doc else []),
        f"  {declared.signature}",
        "",
        "loss of one example",
        f"  {text.text(row.loss)}",
        "",
        "its gradient, from SymPy",
        *(f"  ∂/∂{name} = {text.text(entry)}" for name, entry in zip(names, row.gradient, strict=True)),
        "",
        *equations(pipeline),
        "",
        "the update that autograd and the optimizer executed",
        *(f"  {name} ← {text.text(entry)}" for name, entry in zip(names, step.executed, strict=True)),
        f"  {verdict}",
    ]
    return "\n".join(lines)


def _latex(pipeline: Pipeline) -> str:
    row = pipeline.row
    theta = list(map(text.latex, row.theta))
    loss, *gradient = map(text.latex, of_any_row(row, (row.loss, *row.gradient)))
    lines = [rf"L &= {loss} \\"]
    lines += [rf"\frac{{\partial L}}{{\partial {name}}} &= {g} \\" for name, g in zip(theta, gradient, strict=True)]
    for coefficients, right in system(row):
        terms = [rf"{name} \sum_i {text.latex_of(c)}" for c, name in zip(coefficients, theta, strict=True) if c != 0]
        lines.append(rf"{' + '.join(terms)} &= \sum_i {text.latex_of(right)} \\")
    return "\n".join([r"\begin{align*}", *lines, r"\end{align*}"])
