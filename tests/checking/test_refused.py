"""Inputs that a function refuses by raising: left out, counted and shown; only who refuses most is at fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from diffcheck import check
from diffcheck.results import Results
from diffcheck.verdict import Verdict

VECTOR, SQUARE = {"x": Float[Tensor, "n"]}, {"x": Float[Tensor, "n n"]}


class Sine(torch.autograd.Function):
    """A sine, whose backward pass is told what to do with large inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float, raises: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.factor, ctx.raises = factor, raises
        return x.sin()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        if ctx.raises and bool((x.abs() > 500).any()):
            raise KeyError("missing")
        return ctx.factor * grad * x.cos(), None, None


def validated(limit: float, factor: float = 1.0, *, raises: bool = False) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        if bool((x.abs() > limit).any()):
            raise ValueError(f"x must be within {limit}")
        return Sine.apply(x, factor, raises)

    return function


def judged(function: Callable[[Tensor], Tensor], inputs: dict[str, Any] = VECTOR, **options: Any) -> Results:
    return check(function, inputs=inputs, seed=1, dtypes=["float64"], modes="reverse", **options)


@pytest.mark.parametrize(
    ("function", "inputs", "why"),
    [
        (validated(500), VECTOR, "raises ValueError"),
        (torch.linalg.inv, SQUARE, "zero and"),
        (lambda x: x[1:].sin() if len(x) > 1 else 1 / 0 * x, VECTOR, "raises ZeroDivisionError"),
    ],
)
def test_what_refuses_some_inputs_is_judged_at_the_others(function: Callable[..., Any], inputs: Any, why: str):
    (result,) = judged(function, inputs, examples=40)
    assert result.verdict is Verdict.PROVED, result
    assert 0 < result.refused < result.inputs
    assert result.reason.startswith(f"refused {result.refused} of {result.refused + result.inputs} inputs: case")
    assert why in result.reason
    assert "bounds or assume=" in result.reason


def test_its_mistakes_are_found_all_the_same():
    (result,) = judged(validated(500, 1.5))
    assert result.verdict is Verdict.WRONG
    assert result.finding is not None
    assert all(abs(v) <= 500 for v in result.finding.inputs[0].entries)


def test_a_backward_pass_that_raises_is_no_refusal():
    (result,) = judged(validated(2000, raises=True))
    assert (result.verdict, result.refused) == (Verdict.ERROR, 0)
    assert "raises KeyError" in result.reason


def test_who_refuses_most_is_at_fault():
    (result,) = judged(validated(0.25))
    assert result.verdict is Verdict.ERROR
    assert result.refused > result.inputs > 0
    assert f"[refused {result.refused} of {result.refused + result.inputs} inputs; say by bounds" in result.reason


def test_who_refuses_everything_is_told_so_soon():
    calls = []

    def never(x: Tensor) -> Tensor:
        calls.append(x)
        raise TypeError("not today")

    (result,) = judged(never)
    assert result.verdict is Verdict.ERROR
    assert "raises TypeError" in result.reason
    assert len(calls) < 400
