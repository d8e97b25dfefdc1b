"""A pipeline as a person would write it down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sympy
import torch

from diffcheck.derive.symbolic import to_sympy
from diffcheck.errors import DiffcheckError
from diffcheck.prove.identity import Status
from diffcheck.regression.closed_form import normal_equations
from diffcheck.regression.formulas import Sizes, batch_formulas, step_formulas
from diffcheck.regression.pipeline import prepare
from diffcheck.regression.report import equations as equation_lines
from diffcheck.regression.report import system
from diffcheck.regression.training import make_data, make_model

if TYPE_CHECKING:
    from diffcheck.regression.declare import Regression


def show(declared: Regression, *, latex: bool = False) -> str:
    """The loss, its gradient, the normal equations that follow, the update that runs, and whether it is proved."""
    try:
        return _latex(declared) if latex else _text(declared)
    except DiffcheckError as error:
        return f"{declared.name}: {error}"


def _text(declared: Regression) -> str:
    features, labels = make_data(declared, torch.float64)
    pipeline = prepare(declared, torch.float64, features, labels)
    net = make_model(declared, torch.float64)
    sizes = Sizes(tuple(features.shape[1:]), tuple(labels.shape[1:]))
    small = batch_formulas(declared, net, sizes, min(len(pipeline.names) + 1, 8), torch.float64)
    step = step_formulas(declared, net, sizes, pipeline.row, torch.float64)
    lines = [declared.name, f"  {declared.doc.splitlines()[0]}" if declared.doc else "", f"  {declared.signature}", ""]
    lines += ["loss of one example", f"  {to_sympy([pipeline.row.loss])[0]}", "", "its gradient, from SymPy"]
    for name, entry in zip(pipeline.names, to_sympy(pipeline.row.gradient), strict=True):
        lines.append(f"  ∂/∂{name} = {entry}")
    lines += [
        "",
        *equation_lines(normal_equations(small), pipeline),
        "",
        "the update that autograd and the optimizer executed",
    ]
    for name, entry in zip(pipeline.names, to_sympy(step.executed), strict=True):
        lines.append(f"  {name} ← {entry}")
    verdict = {
        Status.PROVED: "is θ - lr·∇L for all parameters, data and learning rates: proved",
        Status.REFUTED: f"is not θ - lr·∇L, at {pipeline.names[step.proof.position or 0]}",
        Status.UNDECIDED: f"could not be compared with θ - lr·∇L by algebra ({step.proof.why})",
    }[step.proof.status]
    lines.append(f"  {verdict}")
    return "\n".join(line for i, line in enumerate(lines) if line or i != 1)


def _latex(declared: Regression) -> str:
    features, labels = make_data(declared, torch.float64)
    row = prepare(declared, torch.float64, features, labels).row
    variables = (*row.theta, *row.features, *row.labels)
    names = dict(zip(to_sympy(variables), (_latex_name(str(v.payload)) for v in variables), strict=True))

    def written(expression: Any) -> str:
        return str(sympy.latex(expression, symbol_names=names))

    theta = [written(v) for v in to_sympy(row.theta)]
    lines = [rf"L &= {written(to_sympy([row.loss])[0])} \\"]
    for name, entry in zip(theta, to_sympy(row.gradient), strict=True):
        lines.append(rf"\frac{{\partial L}}{{\partial {name}}} &= {written(entry)} \\")
    for coefficients, right in system(row):
        left = " + ".join(rf"{name} \sum_i {written(c)}" for c, name in zip(coefficients, theta, strict=True) if c != 0)
        lines.append(rf"{left} &= \sum_i {written(right)} \\")
    return "\\begin{align*}\n" + "\n".join(lines) + "\n\\end{align*}"


def _latex_name(name: str) -> str:
    """`weight[0,1]` with its index below; the first index of data is the row i."""
    stem, _, index = name.partition("[")
    index = index.rstrip("]")
    if stem in ("X", "y"):
        return rf"{stem}_{{{','.join(['i', *index.split(',')[1:]])}}}"
    return rf"\mathrm{{{stem.replace('_', chr(92) + '_')}}}" + (f"_{{{index}}}" if index else "")
