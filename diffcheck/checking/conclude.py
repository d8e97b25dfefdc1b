"""What is concluded from a row: its smallest broken input, the verdict, and the Result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hypothesis import Phase

from diffcheck.certify.judgement import Outcome
from diffcheck.checking.visit import Row, how_broken, key_of, note, vouch_nearby
from diffcheck.compare.evaluate import DTYPES, Evaluation, Memory, evaluate, numbers_again
from diffcheck.compare.scale import Comparison
from diffcheck.declare.case import Case
from diffcheck.derive.text import gradient_line
from diffcheck.differentiate.faults import described
from diffcheck.draw import inputs as draw
from diffcheck.draw.inputs import Drawn
from diffcheck.draw.search import Inputs, find
from diffcheck.errors import (
    BudgetExceeded,
    CaseFailure,
    DiffcheckError,
    NotAvailable,
    RuleError,
    Unsupported,
    WrongRule,
)
from diffcheck.explain.diagnosis import Subject
from diffcheck.explain.finding import finding_at_scale, finding_of, worst_number
from diffcheck.modes import TEXTBOOK
from diffcheck.settings import Settings
from diffcheck.verdict import Mistake, Result, Verdict

VERDICT_OF: Final[Mapping[Outcome | str, Verdict]] = {
    Outcome.WRONG: Verdict.WRONG,
    Outcome.INACCURATE: Verdict.INACCURATE,
    Outcome.UNDECIDED: Verdict.UNDECIDED,
    CaseFailure.__name__: Verdict.ERROR,
    Unsupported.__name__: Verdict.UNSUPPORTED,
    NotAvailable.__name__: Verdict.NOT_AVAILABLE,
    RuleError.__name__: Verdict.UNSUPPORTED,
    WrongRule.__name__: Verdict.ERROR,
    BudgetExceeded.__name__: Verdict.UNDECIDED,
}
"""What comes of a number's judgement, or of an error by its name."""


def conclude(
    case: Case,
    row: Row,
    inputs: Inputs,
    settings: Settings,
    memory: Memory,
    case_id: str,
    location: str,
    deadline: float,
) -> Result:
    """The result of a row when all of its inputs have been visited."""
    started = time.perf_counter()
    if row.broken is not None:
        drawn = _smallest(case, row, inputs, settings, memory, case_id, deadline)
        verdict = VERDICT_OF.get(row.broken[0], Verdict.ERROR)
        try:
            evaluation = evaluate(case, row.mode, row.dtype, drawn, memory)
        except DiffcheckError as error:
            row.seconds += time.perf_counter() - started
            at = f" [smallest input: {_input_text(case, row, drawn)}]" if isinstance(error, BudgetExceeded) else ""
            return _of_error(case_id, row, verdict, error, settings, at)
        if evaluation is not None and evaluation.judgement.failures:
            if row.inputs == 0:  # it was remembered from an earlier run, and nothing has been drawn
                note(row, evaluation)
            row.seconds += time.perf_counter() - started
            replay = replay_command(location, row.mode, row.dtype, settings)
            subject = _subject(case, row, drawn, evaluation, memory)
            finding = finding_of(subject, replay, location)
            reason = "precision ran out before the reference was decided" if verdict is Verdict.UNDECIDED else ""
            return result_of(case_id, row, verdict, reason, finding)
        if verdict is Verdict.UNDECIDED:
            once = "a budget of time or memory ran out at an input, and did not when it was tried again"
            return result_of(case_id, row, verdict, once)
        unsteady = f"{Mistake.NONDETERMINISTIC}: a disagreement did not happen again at the same input"
        return result_of(case_id, row, Verdict.ERROR, unsteady)
    if isinstance(row.at_scale, Comparison):
        replay = replay_command(location, row.mode, row.dtype, settings)
        finding = finding_at_scale(case, row.mode, row.dtype, row.at_scale, replay)
        return result_of(case_id, row, Verdict.WRONG, "", finding)
    if row.at_scale is not None:
        verdict = VERDICT_OF.get(type(row.at_scale).__name__, Verdict.ERROR)
        return _of_error(case_id, row, verdict, row.at_scale, settings)
    if row.late or time.perf_counter() > deadline:
        return result_of(case_id, row, Verdict.UNDECIDED, f"the case ran for more than {settings.seconds:g} seconds")
    if row.inputs == 0:
        return result_of(case_id, row, Verdict.UNDEFINED, "no input within the domain could be drawn")
    if row.compared == 0:
        return result_of(case_id, row, Verdict.UNDEFINED, "every input drawn was a kink or had no derivative")
    if row.undecided:
        return result_of(case_id, row, Verdict.AGREES, row.undecided)
    return result_of(case_id, row, Verdict.PROVED)


def _of_error(
    case_id: str, row: Row, verdict: Verdict, error: DiffcheckError, settings: Settings, at: str = ""
) -> Result:
    details = error.advice if isinstance(error, Unsupported) else ()
    by_name = isinstance(error, NotAvailable) and error.lacking in settings.by_name
    asked = " (asked for by name)" if by_name else ""
    return replace(result_of(case_id, row, verdict, f"{error}{asked}{at}", details=details), by_name=by_name)


def wrong_rule_of(
    case: Case,
    rows: Sequence[Row],
    inputs: Inputs,
    settings: Settings,
    memory: Memory,
    case_id: str,
    deadline: float,
) -> str:
    """What a rule that somebody gave gets wrong, at the smallest input; empty if none is known to be wrong.

    By such a rule no derivative can be judged, wherever its value happens to be right.
    """
    if not case.draws and case.rules:
        vouch_nearby(case, rows, memory)
    row = next((row for row in rows if row.broken is not None and row.broken[0] == WrongRule.__name__), None)
    if row is None:
        return ""
    drawn = _smallest(case, row, inputs, settings, memory, case_id, deadline)
    try:
        evaluate(case, row.mode, row.dtype, drawn, memory)
    except DiffcheckError as error:
        return str(error)
    return ""


def _smallest(
    case: Case, row: Row, inputs: Inputs, settings: Settings, memory: Memory, case_id: str, deadline: float
) -> Drawn:
    """The smallest input that is broken in the same way."""
    assert row.broken is not None
    how, first = row.broken
    if how == NotAvailable.__name__:
        return first  # no other input says more of it
    slow = how == BudgetExceeded.__name__
    if slow and memory.smallest_exhausted is not None:
        return memory.smallest_exhausted
    stop = min(deadline, time.perf_counter() + (4.0 if slow else 20.0))
    known: dict[str, bool] = {repr(first): True}

    def same(drawn: Drawn) -> bool:
        # Out of time, what has been seen keeps its answer: Hypothesis runs the smallest input once more at the end.
        key = repr(drawn)
        if key not in known:
            known[key] = time.perf_counter() < stop and how_broken(case, row, drawn, memory) == how
        return known[key]

    source = inputs.like(first)
    found = find(
        source.strategy,
        same,
        replace(settings, examples=settings.examples + 20),
        phases=[*([Phase.reuse] if settings.reuse else []), Phase.generate, Phase.shrink],
        key=key_of(row, case_id, source) if settings.database else None,
        first=first,
    )
    if slow:
        memory.smallest_exhausted = found or first
    return found or first


def _subject(case: Case, row: Row, drawn: Drawn, evaluation: Evaluation, memory: Memory) -> Subject:
    """What a finding is made of, and how to find out more."""

    def probe(other: Drawn) -> Evaluation | None:
        return evaluate(case, row.mode, row.dtype, other, memory)

    def again(other: Drawn) -> list[float]:
        return numbers_again(case, row.mode, row.dtype, other, memory)

    position = worst_number(evaluation)
    return Subject(case, row.mode, row.dtype, drawn, evaluation, position, again, probe)


def _input_text(case: Case, row: Row, drawn: Drawn) -> str:
    return described(draw.tensors(drawn, case.arguments, DTYPES[row.dtype]))


def replay_command(location: str, mode: str, dtype: str, settings: Settings) -> str:
    """The command that draws the same inputs again, in the one mode and dtype."""
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
    case_id: str, row: Row, verdict: Verdict, reason: str = "", finding: Any = None, details: tuple[str, ...] = ()
) -> Result:
    """What is known of a row, as a result."""
    return Result(
        id=case_id,
        mode=row.mode,
        dtype=row.dtype,
        verdict=verdict,
        inputs=row.inputs,
        paths=len(row.paths),
        kinks=row.kinks,
        undefined=row.undefined,
        max_error_ulps=row.max_ulps,
        max_error_bounds=row.max_bounds,
        seconds=row.seconds,
        gradient="" if row.largest is None else gradient_line(row.largest.variables, row.largest.unit_reference),
        finding=finding,
        reason=reason,
        details=tuple(details),
    )
