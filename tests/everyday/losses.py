"""Losses, as they stand in training scripts."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tests.everyday.corpus import (
    INSIDE,
    NATURAL,
    POSITIVE,
    UNIT,
    Batch,
    Matrix,
    Vector,
    by_hand,
    right,
    wrong,
)  # fmt: skip

Target = Annotated[Int[Tensor, "batch"], Ge(0), Lt("classes")]
Logits = Annotated[Float[Tensor, "batch classes"], NATURAL]


@right(gradient=lambda x, y: {"x": 2 * (x - y) / len(x), "y": 2 * (y - x) / len(x)})
def mse(x: Vector, y: Vector):
    return ((x - y) ** 2).mean()


@wrong(gradient=lambda x, y: {"x": 2 * (x - y), "y": 2 * (y - x)})
def mse_summed(x: Vector, y: Vector):
    return ((x - y) ** 2).mean()


@right
def mae(x: Vector, y: Vector):
    return (x - y).abs().mean()


def _huber(x, y):
    d = x - y
    return torch.where(d.abs() < 1, 0.5 * d**2, d.abs() - 0.5).sum()


@right
def huber_by_where(x: Vector, y: Vector):
    return _huber(x, y)


huber_rule = by_hand(_huber, lambda g, x, y: (g * (x - y).clamp(-1, 1), -g * (x - y).clamp(-1, 1)))
huber_slip = by_hand(_huber, lambda g, x, y: (g * (x - y).clamp(-1, 1), g * (x - y).clamp(-1, 1)))


@right
def huber(x: Vector, y: Vector):
    return huber_rule(x, y)


@wrong
def huber_sign(x: Vector, y: Vector):
    return huber_slip(x, y)


@right
def smooth_l1(x: Vector, y: Vector):
    return F.smooth_l1_loss(x, y, beta=0.5)


@right
def bce_with_logits(x: Annotated[Vector, NATURAL], y: Annotated[Vector, UNIT]):
    return F.binary_cross_entropy_with_logits(x, y)


def _stable_bce(x, y):
    return (x.clamp(min=0) - x * y + torch.log1p(torch.exp(-x.abs()))).mean()


@wrong
def bce_by_clamp(x: Annotated[Vector, NATURAL], y: Annotated[Vector, UNIT]):
    return _stable_bce(x, y)


@right
def bce_clamped(p: Annotated[Vector, INSIDE], y: Annotated[Vector, UNIT]):
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


bce_rule = by_hand(_stable_bce, lambda g, x, y: (g * (torch.sigmoid(x) - y) / x.numel(), -g * x / x.numel()))
bce_slip = by_hand(_stable_bce, lambda g, x, y: (g * (torch.sigmoid(x) - y) / x.numel(), None))


@right
def bce_fused(x: Annotated[Vector, NATURAL], y: Annotated[Vector, UNIT]):
    return bce_rule(x, y)


@wrong
def bce_fused_no_target(x: Annotated[Vector, NATURAL], y: Annotated[Vector, UNIT]):
    return bce_slip(x, y)


@right
def cross_entropy(logits: Logits, target: Target):
    return F.cross_entropy(logits, target)


@right
def cross_entropy_by_gather(logits: Logits, target: Target):
    logp = logits.log_softmax(-1)
    return -logp.gather(1, target[:, None]).squeeze(1).mean()


def _softmax_ce(logits, target):
    return F.cross_entropy(logits, target, reduction="sum")


def _onehot(target, logits):
    return F.one_hot(target, logits.shape[1]).to(logits.dtype)


ce_rule = by_hand(_softmax_ce, lambda g, x, t: (g * (x.softmax(1) - _onehot(t, x)), None))
ce_slip = by_hand(_softmax_ce, lambda g, x, t: (g * (x.softmax(0) - _onehot(t, x)), None))


@right
def cross_entropy_rule(logits: Logits, target: Target):
    return ce_rule(logits, target)


@wrong
def cross_entropy_axis(logits: Logits, target: Target):
    return ce_slip(logits, target)


@right
def label_smoothing(logits: Logits, target: Target):
    logp = F.log_softmax(logits, dim=-1)
    nll = -logp.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    smooth = -logp.mean(-1)
    return (0.9 * nll + 0.1 * smooth).mean()


@right
def focal(logits: Annotated[Vector, NATURAL], target: Annotated[Int[Tensor, "n"], Ge(0), Lt(2)]):
    y = target.to(logits.dtype)
    p = torch.sigmoid(logits)
    ce = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    pt = p * y + (1 - p) * (1 - y)
    return (0.25 * (1 - pt) ** 2 * ce).mean()


@right
def dice(logits: Annotated[Batch, NATURAL], target: Annotated[Batch, UNIT]):
    p = logits.sigmoid()
    overlap = (p * target).sum(1)
    return (1 - (2 * overlap + 1) / (p.sum(1) + target.sum(1) + 1)).mean()


@right
def tversky(p: Annotated[Vector, UNIT], y: Annotated[Vector, UNIT]):
    tp, fp, fn = (p * y).sum(), (p * (1 - y)).sum(), ((1 - p) * y).sum()
    return 1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1)


@right
def multiclass_hinge(logits: Logits, target: Target):
    correct = logits.gather(1, target[:, None])
    margin = (1 + logits - correct).clamp(min=0)
    return (margin.sum(1) - 1).mean()


hinge_rule = by_hand(lambda s, y: F.relu(1 - s * y).sum(), lambda g, s, y: (-g * y * (s * y < 1), -g * s * (s * y < 1)))
hinge_slip = by_hand(lambda s, y: F.relu(1 - s * y).sum(), lambda g, s, y: (-g * y, -g * s))


@right
def hinge(s: Vector, y: Vector):
    return hinge_rule(s, y)


@wrong
def hinge_without_condition(s: Vector, y: Vector):
    return hinge_slip(s, y)


@right
def triplet(a: Batch, p: Batch, n: Batch):
    dp = (a - p).pow(2).sum(1)
    dn = (a - n).pow(2).sum(1)
    return F.relu(dp - dn + 0.2).mean()


@right
def triplet_margin(a: Batch, p: Batch, n: Batch):
    return F.triplet_margin_loss(a, p, n)


@right
def contrastive(a: Batch, b: Batch, same: Annotated[Float[Tensor, "batch"], UNIT]):
    d = F.pairwise_distance(a, b)
    return (same * d**2 + (1 - same) * F.relu(1 - d) ** 2).mean()


@wrong
def contrastive_root(a: Batch, b: Batch, same: Annotated[Float[Tensor, "batch"], UNIT]):
    d = ((a - b) ** 2).sum(1).sqrt()
    return (same * d**2 + (1 - same) * F.relu(1 - d) ** 2).mean()


@right
def info_nce(a: Annotated[Batch, NATURAL], b: Annotated[Batch, NATURAL]):
    logits = a @ b.T / 2.0
    labels = torch.arange(len(a))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@right
def kl_from_logits(p: Logits, q: Logits):
    return F.kl_div(q.log_softmax(1), p.log_softmax(1), log_target=True, reduction="batchmean")


@right
def js_divergence(p: Logits, q: Logits):
    p, q = p.softmax(-1), q.softmax(-1)
    m = (p + q) / 2
    return 0.5 * ((p * (p / m).log()).sum() + (q * (q / m).log()).sum())


@right
def distillation(student: Logits, teacher: Logits, target: Target):
    t = 2.0
    soft = F.kl_div(F.log_softmax(student / t, 1), F.softmax(teacher / t, 1), reduction="batchmean") * t * t
    return 0.5 * soft + 0.5 * F.cross_entropy(student, target)


@right
def poisson_nll(rate: Annotated[Vector, NATURAL], count: Annotated[Int[Tensor, "n"], Ge(0), Lt(9)]):
    return (rate.exp() - count * rate + torch.lgamma(count + 1.0)).mean()


@right
def gaussian_nll(mean: Annotated[Vector, NATURAL], y: Annotated[Vector, NATURAL], log_var: Annotated[Vector, NATURAL]):
    return 0.5 * (log_var + (y - mean) ** 2 * torch.exp(-log_var)).mean()


@right
def pinball(x: Vector, y: Vector):
    e = y - x
    return torch.maximum(0.9 * e, (0.9 - 1) * e).mean()


@right
def log_cosh(x: Annotated[Vector, NATURAL], y: Annotated[Vector, NATURAL]):
    d = x - y
    return (d + F.softplus(-2 * d) - math.log(2)).mean()


@right
def charbonnier(x: Vector, y: Vector):
    return torch.sqrt((x - y) ** 2 + 1e-6).mean()


@right
def masked_mse(x: Batch, y: Batch, mask: Bool[Tensor, "batch d"]):
    m = mask.to(x.dtype)
    return (m * (x - y) ** 2).sum() / m.sum().clamp(min=1)


@right
def masked_mse_by_index(x: Vector, y: Vector, mask: Bool[Tensor, "n"]):
    """Of nothing selected the gradient is NaN, and goes to nothing."""
    loss = (x - y)[mask] ** 2
    return torch.where(mask.any(), loss.sum() / mask.sum(), torch.zeros(()).to(x))


@wrong
def masked_mse_nothing_selected(x: Vector, y: Vector, mask: Bool[Tensor, "n"]):
    loss = ((x - y) ** 2 * mask).sum() / mask.sum()
    return torch.where(mask.any(), loss, torch.zeros_like(loss))


@right
def masked_log_likelihood(p: Annotated[Vector, UNIT], mask: Bool[Tensor, "n"]):
    keep = mask & (p > 0)
    return torch.where(keep, torch.where(keep, p, 1.0).log(), 0.0).sum()


@wrong
def masked_log_of_zero(p: Annotated[Vector, UNIT], mask: Bool[Tensor, "n"]):
    keep = mask & (p > 0)
    return torch.where(keep, p.log(), 0.0).sum()


@right
def entropy_of_probabilities(p: Annotated[Vector, POSITIVE]):
    p = p / p.sum()
    return -(p * p.log()).sum()


@right
def ppo_clip(logp: Annotated[Vector, NATURAL], old: Annotated[Vector, NATURAL], advantage: Annotated[Vector, NATURAL]):
    ratio = torch.exp(logp - old.detach())
    return -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()


@right
def dpo(
    chosen: Annotated[Vector, NATURAL], rejected: Annotated[Vector, NATURAL],
    ref_chosen: Annotated[Vector, NATURAL], ref_rejected: Annotated[Vector, NATURAL],
):  # fmt: skip
    return -F.logsigmoid(0.1 * ((chosen - rejected) - (ref_chosen - ref_rejected))).mean()


@right
def bpr(user: Batch, good: Batch, bad: Batch):
    return -F.logsigmoid((user * good).sum(-1) - (user * bad).sum(-1)).mean()


@right
def wing(x: Vector, y: Vector):
    d = (x - y).abs()
    c = 1.0 - 1.0 * math.log(1 + 1.0 / 0.5)
    return torch.where(d < 1.0, torch.log1p(d / 0.5), d - c).mean()


@right
def barlow_twins(a: Annotated[Float[Tensor, "batch d"], NATURAL], b: Annotated[Float[Tensor, "batch d"], NATURAL]):
    c = a.T @ b / len(a)
    on = (torch.diagonal(c) - 1).pow(2).sum()
    off = (c - torch.diag(torch.diagonal(c))).pow(2).sum()
    return on + 5e-3 * off


@right
def total_variation(x: Matrix):
    return (x[1:] - x[:-1]).abs().sum() + (x[:, 1:] - x[:, :-1]).abs().sum()
