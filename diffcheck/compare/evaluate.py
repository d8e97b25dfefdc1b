"""A case at one input: the trace that serves it (made if there is none), PyTorch's numbers, and their judgement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import Tensor

from diffcheck import modes
from diffcheck.algebra.expr import Expr
from diffcheck.certify.balls import EXACT
from diffcheck.certify.cells import Direction
from diffcheck.certify.certifier import Certifier, holds
from diffcheck.certify.compiler import Program
from diffcheck.certify.formats import MANTISSA_BITS, format_of
from diffcheck.certify.judgement import Judgement
from diffcheck.compare.ties import beside, is_tied, leave_out_of_range, paths_towards
from diffcheck.compare.values import LEFT_BACKWARD, check_left, check_values, was_executed
from diffcheck.declare.case import Case
from diffcheck.differentiate.autodiff import outputs_of
from diffcheck.differentiate.batch import (
    COMPANIONS,
    Forms,
    Input,
    Numbers,
    flat,
    numbers_at,
    numbers_at_each,
    seeds_for,
    stacked,
)
from diffcheck.differentiate.faults import case_errors, leaves_of, time_limit
from diffcheck.differentiate.run import whole
from diffcheck.draw.inputs import Drawn, Layout, admits, tensors
from diffcheck.errors import BudgetExceeded, CaseFailure, DiffcheckError, Refused
from diffcheck.modes import TEXTBOOK, order, under_vmap
from diffcheck.prove.identity import Known, Proof, Status, prove
from diffcheck.trace.budget import Budget
from diffcheck.trace.frames import Source
from diffcheck.trace.tracer import Derived, Trace, trace, trace_textbook

DTYPES: Final[Mapping[str, torch.dtype]] = {name: getattr(torch, name) for name in modes.DTYPES}
"""By the names that options give them."""


@dataclass(frozen=True, slots=True)
class Path:
    """A trace, its proof, and the programs of its reference."""

    trace: Trace
    proof: Proof
    certifier: Certifier
    guards: Program
    expected: tuple[bool, ...]
    ends: Program
    """The guards at which the path ends: what Python was told is no boundary."""
    ends_expected: tuple[bool, ...]
    seeds: Forms
    """Of the cotangents and tangents, in the order in which they are asked for."""
    followed: bool = True
    """Whether the executed formula is known: values that leave PyTorch on the way back come back as constants."""


@dataclass(slots=True)
class Memory:
    """What the rows of one case share: paths by row and shape, proofs and programs by formula."""

    paths: dict[tuple[object, ...], list[Path]] = field(default_factory=dict)
    explained: dict[tuple[object, ...], Path] = field(default_factory=dict)
    """Traces by row, shape, layout and path that were right where the first one was not."""
    derived: Derived = field(default_factory=dict)
    checks: dict[tuple[object, ...], Program] = field(default_factory=dict)
    """What compares a trace's values with the kernels', by formula."""
    proofs: dict[tuple[object, ...], Proof] = field(default_factory=dict)
    known: Known = field(default_factory=Known)
    """Of their proofs."""
    certifiers: dict[tuple[object, ...], Certifier] = field(default_factory=dict)
    operations: Budget = field(default_factory=Budget)
    exhausted: dict[Drawn, str] = field(default_factory=dict)
    """Inputs at which a run used up its budget: no other mode or dtype needs to try."""
    smallest_exhausted: Drawn | None = None
    inputs: dict[int, tuple[Drawn, dict[str, Input | None]]] = field(default_factory=dict)
    """The inputs that were looked at last, by identity, and their tensors by dtype."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One input, judged."""

    path: Path
    judgement: Judgement
    computed: Sequence[float]
    point: Sequence[float]
    """The values of the trace's variables: inputs, then cotangents or tangents."""
    values: dict[str, Tensor]
    seeds: Sequence[Tensor]
    alone: bool
    """Whether autograd's engine ran for this input alone."""


def evaluate(case: Case, mode: str, dtype: str, drawn: Drawn, memory: Memory) -> Evaluation | None:
    """Lets PyTorch differentiate a case at a drawn input and judges the result; None if the input is not in the domain.

    Raises:
        CaseFailure, Unsupported, BudgetExceeded: As `diffcheck.trace.tracer.trace`.
        RuleError: A rule's value is not the kernel's.
    """
    try:
        placed = _placed(case, mode, dtype, drawn, memory)
        if placed is None:
            return None
        evaluation = _confirmed(case, mode, dtype, placed, _at(case, mode, placed, memory), memory)
        return _at_tie(case, mode, dtype, placed.input, evaluation, memory)
    except CaseFailure as error:
        told = _told_apart(error, case, mode, dtype, drawn, memory)
        if told is None:
            return None
        raise told from error.__cause__


def evaluate_each(
    case: Case, mode: str, dtype: str, drawn: Sequence[Drawn], memory: Memory
) -> Iterator[tuple[Drawn, Evaluation | DiffcheckError | None]]:
    """What `evaluate` returns at each of several inputs, or the error that it raises there: unless refused, the last.

    The function is called once for each input. What surrounds the calls is shared by the inputs that one trace serves:
    the run of autograd's engine, and the quick bounds. Whatever is not plainly right is evaluated once more, alone.
    """
    placed: list[_Placed | DiffcheckError | None] = []
    for one in drawn:
        try:
            placed.append(_placed(case, mode, dtype, one, memory))
        except DiffcheckError as raised:
            placed.append(_told_apart(raised, case, mode, dtype, one, memory))
            if placed[-1] is not None and not isinstance(placed[-1], Refused):
                break
    together: dict[int, list[_Placed]] = {}
    for item in placed:
        if isinstance(item, _Placed):
            together.setdefault(id(item.path), []).append(item)
    found: dict[int, Evaluation] = {}
    for items in together.values():
        for item, evaluation in zip(items, _at_each(case, mode, items, memory), strict=False):
            found[id(item)] = evaluation
    for one, item in zip(drawn, placed, strict=False):
        if not isinstance(item, _Placed):
            yield one, item
            continue
        try:
            evaluation = found.get(id(item)) or _at(case, mode, item, memory)
            evaluation = _confirmed(case, mode, dtype, item, evaluation, memory)
            yield one, _at_tie(case, mode, dtype, item.input, evaluation, memory)
        except DiffcheckError as raised:
            told = _told_apart(raised, case, mode, dtype, one, memory)
            yield one, told
            if told is not None and not isinstance(told, Refused):
                return


@dataclass(frozen=True, slots=True)
class _Placed:
    """An input with the trace that serves it."""

    input: Input
    path: Path
    fresh: bool
    """Whether the trace was made at this very input."""


def _placed(case: Case, mode: str, dtype: str, drawn: Drawn, memory: Memory) -> _Placed | None:
    if order(mode) > 1 and drawn.layout is Layout.EXPANDED:
        # Cotangents are differentiated too: one element of memory can't stand for several of them.
        drawn = replace(drawn, layout=Layout.CONTIGUOUS)
    given = _input_for(mode, case, dtype, drawn, memory)
    if given is None:
        return None
    paths = memory.paths.setdefault(_key(case, mode, dtype, drawn), [])
    path = _known_path(paths, given)
    if path is not None:
        return _Placed(given, path, fresh=False)
    # What is not the same twice need not be found on each of many paths.
    paths.insert(0, _within_budget(case, mode, dtype, given, memory, twice=not paths))
    return _Placed(given, paths[0], fresh=True)


def _confirmed(
    case: Case, mode: str, dtype: str, placed: _Placed, evaluation: Evaluation, memory: Memory
) -> Evaluation:
    """The same, if it is right or certainly not.

    Guards were decided exactly, PyTorch decided them on rounded numbers: the path may be another one. Or the case is no
    function of its arguments, which a trace at another input need not have shown; or of their entries only, and not of
    how they lie in memory.
    """
    if not evaluation.judgement.failures or (placed.fresh and evaluation.alone):
        return evaluation
    if placed.fresh:
        return _at(case, mode, placed, memory)
    # What explained such an input before may explain this one: kernels take other ways for other layouts.
    key = (*_key(case, mode, dtype, placed.input.drawn), placed.input.drawn.layout, placed.path.trace.guards)
    known = memory.explained.get(key)
    if known is not None:
        again = _at(case, mode, _Placed(placed.input, known, fresh=False), memory)
        if not again.judgement.failures:
            return again
    path = _new_path(case, mode, dtype, placed.input, memory)
    found = _at(case, mode, _Placed(placed.input, path, fresh=True), memory)
    if not found.judgement.failures and path.trace.guards == placed.path.trace.guards:
        memory.explained[key] = path
    return found


def _at_tie(case: Case, mode: str, dtype: str, given: Input, evaluation: Evaluation, memory: Memory) -> Evaluation:
    """The same; where paths end, what is not right by its own path is judged by all of them."""
    path = evaluation.path
    inputs = len(given.entries)
    function = path.trace.function
    if function is None:
        return evaluation
    leave_out_of_range(evaluation.judgement, evaluation.computed, function, lambda: _values(case, mode, given))
    if not evaluation.judgement.failures or not path.expected or len(function.steps) != 1:
        return evaluation
    if not is_tied(path.ends, given.entries):
        return evaluation
    paths = memory.paths.setdefault(_key(case, mode, dtype, given.drawn), [])
    names = [a.name for a in case.differentiated]

    def traced(direction: Direction) -> tuple[Program, Sequence[bool], Certifier] | None:
        other = beside(given, names, direction, MANTISSA_BITS[DTYPES[dtype]])
        try:
            found = _known_path(paths, other) or _new_path(case, mode, dtype, other, memory, twice=False)
        except DiffcheckError:
            return None  # it is no input that anybody asked about
        if found not in paths:
            paths.append(found)
        return found.ends, found.ends_expected, found.certifier

    def known() -> list[tuple[Program, Sequence[bool], Certifier]]:
        return [(p.ends, p.ends_expected, p.certifier) for p in (path, *paths)]

    towards = paths_towards(known, traced, path.certifier, evaluation.point, inputs)
    judgement = path.certifier.judge_at_tie(evaluation.point, evaluation.computed, towards)
    return replace(evaluation, judgement=judgement)


def _values(case: Case, mode: str, given: Input) -> list[float]:
    """What PyTorch computes for the function itself; nothing where it is not asked for it."""
    if mode == TEXTBOOK:
        return []
    try:
        return flat(outputs_of(whole(case, mode).function(*leaves_of(case, given.values))))
    except Exception:  # noqa: BLE001 - a user's function may raise anything
        return []


def _input_for(mode: str, case: Case, dtype: str, drawn: Drawn, memory: Memory) -> Input | None:
    """The drawn input in a dtype, under vmap with another one; None outside of the domain."""
    given = input_of(case, dtype, drawn, memory)
    return stacked(case, given, COMPANIONS) if given is not None and under_vmap(mode) else given


_REMEMBERED: Final = 256


def input_of(case: Case, dtype: str, drawn: Drawn, memory: Memory) -> Input | None:
    """The drawn input in a dtype, or None outside of the domain.

    Raises:
        CaseFailure: `assume=` or a predicate raises.
    """
    if id(drawn) not in memory.inputs:
        if len(memory.inputs) >= _REMEMBERED:
            memory.inputs.clear()
        memory.inputs[id(drawn)] = drawn, {}
    by_dtype = memory.inputs[id(drawn)][1]
    if dtype not in by_dtype:
        values = tensors(drawn, case.arguments, DTYPES[dtype])
        inside = _in_domain(case, drawn, values)
        entries = flat([values[a.name] for a in case.differentiated])
        if dtype == "float16":  # what was meant may be beyond its range
            inside = inside and all(map(math.isfinite, entries))
        by_dtype[dtype] = Input(drawn, values, entries) if inside else None
    return by_dtype[dtype]


def _told_apart(
    error: DiffcheckError, case: Case, mode: str, dtype: str, drawn: Drawn, memory: Memory
) -> DiffcheckError | None:
    """An error; that the function refuses the input, where it is its own; nothing, where only the layout is refused."""
    if _is_of_layout(error, case, dtype, drawn, memory):
        return None
    if not isinstance(error, CaseFailure) or error.__cause__ is None or isinstance(error, Refused):
        return error
    try:
        given = _input_for(mode, case, dtype, drawn, memory)
        if given is None:
            return error
        with time_limit(memory.operations.seconds, f"case {case.name!r}"):
            whole(case.judged, mode).function(*leaves_of(case, given.values))
    except DiffcheckError:
        return error
    except Exception:  # noqa: BLE001 - a user's function may raise anything
        return Refused(str(error))
    return error


def _is_of_layout(error: DiffcheckError, case: Case, dtype: str, drawn: Drawn, memory: Memory) -> bool:
    """Whether an error is the function's own, where memory is not contiguous (`view` raises there), and only there."""
    if not isinstance(error, CaseFailure) or drawn.layout is Layout.CONTIGUOUS:
        return False
    given = input_of(case, dtype, drawn, memory)
    if given is None:
        return False

    def raises(values: Mapping[str, Tensor]) -> bool:
        try:
            case.function(*leaves_of(case, values))
        except Exception:  # noqa: BLE001 - a user's function may raise anything
            return True
        return False

    return raises(given.values) and not raises({n: v.contiguous() for n, v in given.values.items()})


def _key(case: Case, mode: str, dtype: str, drawn: Drawn) -> tuple[object, ...]:
    """What a trace is good for, besides the path: it holds shapes and integers fixed."""
    fixed = (drawn.entries[a.name] for a in case.arguments if not a.differentiated)
    return (mode, dtype, *drawn.shapes.items(), *fixed)


def _within_budget(case: Case, mode: str, dtype: str, given: Input, memory: Memory, *, twice: bool) -> Path:
    if given.drawn in memory.exhausted:
        raise BudgetExceeded(memory.exhausted[given.drawn])
    try:
        return _new_path(case, mode, dtype, given, memory, twice=twice)
    except BudgetExceeded as error:
        memory.exhausted[given.drawn] = str(error)
        raise


def _in_domain(case: Case, drawn: Drawn, values: dict[str, Tensor]) -> bool:
    try:
        return admits(case.arguments, drawn.shapes, values, case.assume)
    except Exception as error:  # a predicate is user code
        raise CaseFailure(
            f"assume= or a Predicate of case {case.name!r} raises {type(error).__name__}: {error}"
        ) from error


def _known_path(paths: Sequence[Path], given: Input) -> Path | None:
    for path in paths:
        if not path.expected or holds(path.guards, path.expected, given.entries, 128):
            return path
    return None


def _new_path(case: Case, mode: str, dtype: str, given: Input, memory: Memory, *, twice: bool = True) -> Path:
    kept: list[Tensor] = []
    seeding = seeds_for(given.drawn, kept)
    if mode == TEXTBOOK:
        ran = trace_textbook(case, given.values, _reference_trace(case, dtype, given, memory), memory.operations)
    else:
        ran = trace(case, mode, given.values, seeding, memory.operations, derived=memory.derived, twice=twice)
    fmt = format_of(DTYPES[dtype])
    point = given.entries + flat(kept)
    check_values(ran, point, fmt, memory.checks)
    if not under_vmap(mode):
        check_left(case, ran, given, fmt)
    traced = ran.trace
    formulas = (traced.executed, traced.reference)
    proof = Proof(Status.LEFT) if given.drawn.large else _proof(formulas, traced.seed_variables, memory)
    followed = mode == TEXTBOOK or proof.status is not Status.REFUTED or was_executed(case, mode, traced, given, fmt)
    if not followed:  # numbers are judged all the same: by the reference's rounding
        traced, proof = replace(traced, executed=traced.reference), Proof(Status.UNDECIDED, 0, LEFT_BACKWARD)
        formulas = (traced.executed, traced.reference)
    function = traced.function
    programs = (traced.variables, *formulas, *(() if function is None else (function.steps, function.outputs)))
    certifier = memory.certifiers.get(programs)
    if certifier is None:
        certifier = memory.certifiers[programs] = Certifier(
            traced.variables,
            traced.reference,
            traced.executed,
            fmt,
            higher_order=order(mode) > 1,
            seeds=len(traced.seed_variables),
            function=function,
        )
    inputs = traced.variables[: len(given.entries)]
    names = _guard_variables(traced, inputs)
    guards = Program([g.selector for g in traced.guards], names, EXACT)
    own = [g for g in traced.guards if not g.told]
    ends = guards if len(own) == len(traced.guards) else Program([g.selector for g in own], names, EXACT)
    return Path(
        traced,
        proof,
        certifier.in_format(fmt),
        guards,
        traced.path,
        ends,
        tuple(g.value for g in own),
        tuple((tuple(seed.shape), seed.dtype) for seed in kept),
        followed,
    )


def _proof(formulas: tuple[tuple[Expr, ...], tuple[Expr, ...]], seeds: Sequence[str], memory: Memory) -> Proof:
    known = memory.proofs.get(formulas)
    if known is None:
        known = memory.proofs[formulas] = prove(*formulas, seeds, memory.known)
    return known


def _reference_trace(case: Case, dtype: str, given: Input, memory: Memory) -> Trace:
    """A trace of the case itself at this input: the one that its reverse mode has been judged by, or a new one."""
    base = "reverse" if case.preceded_by is None else "accumulate"
    known = _known_path(memory.paths.get(_key(case, base, dtype, given.drawn), []), given)
    return known.trace if known else trace(case, base, given.values, seeds_for(given.drawn, []), memory.operations)[0]


def _guard_variables(traced: Trace, inputs: Sequence[str]) -> Sequence[str]:
    from diffcheck.algebra.expr import symbols

    used = symbols(g.selector for g in traced.guards)
    if not used <= set(inputs):
        raise CaseFailure("a condition depends on the incoming cotangent; a derivative must be linear in it")
    return inputs


def _at(case: Case, mode: str, placed: _Placed, memory: Memory) -> Evaluation:
    """Raises: As `evaluate`."""
    path, given = placed.path, placed.input
    with time_limit(memory.operations.seconds, f"case {case.name!r}"), case_errors(case, mode, given.values):
        found = numbers_at(case.judged, mode, given)
    if len(found.computed) != len(path.trace.entries):
        raise CaseFailure(f"case {case.name!r} returns tensors of other shapes for the same shapes of inputs")
    return _judged(placed, found, path.certifier.judge(found.point, found.computed), alone=True)


def _at_each(case: Case, mode: str, placed: Sequence[_Placed], memory: Memory) -> list[Evaluation]:
    """Of inputs that one trace serves; nothing if not all of them went well."""
    path = placed[0].path
    try:
        with time_limit(memory.operations.seconds, f"case {case.name!r}"):
            found = numbers_at_each(case.judged, mode, [item.input for item in placed], path.seeds)
    except Exception:  # noqa: BLE001 - a user's function may raise anything; alone, it is told at which input
        return []
    if found.computed.shape[1] != len(path.trace.entries):
        return []
    judged = path.certifier.judge_all(found.points, found.computed)
    numbers = map(Numbers, found.points.tolist(), found.computed.tolist(), found.seeds.each(len(placed)))
    return [_judged(*each, alone=False) for each in zip(placed, numbers, judged, strict=True)]


def _judged(placed: _Placed, found: Numbers, judgement: Judgement, *, alone: bool) -> Evaluation:
    return Evaluation(
        placed.path, judgement, found.computed, found.point, placed.input.values, found.seeds, alone=alone
    )


def numbers_again(case: Case, mode: str, dtype: str, drawn: Drawn, memory: Memory) -> list[float]:
    """What PyTorch computes at an input, once more; nothing outside of the domain."""
    given = _input_for(mode, case, dtype, drawn, memory)
    if given is None:
        return []
    with time_limit(memory.operations.seconds, f"case {case.name!r}"), case_errors(case, mode, given.values):
        return numbers_at(case.judged, mode, given).computed


def sources_of(case: Case, mode: str, evaluation: Evaluation) -> dict[Expr, Source]:
    """Which lines of the user's computed what, at an input that was evaluated before.

    Raises:
        DiffcheckError: As `diffcheck.trace.tracer.trace`.
    """
    found: dict[Expr, Source] = {}
    seeds = iter(evaluation.seeds)
    trace(case, mode, evaluation.values, lambda like: [next(seeds) for _ in like], sources=found)
    return found
