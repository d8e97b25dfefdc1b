"""How the corpus is written down: a right function, and a wrong twin beside it where people go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, overload

import torch
from annotated_types import Ge, Interval
from jaxtyping import Float, Int
from torch import Tensor

from diffcheck import case
from diffcheck.declare.case import Case
from diffcheck.verdict import Verdict

F = TypeVar("F", bound=Callable[..., Any])

Scalar = Float[Tensor, ""]
Vector = Float[Tensor, "n"]
Matrix = Float[Tensor, "n m"]
Square = Float[Tensor, "n n"]
Batch = Float[Tensor, "batch d"]
Point = Float[Tensor, "3"]
Points = Float[Tensor, "n 3"]
Classes = Int[Tensor, "batch"]

NATURAL: Final = Interval(ge=-4, le=4)
"""Scores, standardised data, logits."""
UNIT: Final = Interval(ge=0, le=1)
INSIDE: Final = Interval(gt=0, lt=1)
POSITIVE: Final = Interval(ge=0.1, le=10)
NOT_NEGATIVE: Final = Interval(ge=0, le=10)
ANGLE: Final = Interval(ge=-3.2, le=3.2)
SMALL: Final = Interval(ge=-1, le=1)
BOUNDED: Final = Interval(ge=-10, le=10)
NUMBER: Final = Ge(0)


@dataclass(frozen=True)
class Entry:
    """One function of the corpus."""

    field: str
    case: Case
    verdict: Verdict | None = None
    """Of a wrong twin: what is to be said of it in every dtype."""

    @property
    def is_wrong(self) -> bool:
        """Whether it is one."""
        return self.verdict is not None

    @property
    def name(self) -> str:
        """`losses/huber`, and `losses/huber_slope, wrong` for a twin."""
        return f"{self.field}/{self.case.name}"


ENTRIES: Final[list[Entry]] = []


@overload
def right(function: F, /) -> F: ...
@overload
def right(**options: Any) -> Callable[[F], F]: ...
def right(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declares a function whose derivative is right."""
    return _declared(function, options, None)


@overload
def wrong(function: F, /, *, verdict: str = ..., **options: Any) -> F: ...
@overload
def wrong(*, verdict: str = ..., **options: Any) -> Callable[[F], F]: ...
def wrong(function: Callable[..., Any] | None = None, /, *, verdict: str = "wrong", **options: Any) -> Any:
    """Declares one whose derivative, or whose `gradient=`, is wrong at some input of its domain.

    Args:
        function: It.
        verdict: `inaccurate` where what goes wrong is an overflow on the way, `error` where it is a side effect.
        **options: Those of `case`.
    """
    return _declared(function, options, Verdict(verdict))


def _declared(function: Callable[..., Any] | None, options: dict[str, Any], verdict: Verdict | None) -> Any:
    def declare(target: Callable[..., Any]) -> Callable[..., Any]:
        field = (getattr(target, "__module__", None) or "").partition("tests.everyday.")[2] or "twins"
        ENTRIES.append(Entry(field, case(target, **options), verdict))
        return target

    return declare if function is None else declare(function)


def by_hand(forward: Callable[..., Tensor], backward: Callable[..., Any]) -> Callable[..., Any]:
    """A custom Function: what is computed, and gradients that somebody derived, of the incoming one and the inputs."""

    class ByHand(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Tensor:
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            return backward(grad, *ctx.saved_tensors)

    return ByHand.apply
