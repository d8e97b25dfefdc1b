"""One run of a case under shadow memory: the function, the formula that autograd executed, and the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from diffcheck import autodiff, derive
from diffcheck import expr as graph
from diffcheck.case import Case
from diffcheck.errors import CaseFailure
from diffcheck.expr import ONE, Expr
from diffcheck.faults import case_errors, check_outputs, check_repeatable, check_unchanged, time_limit
from diffcheck.rules import table
from diffcheck.rules.registry import Array, elements
from diffcheck.shadow import MANTISSA_BITS, Budget, Guard, Shadows, symbols_for

MODES: Final = ("reverse", "forward")
"""The modes of first order; a case with `preceded_by` has the one mode `accumulate`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One number that is compared: which argument's (in forward mode, which output's) and at which index."""

    owner: str
    index: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """What one run says about every input that has its shapes and satisfies its guards."""

    variables: tuple[str, ...]
    """The entries of the differentiated inputs, then those of the cotangents (tangents), as symbols' names."""
    entries: tuple[Entry, ...]
    executed: tuple[Expr, ...]
    """The formula that was executed, per entry."""
    reference: tuple[Expr, ...]
    """The reference, per entry."""
    outputs: tuple[Expr, ...]
    """The function's value, per element of its outputs."""
    unit_reference: tuple[Expr, ...]
    """The gradient of the sum of the outputs, per entry of the inputs."""
    guards: tuple[Guard, ...]

    @property
    def path(self) -> tuple[bool, ...]:
        """The way that the run took through the function's conditions."""
        return tuple(guard.value for guard in self.guards)


@dataclass(frozen=True, slots=True)
class Run:
    """What PyTorch computed: the outputs, and a number for every entry."""

    outputs: tuple[Tensor, ...]
    derivatives: tuple[Tensor, ...]


SeedsFor = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Gives cotangents for outputs, or tangents for inputs: tensors of the same shapes."""


def differentiate(case: Case, mode: str, values: Mapping[str, Tensor], seeds_for: SeedsFor) -> Run:
    """Lets PyTorch differentiate a case at given inputs.

    Args:
        case: The case.
        mode: `reverse`, `forward` or `accumulate`.
        values: A fresh tensor per argument; they are used as they are.
        seeds_for: Gives the cotangents for the outputs; in forward mode, the tangents for the differentiated inputs.
    """
    real = [a.name for a in case.arguments if a.differentiated]
    inputs = [values[name] for name in real]

    def applied(function: Callable[..., Any]) -> Callable[[Sequence[Tensor]], Any]:
        def call(differentiated: Sequence[Tensor]) -> Any:
            return function(*({**values, **dict(zip(real, differentiated, strict=True))}.values()))

        return call

    derivatives: Sequence[Tensor | None]
    if mode == "reverse":
        outputs, derivatives = autodiff.reverse(applied(case.function), inputs, seeds_for)
        like = inputs
    elif mode == "forward":
        outputs, derivatives = autodiff.forward(applied(case.function), inputs, seeds_for(inputs))
        like = outputs
    else:
        assert case.preceded_by is not None
        outputs, derivatives = autodiff.accumulate(
            applied(case.preceded_by.function), applied(case.function), inputs, seeds_for, clear=case.clear
        )
        like = inputs
    return Run(
        tuple(outputs), tuple(torch.zeros_like(x) if d is None else d for d, x in zip(derivatives, like, strict=True))
    )


def trace(
    case: Case, mode: str, values: Mapping[str, Tensor], seeds_for: SeedsFor, budget: Budget | None = None
) -> tuple[Trace, Run]:
    """Runs a case once under shadow memory.

    Raises:
        CaseFailure: The case misbehaved.
        Unsupported: An operation has no rule.
        BudgetExceeded: The run used up its budget.
    """
    values = {name: value.clone() for name, value in values.items()}
    before = {name: value.clone() for name, value in values.items()}
    real = [a.name for a in case.arguments if a.differentiated]
    dtype = values[real[0]].dtype
    budget = budget or Budget()
    shadows = Shadows(table(), MANTISSA_BITS[dtype], budget)
    symbols = {name: symbols_for(name, tuple(values[name].shape)) for name in real}
    for name in real:
        shadows.attach(values[name], symbols[name])
    seeds: list[Array] = []
    output_shadows: list[Array] = []

    def seeded(like: Sequence[Tensor]) -> Sequence[Tensor]:
        if mode != "forward":
            output_shadows.extend(shadows.read(y) for y in like)
            shadows.begin_backward()
        tensors = [t.detach().clone() for t in seeds_for(like)]
        names = [f"d{n}" for n in (real if mode == "forward" else _output_names(len(like)))]
        for name, tensor in zip(names, tensors, strict=True):
            cells = symbols_for(_unused(name, real), tuple(tensor.shape))
            seeds.append(cells)
            shadows.attach(tensor, cells)
        return tensors

    try:
        with case_errors(case, mode, before), shadows, time_limit(budget.seconds, f"case {case.name!r}"):
            run = differentiate(case, mode, values, seeded)
            executed = [shadows.read(d) if d.numel() else elements([], tuple(d.shape)) for d in run.derivatives]
    finally:
        shadows.leave()
    with torch.no_grad():
        if mode == "forward":
            output_shadows.extend(shadows.read(y) for y in run.outputs)
    check_outputs(case, run.outputs, before)
    changed = [
        n for n in real if any(a is not b for a, b in zip(shadows.read(values[n]).flat, symbols[n].flat, strict=False))
    ]
    check_unchanged(case, values, before, changed)
    check_repeatable(case, before, run.outputs, drew_numbers=bool(shadows.random_operations))
    flat_inputs = [e for name in real for e in symbols[name].flat]
    flat_seeds = [e for cells in seeds for e in cells.flat]
    outputs = [e for cells in output_shadows for e in cells.flat]
    values_only = graph.as_values(outputs)
    counted = values_only[-output_shadows[-1].size :] if mode == "accumulate" and case.clear else values_only
    owners = real if mode != "forward" else _output_names(len(run.outputs))
    return (
        Trace(
            variables=tuple(str(e.payload) for e in flat_inputs + flat_seeds),
            entries=_entries(owners, run.derivatives),
            executed=tuple(e for cells in executed for e in cells.flat),
            reference=_reference(case, mode, values_only, flat_inputs, flat_seeds, output_shadows),
            outputs=tuple(outputs),
            unit_reference=tuple(derive.pull_back(counted, [ONE] * len(counted), flat_inputs)),
            guards=shadows.guards,
        ),
        run,
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
    shadows = Shadows(table(), MANTISSA_BITS[values[real[0]].dtype], budget)
    for name in real:
        shadows.attach(values[name], symbols_for(name, tuple(values[name].shape)))
    try:
        with case_errors(case, "gradient", before), shadows, time_limit((budget or Budget()).seconds, "gradient="):
            shadows.begin_backward()  # nothing is differentiated here: detach() means nothing
            said = textbook_gradients(case, case.gradient(*values.values()), [values[n] for n in real])
            cells = [shadows.read(t) for t in said]
    finally:
        shadows.leave()
    variables = tuple(str(e.payload) for name in real for e in symbols_for(name, tuple(values[name].shape)).flat)
    return (
        Trace(
            variables=variables,
            entries=_entries(real, said),
            executed=tuple(e for array in cells for e in array.flat),
            reference=reference.unit_reference,
            outputs=(),
            unit_reference=reference.unit_reference,
            guards=(*reference.guards, *shadows.guards),
        ),
        Run((), tuple(said)),
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


def _reference(
    case: Case,
    mode: str,
    outputs: Sequence[Expr],
    inputs: Sequence[Expr],
    seeds: Sequence[Expr],
    shadows: Sequence[Array],
) -> tuple[Expr, ...]:
    if mode == "forward":
        return tuple(derive.push_forward(outputs, dict(zip(inputs, seeds, strict=True))))
    if mode == "accumulate" and case.clear:
        # Cleared in between: only the second pass counts. Its outputs come last.
        second = shadows[-1].size
        return tuple(derive.pull_back(outputs[-second:], seeds[-second:], inputs))
    return tuple(derive.pull_back(outputs, seeds, inputs))


def _entries(owners: Sequence[str], tensors: Sequence[Tensor]) -> tuple[Entry, ...]:
    import numpy as np

    return tuple(
        Entry(owner, tuple(index))
        for owner, tensor in zip(owners, tensors, strict=True)
        for index in np.ndindex(tuple(tensor.shape))
    )


def _output_names(count: int) -> list[str]:
    return ["y"] if count == 1 else [f"y{i}" for i in range(count)]


def _unused(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name
