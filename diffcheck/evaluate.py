"""A case at one input: the trace that serves it (made if there is none), PyTorch's numbers, and their judgement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from flint import arb
from torch import Tensor

from diffcheck.autodiff import SECOND_ORDER, SeedsFor
from diffcheck.case import Case
from diffcheck.certify import Certifier, Format, Judgement, format_of, holds
from diffcheck.compiler import EXACT, Arithmetic, Program, Selections, compile_graph
from diffcheck.draw import Drawn, admits, taken_in_turn, tensors
from diffcheck.errors import BudgetExceeded, CaseFailure, DiffcheckError, RuleError
from diffcheck.faults import case_errors, time_limit
from diffcheck.identity import Proof, prove
from diffcheck.shadow import MANTISSA_BITS, Budget
from diffcheck.trace import Run, Trace, differentiate_each, textbook_gradients, trace, trace_textbook

DTYPES: Final = {"float64": torch.float64, "float32": torch.float32}
TEXTBOOK: Final = "gradient"
"""The mode under which a case's own `gradient=` is reported."""
_VALUE_SLACK: Final = 64.0
"""A rule's value may be so many radii from the kernel's. A wrong rule is wrong by far more; this is not a bound."""


@dataclass(frozen=True, slots=True)
class Path:
    """A trace, its proof, and its compiled reference."""

    trace: Trace
    proof: Proof
    certifier: Certifier
    guards: Program
    expected: tuple[bool, ...]
    seed_shapes: tuple[tuple[int, ...], ...]
    """Of the cotangents and tangents, in the order in which they are asked for."""


@dataclass(frozen=True, slots=True)
class Input:
    """A drawn input in a dtype; all modes share it, and leave it as it is."""

    values: dict[str, Tensor]
    """By argument."""
    entries: list[float]
    """Of the differentiated arguments."""


@dataclass(slots=True)
class Memory:
    """What the rows of one case share: paths by row and shape, proofs and compiled programs by formula."""

    paths: dict[tuple[object, ...], list[Path]] = field(default_factory=dict)
    proofs: dict[tuple[object, ...], Proof] = field(default_factory=dict)
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
        CaseFailure, Unsupported, BudgetExceeded: As `diffcheck.trace.trace`.
        RuleError: A rule's value is not the kernel's.
    """
    placed = placed_at(case, mode, dtype, drawn, memory)
    return None if placed is None else _confirmed(case, mode, dtype, placed, _at(case, mode, placed, memory), memory)


def evaluate_each(
    case: Case, mode: str, dtype: str, drawn: Sequence[Drawn], memory: Memory
) -> Iterator[tuple[Drawn, Evaluation | DiffcheckError | None]]:
    """What `evaluate` returns at each of several inputs, or the error that it raises there, which is the last.

    The function is called once for each input. What surrounds the calls is shared by the inputs that one trace serves:
    the run of autograd's engine, and the quick bounds. Whatever is not plainly right is evaluated once more, alone.
    """
    placed: list[Placed | None] = []
    error: DiffcheckError | None = None
    for one in drawn:
        try:
            placed.append(placed_at(case, mode, dtype, one, memory))
        except DiffcheckError as raised:
            error = raised
            break
    together: dict[int, list[Placed]] = {}
    for item in placed:
        if item is not None:
            together.setdefault(id(item.path), []).append(item)
    found: dict[int, Evaluation] = {}
    for items in together.values():
        for item, evaluation in zip(items, _at_each(case, mode, items, memory), strict=False):
            found[id(item)] = evaluation
    for one, item in zip(drawn, placed, strict=False):
        if item is None:
            yield one, None
            continue
        try:
            evaluation = found.get(id(item)) or _at(case, mode, item, memory)
            yield one, _confirmed(case, mode, dtype, item, evaluation, memory)
        except DiffcheckError as raised:
            yield one, raised
            return
    if error is not None:
        yield drawn[len(placed)], error


@dataclass(frozen=True, slots=True)
class Placed:
    """An input with the trace that serves it."""

    drawn: Drawn
    input: Input
    path: Path
    fresh: bool
    """Whether the trace was made at this very input."""


def placed_at(case: Case, mode: str, dtype: str, drawn: Drawn, memory: Memory) -> Placed | None:
    """The trace that serves a drawn input, made at that input if there is none; None if it is not in the domain.

    Raises: As `evaluate`.
    """
    given = input_of(case, dtype, drawn, memory)
    if given is None:
        return None
    paths = memory.paths.setdefault(_key(case, mode, dtype, drawn), [])
    path = _known_path(paths, given)
    if path is not None:
        return Placed(drawn, given, path, fresh=False)
    paths.insert(0, _within_budget(case, mode, dtype, drawn, given, memory))
    return Placed(drawn, given, paths[0], fresh=True)


def _confirmed(case: Case, mode: str, dtype: str, placed: Placed, evaluation: Evaluation, memory: Memory) -> Evaluation:
    """The same, if it is right or certainly not.

    Guards were decided exactly, PyTorch decided them on rounded numbers: the path may be another one. Or the case is no
    function of its arguments, which a trace at another input need not have shown.
    """
    if not evaluation.judgement.failures or (placed.fresh and evaluation.alone):
        return evaluation
    if not placed.fresh:
        path = _new_path(case, mode, dtype, placed.drawn, placed.input, memory)
        placed = Placed(placed.drawn, placed.input, path, fresh=True)
    return _at(case, mode, placed, memory)


_REMEMBERED: Final = 64


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
        by_dtype[dtype] = Input(values, _flat([values[a.name] for a in case.differentiated])) if inside else None
    return by_dtype[dtype]


def _key(case: Case, mode: str, dtype: str, drawn: Drawn) -> tuple[object, ...]:
    """What a trace is good for, besides the path: it holds shapes and integers fixed."""
    fixed = (drawn.entries[a.name] for a in case.arguments if not a.differentiated)
    return (mode, dtype, *drawn.shapes.items(), *fixed)


def _within_budget(case: Case, mode: str, dtype: str, drawn: Drawn, given: Input, memory: Memory) -> Path:
    if drawn in memory.exhausted:
        raise BudgetExceeded(memory.exhausted[drawn])
    try:
        return _new_path(case, mode, dtype, drawn, given, memory)
    except BudgetExceeded as error:
        memory.exhausted[drawn] = str(error)
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


def seeds_for(drawn: Drawn, kept: list[Tensor]) -> SeedsFor:
    """Gives the drawn cotangents or tangents, and leaves them in `kept`."""

    def seeds(like: Sequence[Tensor]) -> Sequence[Tensor]:
        found = taken_in_turn(drawn.seeds, like, sum(t.numel() for t in kept))
        kept.extend(found)
        return found

    return seeds


def _new_path(case: Case, mode: str, dtype: str, drawn: Drawn, given: Input, memory: Memory) -> Path:
    kept: list[Tensor] = []
    seeding = seeds_for(drawn, kept)
    if mode == TEXTBOOK:
        traced, run = trace_textbook(
            case, given.values, _reference_trace(case, dtype, drawn, given, memory), memory.operations
        )
    else:
        traced, run = trace(case, mode, given.values, seeding, memory.operations)
    fmt = format_of(DTYPES[dtype], MANTISSA_BITS[DTYPES[dtype]])
    point = given.entries + _flat(kept)
    _check_values(traced, run, point, fmt)
    formulas = (traced.executed, traced.reference)
    proof = memory.proofs.get(formulas)
    if proof is None:
        proof = memory.proofs[formulas] = prove(*formulas)
    programs = (traced.variables, *formulas, mode in SECOND_ORDER)
    certifier = memory.certifiers.get(programs)
    if certifier is None:
        certifier = memory.certifiers[programs] = Certifier(
            traced.variables, traced.reference, traced.executed, fmt, second_order=mode in SECOND_ORDER
        )
    inputs = traced.variables[: len(given.entries)]
    guards = compile_graph([g.selector for g in traced.guards], _guard_variables(traced, inputs), EXACT)
    return Path(traced, proof, certifier.in_format(fmt), guards, traced.path, tuple(tuple(seed.shape) for seed in kept))


def _reference_trace(case: Case, dtype: str, drawn: Drawn, given: Input, memory: Memory) -> Trace:
    """A trace of the case itself at this input: the one that its reverse mode has been judged by, or a new one."""
    base = "reverse" if case.preceded_by is None else "accumulate"
    known = _known_path(memory.paths.get(_key(case, base, dtype, drawn), []), given)
    return known.trace if known else trace(case, base, given.values, seeds_for(drawn, []), memory.operations)[0]


def _guard_variables(traced: Trace, inputs: Sequence[str]) -> Sequence[str]:
    from diffcheck.expr import symbols

    used = symbols(g.selector for g in traced.guards)
    if not used <= set(inputs):
        raise CaseFailure("a condition depends on the incoming cotangent; a derivative must be linear in it")
    return inputs


def _at(case: Case, mode: str, placed: Placed, memory: Memory) -> Evaluation:
    """Raises: As `evaluate`."""
    kept: list[Tensor] = []
    path, given = placed.path, placed.input
    with time_limit(memory.operations.seconds, f"case {case.name!r}"), case_errors(case, mode, given.values):
        (computed,) = _computed(case, mode, [given], [seeds_for(placed.drawn, kept)])
    if len(computed) != len(path.trace.entries):
        raise CaseFailure(f"case {case.name!r} returns tensors of other shapes for the same shapes of inputs")
    point = given.entries + _flat(kept)
    return Evaluation(path, path.certifier.judge(point, computed), computed, point, given.values, kept, alone=True)


def _at_each(case: Case, mode: str, placed: Sequence[Placed], memory: Memory) -> list[Evaluation]:
    """Of inputs that one trace serves; nothing if not all of them went well, or if there is nothing to share."""
    if len(placed) == 1:
        return []
    path = placed[0].path
    try:
        with time_limit(memory.operations.seconds, f"case {case.name!r}"):
            points, computed, seeds = certified_inputs(case, mode, path, placed)
    except Exception:  # noqa: BLE001 - a user's function may raise anything; alone, it is told at which input
        return []
    if any(len(numbers) != len(path.trace.entries) for numbers in computed):
        return []
    return [
        Evaluation(path, judgement, numbers, point, item.input.values, own, alone=False)
        for item, own, judgement, point, numbers in zip(
            placed, seeds, path.certifier.judge_all(points, computed), points, computed, strict=True
        )
    ]


def certified_inputs(
    case: Case, mode: str, path: Path, placed: Sequence[Placed]
) -> tuple[list[list[float]], list[list[float]], list[list[Tensor]]]:
    """PyTorch's work at several inputs that one trace serves, in any mode.

    Returns:
        For each input the values of the trace's variables, the numbers that PyTorch computed, and the cotangents or
        tangents.
    """
    seeds, numbers = _seeds_of(path, placed)
    computed = _computed(case, mode, [item.input for item in placed], [_handed_out(own) for own in seeds])
    return [item.input.entries + own for item, own in zip(placed, numbers, strict=True)], computed, seeds


def _seeds_of(path: Path, placed: Sequence[Placed]) -> tuple[list[list[Tensor]], list[list[float]]]:
    """What `taken_in_turn` gives for each input, and its entries.

    One tensor is made for all inputs, since making one costs microseconds.
    """
    dtype = next(iter(placed[0].input.values.values())).dtype
    columns: list[Sequence[Tensor]] = []
    numbers: list[list[float]] = [[] for _ in placed]
    position = 0
    for shape in path.seed_shapes:
        count = math.prod(shape)
        rows = [[own[(position + i) % len(own)] for i in range(count)] for own in (item.drawn.seeds for item in placed)]
        block = torch.tensor(rows, dtype=dtype)
        numbers = [own + more for own, more in zip(numbers, block.tolist(), strict=True)]
        columns.append(block.view(len(placed), *shape).unbind())
        position += count
    return [list(own) for own in zip(*columns, strict=True)] if columns else [[] for _ in placed], numbers


def _handed_out(seeds: Sequence[Tensor]) -> SeedsFor:
    left = iter(seeds)
    return lambda like: [next(left) for _ in like]


def _computed(case: Case, mode: str, inputs: Sequence[Input], seeding: Sequence[SeedsFor]) -> list[list[float]]:
    """What PyTorch returns at several inputs, as numbers."""
    fresh = [{name: value.clone() for name, value in given.values.items()} for given in inputs]
    if mode != TEXTBOOK:
        return [_flat(run.derivatives) for run in differentiate_each(case, mode, fresh, seeding)]
    assert case.gradient is not None
    return [
        _flat(textbook_gradients(case, case.gradient(*own.values()), [own[a.name] for a in case.differentiated]))
        for own in fresh
    ]


def _flat(parts: Sequence[Tensor]) -> list[float]:
    if len(parts) == 1:
        dimensions = parts[0].dim()
        if dimensions < 2:
            found: Any = parts[0].tolist()
            return found if dimensions else [found]
    flat: list[float] = []
    for tensor in parts:
        flat.extend(tensor.detach().reshape(-1).tolist())
    return flat


# ---------------------------------------------------------------------------------------------------------------------
# Values first: a wrong rule must never look like a wrong derivative
# ---------------------------------------------------------------------------------------------------------------------


def _check_values(traced: Trace, run: Run, point: Sequence[float], fmt: Format) -> None:
    """Compares what the rules say with what the kernels computed, in the forward and in the backward pass.

    Raises:
        RuleError: They differ.
    """
    pairs: list[tuple[str, Any, float]] = []
    outputs = [v for y in run.outputs for v in _flat([y])]
    pairs.extend(("the function's value", e, v) for e, v in zip(traced.outputs, outputs, strict=True))
    derivatives = _flat(run.derivatives)
    pairs.extend(("the derivative that was executed", e, v) for e, v in zip(traced.executed, derivatives, strict=True))
    careful = Arithmetic("careful", fmt.smallest_normal, fmt.smallest, fmt.largest)
    program = compile_graph([e for _, e, _ in pairs], traced.variables, careful)
    balls = program([arb(v) for v in point], fmt.bits, Selections())
    for (what, _, kernel), ball in zip(pairs, balls, strict=True):
        if not math.isfinite(kernel) or not ball.is_finite():
            continue
        gap = float((arb(kernel) - ball.mid()).abs_upper())
        if gap > _VALUE_SLACK * (float(ball.rad()) + fmt.ulp(kernel)):
            raise RuleError(
                f"{what} is {kernel!r} in PyTorch and {ball.str(17, radius=False)} by diffcheck's rules: "
                "a rule is wrong, and no derivative was judged; please report it"
            )
