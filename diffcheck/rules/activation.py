"""Rules of activation functions and of the kernels that autograd runs for them."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from diffcheck.algebra.expr import (
    HALF,
    ONE,
    PI,
    TWO,
    ZERO,
    Expr,
    call,
    constant,
    greater,
    greater_equal,
    logical_and,
    where,
)
from diffcheck.rules.pointwise import absolute, clamp
from diffcheck.rules.registry import Array, Decisions, Rule, array, elementwise, guarded, pointwise

_THREE: Final = constant(3)
_SIX: Final = constant(6)
_TWENTY: Final = constant(20)
_LEAK: Final = ONE / constant(100)
_ROOT_TWO: Final = call("sqrt", TWO)
_ROOT_TWO_OVER_PI: Final = call("sqrt", TWO / PI)
_CUBIC: Final = constant(44715) / constant(10**6)
"""The coefficient in the tanh approximation of GELU."""


def between(x: Expr, low: Expr, high: Expr) -> Expr:
    """[low < x < high]."""
    return logical_and(greater(x, low), greater(high, x))


def within(x: Expr, low: Expr, high: Expr) -> Expr:
    """[low ≤ x ≤ high]."""
    return logical_and(greater_equal(x, low), greater_equal(high, x))


def elu(x: Expr, alpha: Expr = ONE, scale: Expr = ONE, input_scale: Expr = ONE) -> Expr:
    """Exponential below 0, linear above."""
    return where(greater(x, ZERO), x * scale, call("expm1", x * input_scale) * (alpha * scale))


def elu_backward(g: Expr, alpha: Expr, scale: Expr, input_scale: Expr, is_result: Expr, saved: Expr) -> Expr:
    """From ELU's argument, or from its result."""
    grown = saved + alpha * scale if is_result is ONE else alpha * scale * call("exp", saved * input_scale)
    return where(greater(saved, ZERO), g * scale, g * input_scale * grown)


def _gelu_angle(x: Expr) -> Expr:
    return _ROOT_TWO_OVER_PI * (x + _CUBIC * (x * x * x))


def gelu(x: Expr, approximate: str = "none") -> Expr:
    """x · Φ(x), Φ being the normal distribution function or its approximation by tanh."""
    if approximate == "tanh":
        return HALF * x * (ONE + call("tanh", _gelu_angle(x)))
    return HALF * x * (ONE + call("erf", x / _ROOT_TWO))


def gelu_backward(g: Expr, x: Expr, approximate: str = "none") -> Expr:
    """g · (Φ(x) + x · Φ'(x))."""
    if approximate == "tanh":
        bent = call("tanh", _gelu_angle(x))
        slope = _ROOT_TWO_OVER_PI * (ONE + _THREE * _CUBIC * (x * x))
        return g * (HALF * (ONE + bent) + HALF * x * (ONE - bent * bent) * slope)
    cumulative = HALF * (ONE + call("erf", x / _ROOT_TWO))
    density = HALF * _ROOT_TWO_OVER_PI * call("exp", -(x * x * HALF))
    return g * (cumulative + x * density)


def silu_backward(g: Expr, x: Expr) -> Expr:
    """From σ = sigmoid(x)."""
    s = call("sigmoid", x)
    return g * s * (ONE + x * (ONE - s))


def softplus(x: Expr, beta: Expr = ONE, threshold: Expr = _TWENTY) -> Expr:
    """log(1 + exp βx) / β; x itself where βx exceeds the threshold."""
    scaled = x * beta
    return where(greater(scaled, threshold), x, call("log1p", call("exp", scaled)) / beta)


def softplus_backward(g: Expr, x: Expr, beta: Expr, threshold: Expr) -> Expr:
    """g · z / (1 + z) with z = exp βx."""
    scaled = x * beta
    z = call("exp", scaled)
    return where(greater(scaled, threshold), g, g * z / (z + ONE))


def mish_backward(g: Expr, x: Expr) -> Expr:
    """From t = tanh(softplus(x)) and σ = sigmoid(x)."""
    t = call("tanh", call("log1p", call("exp", x)))
    return g * (t + x * call("sigmoid", x) * (ONE - t * t))


def hardswish_backward(g: Expr, x: Expr) -> Expr:
    """0 up to -3, 1 from 3 on, linear between."""
    return where(greater(x, -_THREE), where(greater(_THREE, x), g * (x / _THREE + HALF), g), ZERO)


def log_sigmoid_backward(g: Expr, x: Expr, buffer: Expr) -> Expr:
    """From the buffer z = exp -|x| that the forward kernel kept."""
    falling = buffer / (ONE + buffer)
    return where(greater(ZERO, x), g * (ONE - falling), g * falling)


def hardsigmoid_backward(decisions: Decisions, g: Array, x: Array) -> Array:
    """A sixth of g between -3 and 3."""
    # PyTorch's kernel multiplies by 1.0f / 6.0f in double precision too, and is wrong in the eighth digit there.
    is_double = decisions.arguments[0].dtype == torch.float64
    sixth = constant(torch.tensor(1 / 6, dtype=torch.float32).item()) if is_double else ONE / _SIX
    return elementwise(lambda c, e: where(between(e, -_THREE, _THREE), c * sixth, ZERO), g, x)


def glu_jvp(y: Array, x: Array, dx: Array, dim: int) -> Array:
    """The tangent of y = a · σ(b), x being a and b one after the other."""
    (_, b), (da, db) = np.split(x, 2, axis=dim), np.split(dx, 2, axis=dim)

    def tangent(y: Expr, b: Expr, da: Expr, db: Expr) -> Expr:
        s = call("sigmoid", b)
        return da * s + db * (y - s * y)

    return elementwise(tangent, y, b, da, db)


RULES: Final[dict[str, Rule]] = {
    "aten.relu": pointwise(lambda x: where(greater(x, ZERO), x, ZERO)),
    "aten.threshold": pointwise(lambda x, threshold, value: where(greater(x, threshold), x, value)),
    "aten.threshold_backward": pointwise(lambda g, x, threshold: where(greater(x, threshold), g, ZERO)),
    "aten.leaky_relu": pointwise(lambda x, slope=_LEAK: where(greater(x, ZERO), x, x * slope)),
    "aten.leaky_relu_backward": pointwise(lambda g, x, slope, _: where(greater(x, ZERO), g, g * slope)),
    "aten._prelu_kernel": pointwise(lambda x, w: where(greater(x, ZERO), x, w * x)),
    "aten._prelu_kernel_backward": array(
        lambda g, x, w: (
            elementwise(lambda g, x, w: where(greater(x, ZERO), g, w * g), g, x, w),
            elementwise(lambda g, x: where(greater(x, ZERO), ZERO, x * g), g, x),
        )
    ),
    "aten.elu": pointwise(elu),
    "aten.elu_backward": pointwise(elu_backward),
    "aten.gelu": pointwise(gelu),
    "aten.gelu_backward": pointwise(gelu_backward),
    "aten.glu_jvp": array(glu_jvp),
    "aten.sigmoid": pointwise(lambda x: call("sigmoid", x)),
    "aten.sigmoid_backward": pointwise(lambda g, y: g * ((ONE - y) * y)),
    "aten.tanh_backward": pointwise(lambda g, y: g * (ONE - y * y)),
    "aten.silu": pointwise(lambda x: x / (ONE + call("exp", -x))),
    "aten.silu_backward": pointwise(silu_backward),
    "aten.mish": pointwise(lambda x: x * call("tanh", call("log1p", call("exp", x)))),
    "aten.mish_backward": pointwise(mish_backward),
    "aten.softplus": pointwise(softplus),
    "aten.softplus_backward": pointwise(softplus_backward),
    # The buffer makes log(1 + exp -x) safe from overflow. Real numbers do not overflow, and have no kink at 0 here.
    "aten.log_sigmoid_forward": array(
        lambda x: (
            elementwise(lambda e: -call("log1p", call("exp", -e)), x),
            elementwise(lambda e: call("exp", -absolute(e)), x),
        )
    ),
    "aten.log_sigmoid_backward": pointwise(log_sigmoid_backward),
    "aten.hardtanh": pointwise(lambda x, low=-ONE, high=ONE: clamp(x, low, high)),
    "aten.hardtanh_backward": pointwise(lambda g, x, low, high: where(between(x, low, high), g, ZERO)),
    "aten.hardsigmoid": pointwise(lambda x: clamp(x + _THREE, ZERO, _SIX) / _SIX),
    "aten.hardsigmoid_backward": guarded(hardsigmoid_backward),
    "aten.hardswish": pointwise(lambda x: x * clamp(x + _THREE, ZERO, _SIX) / _SIX),
    "aten.hardswish_backward": pointwise(hardswish_backward),
    "aten.hardshrink": pointwise(lambda x, size=HALF: where(within(x, -size, size), ZERO, x)),
    "aten.hardshrink_backward": pointwise(lambda g, x, size: where(within(x, -size, size), ZERO, g)),
    "aten.softshrink": pointwise(
        lambda x, size=HALF: where(greater(x, size), x - size, where(greater(-size, x), x + size, ZERO))
    ),
    "aten.softshrink_backward": pointwise(lambda g, x, size: where(within(x, -size, size), ZERO, g)),
}
