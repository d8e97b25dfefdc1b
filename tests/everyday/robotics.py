"""Arms, poses, control, estimation."""

from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor

from tests.everyday.corpus import ANGLE, NATURAL, POSITIVE, SMALL, Point, Scalar, by_hand, right, wrong

Pose = Annotated[Float[Tensor, "3"], ANGLE]
Joints = Annotated[Float[Tensor, "2"], ANGLE]


@right(
    gradient=lambda q: torch.stack(
        [q[0].cos() - q[0].sin() + q.sum().cos() - q.sum().sin(), q.sum().cos() - q.sum().sin()]
    )
)
def two_link_arm(q: Joints):
    a = q[0] + q[1]
    return torch.stack([q[0].cos() + a.cos(), q[0].sin() + a.sin()])


@wrong(
    gradient=lambda q: torch.stack([q[0].cos() - q[0].sin() + q.sum().cos() - q.sum().sin(), q[1].cos() - q[1].sin()])
)
def two_link_arm_local_angle(q: Joints):
    a = q[0] + q[1]
    return torch.stack([q[0].cos() + a.cos(), q[0].sin() + a.sin()])


@right
def compose_poses(a: Pose, b: Pose):
    c, s = a[2].cos(), a[2].sin()
    return torch.stack([a[0] + c * b[0] - s * b[1], a[1] + s * b[0] + c * b[1], a[2] + b[2]])


@right
def unicycle(x: Pose, v: Annotated[Scalar, SMALL], w: Annotated[Scalar, SMALL]):
    return x + 0.1 * torch.stack([v * x[2].cos(), v * x[2].sin(), w])


@right
def bicycle(
    theta: Annotated[Scalar, ANGLE], v: Annotated[Scalar, POSITIVE], delta: Annotated[Scalar, Interval(ge=-0.6, le=0.6)]
):
    beta = torch.atan(0.5 * torch.tan(delta))
    return v * torch.cos(theta + beta), v * torch.sin(theta + beta), v * torch.sin(beta) / 0.5


@right
def bearing_angle(
    x: Annotated[Float[Tensor, "2"], Interval(ge=-4, le=-1)],
    landmark: Annotated[Float[Tensor, "2"], Interval(ge=0, le=4)],
):
    d = landmark - x
    return torch.atan2(d[1], d[0])


@right
def bearing(
    x: Annotated[Float[Tensor, "2"], Interval(ge=-4, le=-1)],
    landmark: Annotated[Float[Tensor, "2"], Interval(ge=0, le=4)],
):
    d = landmark - x
    return torch.atan2(d[1], d[0]), torch.hypot(d[0], d[1])


bearing_slip = by_hand(
    lambda y, x: torch.atan2(y, x), lambda g, y, x: (g * y / (x * x + y * y), -g * x / (x * x + y * y))
)
bearing_rule = by_hand(
    lambda y, x: torch.atan2(y, x), lambda g, y, x: (g * x / (x * x + y * y), -g * y / (x * x + y * y))
)


@right
def heading(y: Annotated[Scalar, POSITIVE], x: Annotated[Scalar, NATURAL]):
    return bearing_rule(y, x)


@wrong
def heading_exchanged(y: Annotated[Scalar, POSITIVE], x: Annotated[Scalar, NATURAL]):
    return bearing_slip(y, x)


@right
def wrapped_angle(a: Annotated[Scalar, NATURAL], b: Annotated[Scalar, NATURAL]):
    d = a - b
    return torch.atan2(torch.sin(d), torch.cos(d)) ** 2


@right
def quadratic_cost(x: Annotated[Float[Tensor, "t 2"], NATURAL], u: Annotated[Float[Tensor, "t"], NATURAL]):
    q = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=x.dtype)
    return torch.einsum("ti,ij,tj->", x, q, x) + 0.1 * u.square().sum()


@right
def rollout(x: Annotated[Float[Tensor, "2"], SMALL], u: Annotated[Float[Tensor, "4"], SMALL]):
    a = torch.tensor([[1.0, 0.1], [0.0, 0.9]], dtype=x.dtype)
    b = torch.tensor([0.0, 0.1], dtype=x.dtype)
    cost = x.new_zeros(())
    for k in range(4):
        x = a @ x + b * u[k]
        cost = cost + x @ x + 0.01 * u[k] ** 2
    return cost


@right
def riccati_step(p: Annotated[Float[Tensor, "2 2"], SMALL]):
    p = p @ p.T + torch.eye(2, dtype=p.dtype)
    a = torch.tensor([[1.0, 0.1], [0.0, 1.0]], dtype=p.dtype)
    b = torch.tensor([[0.0], [0.1]], dtype=p.dtype)
    gain = b.T @ p @ a / (1 + b.T @ p @ b)
    return a.T @ p @ a - a.T @ p @ b @ gain


@right
def barrier(x: Annotated[Float[Tensor, "n"], Interval(ge=-0.9, le=0.9)]):
    return -torch.log(1 - x**2).sum()


@right
def obstacle_cost(x: Annotated[Float[Tensor, "n 2"], NATURAL]):
    d = torch.linalg.vector_norm(x - 0.5, dim=-1)
    return torch.where(d < 1, (1 - d) ** 2, torch.zeros_like(d)).sum()


@right
def smoothness(x: Annotated[Float[Tensor, "5 2"], NATURAL]):
    return torch.diff(x, n=2, dim=0).square().sum()


@right
def extended_kalman(
    x: Annotated[Float[Tensor, "2"], Interval(ge=0.5, le=4)],
    p: Annotated[Scalar, POSITIVE],
    z: Annotated[Scalar, POSITIVE],
):
    r = x.norm()
    h = x / r
    s = p * (h @ h) + 0.1
    return x + p * h / s * (z - r)


@right
def huber_weighted_residual(x: Annotated[Point, NATURAL], y: Annotated[Point, NATURAL]):
    e = (x - y).square().sum()
    return torch.where(e < 1, e, 2 * torch.sqrt(e.clamp(min=1)) - 1)


@wrong
def range_residual_at_the_sensor(x: Annotated[Float[Tensor, "2"], NATURAL]):
    r = (x @ x).sqrt()
    return torch.where(r > 0.5, (r - 1) ** 2, 0.5 * r)


@right
def geman_mcclure(e: Annotated[Float[Tensor, "n"], NATURAL]):
    return (e**2 / (1 + e**2)).sum()


@right
def screw_motion(w: Annotated[Scalar, ANGLE], v: Annotated[Point, NATURAL]):
    c, s = torch.cos(w), torch.sin(w)
    rotation = torch.eye(3, dtype=v.dtype)
    rotation[0, 0], rotation[0, 1] = c, -s
    rotation[1, 0], rotation[1, 1] = s, c
    return rotation @ v


@right
def trapezoidal_profile(t: Annotated[Float[Tensor, "n"], Interval(ge=0, le=3)]):
    return torch.minimum(torch.minimum(t, torch.ones_like(t)), 3 - t)


@right
def spline_through(p: Annotated[Float[Tensor, "3"], NATURAL], t: Annotated[Scalar, Interval(ge=0, le=2)]):
    i = 0 if t < 1 else 1
    u = t - i
    return p[i] + (p[i + 1] - p[i]) * (3 * u**2 - 2 * u**3)
