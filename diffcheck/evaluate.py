"""A case at one input: the trace that serves it (made if there is none), PyTorch's numbers, and their judgement."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from flint import arb
from torch import Tensor

from diffcheck.autodiff import SECOND_ORDER, SeedsFor
from diffcheck.case import Case
from diffcheck.certify import Certifier, Format, Judgement, format_of, holds
from diffcheck.compiler import EXACT, Arithmetic, Program, Selections, compile_graph
from diffcheck.draw import Drawn, Layout, admits, copied, taken_in_turn, tensors
from diffcheck.errors import BudgetExceeded, CaseFailure, DiffcheckError, RuleError
from diffcheck.expr import Expr
from diffcheck.faults import case_errors, time_limit
from diffcheck.identity import Proof, Status, prove
from diffcheck.shadow import MANTISSA_BITS, Budget, Source
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
    tensors: dict[int, tuple[Drawn, dict[str, dict[str, Tensor] | None]]] = field(default_factory=dict)
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
    try:
        placed = _placed(case, mode, dtype, drawn, memory)
        if placed is None:
            return None
        return _confirmed(case, mode, dtype, placed, _at(case, mode, placed, memory), memory)
    except CaseFailure:
        if _refuses_layout(case, dtype, drawn, memory):
            return None
        raise


def evaluate_each(
    case: Case, mode: str, dtype: str, drawn: Sequence[Drawn], memory: Memory
) -> Iterator[tuple[Drawn, Evaluation | DiffcheckError | None]]:
    """What `evaluate` returns at each of several inputs, or the error that it raises there, which is the last.

    The function is called once for each input. What surrounds the calls is shared by the inputs that one trace serves:
    the run of autograd's engine, and the quick bounds. Whatever is not plainly right is evaluated once more, alone.
    """
    placed: list[_Placed | None] = []
    error: DiffcheckError | None = None
    for one in drawn:
        try:
            placed.append(_placed(case, mode, dtype, one, memory))
        except DiffcheckError as raised:
            if isinstance(raised, CaseFailure) and _refuses_layout(case, dtype, one, memory):
                placed.append(None)
                continue
            error = raised
            break
    together: dict[int, list[_Placed]] = {}
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
            if isinstance(raised, CaseFailure) and _refuses_layout(case, dtype, one, memory):
                yield one, None
                continue
            yield one, raised
            return
    if error is not None:
        yield drawn[len(placed)], error


@dataclass(frozen=True, slots=True)
class _Placed:
    """An input with the trace that serves it."""

    drawn: Drawn
    values: dict[str, Tensor]
    path: Path
    fresh: bool
    """Whether the trace was made at this very input."""


def _placed(case: Case, mode: str, dtype: str, drawn: Drawn, memory: Memory) -> _Placed | None:
    values = values_of(case, dtype, drawn, memory)
    if values is None:
        return None
    paths = memory.paths.setdefault(_key(case, mode, dtype, drawn), [])
    path = _known_path(case, paths, values)
    if path is not None:
        return _Placed(drawn, values, path, fresh=False)
    paths.insert(0, _within_budget(case, mode, dtype, drawn, values, memory))
    return _Placed(drawn, values, paths[0], fresh=True)


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
    if not placed.fresh:
        path = _new_path(case, mode, dtype, placed.drawn, placed.values, memory)
        placed = _Placed(placed.drawn, placed.values, path, fresh=True)
    return _at(case, mode, placed, memory)


_REMEMBERED: Final = 64


def values_of(case: Case, dtype: str, drawn: Drawn, memory: Memory) -> dict[str, Tensor] | None:
    """The drawn input in a dtype, or None outside of the domain; all modes share it, and leave it as it is.

    Raises:
        CaseFailure: `assume=` or a predicate raises.
    """
    if id(drawn) not in memory.tensors:
        if len(memory.tensors) >= _REMEMBERED:
            memory.tensors.clear()
        memory.tensors[id(drawn)] = drawn, {}
    by_dtype = memory.tensors[id(drawn)][1]
    if dtype not in by_dtype:
        values = tensors(drawn, case.arguments, DTYPES[dtype])
        by_dtype[dtype] = values if _in_domain(case, drawn, values) else None
    return by_dtype[dtype]


def _refuses_layout(case: Case, dtype: str, drawn: Drawn, memory: Memory) -> bool:
    """Whether the function itself raises where memory is not contiguous (`view` does), and only there."""
    values = values_of(case, dtype, drawn, memory) if drawn.layout is not Layout.CONTIGUOUS else None
    if values is None:
        return False

    def raises(arguments: Iterable[Tensor]) -> bool:
        try:
            with torch.no_grad():
                case.function(*arguments)
        except Exception:  # noqa: BLE001 - a user's function may raise anything
            return True
        return False

    return raises(map(copied, values.values())) and not raises(v.contiguous().clone() for v in values.values())


def _key(case: Case, mode: str, dtype: str, drawn: Drawn) -> tuple[object, ...]:
    """What a trace is good for, besides the path: it holds shapes and integers fixed."""
    fixed = (drawn.entries[a.name] for a in case.arguments if not a.differentiated)
    return (mode, dtype, *drawn.shapes.items(), *fixed)


def _within_budget(case: Case, mode: str, dtype: str, drawn: Drawn, values: dict[str, Tensor], memory: Memory) -> Path:
    if drawn in memory.exhausted:
        raise BudgetExceeded(memory.exhausted[drawn])
    try:
        return _new_path(case, mode, dtype, drawn, values, memory)
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


def _real_entries(case: Case, values: dict[str, Tensor]) -> list[float]:
    return _flat([values[a.name] for a in case.differentiated])


def _known_path(case: Case, paths: Sequence[Path], values: dict[str, Tensor]) -> Path | None:
    if not paths:
        return None
    point = _real_entries(case, values)
    for path in paths:
        if not path.expected or holds(path.guards, path.expected, point, 128):
            return path
    return None


def seeds_for(drawn: Drawn, kept: list[Tensor]) -> SeedsFor:
    """Gives the drawn cotangents or tangents, and leaves them in `kept`."""

    def seeds(like: Sequence[Tensor]) -> Sequence[Tensor]:
        found = taken_in_turn(drawn.seeds, like, sum(t.numel() for t in kept), drawn.layout)
        kept.extend(found)
        return found

    return seeds


def _new_path(case: Case, mode: str, dtype: str, drawn: Drawn, values: dict[str, Tensor], memory: Memory) -> Path:
    kept: list[Tensor] = []
    seeding = seeds_for(drawn, kept)
    if mode == TEXTBOOK:
        traced, run = trace_textbook(
            case, values, _reference_trace(case, dtype, drawn, values, memory), memory.operations
        )
    else:
        traced, run = trace(case, mode, values, seeding, memory.operations)
    fmt = format_of(DTYPES[dtype], MANTISSA_BITS[DTYPES[dtype]])
    point = _real_entries(case, values) + _flat(kept)
    _check_values(traced, run, point, fmt)
    formulas = (traced.executed, traced.reference)
    proof = Proof(Status.LEFT) if drawn.large else _proof(formulas, memory)
    programs = (traced.variables, *formulas, mode in SECOND_ORDER)
    certifier = memory.certifiers.get(programs)
    if certifier is None:
        certifier = memory.certifiers[programs] = Certifier(
            traced.variables, traced.reference, traced.executed, fmt, second_order=mode in SECOND_ORDER
        )
    inputs = traced.variables[: len(_real_entries(case, values))]
    guards = compile_graph([g.selector for g in traced.guards], _guard_variables(traced, inputs), EXACT)
    return Path(traced, proof, certifier.in_format(fmt), guards, traced.path)


def _proof(formulas: tuple[tuple[Expr, ...], tuple[Expr, ...]], memory: Memory) -> Proof:
    known = memory.proofs.get(formulas)
    if known is None:
        known = memory.proofs[formulas] = prove(*formulas)
    return known


def _reference_trace(case: Case, dtype: str, drawn: Drawn, values: dict[str, Tensor], memory: Memory) -> Trace:
    """A trace of the case itself at this input: the one that its reverse mode has been judged by, or a new one."""
    base = "reverse" if case.preceded_by is None else "accumulate"
    known = _known_path(case, memory.paths.get(_key(case, base, dtype, drawn), []), values)
    return known.trace if known else trace(case, base, values, seeds_for(drawn, []), memory.operations)[0]


def _guard_variables(traced: Trace, inputs: Sequence[str]) -> Sequence[str]:
    from diffcheck.expr import symbols

    used = symbols(g.selector for g in traced.guards)
    if not used <= set(inputs):
        raise CaseFailure("a condition depends on the incoming cotangent; a derivative must be linear in it")
    return inputs


def _at(case: Case, mode: str, placed: _Placed, memory: Memory) -> Evaluation:
    """Raises: As `evaluate`."""
    kept: list[Tensor] = []
    values = placed.values
    with time_limit(memory.operations.seconds, f"case {case.name!r}"), case_errors(case, mode, values):
        ((point, computed),) = certified_inputs(case, mode, [values], [seeds_for(placed.drawn, kept)], [kept])
    if len(computed) != len(placed.path.trace.entries):
        raise CaseFailure(f"case {case.name!r} returns tensors of other shapes for the same shapes of inputs")
    judgement = placed.path.certifier.judge(point, computed)
    return Evaluation(placed.path, judgement, computed, point, values, kept, alone=True)


def _at_each(case: Case, mode: str, placed: Sequence[_Placed], memory: Memory) -> list[Evaluation]:
    """Of inputs that one trace serves; nothing if not all of them went well, or if there is nothing to share."""
    if len(placed) == 1:
        return []
    kept: list[list[Tensor]] = [[] for _ in placed]
    seeds = [seeds_for(item.drawn, own) for item, own in zip(placed, kept, strict=True)]
    values = [item.values for item in placed]
    path = placed[0].path
    try:
        with time_limit(memory.operations.seconds, f"case {case.name!r}"):
            found = certified_inputs(case, mode, values, seeds, kept)
    except Exception:  # noqa: BLE001 - a user's function may raise anything; alone, it is told at which input
        return []
    if any(len(computed) != len(path.trace.entries) for _, computed in found):
        return []
    judged = path.certifier.judge_all([point for point, _ in found], [computed for _, computed in found])
    return [
        Evaluation(path, judgement, computed, point, item.values, own, alone=False)
        for item, own, judgement, (point, computed) in zip(placed, kept, judged, found, strict=True)
    ]


def numbers_again(case: Case, mode: str, dtype: str, drawn: Drawn, memory: Memory) -> list[float]:
    """What PyTorch computes at an input, once more; nothing outside of the domain."""
    values = values_of(case, dtype, drawn, memory)
    if values is None:
        return []
    kept: list[Tensor] = []
    with time_limit(memory.operations.seconds, f"case {case.name!r}"), case_errors(case, mode, values):
        ((_, computed),) = certified_inputs(case, mode, [values], [seeds_for(drawn, kept)], [kept])
    return computed


def sources_of(case: Case, mode: str, evaluation: Evaluation) -> dict[Expr, Source]:
    """Which lines of the user's computed what, at an input that was evaluated before.

    Raises:
        DiffcheckError: As `diffcheck.trace.trace`.
    """
    found: dict[Expr, Source] = {}
    seeds = iter(evaluation.seeds)
    trace(case, mode, evaluation.values, lambda like: [next(seeds) for _ in like], sources=found)
    return found


def certified_inputs(
    case: Case,
    mode: str,
    values: Sequence[dict[str, Tensor]],
    seeds_for: Sequence[SeedsFor],
    kept: Sequence[Sequence[Tensor]],
) -> list[tuple[list[float], list[float]]]:
    """PyTorch's work at several inputs: for each the values of the trace's variables, and the numbers that it computed.

    Args:
        case: The case.
        mode: One of `diffcheck.trace.MODES`, `accumulate` or `gradient`.
        values: For each, the tensors by argument; they are left as they are.
        seeds_for: For each, gives cotangents or tangents, and leaves them in `kept`.
        kept: See `seeds_for`.
    """
    fresh = [{name: copied(value) for name, value in own.items()} for own in values]
    derivatives: list[Sequence[Tensor]]
    if mode == TEXTBOOK:
        assert case.gradient is not None
        derivatives = [
            textbook_gradients(case, case.gradient(*own.values()), [own[a.name] for a in case.differentiated])
            for own in fresh
        ]
    else:
        derivatives = [run.derivatives for run in differentiate_each(case, mode, fresh, seeds_for)]
    return [
        (_real_entries(case, own) + _flat(seeds), _flat(found))
        for own, seeds, found in zip(values, kept, derivatives, strict=True)
    ]


def _flat(parts: Sequence[Tensor]) -> list[float]:
    if len(parts) == 1 and parts[0].dim() == 1:
        found: list[float] = parts[0].tolist()
        return found
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
    if outputs:  # the textbook's gradient computes none
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
