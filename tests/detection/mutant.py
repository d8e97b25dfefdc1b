"""A wrong backward pass beside its correct twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Interval
from jaxtyping import Float, Int
from torch import Tensor

from diffcheck import case
from diffcheck.declare.case import Case

Backward = Callable[..., Any]

SCALAR = Float[Tensor, ""]
VECTOR = Float[Tensor, "n"]
MATRIX = Float[Tensor, "n m"]
SQUARE = Float[Tensor, "n n"]
SMALL = Interval(ge=-8, le=8)
"""Where exponentials neither overflow nor leave nothing but rounding."""
VECTOR_8 = Annotated[VECTOR, SMALL]
MATRIX_8 = Annotated[MATRIX, SMALL]
POSITIVE = Annotated[VECTOR, Interval(ge=0.125, le=8)]
POSITIVE_MATRIX = Annotated[MATRIX, Interval(ge=0.125, le=8)]


@dataclass(frozen=True)
class Operation:
    """A function as people write it, with the backward pass that is right."""

    inputs: Mapping[str, Any]
    """Annotations by argument."""
    forward: Callable[..., Tensor]
    backward: Backward
    """Takes the incoming gradient, then the inputs; gives a gradient per input."""

    def with_backward(self, backward: Backward) -> Callable[..., Any]:
        """The operation with a backward pass."""
        return differentiable(self.forward, backward)


@dataclass(frozen=True)
class Mutant:
    """One entry of the catalogue."""

    name: str
    family: str
    wrong: Callable[..., Any]
    right: Callable[..., Any]
    """The correct twin."""
    inputs: Mapping[str, Any]
    diagnosis: str
    """The name that the mistake should be given; none where it can't be known."""
    modes: tuple[str, ...] = ("reverse",)
    textbook: Callable[..., Any] | None = None
    """For plain PyTorch code, whose derivative is what autograd says: what it should have been."""
    sizes: Mapping[str, int] | None = None
    """Of the axes, for gradcheck, which is given one small fixed shape."""

    def cases(self) -> tuple[Case, Case]:
        """The wrong one and the right one, as cases."""
        made = [
            case(f, inputs=self.inputs, name=f"{how}_{self.name}", gradient=self.textbook)
            for f, how in ((self.wrong, "wrong"), (self.right, "right"))
        ]
        return made[0], made[1]


def mutant(
    name: str, family: str, of: Operation, backward: Backward, diagnosis: str, *, sizes: Mapping[str, int] | None = None
) -> Mutant:
    """An operation with a wrong backward pass."""
    return Mutant(
        name, family, of.with_backward(backward), of.with_backward(of.backward), of.inputs, diagnosis, sizes=sizes
    )


def differentiable(forward: Callable[..., Any], backward: Backward) -> Callable[..., Any]:
    """A custom Function that saves its inputs, from its two passes."""

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Any:
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Any:
            return backward(*gradients, *ctx.saved_tensors)

    apply: Callable[..., Any] = Custom.apply
    return apply


def scaled(backward: Backward, factor: float) -> Backward:
    """A backward pass whose results are multiplied by a factor."""

    def wrong(gradient: Tensor, *inputs: Tensor) -> Any:
        found = backward(gradient, *inputs)
        if isinstance(found, tuple):
            return tuple(None if part is None else part * factor for part in found)
        return found * factor

    return wrong


__all__ = [
    "MATRIX", "MATRIX_8", "POSITIVE", "POSITIVE_MATRIX", "SCALAR", "SMALL", "SQUARE", "VECTOR", "VECTOR_8", "Annotated",
    "Backward", "Float", "Int", "Mutant", "Operation", "Tensor", "differentiable", "mutant", "scaled", "torch",
]  # fmt: skip
