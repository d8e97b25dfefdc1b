"""Examples of factorizations and of what they solve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch

from tests.rules.arguments import Example, r

aten = torch.ops.aten
GONE: Final = frozenset() if hasattr(aten, "cholesky") else frozenset({"aten.cholesky"})
"""What PyTorch has no longer, from 2.14 on."""


def _definite(function: Callable[..., object]) -> Callable[..., object]:
    """Of a positive definite matrix."""
    return lambda a, *rest: function(a @ a.mT + torch.eye(a.shape[-1], dtype=torch.float64), *rest)


def _full(function: Callable[..., object]) -> Callable[..., object]:
    """Of a matrix of full rank."""
    return lambda a, *rest: function(a + 5 * torch.eye(*a.shape[-2:], dtype=torch.float64), *rest)


def _symmetric(function: Callable[..., object]) -> Callable[..., object]:
    """Of the sum of a matrix and its transpose."""
    return lambda a: function(a + a.mT)


FACTORIZATIONS: Final[dict[str, Example]] = {
    **({} if GONE else {"old cholesky": (_definite(lambda a: aten.cholesky(a, upper=True)), r(2, 2))}),
    "cholesky_solve": (_full(lambda a, b: torch.cholesky_solve(b, a)), r(2, 2), r(2, 3)),
    "cholesky_solve upper": (_full(lambda a, b: torch.cholesky_solve(b, a, upper=True)), r(2, 2, 2), r(2, 1)),
    "cholesky_inverse": (_full(lambda a: torch.cholesky_inverse(a.detach()) * a), r(2, 2)),
    "triangular_solve": (
        _full(lambda a, b: aten.triangular_solve(b, a, upper=False, transpose=True)[0]), r(3, 3), r(3, 2),
    ),
    "qr": (_full(torch.linalg.qr), r(3, 2)),
    "qr wide": (_full(torch.linalg.qr), r(2, 3)),
    "qr of several": (_full(lambda a: torch.linalg.qr(a)[1]), r(2, 2, 2)),
    "qr without Q": (lambda a: torch.linalg.qr(_full(lambda b: b)(a.detach()), "r")[1] * a[0, 0], r(3, 2)),
    "householder_product": (torch.linalg.householder_product, r(2, 3, 2), r(2, 2)),
    "ormqr": (lambda a, t, b: torch.ormqr(a.detach(), t.detach(), b), r(3, 2), r(2), r(3, 2)),
    "ormqr right": (
        lambda a, t, b: torch.ormqr(a.detach(), t.detach(), b, left=False, transpose=True), r(3, 3), r(3), r(2, 3),
    ),
    "pinv": (_full(torch.linalg.pinv), r(3, 2)),
    "pinv wide": (_full(torch.linalg.pinv), r(2, 3)),
    "pinv of nothing": (lambda a: torch.linalg.pinv(a.detach(), rtol=2.0) @ a, r(2, 2)),
    "lstsq": (_full(lambda a, b: torch.linalg.lstsq(a, b)[:2]), r(3, 2), r(3, 2)),
    "eigvalsh": (_symmetric(torch.linalg.eigvalsh), r(2, 2)),
    "eigvalsh upper of several": (_symmetric(lambda a: torch.linalg.eigvalsh(a, "U")), r(2, 2, 2)),
    "eigvalsh of one": (torch.linalg.eigvalsh, r(1, 1)),
    "eigh": (_symmetric(torch.linalg.eigh), r(2, 2)),
    "svdvals": (torch.linalg.svdvals, r(2, 2)),
    "svdvals tall": (torch.linalg.svdvals, r(4, 2)),
    "svdvals wide of several": (torch.linalg.svdvals, r(2, 2, 3)),
    "svdvals of a row": (torch.linalg.svdvals, r(1, 3)),
    "svd": (lambda a: torch.linalg.svd(a, full_matrices=False), r(3, 2)),
    "svd square": (torch.linalg.svd, r(2, 2)),
    "nuclear norm": (lambda a: torch.linalg.matrix_norm(a, "nuc"), r(2, 3)),
    "spectral norm": (lambda a: torch.linalg.matrix_norm(a, 2), r(3, 2)),
    "lstsq of a batch": (_full(lambda a, b: torch.linalg.lstsq(a, b).solution), r(2, 2, 3), r(2, 2, 1)),
}  # fmt: skip
