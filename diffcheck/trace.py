"""One run of a case under shadow memory: the function, the formula that autograd executed, and the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.func import vmap

from diffcheck import autodiff, derive
from diffcheck import expr as graph
from diffcheck.autodiff import SeedsFor
from diffcheck.case import Case
from diffcheck.config import plain, under_vmap
from diffcheck.draw import copied
from diffcheck.errors import CaseFailure
from diffcheck.expr import ONE, ZERO, Expr
from diffcheck.faults import (
    case_errors,
    check_forms,
    check_outputs,
    check_repeatable,
    check_same_derivatives,
    check_unchanged,
    time_limit,
)
from diffcheck.frames import Source
from diffcheck.rule import rules_by_operation
from diffcheck.rules import table
from diffcheck.rules.complexes import Complex, parts_of
from diffcheck.rules.registry import Array, elements
from diffcheck.shadow import MANTISSA_BITS, Budget, Guard, Shadows
from diffcheck.stand_in import Applied
from diffcheck.storages import symbols_of
from diffcheck.verdict import Mistake

Derived: TypeAlias = dict[tuple[object, ...], tuple[Expr, ...]]
"""References, by the mode, the outputs, and the cotangents or tangents."""

VALUE: Final = "value"
"""The mode in which a kernel's value is compared with its reference's: nothing is differentiated."""


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
    seeds: tuple[str, ...]
    """What the cotangents and tangents are called, in that order: `dy`, `dx`, `vx`, …"""
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

    @property
    def seed_variables(self) -> tuple[str, ...]:
        """The entries of the cotangents and tangents."""
        return self.variables[len(self.inputs) :]

    @cached_property
    def unit_reference(self) -> tuple[Expr, ...]:
        """The gradient of the sum of the outputs, per entry of the inputs."""
        return tuple(derive.pull_back(self.summed, [ONE] * len(self.summed), self.inputs))

    @property
    def path(self) -> tuple[bool, ...]:
        """The way that the run took through the function's conditions."""
        return tuple(guard.value for guard in self.guards)


@dataclass(frozen=True, slots=True)
class Run:
    """What PyTorch computed: the outputs, and a number for every entry."""

    outputs: tuple[Tensor, ...]
    derivatives: tuple[Tensor, ...]
    applied: tuple[Applied, ...] = ()
    """What was followed in an operation's place, if the run was traced."""


def differentiate(
    case: Case, mode: str, values: Mapping[str, Tensor], seeds_for: SeedsFor, seconds_for: SeedsFor | None = None
) -> Run:
    """Lets PyTorch differentiate a case at given inputs.

    Args:
        case: The case.
        mode: One of `diffcheck.config.MODES`, `VALUE`, or `accumulate`.
        values: A fresh tensor per argument; they are used as they are. Under vmap those that are differentiated have
            a first axis along which they are several.
        seeds_for: Gives the cotangents for the outputs; in forward mode, the tangents for the differentiated inputs.
        seconds_for: Gives what the derivative is differentiated with, in a mode of second order; see `autodiff`.
    """
    inputs = [values[a.name] for a in case.differentiated]

    def applied(function: Callable[..., Any]) -> autodiff.Function:
        return _applied(case, function, values)

    derivatives: Sequence[Tensor | None]
    if mode == "reverse":
        outputs, derivatives = autodiff.reverse(applied(case.function), inputs, seeds_for)
    elif mode == "forward":
        outputs, derivatives = autodiff.forward(applied(case.function), inputs, seeds_for(inputs))
    elif mode == VALUE:
        outputs = derivatives = autodiff.outputs_of(applied(case.function)(inputs))
    elif under_vmap(mode):
        outputs, derivatives = autodiff.each_under_vmap(
            plain(mode), applied(case.function), inputs, seeds_for, seconds_for or seeds_for
        )
    elif mode in autodiff.SECOND_ORDER:
        differentiated = autodiff.SECOND_ORDER[mode]
        outputs, derivatives = differentiated(applied(case.function), inputs, seeds_for, seconds_for or seeds_for)
    else:
        assert case.preceded_by is not None
        outputs, derivatives = autodiff.accumulate(
            applied(case.preceded_by.function), applied(case.function), inputs, seeds_for, clear=case.clear
        )
    return _run(mode, inputs, outputs, derivatives)


def derivatives_of_each(
    case: Case, mode: str, values: Sequence[Mapping[str, Tensor]], seeds: autodiff.Several
) -> list[Sequence[Tensor]]:
    """The derivatives at several inputs, each with a call of its own; what can be shared around the calls is."""
    each = {"reverse": autodiff.reverse_each, "forward": autodiff.forward_each}.get(mode)
    if each is None:
        return [
            differentiate(case, mode, v, autodiff.handed_out(own)).derivatives
            for v, own in zip(values, seeds.each(len(values)), strict=True)
        ]
    names = [a.name for a in case.differentiated]
    inputs = [[v[name] for name in names] for v in values]
    if len(names) == len(case.arguments):  # one function for all
        functions = [_applied(case, case.function, values[0])] * len(values)
    else:
        functions = [_applied(case, case.function, v) for v in values]
    found = each(list(zip(functions, inputs, strict=True)), seeds)
    like = inputs if mode == "reverse" else [outputs for outputs, _ in found]
    return [
        [torch.zeros_like(x) if d is None else d for d, x in zip(derivatives, own, strict=True)]
        for (_, derivatives), own in zip(found, like, strict=True)
    ]


def _applied(case: Case, function: Callable[..., Any], values: Mapping[str, Tensor]) -> autodiff.Function:
    """A function of all arguments as one of those that are differentiated."""
    if len(case.differentiated) == len(values):
        return lambda differentiated: function(*differentiated)
    real = [a.name for a in case.differentiated]
    return lambda differentiated: function(*({**values, **dict(zip(real, differentiated, strict=True))}.values()))


def _run(mode: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], derivatives: Sequence[Tensor | None]) -> Run:
    pairs = zip(derivatives, _like(mode, inputs, outputs), strict=True)
    found = [torch.zeros_like(x) if d is None else autodiff.materialized(d) for d, x in pairs]
    return Run(tuple(outputs), tuple(found))


def _like(mode: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """What each derivative of a mode is one of, and so has the form of."""
    match plain(mode):
        case "value" | "forward" | "forward-over-forward":
            return outputs
        case "reverse-over-reverse":
            return [*inputs, *outputs]
        case "reverse-over-forward":
            return [*inputs, *inputs]
        case _:
            return inputs


def _owners(mode: str, inputs: Sequence[str], outputs: Sequence[str]) -> list[str]:
    """Whose derivatives a mode gives, in order."""
    match plain(mode):
        case "value" | "forward" | "forward-over-forward":
            return [*outputs]
        case "reverse-over-reverse":
            return [*inputs, *(f"d{name}" for name in outputs)]
        case "reverse-over-forward":
            return [*inputs, *(f"d{name}" for name in inputs)]
        case _:
            return [*inputs]


class _Seeding:
    """Cotangents and tangents with symbols beside them, and the shadows of the outputs before the backward pass."""

    def __init__(self, mode: str, inputs: Sequence[str], shadows: Shadows, seeds_for: SeedsFor) -> None:
        self._shadows = shadows
        self._seeds_for = seeds_for
        self._inputs = inputs
        self._outer, self._inner = _parts(mode)
        self.all: list[Expr] = []
        """In the order in which they were asked for."""
        self.first: list[Expr] = []
        self.second: list[Expr] = []
        self.outputs: list[Array] = []
        self._second_names = [*inputs]
        self.names: list[str] = []
        self._given: list[tuple[str, Tensor, Array]] = []
        self._repeated = 0

    def firsts(self, like: Sequence[Tensor]) -> Sequence[Tensor]:
        """Cotangents for the outputs (`dy`), or tangents for the inputs (`dx`)."""
        if self._inner != "forward":
            self._end_of_function(like)
        names = [*self._inputs] if self._inner == "forward" else output_names(len(like))
        tensors = self._seeded([f"d{name}" for name in names], like, self.first)
        self._second_names += self.names[-len(tensors) :]
        return tensors

    def seconds(self, like: Sequence[Tensor]) -> Sequence[Tensor]:
        """What the derivative is differentiated with: `vx`, `vdy` or `vy`."""
        if self._outer == "reverse" and self._inner == "forward":
            self._end_of_function(like)
            self._second_names = output_names(len(like))
        names, self._second_names = self._second_names[: len(like)], self._second_names[len(like) :]
        return self._seeded([f"v{name}" for name in names], like, self.second)

    def given(self, like: Sequence[Tensor]) -> Sequence[Tensor]:
        """The same cotangents and tangents once more, in the order in which they were asked for."""
        start = self._repeated
        self._repeated = (start + len(like)) % len(self._given)
        return [copied(tensor.detach()) for _, tensor, _ in self._given[start : start + len(like)]]

    def check_unchanged(self, case: Case) -> None:
        """What is handed to a backward pass belongs to others: it may not write to it."""
        for name, tensor, cells in self._given:
            if _differ(self._shadows.read(tensor), cells):
                raise CaseFailure(
                    f"{Mistake.MODIFIED}: the backward pass of case {case.name!r} changes what it is given ({name}) in "
                    "place; write grad.clone() first"
                )

    def _end_of_function(self, outputs: Sequence[Tensor]) -> None:
        self.outputs.extend(self._shadows.read(y) for y in outputs)
        self._shadows.begin_backward()

    def _seeded(self, names: Sequence[str], like: Sequence[Tensor], kept: list[Expr]) -> Sequence[Tensor]:
        with self._shadows.suspended():  # making them is no part of the run
            tensors = [copied(t.detach()) for t in self._seeds_for(like)]
        for name, tensor in zip(names, tensors, strict=True):
            name = _unused(name, [*self._inputs, *self.names])
            self.names.append(name)
            cells = symbols_of(name, tensor)
            self.all.extend(parts_of(cells))
            self._shadows.attach(tensor, cells)
            # Read back: where memory is shared (an expanded cotangent), one symbol stands for all elements.
            cells = self._shadows.read(tensor).copy()
            kept.extend(parts_of(cells))
            self._given.append((name, tensor, cells))
        return tensors


def _parts(mode: str) -> tuple[str, str]:
    """What differentiates the derivative (nothing, in first order), and what gives it."""
    outer, _, inner = plain(mode).rpartition("-over-")
    return outer, inner


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
) -> tuple[Trace, Run]:
    """Runs a case once under shadow memory.

    Args:
        case: The case.
        mode: One of `diffcheck.config.MODES`, `VALUE`, or `accumulate`.
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
    values = {name: copied(value) for name, value in values.items()}
    before = {name: value.clone() for name, value in values.items()}
    real = [a.name for a in case.arguments if a.differentiated]
    dtype = values[real[0]].dtype
    budget = budget or Budget()
    given = rules_by_operation(case.rules, f"case {case.name!r}")
    shadows = Shadows(table(), MANTISSA_BITS[dtype], budget, sources, given)
    symbols = {name: symbols_of(name, values[name]) for name in real}
    for name in real:
        shadows.attach(values[name], symbols[name])
    seeding = _Seeding(mode, real, shadows, seeds_for)
    try:
        with case_errors(case, mode, before), shadows, time_limit(budget.seconds, f"case {case.name!r}"):
            run = differentiate(case, mode, values, seeding.firsts, seeding.seconds)
            inputs = [values[name] for name in real]
            owners = _owners(mode, real, output_names(len(run.outputs)))
            check_forms(case, owners, run.derivatives, _like(mode, inputs, run.outputs))
            executed = [shadows.read(d) if d.numel() else elements([], tuple(d.shape)) for d in run.derivatives]
    finally:
        shadows.leave()
    with torch.no_grad():
        output_shadows = seeding.outputs or [shadows.read(y) for y in run.outputs]
    whole = _whole(case, mode)
    check_outputs(whole, run.outputs, before)
    changed = [n for n in real if _differ(shadows.read(values[n]), symbols[n])]
    check_unchanged(case, values, before, changed)
    with case_errors(case, mode, before), time_limit(budget.seconds, f"case {case.name!r}"):
        check_repeatable(whole, before, run.outputs, drew_numbers=bool(shadows.random_operations))
    seeding.check_unchanged(case)
    if twice:
        with case_errors(case, mode, before), time_limit(budget.seconds, f"case {case.name!r}"):
            check_same_derivatives(
                case, before, lambda: differentiate(case, mode, _copies(values, before), seeding.given).derivatives
            )
    flat_inputs = [e for name in real for e in parts_of(symbols[name])]
    outputs = [e for cells in output_shadows for e in parts_of(cells)]
    # The sum of complex numbers is no loss: its real part is.
    units = [e for cells in output_shadows for z in cells.flat for e in ((ONE, ZERO) if _is_complex(z) else (ONE,))]
    values_only = graph.as_values(outputs)
    if case.thawed:
        values_only = graph.thawed(values_only)
    # Cleared in between, only the second pass counts. Its outputs come last.
    counted = len(parts_of(output_shadows[-1])) if mode == "accumulate" and case.clear else len(outputs)
    differentiated = values_only[len(outputs) - counted :]
    firsts = seeding.first[-counted:] if mode == "accumulate" else seeding.first
    key = (mode, *differentiated, *firsts, *seeding.second)
    derived = {} if derived is None else derived
    if key not in derived:
        derived[key] = _reference(mode, differentiated, flat_inputs, firsts, seeding.second)
    return (
        Trace(
            variables=tuple(str(e.payload) for e in flat_inputs + seeding.all),
            seeds=tuple(seeding.names),
            entries=_entries(_owners(mode, real, output_names(len(run.outputs))), run.derivatives),
            executed=tuple(e for cells in executed for e in parts_of(cells)),
            reference=derived[key],
            outputs=tuple(outputs),
            summed=tuple(e for e, unit in zip(differentiated, units[-counted:], strict=True) if unit is ONE),
            inputs=tuple(flat_inputs),
            guards=shadows.guards,
            custom=tuple(dict.fromkeys(a.rule.operation for a in shadows.applied if a.custom)),
        ),
        replace(run, applied=shadows.applied),
    )


def trace_textbook(
    case: Case, values: Mapping[str, Tensor], reference: Trace, budget: Budget | None = None
) -> tuple[Trace, Run]:
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
        with case_errors(case, "gradient", before), shadows, time_limit((budget or Budget()).seconds, "gradient="):
            shadows.begin_backward()  # nothing is differentiated here: detach() means nothing
            said = textbook_gradients(case, case.gradient(*values.values()), [values[n] for n in real])
            cells = [shadows.read(t) for t in said]
    finally:
        shadows.leave()
    variables = tuple(str(e.payload) for name in real for e in parts_of(symbols_of(name, values[name])))
    return (
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
        ),
        Run((), tuple(said), shadows.applied),
    )


def textbook_gradients(case: Case, said: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    """What `gradient=` returned, as one tensor per differentiated argument, of its shape.

    Raises:
        CaseFailure: It returned something else.
    """
    real = [a.name for a in case.arguments if a.differentiated]
    if isinstance(said, Mapping):
        missing = [n for n in real if n not in said]
        if missing:
            raise CaseFailure(f"gradient= of case {case.name!r} returns no gradient for {', '.join(missing)}")
        parts = [said[n] for n in real]
    elif isinstance(said, (tuple, list)):
        parts = list(said)
    else:
        parts = [said]
    if len(parts) != len(real):
        raise CaseFailure(
            f"gradient= of case {case.name!r} returns {len(parts)} gradients for {len(real)} arguments "
            f"({', '.join(real)})"
        )
    gradients = []
    for name, part, x in zip(real, parts, inputs, strict=True):
        part = part if isinstance(part, Tensor) else torch.as_tensor(part, dtype=x.dtype)
        if part.shape != x.shape and part.numel() != 1:
            raise CaseFailure(
                f"gradient= of case {case.name!r} returns shape {tuple(part.shape)} for {name}, "
                f"which has {tuple(x.shape)}"
            )
        gradients.append(part.to(x.dtype).expand(x.shape))
    return gradients


def _whole(case: Case, mode: str) -> Case:
    """The case as a function of all inputs that a mode differentiates at once."""
    if not under_vmap(mode):
        return case
    axes = tuple(0 if a.differentiated else None for a in case.arguments)

    def each(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(autodiff.outputs_of(case.function(*values)))

    return replace(case, function=vmap(each, in_dims=axes), returns=None)


def _copies(values: Mapping[str, Tensor], contents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fresh tensors that lie in memory as some do, with the contents of others."""
    copies = {name: copied(value.detach()) for name, value in values.items()}
    for name, copy in copies.items():
        copy.copy_(contents[name])
    return copies


def _reference(
    mode: str, outputs: Sequence[Expr], inputs: Sequence[Expr], firsts: Sequence[Expr], seconds: Sequence[Expr]
) -> tuple[Expr, ...]:
    outer, inner = _parts(mode)
    if mode == VALUE:
        return tuple(outputs)
    if inner == "forward":
        derivative = derive.push_forward(outputs, dict(zip(inputs, firsts, strict=True)))
    else:
        derivative = derive.pull_back(outputs, firsts, inputs)
    moving = [*inputs, *firsts]
    if outer == "reverse":
        derivative = derive.pull_back(derivative, seconds, moving)
    elif outer == "forward":
        derivative = derive.push_forward(derivative, dict(zip(moving, seconds, strict=True)))
    return tuple(derivative)


def _entries(owners: Sequence[str], tensors: Sequence[Tensor]) -> tuple[Entry, ...]:
    import numpy as np

    return tuple(
        Entry(owner + part, tuple(index))
        for owner, tensor in zip(owners, tensors, strict=True)
        for index in np.ndindex(tuple(tensor.shape))
        for part in ((".real", ".imag") if tensor.is_complex() else ("",))
    )


def _differ(ours: Array, theirs: Array) -> bool:
    pairs = zip(parts_of(ours), parts_of(theirs), strict=True)
    return any(a is not b for a, b in pairs)


def _is_complex(element: Any) -> bool:
    return isinstance(element, Complex)


def output_names(count: int) -> list[str]:
    """What the outputs are called: `y`, or `y0`, `y1`, …"""
    return ["y"] if count == 1 else [f"y{i}" for i in range(count)]


def _unused(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name
