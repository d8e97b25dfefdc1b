"""Vectors, rotations, rays, cameras."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor

from tests.everyday.corpus import ANGLE, NATURAL, POSITIVE, Matrix, Point, Points, Scalar, Vector, by_hand, right, wrong

Quaternion = Float[Tensor, "4"]


@right
def normalize(x: Annotated[Points, NATURAL]):
    return F.normalize(x, dim=-1)


@right
def normalize_with_epsilon(x: Annotated[Points, NATURAL]):
    return x / (x.norm(dim=-1, keepdim=True) + 1e-8)


@wrong
def normalize_by_root(x: Annotated[Points, NATURAL]):
    n = (x * x).sum(-1, keepdim=True).sqrt()
    return x / n.clamp(min=1e-3)


@right
def distance(a: Annotated[Points, NATURAL], b: Annotated[Points, NATURAL]):
    return (a - b).norm(dim=-1)


@wrong
def distance_by_root(a: Annotated[Points, NATURAL], b: Annotated[Points, NATURAL]):
    return ((a - b) ** 2).sum(-1).sqrt()


@right
def pairwise_squared(a: Annotated[Float[Tensor, "n d"], NATURAL], b: Annotated[Float[Tensor, "m d"], NATURAL]):
    return (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)


@right
def cdist(a: Annotated[Float[Tensor, "n d"], NATURAL], b: Annotated[Float[Tensor, "m d"], NATURAL]):
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


@right
def cdist_by_products(a: Annotated[Float[Tensor, "n d"], NATURAL], b: Annotated[Float[Tensor, "m d"], NATURAL]):
    """Beyond 25 rows PyTorch takes the squares apart."""
    return torch.cdist(a, b)


@wrong
def distances_to_themselves(x: Annotated[Float[Tensor, "3 2"], NATURAL]):
    return ((x[:, None] - x[None]) ** 2).sum(-1).sqrt()


@right
def cosine_similarity(a: Annotated[Matrix, NATURAL], b: Annotated[Matrix, NATURAL]):
    return F.cosine_similarity(a, b, dim=-1)


@right
def angle_between(a: Annotated[Point, NATURAL], b: Annotated[Point, NATURAL]):
    return torch.atan2(torch.linalg.cross(a, b).norm(), torch.dot(a, b))


@right
def rotation_2d(x: Float[Tensor, "n 2"], angle: Annotated[Scalar, ANGLE]):
    c, s = torch.cos(angle), torch.sin(angle)
    return x @ torch.stack([torch.stack([c, -s]), torch.stack([s, c])]).T


def _turn(angle, x):
    return torch.stack([x[0] * angle.cos() - x[1] * angle.sin(), x[0] * angle.sin() + x[1] * angle.cos()])


turn_rule = by_hand(
    _turn,
    lambda g, a, x: (
        g[0] * (-x[0] * a.sin() - x[1] * a.cos()) + g[1] * (x[0] * a.cos() - x[1] * a.sin()),
        torch.stack([g[0] * a.cos() + g[1] * a.sin(), -g[0] * a.sin() + g[1] * a.cos()]),
    ),
)
turn_slip = by_hand(
    _turn,
    lambda g, a, x: (
        g[0] * (-x[0] * a.sin() - x[1] * a.cos()) + g[1] * (x[0] * a.cos() - x[1] * a.sin()),
        torch.stack([g[0] * a.cos() - g[1] * a.sin(), g[0] * a.sin() + g[1] * a.cos()]),
    ),
)


@right
def turn(angle: Annotated[Scalar, ANGLE], x: Float[Tensor, "2"]):
    return turn_rule(angle, x)


@wrong
def turn_transposed(angle: Annotated[Scalar, ANGLE], x: Float[Tensor, "2"]):
    return turn_slip(angle, x)


def skew(w):
    z = torch.zeros_like(w[0])
    return torch.stack([z, -w[2], w[1], w[2], z, -w[0], -w[1], w[0], z]).view(3, 3)


@right
def rodrigues(w: Annotated[Point, ANGLE], p: Point):
    theta = torch.sqrt((w * w).sum() + 1e-12)
    k = skew(w / theta)
    return (torch.eye(3).to(w) + theta.sin() * k + (1 - theta.cos()) * (k @ k)) @ p


@wrong
def rodrigues_at_zero(w: Annotated[Point, ANGLE], p: Point):
    theta = torch.sqrt((w * w).sum())
    k = skew(torch.where(theta > 0, w / theta, torch.zeros_like(w)))
    return (torch.eye(3).to(w) + theta.sin() * k + (1 - theta.cos()) * (k @ k)) @ p


@right
def exponential_map(w: Annotated[Point, ANGLE]):
    return torch.linalg.matrix_exp(skew(w))


@right
def quaternion_rotate(q: Annotated[Quaternion, NATURAL], v: Annotated[Point, NATURAL]):
    u, w = q[1:], q[0]
    t = 2 * torch.linalg.cross(u, v)
    return v + w * t + torch.linalg.cross(u, t)


@right
def quaternion_product(a: Quaternion, b: Quaternion):
    w1, x1, y1, z1 = a
    w2, x2, y2, z2 = b
    return torch.stack([
        w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
        w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
        w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
    ])  # fmt: skip


@right
def quaternion_matrix(q: Annotated[Quaternion, Interval(ge=0.1, le=2)]):
    w, x, y, z = (q / q.norm()).unbind()
    return torch.stack([
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]).reshape(3, 3)  # fmt: skip


@right
def six_d_rotation(a: Annotated[Point, POSITIVE], b: Annotated[Point, NATURAL]):
    x = F.normalize(a, dim=0)
    y = b - torch.dot(x, b) * x
    return torch.stack([x, y])


@right
def ray_sphere(o: Annotated[Point, Interval(ge=2, le=3)], d: Annotated[Point, Interval(ge=-1.1, le=-0.9)]):
    d = d / d.norm()
    b = torch.dot(o, d)
    disc = b * b - (torch.dot(o, o) - 4)
    return torch.where(disc > 0, -b - torch.sqrt(disc.clamp(min=1e-6)), torch.zeros_like(b))


@wrong
def ray_sphere_missed(o: Annotated[Point, Interval(ge=-3, le=3)], d: Annotated[Point, Interval(ge=0.5, le=1)]):
    b = torch.dot(o, d)
    disc = b * b - torch.dot(d, d) * (torch.dot(o, o) - 1)
    return torch.where(disc > 0, (-b - torch.sqrt(disc)) / torch.dot(d, d), torch.zeros_like(b))


@right
def ray_triangle(o: Annotated[Point, NATURAL], d: Annotated[Point, Interval(ge=1, le=2)]):
    v0, v1, v2 = torch.eye(3).to(o).unbind()
    n = torch.linalg.cross(v1 - v0, v2 - v0)
    t = torch.dot(n, v0 - o) / torch.dot(n, d)
    return o + t * d


@right
def pinhole(p: Annotated[Points, Interval(ge=1, le=8)], f: Annotated[Scalar, POSITIVE]):
    return f * p[:, :2] / p[:, 2:]


@wrong(gradient=lambda p: torch.cat([1 / p[:, 2:], 1 / p[:, 2:], -(p[:, :1] + p[:, 1:2]) / p[:, 2:]], 1))
def pinhole_power(p: Annotated[Points, Interval(ge=1, le=8)]):
    return p[:, :2] / p[:, 2:]


@right
def volume_rendering(
    density: Annotated[Vector, Interval(ge=0, le=5)], colour: Annotated[Float[Tensor, "n 3"], Interval(ge=0, le=1)]
):
    alpha = 1 - torch.exp(-density * 0.1)
    t = torch.cumprod(torch.cat([torch.ones(1).to(alpha), 1 - alpha[:-1] + 1e-10]), 0)
    return ((alpha * t)[:, None] * colour).sum(0)


@right
def sdf_box(p: Annotated[Points, NATURAL]):
    q = p.abs() - 1
    return q.clamp(min=0).norm(dim=-1) + q.amax(-1).clamp(max=0)


@right
def smooth_union(a: Annotated[Vector, NATURAL], b: Annotated[Vector, NATURAL]):
    h = (0.5 + 0.5 * (b - a) / 0.3).clamp(0, 1)
    return torch.lerp(b, a, h) - 0.3 * h * (1 - h)


@right
def triangle_area(a: Annotated[Point, NATURAL], b: Annotated[Point, NATURAL], c: Annotated[Point, NATURAL]):
    return 0.5 * torch.linalg.cross(b - a, c - a).norm()


@right
def chamfer(a: Annotated[Float[Tensor, "n 2"], NATURAL], b: Annotated[Float[Tensor, "m 2"], NATURAL]):
    d = ((a[:, None] - b[None]) ** 2).sum(-1)
    return d.min(1).values.mean() + d.min(0).values.mean()


@right
def box_iou(
    a: Annotated[Float[Tensor, "2"], Interval(ge=0, le=1)], b: Annotated[Float[Tensor, "2"], Interval(ge=0, le=1)]
):
    overlap = (torch.minimum(a, b) + 1).clamp(min=0).prod()
    return overlap / ((a + 1).prod() + (b + 1).prod() - overlap)


@right
def positional_encoding(x: Annotated[Vector, Interval(ge=-1, le=1)]):
    f = 2.0 ** torch.arange(4).to(x)
    a = x[:, None] * f
    return torch.cat([a.sin(), a.cos()], -1)


@right
def spherical_to_cartesian(
    r: Annotated[Scalar, POSITIVE], theta: Annotated[Scalar, ANGLE], phi: Annotated[Scalar, ANGLE]
):
    return torch.stack([r * theta.sin() * phi.cos(), r * theta.sin() * phi.sin(), r * theta.cos()])


@right
def haversine(
    lat1: Annotated[Scalar, Interval(ge=-1.5, le=1.5)],
    lat2: Annotated[Scalar, Interval(ge=-1.5, le=1.5)],
    dlon: Annotated[Scalar, Interval(ge=0.5, le=2)],
):
    h = torch.sin((lat2 - lat1) / 2) ** 2 + lat1.cos() * lat2.cos() * torch.sin(dlon / 2) ** 2
    return 2 * torch.asin(torch.sqrt(h))
