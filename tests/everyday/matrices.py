"""Linear algebra."""

from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor

from tests.everyday.corpus import NATURAL, SMALL, Matrix, Scalar, Square, Vector, by_hand, right, wrong

Small2 = Annotated[Float[Tensor, "2 2"], SMALL]
Small3 = Annotated[Float[Tensor, "3 3"], SMALL]


def _regular(a):
    return a + 4 * torch.eye(len(a), dtype=a.dtype)


@right(gradient=lambda a, x: {"a": x.expand_as(a), "x": a.sum(0)})
def matrix_vector(a: Matrix, x: Float[Tensor, "m"]):
    return a @ x


matvec_slip = by_hand(lambda a, x: a @ x, lambda g, a, x: (torch.outer(g, x), a @ g))


@wrong
def matrix_vector_transposed(a: Square, x: Float[Tensor, "n"]):
    return matvec_slip(a, x)


@right
def solve(a: Small3, b: Annotated[Float[Tensor, "3"], NATURAL]):
    return torch.linalg.solve(_regular(a), b)


def _solve_backward(g, a, b, *, transposed):
    x = torch.linalg.solve(a, b)
    gb = torch.linalg.solve(a.T if transposed else a, g)
    return -torch.outer(gb, x), gb


solve_rule = by_hand(torch.linalg.solve, lambda g, a, b: _solve_backward(g, a, b, transposed=True))
solve_slip = by_hand(torch.linalg.solve, lambda g, a, b: _solve_backward(g, a, b, transposed=False))


@right
def solve_by_hand(a: Small2, b: Annotated[Float[Tensor, "2"], NATURAL]):
    return solve_rule(_regular(a), b)


@wrong
def solve_not_transposed(a: Small2, b: Annotated[Float[Tensor, "2"], NATURAL]):
    return solve_slip(_regular(a), b)


@right
def inverse(a: Small3):
    return torch.linalg.inv(_regular(a))


inv_slip = by_hand(torch.linalg.inv, lambda g, a: -torch.linalg.inv(a).T @ g @ torch.linalg.inv(a))


@wrong
def inverse_transposed_once(a: Small2):
    return inv_slip(_regular(a))


@right
def log_determinant(a: Small3):
    return torch.linalg.slogdet(_regular(a)).logabsdet


@right
def determinant(a: Annotated[Float[Tensor, "3 3"], NATURAL]):
    return torch.linalg.det(a)


det_slip = by_hand(torch.linalg.det, lambda g, a: g * torch.linalg.det(a) * torch.linalg.inv(a))


@wrong
def determinant_not_transposed(a: Small2):
    return det_slip(_regular(a))


@right
def cholesky(a: Small3):
    return torch.linalg.cholesky(a @ a.T + 2 * torch.eye(3, dtype=a.dtype))


@right
def triangular(a: Small3, b: Annotated[Float[Tensor, "3 1"], NATURAL]):
    return torch.linalg.solve_triangular(_regular(a), b, upper=True)


@right
def eigenvalues(a: Small2):
    return torch.linalg.eigvalsh(a + a.T + torch.diag(torch.tensor([0.0, 9.0], dtype=a.dtype)))


@right
def nuclear_norm(a: Small2):
    return torch.linalg.svdvals(a + torch.diag(torch.tensor([3.0, 8.0], dtype=a.dtype))).sum()


@right
def frobenius(a: Annotated[Matrix, NATURAL]):
    return torch.linalg.norm(a)


@right
def spectral_radius_bound(a: Matrix):
    return a.abs().sum(1).max()


@right
def trace_of_product(a: Annotated[Matrix, NATURAL], b: Annotated[Matrix, NATURAL]):
    return torch.trace(a @ b.T)


@right
def einsum_bilinear(
    x: Annotated[Float[Tensor, "b i"], NATURAL],
    w: Annotated[Float[Tensor, "o i j"], NATURAL],
    y: Annotated[Float[Tensor, "b j"], NATURAL],
):
    return torch.einsum("bi,oij,bj->bo", x, w, y)


@right
def kronecker(a: Matrix, b: Float[Tensor, "p q"]):
    return torch.kron(a, b)


@right
def vandermonde(x: Annotated[Vector, NATURAL]):
    return torch.vander(x, 4)


@right
def gram_schmidt(a: Annotated[Float[Tensor, "2 3"], Interval(ge=0.5, le=2)]):
    u = a[0] / a[0].norm()
    return u, a[1] - (a[1] @ u) * u


@right
def power_iteration(a: Small2):
    x = torch.tensor([1.0, 0.5], dtype=a.dtype)
    for _ in range(2):
        x = _regular(a) @ x
        x = x / x.norm()
    return x @ _regular(a) @ x


@right
def rayleigh(x: Annotated[Float[Tensor, "n"], Interval(ge=0.5, le=4)], a: Annotated[Square, NATURAL]):
    return (x @ a @ x) / (x @ x)


@right
def matrix_power(a: Small2):
    return torch.linalg.matrix_power(a, 5)


@right
def schur_complement(a: Small2, b: Small2):
    return b - b.T @ torch.linalg.inv(_regular(a)) @ b


@right
def symmetric_part(a: Square):
    return (a + a.mT) / 2, torch.tril(a, -1)


@right
def newton_schulz(a: Small2):
    x = _regular(a) / 8
    return 1.5 * x - 0.5 * x @ x.T @ x


@right
def conjugate_gradient_step(a: Small2, b: Annotated[Float[Tensor, "2"], Interval(ge=0.5, le=4)]):
    m = _regular(a) @ _regular(a).T
    alpha = (b @ b) / (b @ m @ b)
    return alpha * b


@right
def woodbury(
    u: Annotated[Float[Tensor, "3"], NATURAL],
    x: Annotated[Float[Tensor, "3"], NATURAL],
    d: Annotated[Scalar, Interval(ge=1, le=4)],
):
    return x / d - u * (u @ x) / (d * d + d * (u @ u))


@right
def batched_product(a: Float[Tensor, "b n m"], c: Float[Tensor, "b m k"]):
    return torch.bmm(a, c)


@right
def low_rank_log_det(
    u: Annotated[Float[Tensor, "n"], NATURAL], d: Annotated[Float[Tensor, "n"], Interval(ge=0.5, le=4)]
):
    return d.log().sum() + torch.log1p((u * u / d).sum())
