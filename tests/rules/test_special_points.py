"""Every rule of single elements, from the table, at the points where formulas change: by its value, twice.

mpmath and the product's own balls are held to PyTorch, the value and the gradients: at zeros of either sign, at ±1, at
ties and at powers and quotients of these; and where an argument is infinite, where only what is a number must be
PyTorch's.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pytest
import torch
from flint import arb
from torch import Tensor

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr
from diffcheck.certify.balls import EXACT, Selections
from diffcheck.certify.compiler import Program
from diffcheck.declare.operation import operation
from diffcheck.rules import table
from diffcheck.rules.registry import lift
from tests.rules import tracing
from tests.rules.evaluate import evaluate
from tests.rules.factorizations import GONE

FINITE: Final = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0)
FEW: Final = (0.0, 1.0, -1.0, 2.0)
"""For operations of three tensors."""
SLACK: Final = 1e-13
TRIGAMMA: Final = 1e-8
"""PyTorch's has ten digits."""


def overloads(name: str) -> Iterator[Any]:
    """The overloads that a rule serves."""
    space, _, rest = name.partition(".")
    base, _, wanted = rest.partition(".")
    if name in GONE:
        return
    packet = getattr(getattr(torch.ops, space), base)
    for overload in packet.overloads():
        func = getattr(packet, overload)
        if not torch._C._dispatch_has_kernel(func.name()) or func._overloadname.endswith("out"):
            continue
        own, shared = operation(func).rule_names
        if name == own or (name == shared and not wanted and own not in table()):
            yield func


def of_tensors_alone(name: str) -> Any:
    """The overload whose arguments are tensors, if no other must be given; and how many they are."""
    for func in overloads(name):
        arguments = func._schema.arguments
        needed = [a for a in arguments if not a.has_default_value()]
        tensors = [a for a in arguments if str(a.type) == "Tensor"]
        if tensors and needed == tensors:
            return func, len(tensors)
    return None


POINTWISE: Final = {
    name: found
    for name, rule in table().items()
    if rule.kind == "pointwise" and not name.startswith("complex.") and (found := of_tensors_alone(name)) is not None
}
OTHERWISE: Final = {"aten.where", "aten.masked_fill", "aten.clamp"}
"""Of conditions and of bounds that must be given: the examples have them."""
POLES: Final = {"aten.digamma": (0.0, -0.0, -1.0, -2.0)}
"""Where PyTorch's derivative is a number (of 33 digits) and there is none."""
NO_DERIVATIVE: Final = {
    "aten.floor_divide", "aten.heaviside", "aten.log_sigmoid_backward", "aten.mish_backward", "aten.silu_backward",
}  # fmt: skip
"""PyTorch does not differentiate them."""
LIMITS: Final = {"aten.silu_backward", "aten.mish_backward", "aten.sinc"}
"""They have the limit at infinity, which is no number to PyTorch."""
REFUSED: Final = {"aten.nan_to_num", "aten.i0", "aten.special_i1"}
"""Of infinities: the first by its rule, the others by mpmath."""
DIVISORS: Final = {"aten.floor_divide"}
"""Of a number by an infinity of the other sign: 0 exactly, of which PyTorch takes -1."""


def numbers(outputs: list[Expr], point: dict[str, float]) -> list[list[float]]:
    """The outputs' values by mpmath and by balls; NaN where there is none."""
    balls = Program(outputs, list(point), EXACT)([arb(v) for v in point.values()], 256, Selections())
    return [
        evaluate(outputs, point),
        [float(b.mid()) if b.is_finite() and b.rad() < 1e-30 else math.nan for b in balls],
    ]


def compared(trace: tracing.Trace, slack: float) -> list[str]:
    """Where a number is not PyTorch's; and where PyTorch has one and there is none."""
    wrong: list[str] = []
    for what, shadow, real in trace.pairs:
        expected = real.double().reshape(-1).numpy()
        for who, values in zip(("mpmath", "balls"), numbers(list(shadow.flat), trace.point), strict=True):
            for i, (ours, theirs) in enumerate(zip(values, expected.tolist(), strict=True)):
                if math.isfinite(theirs) and not np.isclose(ours, theirs, rtol=slack, atol=slack):
                    wrong.append(f"{what}[{i}] is {theirs!r}, by {who} {ours!r}")
                if not math.isfinite(theirs) and math.isfinite(ours):
                    wrong.append(f"{what}[{i}] is {theirs!r}, by {who} {ours!r}")
    return wrong


def columns(points: Any) -> list[Tensor]:
    return [torch.tensor(column, dtype=torch.float64) for column in zip(*points, strict=True)]


def values_alone(func: Any, inputs: list[Tensor]) -> tracing.Trace:
    """The outputs, of what PyTorch does not differentiate."""
    trace = tracing.start()
    for i, x in enumerate(inputs):
        trace.follow(x, f"x{i}_")
    with trace.shadows:
        trace.keep("output", func(*inputs))
    return trace


@pytest.mark.parametrize("name", sorted(POINTWISE.keys() - OTHERWISE))
def test_values_and_gradients_at_special_points(name: str):
    func, count = POINTWISE[name]
    points = [p for p in (FEW if count > 2 else FINITE) if p not in POLES.get(name, ())]
    inputs = columns(itertools.product(points, repeat=count))
    trace = values_alone(func, inputs) if name in NO_DERIVATIVE else tracing.reverse(func, inputs)
    assert not compared(trace, TRIGAMMA if "gamma" in name else SLACK)


@pytest.mark.parametrize("name", sorted(POINTWISE.keys() - OTHERWISE - LIMITS - DIVISORS - REFUSED))
def test_values_at_infinities(name: str):
    """As constants, which is how they come in: masks."""
    func, count = POINTWISE[name]
    choices = [math.inf, -math.inf, 0.0, 1.0, -1.0, 2.0]
    for point in itertools.product(choices, repeat=min(count, 2)):
        point = (*point, *[1.0] * (count - len(point)))
        if not any(map(math.isinf, point)):
            continue
        theirs = float(func(*(torch.tensor(v, dtype=torch.float64) for v in point)))
        ours = lift(table()[name].apply(*map(graph.constant, point)))
        for who, (value,) in zip(("mpmath", "balls"), numbers([ours], {}), strict=True):
            assert not math.isfinite(value) or np.isclose(value, theirs, rtol=SLACK, atol=SLACK), (point, who)


def normalised(value: Any) -> Any:
    """A default as a number, or a tuple of them."""
    if isinstance(value, Expr):
        return float(graph.number(value))
    if isinstance(value, (list, tuple)):
        parts = {normalised(part) for part in value}
        return parts.pop() if len(parts) == 1 else tuple(value) or None
    return value


def test_what_is_left_out_is_what_pytorch_takes():
    """The dispatcher leaves out arguments that have their defaults."""
    wrong: list[str] = []
    for name, rule in table().items():
        if name.startswith("complex."):
            continue
        parameters = list(inspect.signature(rule.apply).parameters.values())[rule.kind == "guarded" :]
        by_name = {p.name: p for p in parameters}
        placed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        for func in overloads(name):
            if func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
                continue  # it comes as other operations
            for position, argument in enumerate(func._schema.arguments):
                if argument.name in operation(func).without_meaning or not argument.has_default_value():
                    continue
                found = by_name.get(argument.name) if argument.kwarg_only else dict(enumerate(placed)).get(position)
                if found is not None and normalised(found.default) != normalised(argument.default_value):
                    wrong.append(f"{func}, {argument.name}: {found.default} for {argument.default_value}")
    assert not wrong
