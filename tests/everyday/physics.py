"""Energies, forces, steps of differential equations."""

import math
from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor

from tests.everyday.corpus import ANGLE, NATURAL, POSITIVE, SMALL, Scalar, Vector, by_hand, right, wrong

State = Annotated[Vector, SMALL]
Positive = Annotated[Scalar, POSITIVE]


@right
def oscillator_energy(x: Annotated[Vector, NATURAL], v: Annotated[Vector, NATURAL], k: Positive):
    return 0.5 * v.square().sum() + 0.5 * k * x.square().sum()


@right
def pendulum_euler(theta: Annotated[Scalar, ANGLE], omega: Annotated[Scalar, NATURAL]):
    for _ in range(4):
        omega = omega - 0.1 * torch.sin(theta)
        theta = theta + 0.1 * omega
    return theta, omega


@right
def van_der_pol_rk4(
    x: Annotated[Scalar, SMALL], v: Annotated[Scalar, SMALL], mu: Annotated[Scalar, Interval(ge=0, le=1)]
):
    def f(x, v):
        return v, mu * (1 - x * x) * v - x

    h = 0.1
    a1, b1 = f(x, v)
    a2, b2 = f(x + h / 2 * a1, v + h / 2 * b1)
    return x + h * a2, v + h * b2


@right
def leapfrog(q: State, p: State):
    p = p - 0.05 * q**3
    q = q + 0.1 * p
    return q, p - 0.05 * q**3


@right
def lotka_volterra(x: Positive, y: Positive, a: Positive):
    return x + 0.1 * (a * x - 0.5 * x * y), y + 0.1 * (0.2 * x * y - y)


@right
def lorenz(s: Annotated[Float[Tensor, "3"], NATURAL]):
    x, y, z = s.unbind()
    return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])


@right
def lennard_jones(r: Annotated[Vector, Interval(ge=0.8, le=3)]):
    s = (1 / r) ** 6
    return 4 * (s * s - s).sum()


lj_rule = by_hand(lambda r: 4 * (r**-12 - r**-6), lambda g, r: g * 4 * (-12 * r**-13 + 6 * r**-7))
lj_slip = by_hand(lambda r: 4 * (r**-12 - r**-6), lambda g, r: g * 4 * (-12 * r**-13 + 6 * r**-6))


@right
def pair_potential(r: Annotated[Vector, Interval(ge=0.8, le=3)]):
    return lj_rule(r)


@wrong
def pair_potential_power(r: Annotated[Vector, Interval(ge=0.8, le=3)]):
    return lj_slip(r)


@right
def coulomb(x: Annotated[Float[Tensor, "3 3"], NATURAL], q: Annotated[Float[Tensor, "3"], SMALL]):
    d = x[:, None] - x[None]
    r = torch.sqrt(d.square().sum(-1) + 0.01)
    energy = q[:, None] * q / r
    return energy.triu(1).sum()


@wrong
def coulomb_with_itself(x: Annotated[Float[Tensor, "3 2"], NATURAL]):
    r = (x[:, None] - x).square().sum(-1).sqrt()
    off = ~torch.eye(len(x), dtype=torch.bool)
    return torch.where(off & (r > 0.5), 1 / r, torch.zeros_like(r)).sum()


@right
def coulomb_by_cdist(x: Annotated[Float[Tensor, "3 2"], NATURAL]):
    """Its backward pass leaves out what lies at distance 0, NaN included."""
    r = torch.cdist(x, x)
    off = ~torch.eye(len(x), dtype=torch.bool)
    return torch.where(off & (r > 0.5), 1 / r, torch.zeros_like(r)).sum()


@right
def morse(r: Annotated[Vector, Interval(ge=0.5, le=4)], a: Positive):
    return (1 - torch.exp(-a * (r - 1))) ** 2


@right
def kepler_force(x: Annotated[Float[Tensor, "3"], Interval(ge=0.5, le=3)]):
    return -x / x.norm() ** 3


@right
def relativistic(v: Annotated[Vector, Interval(ge=-0.9, le=0.9)]):
    return 1 / torch.sqrt(1 - v * v)


@wrong(gradient=lambda v: v * (1 - v * v) ** -0.5)
def relativistic_power(v: Annotated[Vector, Interval(ge=-0.9, le=0.9)]):
    return 1 / torch.sqrt(1 - v * v)


@right
def planck(x: Annotated[Vector, Interval(ge=0.1, le=10)]):
    return x**3 / torch.expm1(x)


@wrong
def planck_at_zero(x: Annotated[Vector, Interval(ge=0, le=10)]):
    return torch.where(x > 0, x**3 / torch.expm1(x), torch.zeros_like(x))


@right
def van_der_waals(t: Positive, v: Annotated[Scalar, Interval(ge=1, le=9)]):
    return t / (v - 0.1) - 0.5 / v**2


@right
def fermi(e: Annotated[Vector, SMALL], mu: Annotated[Scalar, SMALL], t: Annotated[Scalar, Interval(ge=0.5, le=4)]):
    return torch.sigmoid(-(e - mu) / t)


@right
def partition_function(e: Annotated[Vector, NATURAL], t: Annotated[Scalar, Interval(ge=0.5, le=5)]):
    return -t * torch.logsumexp(-e / t, 0)


@right
def heat_step(u: Vector):
    left, right_ = torch.roll(u, 1), torch.roll(u, -1)
    return u + 0.1 * (left - 2 * u + right_)


@right
def burgers_step(u: State):
    dx = (torch.roll(u, -1) - torch.roll(u, 1)) / 2
    return u - 0.1 * u * dx


@right
def wave_with_walls(u: Float[Tensor, "5"], v: Float[Tensor, "5"]):
    acceleration = torch.zeros_like(u)
    acceleration[1:-1] = u[2:] - 2 * u[1:-1] + u[:-2]
    v = v + 0.1 * acceleration
    return u + 0.1 * v


@right
def ising_energy(s: Annotated[Float[Tensor, "3 3"], SMALL]):
    return -(s * (torch.roll(s, 1, 0) + torch.roll(s, 1, 1))).sum()


@right
def doppler(f: Positive, v: Annotated[Scalar, Interval(ge=-0.5, le=0.5)]):
    return f * torch.sqrt((1 + v) / (1 - v))


@right
def snell(theta: Annotated[Vector, Interval(ge=-0.9, le=0.9)]):
    return torch.asin(torch.sin(theta) / 1.5)


@right
def physics_informed(x: State, a: Annotated[Scalar, POSITIVE]):
    u = torch.sin(a * x)
    (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return ((du + u) ** 2).mean()


@right
def gradient_penalty(x: Annotated[Float[Tensor, "b d"], SMALL], w: Annotated[Float[Tensor, "d"], POSITIVE]):
    score = torch.tanh(x @ w)
    (g,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    return ((g.square().sum(1) + 1e-3).sqrt() - 1).square().mean()


@right
def hamiltonian_flow(q: State, p: State):
    def energy(q, p):
        return 0.5 * (p * p).sum() + torch.cos(q).sum()

    dq = torch.func.grad(energy, argnums=1)(q, p)
    dp = -torch.func.grad(energy, argnums=0)(q, p)
    return q + 0.1 * dq, p + 0.1 * dp


@right
def projectile(v: Positive, angle: Annotated[Scalar, Interval(ge=0.1, le=1.4)]):
    return v**2 * torch.sin(2 * angle) / 9.81


@right
def gaussian_packet(x: Annotated[Vector, NATURAL], s: Positive):
    return torch.exp(-(x**2) / (4 * s**2)) / (2 * math.pi * s**2) ** 0.25


@right
def implicit_euler(x: State):
    a = torch.tensor([[1.2, -0.1], [-0.1, 1.3]], dtype=x.dtype)
    return torch.linalg.solve(a, torch.stack([x.sum(), x.prod()]))
