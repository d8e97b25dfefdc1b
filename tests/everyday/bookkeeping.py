"""Straight-line code: indices, masks, writes in place, cumulative sums, returns of an episode."""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval, Lt
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tests.everyday.corpus import NATURAL, POSITIVE, SMALL, Matrix, Scalar, Vector, by_hand, right, wrong


@right
def discounted_returns(r: Annotated[Float[Tensor, "5"], NATURAL]):
    g = torch.zeros((), dtype=r.dtype)
    out = []
    for x in r.flip(0):
        g = x + 0.9 * g
        out.append(g)
    return torch.stack(out).flip(0)


@right
def advantages(r: Annotated[Float[Tensor, "4"], NATURAL], v: Annotated[Float[Tensor, "5"], NATURAL]):
    out = torch.zeros_like(r)
    last = torch.zeros((), dtype=r.dtype)
    for t in reversed(range(4)):
        last = r[t] + 0.9 * v[t + 1] - v[t] + 0.81 * last
        out[t] = last
    return out


cumsum_rule = by_hand(lambda x: x.cumsum(0), lambda g, x: g.flip(0).cumsum(0).flip(0))
cumsum_slip = by_hand(lambda x: x.cumsum(0), lambda g, x: g.cumsum(0))


@right
def running_total(x: Vector):
    return cumsum_rule(x)


@wrong
def running_total_forwards(x: Vector):
    return cumsum_slip(x)


prod_rule = by_hand(
    lambda x: x.prod(),
    lambda g, x: torch.stack([g * torch.cat([x[:i], x[i + 1 :]]).prod() for i in range(len(x))]),
)
prod_slip = by_hand(lambda x: x.prod(), lambda g, x: g * x.prod() / x)


@right
def product(x: Annotated[Vector, NATURAL]):
    return prod_rule(x)


@wrong
def product_by_division(x: Annotated[Vector, NATURAL]):
    return prod_slip(x)


@right
def cumulative_product(x: Annotated[Float[Tensor, "4"], NATURAL]):
    return x.cumprod(0)


@right
def exclusive_prefix(x: Vector):
    return torch.cumsum(x, 0) - x


@right
def pad_and_shift(x: Vector):
    return F.pad(x, (1, 2), value=0.5)[:-1] * 2


@right
def reflect(x: Float[Tensor, "1 1 4"]):
    return F.pad(x, (2, 1), mode="reflect")


@right
def write_in_place(x: Float[Tensor, "4"]):
    y = torch.empty_like(x)
    y[::2] = x[::2] ** 2
    y[1::2] = x[1::2] * x[::2]
    y *= 2
    return y


@right
def masked_assignment(x: Annotated[Vector, NATURAL], mask: Bool[Tensor, "n"]):
    y = x.clone()
    y[mask] = y[mask].exp()
    return y


@right
def first_differences(x: Matrix):
    return torch.diff(x, dim=-1, prepend=x[:, :1])


@right
def upper_triangle(x: Float[Tensor, "3 3"]):
    i, j = torch.triu_indices(3, 3, 1)
    return x[i, j] * torch.arange(3)


@right
def permuted(x: Float[Tensor, "2 3 4"]):
    return x.permute(2, 0, 1).reshape(4, 6).T * 3


@right
def windows_of(x: Float[Tensor, "6"]):
    return x.unfold(0, 3, 2).prod(-1)


@right
def stacked_statistics(x: Annotated[Float[Tensor, "3 2"], NATURAL]):
    return torch.stack([x.mean(), x.max(), x.min(), x.square().sum()])


@right
def outer_difference(a: Vector, b: Float[Tensor, "m"]):
    return (a[:, None] - b).abs().sum(1)


@right
def clip_by_norm(x: Annotated[Vector, NATURAL]):
    n = torch.linalg.vector_norm(x)
    return x * torch.clamp(1 / (n + 1e-6), max=1.0)


@right
def moving_target(x: Vector, target: Vector):
    return F.mse_loss(x, 0.9 * target.detach() + 0.1 * x.detach())


@right
def select_action(
    q: Annotated[Float[Tensor, "b a"], NATURAL],
    a: Annotated[Int[Tensor, "b"], Ge(0), Lt("a")],
    r: Annotated[Float[Tensor, "b"], NATURAL],
):
    chosen = q.gather(1, a[:, None])[:, 0]
    with torch.no_grad():
        target = r + 0.9 * q.max(1).values
    return F.smooth_l1_loss(chosen, target)


@right
def adam_step(p: Vector, g: Annotated[Vector, NATURAL], m: Annotated[Vector, NATURAL], v: Annotated[Vector, POSITIVE]):
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    return p - 0.01 * m / (v.sqrt() + 1e-8)


@right
def inner_gradient_step(w: Annotated[Vector, SMALL], x: Annotated[Vector, SMALL], y: Annotated[Scalar, SMALL]):
    inner = (w @ x - y) ** 2
    (g,) = torch.autograd.grad(inner, w, create_graph=True)
    return ((w - 0.1 * g) @ x - y) ** 2


@right
def mixup(x: Matrix, y: Matrix, lam: Annotated[Scalar, Interval(ge=0, le=1)]):
    return lam * x + (1 - lam) * y.flip(0)


@right
def logits_with_bans(x: Annotated[Float[Tensor, "4"], NATURAL]):
    return x.masked_fill(torch.tensor([False, True, False, False]), float("-inf")).log_softmax(0)[[0, 2, 3]]


@right
def piecewise(x: Annotated[Scalar, NATURAL]):
    if x > 1:
        return x**2
    if x < -1:
        return -2 * x - 1
    return x.sin()


@right
def polynomial(x: Annotated[Vector, NATURAL], c: Annotated[Float[Tensor, "4"], NATURAL]):
    y = torch.zeros_like(x)
    for k in c.flip(0):
        y = y * x + k
    return y


@right
def newton_square_root(x: Annotated[Scalar, POSITIVE]):
    y = x
    for _ in range(3):
        y = 0.5 * (y + x / y)
    return y


@right
def bucket_totals(x: Annotated[Vector, NATURAL], i: Annotated[Int[Tensor, "n"], Ge(0), Lt(4)]):
    return torch.zeros(4, dtype=x.dtype).index_add_(0, i, x * x)


@right
def calibrated(x: Annotated[Vector, Interval(ge=0.5, le=8)]):
    edges = torch.tensor([1.0, 2.0, 4.0], dtype=x.dtype)
    slope = torch.tensor([1.0, 0.5, 0.25, 0.1], dtype=x.dtype)
    return x * slope[torch.bucketize(x.detach(), edges)]


class ScaleGradient(torch.autograd.Function):
    """The identity, with its gradient scaled."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return -0.5 * grad


@right(surrogate=lambda g, x: -0.5 * g)
def gradient_reversal(x: Vector):
    return ScaleGradient.apply(x)


@wrong
def gradient_reversal_undeclared(x: Vector):
    return ScaleGradient.apply(x)


class SavedByHand(torch.autograd.Function):
    """Keeps a value of forward that somebody changes later."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.kept = x.clone()
        y = ctx.kept.mul_(x)
        return y.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * grad * ctx.kept


@wrong
def square_of_changed(x: Annotated[Vector, NATURAL]):
    return SavedByHand.apply(x)


@wrong
def broadcast_mean(a: Matrix, b: Float[Tensor, "m"]):
    return by_hand(lambda a, b: a * b, lambda g, a, b: (g * b, (g * a).mean(0)))(a, b)


@right
def broadcast_sum(a: Matrix, b: Float[Tensor, "m"]):
    return by_hand(lambda a, b: a * b, lambda g, a, b: (g * b, (g * a).sum(0)))(a, b)
