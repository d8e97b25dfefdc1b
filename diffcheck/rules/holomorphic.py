"""Functions and products of complex numbers: real and imaginary part, each an expression of both.

Powers and roots are those of the principal branch, in polar form: |z|ᵖ·exp(i·p·θ), with θ = atan2(im, re).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, Final

import numpy as np

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import HALF, ONE, PI, ZERO, Expr, call, constant, logical_not, number, vanishes
from diffcheck.rules import layout, matrix, reduction
from diffcheck.rules.complexes import Complex, as_complex, both_parts, linear, numbers
from diffcheck.rules.registry import Array, Rule, array, dimensions, elements, elementwise

_ONE: Final = Complex(ONE, ZERO)


def _squared_size(z: Complex) -> Expr:
    return z.re * z.re + z.im * z.im


def argument(z: Complex) -> Expr:
    """The angle θ, from -π to π."""
    return call("atan2", z.im, z.re)


def exponential(z: Complex) -> Complex:
    """exp(re)·(cos im + i·sin im)."""
    size = call("exp", z.re)
    return Complex(size * call("cos", z.im), size * call("sin", z.im))


def exponential_less_one(z: Complex) -> Complex:
    """exp(z) - 1, without the difference: (exp(re) - 1)·cos im - 2·sin²(im/2), + i·exp(re)·sin im."""
    half = call("sin", HALF * z.im)
    return Complex(call("expm1", z.re) * call("cos", z.im) - 2 * half * half, exponential(z).im)


def logarithm(z: Complex) -> Complex:
    """log|z| + iθ."""
    return Complex(HALF * call("log", _squared_size(z)), argument(z))


def _scaled(factor: Expr, z: Complex) -> Complex:
    return Complex(factor * z.re, factor * z.im)


def real_power(z: Complex, exponent: Expr) -> Complex:
    """|z|ᵖ·exp(i·p·θ)."""
    angle = exponent * argument(z)
    size = call("sqrt", _squared_size(z)) ** exponent
    return Complex(size * call("cos", angle), size * call("sin", angle))


def power(z: Complex, exponent: Complex) -> Complex:
    """z to the power of an integer by products; of another number on the principal branch."""
    fixed = number(exponent.re) if exponent.im is ZERO else None
    if fixed is not None and fixed.denominator == 1 and abs(fixed) <= _MOST_FACTORS:
        product = reduce(lambda a, b: a * b, [z] * abs(int(fixed)), _ONE) if fixed else _ONE
        return product if fixed >= 0 else _ONE / product
    if exponent.im is ZERO:
        return real_power(z, exponent.re)
    return exponential(exponent * logarithm(z))


_MOST_FACTORS: Final = 8


def sine(z: Complex) -> Complex:
    """sin re·cosh im + i·cos re·sinh im."""
    return Complex(call("sin", z.re) * call("cosh", z.im), call("cos", z.re) * call("sinh", z.im))


def cosine(z: Complex) -> Complex:
    """cos re·cosh im - i·sin re·sinh im."""
    return Complex(call("cos", z.re) * call("cosh", z.im), -(call("sin", z.re) * call("sinh", z.im)))


def hyperbolic_sine(z: Complex) -> Complex:
    """sinh re·cos im + i·cosh re·sin im."""
    return Complex(call("sinh", z.re) * call("cos", z.im), call("cosh", z.re) * call("sin", z.im))


def hyperbolic_cosine(z: Complex) -> Complex:
    """cosh re·cos im + i·sinh re·sin im."""
    return Complex(call("cosh", z.re) * call("cos", z.im), call("sinh", z.re) * call("sin", z.im))


_I: Final = Complex(ZERO, ONE)


def _root(z: Complex) -> Complex:
    return real_power(z, HALF)


def inverse_sine(z: Complex) -> Complex:
    """-i·log(iz + √(1 - z²))."""
    return -_I * logarithm(_I * z + _root(_ONE - z * z))


def inverse_tangent(z: Complex) -> Complex:
    """i/2·(log(1 - iz) - log(1 + iz))."""
    return _scaled(HALF, _I * (logarithm(_ONE - _I * z) - logarithm(_ONE + _I * z)))


def inverse_hyperbolic_sine(z: Complex) -> Complex:
    """log(z + √(z² + 1))."""
    return logarithm(z + _root(z * z + _ONE))


def inverse_hyperbolic_cosine(z: Complex) -> Complex:
    """log(z + √(z + 1)·√(z - 1))."""
    return logarithm(z + _root(z + _ONE) * _root(z - _ONE))


def inverse_hyperbolic_tangent(z: Complex) -> Complex:
    """(log(1 + z) - log(1 - z))/2."""
    return _scaled(HALF, logarithm(_ONE + z) - logarithm(_ONE - z))


def _logarithm_to(base: int) -> Rule:
    return numbers(lambda z: _scaled(ONE / call("log", constant(base)), logarithm(z)))


def _matrix_product(rule: Rule) -> Rule:
    """A product of matrices, from the rule for real ones: each part is one sum of twice as many real products.

    Some kernels add up the products of real parts and those of imaginary parts apart, others in turn (MKL's for
    processors that are not Intel's): in an order that is not known (Higham, Accuracy and Stability of Numerical
    Algorithms, 3.6 and 4.2).
    """

    def apply(a: Array, b: Array) -> Array:
        (ar, ai), (br, bi) = (both_parts(x) for x in (a, b))
        left = np.concatenate([ar, ai], axis=-1)
        real = rule.apply(left, np.concatenate([br, -bi], axis=-2))
        imaginary = rule.apply(left, np.concatenate([bi, br], axis=-2))
        return elements(map(Complex, real.flat, imaginary.flat), real.shape)

    return array(apply)


def _product(x: Array, dim: int | None = None, keepdim: bool = False, **_: Any) -> Array:
    axes = dimensions(dim, x.ndim)
    rows = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim))
    kept = rows.shape[: x.ndim - len(axes)]
    flat = rows.reshape(*kept, -1)
    found = elements((reduce(lambda a, b: a * b, map(as_complex, flat[i]), _ONE) for i in np.ndindex(*kept)), kept)
    return found.reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdim else found


def _running_product(x: Array, dim: int, **_: Any) -> Array:
    found = elements(map(as_complex, x.flat), x.shape)
    if found.ndim == 0:
        return found
    rows = np.moveaxis(found, dim, 0)  # a window: what is written to it is written to `found`
    for index in np.ndindex(*rows.shape):
        if index[0]:
            rows[index] = rows[index[0] - 1, *index[1:]] * rows[index]
    return found


def _of_each(function: Callable[[Complex], Expr]) -> Rule:
    return array(lambda x: elements((function(as_complex(e)) for e in x.flat), x.shape))


def _equality(wanted: Callable[[Expr], Expr]) -> Rule:
    def apply(x: Array, y: Any) -> Array:
        other = y if isinstance(y, np.ndarray) else elements([as_complex(y)], ())
        pairs = np.broadcast_arrays(x, other)
        differences = (as_complex(a) - b for a, b in zip(*(p.flat for p in pairs), strict=True))
        return elements((wanted(vanishes(d.re) * vanishes(d.im)) for d in differences), pairs[0].shape)

    return array(apply)


def _variance(x: Array, *args: Any, **options: Any) -> Array:
    """That of the real parts and that of the imaginary ones, added up."""
    return elementwise(lambda a, b: a + b, *(reduction.variance(part, *args, **options) for part in both_parts(x)))


def _batch_sum(x: Array, a: Array, b: Array, beta: Any = 1, alpha: Any = 1) -> Array:
    in_one = np.concatenate(list(a), axis=1), np.concatenate(list(b), axis=0)
    product = _matrix_product(matrix.RULES["aten.mm"]).apply(*in_one)
    terms: Array = numbers(lambda start, y: as_complex(beta) * start + as_complex(alpha) * y).apply(x, product)
    return terms


def _mean(x: Array, dim: Any = None, keepdim: bool = False, **_: Any) -> Array:
    found: Array = linear(reduction.RULES["aten.mean"]).apply(x, dim, keepdim)
    return found


RULES: Final[dict[str, Rule]] = {
    "complex.aten.exp": numbers(exponential),
    "complex.aten.exp2": numbers(lambda z: exponential(_scaled(call("log", constant(2)), z))),
    "complex.aten.expm1": numbers(exponential_less_one),
    "complex.aten.log": numbers(logarithm),
    "complex.aten.log1p": numbers(lambda z: logarithm(z + ONE)),
    "complex.aten.log2": _logarithm_to(2),
    "complex.aten.log10": _logarithm_to(10),
    "complex.aten.sqrt": numbers(lambda z: real_power(z, HALF)),
    "complex.aten.rsqrt": numbers(lambda z: real_power(z, -HALF)),
    "complex.aten.pow": numbers(power),
    "complex.aten.reciprocal": numbers(lambda z: _ONE / z),
    "complex.aten.sigmoid": numbers(lambda z: _ONE / (_ONE + exponential(-z))),
    "complex.aten.sigmoid_backward": numbers(lambda g, y: g * (y * (_ONE - y)).conjugate()),
    "complex.aten.tanh_backward": numbers(lambda g, y: g * (_ONE - y * y).conjugate()),
    "complex.aten.sin": numbers(sine),
    "complex.aten.cos": numbers(cosine),
    "complex.aten.tan": numbers(lambda z: sine(z) / cosine(z)),
    "complex.aten.sinh": numbers(hyperbolic_sine),
    "complex.aten.cosh": numbers(hyperbolic_cosine),
    "complex.aten.tanh": numbers(lambda z: hyperbolic_sine(z) / hyperbolic_cosine(z)),
    "complex.aten.asin": numbers(inverse_sine),
    "complex.aten.acos": numbers(lambda z: Complex(HALF * PI, ZERO) - inverse_sine(z)),
    "complex.aten.atan": numbers(inverse_tangent),
    "complex.aten.asinh": numbers(inverse_hyperbolic_sine),
    "complex.aten.acosh": numbers(inverse_hyperbolic_cosine),
    "complex.aten.atanh": numbers(inverse_hyperbolic_tangent),
    "complex.aten.angle": _of_each(argument),
    "complex.aten.eq": _equality(lambda equal_ones: equal_ones),
    "complex.aten.ne": _equality(logical_not),
    "complex.aten.mean": linear(reduction.RULES["aten.mean"]),
    "complex.aten.var": array(_variance),
    "complex.aten.std": array(lambda *args, **options: reduction.root(_variance(*args, **options))),
    "complex.aten.var_mean": array(lambda x, *where, **how: (_variance(x, *where, **how), _mean(x, *where, **how))),
    "complex.aten.std_mean": array(
        lambda x, *where, **how: (reduction.root(_variance(x, *where, **how)), _mean(x, *where, **how))
    ),
    "complex.aten.cumsum": linear(reduction.RULES["aten.cumsum"]),
    "complex.aten.prod": array(_product),
    "complex.aten.cumprod": array(_running_product),
    "complex.aten.mm": _matrix_product(matrix.RULES["aten.mm"]),
    "complex.aten.bmm": _matrix_product(matrix.RULES["aten.bmm"]),
    "complex.aten.addbmm": array(_batch_sum),
    "complex.aten.trace": linear(layout.RULES["aten.trace"]),
    "complex.aten.full": array(lambda size, value, **_: elements([_written(value)] * int(np.prod(size)), tuple(size))),
    "complex.aten.full_like": array(lambda x, value, **_: elements([_written(value)] * x.size, x.shape)),
}


def _written(value: Any) -> Complex:
    return as_complex(value) if isinstance(value, complex) else Complex(scalar(value), ZERO)
