"""One run of a case under shadow memory: the function, the formula that autograd executed, and the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from diffcheck.alarm import alarm
from diffcheck.algebra import marks
from diffcheck.algebra.expr import ONE, ZERO, Expr
from diffcheck.certify.cells import Function
from diffcheck.certify.formats import MANTISSA_BITS
from diffcheck.declare.case import Case
from diffcheck.declare.rule import rules_by_operation
from diffcheck.derive import chain_rule
from diffcheck.differentiate.autodiff import SeedsFor
from diffcheck.differentiate.dynamo import as_written
from diffcheck.differentiate.faults import (
    case_errors,
    check_forms,
    check_outputs,
    check_repeatable,
    check_same_derivatives,
    check_unchanged,
    time_limit,
)
from diffcheck.differentiate.run import Run, differentiate, textbook_gradients, whole
from diffcheck.draw.inputs import copied
from diffcheck.modes import VALUE, order, steps
from diffcheck.rules import table
from diffcheck.rules.complexes import Complex, parts_of
from diffcheck.rules.registry import Array, elements
from diffcheck.trace.budget import Budget
from diffcheck.trace.frames import Source
from diffcheck.trace.seeding import Seed, Seeding, differ
from diffcheck.trace.shadow import Guard, Left, Shadows
from diffcheck.trace.stand_in import Applied
from diffcheck.trace.storages import symbols_of
from diffcheck.trace.surrogate import stated

Derived: TypeAlias = dict[tuple[object, ...], tuple[Expr, ...]]
"""References, by the mode, the outputs, the inputs, and the cotangents or tangents."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One number that is compared: which argument's (in forward mode, which output's) and at which index."""

    owner: str
    index: tuple[int, ...]

    @property
    def place(self) -> str:
        """As people write it: `x[0, 1]`."""
        return f"{self.owner}{list(self.index) if self.index else ''}"


@dataclass(frozen=True)
class Trace:
    """What one run says about every input that has its shapes and satisfies its guards."""

    variables: tuple[str, ...]
    """The entries of the differentiated inputs, then those of the cotangents and tangents, as symbols' names."""
    seeds: tuple[Seed, ...]
    """The cotangents and tangents, in that order."""
    entries: tuple[Entry, ...]
    executed: tuple[Expr, ...]
    """The formula that was executed, per entry."""
    reference: tuple[Expr, ...]
    """The reference, per entry."""
    outputs: tuple[Expr, ...]
    """The function's value, per element of its outputs."""
    summed: tuple[Expr, ...]
    """The outputs' values of which the derivative is taken."""
    inputs: tuple[Expr, ...]
    """The entries of the differentiated inputs."""
    guards: tuple[Guard, ...]
    custom: tuple[str, ...] = ()
    """The operations in it that are a `torch.library.custom_op`."""
    function: Function | None = None
    """What is differentiated, and how."""

    @property
    def seed_names(self) -> tuple[str, ...]:
        """What the cotangents and tangents are called."""
        return tuple(seed.name for seed in self.seeds)

    @property
    def seed_variables(self) -> tuple[str, ...]:
        """The entries of the cotangents and tangents."""
        return self.variables[len(self.inputs) :]

    @cached_property
    def unit_reference(self) -> tuple[Expr, ...]:
        """The gradient of the sum of the outputs, per entry of the inputs."""
        return tuple(chain_rule.pull_back(self.summed, [ONE] * len(self.summed), self.inputs))

    @property
    def path(self) -> tuple[bool, ...]:
        """The way that the run took through the function's conditions."""
        return tuple(guard.value for guard in self.guards)


class Traced(NamedTuple):
    """What a run under shadow memory came to."""

    trace: Trace
    run: Run
    applied: tuple[Applied, ...]
    """What was followed in an operation's place."""
    left: tuple[Left, ...] = ()
    """Where Python was told a number that depends on the inputs."""


def trace(
    case: Case,
    mode: str,
    values: Mapping[str, Tensor],
    seeds_for: SeedsFor,
    budget: Budget | None = None,
    sources: dict[Expr, Source] | None = None,
    *,
    derived: Derived | None = None,
    twice: bool = True,
) -> Traced:
    """Runs a case once under shadow memory.

    Args:
        case: The case.
        mode: One of `diffcheck.modes.MODES`, `VALUE`, or `accumulate`.
        values: The inputs by argument; they are left as they are.
        seeds_for: Gives cotangents or tangents.
        budget: What the trace may spend.
        sources: Filled with the lines of the user's that computed what.
        derived: The references of earlier traces of the case, and of this one: in another dtype it is the same.
        twice: Whether derivatives are also compared with those of another run.

    Raises:
        CaseFailure: The case misbehaved.
        Unsupported: An operation has no rule.
        WrongRule: A rule that somebody gave returns something else than its operation.
        BudgetExceeded: The run used up its budget.
    """
    asked = _Asked(case, mode, {n: v.clone() for n, v in values.items()}, budget or Budget())
    ran = _run(asked, {n: copied(v) for n, v in values.items()}, seeds_for, sources)
    _check_manners(asked, ran, twice=twice)
    outputs = [e for cells in ran.outputs for e in parts_of(cells)]
    differentiated, summed = _differentiated(asked, ran, outputs)
    seeds = [ran.seeding.symbols(step) for step in range(order(mode))]
    if mode == "accumulate":
        seeds[0] = seeds[0][-len(differentiated) :]
    reference, function = _derived(mode, differentiated, ran.inputs, seeds, {} if derived is None else derived)
    guards = ran.shadows.guards
    if case.surrogate is not None:
        reference, more = stated(case, asked.values, ran.seeding.given, asked.budget)
        guards, function = (*guards, *more), None
    return Traced(
        Trace(
            variables=tuple(str(e.payload) for e in ran.inputs + ran.seeding.variables),
            seeds=tuple(ran.seeding.seeds),
            entries=_entries(ran.owners, ran.run.derivatives),
            executed=tuple(e for cells in ran.executed for e in parts_of(cells)),
            reference=reference,
            outputs=tuple(outputs),
            summed=summed,
            inputs=tuple(ran.inputs),
            guards=guards,
            custom=tuple(dict.fromkeys(a.rule.operation for a in ran.shadows.applied if a.custom)),
            function=function,
        ),
        ran.run,
        ran.shadows.applied,
        ran.shadows.left,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is traced, and the inputs as they were given."""

    case: Case
    mode: str
    values: dict[str, Tensor]
    budget: Budget

    @property
    def real(self) -> list[str]:
        """The arguments that are differentiated."""
        return [a.name for a in self.case.arguments if a.differentiated]

    def limit(self) -> alarm:
        """How long the case may run."""
        return time_limit(self.budget.seconds, f"case {self.case.name!r}")


@dataclass(frozen=True, slots=True)
class _Ran:
    """A run, and what stood beside it in shadow memory."""

    run: Run
    values: Mapping[str, Tensor]
    """The inputs, as they are after it."""
    shadows: Shadows
    seeding: Seeding
    owners: Sequence[str]
    executed: list[Array]
    outputs: Sequence[Array]
    inputs: list[Expr]
    changed: list[str]
    """The arguments that were written to."""


def _run(asked: _Asked, values: dict[str, Tensor], seeds_for: SeedsFor, sources: dict[Expr, Source] | None) -> _Ran:
    """Lets autograd differentiate the case under shadow memory."""
    case, mode, real = asked.case, asked.mode, asked.real
    given = rules_by_operation(case.rules, f"case {case.name!r}")
    shadows = Shadows(table(), MANTISSA_BITS[values[real[0]].dtype], asked.budget, sources, given)
    symbols = {name: symbols_of(name, values[name]) for name in real}
    for name in real:
        shadows.attach(values[name], symbols[name])
    seeding = Seeding(mode, real, shadows, seeds_for)
    try:
        with case_errors(case, mode, asked.values), as_written(), shadows, asked.limit():
            run = differentiate(case, mode, values, *seeding.for_each)
            owners = seeding.owners(order(mode), len(run.outputs))
            check_forms(case, owners, run.derivatives, seeding.like([values[n] for n in real], run.outputs))
            executed = [shadows.read(d) if d.numel() else elements([], tuple(d.shape)) for d in run.derivatives]
    finally:
        shadows.leave()
    with torch.no_grad():
        outputs = seeding.outputs or [shadows.read(y) for y in run.outputs]
    inputs = [e for name in real for e in parts_of(symbols[name])]
    changed = [n for n in real if differ(shadows.read(values[n]), symbols[n])]
    return _Ran(run, values, shadows, seeding, owners, executed, outputs, inputs, changed)


def _check_manners(asked: _Asked, ran: _Ran, *, twice: bool) -> None:
    """A case leaves its inputs as they are, and gives the same again."""
    case, mode, values = asked.case, asked.mode, asked.values
    each, drew_numbers = whole(case, mode), bool(ran.shadows.random_operations)
    check_outputs(each, ran.run.outputs, values)
    check_unchanged(case, ran.values, values, ran.changed)
    with case_errors(case, mode, values), asked.limit():
        check_repeatable(each, values, ran.run.outputs, drew_numbers=drew_numbers)
    ran.seeding.check_unchanged(case)
    if twice:
        again = partial(_derivatives_again, asked, ran)
        with case_errors(case, mode, values), asked.limit():
            check_same_derivatives(case, values, again, drew_numbers=drew_numbers)


def _derivatives_again(asked: _Asked, ran: _Ran) -> Sequence[Tensor]:
    return differentiate(asked.case, asked.mode, _copies(ran.values, asked.values), ran.seeding.again).derivatives


def _differentiated(asked: _Asked, ran: _Ran, outputs: Sequence[Expr]) -> tuple[list[Expr], tuple[Expr, ...]]:
    """The outputs of which the derivative is taken, and which of their parts make up a loss."""
    # The sum of complex numbers is no loss: its real part is.
    units = [e for cells in ran.outputs for z in cells.flat for e in ((ONE, ZERO) if _is_complex(z) else (ONE,))]
    values = marks.as_values(outputs)
    if asked.case.thawed:
        values = marks.thawed(values)
    # Cleared in between, only the second pass counts. Its outputs come last.
    cleared = asked.mode == "accumulate" and asked.case.clear
    counted = len(parts_of(ran.outputs[-1])) if cleared else len(outputs)
    found = values[len(outputs) - counted :]
    return found, tuple(e for e, unit in zip(found, units[-counted:], strict=True) if unit is ONE)


def _derived(
    mode: str, outputs: Sequence[Expr], inputs: Sequence[Expr], seeds: Sequence[Sequence[Expr]], known: Derived
) -> tuple[tuple[Expr, ...], Function | None]:
    """The derivative of the outputs, per entry, and what it is the derivative of."""
    # With the inputs: a constant is the same at every size, and has another number of derivatives.
    key = (mode, tuple(outputs), tuple(inputs), *map(tuple, seeds))
    if key not in known:
        known[key] = tuple(outputs if mode == VALUE else chain_rule.nested(steps(mode), outputs, inputs, seeds))
    done = () if mode == VALUE else steps(mode)
    return known[key], Function(
        outputs=tuple(outputs),
        inputs=tuple(str(e.payload) for e in inputs),
        steps=done,
        levels=partial(chain_rule.levels, steps=done, inputs=inputs, seeds=seeds[: len(done)]),
    )


def trace_textbook(case: Case, values: Mapping[str, Tensor], reference: Trace, budget: Budget | None = None) -> Traced:
    """Runs a case's own `gradient=` under shadow memory, beside the reference of a trace of the case itself.

    Raises:
        CaseFailure: `gradient=` misbehaved, or does not return what the case's arguments need.
    """
    assert case.gradient is not None
    values = {name: value.clone() for name, value in values.items()}
    before = {name: value.clone() for name, value in values.items()}
    real = [a.name for a in case.arguments if a.differentiated]
    given = rules_by_operation(case.rules, f"case {case.name!r}")
    shadows = Shadows(table(), MANTISSA_BITS[values[real[0]].dtype], budget, given=given)
    for name in real:
        shadows.attach(values[name], symbols_of(name, values[name]))
    try:
        with (
            case_errors(case, "gradient", before),
            as_written(),
            shadows,
            time_limit((budget or Budget()).seconds, "gradient="),
        ):
            shadows.begin_backward()  # nothing is differentiated here: detach() means nothing
            said = textbook_gradients(case, case.gradient(*values.values()), [values[n] for n in real])
            cells = [shadows.read(t) for t in said]
    finally:
        shadows.leave()
    variables = tuple(str(e.payload) for name in real for e in parts_of(symbols_of(name, values[name])))
    return Traced(
        Trace(
            variables=variables,
            seeds=(),
            entries=_entries(real, said),
            executed=tuple(e for array in cells for e in parts_of(array)),
            reference=reference.unit_reference,
            outputs=reference.outputs,
            summed=reference.summed,
            inputs=reference.inputs,
            guards=(*reference.guards, *shadows.guards),
            function=_of_sum(reference),
        ),
        Run((), tuple(said)),
        shadows.applied,
    )


def _of_sum(reference: Trace) -> Function:
    """What a gradient that the case states is that of."""
    units = [[ONE] * len(reference.summed)]
    return Function(
        outputs=reference.summed,
        inputs=reference.variables[: len(reference.inputs)],
        steps=("reverse",),
        levels=partial(chain_rule.levels, steps=("reverse",), inputs=reference.inputs, seeds=units),
    )


def _copies(values: Mapping[str, Tensor], contents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fresh tensors that lie in memory as some do, with the contents of others."""
    copies = {name: copied(value.detach()) for name, value in values.items()}
    for name, copy in copies.items():
        copy.copy_(contents[name])
    return copies


def _entries(owners: Sequence[str], tensors: Sequence[Tensor]) -> tuple[Entry, ...]:
    import numpy as np

    return tuple(
        Entry(owner + part, tuple(index))
        for owner, tensor in zip(owners, tensors, strict=True)
        for index in np.ndindex(tuple(tensor.shape))
        for part in ((".real", ".imag") if tensor.is_complex() else ("",))
    )


def _is_complex(element: Any) -> bool:
    return isinstance(element, Complex)
