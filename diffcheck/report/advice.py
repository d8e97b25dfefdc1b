"""What to do about a finding, in one line: by what the mistake is, or by what is wrong if it has no name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from diffcheck.verdict import Finding, Mistake, Result, Verdict

_FORMULA: Final = "write the backward pass after the reference, which is the derivative"
_INCOMING: Final = "multiply by the incoming gradient as it comes, and leave it as it is"
_UNSELECTED: Final = "make the argument harmless first, as in torch.where(ok, f(torch.where(ok, x, 1.0)), 0.0)"

ADVICE: Final[Mapping[Mistake, str]] = {
    Mistake.SIGN: "turn the sign of this gradient",
    Mistake.FACTOR: "divide this gradient by that number",
    Mistake.SIZE: "take the size into account as the forward pass does",
    Mistake.SUM_FOR_MEAN: "divide by the size: the forward pass takes a mean",
    Mistake.MEAN_FOR_SUM: "do not divide by the size: the forward pass takes a sum",
    Mistake.TRANSPOSED: "multiply by the transposed Jacobian",
    Mistake.EXCHANGED: "return the gradients in the order of the inputs of forward",
    Mistake.IGNORED: _INCOMING,
    Mistake.ABSOLUTE: _INCOMING,
    Mistake.CLIPPED: f"{_INCOMING}; if clipping is meant, declare it",
    Mistake.SQUARED: _INCOMING,
    Mistake.NONLINEAR: _INCOMING,
    Mistake.MODIFIED: "write to a copy: others still read the incoming gradient",
    Mistake.BROADCAST: "sum the gradient over the axes that were broadcast, to the shape of the input",
    Mistake.COLUMN: "give both the same shape before they meet",
    Mistake.MISSING_FACTOR: "multiply by that factor",
    Mistake.EXTRA_FACTOR: "leave that factor out",
    Mistake.MISSING_TERM: "add that term",
    Mistake.EXTRA_TERM: "leave that term out",
    Mistake.CONSTANT: "differentiate that part too, or detach it in the forward pass if a constant is meant",
    Mistake.NOT_CONSTANT: "leave the detached part out of the derivative, or do not detach it",
    Mistake.NO_GRADIENT: "return a gradient for this input; detach it in the forward pass if none is meant",
    Mistake.ACCUMULATED: "keep no state between calls: start from zeros in each",
    Mistake.ELEMENT: "look at how this entry is indexed",
    Mistake.AXIS: "take the axis that the forward pass takes",
    Mistake.ORDER: "undo the rearrangement of the forward pass by its inverse",
    Mistake.WHERE_BROADCAST: "sum the gradient over the axes that were broadcast, to the shape of the input",
    Mistake.LAYOUT: "read tensors through their strides, or call .contiguous() first",
    Mistake.BEYOND: "look at what is done block by block: the last one, or the second",
    Mistake.AT_SIZE: "look at what is done at this size alone",
    Mistake.WAY: "let the backward pass depend on what was saved and on ctx.needs_input_grad alone, and change neither",
    Mistake.REGION: "look at the branch that this condition selects",
    Mistake.TIE: "among equal entries, share the gradient or give it to one of them",
    Mistake.TIES: "return a value between the one-sided derivatives at that point",
    Mistake.PRECISION: "compute in the dtype of the inputs",
    Mistake.ROUNDED: "write the constant with all of its digits (math.pi, math.sqrt(2))",
    Mistake.FINITE_DIFFERENCES: _FORMULA,
    Mistake.EPSILON: "put the same number into the forward pass, or leave it out of the backward pass",
    Mistake.PYTORCHS_EPSILON: "keep inputs from where that number counts, or use a function without it",
    Mistake.NOT_TAKEN: _UNSELECTED,
    Mistake.MASKED: "divide by what is never 0, as in torch.where(n > 0, s / torch.where(n > 0, n, 1.0), 0.0)",
    Mistake.ROOT: "take the root of what is not 0: torch.where(s > 0, torch.where(s > 0, s, 1.0).sqrt(), 0.0)",
    Mistake.ZERO: "treat the input where it divides by 0 by itself, or divide by another formula that is not 0 there",
    Mistake.INFINITE: "begin with a large finite number instead of an infinity, or mask before it is used",
    Mistake.OVERFLOW: "scale before the operation that overflows, as logsumexp takes off the maximum",
    Mistake.UNDERFLOW: "scale before the operation that underflows, or compute with logarithms",
    Mistake.NONDETERMINISTIC: "seed what is random inside of the function, or give it as an argument",
}
"""What to do about each mistake."""


def advice(result: Result, finding: Finding) -> str:
    """One line; empty where there is nothing to say."""
    if finding.diagnosis is not None:
        return ADVICE[finding.diagnosis.name]
    if result.verdict is Verdict.INACCURATE:
        return "use a formula that keeps its digits here (expm1, log1p, hypot, x - y before squares), or a wider dtype"
    return _FORMULA if result.verdict is Verdict.WRONG and finding.autograd_formula else ""
