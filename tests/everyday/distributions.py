"""Log-probabilities, divergences, reparameterised samples of given noise."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval, Lt
from jaxtyping import Float, Int
from torch import Tensor
from torch import distributions as dist

from tests.everyday.corpus import INSIDE, NATURAL, POSITIVE, Scalar, Vector, by_hand, right, wrong

Real = Annotated[Vector, NATURAL]
Scale = Annotated[Vector, POSITIVE]
Half = Annotated[Vector, Interval(ge=0.05, le=0.95)]
Counts = Annotated[Int[Tensor, "n"], Ge(0), Lt(6)]


@right(gradient=lambda x, m, s: {"x": (m - x) / s**2, "m": (x - m) / s**2, "s": (x - m) ** 2 / s**3 - 1 / s})
def normal_log_prob(x: Real, m: Real, s: Scale):
    return -((x - m) ** 2) / (2 * s**2) - s.log() - 0.5 * math.log(2 * math.pi)


@wrong(gradient=lambda x, m, s: {"x": (m - x) / s**2, "m": (x - m) / s**2, "s": (x - m) ** 2 / s**3 + 1 / s})
def normal_scale_sign(x: Real, m: Real, s: Scale):
    return -((x - m) ** 2) / (2 * s**2) - s.log() - 0.5 * math.log(2 * math.pi)


@right
def normal(x: Real, m: Real, s: Scale):
    return dist.Normal(m, s).log_prob(x).sum()


@right
def laplace(x: Real, m: Real, b: Scale):
    return dist.Laplace(m, b).log_prob(x)


@right
def cauchy(x: Real, m: Real, s: Scale):
    return dist.Cauchy(m, s).log_prob(x)


@right
def student_t(x: Real, nu: Annotated[Vector, Interval(ge=1, le=10)]):
    return (
        torch.lgamma((nu + 1) / 2)
        - torch.lgamma(nu / 2)
        - 0.5 * (nu * math.pi).log()
        - (nu + 1) / 2 * torch.log1p(x**2 / nu)
    )


@right
def gamma(x: Scale, a: Scale, b: Scale):
    return dist.Gamma(a, b).log_prob(x)


gamma_rule = by_hand(
    lambda x, a: (a - 1) * x.log() - x - torch.lgamma(a),
    lambda g, x, a: (g * ((a - 1) / x - 1), g * (x.log() - torch.digamma(a))),
)
gamma_slip = by_hand(
    lambda x, a: (a - 1) * x.log() - x - torch.lgamma(a),
    lambda g, x, a: (g * ((a - 1) / x - 1), g * (x.log() - torch.lgamma(a))),
)


@right
def gamma_unit_rate(x: Scale, a: Annotated[Vector, Interval(ge=2, le=8)]):
    return gamma_rule(x, a)


@wrong
def gamma_without_digamma(x: Scale, a: Annotated[Vector, Interval(ge=2, le=8)]):
    return gamma_slip(x, a)


@right
def beta(x: Half, a: Scale, b: Scale):
    return dist.Beta(a, b).log_prob(x)


@right
def dirichlet(a: Annotated[Float[Tensor, "3"], POSITIVE]):
    x = torch.tensor([0.2, 0.3, 0.5], dtype=a.dtype)
    return ((a - 1) * x.log()).sum() + torch.lgamma(a.sum()) - torch.lgamma(a).sum()


@right
def exponential(x: Scale, rate: Scale):
    return rate.log() - rate * x


@right
def weibull(x: Scale, k: Annotated[Vector, Interval(ge=0.5, le=3)], lam: Scale):
    return k.log() - lam.log() + (k - 1) * (x / lam).log() - (x / lam) ** k


@right
def poisson(rate: Scale, k: Counts):
    return dist.Poisson(rate).log_prob(k.to(rate.dtype))


@right
def negative_binomial(r: Scale, p: Half, k: Counts):
    k = k.to(r.dtype)
    return torch.lgamma(k + r) - torch.lgamma(k + 1) - torch.lgamma(r) + r * torch.log1p(-p) + k * p.log()


@right
def bernoulli(p: Half, y: Annotated[Int[Tensor, "n"], Ge(0), Lt(2)]):
    return torch.xlogy(y.to(p.dtype), p) + torch.xlogy(1 - y.to(p.dtype), 1 - p)


@right
def categorical(logits: Annotated[Float[Tensor, "b k"], NATURAL], y: Annotated[Int[Tensor, "b"], Ge(0), Lt("k")]):
    return dist.Categorical(logits=logits).log_prob(y)


@right
def categorical_entropy(logits: Annotated[Float[Tensor, "b k"], NATURAL]):
    logp = logits.log_softmax(-1)
    return -(logp.exp() * logp).sum(-1)


@right
def von_mises(x: Annotated[Vector, Interval(ge=-3, le=3)], k: Annotated[Vector, POSITIVE]):
    return k * torch.cos(x) - math.log(2 * math.pi) - torch.log(torch.special.i0e(k)) - k


@right
def logistic(x: Real, m: Real, s: Annotated[Vector, Interval(ge=0.5, le=4)]):
    z = (x - m) / s
    return -z - s.log() - 2 * F.softplus(-z)


@right
def gumbel(x: Real):
    return -(x + torch.exp(-x))


@right
def log_normal(x: Scale, m: Real, s: Scale):
    return dist.LogNormal(m, s).log_prob(x)


@right
def pareto(x: Annotated[Vector, Interval(ge=2, le=9)], a: Scale):
    return a.log() + a * math.log(1.5) - (a + 1) * x.log()


@right
def mixture_of_normals(
    x: Annotated[Scalar, NATURAL], w: Real, m: Real, log_s: Annotated[Vector, Interval(ge=-1, le=1)]
):
    parts = w.log_softmax(0) - 0.5 * ((x - m) / log_s.exp()) ** 2 - log_s
    return torch.logsumexp(parts, 0)


mix_slip = by_hand(lambda a: torch.logsumexp(a, 0), lambda g, a: g * F.one_hot(a.argmax(0), len(a)).to(a.dtype))
mix_rule = by_hand(lambda a: torch.logsumexp(a, 0), lambda g, a: g * a.softmax(0))


@right
def log_evidence(a: Real):
    return mix_rule(a)


@wrong
def log_evidence_of_largest(a: Real):
    return mix_slip(a)


@right
def multivariate_normal(
    x: Annotated[Float[Tensor, "2"], NATURAL], d: Annotated[Float[Tensor, "2"], POSITIVE], c: Annotated[Scalar, NATURAL]
):
    zero = torch.zeros_like(c)
    scale = torch.stack([torch.stack([d[0], zero]), torch.stack([c, d[1]])])
    z = torch.linalg.solve_triangular(scale, x[:, None], upper=False)
    return -0.5 * (z**2).sum() - d.log().sum() - math.log(2 * math.pi)


@right
def kl_normal(m1: Real, s1: Scale, m2: Real, s2: Scale):
    return (s2 / s1).log() + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5


@right
def kl_to_standard(m: Real, log_var: Annotated[Vector, NATURAL]):
    return -0.5 * torch.sum(1 + log_var - m.pow(2) - log_var.exp())


kl_slip = by_hand(
    lambda m, v: -0.5 * torch.sum(1 + v - m**2 - v.exp()), lambda g, m, v: (g * m, 0.5 * g * (v.exp() + 1))
)


@wrong
def kl_to_standard_sign(m: Real, log_var: Annotated[Vector, NATURAL]):
    return kl_slip(m, log_var)


@right
def kl_beta(a: Scale, b: Scale):
    return dist.kl_divergence(dist.Beta(a, b), dist.Beta(torch.full_like(a, 2.0), torch.full_like(b, 3.0)))


@right
def kl_bernoulli(p: Half, q: Half):
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


@right
def kl_categorical(p: Annotated[Float[Tensor, "b k"], NATURAL], q: Annotated[Float[Tensor, "b k"], NATURAL]):
    return dist.kl_divergence(dist.Categorical(logits=p), dist.Categorical(logits=q))


@right
def elbo(m: Real, log_s: Annotated[Vector, Interval(ge=-2, le=2)], eps: Real, x: Real):
    z = m + log_s.exp() * eps
    return -0.5 * ((x - z.tanh()) ** 2).sum() + 0.5 * (1 + 2 * log_s - m**2 - (2 * log_s).exp()).sum()


@right
def tanh_normal(u: Real):
    return -0.5 * u**2 - 2 * (math.log(2) - u - F.softplus(-2 * u))


@right
def planar_flow(z: Real, w: Real, u: Real, b: Annotated[Scalar, NATURAL]):
    h = torch.tanh(w @ z + b)
    return z + u * h


@right
def affine_coupling(
    x: Annotated[Float[Tensor, "n 4"], NATURAL], w: Annotated[Float[Tensor, "2 4"], Interval(ge=-0.5, le=0.5)]
):
    a, b = x.chunk(2, -1)
    s, t = (a @ w).chunk(2, -1)
    return torch.cat([a, b * torch.exp(s) + t], -1), s.sum(-1)


@right
def truncated_below(x: Real, m: Annotated[Vector, Interval(ge=-2, le=2)]):
    return -0.5 * (x - m) ** 2 - torch.special.log_ndtr(m)


@right
def hurdle(p: Annotated[Vector, INSIDE], k: Counts):
    p = p.clamp(0.01, 0.99)
    return torch.where(k == 0, torch.log(p), torch.log1p(-p))


@wrong
def hurdle_unguarded(rate: Annotated[Vector, Interval(ge=0, le=4)], k: Counts):
    return torch.where(rate > 0, k * rate.log() - rate, torch.zeros_like(rate))
