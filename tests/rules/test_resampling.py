"""Interpolation in float32: weights are differences of places on an axis, and lose digits far along it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffcheck import check
from diffcheck.verdict import Result, Verdict

IMAGE = (torch.arange(600) * 7919 % 2003).float().view(1, 1, 10, 60) / 100 - 10
KERNELS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: F.interpolate(x[0], size=43, mode="linear"),
    "bilinear": lambda x: F.interpolate(x, size=(7, 58), mode="bilinear"),
    "bilinear by corners": lambda x: F.interpolate(x, size=(7, 59), mode="bilinear", align_corners=True),
    "bilinear by scale": lambda x: F.interpolate(x, scale_factor=(0.7, 0.83), mode="bilinear"),
    "bicubic": lambda x: F.interpolate(x, size=(7, 57), mode="bicubic"),
    "antialiased, smaller": lambda x: F.interpolate(x, size=(3, 3), mode="bilinear", antialias=True),
    "antialiased, larger": lambda x: F.interpolate(x, size=(17, 58), mode="bilinear", antialias=True),
    "nearest": lambda x: F.interpolate(x, scale_factor=(0.7, 0.83), mode="nearest"),
}


def judged(function: Callable[[Tensor], Tensor]) -> Result:
    (result,) = check(function, IMAGE, modes="reverse", seed=1)
    return result


@pytest.mark.parametrize("name", KERNELS)
def test_weights_are_within_the_rounding_of_places(name: str):
    result = judged(KERNELS[name])
    assert result.verdict is Verdict.PROVED, (result.reason, result.finding)


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "antialiased, smaller"])
def test_what_is_off_by_more_is_wrong(name: str):
    class Off(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return KERNELS[name](x)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            with torch.enable_grad():
                x = IMAGE.clone().requires_grad_()
                (found,) = torch.autograd.grad(KERNELS[name](x), x, grad)
            return found * (1 + 1e-4)

    assert judged(Off.apply).verdict is Verdict.WRONG
