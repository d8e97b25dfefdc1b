"""Layers, attention, normalisation."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval, Lt
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tests.everyday.corpus import NATURAL, SMALL, Batch, Matrix, Scalar, by_hand, right, wrong

Features = Annotated[Batch, NATURAL]
Tokens = Annotated[Float[Tensor, "t d"], NATURAL]


@right(
    gradient=lambda x, w, b: {"x": w.sum(0).expand_as(x), "w": x.sum(0).expand_as(w), "b": torch.full_like(b, len(x))}
)
def linear(x: Batch, w: Float[Tensor, "o d"], b: Float[Tensor, "o"]):
    return F.linear(x, w, b)


linear_slip = by_hand(lambda x, w, b: x @ w.T + b, lambda g, x, w, b: (g @ w, g.T @ x, g.mean(0)))


@wrong
def linear_bias_mean(x: Batch, w: Float[Tensor, "o d"], b: Float[Tensor, "o"]):
    return linear_slip(x, w, b)


@right
def mlp(
    x: Features,
    w: Annotated[Float[Tensor, "h d"], SMALL],
    b: Annotated[Float[Tensor, "h"], SMALL],
    v: Annotated[Float[Tensor, "h"], SMALL],
):
    return torch.tanh(x @ w.T + b) @ v


@right
def layer_norm(x: Annotated[Batch, NATURAL], w: Float[Tensor, "d"], b: Float[Tensor, "d"]):
    return F.layer_norm(x, w.shape, w, b, eps=0.1)


def _layer_norm(x):
    d = x - x.mean(-1, keepdim=True)
    return d / torch.sqrt((d * d).mean(-1, keepdim=True) + 0.1)


def _layer_norm_backward(g, x, *, centred):
    d = x - x.mean(-1, keepdim=True)
    r = torch.rsqrt((d * d).mean(-1, keepdim=True) + 0.1)
    y = d * r
    gc = g - g.mean(-1, keepdim=True) if centred else g
    return r * (gc - y * (g * y).mean(-1, keepdim=True))


ln_rule = by_hand(_layer_norm, lambda g, x: _layer_norm_backward(g, x, centred=True))
ln_slip = by_hand(_layer_norm, lambda g, x: _layer_norm_backward(g, x, centred=False))


@right
def layer_norm_fused(x: Features):
    return ln_rule(x)


@wrong
def layer_norm_no_mean(x: Features):
    return ln_slip(x)


@right
def rms_norm(x: Features, w: Float[Tensor, "d"]):
    return w * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3)


rms_rule = by_hand(
    lambda x: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-3),
    lambda g, x: (
        (g - x * (g * x).mean(-1, keepdim=True) / ((x * x).mean(-1, keepdim=True) + 1e-3))
        * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-3)
    ),
)
rms_slip = by_hand(
    lambda x: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-3),
    lambda g, x: g * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-3),
)


@right
def rms_norm_fused(x: Features):
    return rms_rule(x)


@wrong
def rms_norm_constant_scale(x: Features):
    return rms_slip(x)


@right
def batch_norm_training(x: Annotated[Float[Tensor, "4 d"], NATURAL], w: Float[Tensor, "d"], b: Float[Tensor, "d"]):
    return F.batch_norm(x, None, None, w, b, training=True, eps=0.1)


@right
def group_norm(x: Annotated[Float[Tensor, "batch 4 s"], NATURAL]):
    return F.group_norm(x, 2, eps=0.1)


@right
def instance_norm(x: Annotated[Float[Tensor, "batch 2 3"], NATURAL]):
    m, v = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - m) / torch.sqrt(v + 0.1)


@right
def weight_norm(
    x: Features, v: Annotated[Float[Tensor, "o d"], Interval(ge=0.1, le=2)], g: Annotated[Float[Tensor, "o"], NATURAL]
):
    w = g[:, None] * v / v.norm(dim=1, keepdim=True)
    return x @ w.T


@right
def spectral_power_step(w: Annotated[Float[Tensor, "n m"], Interval(ge=0.1, le=2)]):
    u = torch.ones(w.shape[0], dtype=w.dtype)
    with torch.no_grad():
        v = F.normalize(w.T @ u, dim=0)
        u = F.normalize(w @ v, dim=0)
    return w / (u @ w @ v)


@right
def attention(q: Tokens, k: Annotated[Float[Tensor, "s d"], NATURAL], v: Annotated[Float[Tensor, "s e"], NATURAL]):
    return torch.softmax(q @ k.T / math.sqrt(q.shape[-1]), -1) @ v


@right
def causal_attention(x: Tokens):
    n = len(x)
    scores = x @ x.T / math.sqrt(x.shape[1])
    hidden = torch.triu(torch.ones(n, n, dtype=torch.bool), 1)
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ x


@right
def masked_attention(
    scores: Annotated[Matrix, NATURAL], mask: Bool[Tensor, "n m"], v: Annotated[Float[Tensor, "m d"], NATURAL]
):
    return scores.masked_fill(~mask, -1e4).softmax(-1) @ v


@right
def attention_to_nothing(scores: Annotated[Matrix, NATURAL], mask: Bool[Tensor, "n m"]):
    """The softmax of a row of nothing is NaN, and so is its gradient: the mask keeps it from the scores."""
    p = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return torch.where(mask.any(-1, keepdim=True), p, torch.zeros_like(p))


@wrong
def attention_by_added_mask(scores: Annotated[Matrix, NATURAL], mask: Bool[Tensor, "n m"]):
    p = (scores + torch.where(mask, 0.0, float("-inf"))).softmax(-1)
    return torch.where(mask.any(-1, keepdim=True), p, torch.zeros_like(p))


@right
def multi_head(x: Annotated[Float[Tensor, "t 4"], SMALL], w: Annotated[Float[Tensor, "12 4"], SMALL]):
    q, k, v = (x @ w.T).chunk(3, dim=-1)
    heads = [F.softmax(q[:, i : i + 2] @ k[:, i : i + 2].T / math.sqrt(2), -1) @ v[:, i : i + 2] for i in (0, 2)]
    return torch.cat(heads, -1)


@right
def alibi(scores: Annotated[Float[Tensor, "t t"], NATURAL]):
    i = torch.arange(scores.shape[0])
    return (scores - 0.5 * (i[:, None] - i).abs()).softmax(-1)


@right
def rotary(x: Annotated[Float[Tensor, "t 4"], NATURAL]):
    t = torch.arange(x.shape[0], dtype=x.dtype)
    f = torch.outer(t, torch.tensor([1.0, 0.01], dtype=x.dtype))
    a, b = x[:, 0::2], x[:, 1::2]
    return torch.stack([a * f.cos() - b * f.sin(), a * f.sin() + b * f.cos()], -1).flatten(1)


@right
def linear_attention(q: Tokens, k: Tokens, v: Tokens):
    q, k = F.elu(q) + 1, F.elu(k) + 1
    return (q @ (k.T @ v)) / (q @ k.sum(0) + 1e-3)[:, None]


@right
def low_rank_adapter(
    x: Features,
    w: Annotated[Float[Tensor, "o d"], SMALL],
    a: Annotated[Float[Tensor, "2 d"], SMALL],
    b: Annotated[Float[Tensor, "o 2"], SMALL],
):
    return x @ w.T.detach() + 0.5 * (x @ a.T) @ b.T


@right
def embedding(i: Annotated[Int[Tensor, "t"], Ge(0), Lt("v")], table: Float[Tensor, "v d"]):
    return F.embedding(i, table).mean(0)


embed_rule = by_hand(lambda i, w: w[i], lambda g, i, w: (None, torch.zeros_like(w).index_add(0, i, g)))
embed_slip = by_hand(lambda i, w: w[i], lambda g, i, w: (None, torch.zeros_like(w).index_copy(0, i, g)))


@right
def embedding_rule(i: Annotated[Int[Tensor, "t"], Ge(0), Lt("v")], table: Float[Tensor, "v d"]):
    return embed_rule(i, table)


@wrong
def embedding_repeated(i: Annotated[Int[Tensor, "t"], Ge(0), Lt("v")], table: Float[Tensor, "v d"]):
    return embed_slip(i, table)


@right
def conv1d(x: Float[Tensor, "1 2 5"], w: Float[Tensor, "3 2 3"], b: Float[Tensor, "3"]):
    return F.conv1d(x, w, b, padding=1)


@right
def conv2d_and_pool(x: Float[Tensor, "1 1 4 4"], w: Float[Tensor, "2 1 3 3"]):
    return F.max_pool2d(F.relu(F.conv2d(x, w, padding=1)), 2)


@right
def depthwise_separable(x: Float[Tensor, "1 2 4"], d: Float[Tensor, "2 1 3"], p: Float[Tensor, "3 2 1"]):
    return F.conv1d(F.conv1d(x, d, groups=2), p)


@right
def squeeze_excite(x: Annotated[Float[Tensor, "batch 3 s"], SMALL], w: Annotated[Float[Tensor, "3 3"], SMALL]):
    return x * torch.sigmoid(F.relu(x.mean(-1)) @ w).unsqueeze(-1)


@right
def pixel_shuffle(x: Float[Tensor, "1 4 2 2"]):
    return F.pixel_shuffle(x, 2)


@right
def bilinear_upsample(x: Float[Tensor, "1 1 3 3"]):
    return F.interpolate(x, size=(5, 5), mode="bilinear", align_corners=False)


@right
def gru_cell(
    x: Annotated[Float[Tensor, "2"], SMALL],
    h: Annotated[Scalar, SMALL],
    w: Annotated[Float[Tensor, "3 2"], SMALL],
    u: Annotated[Float[Tensor, "3"], SMALL],
):
    a, b = w @ x, u * h
    r, z = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
    n = torch.tanh(a[2] + r * b[2])
    return (1 - z) * n + z * h


class Block(nn.Module):
    """A residual block with a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 3)
        self.outer = nn.Linear(3, 2)

    def forward(self, x: Annotated[Float[Tensor, "batch 2"], SMALL]) -> Tensor:
        out: Tensor = x + self.outer(F.gelu(self.inner(x)))
        return out


residual_block = right(name="residual_block")(Block())


@right
def dropout_with_given_mask(x: Batch, keep: Bool[Tensor, "batch d"]):
    return x * keep / 0.9


@right
def mixture_of_experts(
    x: Annotated[Float[Tensor, "batch 2"], NATURAL],
    gate: Annotated[Float[Tensor, "2 3"], SMALL],
    experts: Annotated[Float[Tensor, "3 2 2"], SMALL],
):
    weight = (x @ gate).softmax(-1)
    return torch.einsum("bk,kij,bj->bi", weight, experts, x)


@right
def pooled_with_lengths(x: Float[Tensor, "b t"], length: Annotated[Int[Tensor, "b"], Ge(1), Lt(4)]):
    mask = torch.arange(x.shape[1]) < length[:, None]
    return (x * mask).sum(1) / mask.sum(1).clamp(min=1)


@wrong
def mean_of_nothing(x: Float[Tensor, "b t"], length: Annotated[Int[Tensor, "b"], Ge(0), Lt(4)]):
    mask = torch.arange(x.shape[1]) < length[:, None]
    mean = (x * mask).sum(1) / mask.sum(1)
    return torch.where(length > 0, mean, torch.zeros_like(mean))
