"""A case at one input: the trace that serves it (made if there is none), PyTorch's numbers, and their judgement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
from diffcheck.errors import BudgetExceeded, CaseFailure, RuleError
from diffcheck.faults import case_errors, time_limit
from diffcheck.identity import Proof, prove
from diffcheck.shadow import MANTISSA_BITS, Budget
from diffcheck.trace import Run, Trace, differentiate, textbook_gradients, trace, trace_textbook

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
    operations: Budget = field(default_factory=Budget)
    exhausted: dict[Drawn, str] = field(default_factory=dict)
    """Inputs at which a run used up its budget: no other mode or dtype needs to try."""
    smallest_exhausted: Drawn | None = None
    drawn: Drawn | None = None
    """The input that was looked at last, and its tensors by dtype."""
    values: dict[str, dict[str, Tensor] | None] = field(default_factory=dict)


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


def evaluate(case: Case, mode: str, dtype: str, drawn: Drawn, memory: Memory) -> Evaluation | None:
    """Lets PyTorch differentiate a case at a drawn input and judges the result; None if the input is not in the domain.

    Raises:
        CaseFailure, Unsupported, BudgetExceeded: As `diffcheck.trace.trace`.
        RuleError: A rule's value is not the kernel's.
    """
    values = _values(case, dtype, drawn, memory)
    if values is None:
        return None
    paths = memory.paths.setdefault(_key(case, mode, dtype, drawn), [])
    path = _known_path(case, paths, values)
    if path is None:
        path = _within_budget(case, mode, dtype, drawn, values, memory)
        paths.insert(0, path)
        return _at(case, mode, drawn, values, path, memory)
    evaluation = _at(case, mode, drawn, values, path, memory)
    if evaluation.judgement.failures:
        # Guards were decided exactly, PyTorch decided them on rounded numbers: the path may be another one. Or the case
        # is no function of its arguments, which a trace at another input need not have shown.
        fresh = _new_path(case, mode, dtype, drawn, values, memory)
        return _at(case, mode, drawn, values, fresh, memory)
    return evaluation


def _values(case: Case, dtype: str, drawn: Drawn, memory: Memory) -> dict[str, Tensor] | None:
    """The drawn input in a dtype, or None outside of the domain; all modes share it, and leave it as it is."""
    if memory.drawn is not drawn:
        memory.drawn = drawn
        memory.values = {}
    if dtype not in memory.values:
        values = tensors(drawn, case.arguments, DTYPES[dtype])
        memory.values[dtype] = values if _in_domain(case, drawn, values) else None
    return memory.values[dtype]


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


def _seeds_for(drawn: Drawn, kept: list[Tensor]) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
    def seeds(like: Sequence[Tensor]) -> Sequence[Tensor]:
        found = taken_in_turn(drawn.seeds, like, sum(t.numel() for t in kept))
        kept.extend(found)
        return found

    return seeds


def _new_path(case: Case, mode: str, dtype: str, drawn: Drawn, values: dict[str, Tensor], memory: Memory) -> Path:
    kept: list[Tensor] = []
    seeds_for = _seeds_for(drawn, kept)
    if mode == TEXTBOOK:
        traced, run = trace_textbook(
            case, values, _reference_trace(case, dtype, drawn, values, memory), memory.operations
        )
    else:
        traced, run = trace(case, mode, values, seeds_for, memory.operations)
    fmt = format_of(DTYPES[dtype], MANTISSA_BITS[DTYPES[dtype]])
    point = _real_entries(case, values) + _flat(kept)
    check_values(traced, run, point, fmt)
    formulas = (traced.executed, traced.reference)
    proof = memory.proofs.get(formulas)
    if proof is None:
        proof = memory.proofs[formulas] = prove(*formulas)
    inputs = traced.variables[: len(_real_entries(case, values))]
    guards = compile_graph([g.selector for g in traced.guards], _guard_variables(traced, inputs), EXACT)
    return Path(
        traced,
        proof,
        Certifier(traced.variables, traced.reference, traced.executed, fmt, second_order=mode in SECOND_ORDER),
        guards,
        traced.path,
    )


def _reference_trace(case: Case, dtype: str, drawn: Drawn, values: dict[str, Tensor], memory: Memory) -> Trace:
    """A trace of the case itself at this input: the one that its reverse mode has been judged by, or a new one."""
    base = "reverse" if case.preceded_by is None else "accumulate"
    known = _known_path(case, memory.paths.get(_key(case, base, dtype, drawn), []), values)
    return known.trace if known else trace(case, base, values, _seeds_for(drawn, []), memory.operations)[0]


def _guard_variables(traced: Trace, inputs: Sequence[str]) -> Sequence[str]:
    from diffcheck.expr import symbols

    used = symbols(g.selector for g in traced.guards)
    if not used <= set(inputs):
        raise CaseFailure("a condition depends on the incoming cotangent; a derivative must be linear in it")
    return inputs


def _at(case: Case, mode: str, drawn: Drawn, values: dict[str, Tensor], path: Path, memory: Memory) -> Evaluation:
    kept: list[Tensor] = []
    with time_limit(memory.operations.seconds, f"case {case.name!r}"), case_errors(case, mode, values):
        point, computed = certified_input(case, mode, values, _seeds_for(drawn, kept), kept)
    if len(computed) != len(path.trace.entries):
        raise CaseFailure(f"case {case.name!r} returns tensors of other shapes for the same shapes of inputs")
    return Evaluation(path, path.certifier.judge(point, computed), computed, point, values, kept)


def certified_input(
    case: Case, mode: str, values: dict[str, Tensor], seeds_for: SeedsFor, kept: Sequence[Tensor]
) -> tuple[list[float], list[float]]:
    """PyTorch's work at one input: the values of the trace's variables, and the numbers that it computed.

    Args:
        case: The case.
        mode: `reverse`, `forward`, `accumulate` or `gradient`.
        values: By argument; they are left as they are.
        seeds_for: Gives cotangents or tangents, and leaves them in `kept`.
        kept: See `seeds_for`.
    """
    fresh = {name: value.clone() for name, value in values.items()}
    if mode == TEXTBOOK:
        assert case.gradient is not None
        real = [fresh[a.name] for a in case.differentiated]
        derivatives: Sequence[Tensor] = textbook_gradients(case, case.gradient(*fresh.values()), real)
    else:
        derivatives = differentiate(case, mode, fresh, seeds_for).derivatives
    computed = _flat(derivatives)
    return _real_entries(case, values) + _flat(kept), computed


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


def check_values(traced: Trace, run: Run, point: Sequence[float], fmt: Format) -> None:
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
