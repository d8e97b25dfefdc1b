"""The formulas of a finding in the branch of its input: conditions that hold there need not be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flint import arb

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import ONE, ZERO, Expr
from diffcheck.certify.balls import EXACT, Selections
from diffcheck.certify.compiler import Program
from diffcheck.compare.evaluate import Evaluation

_BITS: Final = 256


def formulas_here(evaluation: Evaluation, position: int) -> list[Expr]:
    """What was executed for a number, and its reference, as they are at the input.

    On a boundary the executed formula stands on one side; the reference keeps its condition, since it has both.
    """
    trace = evaluation.path.trace
    executed, reference = trace.executed[position], trace.reference[position]
    return [
        _resolved(executed, trace.variables, evaluation.point, at_boundaries=True),
        _resolved(reference, trace.variables, evaluation.point, at_boundaries=False),
    ]


def _resolved(formula: Expr, variables: Sequence[str], point: Sequence[float], *, at_boundaries: bool) -> Expr:
    (formula,) = marks.as_values([formula])
    conditions = [n for n in graph.postorder([formula]) if n.head in graph.SELECTORS]
    program = Program(conditions, variables, EXACT)
    selections = Selections()
    values = program([arb(v) for v in point], _BITS, selections)
    left = selections.undecided if at_boundaries else selections.undecided | selections.boundary
    open_ones = {program.selectors[i] for i in left}
    chosen = {
        node: ONE if value == 1 else ZERO
        for node, value in zip(conditions, values, strict=True)
        if node not in open_ones and value in (0, 1)
    }
    return graph.substitute([formula], chosen)[0]
