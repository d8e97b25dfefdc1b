"""The same derivative asked of autograd in other ways, at an input or two, and held to the same certificate.

What a trace and the drawn inputs establish is the derivative as `torch.autograd.grad` gives it, of all inputs, once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from diffcheck.certify.formats import format_of
from diffcheck.certify.judgement import Assessment, Judgement, Outcome
from diffcheck.checking.visit import Check, Row, is_ordinary
from diffcheck.compare.evaluate import Evaluation, evaluate
from diffcheck.differentiate.autodiff import REENTRANT
from diffcheck.differentiate.batch import flat
from diffcheck.differentiate.faults import described, time_limit
from diffcheck.differentiate.run import of_differentiated
from diffcheck.differentiate.ways import RefusedError, Way, backward_ways, forward_ways, repeated
from diffcheck.draw import inputs as draw
from diffcheck.draw.inputs import Drawn, copied
from diffcheck.errors import CaseFailure, DiffcheckError
from diffcheck.modes import FIRST_ORDER
from diffcheck.trace.seeding import output_names

_AMISS: Final = 0.25
"""Under autocast, what is within this part of the largest entry may be a matter of digits."""


@dataclass(frozen=True, slots=True)
class Otherwise:
    """A derivative that is another one where it is asked for in another way."""

    way: Way
    drawn: Drawn
    usual: Evaluation
    """As it is asked for usually."""
    evaluation: Evaluation
    """With the numbers of that way."""


def ask_otherwise(check: Check, row: Row) -> Otherwise | DiffcheckError | None:
    """The first way in which a row's derivative is another one, or raises; None if all agree."""
    if row.ordinary is None or check.case.preceded_by is not None or row.mode not in FIRST_ORDER:
        return None
    started = time.perf_counter()
    try:
        with time_limit(check.memory.operations.seconds, f"case {check.case.name!r}"):
            return next(_differing(check, row, row.ordinary), None)
    except DiffcheckError as error:
        return error
    finally:
        row.seconds += time.perf_counter() - started


def _differing(check: Check, row: Row, drawn: Drawn) -> Iterator[Otherwise]:
    usual = evaluate(check.case, row.mode, row.dtype, drawn, check.memory)
    if usual is None or not is_ordinary(usual):
        return
    names = [a.name for a in check.case.differentiated]
    outputs = output_names(len(usual.seeds)) if row.mode == "reverse" else []
    ways = backward_ways(names, outputs, check.case.parameters) if row.mode == "reverse" else forward_ways(names)
    for way in ways:
        if way.missing and not check.settings.undefined:
            continue
        if way.narrow and (row.dtype != "float32" or check.case.is_complex):
            continue  # autocast leaves float64 alone
        at, there = (_repeated(check, row, usual) if way.expanded else None) or (drawn, usual)
        if way.expanded and there is usual:
            continue
        found = _asked(check, way, row.mode, there)
        if found is not None:
            yield Otherwise(way, at, there, found)


def _repeated(check: Check, row: Row, evaluation: Evaluation) -> tuple[Drawn, Evaluation] | None:
    """The input that repeats the first row of each of its arguments, if the case accepts it and is right there."""
    names = {a.name for a in check.case.differentiated} - check.case.parameters
    values = {n: repeated(v).contiguous() if n in names else v for n, v in evaluation.values.items()}
    drawn = draw.at(values, tuple(flat(list(evaluation.seeds))) or (1.0,))
    try:
        found = evaluate(check.case, row.mode, row.dtype, drawn, check.memory)
    except DiffcheckError:
        return None
    return (drawn, found) if found is not None and is_ordinary(found) else None


def _asked(check: Check, way: Way, mode: str, usual: Evaluation) -> Evaluation | None:
    """The numbers of a way, if they are others than they should be.

    Raises:
        CaseFailure: The backward pass raises.
    """
    case = check.case.judged
    values = {n: copied(v) for n, v in usual.values.items()}
    inputs = [values[a.name] for a in case.differentiated]
    seeds = [torch.zeros_like(s) if i in way.missing else copied(s) for i, s in enumerate(usual.seeds)]
    try:
        found = way.ask(of_differentiated(case, case.function, values), inputs, seeds)
    except RefusedError:
        return None
    except DiffcheckError:
        raise
    except Exception as error:  # a user's backward pass may raise anything
        if way.may_fail or REENTRANT in str(error):
            return None
        text = (str(error).strip().splitlines() or [""])[0]
        raise CaseFailure(
            f"{way.how}, the derivative of case {case.name!r} raises {type(error).__name__}: {text}, at "
            f"{described(usual.values)}"
        ) from error
    point = [*usual.point[: len(usual.point) - len(flat(seeds))], *flat(seeds)]
    numbers = _numbers(mode, way, found, usual, inputs)
    if numbers is None or (_alike(numbers, usual.computed) and not way.missing):
        return None
    judgement = _judged(way, usual, point, numbers)
    if not judgement.failures:
        return None
    return replace(usual, computed=numbers, judgement=judgement, point=point, seeds=seeds)


def _numbers(
    mode: str, way: Way, found: Sequence[Tensor | None], usual: Evaluation, inputs: Sequence[Tensor]
) -> list[float] | None:
    """The numbers of a way, and the usual ones of inputs that have no gradient in it; None if there are others."""
    if mode == "forward":
        numbers = flat([d for d in found if d is not None])
    else:
        numbers, position = [], 0
        for i, (x, d) in enumerate(zip(inputs, found, strict=True)):
            count = x.numel() * (2 if x.is_complex() else 1)
            own = flat([torch.zeros_like(x) if d is None else d])
            counted = way.counted is None or i in way.counted
            numbers += own if counted else usual.computed[position : position + count]
            position += count
    return numbers if len(numbers) == len(usual.computed) else None


def _alike(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    return all(a == b for a, b in zip(ours, theirs, strict=True))


def _judged(way: Way, usual: Evaluation, point: Sequence[float], numbers: Sequence[float]) -> Judgement:
    """The numbers of a way; what the executed formula explains no more is wrong, since that is the usual one."""
    certifier = usual.path.certifier
    if way.narrow:
        certifier = certifier.in_format(format_of(torch.bfloat16))
    judgement = certifier.judge(point, numbers)
    largest = max((abs(float(f.certified.mid())) for f in judgement.failures.values()), default=0.0)
    largest = max([largest, *(abs(v) for v in usual.computed)]) if way.narrow else 0.0

    def counts(failure: Assessment) -> bool:
        if failure.outcome not in (Outcome.WRONG, Outcome.INACCURATE):
            return False
        return not failure.error <= _AMISS * largest

    wrong = {i: replace(f, outcome=Outcome.WRONG) for i, f in judgement.failures.items() if counts(f)}
    return replace(judgement, failures=wrong)
