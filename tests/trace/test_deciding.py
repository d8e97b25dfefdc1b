"""Discrete questions about values: the answer is a constant of a region, on the record; beside each a wrong twin."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffcheck import Verdict, check

X = torch.tensor([0.12, 0.63, 0.91, 0.35], dtype=torch.float64)
TABLE = torch.tensor([1.0, 3.0, 5.0, 7.0], dtype=torch.float64)
ENDS = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)

# Each is piecewise constant: what it multiplies x with.
FACTORS: dict[str, Callable[[Tensor], Any]] = {
    "long": lambda x: TABLE[(x * 4).long()],
    "int": lambda x: TABLE[(x * 3).round().int()],
    "int()": lambda x: int((x * 4)[1]),
    "ceil": lambda x: TABLE[(x * 3).ceil().long()],
    "searchsorted": lambda x: TABLE[torch.searchsorted(ENDS, x.detach())],
    "bucketize": lambda x: TABLE[torch.bucketize(x.detach(), ENDS)],
    "one_hot": lambda x: torch.nn.functional.one_hot((x * 4).long(), 4).double() @ TABLE,
    "bincount": lambda x: torch.bincount((x * 4).long(), minlength=4),
    "histc": lambda x: torch.histc(x.detach(), 4, 0, 1),
    "unique": lambda x: torch.unique(x.detach(), return_inverse=True)[1],
    "unique_consecutive": lambda x: torch.unique_consecutive(x > 0.5, return_inverse=True)[1],
    "nonzero": lambda x: torch.nonzero(x > 0.3).sum(),
    "allclose": lambda x: 2 if torch.allclose(x, x + 1e-3) else 3,
    "equal": lambda x: 2 if torch.equal(x, x.flip(0)) else 3,
    "argsort": lambda x: x.detach().argsort(),
    "tolist": lambda x: 2 if x.tolist()[0] > 0.1 else 3,
    "numpy": lambda x: 2 if x.detach().numpy()[0] > 0.1 else 3,
    "isclose": lambda x: 1 + torch.isclose(x, x.flip(0)).double(),
}


def with_backward(forward: Callable[..., Tensor], backward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return forward(x)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return backward(g, *ctx.saved_tensors)

    function: Callable[..., Tensor] = Function.apply
    return function


def verdict(function: Callable[..., Tensor]) -> Verdict:
    (result,) = check(function, X, modes="reverse")
    return result.verdict


@pytest.mark.parametrize("name", FACTORS)
def test_a_discrete_answer_is_a_constant(name: str):
    factor = FACTORS[name]
    assert verdict(lambda x: x * factor(x)) is Verdict.PROVED
    assert verdict(with_backward(lambda x: x * x * factor(x), lambda g, x: g * x * factor(x))) is Verdict.WRONG


def test_a_trace_serves_the_inputs_with_the_same_answer_only():
    results = check(
        lambda x: x * TABLE.to(x)[(x.clamp(0, 0.99) * 4).long()], inputs={"x": _vector()}, modes="reverse", seed=1
    )
    assert all(r.verdict is Verdict.PROVED and r.paths > 2 for r in results)


def _vector() -> Any:
    from jaxtyping import Float

    return Float[Tensor, "n"]


def by_numpy(function: Callable[..., Any]) -> Callable[..., Tensor]:
    return lambda *tensors: torch.from_numpy(function(*(t.detach().numpy() for t in tensors)))


def test_a_backward_by_numpy_is_judged_by_its_numbers():
    (right,) = check(with_backward(torch.sin, by_numpy(lambda g, x: g * np.cos(x))), X, modes="reverse")
    assert right.verdict is Verdict.AGREES
    (wrong,) = check(with_backward(torch.sin, by_numpy(lambda g, x: 1.01 * g * np.cos(x))), X, modes="reverse")
    assert wrong.verdict is Verdict.WRONG
    assert wrong.finding is not None
    assert wrong.finding.autograd_formula == ""
    assert "its formula is not known" in " ".join(wrong.finding.notes)


@pytest.mark.parametrize(
    "forward",
    [
        by_numpy(np.sin),
        lambda x: torch.tensor([math.sin(v.item()) for v in x], dtype=x.dtype),
        lambda x: x / x.abs().max().item(),
    ],
)
def test_a_forward_that_leaves_pytorch_asks_for_a_reference(forward: Callable[..., Tensor]):
    (result,) = check(with_backward(forward, lambda g, x: g * x.cos()), X, modes="reverse")
    assert result.verdict is Verdict.UNSUPPORTED
    assert "reference=" in result.reason


@pytest.mark.parametrize(("slope", "expected"), [(2, Verdict.PROVED), (3, Verdict.WRONG)])
def test_a_number_that_decides_only_does_not_leave(slope: int, expected: Verdict):
    function = with_backward(lambda x: x * 2 if x.sum().item() > 0 else x * 3, lambda g, _: g * slope)
    assert verdict(function) is expected


def test_a_constant_on_one_path_has_as_many_derivatives_as_there_are_inputs():
    def sums(x: Tensor) -> Tensor:
        return sum((xi * xi for xi in x if xi > 0.5), start=x.new_zeros(3))

    results = check(sums, inputs={"x": _vector()}, modes="reverse", seed=1)
    assert all(r.verdict is Verdict.PROVED for r in results)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_places_of_a_constant_grid_are_as_the_kernel_rounds_them(scale: float):
    x, grid = torch.linspace(0.5, 1, 10, dtype=torch.float64).reshape(1, 1, 1, 10), X.reshape(1, 1, 2, 2) - 0.43

    def sampled(x: Tensor) -> Tensor:
        return torch.nn.functional.grid_sample(x, grid, align_corners=True)

    def backward(g: Tensor, x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(sampled(leaf), leaf, g)[0] * scale

    (plain,) = check(with_backward(sampled, backward), x, modes="reverse")
    assert plain.verdict is (Verdict.PROVED if scale == 1 else Verdict.WRONG)
