"""Activations, plain and with derivatives by hand."""

import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor

from tests.everyday.corpus import BOUNDED, NATURAL, Scalar, Vector, by_hand, right, wrong

V = Annotated[Vector, NATURAL]


@right
def mish(x: V):
    return x * torch.tanh(F.softplus(x))


swish_rule = by_hand(
    lambda x: x * torch.sigmoid(x), lambda g, x: g * torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x)))
)
swish_slip = by_hand(lambda x: x * torch.sigmoid(x), lambda g, x: g * (torch.sigmoid(x) + x * (1 - torch.sigmoid(x))))


@right
def swish(x: V):
    return swish_rule(x)


@wrong
def swish_missing_factor(x: V):
    return swish_slip(x)


@right(gradient=lambda x: 0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi))
def gelu_exact(x: V):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


@wrong(gradient=lambda x: 0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * torch.exp(-x * x) / math.sqrt(2 * math.pi))
def gelu_density(x: V):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


@right
def gelu_tanh(x: V):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@right
def softsign(x: Vector):
    return x / (1 + x.abs())


@right
def elu_by_where(x: V):
    return torch.where(x > 0, x, torch.expm1(x))


@wrong(verdict="inaccurate")
def elu_overflowing(x: Annotated[Vector, Interval(ge=-4, le=1000)]):
    return torch.where(x > 0, x, torch.exp(x) - 1)


@right
def hard_swish(x: Vector):
    return x * F.relu6(x + 3) / 6


@right
def snake(x: V, a: Annotated[Scalar, Interval(ge=0.5, le=2)]):
    return x + torch.sin(a * x) ** 2 / a


@right
def prelu(x: Vector, a: Scalar):
    return torch.where(x >= 0, x, a * x)


class LeakyReLU(torch.autograd.Function):
    """As in a tutorial."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return torch.where(x > 0, x, slope * x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, grad, ctx.slope * grad), None


class LeakyReLUInPlace(LeakyReLU):
    """Writes into the incoming gradient."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        grad[x <= 0] = 0
        return grad, None


@right
def leaky_relu(x: Vector):
    return LeakyReLU.apply(x, 0.01)


@wrong(verdict="error")
def leaky_relu_zero(x: Vector):
    return LeakyReLUInPlace.apply(x, 0.01)


class Tanh(torch.autograd.Function):
    """Keeps its result."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)


class TanhOfResult(Tanh):
    """Takes the kept result for the input."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * (1 - y.tanh() ** 2)


@right
def tanh(x: V):
    return Tanh.apply(x)


@wrong
def tanh_of_result(x: V):
    return TanhOfResult.apply(x)


@right
def maxout(x: Float[Tensor, "n 4"]):
    return x.view(-1, 2, 2).max(-1).values


@right
def glu(x: Annotated[Float[Tensor, "n 4"], NATURAL]):
    a, b = x.chunk(2, dim=-1)
    return a * torch.sigmoid(b)


@right
def swiglu(
    x: Annotated[Float[Tensor, "n d"], NATURAL],
    w: Annotated[Float[Tensor, "h d"], NATURAL],
    v: Annotated[Float[Tensor, "h d"], NATURAL],
):
    return F.silu(x @ w.T) * (x @ v.T)


@right
def softmax_with_temperature(x: V, t: Annotated[Scalar, Interval(ge=0.5, le=4)]):
    return torch.softmax(x / t, -1)


softmax_rule = by_hand(
    lambda x: x.softmax(-1),
    lambda g, x: x.softmax(-1) * (g - (g * x.softmax(-1)).sum(-1, keepdim=True)),
)
softmax_slip = by_hand(lambda x: x.softmax(-1), lambda g, x: g * x.softmax(-1) * (1 - x.softmax(-1)))


@right
def softmax(x: Annotated[Float[Tensor, "n m"], NATURAL]):
    return softmax_rule(x)


@wrong
def softmax_diagonal_only(x: Annotated[Float[Tensor, "n m"], NATURAL]):
    return softmax_slip(x)


@right
def softmax_shifted(x: Annotated[Float[Tensor, "n m"], NATURAL]):
    e = torch.exp(x - x.max(-1, keepdim=True).values)
    return e / e.sum(-1, keepdim=True)


@right
def gumbel_softmax(logits: V, u: Annotated[Vector, Interval(ge=0.01, le=0.99)]):
    g = -torch.log(-torch.log(u))
    return F.softmax((logits + g) / 0.5, dim=0)


@right
def concrete_relaxation(logit: V, u: Annotated[Vector, Interval(ge=0.01, le=0.99)]):
    return torch.sigmoid((logit + torch.log(u) - torch.log1p(-u)) / 0.7)


@right(surrogate=lambda g, x: g)
def straight_through_round(x: V):
    return x + (x.round() - x).detach()


@right
def squareplus(x: Annotated[Vector, BOUNDED]):
    return (x + torch.sqrt(x * x + 4)) / 2


@wrong
def softplus_by_clamp(x: Annotated[Vector, BOUNDED]):
    """At 0 the clamp gives 1, the absolute value 0: together 1, where the derivative is ½."""
    return torch.clamp(x, min=0) + torch.log1p(torch.exp(-torch.abs(x)))


@right
def softplus_by_logaddexp(x: Annotated[Vector, BOUNDED]):
    return torch.logaddexp(x, torch.zeros_like(x))


@right
def log_sigmoid(x: V):
    return -F.softplus(-x)


@right
def spherical_softmax(x: Annotated[Float[Tensor, "n m"], NATURAL]):
    return (x**2 + 0.1) / (x**2 + 0.1).sum(-1, keepdim=True)


@right
def rational(x: V):
    return (0.02 + 0.5 * x + 1.6 * x**2 + 1.2 * x**3) / (1 + (2.4 * x**2).abs())
