"""What is concluded from a row: its smallest broken input, the verdict, and the Result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from hypothesis import Phase

from diffcheck.alarm import processor_time
from diffcheck.certify.judgement import Outcome
from diffcheck.checking.implicit import moving, told
from diffcheck.checking.otherwise import Otherwise, ask_otherwise
from diffcheck.checking.visit import Broken, Check, Row, how_broken, key_of, note, vouch_nearby
from diffcheck.compare.evaluate import DTYPES, Evaluation, evaluate, numbers_again
from diffcheck.compare.scale import Comparison
from diffcheck.declare.case import Case
from diffcheck.derive.text import gradient_line
from diffcheck.differentiate.faults import described
from diffcheck.draw import inputs as draw
from diffcheck.draw.inputs import Drawn
from diffcheck.draw.search import find
from diffcheck.errors import BudgetExceeded, DiffcheckError, NotAvailable, Refused, Unsupported, WrongRule
from diffcheck.explain.diagnosis import Subject
from diffcheck.explain.finding import finding_at, finding_at_scale, finding_of
from diffcheck.modes import TEXTBOOK
from diffcheck.settings import Settings
from diffcheck.verdict import Certainty, Diagnosis, Finding, Mistake, Result, Verdict

_WHICH: Final = "say by bounds or assume= which ones are meant"


def conclude(check: Check, row: Row) -> Result:
    """The result of a row when all of its inputs have been visited."""
    if row.refusal is None or (row.broken is not None and row.broken.how is not Outcome.INACCURATE):
        return _concluded(check, row)
    drawn, refusal = row.refusal
    share = f"refused {row.refused} of {row.refused + row.inputs} inputs"
    if row.refused > row.inputs:
        result = _broken(check, row, Broken(Refused, drawn))
        said = f"{result.reason} [{share}; {_WHICH}]" if row.inputs else result.reason
        return replace(result, refused=row.refused, reason=said)
    result = _concluded(check, row)
    said = f"{share}: {refusal}; {_WHICH}"
    return replace(result, refused=row.refused, reason=f"{result.reason}; {said}" if result.reason else said)


def _concluded(check: Check, row: Row) -> Result:
    if row.broken is not None:
        if row.broken.how is Outcome.WRONG and (other := moving(check, row, row.broken)) is not None:
            result = told(_concluded(*other))
            if result is not None:
                return result
        return _broken(check, row, row.broken)
    if isinstance(row.at_scale, Comparison):
        replay = replay_command(check, row)
        return result_of(
            check, row, Verdict.WRONG, "", finding_at_scale(check.case, row.mode, row.dtype, row.at_scale, replay)
        )
    if row.at_scale is not None:
        return _of_error(check, row, row.at_scale)
    if row.late or processor_time() > check.deadline:
        return result_of(
            check, row, Verdict.UNDECIDED, f"the case ran for more than {check.settings.seconds:g} seconds"
        )
    if row.inputs == 0:
        return result_of(check, row, Verdict.UNDEFINED, "no input within the domain could be drawn")
    if row.blind - row.judged:
        return result_of(check, row, Verdict.UNDECIDED, _never_compared(check, row))
    if row.compared == 0:
        return result_of(check, row, Verdict.UNDEFINED, _nothing_compared(row))
    otherwise = ask_otherwise(check, row)
    if isinstance(otherwise, DiffcheckError):
        return _of_error(check, row, otherwise)
    if otherwise is not None:
        return result_of(check, row, Verdict.WRONG, "", _finding_otherwise(check, row, otherwise))
    if row.undecided:
        return result_of(check, row, Verdict.AGREES, row.undecided)
    return result_of(check, row, Verdict.PROVED)


def _never_compared(check: Check, row: Row) -> str:
    never = ", ".join(sorted(row.blind - row.judged))
    where = "every input that is not left out" if row.undefined or row.out_of_range else "every input"
    said = (
        f"nothing was compared of the derivative {'of' if 'forward' in row.mode else 'by'} {never}: at {where} "
        "rounding can do more to it than it is large. "
    )
    if row.undecided or check.case.kernel is not None:
        return f"{said}Where what is computed is not what is meant (a search, a table), say by reference= what is"
    return (
        f"{said}The executed formula is the derivative; as the function is written, all of its digits may be lost "
        "(subtracting what is nearly equal does that). Write it so that fewer are, or judge it at other inputs"
    )


def _nothing_compared(row: Row) -> str:
    if row.out_of_range == row.inputs:
        return "the function's own value was infinite, undefined or beyond the dtype's range at every input drawn"
    return "every input drawn was a kink or had no derivative"


def _broken(check: Check, row: Row, broken: Broken) -> Result:
    """The result of a row with an input that is broken: of the smallest one."""
    started = time.perf_counter()
    drawn = _smallest(check, row, broken)
    verdict = broken.verdict
    try:
        evaluation = evaluate(check.case, row.mode, row.dtype, drawn, check.memory)
    except DiffcheckError as error:
        row.seconds += time.perf_counter() - started
        at = f" [smallest input: {_input_text(check.case, row, drawn)}]" if isinstance(error, BudgetExceeded) else ""
        return _of_error(check, row, error, at)
    if evaluation is not None and evaluation.judgement.failures:
        if row.inputs == 0:  # it was remembered from an earlier run, and nothing has been drawn
            note(row, drawn, evaluation)
        row.seconds += time.perf_counter() - started
        finding = finding_of(_subject(check, row, drawn, evaluation), replay_command(check, row), check.location)
        reason = "precision ran out before the reference was decided" if verdict is Verdict.UNDECIDED else ""
        return result_of(check, row, verdict, reason, finding)
    if verdict is Verdict.UNDECIDED:
        once = "a budget of time or memory ran out at an input, and did not when it was tried again"
        return result_of(check, row, verdict, once)
    unsteady = (
        f"{Mistake.NONDETERMINISTIC}: a disagreement did not happen again at the same input; the case is random, or "
        "remembers earlier calls"
    )
    return result_of(check, row, Verdict.ERROR, unsteady)


def _of_error(check: Check, row: Row, error: DiffcheckError, at: str = "") -> Result:
    details = error.advice if isinstance(error, Unsupported) else ()
    by_name = isinstance(error, NotAvailable) and error.lacking in check.settings.by_name
    reason = f"{error}{' (asked for by name)' if by_name else ''}{at}"
    return replace(result_of(check, row, error.verdict, reason, details=details), by_name=by_name)


def _finding_otherwise(check: Check, row: Row, found: Otherwise) -> Finding:
    """The formulas and the script would be those of the usual way, which is right."""
    finding = finding_at(check.case, row.mode, row.dtype, found.drawn, found.evaluation, replay_command(check, row))
    usual = found.usual.computed[found.evaluation.judgement.worst_number]
    beside = "" if found.way.missing else f"; otherwise PyTorch's value is {usual!r}"
    return replace(
        finding,
        headline=f"{finding.headline} {found.way.how}",
        diagnosis=Diagnosis(Mistake.WAY, Certainty.CERTAIN, f"{found.way.how}{beside}"),
        notes=(),
        line="",
        repro="",
        autograd_formula="",
    )


def wrong_rule_of(check: Check, rows: Sequence[Row]) -> str:
    """What a rule that somebody gave gets wrong, at the smallest input; empty if none is known to be wrong.

    By such a rule no derivative can be judged, wherever its value happens to be right.
    """
    if not check.case.draws and check.case.rules:
        vouch_nearby(check, rows)
    for row in rows:
        if row.broken is not None and row.broken.how is WrongRule:
            try:
                evaluate(check.case, row.mode, row.dtype, _smallest(check, row, row.broken), check.memory)
            except DiffcheckError as error:
                return str(error)
            return ""
    return ""


def _smallest(check: Check, row: Row, broken: Broken) -> Drawn:
    """The smallest input that is broken in the same way."""
    memory, settings, first = check.memory, check.settings, broken.drawn
    if broken.how is NotAvailable:
        return first  # no other input says more of it
    slow = broken.how is BudgetExceeded
    if slow and memory.smallest_exhausted is not None:
        return memory.smallest_exhausted
    stop = min(check.deadline, processor_time() + (4.0 if slow else 20.0))
    known: dict[str, bool] = {repr(first): True}

    def same(drawn: Drawn) -> bool:
        # Out of time, what has been seen keeps its answer: Hypothesis runs the smallest input once more at the end.
        key = repr(drawn)
        if key not in known:
            known[key] = processor_time() < stop and how_broken(check, row, drawn) is broken.how
        return known[key]

    source = check.inputs.like(first)
    found = find(
        source.strategy,
        same,
        replace(settings, examples=settings.examples + 20),
        phases=[*([Phase.reuse] if settings.reuse else []), Phase.generate, Phase.shrink],
        key=key_of(check, row, source) if settings.database else None,
        first=first,
    )
    if slow:
        memory.smallest_exhausted = found or first
    return found or first


def _subject(check: Check, row: Row, drawn: Drawn, evaluation: Evaluation) -> Subject:
    """What a finding is made of, and how to find out more."""

    def probe(other: Drawn) -> Evaluation | None:
        return evaluate(check.case, row.mode, row.dtype, other, check.memory)

    def again(other: Drawn) -> list[float]:
        return numbers_again(check.case, row.mode, row.dtype, other, check.memory)

    position = evaluation.judgement.worst_number
    return Subject(check.case, row.mode, row.dtype, drawn, evaluation, position, again, probe)


def _input_text(case: Case, row: Row, drawn: Drawn) -> str:
    return described(draw.tensors(drawn, case.arguments, DTYPES[row.dtype]))


def replay_command(check: Check, row: Row) -> str:
    """The command that draws the same inputs again, in the one mode and dtype."""
    return command_line(check.location, row.mode, row.dtype, check.settings)


def command_line(location: str, mode: str, dtype: str, settings: Settings) -> str:
    """The command that checks again what is named there, in one mode and dtype; words instead, where a call does."""
    if not location:
        return f"the same call with seed={settings.seed}"
    parts = ["diffcheck run", location]
    if mode != TEXTBOOK:
        parts.append(f"--mode {'reverse' if mode == 'accumulate' else mode} --dtype {dtype}")
    if settings.device != Settings().device:
        parts.append(f"--device {settings.device}")
    if settings.examples != Settings().examples:
        parts.append(f"--examples {settings.examples}")
    if settings.seed is not None:
        parts.append(f"--seed {settings.seed}")
    return " ".join(parts)


def result_of(
    check: Check, row: Row, verdict: Verdict, reason: str = "", finding: Any = None, details: tuple[str, ...] = ()
) -> Result:
    """What is known of a row, as a result."""
    return Result(
        id=check.case_id,
        mode=row.mode,
        dtype=row.dtype,
        verdict=verdict,
        inputs=row.inputs,
        paths=len(row.paths),
        kinks=row.kinks,
        undefined=row.undefined,
        out_of_range=row.out_of_range,
        max_error_ulps=row.max_ulps,
        max_error_bounds=row.max_bounds,
        seconds=row.seconds,
        gradient="" if row.largest is None else gradient_line(row.largest.variables, row.largest.unit_reference),
        finding=finding,
        reason=reason,
        details=tuple(details),
    )
