"""Moments, tests, regressions, likelihoods of models."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval, Lt
from jaxtyping import Float, Int
from torch import Tensor

from tests.everyday.corpus import NATURAL, POSITIVE, SMALL, Batch, Scalar, Vector, by_hand, right, wrong

Sample = Annotated[Float[Tensor, "5"], NATURAL]
Data = Annotated[Batch, NATURAL]


@right
def variance(x: Sample):
    return ((x - x.mean()) ** 2).sum() / (len(x) - 1)


@right
def standard_deviation(x: Sample):
    return x.std()


@wrong
def deviation_by_moments(x: Annotated[Float[Tensor, "n"], SMALL]):
    return (x.pow(2).mean() - x.mean() ** 2).clamp(min=0).sqrt()


var_rule = by_hand(lambda x: x.var(), lambda g, x: g * 2 * (x - x.mean()) / (len(x) - 1))
var_slip = by_hand(lambda x: x.var(), lambda g, x: g * 2 * (x - x.mean()) / len(x))


@right
def variance_rule(x: Sample):
    return var_rule(x)


@wrong
def variance_correction(x: Sample):
    return var_slip(x)


@right
def z_scores(x: Sample):
    return (x - x.mean()) / (x.std() + 0.1)


@right
def skewness(x: Annotated[Float[Tensor, "4"], NATURAL]):
    d = x - x.mean()
    return (d**3).mean() / ((d**2).mean() + 0.1) ** 1.5


@right
def kurtosis(x: Annotated[Float[Tensor, "4"], NATURAL]):
    d = x - x.mean()
    return (d**4).mean() / ((d**2).mean() + 0.1) ** 2 - 3


@right
def covariance(x: Annotated[Float[Tensor, "3 4"], NATURAL]):
    return torch.cov(x)


@right
def pearson(x: Sample, y: Sample):
    a, b = x - x.mean(), y - y.mean()
    return (a * b).sum() / torch.sqrt((a * a).sum() * (b * b).sum() + 1e-2)


@right
def concordance(x: Sample, y: Sample):
    c = ((x - x.mean()) * (y - y.mean())).mean()
    return 2 * c / (x.var(correction=0) + y.var(correction=0) + (x.mean() - y.mean()) ** 2 + 1e-2)


@right
def r_squared(x: Sample, y: Annotated[Float[Tensor, "5"], NATURAL]):
    return 1 - (y - x).square().sum() / ((y - y.mean()).square().sum() + 0.1)


@right
def geometric_mean(x: Annotated[Vector, POSITIVE]):
    return x.log().mean().exp()


geometric_slip = by_hand(lambda x: x.log().mean().exp(), lambda g, x: g * x.log().mean().exp() / x)


@wrong
def geometric_mean_sum(x: Annotated[Vector, POSITIVE]):
    return geometric_slip(x)


@right
def harmonic_mean(x: Annotated[Vector, POSITIVE]):
    return len(x) / (1 / x).sum()


@right
def power_mean(x: Annotated[Vector, POSITIVE], p: Annotated[Scalar, Interval(ge=0.5, le=3)]):
    return (x**p).mean() ** (1 / p)


@right
def trimmed_mean(x: Sample):
    return x.sort().values[1:-1].mean()


@right
def median_deviation(x: Sample):
    return (x - x.median()).abs().median()


@right
def quantile(x: Sample):
    return torch.quantile(x, 0.3)


@right
def t_statistic(x: Annotated[Float[Tensor, "4"], NATURAL], y: Annotated[Float[Tensor, "4"], NATURAL]):
    return (x.mean() - y.mean()) / torch.sqrt((x.var() + y.var()) / 4 + 0.01)


@right
def chi_squared(observed: Annotated[Vector, POSITIVE], expected: Annotated[Vector, POSITIVE]):
    return ((observed - expected) ** 2 / expected).sum()


@wrong(
    gradient=lambda observed, expected: {
        "observed": 2 * (observed - expected) / expected,
        "expected": -2 * (observed - expected) / expected,
    }
)
def chi_squared_denominator(observed: Annotated[Vector, POSITIVE], expected: Annotated[Vector, POSITIVE]):
    return ((observed - expected) ** 2 / expected).sum()


@right
def logistic_regression(
    x: Data, w: Annotated[Float[Tensor, "d"], SMALL], y: Annotated[Int[Tensor, "batch"], Ge(0), Lt(2)]
):
    return F.binary_cross_entropy_with_logits(x @ w, y.to(x.dtype)) + 0.01 * w.square().sum()


@right
def poisson_regression(
    x: Annotated[Batch, SMALL],
    w: Annotated[Float[Tensor, "d"], SMALL],
    y: Annotated[Int[Tensor, "batch"], Ge(0), Lt(5)],
):
    eta = x @ w
    return (eta.exp() - y * eta).sum()


@right
def ridge(x: Annotated[Float[Tensor, "4 2"], NATURAL], y: Annotated[Float[Tensor, "4"], NATURAL]):
    gram = x.T @ x + torch.eye(2, dtype=x.dtype)
    return torch.linalg.solve(gram, x.T @ y)


@right
def lasso(x: Data, w: Annotated[Float[Tensor, "d"], NATURAL], y: Annotated[Float[Tensor, "batch"], NATURAL]):
    return 0.5 * (x @ w - y).square().mean() + 0.1 * w.abs().sum()


@right
def soft_threshold(x: Annotated[Vector, NATURAL], t: Annotated[Scalar, Interval(ge=0.1, le=1)]):
    return x.sign() * F.relu(x.abs() - t)


@right
def cox(score: Annotated[Float[Tensor, "4"], NATURAL]):
    event = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=score.dtype)
    return -((score - torch.logcumsumexp(score, 0)) * event).sum()


@right
def ordinal(score: Annotated[Scalar, NATURAL], cuts: Annotated[Float[Tensor, "2"], Interval(ge=0.5, le=2)]):
    c = torch.cumsum(cuts, 0) - 2
    p = torch.sigmoid(c - score)
    return torch.log(torch.cat([p[:1], p[1:] - p[:-1], 1 - p[-1:]])).sum()


@right
def rbf_kernel(
    a: Annotated[Float[Tensor, "n d"], NATURAL],
    b: Annotated[Float[Tensor, "m d"], NATURAL],
    length: Annotated[Scalar, POSITIVE],
):
    d = (a[:, None] - b[None]).square().sum(-1)
    return torch.exp(-d / (2 * length**2))


@right
def mmd(a: Annotated[Float[Tensor, "3"], NATURAL], b: Annotated[Float[Tensor, "3"], NATURAL]):
    def k(x, y):
        return torch.exp(-0.5 * (x[:, None] - y[None]) ** 2).mean()

    return k(a, a) + k(b, b) - 2 * k(a, b)


@right
def gaussian_process_likelihood(
    y: Annotated[Float[Tensor, "3"], NATURAL], length: Annotated[Scalar, Interval(ge=0.5, le=3)]
):
    t = torch.arange(3, dtype=y.dtype)
    k = torch.exp(-((t[:, None] - t) ** 2) / (2 * length**2)) + 0.5 * torch.eye(3, dtype=y.dtype)
    chol = torch.linalg.cholesky(k)
    a = torch.cholesky_solve(y[:, None], chol)[:, 0]
    return 0.5 * y @ a + chol.diagonal().log().sum() + 1.5 * math.log(2 * math.pi)


@right
def matern_half(x: Annotated[Float[Tensor, "4"], NATURAL], length: Annotated[Scalar, POSITIVE]):
    return torch.exp(-(x[:, None] - x).abs() / length)


@wrong
def matern_by_root(x: Annotated[Float[Tensor, "3 2"], NATURAL]):
    r = (x[:, None] - x).square().sum(-1).sqrt()
    return (1 + r) * torch.exp(-r)


@right
def hidden_markov_step(
    a: Annotated[Float[Tensor, "3"], NATURAL],
    t: Annotated[Float[Tensor, "3 3"], NATURAL],
    e: Annotated[Float[Tensor, "3"], NATURAL],
):
    return torch.logsumexp(a[:, None] + t.log_softmax(1), 0) + e


@right
def kalman_gain(p: Annotated[Scalar, POSITIVE], r: Annotated[Scalar, POSITIVE]):
    return p / (p + r)


@right
def kalman_update(m: Annotated[Scalar, NATURAL], p: Annotated[Scalar, POSITIVE], y: Annotated[Scalar, NATURAL]):
    gain = p / (p + 0.5)
    return m + gain * (y - m), (1 - gain) * p


@right
def perplexity(logits: Annotated[Float[Tensor, "n v"], NATURAL], y: Annotated[Int[Tensor, "n"], Ge(0), Lt("v")]):
    return F.cross_entropy(logits, y).exp()


@right
def mutual_information(p: Annotated[Float[Tensor, "2 2"], Interval(ge=0.1, le=1)]):
    p = p / p.sum()
    return (p * (p / (p.sum(0) * p.sum(1, keepdim=True))).log()).sum()
