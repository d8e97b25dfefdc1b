"""Implicit layers: a solver under no_grad, one step on the tape, a hook. What is detached there is meant to move.

`detach` and `no_grad` mean constants. Where what was executed is another derivative than that of the function with
these constants, it may be the derivative of the function's values: then it was written for that, and is held to it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Final

from diffcheck.alarm import processor_time
from diffcheck.algebra import marks
from diffcheck.checking.visit import Broken, Check, Row, drawn_for, visit
from diffcheck.compare.evaluate import Memory, evaluate
from diffcheck.draw.inputs import Drawn
from diffcheck.errors import DiffcheckError
from diffcheck.modes import TEXTBOOK, VALUE
from diffcheck.verdict import PASSING, Result, Verdict

_NEARLY: Final = 1e-3
"""An iteration that has nearly converged has a derivative that is nearly that of its limit."""
SAID: Final = (
    "what the function detaches is differentiated too, as an implicit layer means it: what was executed is the "
    "derivative of the function's values"
)
_NOT_CONVERGED: Final = (
    "what was executed is nearly the derivative of the function's values, what it detaches included: it may be that of "
    "what an iteration converges to; say by reference= what that is"
)


def moving(check: Check, row: Row, broken: Broken) -> tuple[Check, Row] | None:
    """The check of the function's values, and what came of the row there; None if the function detaches nothing."""
    if check.case.thawed or row.mode in (TEXTBOOK, VALUE) or not _detaches(check, row, broken.drawn):
        return None
    other = replace(check, case=replace(check.case, thawed=True), memory=Memory())
    again = Row(row.mode, row.dtype)
    drawn = [broken.drawn, *check.inputs.swept]
    for source in check.inputs.ordinary:
        drawn += drawn_for(other, [again], source, min(check.deadline, processor_time() + 5.0))
    visit(other, again, list(islice(drawn, check.settings.examples)))
    return other, again


def _detaches(check: Check, row: Row, drawn: Drawn) -> bool:
    try:
        found = evaluate(check.case, row.mode, row.dtype, drawn, check.memory)
    except DiffcheckError:
        return False
    outputs = [] if found is None else list(found.path.trace.outputs)
    return marks.thawed(outputs) != outputs


def told(result: Result) -> Result | None:
    """What such a check's result says of the function as it is written; None if that is no excuse."""
    if result.verdict in PASSING:
        return replace(result, verdict=Verdict.AGREES, reason=SAID)
    finding = result.finding
    if finding is not None and abs(finding.autograd - finding.certified_float) <= _NEARLY * abs(
        finding.certified_float
    ):
        return replace(result, verdict=Verdict.UNDECIDED, reason=_NOT_CONVERGED, finding=None)
    return None
