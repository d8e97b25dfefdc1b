"""Mistakes that small contiguous inputs hide, each beside what is right: sizes, layouts, narrow regions, state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from diffcheck import case
from diffcheck.algebra import expr as graph
from diffcheck.algebra.critical_points import numbers_to_try
from diffcheck.checking.check import check
from diffcheck.declare.domain import large_assignments
from diffcheck.draw.inputs import Layout, copied, laid_out
from diffcheck.settings import Settings
from diffcheck.verdict import Result, Verdict

VECTOR = Float[Tensor, "n"]
SEEDS = range(5)


def square(backward: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """x² with a backward pass by hand, a function of x and of the incoming gradient."""

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return backward(x, grad)

    return Square.apply


def run(function: Callable[..., Any], seed: int = 0, **inputs: Any) -> Result:
    it = case(function, name="it", inputs=inputs or {"x": VECTOR})
    settings = Settings(modes=("reverse",), dtypes=("float64",), seed=seed, database=False)
    (result,) = check(it, settings, case_id="it", location="it")
    return result


def right(x: Tensor, grad: Tensor) -> Tensor:
    return 2 * x * grad


def beyond_size(x: Tensor, grad: Tensor) -> Tensor:
    grad = grad.clone()
    grad[64:] = 0
    return 2 * x * grad


def memory_order(x: Tensor, grad: Tensor) -> Tensor:
    """Reads the incoming gradient as if it were contiguous."""
    return 2 * x * grad.as_strided(grad.shape, (1,)) if grad.stride() != (0,) else right(x, grad)


def memory_order_of_the_input(x: Tensor, grad: Tensor) -> Tensor:
    return 2 * x.as_strided(x.shape, (1,), x.storage_offset()) * grad


def only_expanded(x: Tensor, grad: Tensor) -> Tensor:
    return right(x, grad) * (0.5 if grad.numel() > 1 and grad.stride() == (0,) else 1)


def narrow(x: Tensor, grad: Tensor) -> Tensor:
    inside = (x > 1.23) & (x < 1.24)
    return torch.where(inside, 2.001, 2.0) * x * grad


def near_zero(x: Tensor, grad: Tensor) -> Tensor:
    return torch.where(x.abs() < 1e-5, 1.0, 2.0) * x * grad


def far_out(x: Tensor, grad: Tensor) -> Tensor:
    return 2 * x.clamp(-5000, 5000) * grad


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "wrong",
    [beyond_size, memory_order, memory_order_of_the_input, only_expanded, narrow, near_zero, far_out],
    ids=lambda f: f.__name__,
)
def test_it_is_found(wrong: Callable[[Tensor, Tensor], Tensor], seed: int):
    result = run(square(wrong), seed)
    assert result.verdict is Verdict.WRONG, result.reason
    assert result.finding is not None


def test_the_right_one_is_proved_over_all_of_these():
    result = run(square(right))
    assert result.verdict is Verdict.PROVED
    assert result.inputs == 100 + 3 * 4 + 3 + 6  # three other layouts, the large size, and the corners


def test_a_gradient_that_is_changed_in_place_is_refused_by_name():
    result = run(square(lambda x, grad: grad.mul_(2).mul(x)))
    assert result.verdict is Verdict.ERROR
    assert "the backward pass of case 'it' changes what it is given (dy) in place" in result.reason


COUNTER: Iterator[int] = iter(range(10**9))


@pytest.mark.parametrize("noise", [lambda: torch.rand(()), lambda: next(COUNTER)], ids=["random", "counts"])
def test_a_backward_pass_that_is_not_the_same_twice_is_refused(noise: Callable[[], Any]):
    result = run(square(lambda x, grad: (2 + 1e-3 * noise()) * x * grad))
    assert result.verdict is Verdict.ERROR
    assert "are not the same twice" in result.reason


class Kept:
    """A gradient that grows from call to call."""

    total: ClassVar[float] = 0.0


def test_a_gradient_that_is_accumulated_between_calls_is_refused():
    def accumulated(x: Tensor, grad: Tensor) -> Tensor:
        Kept.total += 1
        return Kept.total * 2 * x * grad

    result = run(square(accumulated))
    assert result.verdict is Verdict.ERROR
    assert "nor remember earlier ones" in result.reason


def test_a_function_that_refuses_memory_with_gaps_is_not_blamed_for_it():
    result = run(lambda x: (x.view(-1, 1) ** 2).sum(), x=Float[Tensor, "n m"])
    assert result.verdict is Verdict.PROVED


def test_a_backward_pass_that_refuses_memory_with_gaps_is():
    result = run(square(lambda x, grad: 2 * x * grad.view(-1).view(grad.shape)), x=Float[Tensor, "n m"])
    assert result.verdict is Verdict.ERROR
    assert "view size is not compatible" in result.reason


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (2, 3), (2, 3, 4)])
def test_layouts_keep_the_entries_and_copies_keep_the_layout(layout: Layout, shape: tuple[int, ...]):
    x = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)
    placed = laid_out(x, layout)
    copy = copied(placed)
    assert torch.equal(placed, x)
    assert torch.equal(copy, x)
    assert copy.stride() == placed.stride()
    assert copy.untyped_storage().data_ptr() != placed.untyped_storage().data_ptr() or not x.numel()
    gaps = layout in (Layout.STRIDED, Layout.TRANSPOSED) and x.numel() > 0 and x.dim() > 0
    assert gaps == (placed.untyped_storage().nbytes() != 8 * x.numel() or placed.stride() != x.stride())


def test_large_sizes_are_past_64_along_one_axis_at_a_time():
    matrix = case(lambda a, b: a @ b, name="it", inputs={"a": Float[Tensor, "n m"], "b": Float[Tensor, "m k"]})
    shapes = [list(s.values()) for s in large_assignments(matrix.arguments)]
    assert shapes == [[(3, 2), (2, 67)], [(3, 67), (67, 2)]]


def test_where_to_look():
    x, y = graph.symbol("x"), graph.symbol("y")
    found = numbers_to_try([graph.greater(2 * x, 3), graph.greater(graph.constant(7), x + 3), 1 / (y - 10)])
    assert {1.5, 4.0, 10.0, 2.75, 7.0} <= set(found)
    assert 0 < min(abs(n - 10) for n in found if n != 10) < 0.1
    assert numbers_to_try([graph.greater(x * y, 0.25)])[:2] == (-0.25, 0.25)
    assert numbers_to_try([x + y]) == ()
