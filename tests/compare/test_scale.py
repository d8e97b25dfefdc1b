"""Kernels beside their references at a million elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffcheck import DeclarationError, Verdict, check
from diffcheck.algebra import expr as graph
from diffcheck.certify.formats import format_of
from diffcheck.certify.running_error import bounded_values
from diffcheck.compare.scale import Comparison, compare, random_seeds
from diffcheck.declare.given import case_at

VECTOR = Float[Tensor, "n"]
MILLION = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))


def opaque(value: Callable[[Any], Any], slope: Callable[[Any], Any]) -> Callable[[Tensor], Tensor]:
    """A function of single elements, with its derivative, in NumPy: nothing of it can be traced."""

    class Kernel(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return torch.from_numpy(value(x.detach().numpy()))

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return torch.from_numpy(slope(x.numpy()) * grad.numpy())

    return Kernel.apply


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def test_a_right_kernel_agrees_at_a_million_elements():
    kernel = opaque(lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x))))
    inputs = {"x": VECTOR}
    found = check(kernel, MILLION, inputs=inputs, reference=F.silu, modes="reverse", dtypes="float32", assume=moderate)
    assert {r.mode: r.verdict for r in found} == {"value": Verdict.PROVED, "reverse": Verdict.PROVED}
    assert all(0 < r.max_error_bounds <= 4 for r in found)


def moderate(x: Tensor) -> bool:
    return bool((x.abs() < 20).all())


def off_by_a_little(x: Any) -> Any:
    return 2 * x * np.float32(1 + 2e-6)


def wrong_in_the_second_half(x: Any) -> Any:
    result = 2 * x
    result[600_000:] = 0
    return result


@pytest.mark.parametrize(("slope", "first"), [(off_by_a_little, 0), (wrong_in_the_second_half, 600_000)])
def test_a_wrong_kernel_is_found_with_its_place(slope: Callable[[Any], Any], first: int):
    kernel = opaque(lambda x: x * x, slope)
    found = check(
        kernel, MILLION, inputs={"x": VECTOR}, reference=lambda x: x**2, modes="reverse", dtypes="float32", seed=1
    )
    by_mode = {r.mode: r for r in found}
    assert by_mode["value"].verdict is Verdict.PROVED
    assert by_mode["reverse"].verdict is Verdict.WRONG
    finding = by_mode["reverse"].finding
    assert finding is not None
    assert finding.bounds > 4
    if first:
        assert "the first at [600000]" in finding.notes[0]
        assert finding.index[0] >= first


def test_large_inputs_need_a_domain_at_which_the_reference_is_proved():
    with pytest.raises(DeclarationError, match="a reference is proved at small sizes"):
        check(opaque(np.sin, np.cos), MILLION, reference=torch.sin)


def test_a_reference_without_an_error_analysis_is_unsupported_and_named():
    found = check(
        torch.special.i0,
        MILLION,
        inputs={"x": Annotated[VECTOR, Interval(ge=-3, le=3)]},
        reference=torch.special.i0,
        modes="reverse",
        dtypes="float32",
        examples=5,
    )
    assert {r.verdict for r in found} == {Verdict.UNSUPPORTED}
    assert "i0" in found[0].reason


def _attention_of_parts(x: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(x, x, x)


RIGHT: dict[str, Callable[[Tensor], Tensor]] = {
    "x²": lambda x: x**2,
    "softmax": lambda x: torch.softmax(x, -1),
    "logsumexp": lambda x: torch.logsumexp(x, -1),
    "layer_norm": lambda x: F.layer_norm(x, (x.shape[-1],)),
    "sum": lambda x: x.sum(),
    "mean": lambda x: x.mean(0),
    "silu": F.silu,
    "relu": F.relu,
    "matmul": lambda x: x @ x.T,
    "linear": lambda x: F.linear(x, x[:5], x[:5, 0]),
    "mse": lambda x: F.mse_loss(x, torch.zeros_like(x)),
    "huber": lambda x: F.huber_loss(x, torch.zeros_like(x)),
    "cumsum": lambda x: x.cumsum(1),
    "attention": lambda x: _attention_of_parts(x[None]),
    "fused attention": lambda x: F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None]),
    "in place": lambda x: (x.clone().mul_(3)[:, ::2].add_(1)) ** 2,
    "indexed": lambda x: x[:, torch.arange(0, 40, 3)] * x[:, :14],
}


@pytest.mark.parametrize("mode", ["value", "reverse", "forward"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RIGHT)
def test_pytorchs_own_kernels_are_within_the_bound(name: str, dtype: torch.dtype, mode: str):
    x = torch.randn(60, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    it = case_at(RIGHT[name], (x,), {}, name=name, kernel=RIGHT[name])
    if name == "fused attention" and mode == "forward":  # PyTorch has none of this kernel
        with pytest.raises(NotImplementedError, match="forward AD"):
            compare(it, mode, it.given[0], random_seeds(3))
        return
    found = compare(it, mode, it.given[0], random_seeds(3))
    assert found.beyond == 0, found.worst
    if not (name == "relu" and mode == "forward"):
        assert found.left == 0


def errors_and_bounds(function: Callable[[Tensor], Tensor], x: Tensor) -> Comparison:
    it = case_at(function, (x,), {}, name="it", kernel=lambda x: function(x) * (1 + 2e-5))
    return compare(it, "value", it.given[0], random_seeds(0))


@pytest.mark.parametrize("name", ["x²", "silu", "softmax", "layer_norm"])
def test_the_bound_is_not_so_wide_that_it_hides_two_parts_in_a_hundred_thousand(name: str):
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    assert errors_and_bounds(RIGHT[name], x).beyond > 0


def test_the_radius_of_a_formula_is_what_the_error_analysis_says():
    x, y = graph.symbol("x"), graph.symbol("y")
    unit = 2.0**-24
    one, error = np.array([1.5]), np.array([0.25 * unit])
    found = bounded_values(x * y + 3, {"x": (one, error), "y": (2 * one, 0 * error)}, unit, at_zero=False)
    assert found is not None
    value, radius = found
    assert value == 7.5
    assert radius == pytest.approx(3 * 0.25 * unit + 4.5 * unit + 7.5 * unit, rel=1e-6)


def test_formats():
    assert format_of(torch.float32).bits == 24
