"""The tutorial's functions, each with the gradient that the tutorial states."""

from typing import Annotated

import torch
from annotated_types import Predicate
from jaxtyping import Float
from torch import Tensor

from diffcheck import case


@case(gradient=lambda x: 4 * x)
def quadratic(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """y = 2 xᵀx"""
    return 2 * torch.dot(x, x)


@case(gradient=lambda x: torch.ones_like(x))
def total(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """y = Σ xᵢ"""
    return x.sum()


@case(gradient=lambda x: 2 * x)
def hadamard(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """y = x ⊙ x; the output is a vector, and the gradient is that of its sum."""
    return x * x


@case(gradient=lambda x: x * x)
def detached(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """z = u ⊙ x, where u = x ⊙ x counts as a constant: the gradient is u."""
    u = (x * x).detach()
    return u * x


@case(gradient=lambda x: 3 * x * x)
def not_detached(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """The twin of `detached`: without `detach`, u is differentiated too."""
    u = x * x
    return u * x


def f(a: Tensor) -> Tensor:
    """Doubles until the norm reaches 1000, then branches on the sign: piecewise linear, f(a) = k·a."""
    b = a * 2
    while b.norm() < 1000:
        b = b * 2
    return b if b.sum() > 0 else 100 * b


@case(gradient=lambda a: f(a) / a)
def control_flow(a: Annotated[Float[Tensor, ""], Predicate(lambda a: a != 0)]) -> Float[Tensor, ""]:
    """d = f(a), whose slope is f(a) / a. At a = 0 the loop never ends, so 0 is not in the domain."""
    return f(a)


@case(preceded_by=quadratic, gradient=lambda x: 4 * x + 1)
def accumulated(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """y = Σ xᵢ after the backward pass of `quadratic`, without clearing: .grad holds the sum of both gradients."""
    return x.sum()


@case(preceded_by=quadratic, clear=True, gradient=lambda x: torch.ones_like(x))
def cleared(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """The same, with .grad cleared in between: it holds the second gradient only."""
    return x.sum()
