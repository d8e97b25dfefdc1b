"""Elementary functions in extended precision, each with a proven bound of its error.

Numbers are x87's: 64 bits, which NumPy calls `longdouble`. Its +, -, ×, ÷ and √ are the processor's and round
correctly, so that each is off by at most u = 2⁻⁶⁴ of its result (Higham, Accuracy and Stability of Numerical
Algorithms, 2.2); nothing else of NumPy's is trusted. A function is reduced to a centre whose value stands in a table,
made by ball arithmetic, and a short Taylor series around it (Tang, Table-lookup algorithms for elementary functions and
their error analysis, 1991). What is small enough is computed in float64, where the unit is 2⁻⁵³. By ε a proof means
what is below 2⁻⁷ of what stands beside it. Arguments are 0, or from 2⁻⁴⁰⁰ to 2⁵⁰⁰ of size, as `extended` sees
to: bounds are float64, and do not underflow there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from flint import arb, ctx

from diffcheck.certify.floats import Floats

Extended: TypeAlias = npt.NDArray[np.longdouble]

UNIT: Final = 2.0**-64
"""Half an ulp, relative: what an operation rounds by."""
_TABLE_BITS: Final = 200
_ONE: Final = np.longdouble(1)


def available() -> bool:
    """Whether this machine has x87's format, and computes in it."""
    return np.finfo(np.longdouble).nmant == 63 and bool(_ONE + np.longdouble(2.0**-63) > _ONE)


@dataclass(frozen=True, slots=True)
class Found:
    """A function's values at exact arguments, and what an argument's error does to them."""

    value: Extended
    error: Floats
    """An upper bound of the distance to the true value; not finite where the function was not computed."""
    slope: Floats
    """An upper bound of the derivative's size, up to `reach` away from the argument."""
    reach: Floats | float


def size(x: Extended) -> Floats:
    """|x| in float64."""
    found: Floats = np.abs(x.astype(np.float64))
    return found


def nearest(ball: arb) -> np.longdouble:
    """What a ball encloses, within (1 + 2⁻⁴⁰)·u of it: two floats of 53 bits, added up and rounded once."""
    head = float(ball.mid())
    return np.longdouble(head) + np.longdouble(float(ball.mid() - head))


def _table(entries: Callable[[], list[arb]]) -> Extended:
    kept = ctx.prec
    ctx.prec = _TABLE_BITS
    try:
        return np.array(list(map(nearest, entries())), dtype=np.longdouble)
    finally:
        ctx.prec = kept


@cache
def pi() -> np.longdouble:
    """π, within 1.01 u of it."""
    return np.longdouble(_table(lambda: [arb.pi()])[0])


def _limited(x: Extended, inside: npt.NDArray[np.bool_], otherwise: float) -> Extended:
    """The arguments, and where they are not inside of what a function is computed for, another one."""
    return x if inside.all() else np.where(inside, x, np.longdouble(otherwise))


# ---------------------------------------------------------------------------------------------------------------------
# Exponentials
# ---------------------------------------------------------------------------------------------------------------------

_LARGEST_EXPONENT: Final = 340.0
_VANISHED: Final = 2.0**-490
"""exp(-340) is less."""
_STEPS: Final = 64
"""Powers of 2 in the table, for every factor of 2."""
_MOST_STEPS: Final = 491 * _STEPS


@cache
def _powers() -> tuple[Extended, Extended]:
    """2**(k/64), and the same less 1, for k from -_MOST_STEPS to _MOST_STEPS.

    Each is within 1.01 u of its true value, relatively; less 1, within 3.1 u where |k| > 64: there 1 is taken off the
    former, which is at most 1/2 or at least 2.
    """
    base = _table(lambda: [(arb(k) / _STEPS * arb(2).log()).exp() for k in range(_STEPS)])
    scales = 2.0 ** np.arange(-_MOST_STEPS // _STEPS, _MOST_STEPS // _STEPS + 1)
    powers = np.multiply.outer(scales.astype(np.longdouble), base).ravel()[: 2 * _MOST_STEPS + 1]
    less_one = powers - _ONE
    near = range(-_STEPS, _STEPS + 1)
    less_one[_MOST_STEPS - _STEPS : _MOST_STEPS + _STEPS + 1] = _table(
        lambda: [(arb(k) / _STEPS * arb(2).log()).expm1() for k in near]
    )
    return powers, less_one


@cache
def _step() -> tuple[np.longdouble, float]:
    """ln 2/64 as a head of 44 bits, whose product with any k is exact, and a tail below 2⁻⁵⁰."""
    kept = ctx.prec
    ctx.prec = _TABLE_BITS
    try:
        step = arb(2).log() / _STEPS
        head = round(float(step) * 2.0**50) * 2.0**-50
        return np.longdouble(head), float(step - head)
    finally:
        ctx.prec = kept


def _reduced(x: Extended, near: Floats) -> tuple[npt.NDArray[np.intp], Extended]:
    """k, as a place in the table, and z = exp(x - k·ln 2/64) - 1, for |x| ≤ 340; `near` is x in float64.

    r = x - k·ln 2/64 is at most 0.00542 = 2⁻⁷·⁵ (k is an integer next to its quotient, up to 2⁻³⁶). k times the head is
    exact: 15 and 44 bits. So is what it leaves of x: for k ≠ 0 both are multiples of 2⁻⁷¹, and it is below 2⁻⁷. The
    tail's product, below 2⁻³⁵, is off by 2⁻⁸⁸, and taking it off rounds by u|r|. Of z = r + (r²/2 + p) the square and
    the inner sum round by u·r²/2 each; p, a series in float64 that ends with r⁷/7!, is off by 8·2⁻⁵³ of its at most
    2⁻²⁵, and leaves out 2⁻⁷⁵; the outer sum rounds by u|z|. That is 2u·2⁻⁷·⁵ + ε together, less than 0.0127 u; and for
    k = 0, where nothing is taken off, less than 1.2 u|z|, since the square is at most 2⁻⁸·⁵ of r.
    """
    head, tail = _step()
    k = np.rint(near * (1 / float(head)))
    r = (x - k.astype(np.longdouble) * head) - (k * tail).astype(np.longdouble)
    s = r.astype(np.float64)
    p = s * s * s * (1 / 6 + s * (1 / 24 + s * (1 / 120 + s * (1 / 720 + s * (1 / 5040)))))
    z = r + (r * (r * np.longdouble(0.5)) + p.astype(np.longdouble))
    return k.astype(np.intp) + _MOST_STEPS, z


def exp(x: Extended) -> Found:
    """eˣ, within 2.1 u|eˣ|.

    It is T + T·z: T is off by 1.01 u, relatively, the product rounds by u·2⁻⁷·⁵ of T, z is off by 0.0127 u, and the sum
    rounds by u. Below -340 it is 0, and off by less than 2⁻⁴⁹⁰.
    """
    near = x.astype(np.float64)
    inside = np.abs(near) <= _LARGEST_EXPONENT
    within = _limited(x, inside, 0.0)
    place, z = _reduced(within, within.astype(np.float64))
    powers = _powers()[0].take(place)
    value = powers + powers * z
    sized = size(value)
    error = (2.1 * UNIT) * sized
    if not inside.all():
        vanished = near < -_LARGEST_EXPONENT
        value = np.where(vanished, np.longdouble(0), value)
        error = np.where(inside, error, np.where(vanished, _VANISHED, np.nan))
        sized = np.where(vanished, _VANISHED, sized)
    return Found(value, error, sized * (1 + 2.0**-9), 2.0**-10)


def expm1(x: Extended) -> Found:
    """eˣ - 1, within 8 u|eˣ - 1|.

    It is M + T·z. For k = 0 that is z. For 0 < |k| ≤ 64, M and T·z are at most 2.02 and 1.02 times the result, and T is
    at most 186 times (at k = ±1, where half of M may be taken off): M is off by 1.01 u, the product by 2.01 u, z by
    0.0127 u, and the sum rounds by u. Beyond that M is off by 3.1 u, the product's part is ε.
    """
    near = x.astype(np.float64)
    inside = np.abs(near) <= _LARGEST_EXPONENT
    within = _limited(x, inside, 0.0)
    place, z = _reduced(within, within.astype(np.float64))
    powers, less_one = _powers()
    value = less_one.take(place) + powers.take(place) * z
    sized = size(value)
    error = (8 * UNIT) * sized
    if not inside.all():
        vanished = near < -_LARGEST_EXPONENT
        value = np.where(vanished, np.longdouble(-1), value)
        error = np.where(inside, error, np.where(vanished, _VANISHED, np.nan))
    return Found(value, error, np.where(near > 0, sized + 1, 1.0) * (1 + 2.0**-9), 2.0**-10)


def tanh(x: Extended) -> Found:
    """tanh x, within 11 u|tanh x|.

    For x > 0 it is m/(m + 2) with m = expm1(2x), whose relative error it has at most once; the sum and the quotient
    round by u each. From 100 on it is 1, up to 10⁻⁸⁶.
    """
    near = size(x)
    m = expm1(_limited(2 * np.abs(x), near <= 100, 200.0)).value
    value = np.copysign(m / (m + np.longdouble(2)), x)
    sized = size(value)
    reach = 2.0**-10
    slope = np.minimum(1.0, (1 - sized) * (1 + sized) + (2.0**-50 + reach))
    return Found(value, np.where(np.isnan(near), np.nan, (11 * UNIT) * sized), slope, reach)


def sigmoid(x: Extended) -> Found:
    """1/(1 + e⁻ˣ), within 4.2 u of itself: the exponential's error at most, and two roundings."""
    power = exp(-x)
    value = _ONE / (_ONE + power.value)
    sized = size(value)
    return Found(value, power.error * 0.0 + (4.2 * UNIT) * sized, sized * (1 + 2.0**-9), 2.0**-10)


# ---------------------------------------------------------------------------------------------------------------------
# Logarithms
# ---------------------------------------------------------------------------------------------------------------------

_CELLS: Final = 128
_ROOT_BITS: Final = 0x3FE6A09E667F3BCD
"""√½ as the bits of a float."""
_SERIES: Final = (1 / 3, -1 / 4, 1 / 5, -1 / 6, 1 / 7, -1 / 8, 1 / 9)


@cache
def _reciprocals() -> tuple[Floats, Extended]:
    """c ≈ 128/j, of 10 bits, and -log c, by j: c = 1 at j = 128."""
    indices = range(2 * _CELLS)
    c = [round(_CELLS / max(j, _CELLS // 2) * 2.0**9) * 2.0**-9 for j in indices]
    return np.array(c), _table(lambda: [-arb(v).log() for v in c])


@cache
def _log_two() -> tuple[np.longdouble, float]:
    """ln 2 as a head of 50 bits, whose product with any exponent of a float is exact, and a tail below 2⁻⁵¹."""
    kept = ctx.prec
    ctx.prec = _TABLE_BITS
    try:
        value = arb(2).log()
        head = round(float(value) * 2.0**50) * 2.0**-50
        return np.longdouble(head), float(value - head)
    finally:
        ctx.prec = kept


def _log(x: Extended, near: Floats) -> Extended:
    """log x for x from 2⁻¹⁰⁰⁰ to 2¹⁰⁰⁰, within 8 u|log x|, and within 2.5 u of it where |x - 1| < 1/257.

    x = 2ᵉy with √½ ≤ y < √2, and log x = e·ln 2 - log c + log(1 + r) with r = cy - 1, |r| ≤ 0.007. y is a float and
    at most 11 bits more: c times the float has 63 bits, and with 1 taken off it is exact; c times the rest
    is exact too: r rounds once.
    log(1 + r) = r - r²/2 + p, with p in float64 up to r⁹/9: it is off by 9·2⁻⁵³ of itself, which is |r|³/3 at most, and
    leaves out |r|¹⁰/9; e times the tail is below 2⁻⁴¹, and rounding in float64 takes less than 2⁻⁷⁴ of it.
    Where c = 1 and e = 0, r = x - 1 is exact, at most 1/256, and the first two terms are 0: left are the roundings of
    r - r²/2 and of its sum with p, by u each, and those of the square and of p, by less than 0.1 u each.
    Where c ≠ 1 and e = 0, |log x| ≥ 0.00389 is at least 0.49 of |log c| and 0.99 of |r|: the table is off by 2.1 u, r
    and three sums round by 1.02 u each, the square by 0.02 u, and p is off by 0.2 u. Where e ≠ 0, |log x| ≥ 0.34 is at
    least 0.98 of all terms but r, of which it is 48 times as much: 3.5 u.
    """
    bits = near.view(np.int64)
    exponents = (bits - _ROOT_BITS) >> 52
    scale = ((1023 - exponents) << 52).view(np.float64)
    y = x * scale.astype(np.longdouble)
    main = near * scale
    rest = (y - main.astype(np.longdouble)).astype(np.float64)
    reciprocals, logarithms = _reciprocals()
    place = np.rint(main * _CELLS).astype(np.intp)
    c = reciprocals.take(place)
    r = (main.astype(np.longdouble) * c.astype(np.longdouble) - _ONE) + (rest * c).astype(np.longdouble)
    s = r.astype(np.float64)
    series = np.zeros_like(s)
    for coefficient in reversed(_SERIES):
        series = coefficient + s * series
    head, tail = _log_two()
    e = exponents.astype(np.float64)
    small = s * s * s * series + e * tail
    one = r - r * (r * np.longdouble(0.5))
    found: Extended = (e.astype(np.longdouble) * head + logarithms.take(place)) + (one + small.astype(np.longdouble))
    return found


def log(x: Extended) -> Found:
    """log x, within 8 u|log x|, where x > 0."""
    near = x.astype(np.float64)
    inside = (near > 2.0**-1000) & (near < 2.0**1000)
    within = _limited(x, inside, 1.0)
    value = _log(within, within.astype(np.float64))
    error = np.where(inside, (8 * UNIT) * size(value), np.nan)
    with np.errstate(all="ignore"):
        return Found(value, error, (1 + 2.0**-9) / near, near * 2.0**-10)


def log1p(x: Extended) -> Found:
    """log(1 + x), within 9.5 u of itself, where x > -1.

    s = 1 + x is rounded, by d exactly (Knuth's two-sum), and log(1 + x) = log s + d/s up to (d/s)², where |d/s| is at
    most u, and at most |x|. If |x| ≥ 2⁻⁵⁰ that is ε of the result, which log s misses by 8 u and the sum by u. If |x|
    is smaller, s is so near to 1 that log s is off by 2.5 u, of at most twice the result; d/s, the sum and what is left
    out are off by u each.
    """
    near = x.astype(np.float64)
    inside = (near > -1) & (near < 2.0**1000)
    within = _limited(x, inside, 0.0)
    s = _ONE + within
    back = s - _ONE
    d = (_ONE - (s - back)) + (within - back)
    rounded = s.astype(np.float64)
    inside &= rounded > 2.0**-1000
    s = _limited(s, inside, 1.0)
    value = _log(s, s.astype(np.float64)) + d / s
    error = np.where(inside, (9.5 * UNIT) * size(value), np.nan)
    with np.errstate(all="ignore"):
        return Found(value, error, (1 + 2.0**-9) / rounded, rounded * 2.0**-10)


# ---------------------------------------------------------------------------------------------------------------------
# The error function
# ---------------------------------------------------------------------------------------------------------------------

_CENTRES: Final = 64
"""Centres of Taylor series from one integer to the next."""
_LAST_CENTRE: Final = 428
_DEGREE: Final = 10


@cache
def _erf_series() -> tuple[Extended, Extended, Floats]:
    """Taylor coefficients of erf at j/64, from -_LAST_CENTRE on: the value, the slope, and those of degrees 2 to 10.

    The slope is g = 2/√π·exp(-x²), and g' = -2xg gives the rest: (n + 1)·gₙ₊₁ = -2(c·gₙ + gₙ₋₁).
    """
    centres = range(_LAST_CENTRE + 1)
    value = _table(lambda: [(arb(j) / _CENTRES).erf() for j in centres])
    slope = _table(lambda: [2 / arb.pi().sqrt() * (-((arb(j) / _CENTRES) ** 2)).exp() for j in centres])
    c = np.arange(_LAST_CENTRE + 1) / _CENTRES
    g = [slope.astype(np.float64)]
    for n in range(_DEGREE - 1):
        g.append(-2 / (n + 1) * (c * g[n] + (g[n - 1] if n else 0.0)))
    rest = np.array([g[n] / (n + 1) for n in range(1, _DEGREE)])
    signs = np.array([(-1.0) ** n for n in range(3, _DEGREE + 2)])  # erf is odd
    mirrored = np.concatenate([(rest * signs[:, None])[:, :0:-1], rest], axis=1)
    return np.concatenate([-value[:0:-1], value]), np.concatenate([slope[:0:-1], slope]), mirrored


def erf(x: Extended) -> Found:
    """erf x, within 10 u|erf x|.

    h = x - j/64 is exact (Sterbenz), and at most 2⁻⁷. erf x = a + (b·h + h²p) with p in float64, off by 8·2⁻⁵³ of
    itself with h². The coefficients of degree n > 10 are at most 3.1/n, by Cauchy's estimate for |h| = 1 of erf' =
    2/√π·exp(-x²), and leave less than 2⁻⁷⁸ out; at j = 0 the first of them is that of h¹¹, below 2⁻¹⁰.
    At j = 0, a = 0 and |h²p| ≤ 0.34h²·|bh| is off by ε of u|bh|: left are b, the product and a sum, 3.1 u. At |j| = 1,
    a is at most 2.01 times the result and |bh| at most 1.01 times: the table is off by 1.01 u of both, the product and
    two sums round by u each. |h²p| ≤ 1.13·|j|/64·h² + 0.38|h|³ there; it is off by 2.4 u of the result. For larger |j|
    all of that is less: |h²p| is below 2⁻¹⁴·⁸ everywhere, since |x·erf' x| ≤ 0.49.
    From 6.68 on it is 1, up to 0.1 u.
    """
    near = x.astype(np.float64)
    inside = np.abs(near) <= 6.68
    within = _limited(x, inside, 0.0)
    j = np.rint(within.astype(np.float64) * _CENTRES)
    h = within - (j * (1 / _CENTRES)).astype(np.longdouble)
    value_at, slope_at, rest = _erf_series()
    place = j.astype(np.intp) + _LAST_CENTRE
    s = h.astype(np.float64)
    coefficients = rest.take(place, axis=1)
    p = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        p = coefficient + s * p
    b = slope_at.take(place)
    value = value_at.take(place) + (b * h + (s * s * p).astype(np.longdouble))
    if not inside.all():
        value = np.where(inside, value, np.sign(near).astype(np.longdouble))
    error = (10 * UNIT) * size(value)
    # exp(-x²) ≤ exp(-c²)·exp(|x - c|·|x + c|), with |x - c| ≤ 2⁻⁷ + 2⁻¹⁰ and |x + c| ≤ 13.4.
    slope = np.where(inside, 1.2 * b.astype(np.float64), 2.0**-60)
    return Found(value, error, slope, 2.0**-10)


def sqrt(x: Extended) -> Found:
    """√x, which rounds correctly."""
    value: Any = np.sqrt(x)
    sized, near = size(value), x.astype(np.float64)
    with np.errstate(all="ignore"):
        return Found(value, UNIT * sized, (0.5 * (1 + 2.0**-9)) / sized, near * 2.0**-10)


FUNCTIONS: Final[dict[str, Callable[[Extended], Found]]] = {
    "exp": exp, "expm1": expm1, "tanh": tanh, "sigmoid": sigmoid, "log": log, "log1p": log1p, "erf": erf, "sqrt": sqrt,
}  # fmt: skip
"""By name in `diffcheck.algebra.functions`."""
