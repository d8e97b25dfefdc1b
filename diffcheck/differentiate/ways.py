"""The ways in which autograd is asked for the same derivative: of some inputs only, once more, into `.grad`, …

Each runs the function once more. Shares nothing with the oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from diffcheck.differentiate import autodiff
from diffcheck.differentiate.autodiff import Function

Found: TypeAlias = Sequence[Tensor | None]
Ask: TypeAlias = Callable[[Function, list[Tensor], Sequence[Tensor]], Found]
_MOST_SUBSETS: Final = 6
"""Subsets of the inputs that are tried: each alone, then all but one."""


class RefusedError(Exception):
    """The function itself raises where it is asked so: nothing says that it may be."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to ask for a derivative."""

    how: str
    """In words that end a sentence: `when only a requires a gradient`."""
    ask: Ask
    """Takes the function, fresh inputs, and the cotangents (tangents); gives what the mode gives."""
    counted: frozenset[int] | None = None
    """Which of the inputs, by position, have a gradient then; None for all."""
    missing: frozenset[int] = frozenset()
    """Which cotangents (tangents), by position, are not given, and stand for zeros."""
    expanded: bool = False
    """Whether the inputs are to repeat their first row, in one piece of memory."""
    narrow: bool = False
    """Whether it computes in bfloat16."""
    may_fail: bool = False
    """Whether PyTorch lets a backward pass refuse it."""


def backward_ways(inputs: Sequence[str], outputs: Sequence[str], parameters: frozenset[str]) -> Iterator[Way]:
    """Ways to ask for the gradients of a function.

    Args:
        inputs: What they are called.
        outputs: What they are called.
        parameters: The inputs that are leaves of every graph.
    """
    kept = frozenset(i for i, name in enumerate(inputs) if name in parameters)
    for own in _subsets(len(inputs)):
        names = _listed([inputs[i] for i in own])
        words = f"when only {names} require{'s a gradient' if len(own) == 1 else ' gradients'}"
        yield Way(words, _of_some(own), counted=own)
    yield Way("at inputs that are no leaves", _of_no_leaves(kept))
    yield Way("at inputs that are expanded, and share memory", _of_expanded(kept), expanded=True)
    yield Way("in a second backward pass through the same graph", _second_pass, may_fail=True)
    yield Way("by backward(), into .grad", _into_grad)
    if len(outputs) == 1:  # a hook is called with None then, and may refuse it
        yield Way("where the incoming gradient is None", _of_none, missing=frozenset([0]), may_fail=True)
    for i, name in enumerate(outputs if len(outputs) > 1 else ()):
        yield Way(f"where {name} is not used, so that its gradient is None", _without(i), missing=frozenset([i]))
    yield Way("under autocast", _under_autocast, narrow=True, may_fail=True)
    yield Way("inside a checkpoint", _inside_checkpoint, may_fail=True)
    yield Way("inside a reentrant checkpoint", _inside_reentrant_checkpoint, may_fail=True)


def forward_ways(inputs: Sequence[str]) -> Iterator[Way]:
    """Ways to ask for the tangents of a function with these inputs."""
    for i, name in enumerate(inputs if len(inputs) > 1 else ()):
        yield Way(f"where {name} has no tangent", _unmoved(i), missing=frozenset([i]))


def _subsets(count: int) -> list[frozenset[int]]:
    found = [frozenset(own) for size in dict.fromkeys((1, count - 1)) if 0 < size < count
             for own in combinations(range(count), size)]  # fmt: skip
    return found[:_MOST_SUBSETS]


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _outputs(function: Function, inputs: Sequence[Tensor]) -> list[Tensor]:
    """What the function gives.

    Raises:
        RefusedError: It raises.
    """
    try:
        return autodiff.outputs_of(function(inputs))
    except Exception as error:  # a user's function may raise anything
        raise RefusedError from error


def _gradients(outputs: Sequence[Tensor], inputs: Sequence[Tensor], cotangents: Sequence[Tensor]) -> Found:
    return autodiff.backward_without(outputs, inputs, cotangents, frozenset())


def _of_some(own: frozenset[int]) -> Ask:
    def ask(function: Function, inputs: list[Tensor], cotangents: Sequence[Tensor]) -> Found:
        leaves = [x.requires_grad_(i in own) for i, x in enumerate(inputs)]
        outputs = _outputs(function, leaves)
        found = iter(_gradients(outputs, [leaves[i] for i in sorted(own)], cotangents))
        return [next(found) if i in own else None for i in range(len(leaves))]

    return ask


def _of_no_leaves(kept: frozenset[int]) -> Ask:
    def ask(function: Function, inputs: list[Tensor], cotangents: Sequence[Tensor]) -> Found:
        made = [x.requires_grad_() if i in kept else x.requires_grad_() * 1 for i, x in enumerate(inputs)]
        return _gradients(_outputs(function, made), made, cotangents)

    return ask


def repeated(x: Tensor) -> Tensor:
    """A tensor whose rows are all its first one, in the memory of one; a scalar as it is."""
    return x[:1].expand(x.shape) if x.dim() and x.shape[0] else x


def _of_expanded(kept: frozenset[int]) -> Ask:
    def ask(function: Function, inputs: list[Tensor], cotangents: Sequence[Tensor]) -> Found:
        made = [x.requires_grad_() if i in kept else repeated(x.requires_grad_()) for i, x in enumerate(inputs)]
        return _gradients(_outputs(function, made), made, cotangents)

    return ask


def _second_pass(function: Function, inputs: list[Tensor], cotangents: Sequence[Tensor]) -> Found:
    leaves = [x.requires_grad_() for x in inputs]
    connected = [(y, c) for y, c in zip(_outputs(function, leaves), cotangents, strict=True) if y.requires_grad]
    found: Found = [None] * len(leaves)
    for _ in range(2 if connected else 0):
        ys, cs = zip(*connected, strict=True)
        found = torch.autograd.grad(ys, leaves, cs, retain_graph=True, allow_unused=True)
    return found


def _into_grad(function: Function, inputs: list[Tensor], cotangents: Sequence[Tensor]) -> Found:
    leaves = [x.requires_grad_() for x in inputs]
    return _accumulated(_outputs(function, leaves), leaves, cotangents)


def _accumulated(outputs: Sequence[Tensor], leaves: Sequence[Tensor], cotangents: Sequence[Any]) -> Found:
    connected = [(y, c) for y, c in zip(outputs, cotangents, strict=True) if y.requires_grad and c is not None]
    if connected:
        ys, cs = zip(*connected, strict=True)
        torch.autograd.backward(ys, cs)
    return [x.grad for x in leaves]


def _of_none(function: Function, inputs: list[Tensor], cotangents: Sequence[Tensor]) -> Found:
    leaves = [x.requires_grad_() for x in inputs]
    return autodiff.backward_without(_outputs(function, leaves), leaves, cotangents, frozenset([0]))


def _without(missing: int) -> Ask:
    def ask(function: Function, inputs: list[Tensor], cotangents: Sequence[Tensor]) -> Found:
        leaves = [x.requires_grad_() for x in inputs]
        outputs = _outputs(function, leaves)
        del outputs[missing]
        return _gradients(outputs, leaves, [c for i, c in enumerate(cotangents) if i != missing])

    return ask


def _under_autocast(function: Function, inputs: list[Tensor], cotangents: Sequence[Tensor]) -> Found:
    leaves = [x.requires_grad_() for x in inputs]
    with torch.autocast(leaves[0].device.type, dtype=torch.bfloat16):
        outputs = _outputs(function, leaves)
    return _gradients(outputs, leaves, [c.to(y.dtype) for c, y in zip(cotangents, outputs, strict=True)])


def _unmoved(missing: int) -> Ask:
    def ask(function: Function, inputs: list[Tensor], tangents: Sequence[Tensor]) -> Found:
        outputs, found = autodiff.forward_without(function, inputs, tangents, missing)
        pairs = zip(outputs, found, strict=True)
        return [torch.zeros_like(y) if d is None else autodiff.materialized(d) for y, d in pairs]

    return ask


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints. What torch.utils.checkpoint does, without what it imports: the compiler
# ---------------------------------------------------------------------------------------------------------------------


def _inside_checkpoint(function: Function, inputs: list[Tensor], cotangents: Sequence[Tensor]) -> Found:
    """What is saved for the backward pass is forgotten, and computed again when it is asked for."""
    leaves = [x.requires_grad_() for x in inputs]
    again: list[Tensor] = []
    count = 0

    def forget(_: Tensor) -> int:
        nonlocal count
        count += 1
        return count - 1

    def keep(x: Tensor) -> int:
        again.append(x.detach())
        return len(again) - 1

    def remember(place: int) -> Tensor:
        if not again:
            with torch.enable_grad(), saved_tensors_hooks(keep, again.__getitem__):
                _outputs(function, [x.detach().requires_grad_() for x in leaves])
        return again[place]

    with saved_tensors_hooks(forget, remember):
        outputs = _outputs(function, leaves)
    return _gradients(outputs, leaves, cotangents)


class _Reentrant(torch.autograd.Function):
    """A function without a graph; its backward pass makes one, and goes back through it."""

    @staticmethod
    def forward(ctx: Any, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.function = function
        ctx.save_for_backward(*inputs)
        with torch.no_grad():
            return tuple(y.clone() for y in _outputs(function, inputs))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        leaves = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        with torch.enable_grad():
            outputs = _outputs(ctx.function, leaves)
        return None, *_accumulated(outputs, leaves, gradients)


def _inside_reentrant_checkpoint(function: Function, inputs: list[Tensor], cotangents: Sequence[Tensor]) -> Found:
    leaves = [x.requires_grad_() for x in inputs]
    apply: Any = _Reentrant.apply  # PyTorch's Functions are untyped
    return _accumulated(apply(function, *leaves), leaves, cotangents)
