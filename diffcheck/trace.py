"""One run of a case under shadow memory: the function, the formula that autograd executed, and the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.func import vmap

from diffcheck import autodiff, derive
from diffcheck import expr as graph
from diffcheck.autodiff import SeedsFor
from diffcheck.case import Case
from diffcheck.config import order, steps, under_vmap
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


@dataclass(frozen=True, slots=True)
class Seed:
    """A cotangent or a tangent, with symbols for its entries."""

    name: str
    """`dy`, `dx`; in the second differentiation `vx`, `vdy`, in the third `wx`."""
    step: int
    """Which differentiation it is for; the innermost is 0."""
    symbols: tuple[Expr, ...]
    """Where memory is shared (an expanded cotangent), one symbol stands for all entries."""


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


def differentiate(case: Case, mode: str, values: Mapping[str, Tensor], *seeds_for: SeedsFor) -> Run:
    """Lets PyTorch differentiate a case at given inputs.

    Args:
        case: The case.
        mode: One of `diffcheck.config.MODES`, `VALUE`, or `accumulate`.
        values: A fresh tensor per argument; they are used as they are. Under vmap those that are differentiated have
            a first axis along which they are several.
        *seeds_for: Gives the cotangents for the outputs; in forward mode, the tangents for the differentiated inputs.
            In modes of higher order there is one for each differentiation (see `autodiff.nested`), or one for all.
    """
    inputs = [values[a.name] for a in case.differentiated]

    def applied(function: Callable[..., Any]) -> autodiff.Function:
        return _applied(case, function, values)

    each = seeds_for if len(seeds_for) > 1 else seeds_for * order(mode)
    derivatives: Sequence[Tensor | None]
    if under_vmap(mode):
        outputs, derivatives = autodiff.each_under_vmap(steps(mode), applied(case.function), inputs, each)
    elif mode == "reverse":
        outputs, derivatives = autodiff.reverse(applied(case.function), inputs, *each)
    elif mode == "forward":
        outputs, derivatives = autodiff.forward(applied(case.function), inputs, each[0](inputs))
    elif order(mode) > 1:
        outputs, derivatives = autodiff.nested(steps(mode), applied(case.function), inputs, each)
    elif mode == VALUE:
        outputs = derivatives = autodiff.outputs_of(applied(case.function)(inputs))
    else:
        assert case.preceded_by is not None
        outputs, derivatives = autodiff.accumulate(
            applied(case.preceded_by.function), applied(case.function), inputs, *each, clear=case.clear
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
    like = inputs if mode in ("reverse", "accumulate") else outputs  # in all other modes nothing is missing
    found = [torch.zeros_like(like[i]) if d is None else autodiff.materialized(d) for i, d in enumerate(derivatives)]
    return Run(tuple(outputs), tuple(found))


class _Seeding:
    """Cotangents and tangents with symbols beside them, and the shadows of the outputs before the backward pass."""

    def __init__(self, mode: str, inputs: Sequence[str], shadows: Shadows, seeds_for: SeedsFor) -> None:
        self._shadows = shadows
        self._seeds_for = seeds_for
        self._inputs = inputs
        self._steps = steps(mode)
        self._backwards = [i for i, how in enumerate(self._steps) if how not in ("forward", VALUE)]
        self.seeds: list[Seed] = []
        """In the order in which they were asked for."""
        self.variables: list[Expr] = []
        """Their entries, one for each."""
        self.outputs: list[Array] = []
        self._given: list[tuple[str, Tensor, Array]] = []
        self._repeated = 0

    @property
    def for_each(self) -> list[SeedsFor]:
        """What gives the cotangents or tangents of each differentiation."""
        return [partial(self._asked, step) for step in range(len(self._steps))]

    def symbols(self, step: int) -> list[Expr]:
        """The entries of the cotangents or tangents of a differentiation."""
        return [e for seed in self.seeds if seed.step == step for e in seed.symbols]

    def owners(self, steps: int, outputs: int) -> list[str]:
        """Whose derivatives so many differentiations give: in forward mode those of what was found before."""
        backwards = [i for i in self._backwards if i < steps]
        return self._moving(backwards[-1]) if backwards else output_names(outputs)

    def like(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """What each derivative is one of, and so has the form of."""
        if not self._backwards:
            return outputs
        known = dict(zip(self._inputs, inputs, strict=True)) | {name: tensor for name, tensor, _ in self._given}
        return [known[name] for name in self.owners(len(self._steps), len(outputs))]

    def again(self, like: Sequence[Tensor]) -> Sequence[Tensor]:
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

    def _asked(self, step: int, like: Sequence[Tensor]) -> Sequence[Tensor]:
        """Cotangents for what was found before a differentiation, or tangents for what moves in it."""
        if self._backwards[:1] == [step]:  # nothing but the function has run yet
            self.outputs.extend(self._shadows.read(y) for y in like)
            self._shadows.begin_backward()
        whose = self.owners(step, len(like)) if step in self._backwards else self._moving(step)
        asked = sum(seed.step == step for seed in self.seeds)
        return self._seeded(step, whose[asked : asked + len(like)], like)

    def _moving(self, step: int) -> list[str]:
        """With respect to what a differentiation can be: the inputs, and what those inside of it were done with."""
        inside = sorted((seed.step, i) for i, seed in enumerate(self.seeds) if seed.step < step)
        return [*self._inputs, *(self.seeds[i].name for _, i in inside)]

    def _seeded(self, step: int, whose: Sequence[str], like: Sequence[Tensor]) -> Sequence[Tensor]:
        with self._shadows.suspended():  # making them is no part of the run
            tensors = [copied(t.detach()) for t in self._seeds_for(like)]
        for owner, tensor in zip(whose, tensors, strict=True):
            name = _unused(_PREFIXES[step] + owner, [*self._inputs, *(seed.name for seed in self.seeds)])
            cells = symbols_of(name, tensor)
            self.variables.extend(parts_of(cells))
            self._shadows.attach(tensor, cells)
            # Read back: where memory is shared (an expanded cotangent), one symbol stands for all elements.
            cells = self._shadows.read(tensor).copy()
            self.seeds.append(Seed(name, step, tuple(parts_of(cells))))
            self._given.append((name, tensor, cells))
        return tensors


_PREFIXES: Final = ("d", "v", "w")
"""What cotangents and tangents are called by, before the name of what they are for."""


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
            run = differentiate(case, mode, values, *seeding.for_each)
            owners = seeding.owners(order(mode), len(run.outputs))
            check_forms(case, owners, run.derivatives, seeding.like([values[n] for n in real], run.outputs))
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
                case, before, lambda: differentiate(case, mode, _copies(values, before), seeding.again).derivatives
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
    seeds = [seeding.symbols(step) for step in range(order(mode))]
    if mode == "accumulate":
        seeds[0] = seeds[0][-counted:]
    key = (mode, *differentiated, *(e for own in seeds for e in own))
    derived = {} if derived is None else derived
    if key not in derived:
        reference = differentiated if mode == VALUE else derive.nested(steps(mode), differentiated, flat_inputs, seeds)
        derived[key] = tuple(reference)
    return (
        Trace(
            variables=tuple(str(e.payload) for e in flat_inputs + seeding.variables),
            seeds=tuple(seeding.seeds),
            entries=_entries(owners, run.derivatives),
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
