"""One case → Results: draw, trace, prove, compare, shrink."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import hypothesis
import torch
from hypothesis import Phase
from torch import Tensor

from diffcheck import draw
from diffcheck.autodiff import import_forward_mode
from diffcheck.batch import TEXTBOOK
from diffcheck.case import Case
from diffcheck.config import dtypes_for, under_vmap
from diffcheck.diagnosis import Subject
from diffcheck.domain import Shapes, size_assignments
from diffcheck.draw import Drawn
from diffcheck.errors import BudgetExceeded, CaseFailure, DiffcheckError, RuleError, Unsupported, WrongRule
from diffcheck.evaluate import DTYPES, Evaluation, Memory, evaluate, evaluate_each, input_of, numbers_again
from diffcheck.faults import case_errors, described
from diffcheck.finding import finding_at_scale, finding_of, worst_number
from diffcheck.formula import gradient_line
from diffcheck.identity import Status
from diffcheck.judgement import Outcome
from diffcheck.scale import Comparison, compare, random_seeds
from diffcheck.search import Inputs, Settings, Source, find, gather, inputs_of, is_at_scale
from diffcheck.trace import VALUE, Trace
from diffcheck.verdict import Mistake, Result, Verdict
from diffcheck.witness import numbers_to_try


@dataclass(slots=True)
class _Row:
    """What is known so far of one case, mode and dtype."""

    mode: str
    dtype: str
    inputs: int = 0
    compared: int = 0
    """Inputs at which some number was compared away from kinks."""
    kinks: int = 0
    undefined: int = 0
    max_ulps: float = 0.0
    max_bounds: float = 0.0
    seconds: float = 0.0
    paths: set[tuple[bool, ...]] = field(default_factory=set)
    largest: Trace | None = None
    """With the most elements: the formula for one element would not show the pattern."""
    late: bool = False
    """Whether there was no time to draw all inputs."""
    undecided: str = ""
    """Why some identity is not proved."""
    refuted: bool = False
    """Some executed formula is another one, or was not recognised."""
    gap: float = 0.0
    """How far that formula was from the reference at the last input, in units of the bound."""
    at_scale: Comparison | DiffcheckError | None = None
    """The first disagreement at an input that is too large for a trace, or why there is no answer."""
    broken: tuple[Outcome | str, Drawn] | None = None
    """The first input that disagreed, or that could not be judged, and how."""

    @property
    def closed(self) -> bool:
        """Whether no other input could tell more."""
        return self.broken is not None and self.broken[0] is not Outcome.INACCURATE


BLOCK: Final = 32
"""So many inputs are evaluated at once."""
_GIVEN_AT_SCALE: Final = 3
"""Cotangents that are drawn for an input that is too large for a trace."""
_BESIDE: Final = 0.25
"""How far, relatively, from a given input a rule is looked at."""
_SEVERITY: Final[Mapping[Outcome | str, int]] = {Outcome.INACCURATE: 1, Outcome.UNDECIDED: 2, Outcome.WRONG: 3}


def check(case: Case, settings: Settings, *, case_id: str, location: str) -> Iterator[Result]:
    """Checks a case in every mode and dtype asked for.

    Args:
        case: The case.
        settings: How.
        case_id: `cases/autograd.py::quadratic`, for the results.
        location: What names the case on the command line, for replay commands.

    Yields:
        A result per mode and dtype, then one for the case's own `gradient=`. A case's own faults are results too.
    """
    # What is drawn, and what the function makes of nothing, is made where PyTorch computes.
    with contextlib.nullcontext() if settings.device == "cpu" else torch.device(settings.device):
        yield from _checked(case, settings, case_id, location)


def _checked(case: Case, settings: Settings, case_id: str, location: str) -> Iterator[Result]:
    asked = rows_of(case, settings)
    # A rule that somebody gave is held to its operation before any derivative is judged by it, asked for or not.
    vouching = dict.fromkeys((VALUE, dtype) for _, dtype in asked) if case.rules else {}
    rows = [_Row(mode, dtype) for mode, dtype in dict.fromkeys([*vouching, *asked])]
    if any("forward" in row.mode for row in rows):
        import_forward_mode()
    started = time.perf_counter()
    memory = Memory()
    assignments = size_assignments(case.arguments) if case.draws else []
    if case.draws and not assignments:
        for row in rows:
            yield _result(case_id, row, Verdict.ERROR, "no sizes of the axes give every argument a shape")
        return
    inputs = inputs_of(case, assignments, _special_values(case, rows, assignments, settings, memory))
    deadline, halfway = started + settings.seconds, started + settings.seconds / 2
    for row in rows:
        _replay_known(case, row, inputs, settings, memory, case_id)
    drawn: list[Drawn] = []
    for source in inputs.sources:
        drawn += _drawn(case, rows, source, settings, halfway, memory)
    drawn += inputs.swept
    for row in rows:
        row.late = time.perf_counter() > halfway
    for block in _blocks(drawn):
        for row in rows:
            _visit(case, row, block, memory, deadline)
    for row in rows:
        if row.broken is None:
            _compare_at_scale(case, row, settings, deadline)
        if row.refuted and row.broken is None:
            _hunt(case, row, inputs, settings, memory, deadline)
    wrong_rule = _wrong_rule(case, rows, inputs, settings, memory, case_id, deadline)
    for row in rows:
        if (row.mode, row.dtype) not in asked:
            continue
        if wrong_rule:
            yield _result(case_id, row, Verdict.ERROR, wrong_rule)
        else:
            yield _conclude(case, row, inputs, settings, memory, case_id, location, deadline)


def _wrong_rule(
    case: Case,
    rows: Sequence[_Row],
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
        _vouch_nearby(case, rows, memory)
    row = next((row for row in rows if row.broken is not None and row.broken[0] == WrongRule.__name__), None)
    if row is None:
        return ""
    drawn = _smallest(case, row, inputs, settings, memory, case_id, deadline)
    try:
        evaluate(case, row.mode, row.dtype, drawn, memory)
    except DiffcheckError as error:
        return str(error)
    return ""


def _vouch_nearby(case: Case, rows: Sequence[_Row], memory: Memory) -> None:
    """Looks beside inputs that are the only ones, before derivatives at them are called other than they should be.

    At one input a wrong rule may have the right value, and another derivative.
    """
    if not any(row.refuted or (row.broken is not None and row.broken[0] in _SEVERITY) for row in rows):
        return
    generator = torch.Generator().manual_seed(0)
    for values in case.given:
        for row in (row for row in rows if row.mode == VALUE and row.broken is None):
            for by in (_BESIDE, _BESIDE, 0.0):
                moved = {n: _moved(v, by, generator) if v.is_floating_point() else v for n, v in values.items()}
                drawn = draw.at(moved, (1.0,))
                try:
                    evaluate(case, row.mode, row.dtype, drawn, memory)
                except WrongRule:
                    row.broken = (WrongRule.__name__, drawn)
                    return
                except DiffcheckError:
                    pass  # nobody said that it is defined there


def _moved(values: Tensor, by: float, generator: torch.Generator) -> Tensor:
    """A tensor with other entries: of the same signs, or for 0 any."""
    noise = torch.rand(values.shape, generator=generator, dtype=torch.float64).to(values.dtype)
    return values * (1 + by * noise) if by else values + _BESIDE * (noise - 0.5)


def _compare_at_scale(case: Case, row: _Row, settings: Settings, deadline: float) -> None:
    """Holds a kernel to its reference at the large inputs that were given, until one disagrees."""
    started = time.perf_counter()
    if under_vmap(row.mode):
        return  # at small sizes it was; at this one the other modes are
    turns = [(v, turn) for v in case.given if is_at_scale(case, v) for turn in range(_GIVEN_AT_SCALE)]
    for values, turn in turns:
        if row.at_scale is not None or time.perf_counter() > deadline:
            break
        converted = {n: v.to(DTYPES[row.dtype]) if v.is_floating_point() else v for n, v in values.items()}
        try:
            with case_errors(case, row.mode, {}):
                found = compare(case, row.mode, converted, random_seeds((settings.seed or 0) + turn))
        except DiffcheckError as error:
            row.at_scale = error
            break
        row.inputs += 1
        row.max_bounds = max(row.max_bounds, found.max_bounds)
        row.max_ulps = max(row.max_ulps, found.max_ulps)
        if found.worst is not None:
            row.at_scale = found
        elif found.left == found.elements:
            row.undecided = row.undecided or f"at {_size(values)}: no element has a bound of first order"
    row.seconds += time.perf_counter() - started


def _size(values: Mapping[str, Tensor]) -> str:
    return f"{sum(v.numel() for v in values.values()):,} elements"


def rows_of(case: Case, settings: Settings) -> tuple[tuple[str, str], ...]:
    """The mode and dtype of each result that a check gives, without checking anything."""
    modes = (VALUE, *modes_of(case, settings)) if case.kernel or case.rules else modes_of(case, settings)
    dtypes = dtypes_for(settings.dtypes, complex_inputs=case.is_complex)
    rows = [(mode, dtype) for mode in modes for dtype in dtypes]
    if case.gradient is not None and dtypes:
        rows.append((TEXTBOOK, "complex128" if case.is_complex else "float64"))
    return tuple(row for row in rows if settings.only is None or row in settings.only)


def modes_of(case: Case, settings: Settings) -> tuple[str, ...]:
    """The modes that a case is checked in, of those that are asked for."""
    if case.preceded_by is not None:
        return ("accumulate",) if "reverse" in settings.modes else ()
    return settings.modes


# ---------------------------------------------------------------------------------------------------------------------
# Drawing
# ---------------------------------------------------------------------------------------------------------------------


def _drawn(
    case: Case, rows: Sequence[_Row], source: Source, settings: Settings, deadline: float, memory: Memory
) -> list[Drawn]:
    """As many inputs as are asked for, each in the domain of some row; fewer if there is no time for more."""
    dtypes = list(dict.fromkeys(row.dtype for row in rows))
    # What is drawn is within the bounds; rounding to a narrower dtype may take it out of them.
    bounds_only = case.assume is None and not any(a.predicates for a in case.arguments) and "float64" in dtypes

    def inside(drawn: Drawn) -> bool:
        if bounds_only and drawn.given is None:
            return True
        try:
            return any(input_of(case, dtype, drawn, memory) is not None for dtype in dtypes)
        except DiffcheckError:
            return True  # it is raised again, and reported, when a row is visited

    return gather(source, inside, settings, deadline) if rows else []


def _blocks(drawn: Sequence[Drawn]) -> Iterator[Sequence[Drawn]]:
    """The first input alone, since what is wrong everywhere is wrong there; then as many as are evaluated at once."""
    yield drawn[:1]
    for start in range(1, len(drawn), BLOCK):
        yield drawn[start : start + BLOCK]


def _hunt(case: Case, row: _Row, inputs: Inputs, settings: Settings, memory: Memory, deadline: float) -> None:
    """Looks for an input at which a formula that is another one shows, steering towards large differences."""

    def differs(drawn: Drawn) -> bool:
        if time.perf_counter() > deadline:
            return False
        _visit(case, row, [drawn], memory, deadline)
        if row.broken is None and row.gap > 0:
            hypothesis.target(math.log2(row.gap), label="how far the formulas are apart, in bounds")
        return row.broken is not None

    # From another seed: the inputs of this one have been looked at.
    other = replace(settings, seed=None if settings.seed is None else settings.seed + 1)
    for source in inputs.ordinary:
        if row.broken is None:
            find(source.strategy, differs, other, phases=[Phase.generate, Phase.target])


def _special_values(
    case: Case, rows: Sequence[_Row], assignments: Sequence[Shapes], settings: Settings, memory: Memory
) -> tuple[float, ...]:
    """Numbers around which the formulas of one trace change, those that were executed included."""
    if not rows or not assignments:
        return ()
    probe = find(
        draw.inputs(case.arguments, assignments[-1:]),
        lambda _: True,
        settings,
        phases=[Phase.generate],
        examples=1,
    )
    if probe is None:
        return ()
    try:
        evaluation = evaluate(case, rows[0].mode, rows[0].dtype, probe, memory)
    except DiffcheckError:
        return ()  # the same input, or one like it, is drawn again and reported
    if evaluation is None:
        return ()
    trace = evaluation.path.trace
    conditions = [guard.selector for guard in trace.guards]
    return numbers_to_try([*trace.outputs, *trace.executed, *trace.reference, *conditions])


def _visit(case: Case, row: _Row, block: Sequence[Drawn], memory: Memory, deadline: float) -> None:
    """Judges a row at some inputs and writes down what came of it, until it is broken for good."""
    started = time.perf_counter()
    for drawn, evaluation in evaluate_each(case, row.mode, row.dtype, block, memory):
        if row.closed or time.perf_counter() > deadline:
            break
        if isinstance(evaluation, DiffcheckError):
            row.broken = (type(evaluation).__name__, drawn)
        elif evaluation is not None:
            _note(row, evaluation)
            status = evaluation.path.proof.status
            if status in (Status.REFUTED, Status.UNDECIDED) and not row.undecided:
                row.undecided = _why_not_proved(evaluation)
                row.refuted = status is Status.REFUTED
            if row.refuted:
                row.gap = evaluation.path.certifier.discrepancy(evaluation.point)
            worst = _worst(evaluation)
            if worst is not None and (row.broken is None or _SEVERITY[worst] > _SEVERITY.get(row.broken[0], 0)):
                row.broken = (worst, drawn)
    row.seconds += time.perf_counter() - started


def _why_not_proved(evaluation: Evaluation) -> str:
    path = evaluation.path
    position = path.proof.position or 0
    entry = path.trace.entries[position]
    place = f"{entry.owner}{list(entry.index) if entry.index else ''}"
    if path.proof.status is Status.UNDECIDED:
        return f"the identity for {place} was not decided by algebra ({path.proof.why})"
    if path.certifier.formulas_part(position, evaluation.point):
        return f"the executed formula of {place} is another one than the reference, by less than rounding"
    return f"the executed formula of {place} was not recognised as the reference, which it equals to 500 bits"


def _note(row: _Row, evaluation: Evaluation) -> None:
    """Counts an input, and its errors."""
    judgement = evaluation.judgement
    row.inputs += 1
    row.paths.add(evaluation.path.expected)
    row.kinks += judgement.kink
    row.undefined += judgement.undefined > 0
    row.compared += not judgement.kink and judgement.undefined < len(evaluation.computed)
    row.max_ulps = max(row.max_ulps, judgement.max_ulps)
    row.max_bounds = max(row.max_bounds, judgement.max_bounds)
    traced = evaluation.path.trace
    # A size that is large shows no more of the pattern, and takes long to write: nobody reads a sum of 67 terms.
    readable = evaluation.path.proof.status is not Status.LEFT
    if row.largest is None or (readable and len(traced.inputs) > len(row.largest.inputs)):
        row.largest = traced


def _worst(evaluation: Evaluation) -> Outcome | None:
    outcomes = [v.outcome for v in evaluation.judgement.failures.values()]
    return max(outcomes, key=_SEVERITY.__getitem__, default=None)


def _how_broken(case: Case, row: _Row, drawn: Drawn, memory: Memory) -> Outcome | str | None:
    try:
        evaluation = evaluate(case, row.mode, row.dtype, drawn, memory)
    except DiffcheckError as error:
        return type(error).__name__
    return None if evaluation is None else _worst(evaluation)


def _key(row: _Row, case_id: str, source: Source) -> bytes:
    return f"diffcheck {case_id} {row.mode} {row.dtype} {source.name}".encode()


def _replay_known(case: Case, row: _Row, inputs: Inputs, settings: Settings, memory: Memory, case_id: str) -> None:
    """Tries what disagreed in earlier runs first."""
    database = (settings.profile or hypothesis.settings()).database
    if database is None or not settings.database or not settings.reuse:
        return

    def disagrees(drawn: Drawn) -> bool:
        how = _how_broken(case, row, drawn, memory)
        if how is not None:
            row.broken = (how, drawn)
        return how is not None

    for source in inputs.sources:
        key = _key(row, case_id, source)
        if row.broken is None and any(True for _ in database.fetch(key)):
            find(source.strategy, disagrees, settings, phases=[Phase.reuse], examples=10, key=key)


def _smallest(
    case: Case, row: _Row, inputs: Inputs, settings: Settings, memory: Memory, case_id: str, deadline: float
) -> Drawn:
    """The smallest input that is broken in the same way."""
    assert row.broken is not None
    how, first = row.broken
    slow = how == BudgetExceeded.__name__
    if slow and memory.smallest_exhausted is not None:
        return memory.smallest_exhausted
    stop = min(deadline, time.perf_counter() + (4.0 if slow else 20.0))
    known: dict[str, bool] = {repr(first): True}

    def same(drawn: Drawn) -> bool:
        # Out of time, what has been seen keeps its answer: Hypothesis runs the smallest input once more at the end.
        key = repr(drawn)
        if key not in known:
            known[key] = time.perf_counter() < stop and _how_broken(case, row, drawn, memory) == how
        return known[key]

    source = inputs.like(first)
    found = find(
        source.strategy,
        same,
        replace(settings, examples=settings.examples + 20),
        phases=[*([Phase.reuse] if settings.reuse else []), Phase.generate, Phase.shrink],
        key=_key(row, case_id, source) if settings.database else None,
        first=first,
    )
    if slow:
        memory.smallest_exhausted = found or first
    return found or first


# ---------------------------------------------------------------------------------------------------------------------
# Concluding
# ---------------------------------------------------------------------------------------------------------------------

_VERDICT_OF = {
    Outcome.WRONG: Verdict.WRONG,
    Outcome.INACCURATE: Verdict.INACCURATE,
    Outcome.UNDECIDED: Verdict.UNDECIDED,
    CaseFailure.__name__: Verdict.ERROR,
    Unsupported.__name__: Verdict.UNSUPPORTED,
    RuleError.__name__: Verdict.UNSUPPORTED,
    WrongRule.__name__: Verdict.ERROR,
    BudgetExceeded.__name__: Verdict.UNDECIDED,
}


def _conclude(
    case: Case,
    row: _Row,
    inputs: Inputs,
    settings: Settings,
    memory: Memory,
    case_id: str,
    location: str,
    deadline: float,
) -> Result:
    started = time.perf_counter()
    if row.broken is not None:
        drawn = _smallest(case, row, inputs, settings, memory, case_id, deadline)
        verdict = _VERDICT_OF.get(row.broken[0], Verdict.ERROR)
        try:
            evaluation = evaluate(case, row.mode, row.dtype, drawn, memory)
        except DiffcheckError as error:
            row.seconds += time.perf_counter() - started
            at = f" [smallest input: {_input_text(case, row, drawn)}]" if isinstance(error, BudgetExceeded) else ""
            details = error.advice if isinstance(error, Unsupported) else ()
            return _result(case_id, row, verdict, f"{error}{at}", details=details)
        if evaluation is not None and evaluation.judgement.failures:
            if row.inputs == 0:  # it was remembered from an earlier run, and nothing has been drawn
                _note(row, evaluation)
            row.seconds += time.perf_counter() - started
            replay = replay_command(location, row.mode, row.dtype, settings)
            subject = _subject(case, row, drawn, evaluation, memory)
            finding = finding_of(subject, replay, location)
            reason = "precision ran out before the reference was decided" if verdict is Verdict.UNDECIDED else ""
            return _result(case_id, row, verdict, reason, finding)
        if verdict is Verdict.UNDECIDED:
            once = "a budget of time or memory ran out at an input, and did not when it was tried again"
            return _result(case_id, row, verdict, once)
        unsteady = f"{Mistake.NONDETERMINISTIC}: a disagreement did not happen again at the same input"
        return _result(case_id, row, Verdict.ERROR, unsteady)
    if isinstance(row.at_scale, Comparison):
        replay = replay_command(location, row.mode, row.dtype, settings)
        finding = finding_at_scale(case, row.mode, row.dtype, row.at_scale, replay)
        return _result(case_id, row, Verdict.WRONG, "", finding)
    if row.at_scale is not None:
        verdict = _VERDICT_OF.get(type(row.at_scale).__name__, Verdict.ERROR)
        return _result(case_id, row, verdict, str(row.at_scale))
    if row.late or time.perf_counter() > deadline:
        return _result(case_id, row, Verdict.UNDECIDED, f"the case ran for more than {settings.seconds:g} seconds")
    if row.inputs == 0:
        return _result(case_id, row, Verdict.UNDEFINED, "no input within the domain could be drawn")
    if row.compared == 0:
        return _result(case_id, row, Verdict.UNDEFINED, "every input drawn was a kink or had no derivative")
    if row.undecided:
        return _result(case_id, row, Verdict.AGREES, row.undecided)
    return _result(case_id, row, Verdict.PROVED)


def _subject(case: Case, row: _Row, drawn: Drawn, evaluation: Evaluation, memory: Memory) -> Subject:
    """What a finding is made of, and how to find out more."""

    def probe(other: Drawn) -> Evaluation | None:
        return evaluate(case, row.mode, row.dtype, other, memory)

    def again(other: Drawn) -> list[float]:
        return numbers_again(case, row.mode, row.dtype, other, memory)

    position = worst_number(evaluation)
    return Subject(case, row.mode, row.dtype, drawn, evaluation, position, again, probe)


def _input_text(case: Case, row: _Row, drawn: Drawn) -> str:
    return described(draw.tensors(drawn, case.arguments, DTYPES[row.dtype]))


def replay_command(location: str, mode: str, dtype: str, settings: Settings) -> str:
    """The command that draws the same inputs again, in the one mode and dtype."""
    if not location:
        return f"the same call with seed={settings.seed}"
    parts = ["diffcheck run", location]
    if mode != TEXTBOOK:
        parts.append(f"--mode {'reverse' if mode == 'accumulate' else mode} --dtype {dtype}")
    if settings.examples != Settings().examples:
        parts.append(f"--examples {settings.examples}")
    if settings.seed is not None:
        parts.append(f"--seed {settings.seed}")
    return " ".join(parts)


def _result(
    case_id: str, row: _Row, verdict: Verdict, reason: str = "", finding: Any = None, details: tuple[str, ...] = ()
) -> Result:
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


__all__ = ["BLOCK", "Settings", "check", "replay_command", "rows_of"]
