"""Kernels of LAPACK's are right for a matrix that is a little off: that is no mistake, and a mistake is still found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from diffcheck import check
from diffcheck.verdict import Verdict

NEARLY_PARALLEL = [[1.0, 0.0], [64.00000000000003, 1.0], [0.0, 0.0]]
ORTHOGONAL = [[1.0, 1.0], [1.0, -1.0], [0.0, 0.0]]
GRADED = [[1e-3, 5.0], [1.0, 1e4], [2.0, 7.0]]


def _weighted(x: Tensor) -> Tensor:
    return (x * torch.arange(1.0, 1 + x.numel(), dtype=x.dtype).reshape(x.shape)).sum()


@pytest.mark.parametrize(
    "matrix", [NEARLY_PARALLEL, ORTHOGONAL, GRADED], ids=["nearly parallel", "orthogonal", "graded"]
)
@pytest.mark.parametrize(
    "function",
    [
        lambda a: _weighted(torch.linalg.qr(a)[0]),
        lambda a: _weighted(torch.linalg.qr(a)[1]),
        torch.linalg.pinv,
        lambda a: torch.linalg.lstsq(a, a[:, :1] + 1).solution,
    ],
    ids=["Q", "R", "pinv", "lstsq"],
)
def test_rounding_is_not_called_wrong(function: Any, matrix: list[list[float]]):
    results = check(function, torch.tensor(matrix, dtype=torch.float64))
    assert {r.verdict for r in results} <= {Verdict.PROVED, Verdict.AGREES}, [(r.mode, r.reason) for r in results]


class _WrongQ(torch.autograd.Function):
    """Q, with a gradient that is off by one part in 10⁹."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        ctx.save_for_backward(a)
        return torch.linalg.qr(a)[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = a.detach().requires_grad_()
            (found,) = torch.autograd.grad(torch.linalg.qr(leaf)[0], leaf, grad)
        return found * (1 + 1e-9)


@pytest.mark.parametrize("matrix", [NEARLY_PARALLEL, ORTHOGONAL], ids=["nearly parallel", "orthogonal"])
def test_a_mistake_is_found(matrix: list[list[float]]):
    function: Any = _WrongQ.apply
    (result,) = check(function, torch.tensor(matrix, dtype=torch.float64), modes="reverse")
    assert result.verdict is Verdict.WRONG
    assert result.finding is not None
    assert "is wrong" in result.finding.headline
