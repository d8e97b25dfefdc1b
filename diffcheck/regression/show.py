"""A pipeline as a person would write it down."""

from __future__ import annotations

import torch

from diffcheck.derive import text
from diffcheck.errors import DiffcheckError
from diffcheck.prove.identity import Status
from diffcheck.regression import report
from diffcheck.regression.declare import Regression
from diffcheck.regression.pipeline import Pipeline, prepare


def show(declared: Regression, *, latex: bool = False) -> str:
    """The loss, its gradient, the normal equations that follow, the update that runs, and whether it is proved."""
    try:
        pipeline = prepare(declared, torch.float64)
        return _latex(pipeline) if latex else _text(pipeline)
    except DiffcheckError as error:
        return f"{declared.name}: {error}"


def _text(pipeline: Pipeline) -> str:
    declared, row, names = pipeline.declared, pipeline.row, pipeline.names
    step = pipeline.checker(1).formulas
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
        *report.equations(pipeline),
        "",
        "the update that autograd and the optimizer executed",
        *(f"  {name} ← {text.text(entry)}" for name, entry in zip(names, step.executed, strict=True)),
        f"  {verdict}",
    ]
    return "\n".join(lines)


def _latex(pipeline: Pipeline) -> str:
    row = pipeline.row
    theta = list(map(text.latex, row.theta))
    loss, *gradient = map(text.latex, report.of_any_row(row, (row.loss, *row.gradient)))
    lines = [rf"L &= {loss} \\"]
    lines += [rf"\frac{{\partial L}}{{\partial {name}}} &= {g} \\" for name, g in zip(theta, gradient, strict=True)]
    for coefficients, right in report.system(row):
        terms = [rf"{name} \sum_i {text.latex_of(c)}" for c, name in zip(coefficients, theta, strict=True) if c != 0]
        lines.append(rf"{' + '.join(terms)} &= \sum_i {text.latex_of(right)} \\")
    return "\n".join([r"\begin{align*}", *lines, r"\end{align*}"])
