"""Elementary functions in double-word arithmetic, each with a proven bound of its error.

A function is reduced to a centre whose value stands in a table, made by ball arithmetic, and a short Taylor series
around it (Tang, Table-lookup algorithms for elementary functions and their error analysis, 1991). What is large enough
to matter is a product of heads of 26 bits, which is exact, or a sum that `double_word` finds exactly; the
rest is computed in floats, where an operation rounds by 2⁻⁵³. By ε a proof means what is below 2⁻⁷ of what stands
beside it. Arguments are 0, or from 2⁻⁴⁰⁰ to 2⁵⁰⁰ of size, as `extended` sees to: bounds do not underflow
there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from flint import arb

from diffcheck.certify import double_word
from diffcheck.certify.double_word import (
    DoubleWord,
    add,
    divide,
    fast_two_sum,
    in_fixed_point,
    in_words,
    split,
    two_sum,
)
from diffcheck.certify.floats import Floats

UNIT: Final = 2.0**-64
"""u: what the errors of functions are counted in."""
_HEAD_BITS: Final = 26
_ONE: Final = DoubleWord(np.ones(()))


@dataclass(frozen=True, slots=True)
class Found:
    """A function's values at exact arguments, and what an argument's error does to them."""

    value: DoubleWord
    error: Floats
    """An upper bound of the distance to the true value; not finite where the function was not computed."""
    slope: Floats
    """An upper bound of the derivative's size, up to `reach` away from the argument."""
    reach: Floats | float


def size(x: DoubleWord) -> Floats:
    """|x|, up to 2⁻⁵³ of it."""
    found: Floats = np.abs(x.hi)
    return found


@cache
def pi() -> tuple[float, float]:
    """π in two words, within 2⁻¹⁰⁶ of it."""
    heads, lows = in_words(lambda: [arb.pi()])
    return float(heads[0]), float(lows[0])


def _limited(x: DoubleWord, inside: npt.NDArray[np.bool_], otherwise: float) -> DoubleWord:
    """The arguments, and where they are not inside of what a function is computed for, another one."""
    if inside.all():
        return x
    return DoubleWord(np.where(inside, x.hi, otherwise), None if x.lo is None else np.where(inside, x.lo, 0.0))


def _half_square(r: Floats, low: Floats) -> tuple[Floats, Floats]:
    """(r + low)²/2 less low²/2: the square of r's head, exactly, and the rest, below 2⁻²⁵ of it but for low's part."""
    head, tail = split(r)
    return head * head * 0.5, tail * (head + r) * 0.5 + low * r


# ---------------------------------------------------------------------------------------------------------------------
# Exponentials
# ---------------------------------------------------------------------------------------------------------------------

_LARGEST_EXPONENT: Final = 340.0
_VANISHED: Final = 2.0**-490
"""exp(-340) is less."""
_STEPS: Final = 64
"""Powers of 2 in the table, for every factor of 2."""
_MOST_STEPS: Final = 491 * _STEPS
_EXP: Final = 2.0**-72
_EXPM1: Final = 2.0**-65


@cache
def _powers() -> tuple[Floats, Floats]:
    """2**(k/64) for k from -_MOST_STEPS to _MOST_STEPS: heads of 26 bits, and low words, within 2⁻⁷⁹ of it together."""
    scales = 2.0 ** np.arange(-_MOST_STEPS // _STEPS, _MOST_STEPS // _STEPS + 1)
    base = in_words(lambda: [(arb(k) / _STEPS * arb(2).log()).exp() for k in range(_STEPS)], bits=_HEAD_BITS)
    head, low = (np.multiply.outer(scales, part).ravel()[: 2 * _MOST_STEPS + 1] for part in base)
    return head, low


@cache
def _powers_less_one() -> tuple[Floats, Floats]:
    """The same less 1, in two words: within 2⁻¹⁰⁵ of itself where |k| ≤ 64, beyond that within 2⁻⁷⁷."""
    powers, low = _powers()
    head, rest = two_sum(powers, np.full(powers.shape, -1.0))
    found = fast_two_sum(head, rest + low)
    near = range(-_STEPS, _STEPS + 1)
    exact = in_words(lambda: [(arb(k) / _STEPS * arb(2).log()).expm1() for k in near])
    for part, entries in zip(found, exact, strict=True):
        part[_MOST_STEPS - _STEPS : _MOST_STEPS + _STEPS + 1] = entries
    return found


@cache
def _step() -> tuple[float, float]:
    """ln 2/64 as a multiple of 2⁻⁴⁴, of 38 bits, whose product with any k is exact, and a tail below 2⁻⁴⁵."""
    heads, tails = in_fixed_point(lambda: [arb(2).log() / _STEPS], 44)
    return float(heads[0]), float(tails[0])


def _reduced(x: DoubleWord) -> tuple[npt.NDArray[np.intp], Floats, Floats]:
    """k, as a place in the table, and z = exp(x - k·ln 2/64) - 1 in two words, for |x| ≤ 340.

    r = xh - k·head is at most 0.00542 = 2⁻⁷·⁵ (k is an integer next to its quotient, up to 2⁻³⁶) and exact: k times the
    head has 15 and 38 bits; for k ≠ 0 both are multiples of 2⁻⁶⁰, and r is below 2⁻⁷. The tail's product, below 2⁻³⁰,
    is off by 2⁻⁸² in all, and so is its sum with xl; for k = 0 it is 0, and the sum is xl. z = r + q + (...): the
    square of r's head, q, is exact, and added exactly. In floats remain low·(1 + r + low/2), off by ε; the square's
    rest, off by ε; and p, a series that ends with s⁷/7!, at most 2⁻²⁵ and s²/6 of r: off by 8·2⁻⁵³ of itself, with two
    more for the sums, leaving out s⁸/8!. For k ≠ 0 that is less than 2⁻⁷³ together; for k = 0, less than 2⁻⁶⁶·⁵ of z:
    10·2⁻⁵³·2⁻¹⁷·⁶ + 2⁻⁶⁸.
    """
    head, tail = _step()
    k = np.rint(x.hi * (1 / head))
    r = x.hi - k * head
    low = -tail * k if x.lo is None else x.lo - tail * k
    s = r + low
    p = s * s * s * (1 / 6 + s * (1 / 24 + s * (1 / 120 + s * (1 / 720 + s * (1 / 5040)))))
    square, rest = _half_square(r, low)
    z, left = fast_two_sum(r, square)
    return k.astype(np.intp) + _MOST_STEPS, z, left + ((low + low * low * 0.5) + (rest + p))


def _grown(place: npt.NDArray[np.intp], z: Floats, low: Floats, start: tuple[Floats, Floats]) -> DoubleWord:
    """S + T·z, where T is the power at a place of its table, and S, T or T - 1, that of `start`.

    The heads' product is exact, and so is its sum with S's, which is 0 or more than it. The rest of z is below 2⁻²⁴,
    and T's low word at most 2⁻²⁶ of T: in floats that is off by less than 2⁻⁷⁵ of T. The sum with S's low word rounds
    by 2⁻⁵² of it.
    """
    power, power_low, above, below = (part.take(place) for part in (*_powers(), *start))
    upper, lower = split(z)
    value, left = fast_two_sum(above, power * upper)
    return DoubleWord(*fast_two_sum(value, left + (below + (power * (lower + low) + power_low * (z + low)))))


def _exponential(
    x: DoubleWord, start: tuple[Floats, Floats], at_last: float, accuracy: float
) -> tuple[DoubleWord, Floats]:
    """What `_grown` makes of a table, and a bound of its error; below -340 the last value, off by less than 2⁻⁴⁹⁰."""
    inside = np.abs(x.hi) <= _LARGEST_EXPONENT
    place, z, low = _reduced(_limited(x, inside, 0.0))
    value = _grown(place, z, low, start)
    error = accuracy * size(value)
    if inside.all():
        return value, error
    vanished = x.hi < -_LARGEST_EXPONENT
    return _limited(value, ~vanished, at_last), np.where(inside, error, np.where(vanished, _VANISHED, np.nan))


def exp(x: DoubleWord) -> Found:
    """eˣ, within 2⁻⁷² of itself.

    It is T + T·z: T is off by 2⁻⁷⁹, the sum with its low word too, and z by 2⁻⁷³.
    """
    value, error = _exponential(x, _powers(), 0.0, _EXP)
    return Found(value, error, np.maximum(size(value), _VANISHED) * (1 + 2.0**-9), 2.0**-10)


def expm1(x: DoubleWord) -> Found:
    """eˣ - 1, within 2⁻⁶⁵ of itself.

    It is M + T·z. For k = 0 that is z. For 0 < |k| ≤ 64, T is at most 186 times the result (at k = ±1, where half of M
    may be taken off): z is off by 2⁻⁷³ of T, what `_grown` loses is ε of that, and M is off by 2⁻¹⁰⁵. Beyond that T is
    at most 4 times the result, and M off by 2⁻⁷⁷.
    """
    value, error = _exponential(x, _powers_less_one(), -1.0, _EXPM1)
    return Found(value, error, np.where(x.hi > 0, size(value) + 1, 1.0) * (1 + 2.0**-9), 2.0**-10)


def tanh(x: DoubleWord) -> Found:
    """tanh x, within 1.1·2⁻⁶⁵ of itself.

    For x > 0 it is m/(m + 2) with m = expm1(2x), whose relative error it has at most once; the sum and the quotient
    are off by ε. From 100 on it is 1, up to 10⁻⁸⁶.
    """
    near = np.abs(x.hi)
    sign = np.copysign(1.0, x.hi)
    twice = DoubleWord(near * 2, None if x.lo is None else x.lo * (2 * sign))
    m = expm1(_limited(twice, near <= 100, 200.0)).value
    quotient, _ = divide(m, add(m, DoubleWord(np.full((), 2.0)))[0])
    assert quotient.lo is not None
    value = DoubleWord(quotient.hi * sign, quotient.lo * sign)
    sized = size(value)
    reach = 2.0**-10
    slope = np.minimum(1.0, (1 - sized) * (1 + sized) + (2.0**-50 + reach))
    return Found(value, np.where(np.isnan(near), np.nan, (1.1 * _EXPM1) * sized), slope, reach)


def sigmoid(x: DoubleWord) -> Found:
    """1/(1 + e⁻ˣ), within 1.1·2⁻⁷² of itself: the exponential's error at most, and two operations, off by ε."""
    power = exp(double_word.negate(x))
    value, _ = divide(_ONE, add(_ONE, power.value)[0])
    sized = size(value)
    return Found(value, power.error * 0.0 + (1.1 * _EXP) * sized, sized * (1 + 2.0**-9), 2.0**-10)


# ---------------------------------------------------------------------------------------------------------------------
# Logarithms
# ---------------------------------------------------------------------------------------------------------------------

_CELLS: Final = 128
_ROOT_BITS: Final = 0x3FE6A09E667F3BCD
"""√½ as the bits of a float."""
_SERIES: Final = (1 / 3, -1 / 4, 1 / 5, -1 / 6, 1 / 7, -1 / 8, 1 / 9)
_LOG: Final = 0.5 * UNIT
_PLACES: Final = 42
"""Of heads, after the point: multiples of 2⁻⁴² below 2¹⁰ and their sums are exact."""


@cache
def _reciprocals() -> tuple[Floats, Floats, Floats]:
    """c ≈ 128/j, of 10 bits, and -log c as a head and what is left, by j: c = 1 at j = 128."""
    indices = range(2 * _CELLS)
    c = [round(_CELLS / max(j, _CELLS // 2) * 2.0**9) * 2.0**-9 for j in indices]
    return np.array(c), *in_fixed_point(lambda: [-arb(v).log() for v in c], _PLACES)


@cache
def _log_two() -> tuple[float, float]:
    """ln 2 as a head of 42 bits, whose product with any exponent of a float is exact, and a tail below 2⁻⁴³."""
    heads, tails = in_fixed_point(lambda: [arb(2).log()], _PLACES)
    return float(heads[0]), float(tails[0])


def _log(x: DoubleWord, from_one: DoubleWord | None = None) -> DoubleWord:
    """log x for x from 2⁻¹⁰⁰⁰ to 2¹⁰⁰⁰, within u/2 of itself; `from_one` is x - 1, where that is known better than x.

    x = 2ᵉy with √½ ≤ yh < √2, and log x = e·ln 2 - log c + log(1 + r) with r = cy - 1, |r| ≤ 0.007. c has 10 bits: its
    products with the two halves of yh are exact, and so are 1 taken off the first and their sum in two words; c·yl and
    its sum with what is left of that round by 2⁻¹⁰⁶ each. `fast_two_sum` may be wrong by as much where c ≠ 1 and r is
    tiny. log(1 + r) = r - r²/2 + p: the square of r's head is exact, and so are r less it and the sum of that with
    e·ln 2's and -log c's heads, which is 0 or more than it. In floats remain p, up to r⁹/9, and what is smaller: p, at
    most |r|³/3, is off by 9·2⁻⁵³ of itself and 3 more for sums, and leaves out |r|¹⁰/9.
    Where c = 1 and e = 0, r = x - 1 is exact and at most 1/256: the error is 12·2⁻⁵³·r²/3 of r, and ε, less than 0.2 u.
    Where c ≠ 1 and e = 0, |log x| ≥ 0.00389, and |r| ≤ 0.005 for the two cells beside 1, |log x| ≥ 0.0116 elsewhere:
    less than 0.3 u. Where e ≠ 0, |log x| ≥ 0.34, and e times the tail, below 2⁻³³, is off by ε.
    """
    exponents = (x.hi.view(np.int64) - _ROOT_BITS) >> 52
    scale = ((1023 - exponents) << 52).view(np.float64)
    y = x.hi * scale
    reciprocals, heads, rests = _reciprocals()
    place = np.rint(y * _CELLS).astype(np.intp)
    c = reciprocals.take(place)
    upper, lower = split(y)
    r, low = two_sum(c * upper - 1.0, c * lower)
    if x.lo is not None:
        r, low = fast_two_sum(r, low + c * (x.lo * scale))
    if from_one is not None:
        near = (place == _CELLS) & (exponents == 0)
        r = np.where(near, from_one.hi, r)
        low = np.where(near, 0.0 if from_one.lo is None else from_one.lo, low)
    series = np.full(r.shape, _SERIES[-1])
    for coefficient in _SERIES[-2::-1]:
        series *= r
        series += coefficient
    square, rest = _half_square(r, low)
    head, tail = _log_two()
    e = exponents.astype(np.float64)
    small = (low + (rests.take(place) + e * tail)) + (r * r * r * series - rest)
    one, left = fast_two_sum(r, -square)
    value, more = fast_two_sum(e * head + heads.take(place), one)
    return DoubleWord(*fast_two_sum(value, (more + left) + small))


def log(x: DoubleWord) -> Found:
    """log x, within u/2 of itself, where x > 0."""
    near = x.hi
    inside = (near > 2.0**-1000) & (near < 2.0**1000)
    value = _log(_limited(x, inside, 1.0))
    error = np.where(inside, _LOG * size(value), np.nan)
    with np.errstate(all="ignore"):
        return Found(value, error, (1 + 2.0**-9) / near, near * 2.0**-10)


def log1p(x: DoubleWord) -> Found:
    """log(1 + x), within u/2 of itself, where x > -1.

    1 + x in two words is off by 2⁻¹⁰⁶ of itself, where it is not so near to 1 that x itself is taken: ε of at least
    0.00389.
    """
    near = x.hi
    inside = (near > -1) & (near < 2.0**1000)
    within = _limited(x, inside, 0.0)
    s, _ = add(_ONE, within)
    inside &= s.hi > 2.0**-1000
    value = _log(_limited(s, inside, 1.0), _limited(within, inside, 0.0))
    error = np.where(inside, _LOG * size(value), np.nan)
    with np.errstate(all="ignore"):
        return Found(value, error, (1 + 2.0**-9) / s.hi, s.hi * 2.0**-10)


# ---------------------------------------------------------------------------------------------------------------------
# The error function
# ---------------------------------------------------------------------------------------------------------------------

_CENTRES: Final = 64
"""Centres of Taylor series from one integer to the next."""
_LAST_CENTRE: Final = 428
_DEGREE: Final = 10


@cache
def _erf_series() -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Taylor coefficients of erf at j/64, from -_LAST_CENTRE on.

    The value in two words, the slope as a head of 26 bits and a low word, and the coefficients of degrees 2 to 10.
    The slope is g = 2/√π·exp(-x²), and g' = -2xg gives the rest: (n + 1)·gₙ₊₁ = -2(c·gₙ + gₙ₋₁).
    """
    centres = range(_LAST_CENTRE + 1)
    value = in_words(lambda: [(arb(j) / _CENTRES).erf() for j in centres])
    slope = in_words(
        lambda: [2 / arb.pi().sqrt() * (-((arb(j) / _CENTRES) ** 2)).exp() for j in centres], bits=_HEAD_BITS
    )
    c = np.arange(_LAST_CENTRE + 1) / _CENTRES
    g = [slope[0] + slope[1]]
    for n in range(_DEGREE - 1):
        g.append(-2 / (n + 1) * (c * g[n] + (g[n - 1] if n else 0.0)))
    rest = np.array([g[n] / (n + 1) for n in range(1, _DEGREE)])
    signs = np.array([(-1.0) ** n for n in range(3, _DEGREE + 2)])  # erf is odd
    mirrored = np.concatenate([(rest * signs[:, None])[:, :0:-1], rest], axis=1)
    values = [np.concatenate([-part[:0:-1], part]) for part in value]
    slopes = [np.concatenate([part[:0:-1], part]) for part in slope]
    return values[0], values[1], slopes[0], slopes[1], mirrored


def erf(x: DoubleWord) -> Found:
    """erf x, within 4 u of itself.

    h = xh - j/64 is exact (Sterbenz), and at most 2⁻⁷. erf x = a + b·h + h²p: the product of b's head and h's is exact,
    and so is its sum with a, which is 0 or more than it. In floats remain h²p, off by 8·2⁻⁵³ of itself, 3 more for
    sums, and what is below 2⁻³³ of b, ε. The coefficients of degree n > 10 are at most 3.1/n, by Cauchy's estimate for
    |h| = 1 of erf' = 2/√π·exp(-x²), and leave less than 2⁻⁷⁸ out; at j = 0 the first of them is that of h¹¹, below
    2⁻¹⁰. At j = 0, a = 0, and |h²p| ≤ 0.34h²·|bh| is off by 0.6 u of that. At |j| = 1, |h²p| ≤ 1.13·|j|/64·h² +
    0.38|h|³ is at most 2⁻¹²·⁷ of the result, half of a at least: off by 3.4 u. For larger |j| all of that is less:
    |h²p| is below 2⁻¹⁴·⁸ everywhere, since |x·erf' x| ≤ 0.49. From 6.68 on it is 1, up to 0.1 u.
    """
    near = x.hi
    inside = np.abs(near) <= 6.68
    within = _limited(x, inside, 0.0)
    j = np.rint(within.hi * _CENTRES)
    h = within.hi - j * (1 / _CENTRES)
    s = h if within.lo is None else h + within.lo
    value_at, value_low, slope_at, slope_low, rest = _erf_series()
    place = j.astype(np.intp) + _LAST_CENTRE
    p = rest[-1].take(place)
    for coefficients in rest[-2::-1]:
        p *= s
        p += coefficients.take(place)
    b = slope_at.take(place)
    upper, lower = split(h)
    if within.lo is not None:
        lower = lower + within.lo
    small = (value_low.take(place) + (b * lower + slope_low.take(place) * h)) + s * s * p
    value, left = fast_two_sum(value_at.take(place), b * upper)
    found = DoubleWord(*fast_two_sum(value, left + small))
    if not inside.all():
        assert found.lo is not None
        found = DoubleWord(np.where(inside, found.hi, np.sign(near)), np.where(inside, found.lo, 0.0))
    error = (4 * UNIT) * size(found)
    # exp(-x²) ≤ exp(-c²)·exp(|x - c|·|x + c|), with |x - c| ≤ 2⁻⁷ + 2⁻¹⁰ and |x + c| ≤ 13.4.
    slope = np.where(inside, 1.2 * b, 2.0**-60)
    return Found(found, error, slope, 2.0**-10)


def sqrt(x: DoubleWord) -> Found:
    """√x, within 2⁻¹⁰² of itself."""
    value, error = double_word.sqrt(x)
    with np.errstate(all="ignore"):
        return Found(value, error, (0.5 * (1 + 2.0**-9)) / value.hi, x.hi * 2.0**-10)


FUNCTIONS: Final[dict[str, Callable[[DoubleWord], Found]]] = {
    "exp": exp, "expm1": expm1, "tanh": tanh, "sigmoid": sigmoid, "log": log, "log1p": log1p, "erf": erf, "sqrt": sqrt,
}  # fmt: skip
"""By name in `diffcheck.algebra.functions`."""
