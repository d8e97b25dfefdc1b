"""Rules of single elements: arithmetic, elementary functions, comparisons, rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce as fold
from typing import Any, Final

import numpy as np
import torch

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import (
    HALF,
    MINUS_ONE,
    NAN,
    ONE,
    PI,
    TWO,
    ZERO,
    Expr,
    call,
    computed_as,
    constant,
    equal,
    greater,
    greater_equal,
    is_constant,
    logical_and,
    logical_not,
    logical_or,
    multiply,
    number,
    positive,
    power,
    rounded,
    vanishes,
    where,
)
from diffcheck.errors import Unsupported
from diffcheck.rules.registry import Array, Decisions, Rule, elementwise, guarded, in_numpy, integers, lift, pointwise


def larger(x: Expr, y: Expr) -> Expr:
    """max(x, y)."""
    return where(greater(x, y), x, y)


def smaller(x: Expr, y: Expr) -> Expr:
    """min(x, y)."""
    return where(greater(x, y), y, x)


def largest(values: list[Expr]) -> Expr:
    """The maximum of some elements."""
    return fold(larger, values)


def smallest(values: list[Expr]) -> Expr:
    """The minimum of some elements."""
    return fold(smaller, values)


def absolute(x: Expr) -> Expr:
    """|x|."""
    return where(greater_equal(x, ZERO), x, -x)


def sign(x: Expr) -> Expr:
    """-1, 0 or 1."""
    return where(vanishes(x), ZERO, where(positive(x), ONE, MINUS_ONE))


def floor(x: Expr) -> Expr:
    """The largest integer that is not above x."""
    value = number(x)
    return call("floor", x) if value is None else constant(math.floor(value))


def ceil(x: Expr) -> Expr:
    """The smallest integer that is not below x."""
    return -floor(-x)


def trunc(x: Expr) -> Expr:
    """The integer part."""
    return where(greater_equal(x, ZERO), floor(x), ceil(x))


def nearest(x: Expr, decimals: int = 0) -> Expr:
    """The nearest integer, of two the even one; or the nearest multiple of a power of ten."""
    unit = power(constant(10), constant(-decimals))
    scaled = x / unit
    up = floor(scaled + HALF)
    is_odd = up - TWO * floor(up / TWO)
    return (up - equal(up - scaled, HALF) * is_odd) * unit


def quotient(x: Expr, y: Expr, rounding_mode: str | None = None) -> Expr:
    """x / y, rounded as `torch.div` is asked to."""
    match rounding_mode:
        case "floor":
            return floor(x / y)
        case "trunc":
            return trunc(x / y)
        case _:
            return x / y


def clamp(x: Expr, low: Expr | None = None, high: Expr | None = None) -> Expr:
    """x, held between two bounds; the upper one wins if they cross."""
    raised = x if low is None else larger(x, low)
    return raised if high is None else smaller(raised, high)


def angle_at_negative_zero(negative: tuple[bool, bool], y: Expr, x: Expr) -> Expr:
    """atan2 on the other side of its cut: -0.0 belongs below the axis, and left of the origin."""
    side = PI * vanishes(y) if negative[1] else ZERO
    return -(call("atan2", -y, x) + side) if negative[0] else call("atan2", y, x) + side


def copied_sign(x: Expr, y: Expr) -> Expr:
    """|x| with the sign of y."""
    return where(greater_equal(y, ZERO), absolute(x), -absolute(x))


def copied_sign_of_zero(negative: tuple[bool, bool], x: Expr, y: Expr) -> Expr:
    """The same where the sign of y is known, though y is 0."""
    return where(positive(y), absolute(x), -absolute(x)) if negative[1] else copied_sign(x, y)


def x_log_y(x: Expr, y: Expr) -> Expr:
    """x · log y, which is 0 for x = 0 whatever y is."""
    return where(vanishes(x), ZERO, x * y)


def logit(x: Expr, eps: Expr | None = None) -> Expr:
    """log(x / (1 - x)), after clamping to [eps, 1 - eps]; the lower one wins if they cross."""
    inside = x
    if eps is not None:
        crossed = where(greater(eps, x), eps, ONE - eps)
        inside = where(greater(eps, ONE - eps), crossed, clamp(x, eps, ONE - eps))
    return call("log", inside / (ONE - inside))


def sinc(x: Expr) -> Expr:
    """sin πx / πx, continued to 1 at 0."""
    angle = PI * x
    return where(vanishes(x), ONE, call("sin", angle) / angle)


def entropy(x: Expr) -> Expr:
    """-x · log x, continued to 0 at 0. Below, where PyTorch has -∞, there is none."""
    return where(vanishes(x), ZERO, -x * call("log", x))


def scaled_bessel(order: Expr, x: Expr) -> Expr:
    """exp(-|x|) times a modified Bessel function."""
    return call("exp", -absolute(x)) * call("besseli", order, x)


def log_normal_distribution(x: Expr) -> Expr:
    """log Φ(x); the kernel takes the exponential factor out of the error function below -1."""
    t = x / _ROOT_TWO
    below = call("log", HALF * call("erfcx", -t)) - x * x * HALF
    above = call("log1p", -HALF * call("erfc", t))
    return computed_as(call("log", HALF * call("erfc", -t)), where(greater(-ONE, x), below, above))


def is_nan(x: Expr) -> Expr:
    """Whether a constant is NaN: everything that depends on the inputs is taken to be finite."""
    return ONE if x is NAN else ZERO


def is_infinite(x: Expr) -> Expr:
    """Whether a constant is an infinity."""
    return ONE if is_constant(x) and number(x) is None and x is not NAN else ZERO


def nan_to_num(x: Expr, nan: Expr | None = None, posinf: Expr | None = None, neginf: Expr | None = None) -> Expr:
    """A constant NaN or infinity replaced; the largest float of the dtype is not known here."""
    if x is NAN:
        return nan or ZERO
    if is_infinite(x) is ZERO:
        return x
    replacement = posinf if greater(x, ZERO) is ONE else neginf
    if replacement is None:
        raise Unsupported("aten.nan_to_num", "it replaces an infinity by the largest float of the dtype")
    return replacement


def _function(head: str) -> Rule:
    return pointwise(lambda x: call(head, x))


def truth(x: Any, real: Any) -> Any:
    """Selectors for "is not zero"; a boolean tensor's shadow holds selectors already."""
    if not isinstance(x, np.ndarray):
        return constant(int(bool(real)))
    return x if real.dtype == torch.bool else elementwise(lambda e: logical_not(vanishes(e)), x)


def _logical(function: Callable[..., Expr]) -> Rule:
    def apply(decisions: Decisions, *args: Any) -> Array:
        return elementwise(function, *(truth(x, real) for x, real in zip(args, decisions.arguments, strict=True)))

    return guarded(apply)


def _bitwise(function: Callable[..., Expr], of_numbers: Callable[..., Any], operation: str) -> Rule:
    """An operation on bits: on those of truth values it is one of logic, of whole numbers it needs the numbers."""

    def apply(decisions: Decisions, *args: Any) -> Array:
        reals = [real if isinstance(real, torch.Tensor) else torch.tensor(real) for real in decisions.arguments]
        if all(real.dtype == torch.bool for real in reals):
            return elementwise(function, *(truth(x, real) for x, real in zip(args, reals, strict=True)))
        numbers = [integers(elementwise(lambda e: e, x), operation) for x in args]
        return elementwise(lambda e: constant(int(e)), of_numbers(*numbers).astype(object))

    return guarded(apply)


def differ(x: Expr, y: Expr) -> Expr:
    """[x ≠ y]."""
    return logical_not(equal(x, y))


_ROOT_TWO: Final = call("sqrt", TWO)
_LOG_2: Final = call("log", TWO)
_LOG_10: Final = call("log", constant(10))


def _frexp(decisions: Decisions, x: Array) -> tuple[Array, Array]:
    """x over a power of two, and which; relies on the power staying the same."""
    exponents = in_numpy(decisions.result[1])
    mantissas = x.copy()
    for index in np.ndindex(*x.shape):
        unit = power(TWO, constant(int(exponents[index])))
        mantissas[index] = x[index] / unit
        if decisions.result[0].detach()[index] != 0:
            decisions.record(greater(unit * HALF, absolute(x.item(*index))), False)
            decisions.record(greater(unit, absolute(x.item(*index))), True)
    return mantissas, elementwise(lambda e: constant(int(e)), exponents.astype(object))


def _neighbour(decisions: Decisions, x: Array, _: Array) -> Array:
    """The same number, an ulp away: to differentiation the identity, to rounding one of one bit less."""
    bits = 1 - round(math.log2(torch.finfo(decisions.result.dtype).eps))
    return elementwise(lambda e: rounded(e, bits - 1), x)


RULES: Final[dict[str, Rule]] = {
    "aten.frexp": guarded(_frexp),
    "aten.nextafter": guarded(_neighbour),
    # Arithmetic
    "aten.add": pointwise(lambda x, y, alpha=1: x + scalar(alpha) * y),
    "aten.sub": pointwise(lambda x, y, alpha=1: x - scalar(alpha) * y),
    "aten.rsub": pointwise(lambda x, y, alpha=1: y - lift(alpha) * x),
    "aten.mul": pointwise(multiply),
    "aten.div": pointwise(quotient),
    "aten.floor_divide": pointwise(lambda x, y: floor(x / y)),
    "aten.remainder": pointwise(lambda x, y: x - y * floor(x / y)),
    "aten.fmod": pointwise(lambda x, y: x - y * trunc(x / y)),
    "aten.neg": pointwise(lambda x: -x),
    "aten.reciprocal": pointwise(lambda x: ONE / x),
    "aten.addcmul": pointwise(lambda x, y, z, value=1: x + scalar(value) * y * z),
    "aten.addcdiv": pointwise(lambda x, y, z, value=1: x + scalar(value) * y / z),
    "aten.lerp": pointwise(lambda x, y, weight: x + weight * (y - x)),
    # Powers, exponentials and logarithms
    "aten.pow": pointwise(power),
    "aten.sqrt": _function("sqrt"),
    "aten.rsqrt": pointwise(lambda x: ONE / call("sqrt", x)),
    "aten.hypot": pointwise(lambda x, y: call("sqrt", x * x + y * y)),
    "aten.exp": _function("exp"),
    "aten.exp2": pointwise(lambda x: power(TWO, x)),
    "aten.expm1": _function("expm1"),
    "aten.log": _function("log"),
    "aten.log1p": _function("log1p"),
    "aten.log2": pointwise(lambda x: call("log", x) / _LOG_2),
    "aten.log10": pointwise(lambda x: call("log", x) / _LOG_10),
    "aten.logaddexp": pointwise(lambda x, y: call("log", call("exp", x) + call("exp", y))),
    "aten.logaddexp2": pointwise(lambda x, y: call("log", power(TWO, x) + power(TWO, y)) / _LOG_2),
    "aten.xlogy": pointwise(lambda x, y: x_log_y(x, call("log", y))),
    "aten.special_xlog1py": pointwise(lambda x, y: x_log_y(x, call("log1p", y))),
    "aten.special_entr": pointwise(entropy),
    "aten.logit": pointwise(logit),
    # Circular and hyperbolic functions
    "aten.sin": _function("sin"),
    "aten.cos": _function("cos"),
    "aten.tan": _function("tan"),
    "aten.asin": _function("asin"),
    "aten.acos": _function("acos"),
    "aten.atan": _function("atan"),
    "aten.atan2": pointwise(lambda y, x: call("atan2", y, x), angle_at_negative_zero),
    "aten.sinh": _function("sinh"),
    "aten.cosh": _function("cosh"),
    "aten.tanh": _function("tanh"),
    "aten.asinh": _function("asinh"),
    "aten.acosh": _function("acosh"),
    "aten.atanh": _function("atanh"),
    "aten.sinc": pointwise(sinc),
    # Special functions
    "aten.erf": _function("erf"),
    "aten.erfc": _function("erfc"),
    "aten.erfinv": _function("erfinv"),
    "aten.lgamma": _function("lgamma"),
    "aten.digamma": pointwise(lambda x: call("polygamma", ZERO, x)),
    "aten.polygamma": pointwise(lambda n, x: call("polygamma", n, x)),
    "aten.i0": pointwise(lambda x: call("besseli", ZERO, x)),
    "aten.special_i0e": pointwise(lambda x: scaled_bessel(ZERO, x)),
    "aten.special_i1": pointwise(lambda x: call("besseli", ONE, x)),
    "aten.special_i1e": pointwise(lambda x: scaled_bessel(ONE, x)),
    "aten.special_erfcx": _function("erfcx"),
    "aten.special_ndtri": pointwise(lambda x: _ROOT_TWO * call("erfinv", TWO * x - ONE)),
    "aten.special_log_ndtr": pointwise(log_normal_distribution),
    # Pieces
    "aten.abs": pointwise(absolute),
    "aten.sign": pointwise(sign),
    "aten.sgn": pointwise(sign),
    "aten.signbit": pointwise(lambda x: greater(ZERO, x), lambda negative, x: ONE if negative[0] else greater(ZERO, x)),
    "aten.maximum": pointwise(larger),
    "aten.minimum": pointwise(smaller),
    "aten.fmax": pointwise(larger),
    "aten.fmin": pointwise(smaller),
    "aten.clamp": pointwise(clamp),
    "aten.clamp_min": pointwise(larger),
    "aten.clamp_max": pointwise(smaller),
    "aten.where": pointwise(where),
    "aten.masked_fill": pointwise(lambda x, mask, value: where(mask, value, x)),
    "aten.heaviside": pointwise(lambda x, y: where(vanishes(x), y, positive(x))),
    # A step off its jump: π for negative numbers.
    "aten.angle": pointwise(lambda x: where(greater(ZERO, x), PI, ZERO)),
    "aten.copysign": pointwise(copied_sign, copied_sign_of_zero),
    "aten.floor": pointwise(floor),
    "aten.ceil": pointwise(ceil),
    "aten.trunc": pointwise(trunc),
    "aten.frac": pointwise(lambda x: x - trunc(x)),
    "aten.round": pointwise(nearest),
    # Comparisons and logic
    "aten.eq": pointwise(equal),
    "aten.ne": pointwise(differ),
    "aten.gt": pointwise(greater),
    "aten.ge": pointwise(greater_equal),
    "aten.lt": pointwise(lambda x, y: greater(y, x)),
    "aten.le": pointwise(lambda x, y: greater_equal(y, x)),
    "aten.logical_and": _logical(logical_and),
    "aten.logical_or": _logical(logical_or),
    "aten.logical_xor": _logical(differ),
    "aten.logical_not": _logical(logical_not),
    "aten.bitwise_and": _bitwise(logical_and, np.bitwise_and, "aten.bitwise_and"),
    "aten.bitwise_or": _bitwise(logical_or, np.bitwise_or, "aten.bitwise_or"),
    "aten.bitwise_xor": _bitwise(differ, np.bitwise_xor, "aten.bitwise_xor"),
    "aten.bitwise_not": _bitwise(logical_not, np.invert, "aten.bitwise_not"),
    "aten.isnan": pointwise(is_nan),
    "aten.isinf": pointwise(is_infinite),
    "aten.nan_to_num": pointwise(nan_to_num),
}
