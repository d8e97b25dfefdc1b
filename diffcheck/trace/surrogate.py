"""A backward pass that is not the derivative, on purpose: straight through, gradient reversal, clipping.

`surrogate=` states it, as a function of the outputs' gradients and the inputs; what was executed is held to that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from diffcheck.algebra.expr import Expr
from diffcheck.certify.formats import MANTISSA_BITS
from diffcheck.declare.case import Case
from diffcheck.declare.rule import rules_by_operation
from diffcheck.differentiate.dynamo import as_written
from diffcheck.differentiate.faults import case_errors, time_limit
from diffcheck.differentiate.run import textbook_gradients
from diffcheck.draw.inputs import copied
from diffcheck.rules import table
from diffcheck.rules.complexes import parts_of
from diffcheck.rules.registry import Array
from diffcheck.trace.budget import Budget
from diffcheck.trace.shadow import Guard, Shadows
from diffcheck.trace.storages import symbols_of

SURROGATE = "surrogate"


def stated(
    case: Case, values: Mapping[str, Tensor], cotangents: Sequence[tuple[Tensor, Array]], budget: Budget
) -> tuple[tuple[Expr, ...], tuple[Guard, ...]]:
    """What a case's surrogate gives at inputs, per entry of the differentiated ones, and what its path depended on.

    Args:
        case: The case.
        values: Its inputs by argument.
        cotangents: Of its outputs, each with its symbols.
        budget: What the trace may spend.

    Raises:
        CaseFailure: It misbehaved, or does not return what the case's arguments need.
    """
    assert case.surrogate is not None
    real = [a.name for a in case.differentiated]
    own = {name: copied(value.detach()) for name, value in values.items()}
    given = rules_by_operation(case.rules, f"case {case.name!r}")
    shadows = Shadows(table(), MANTISSA_BITS[own[real[0]].dtype], budget, given=given)
    for name in real:
        shadows.attach(own[name], symbols_of(name, own[name]))
    gradients = [copied(tensor.detach()) for tensor, _ in cotangents]
    for tensor, (_, cells) in zip(gradients, cotangents, strict=True):
        shadows.attach(tensor, cells)
    limit = time_limit(budget.seconds, "surrogate=")
    try:
        with torch.no_grad(), case_errors(case, SURROGATE, values), as_written(), shadows, limit:
            shadows.begin_backward()  # nothing is differentiated here: detach() means nothing
            said = case.surrogate(*gradients, *own.values())
            found = textbook_gradients(case, said, [own[n] for n in real], "surrogate=")
            formulas = [shadows.read(tensor) for tensor in found]
    finally:
        shadows.leave()
    return tuple(e for array in formulas for e in parts_of(array)), shadows.guards
