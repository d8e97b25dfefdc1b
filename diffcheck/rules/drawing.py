"""Rules of operations that draw random numbers: what was drawn is a constant, read off the kernel's result."""

from __future__ import annotations

from typing import Any, Final

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import ONE, ZERO, Expr, greater, where
from diffcheck.rules.reduction import exact
from diffcheck.rules.registry import Array, Decisions, Rule, array, elementwise, guarded, in_numpy


def _drawn(decisions: Decisions, *_: Any, **__: Any) -> Array:
    """A sample: to PyTorch it is a constant, whatever the parameters of its distribution depend on."""
    return exact(decisions.result)


def dropout(decisions: Decisions, x: Array, p: float, train: bool | None) -> tuple[Array, Array]:
    """What the mask keeps, scaled up."""
    mask = exact(decisions.result[1])
    if train is False:
        return x, mask
    scale = ZERO if p == 1 else ONE / (ONE - scalar(p))
    return elementwise(lambda e, m: e * m * scale, x, mask), mask


def leaky_at_random(
    decisions: Decisions, x: Array, _noise: Array, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False
) -> tuple[Array, Array]:
    """Negative elements times a slope that was drawn, or the mean slope; and the slopes."""
    slopes = exact(decisions.arguments[1])  # the kernel has written them there
    if not training:
        mean = (scalar(lower) + scalar(upper)) / (ONE + ONE)
        return elementwise(lambda e: where(greater(e, ZERO), e, e * mean), x), slopes
    # The slope of a positive element is 1, and was not drawn: which elements are, the trace relies on.
    decisions.decide(elementwise(lambda e: greater(e, ZERO), x), in_numpy(decisions.arguments[0]) > 0)
    return elementwise(lambda e, s: e * s, x, slopes), slopes


def leaky_at_random_backward(
    g: Array, x: Array, slopes: Array, lower: float, upper: float, training: bool, _: bool
) -> Array:
    """The cotangent times the slope."""
    mean = (scalar(lower) + scalar(upper)) / (ONE + ONE)

    def slope(c: Expr, e: Expr, s: Expr) -> Expr:
        return c * s if training else where(greater(e, ZERO), c, c * mean)

    return elementwise(slope, g, x, slopes)


RULES: Final[dict[str, Rule]] = {
    "aten.bernoulli": guarded(_drawn),
    "aten.normal": guarded(_drawn),
    "aten.native_dropout": guarded(dropout),
    "aten.native_dropout_backward": array(
        lambda g, mask, scale: elementwise(lambda c, m: c * m * scalar(scale), g, mask)
    ),
    "aten.rrelu_with_noise": guarded(leaky_at_random),
    "aten.rrelu_with_noise_backward": array(leaky_at_random_backward),
}
