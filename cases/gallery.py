"""What people really differentiate."""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval, Lt
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffcheck import case


@case(gradient=lambda x: torch.softmax(x, 0))
def logsumexp(x: Annotated[Float[Tensor, "n"], Interval(ge=-100, le=100)]) -> Float[Tensor, ""]:
    """log Σ exp(xᵢ), whose gradient is the softmax.

    PyTorch computes it as exp(x - logsumexp(x)), which loses a digit for every factor of 10 in x
    (docs/pytorch-findings.md): not beyond 100 here.
    """
    return torch.logsumexp(x, dim=0)


@case(
    gradient=lambda logits, target: (
        (torch.softmax(logits, 1) - F.one_hot(target, logits.shape[1]).to(logits.dtype)) / len(target)
    )
)
def softmax_cross_entropy(
    logits: Float[Tensor, "batch classes"], target: Annotated[Int[Tensor, "batch"], Ge(0), Lt("classes")]
) -> Float[Tensor, ""]:
    """The mean of -log softmax(logits)[target]: softmax minus one-hot, over the batch size."""
    return F.cross_entropy(logits, target)


@case(assume=lambda x, weight, bias: x.shape[1] > 1 and x.var(1, correction=0).min() > 0.01)
def layer_norm(
    x: Annotated[Float[Tensor, "batch features"], Interval(ge=-4, le=4)],
    weight: Float[Tensor, "features"],
    bias: Float[Tensor, "features"],
) -> Float[Tensor, "batch features"]:
    """(x - mean) / √(variance + ε) · weight + bias, over the last axis.

    Where a row hardly varies, PyTorch's kernel loses digits (docs/pytorch-findings.md): rows here do vary.
    """
    return F.layer_norm(x, weight.shape, weight, bias)


@case
def attention(
    q: Annotated[Float[Tensor, "queries d"], Interval(ge=-8, le=8)],
    k: Annotated[Float[Tensor, "keys d"], Interval(ge=-8, le=8)],
    v: Float[Tensor, "keys e"],
) -> Float[Tensor, "queries e"]:
    """softmax(q kᵀ / √d) v, for scores of which the exponential keeps digits."""
    return F.scaled_dot_product_attention(q, k, v)


@case
def gelu(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """x Φ(x)."""
    return F.gelu(x)


@case
def softplus(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """log(1 + exp(x)), and x itself beyond PyTorch's threshold of 20."""
    return F.softplus(x)


class MLP(nn.Module):
    """Two layers with tanh between them."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, x: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 2"]:
        """W₂ tanh(W₁ x + b₁) + b₂."""
        out: Tensor = self.out(torch.tanh(self.hidden(x)))
        return out


mlp = case(MLP())


@case(gradient=lambda x, a: {"x": (a + a.T) @ x, "a": torch.outer(x, x)})
def quadratic_form(x: Float[Tensor, "n"], a: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """xᵀ A x: (A + Aᵀ) x in x, and x xᵀ in A."""
    return x @ a @ x


@case(gradient=lambda x: torch.clamp(x, -1, 1))
def huber(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """½x² inside of [-1, 1] and |x| - ½ outside: the gradient is x, clamped."""
    return F.huber_loss(x, torch.zeros_like(x), reduction="sum", delta=1.0)


class Cube(torch.autograd.Function):
    """x³, with derivatives by hand."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """x³."""
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keeps x."""
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """3x² · g."""
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        """3x² · t."""
        (x,) = ctx.saved_tensors
        return 3 * x**2 * tangent


@case(gradient=lambda x: 3 * x**2)
def custom_function(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """x³ as a custom autograd.Function."""
    result: Tensor = Cube.apply(x)
    return result
