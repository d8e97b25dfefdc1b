"""Runs a function under `Shadows` and holds every traced value to what PyTorch computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from diffcheck.algebra.expr import topological
from diffcheck.differentiate import autodiff
from diffcheck.rules import table
from diffcheck.rules.registry import Rule
from diffcheck.trace.shadow import Shadows
from diffcheck.trace.storages import symbols_for
from tests.rules.evaluate import evaluate

SPECIAL = {
    "real": (0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, -3.0),
    "positive": (1.0, 0.5, 2.0, 0.0),
    "unit": (0.0, 0.5, -0.5, 1.0, -1.0),
    "probability": (0.5, 0.25, 0.0, 1.0),
    "above one": (1.0, 1.5, 2.0),
}
SPREAD: dict[str, Callable[[Tensor], Tensor]] = {
    "real": lambda z: z,
    "positive": torch.exp,
    "unit": torch.tanh,
    "probability": torch.sigmoid,
    "above one": lambda z: 1 + torch.exp(z),
}


@dataclass(frozen=True)
class Draw:
    """One input of an example: its shape, and where its elements are drawn from."""

    shape: tuple[int, ...]
    kind: str = "real"

    def at(self, seed: int) -> Tensor:
        """Round 1 draws special points, with ties; the others draw at random."""
        generator = torch.Generator().manual_seed(seed)
        if seed % 3 == 1:
            points = torch.tensor(SPECIAL[self.kind], dtype=torch.float64)
            return points[torch.randint(len(points), self.shape, generator=generator)]
        scale = 1 + seed % 3
        return SPREAD[self.kind](scale * torch.randn(self.shape, generator=generator, dtype=torch.float64))


@dataclass
class Trace:
    """What one run under the mode left: traced arrays beside real tensors, and where the symbols stand."""

    shadows: Shadows
    point: dict[str, float] = field(default_factory=dict)
    pairs: list[tuple[str, Any, Tensor]] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def follow(self, tensor: Tensor, name: str) -> None:
        """Puts symbols beside a tensor."""
        symbols = symbols_for(name, tensor.shape)
        values = tensor.detach().reshape(-1).tolist()  # before it is followed: asking for a value leaves a guard
        self.shadows.attach(tensor, symbols)
        self.point.update({str(s.payload): v for s, v in zip(symbols.flat, values, strict=True)})

    def keep(self, what: str, tensor: Any) -> None:
        """Notes a result's shadow and its real value."""
        if isinstance(tensor, Tensor):
            shadow = np.array(self.shadows.read(tensor), dtype=object)
            self.pairs.append((what, shadow, tensor.detach().clone()))

    def mismatches(self, rtol: float = 1e-13) -> Iterator[str]:
        """Every traced value that is not PyTorch's, where PyTorch's is finite."""
        for what, shadow, real in self.pairs:
            expected = real.to(torch.float64).numpy()
            scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
            two_formulas = any(node.head == "computed_as" for node in topological(shadow.flat))
            for kernel in (False, True) if two_formulas else (False,):
                flat = evaluate(shadow.flat, self.point, kernel=kernel)
                values = np.array(flat, dtype=float).reshape(shadow.shape)
                close = np.isclose(values, expected, rtol=rtol, atol=rtol * max(scale, 1e-3))
                if values.shape != expected.shape or (np.isfinite(expected) & ~close).any():
                    which = "the kernel's formula gives" if kernel else "traced"
                    yield f"{what}: {which} {values.tolist()}, PyTorch has {expected.tolist()}"


def recorded(rules: Mapping[str, Rule], used: set[str]) -> dict[str, Rule]:
    """The same rules, writing down which of them are applied."""

    def wrap(name: str, rule: Rule) -> Rule:
        def apply(*args: Any, **options: Any) -> Any:
            used.add(name)
            return rule.apply(*args, **options)

        def signed(*args: Any) -> Any:
            used.add(name)
            return rule.at_negative_zero(*args)

        return replace(rule, apply=apply, at_negative_zero=rule.at_negative_zero and signed)

    return {name: wrap(name, rule) for name, rule in rules.items()}


def start(rules: Mapping[str, Rule] | None = None) -> Trace:
    """A trace that has not begun."""
    used: set[str] = set()
    return Trace(Shadows(recorded(table() if rules is None else rules, used), 53), used=used)


def _noise(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(1000 + seed), dtype=like.dtype)


def reverse(
    function: Callable[..., Any], inputs: Sequence[Tensor], rules: Mapping[str, Rule] | None = None, seed: int = 0
) -> Trace:
    """The outputs and, with symbols as cotangents, the gradients."""
    trace = start(rules)
    for i, x in enumerate(inputs):
        trace.follow(x, f"x{i}_")

    def body(leaves: Sequence[Tensor]) -> Any:
        result = function(*leaves)
        for k, y in enumerate(tree_leaves(result)):
            trace.keep(f"output {k}", y)
        return result

    def cotangents(outputs: Sequence[Tensor]) -> list[Tensor]:
        trace.shadows.begin_backward()
        drawn = [_noise(y, seed + k) for k, y in enumerate(outputs)]
        for k, c in enumerate(drawn):
            trace.follow(c, f"c{k}_")
        return drawn

    with trace.shadows:
        _, gradients = autodiff.reverse(body, inputs, cotangents)
    for i, g in enumerate(gradients):
        trace.keep(f"gradient {i}", g)
    return trace


def forward(function: Callable[..., Any], inputs: Sequence[Tensor], seed: int = 0) -> Trace:
    """The outputs and, with symbols as tangents, theirs."""
    trace = start()
    tangents = [_noise(x, seed + i) for i, x in enumerate(inputs)]
    for i, (x, t) in enumerate(zip(inputs, tangents, strict=True)):
        trace.follow(x, f"x{i}_")
        trace.follow(t, f"t{i}_")
    with trace.shadows:
        primals, results = autodiff.forward(lambda leaves: function(*leaves), inputs, tangents)
    for k, (primal, tangent) in enumerate(zip(primals, results, strict=True)):
        trace.keep(f"output {k}", primal)
        trace.keep(f"tangent {k}", tangent)
    return trace
