"""Names of mistakes of arithmetic: the right one beside each that it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffcheck import Finding, check
from diffcheck.report.advice import ADVICE
from diffcheck.verdict import Mistake


def at(function: Callable[..., Any], *entries: Any, mode: str = "reverse") -> Finding:
    (result,) = check(function, *(torch.tensor(e, dtype=torch.float64) for e in entries), modes=mode)
    assert result.finding is not None, result
    return result.finding


def started_at_infinity(x: Tensor) -> Tensor:
    top = x.new_full((2,), float("-inf")).scatter_reduce(0, torch.tensor([0]), x, "amax")
    mass = x.new_zeros(2).scatter_add(0, torch.tensor([0]), (x - top[:1]).exp())
    return torch.nan_to_num(mass.log() + top, neginf=0.0)


NAMES: list[tuple[Callable[..., Any], tuple[Any, ...], str, Mistake]] = [
    (lambda x: torch.where(x > 0, x.sqrt(), 0 * x), ([-1.0],), "reverse", Mistake.NOT_TAKEN),
    (lambda x: 1 / (1 + x.exp()), ([800.0],), "reverse", Mistake.OVERFLOW),
    (F.binary_cross_entropy, ([1e-13], [0.0]), "reverse", Mistake.PYTORCHS_EPSILON),
    (torch.det, ([[1.0, 2.0], [2.0, 4.0]],), "forward", Mistake.PYTORCHS_EPSILON),
    (started_at_infinity, ([0.5],), "forward", Mistake.INFINITE),
    # A root that is 0, that underflow makes 0, and that rounding does.
    (lambda x: x.square().sum().sqrt(), ([0.0, 0.0],), "reverse", Mistake.ROOT),
    (lambda x: x.square().sum().sqrt(), ([1e-200, 0.0],), "reverse", Mistake.UNDERFLOW),
    (lambda x: (1 + x - 1).sqrt(), ([1e-20],), "reverse", Mistake.ZERO),
]


@pytest.mark.filterwarnings("ignore:scatter_reduce")
@pytest.mark.parametrize(("function", "entries", "mode", "name"), NAMES, ids=[str(n) for *_, n in NAMES])
def test_a_mistake_is_called_what_it_is(
    function: Callable[..., Any], entries: tuple[Any, ...], mode: str, name: Mistake
):
    found = at(function, *entries, mode=mode).diagnosis
    assert found is not None
    assert found.name is name, found


def test_there_is_advice_for_every_mistake():
    assert ADVICE.keys() == set(Mistake)
