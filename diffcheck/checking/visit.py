"""The rows of a case at the inputs that are drawn for them: where each is judged, and what is known of it then."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

import hypothesis
import torch
from hypothesis import Phase
from torch import Tensor

from diffcheck.alarm import processor_time
from diffcheck.algebra.critical_points import numbers_to_try
from diffcheck.certify.judgement import Outcome
from diffcheck.compare.evaluate import DTYPES, Evaluation, Memory, evaluate, evaluate_each, input_of
from diffcheck.compare.scale import Comparison, compare, random_seeds
from diffcheck.declare.case import Case
from diffcheck.declare.domain import Shapes
from diffcheck.differentiate.faults import case_errors
from diffcheck.draw import inputs as draw
from diffcheck.draw.inputs import Drawn, Layout
from diffcheck.draw.search import Inputs, Source, find, gather, is_at_scale
from diffcheck.errors import DiffcheckError, Refused, WrongRule
from diffcheck.modes import VALUE, under_vmap
from diffcheck.prove.identity import Status
from diffcheck.settings import Settings
from diffcheck.trace.shadow import Guard
from diffcheck.trace.tracer import Trace
from diffcheck.verdict import Verdict

BLOCK: Final = 99
"""So many inputs are evaluated at once: with the first, alone, a run has a hundred."""
_SLOW_BLOCK: Final = 32
_QUICK: Final = 0.4
"""A case is quick if all of its rows take less than so many seconds for the first input, traces and proofs included."""
_GIVEN_AT_SCALE: Final = 3
"""Cotangents that are drawn for an input that is too large for a trace."""
_REFUSED_THROUGHOUT: Final = 20
"""Where so many inputs are refused, and no other was met, none is taken."""
_PROBES: Final = 5
"""Inputs that are tried for one that a function takes."""
_BESIDE: Final = 0.25
"""How far, relatively, from a given input a rule is looked at."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a check goes by, from its beginning to its end."""

    case: Case
    settings: Settings
    memory: Memory
    inputs: Inputs
    """Where they are drawn from."""
    case_id: str
    """`cases/autograd.py::quadratic`, for the results."""
    location: str
    """What names the case on the command line; empty where a call does."""
    deadline: float
    """By `processor_time`."""


@dataclass(frozen=True, slots=True)
class Broken:
    """An input that disagreed, or that could not be judged."""

    how: Outcome | type[DiffcheckError]
    drawn: Drawn

    @property
    def verdict(self) -> Verdict:
        """On the case, if nothing worse happens."""
        return self.how.verdict


@dataclass(slots=True)
class Row:
    """What is known so far of one case, mode and dtype."""

    mode: str
    dtype: str
    inputs: int = 0
    compared: int = 0
    """Inputs at which some number was compared away from kinks."""
    kinks: int = 0
    undefined: int = 0
    out_of_range: int = 0
    judged: set[str] = field(default_factory=set)
    """Whose derivatives were compared: of which arguments, in forward mode of which outputs."""
    blind: set[str] = field(default_factory=set)
    """Whose were within a bound that is wider than they are."""
    max_ulps: float = 0.0
    max_bounds: float = 0.0
    seconds: float = 0.0
    paths: set[tuple[Guard, ...]] = field(default_factory=set)
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
    broken: Broken | None = None
    """The first input that was worst."""
    refused: int = 0
    """Inputs at which the function itself raises."""
    refusal: tuple[Drawn, Refused] | None = None
    """The first of them."""
    ordinary: Drawn | None = None
    """The last input of a traced size at which the derivative exists, is right, and is not zero throughout."""

    @property
    def closed(self) -> bool:
        """Whether no other input could tell more."""
        if self.broken is not None:
            return self.broken.how is not Outcome.INACCURATE
        return self.refused >= _REFUSED_THROUGHOUT and self.inputs == 0


def special_values(
    case: Case, rows: Sequence[Row], assignments: Sequence[Shapes], settings: Settings, memory: Memory
) -> tuple[float, ...]:
    """Numbers around which the formulas of one trace change, those that were executed included."""
    if not rows or not assignments:
        return ()
    found: list[Evaluation] = []

    def taken(drawn: Drawn) -> bool:
        try:
            evaluation = evaluate(case, rows[0].mode, rows[0].dtype, drawn, memory)
        except Refused:
            return False
        except DiffcheckError:
            return True  # the same input, or one like it, is drawn again and reported
        found.extend([] if evaluation is None else [evaluation])
        return True

    find(draw.inputs(case.arguments, assignments[-1:]), taken, settings, phases=[Phase.generate], examples=_PROBES)
    if not found:
        return ()
    evaluation = found[0]
    trace = evaluation.path.trace
    conditions = [guard.selector for guard in trace.guards]
    return numbers_to_try([*trace.outputs, *trace.executed, *trace.reference, *conditions])


def replay_known(check: Check, row: Row) -> None:
    """Tries what disagreed in earlier runs first."""
    settings = check.settings
    database = (settings.profile or hypothesis.settings()).database
    if database is None or not settings.database or not settings.reuse:
        return

    def disagrees(drawn: Drawn) -> bool:
        how = how_broken(check, row, drawn)
        if how is None or how is Refused:
            return False
        row.broken = Broken(how, drawn)
        return True

    for source in check.inputs.sources:
        key = key_of(check, row, source)
        if row.broken is None and any(True for _ in database.fetch(key)):
            find(source.strategy, disagrees, settings, phases=[Phase.reuse], examples=10, key=key)


def drawn_for(check: Check, rows: Sequence[Row], source: Source, deadline: float) -> list[Drawn]:
    """As many inputs as are asked for, each in the domain of some row; fewer if there is no time for more."""
    case, memory = check.case, check.memory
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

    return gather(source, inside, check.settings, deadline) if rows else []


def blocks(drawn: Sequence[Drawn]) -> Iterator[Sequence[Drawn]]:
    """The first input alone, since what is wrong everywhere is wrong there; then as many as are evaluated at once.

    Those have a time limit together, and other rows wait for them: where one takes long, or is large, there are fewer.
    """
    started = processor_time()
    yield drawn[:1]
    quick = processor_time() - started < _QUICK
    for large, group in groupby(drawn[1:], key=lambda one: one.large):
        alike = list(group)
        size = BLOCK if quick and not large else _SLOW_BLOCK
        for start in range(0, len(alike), size):
            yield alike[start : start + size]


def visit(check: Check, row: Row, block: Sequence[Drawn]) -> None:
    """Judges a row at some inputs and writes down what came of it, until it is broken for good."""
    started = time.perf_counter()
    for drawn, evaluation in evaluate_each(check.case, row.mode, row.dtype, block, check.memory):
        if row.closed or processor_time() > check.deadline:
            break
        if isinstance(evaluation, Refused):
            row.refused += 1
            row.refusal = row.refusal or (drawn, evaluation)
        elif isinstance(evaluation, DiffcheckError):
            row.broken = Broken(type(evaluation), drawn)
        elif evaluation is not None:
            note(row, drawn, evaluation)
            status = evaluation.path.proof.status
            if status in (Status.REFUTED, Status.UNDECIDED) and not row.undecided:
                row.undecided = _why_not_proved(evaluation)
                row.refuted = status is Status.REFUTED
            if row.refuted:
                row.gap = evaluation.path.certifier.discrepancy(evaluation.point)
            worst = evaluation.judgement.worst
            if worst and (row.broken is None or worst.verdict.severity > row.broken.verdict.severity):
                row.broken = Broken(worst, drawn)
    row.seconds += time.perf_counter() - started


def _why_not_proved(evaluation: Evaluation) -> str:
    path = evaluation.path
    position = path.proof.position or 0
    place = path.trace.entries[position].place
    if not path.followed:
        return path.proof.why
    if path.proof.status is Status.UNDECIDED:
        return f"the identity for {place} was not decided by algebra ({path.proof.why})"
    if path.certifier.formulas_part(position, evaluation.point):
        return f"the executed formula of {place} is another one than the reference, by less than rounding"
    return f"the executed formula of {place} was not recognised as the reference, which it equals to 500 bits"


def note(row: Row, drawn: Drawn, evaluation: Evaluation) -> None:
    """Counts an input, and its errors."""
    judgement = evaluation.judgement
    row.inputs += 1
    row.paths.add(evaluation.path.trace.guards)
    row.kinks += judgement.kink
    row.undefined += bool(judgement.undefined)
    row.out_of_range += bool(judgement.out_of_range)
    unjudged = judgement.left_out | judgement.blind
    row.compared += not judgement.kink and len(unjudged) < len(evaluation.computed)
    entries = evaluation.path.trace.entries
    row.judged |= {entry.owner for i, entry in enumerate(entries) if i not in unjudged}
    row.blind |= {entries[i].owner for i in judgement.blind}
    row.max_ulps = max(row.max_ulps, judgement.max_ulps)
    row.max_bounds = max(row.max_bounds, judgement.max_bounds)
    if is_ordinary(evaluation) and not drawn.large and drawn.layout is Layout.CONTIGUOUS:
        row.ordinary = drawn
    traced = evaluation.path.trace
    # A size that is large shows no more of the pattern, and takes long to write: nobody reads a sum of 67 terms.
    readable = evaluation.path.proof.status is not Status.LEFT
    if row.largest is None or (readable and len(traced.inputs) > len(row.largest.inputs)):
        row.largest = traced


def is_ordinary(evaluation: Evaluation) -> bool:
    """Whether the derivative exists at an input, is right, and is not zero throughout."""
    judgement = evaluation.judgement
    return not (judgement.failures or judgement.kink or judgement.undefined) and any(evaluation.computed)


def how_broken(check: Check, row: Row, drawn: Drawn) -> Outcome | type[DiffcheckError] | None:
    """The worst that comes of an input, or the kind of error that it raises; None if nothing is wrong."""
    try:
        evaluation = evaluate(check.case, row.mode, row.dtype, drawn, check.memory)
    except DiffcheckError as error:
        return type(error)
    return None if evaluation is None else evaluation.judgement.worst


def key_of(check: Check, row: Row, source: Source) -> bytes:
    """The database entry where a row's disagreements at inputs of one source are kept."""
    return f"diffcheck {check.case_id} {row.mode} {row.dtype} {source.name}".encode()


def hunt(check: Check, row: Row) -> None:
    """Looks for an input at which a formula that is another one shows, steering towards large differences."""

    def differs(drawn: Drawn) -> bool:
        if processor_time() > check.deadline:
            return False
        visit(check, row, [drawn])
        if row.broken is None and row.gap > 0:
            hypothesis.target(math.log2(row.gap), label="how far the formulas are apart, in bounds")
        return row.broken is not None

    # From another seed: the inputs of this one have been looked at.
    seed = check.settings.seed
    other = replace(check.settings, seed=None if seed is None else seed + 1)
    for source in check.inputs.ordinary:
        if row.broken is None:
            find(source.strategy, differs, other, phases=[Phase.generate, Phase.target])


def compare_at_scale(check: Check, row: Row) -> None:
    """Holds a kernel to its reference at the large inputs that were given, until one disagrees."""
    case, started = check.case, time.perf_counter()
    if under_vmap(row.mode):
        return  # at small sizes it was; at this one the other modes are
    turns = [(v, turn) for v in case.given if is_at_scale(case, v) for turn in range(_GIVEN_AT_SCALE)]
    for values, turn in turns:
        if row.at_scale is not None or processor_time() > check.deadline:
            break
        converted = {n: v.to(DTYPES[row.dtype]) if v.is_floating_point() else v for n, v in values.items()}
        try:
            with case_errors(case, row.mode, {}):
                found = compare(case, row.mode, converted, random_seeds((check.settings.seed or 0) + turn))
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


def vouch_nearby(check: Check, rows: Sequence[Row]) -> None:
    """Looks beside inputs that are the only ones, before derivatives at them are called other than they should be.

    At one input a wrong rule may have the right value, and another derivative.
    """
    if not any(row.refuted or (row.broken is not None and isinstance(row.broken.how, Outcome)) for row in rows):
        return
    generator = torch.Generator().manual_seed(0)
    for values in check.case.given:
        for row in (row for row in rows if row.mode == VALUE and row.broken is None):
            for by in (_BESIDE, _BESIDE, 0.0):
                moved = {n: _moved(v, by, generator) if v.is_floating_point() else v for n, v in values.items()}
                drawn = draw.at(moved, (1.0,))
                try:
                    evaluate(check.case, row.mode, row.dtype, drawn, check.memory)
                except WrongRule:
                    row.broken = Broken(WrongRule, drawn)
                    return
                except DiffcheckError:
                    pass  # nobody said that it is defined there


def _moved(values: Tensor, by: float, generator: torch.Generator) -> Tensor:
    """A tensor with other entries: of the same signs, or for 0 any."""
    noise = torch.rand(values.shape, generator=generator, dtype=torch.float64, device=generator.device).to(values)
    return values * (1 + by * noise) if by else values + _BESIDE * (noise - 0.5)
