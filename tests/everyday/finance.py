"""Prices, rates, portfolios."""

import math
from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor

from tests.everyday.corpus import NATURAL, POSITIVE, Scalar, Vector, by_hand, right, wrong

Price = Annotated[Scalar, Interval(ge=50, le=150)]
Rate = Annotated[Scalar, Interval(ge=0, le=0.1)]
Years = Annotated[Scalar, Interval(ge=0.25, le=4)]
Volatility = Annotated[Scalar, Interval(ge=0.1, le=0.6)]
Returns = Annotated[Vector, Interval(ge=-0.2, le=0.2)]


def _cdf(x):
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def _call(s, k, r, sigma, t):
    d1 = (torch.log(s / k) + (r + sigma**2 / 2) * t) / (sigma * t.sqrt())
    return s * _cdf(d1) - k * torch.exp(-r * t) * _cdf(d1 - sigma * t.sqrt())


@right
def black_scholes(s: Price, k: Price, r: Rate, sigma: Volatility, t: Years):
    return _call(s, k, r, sigma, t)


@right(
    gradient=lambda s, sigma: {
        "s": _cdf(torch.log(s / 100) / sigma + sigma / 2),
        "sigma": s * torch.exp(-((torch.log(s / 100) / sigma + sigma / 2) ** 2) / 2) / math.sqrt(2 * math.pi),
    }
)
def call_without_rate(s: Price, sigma: Volatility):
    return _call(s, torch.full_like(s, 100.0), torch.zeros_like(s), sigma, torch.ones_like(s))


@wrong(
    gradient=lambda s, sigma: {
        "s": _cdf(torch.log(s / 100) / sigma - sigma / 2),
        "sigma": s * torch.exp(-((torch.log(s / 100) / sigma + sigma / 2) ** 2) / 2) / math.sqrt(2 * math.pi),
    }
)
def call_delta_of_other_d(s: Price, sigma: Volatility):
    return _call(s, torch.full_like(s, 100.0), torch.zeros_like(s), sigma, torch.ones_like(s))


@right
def bond(coupon: Annotated[Scalar, Interval(ge=0, le=10)], y: Rate):
    t = torch.arange(1, 6, dtype=y.dtype)
    return (coupon * (1 + y) ** -t).sum() + 100 * (1 + y) ** -5


@right
def continuously_compounded(cash: Annotated[Vector, Interval(ge=-100, le=100)], r: Rate):
    t = torch.arange(len(cash), dtype=cash.dtype)
    return (cash * torch.exp(-r * t)).sum()


@right
def annuity(payment: Annotated[Scalar, POSITIVE], r: Annotated[Scalar, Interval(ge=0.01, le=0.1)]):
    return payment * (1 - (1 + r) ** -10) / r


@wrong
def annuity_at_zero(r: Rate):
    return torch.where(r > 0, (1 - (1 + r) ** -10) / r, torch.full_like(r, 10.0))


@right
def sharpe(r: Annotated[Float[Tensor, "5"], Interval(ge=-0.2, le=0.2)]):
    return r.mean() / (r.std() + 1e-2)


@right
def portfolio_variance(
    w: Annotated[Float[Tensor, "3"], Interval(ge=0, le=1)], factor: Annotated[Float[Tensor, "3 3"], NATURAL]
):
    return w @ (factor @ factor.T) @ w


variance_slip = by_hand(lambda w, c: w @ c @ w, lambda g, w, c: (2 * g * (c @ w), g * torch.outer(w, w)))


@wrong
def variance_of_asymmetric(w: Annotated[Vector, NATURAL], c: Annotated[Float[Tensor, "n n"], NATURAL]):
    return variance_slip(w, c)


@right
def wealth(r: Returns):
    return torch.cumprod(1 + r, 0)


wealth_slip = by_hand(lambda r: (1 + r).prod(), lambda g, r: g * (1 + r).prod() / r)


@wrong
def wealth_divided(r: Annotated[Vector, Interval(ge=0.1, le=0.2)]):
    return wealth_slip(r)


@right
def drawdown(r: Returns):
    w = torch.cumsum(r, 0)
    peak = torch.cummax(w, 0).values
    return (peak - w).max()


@right
def log_returns(p: Annotated[Vector, Interval(ge=50, le=150)]):
    return torch.diff(p.log())


@right
def expected_shortfall(r: Annotated[Float[Tensor, "6"], Interval(ge=-0.2, le=0.2)]):
    return -torch.sort(r).values[:2].mean()


@right
def crra(c: Annotated[Vector, POSITIVE], g: Annotated[Scalar, Interval(ge=1.5, le=5)]):
    return ((c ** (1 - g) - 1) / (1 - g)).mean()


@right
def payoff(s: Annotated[Vector, Interval(ge=50, le=150)], k: Price):
    return torch.clamp(s - k, min=0).mean()


@right
def asian_option(z: Annotated[Float[Tensor, "4"], NATURAL], s: Price, sigma: Volatility):
    path = s * torch.exp(torch.cumsum(0.1 * sigma * z - 0.005 * sigma**2, 0))
    return torch.relu(path.mean() - 100)


@right
def nelson_siegel(
    t: Annotated[Vector, Interval(ge=0.5, le=30)],
    b: Annotated[Float[Tensor, "3"], NATURAL],
    lam: Annotated[Scalar, Interval(ge=0.3, le=2)],
):
    x = lam * t
    slope = -torch.expm1(-x) / x
    return b[0] + b[1] * slope + b[2] * (slope - torch.exp(-x))


@right
def ewma_variance(r: Annotated[Float[Tensor, "4"], Interval(ge=-0.2, le=0.2)]):
    v = r[0] ** 2
    for x in r[1:]:
        v = 0.94 * v + 0.06 * x**2
    return v.sqrt() if v > 0 else v


@right
def garch(
    r: Annotated[Float[Tensor, "4"], Interval(ge=-0.2, le=0.2)],
    p: Annotated[Float[Tensor, "3"], Interval(ge=0.05, le=0.4)],
):
    v = p[0]
    loss = 0.0
    for x in r:
        loss = loss + 0.5 * (v.log() + x**2 / v)
        v = p[0] + p[1] * x**2 + p[2] * v
    return loss


@right
def newton_yield(price: Annotated[Scalar, Interval(ge=90, le=110)]):
    y = torch.zeros_like(price) + 0.05
    for _ in range(2):
        f = 5 / (1 + y) + 105 / (1 + y) ** 2 - price
        df = -5 / (1 + y) ** 2 - 210 / (1 + y) ** 3
        y = y - f / df
    return y


@right
def kelly(f: Annotated[Scalar, Interval(ge=0, le=0.9)], p: Annotated[Scalar, Interval(ge=0.1, le=0.9)]):
    return p * torch.log1p(f) + (1 - p) * torch.log1p(-f)


@right
def turnover(w: Annotated[Vector, NATURAL], old: Annotated[Vector, NATURAL]):
    return 0.001 * (w.softmax(0) - old.softmax(0)).abs().sum()
