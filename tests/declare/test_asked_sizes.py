"""The sizes that a function's code asks about are found wherever they stand, and nothing of PyTorch's is."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffcheck.declare.asked_sizes import asked_sizes

BLOCK = 48
FEW = (5, 7)


def equal(x: Tensor) -> Tensor:
    return x.sin() if x.numel() == 17 else x


def beyond(x: Tensor) -> Tensor:
    if len(x) > 32:
        return x * 2
    return x


def below(x: Tensor) -> Tensor:
    return x if x.shape[0] < 12 else x.exp()


def remainder(x: Tensor) -> Tensor:
    return x if len(x) % 8 else x.exp()


def by_name(x: Tensor) -> Tensor:
    return x if len(x) <= BLOCK else x.exp()


def among(x: Tensor) -> Tensor:
    return x if len(x) in FEW else x.exp()


def turned(x: Tensor) -> Tensor:
    return x if x.shape[0] != 9 else x.exp()  # the number may stand on either side


def by_helper(x: Tensor) -> Tensor:
    return equal(x)


def silent(x: Tensor) -> Tensor:
    return x**3 + 5 * x


class Own(torch.autograd.Function):
    """It asks where it goes back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * (2 if 17 == len(grad) else 1)  # noqa: SIM300 - on either side


class Layer(nn.Module):
    """A module that asks."""

    def forward(self, x: Tensor) -> Tensor:
        return x if len(x) == 17 else x.exp()


def closed_over(size: int) -> Any:
    return lambda x: x if len(x) == size else x.exp()


@pytest.mark.parametrize(
    ("function", "sizes"),
    [
        (equal, {17}),
        (beyond, {32, 33}),
        (below, {11, 12}),
        (remainder, {8, 9}),
        (by_name, {48, 49}),
        (among, {5, 7}),
        (turned, {9}),
        (by_helper, {17}),
        (Own.apply, {17}),
        (Layer(), {17}),
        (nn.Sequential(nn.Linear(2, 2), Layer()), {17}),
        (closed_over(21), {21}),
        (functools.partial(equal), {17}),
    ],
)
def test_what_is_asked_about_is_found(function: Any, sizes: set[int]):
    assert sizes <= set(asked_sizes(function))


@pytest.mark.parametrize("function", [silent, torch.sin, torch.nn.functional.softmax, nn.Linear(2, 2), print])
def test_what_asks_nothing_gives_nothing(function: Any):
    assert asked_sizes(function) == ()


def test_there_are_no_more_than_a_few():
    assert len(asked_sizes(lambda x: x if len(x) in (3, 5, 7, 9, 11, 13, 15, 19) else -x)) == 6
    assert asked_sizes(lambda x: x if len(x) == 100_000 else -x) == ()
