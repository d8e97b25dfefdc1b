"""Eigenvalues and singular values: right ones pass on any matrix, wrong ones are found, more than two are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from diffcheck import check
from diffcheck.verdict import Verdict

PASSING = {Verdict.PROVED, Verdict.AGREES}
BY_HAND = [
    [[1.0, 1.0], [1.0, 1.0]],
    [[2.0, 0.0], [0.0, 2.0]],
    [[3.0, 0.0], [0.0, -4.0]],
    [[0.0, 2.0], [-3.0, 0.0]],
    [[1e-6, 8.0], [1.0, 2.0]],
    [[5.0, 1e-9], [1e-9, 5.0]],
    [[1e8, 1.0], [1.0, 1e-8]],
]
"""Singular, with equal eigenvalues, diagonal, graded: each in one way the worst that there is."""


def symmetric(function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    return lambda a: function(a + a.mT)


def projector(a: Tensor) -> Tensor:
    vectors = torch.linalg.eigh(a + a.mT)[1]
    return vectors[:, :1] @ vectors[:, :1].mT


FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "svdvals": torch.linalg.svdvals,
    "nuclear norm": lambda a: torch.linalg.matrix_norm(a, "nuc"),
    "eigvalsh": symmetric(torch.linalg.eigvalsh),
    "projector": projector,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_square_ones_are_proved(name: str):
    results = check(FUNCTIONS[name], inputs={"a": Float[Tensor, "2 2"]}, examples=40, dtypes="float64")
    assert results.proved, [(r.mode, r.verdict, r.reason) for r in results]


@pytest.mark.parametrize("matrix", BY_HAND)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_rounds_as_kernels_do_is_not_called_wrong(name: str, matrix: list[list[float]]):
    results = check(FUNCTIONS[name], torch.tensor(matrix, dtype=torch.float64), seed=1)
    assert {r.verdict for r in results} <= {*PASSING, Verdict.UNDEFINED}, [(r.mode, r.reason) for r in results]


@pytest.mark.parametrize("shape", [(3, 2), (2, 4), (5, 1), (1, 3)])
def test_singular_values_of_other_shapes(shape: tuple[int, ...]):
    a = torch.linspace(-1, 2, shape[0] * shape[1], dtype=torch.float64).cos().reshape(shape)
    assert {r.verdict for r in check(torch.linalg.svdvals, a)} <= PASSING


class _WrongValues(torch.autograd.Function):
    """Singular values, with a gradient that is off by one part in 10⁸."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        u, s, v = torch.linalg.svd(a, full_matrices=False)
        ctx.save_for_backward(u, v)
        return s

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        u, v = ctx.saved_tensors
        found: Tensor = (u * grad) @ v
        return found * (1 + 1e-8)


def test_a_wrong_gradient_of_singular_values_is_found():
    function: Any = _WrongValues.apply
    (result,) = check(function, torch.tensor([[3.0, 1.0], [1.0, -2.0]], dtype=torch.float64), modes="reverse")
    assert result.verdict is Verdict.WRONG
    assert result.finding is not None
    assert result.finding.headline == "the gradient of x[0, 0] is wrong"
    assert result.finding.diagnosis is not None
    assert "1.00000001" in result.finding.diagnosis.explanation


def test_eigenvalues_of_the_triangle_that_is_read():
    """The other one does not count, and PyTorch's gradient says that it does (docs/pytorch-findings.md)."""
    (result,) = check(
        torch.linalg.eigvalsh, torch.tensor([[1.0, 1.0], [1.0, 2.0]], dtype=torch.float64), modes="reverse"
    )
    assert result.verdict is Verdict.WRONG
    lower = check(
        lambda a: torch.linalg.eigvalsh(a.tril() + a.tril(-1).mT),
        torch.eye(2, dtype=torch.float64) * torch.tensor([1.0, 2.0], dtype=torch.float64),
    )
    assert {r.verdict for r in lower} <= PASSING


@pytest.mark.parametrize(
    ("function", "shape", "why"),
    [
        (torch.linalg.svdvals, (3, 3), "more than 2 singular values"),
        (symmetric(torch.linalg.eigvalsh), (3, 3), "more than 2 eigenvalues"),
        (lambda a: torch.linalg.svd(a)[0], (3, 2), "defined up to a choice"),
    ],
)
def test_what_has_no_closed_form_is_refused(function: Callable[[Tensor], Any], shape: tuple[int, ...], why: str):
    results = check(function, torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    assert all(r.verdict is Verdict.UNSUPPORTED and why in r.reason for r in results)
