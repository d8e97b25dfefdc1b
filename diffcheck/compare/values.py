"""What a trace says, held to kernels' numbers: a wrong rule must never look like a wrong derivative."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from flint import arb

from diffcheck.algebra.expr import Expr
from diffcheck.certify.balls import EXACT, Arithmetic, Selections
from diffcheck.certify.certifier import holds
from diffcheck.certify.compiler import Program
from diffcheck.certify.formats import Format
from diffcheck.declare.case import Case
from diffcheck.declare.rule import named
from diffcheck.differentiate.batch import Input, flat, numbers_at
from diffcheck.draw.inputs import laid_out
from diffcheck.errors import RuleError, Unsupported, WrongRule
from diffcheck.modes import VALUE, under_vmap
from diffcheck.rules.complexes import parts_of
from diffcheck.trace.stand_in import Applied
from diffcheck.trace.tracer import Trace, Traced

_SLACK: Final = 64.0
"""A rule's value may be so many radii from the kernel's. A wrong rule is wrong by far more; this is not a bound."""
_PROBES: Final = 2
"""Pairs of inputs nearby at which formulas are held to numbers."""

LEFT_BACKWARD: Final = "values leave PyTorch in the backward pass: its numbers were judged, its formula is not known"

Programs = dict[tuple[object, ...], Program]
"""What compares formulas with numbers, by formula."""


def check_values(ran: Traced, point: Sequence[float], fmt: Format, known: Programs) -> None:
    """Compares what the rules say with what the kernels computed, in the forward and in the backward pass.

    Args:
        ran: What the rules say, and what the kernels computed.
        point: The values of the trace's variables.
        fmt: In which they computed.
        known: The programs of earlier traces, and of this one: in another dtype it is the same.

    Raises:
        WrongRule: A rule that somebody gave is not what its operation computed.
        Unsupported: An operation's own Python function, which was followed, is not.
        RuleError: They differ all the same.
    """
    traced, run, followed = ran.trace, ran.run, ran.applied
    for applied in followed:
        _check_applied(applied, traced, point, fmt, known)
    pairs: list[tuple[str, Any, float]] = []
    outputs = [v for y in run.outputs for v in flat([y])]
    if outputs:  # the textbook's gradient computes none
        pairs.extend(("the function's value", e, v) for e, v in zip(traced.outputs, outputs, strict=True))
    derivatives = flat(run.derivatives)
    pairs.extend(("the derivative that was executed", e, v) for e, v in zip(traced.executed, derivatives, strict=True))
    differing = _first_differing([e for _, e, _ in pairs], [v for _, _, v in pairs], traced, point, fmt, known)
    if differing is not None:
        what, _, kernel = pairs[differing[0]]
        raise RuleError(
            f"{what} is {kernel!r} in PyTorch and {differing[1]} by diffcheck's rules: "
            "a rule is wrong, and no derivative was judged; please report it"
        )


def _check_applied(applied: Applied, traced: Trace, point: Sequence[float], fmt: Format, known: Programs) -> None:
    numbers = torch.view_as_real(applied.computed) if applied.computed.is_complex() else applied.computed
    computed = [float(v) for v in numbers.reshape(-1).tolist()]
    differing = _first_differing(parts_of(applied.shadow), computed, traced, point, fmt, known)
    if differing is None:
        return
    position, stated = differing
    shape = tuple(numbers.shape)
    index = [int(i) for i in np.unravel_index(position, shape)][: applied.computed.dim()]
    place = f"{applied.label}{f' at {index}' if index else ''}"
    if applied.rule.given:
        raise WrongRule(
            f"{named(applied.rule)} is not what the operation computes: {place} is {computed[position]!r} by the "
            f"operation and {stated} by its rule, at {applied.arguments}; no derivative was judged"
        )
    raise Unsupported(
        applied.rule.operation,
        f"its Python function can't be followed ({place} is {computed[position]!r}, and {stated} by what was followed)",
        applied.advice,
    )


def _first_differing(
    formulas: Sequence[Expr],
    numbers: Sequence[float],
    traced: Trace,
    point: Sequence[float],
    fmt: Format,
    known: Programs,
) -> tuple[int, str] | None:
    """The first formula whose value is not the number beside it, whatever the rounding, and its value."""
    careful = Arithmetic("careful", fmt.smallest_normal, fmt.smallest, fmt.largest)
    key = (traced.variables, *formulas)
    if key not in known:
        known[key] = Program(formulas, traced.variables, careful)
    balls = known[key].within(careful)([arb(v) for v in point], fmt.bits, Selections())
    for position, (number, ball) in enumerate(zip(numbers, balls, strict=True)):
        if not math.isfinite(number) or not ball.is_finite():
            continue
        gap = float((arb(number) - ball.mid()).abs_upper())
        if gap > _SLACK * (float(ball.rad()) + fmt.ulp(number)):
            return position, repr(float(ball.mid()))
    return None


# ---------------------------------------------------------------------------------------------------------------------
# What left PyTorch: whether its values were asked for a decision only, or came back
# ---------------------------------------------------------------------------------------------------------------------


def check_left(case: Case, ran: Traced, given: Input, fmt: Format) -> None:
    """Sees to it that what Python was told, where a constant would stand for more, is in no value of the function.

    `if x.item() > 0` is a decision, and the formula of the path holds beside the input; `math.sin(x.item())` is a value
    that no shadow follows, and it does not.

    Raises:
        Unsupported: The function's formula does not hold beside the input.
    """
    if not ran.left or (not case.thawed and not any(place.inside_function for place in ran.left)):
        return
    if not _holds_nearby(case, VALUE, ran.trace.outputs, ran.trace, given, fmt):
        place = ran.left[0]
        raise Unsupported(place.operation, place.reason)


def was_executed(case: Case, mode: str, traced: Trace, given: Input, fmt: Format) -> bool:
    """Whether the formulas that were traced are what PyTorch computes beside an input too, on the same path.

    They are not where a backward pass leaves PyTorch: what comes back from NumPy are constants to a trace.
    """
    guards = Program([g.selector for g in traced.guards], traced.variables[: len(given.entries)], EXACT)
    return under_vmap(mode) or _holds_nearby(
        case.judged, mode, traced.executed, traced, given, fmt,
        served=lambda moved: not traced.guards or holds(guards, traced.path, moved.entries, 128),
    )  # fmt: skip


def _holds_nearby(
    case: Case,
    mode: str,
    formulas: Sequence[Expr],
    traced: Trace,
    given: Input,
    fmt: Format,
    served: Callable[[Input], bool] = lambda _: True,
) -> bool:
    """Whether formulas have the values of some mode's numbers at one of a few inputs beside one, or at the input."""
    program: Programs = {}
    tried = False
    for moved in filter(served, _nearby(case, given, fmt)):
        try:
            found = numbers_at(case, mode, moved)
        except Exception:  # noqa: BLE001, S112 - a user's function may raise anything, and it may be no input of its
            continue
        point = found.point if mode != VALUE else [*found.point, *([0.0] * len(traced.seed_variables))]
        if len(found.computed) == len(formulas):
            tried = True
            if _first_differing(formulas, found.computed, traced, point, fmt, program) is None:
                return True
    return not tried


def _nearby(case: Case, given: Input, fmt: Format) -> Iterator[Input]:
    """Inputs of which the first third of the digits is the same, with other cotangents or tangents."""
    generator = torch.Generator().manual_seed(0)
    by = 2.0 ** -(fmt.bits // 3)
    for _ in range(_PROBES):
        noise = {
            a.name: torch.rand(given.values[a.name].shape, generator=generator, dtype=torch.float64) - 0.5
            for a in case.differentiated
        }
        for side in (by, -by):  # of a condition that changes at the input
            values = dict(given.values)
            for name, moves in noise.items():
                value = values[name]
                step = side * moves.to(value)
                values[name] = laid_out(torch.where(value == 0, step, value * (1 + step)), given.drawn.layout)
            entries = flat([values[a.name] for a in case.differentiated])
            seeds = tuple(1.5 * s + i for i, s in enumerate(given.drawn.seeds))
            yield Input(replace(given.drawn, seeds=seeds), values, entries)
