"""A failed comparison → a Finding: everything that a person needs to see it and to replay it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import groupby
from typing import Any

from torch import Tensor

from diffcheck.certify.formats import Format, format_of
from diffcheck.certify.judgement import Assessment, Outcome
from diffcheck.compare.evaluate import DTYPES, Evaluation
from diffcheck.compare.scale import Comparison
from diffcheck.compare.values import LEFT_BACKWARD
from diffcheck.declare.case import Case
from diffcheck.derive import text
from diffcheck.draw.inputs import Drawn
from diffcheck.explain.branch import formulas_here
from diffcheck.explain.diagnosis import Subject, diagnose
from diffcheck.explain.repro import repro
from diffcheck.modes import TEXTBOOK, VALUE, steps, under_vmap
from diffcheck.prove.identity import Status
from diffcheck.trace.tracer import Entry
from diffcheck.verdict import Finding, Value

_DIGITS = 40
_LARGEST_RATIO = 1e4


def finding_of(subject: Subject, replay: str, location: str) -> Finding:
    """The finding about one number: what it is, what it should be, and what the mistake is.

    Args:
        subject: What was evaluated, and how to find out more.
        replay: The command that reproduces it.
        location: What names the case on the command line.
    """
    case, mode, dtype, evaluation, position = (
        subject.case, subject.mode, subject.dtype, subject.evaluation, subject.position
    )  # fmt: skip
    verdict = evaluation.judgement.failures[position]
    trace = evaluation.path.trace
    entry = trace.entries[position]
    number = evaluation.computed[position]
    torch_dtype = DTYPES[dtype]
    fmt = format_of(torch_dtype)
    headline = _headline(case, mode, entry, verdict)
    diagnosis, line = (None, "") if verdict.outcome is Outcome.UNDECIDED else diagnose(subject)
    executed, reference = text.texts(formulas_here(evaluation, position))
    found = finding_about(
        headline,
        entry,
        number,
        verdict,
        fmt,
        inputs=tuple(_value(n, v) for n, v in evaluation.values.items()),
        cotangents=tuple(_value(n, v) for n, v in zip(trace.seed_names, evaluation.seeds, strict=True)),
        autograd_formula="" if case.kernel is not None or not evaluation.path.followed else executed,
        reference_formula=reference,
        replay=replay,
        diagnosis=diagnosis,
        line=line,
    )
    certified = found.certified_float
    return replace(
        found,
        notes=tuple(_notes(case, mode, verdict, evaluation, number, certified)),
        repro=repro(case, mode, evaluation, position, headline=headline, certified=found.certified, location=location),
    )


def finding_about(
    headline: str, entry: Entry, number: float, verdict: Assessment, fmt: Format, **known: Any
) -> Finding:
    """A finding about one number, in the words of `Finding`.

    Args:
        headline: What is wrong, in one sentence.
        entry: Whose number it is.
        number: What was computed.
        verdict: What it should be, and by how much it is not.
        fmt: The format in which it was computed.
        **known: The other fields.
    """
    certified = float(verdict.certified.mid())
    return Finding(
        headline=headline,
        argument=entry.owner,
        index=entry.index,
        autograd=number,
        certified=verdict.certified.str(_DIGITS, radius=False),
        certified_float=certified,
        radius=float(verdict.certified.rad()),
        ulps=_ratio(verdict.error, fmt.ulp(certified)),
        bounds=_ratio(verdict.error, verdict.bound),
        **{"cotangents": (), "replay": "", **known},
    )


def finding_at(case: Case, mode: str, dtype: str, drawn: Drawn, evaluation: Evaluation, replay: str) -> Finding:
    """The finding at an input that is the only one: the mistake is told from its formulas and numbers alone."""
    position = evaluation.judgement.worst_number
    subject = Subject(case, mode, dtype, drawn, evaluation, position, again=lambda _: (), probe=lambda _: None)
    return finding_of(subject, replay, "")


def finding_at_scale(case: Case, mode: str, dtype: str, comparison: Comparison, replay: str) -> Finding:
    """The finding for the worst element of a comparison at a size that no trace can follow."""
    worst = comparison.worst
    assert worst is not None
    inputs = [a.name for a in case.differentiated]
    owner = inputs[worst.position] if mode == "reverse" else f"y{worst.position}" if worst.position else "y"
    torch_dtype = DTYPES[dtype]
    fmt = format_of(torch_dtype)
    error = abs(worst.computed - worst.reference)
    place = f"{owner}[{', '.join(map(str, worst.index))}]" if worst.index else owner
    first = ", ".join(map(str, worst.first))
    return Finding(
        headline=f"{_quantity(mode, place)} is wrong",
        argument=owner,
        index=worst.index,
        inputs=(),
        cotangents=(),
        autograd=worst.computed,
        certified=repr(worst.reference),
        certified_float=worst.reference,
        radius=worst.radius,
        ulps=_ratio(error, fmt.ulp(worst.reference)),
        bounds=_ratio(error, worst.bound),
        autograd_formula="",
        reference_formula="",
        replay=replay,
        notes=(
            f"{comparison.beyond:,} of {comparison.elements:,} elements are beyond the bound, the first at [{first}]",
            "the certified value is the reference's in float64, with its running error bound",
        ),
    )


def _ratio(error: float, unit: float) -> float:
    return error / unit if unit > 0 else math.inf if error > 0 else 0.0


def _quantity(mode: str, place: str) -> str:
    """What a mode gives, of an entry: `the tangent of the gradient of x[0]`."""
    if mode == VALUE:
        return f"the value of {place}"
    how = steps(mode)
    words: list[str] = []
    for kind, run in groupby(reversed(how)):
        count = len(list(run))
        forward = f"the {_COUNTED[count]}tangent"
        words += [forward] if kind == "forward" else ["the gradient"] * count
    # The gradient of a gradient has entries for what that was pulled back from, too.
    return f"{' of '.join(words)}, for {place}," if "reverse" in how[1:] else f"{' of '.join(words)} of {place}"


_COUNTED = {1: "", 2: "second ", 3: "third "}


def _headline(case: Case, mode: str, entry: Entry, verdict: Assessment) -> str:
    if mode == TEXTBOOK:
        return f"gradient= of case {case.name!r} is not the gradient, at {entry.place}"
    what = _quantity(mode, entry.place)
    if under_vmap(mode):
        what = f"under vmap, {what}"
    if verdict.outcome is Outcome.INACCURATE and not math.isfinite(verdict.error):
        return f"{what} leaves the range of its dtype: the formula is right, its way to the value is not"
    if verdict.outcome is Outcome.INACCURATE:
        return f"{what} loses digits: the formula is right, its rounding is not"
    if verdict.at_kink:
        return f"{what} is outside of what the adjacent branches give"
    return f"{what} is wrong"


def _notes(
    case: Case, mode: str, verdict: Assessment, evaluation: Evaluation, number: float, certified: float
) -> list[str]:
    notes = []
    by_hand = mode == TEXTBOOK
    whose, formula_name = ("gradient='s", "its formula") if by_hand else ("PyTorch's", "the executed formula")
    if verdict.outcome is Outcome.INACCURATE and math.isinf(verdict.bound) and math.isfinite(verdict.error):
        notes.append("not one digit is right: at this input rounding may do anything to the formula")
    elif verdict.outcome is Outcome.INACCURATE and verdict.bound > 0 and math.isfinite(verdict.error):
        notes.append(
            f"{math.log10(verdict.error / verdict.bound):.1f} more digits are lost than the input puts at stake"
        )
    if under_vmap(mode):
        notes.append("the first axis is that of the batch: two inputs, differentiated at once")
    if math.isnan(number) or math.isinf(number):
        notes.append(f"{whose} value is {number} where the derivative is finite")
    if case.kernel is not None:
        notes.append("the kernel is not traced: its numbers were compared with its reference's")
    elif not evaluation.path.followed:
        notes.append(LEFT_BACKWARD)
    elif verdict.formula_differs and evaluation.path.proof.status is Status.PROVED and not verdict.at_kink:
        notes.append(f"beside this input {formula_name} is the derivative; at it, it has another value, or none")
    elif verdict.outcome is Outcome.WRONG and evaluation.path.proof.status is Status.PROVED and not verdict.at_kink:
        notes.append("the formula that was traced is right: the kernel's rounding, overflow or underflow is not")
    elif verdict.formula_differs:
        notes.append(f"{formula_name} has another value here than the derivative, whatever the rounding")
    if "forward" in mode and number == 0 and evaluation.path.trace.custom:
        notes.append(
            f"PyTorch has no forward mode for what torch.library.custom_op makes, and drops the tangent of "
            f"{', '.join(evaluation.path.trace.custom)} without a word"
        )
    if verdict.at_kink:
        notes.append("the input is a kink: the certified value is the hull of the one-sided derivatives")
    if verdict.outcome is Outcome.WRONG and abs(certified) > verdict.bound and _is_ratio(number, certified):
        notes.append(f"{whose} value is {number / certified:.12g} times the certified one")
    return notes


def _is_ratio(number: float, certified: float) -> bool:
    """Whether one number over another says something: not of noise beside 0."""
    if not number or not certified or not math.isfinite(number):
        return False
    ratio = abs(number / certified)
    return 1 / _LARGEST_RATIO < ratio < _LARGEST_RATIO and f"{ratio:.6g}" != "1"


def _value(name: str, tensor: Tensor) -> Value:
    flat = tensor.detach().reshape(-1).tolist()
    return Value(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), tuple(flat))
