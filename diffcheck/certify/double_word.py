"""Double-word arithmetic on arrays: numbers as the unevaluated sum of two floats, with proven bounds of every error.

A float here is a float64 of IEEE 754, rounded to nearest: what NumPy adds, multiplies, divides and takes roots of on
every machine, each operation alone, so that no compiler joins two of them. With u = 2⁻⁵³ an operation is off by at most
u of its result. Nothing else of a machine's is used, so that all machines judge alike.

Sources: Dekker, A floating-point technique for extending the available precision (1971); Knuth, The Art of Computer
Programming 2, 4.2.2 (two_sum); Joldes, Muller and Popescu, Tight and rigorous error bounds for basic building blocks of
double-word arithmetic (2017), whose algorithms 5, 10 and 17 are those below; Lefèvre, Louvet, Muller, Picot and Rideau,
Accurate calculation of Euclidean norms using double-word arithmetic (2023), for the root. The bounds are derived anew,
for what stands here: terms of third order, below 2⁻⁵⁰ of the others, are left out of sums and covered by what a bound
is rounded up by.

Words are 0 or from 2⁻⁵⁵⁰ to 2⁵⁰⁰ of size where a bound is claimed: nothing overflows then, and what underflows is below
2⁻¹⁰⁰⁰. Whoever uses this looks at results (`diffcheck.extended`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from flint import arb, ctx

from diffcheck.certify.floats import Floats

ROUNDOFF: Final = 2.0**-53
"""u: half an ulp of a float, relatively."""
RELATIVE: Final = 2.0**-102
"""16 u²: what a product, a quotient and a root are off by, relatively, at most."""
_HALF: Final = np.int64(2**26)
_UPPER: Final = np.int64(-(2**27))


class DoubleWord(NamedTuple):
    """hi + lo, with hi the float next to the sum: |lo| ≤ u·|hi|."""

    hi: Floats
    lo: Floats | None = None
    """None where it is 0 everywhere: floats, with which operations take less, and are exact."""


def two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """The float next to a + b, and what is left of it, exactly (Knuth)."""
    s = a + b
    t = s - a
    rest = s - t
    rest = a - rest
    return s, rest + (b - t)


def fast_two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """The same where a is 0, or its exponent is not below b's (Dekker)."""
    s = a + b
    return s, b - (s - a)


def split(a: Floats) -> tuple[Floats, Floats]:
    """The float of 26 bits next to a, and the rest, of 26 bits with its sign: Veltkamp's, by the bits themselves.

    Half a unit is added to the last of the 26 bits, a carry goes into the exponent as it should, and the other bits are
    cleared. No product is formed that could overflow.
    """
    bits = a.view(np.int64) + _HALF
    head: Floats = (bits & _UPPER).view(np.float64)
    return head, a - head


def two_product(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """The float next to a·b, and what is left of it, exactly (Dekker).

    With a and b scaled to integers below 2⁵³, the heads are multiples of 2²⁷ and the rests at most 2²⁶: the four
    products have 52 bits, and are exact. What the sums below have before each addition is a multiple of 2⁵² below
    2⁸⁰ + 2⁵³, one of 2²⁷ below 2⁷⁹ + 2⁵³, and twice an integer up to 2⁵³: each is a float.
    """
    product = a * b
    a1, a2 = split(a)
    b1, b2 = (a1, a2) if a is b else split(b)
    rest = a1 * b1 - product
    rest = rest + a1 * b2
    rest = rest + a2 * b1
    return product, rest + a2 * b2


def negate(a: DoubleWord) -> DoubleWord:
    """-a, exactly."""
    return DoubleWord(-a.hi, None if a.lo is None else -a.lo)


def add(a: DoubleWord, b: DoubleWord) -> tuple[DoubleWord, Floats | None]:
    """a + b, and a bound of its error; None where it is exact, as the sum of two floats is.

    Two roundings, of v, the sum of the low words, and of w, v with what the high ones leave: by u|v| and u|w|.
    What `fast_two_sum` asks for holds: if the high words have other signs and are within a factor of 2 of each other,
    their sum s is exact, and 0 or at least the smaller one's ulp, and |w| < 2 of those; else |s| ≥ 2⁵⁰|w|.
    """
    s, rest = two_sum(a.hi, b.hi)
    if a.lo is None and b.lo is None:
        return DoubleWord(s, rest), None
    if a.lo is not None and b.lo is not None:
        both = a.lo + b.lo
        w = rest + both
        rounded = np.abs(w) + np.abs(both)
    else:
        low = a.lo if b.lo is None else b.lo
        assert low is not None
        w = rest + low
        rounded = np.abs(w)
    return DoubleWord(*fast_two_sum(s, w)), rounded * ROUNDOFF


def total(terms: DoubleWord) -> tuple[DoubleWord, Floats]:
    """The sum along the first axis, of n terms, and a bound of its error.

    By halves: with D = 2⌊log₂ n⌋ additions on the way of a term, the high words are added up exactly but for rests,
    which together are at most D·u·Σ|xᵢ|. With the low words, at most u·Σ|xᵢ|, they go through at most 2D additions,
    each of which rounds: 2D(D + 1)·u²·Σ|xᵢ|.
    """
    hi, lo = terms
    depth = 2 * (len(hi).bit_length() - 1)
    error: Floats = np.abs(hi).sum(axis=0) * ((2 * depth * (depth + 1) + 1) * ROUNDOFF**2)
    while len(hi) > 1:
        half, odd = divmod(len(hi), 2)
        s, rest = two_sum(hi[:half], hi[half : 2 * half])
        if lo is not None:
            rest += lo[:half] + lo[half : 2 * half]
        if odd:
            s[0], last = two_sum(s[0], hi[-1])
            rest[0] += last if lo is None else last + lo[-1]
        hi, lo = s, rest
    return DoubleWord(*(two_sum(hi[0], lo[0]) if lo is not None else (hi[0], None))), error


def multiply(a: DoubleWord, b: DoubleWord) -> tuple[DoubleWord, Floats | None]:
    """a·b, and a bound of its error; None where it is exact, as the product of two floats is.

    Of ah·bh = p + e nothing is lost. ah·bl and al·bh round by u² each, relatively to p, their sum by 2u², its sum with
    e by 3u², and al·bl, left out, is u²: 8u².
    """
    product, rest = two_product(a.hi, b.hi)
    if a.lo is None and b.lo is None:
        return DoubleWord(product, rest), None
    if b.lo is None:
        a, b = b, a
    assert b.lo is not None
    cross = a.hi * b.lo
    if a.lo is not None:
        cross += a.lo * b.hi
    rest += cross
    return DoubleWord(*fast_two_sum(product, rest)), np.abs(product) * RELATIVE


def divide(a: DoubleWord, b: DoubleWord) -> tuple[DoubleWord, Floats]:
    """a/b, and a bound of its error.

    Of ah/bh, rounded to q, the remainder ah - q·bh is a float, and found exactly (Dekker). al - q·bl, at most 2u of ah,
    rounds by u² and 2u², its sum with the remainder by 3u². That over bh, at most 3u, is off by u for bl and rounds by
    u: 12u².
    """
    quotient = a.hi / b.hi
    product, rest = two_product(quotient, b.hi)
    left = (a.hi - product) - rest
    if b.lo is not None:
        moved = quotient * b.lo
        left += -moved if a.lo is None else a.lo - moved
    elif a.lo is not None:
        left += a.lo
    left /= b.hi
    return DoubleWord(*fast_two_sum(quotient, left)), np.abs(quotient) * RELATIVE


def sqrt(a: DoubleWord) -> tuple[DoubleWord, Floats]:
    """√a, and a bound of its error.

    Of √ah, rounded to s, the remainder ah - s² is a float, and found exactly; at most 2u of ah. Its sum with al, at
    most 3u, rounds by 3u². That over 2s, at most 1.5u of s, is off by 1.5u² for it, rounds by 1.5u², and leaves out the
    Taylor series' second term, 9u²/8: 4.2u².
    """
    root: Floats = np.sqrt(a.hi)
    product, rest = two_product(root, root)
    left = (a.hi - product) - rest
    if a.lo is not None:
        left += a.lo
    left /= np.where(root > 0, root + root, 1.0)
    return DoubleWord(*fast_two_sum(root, left)), root * RELATIVE


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------

_TABLE_BITS: Final = 200


def in_words(entries: Callable[[], list[arb]], *, bits: int = 53) -> tuple[Floats, Floats]:
    """Numbers as heads of so many bits, and low words, which round by u of themselves.

    Heads of 26 bits have exact products with each other.
    """

    def head(nearest: Floats) -> Floats:
        parts, exponents = np.frexp(nearest)
        rounded: Floats = np.ldexp(np.rint(np.ldexp(parts, bits)), exponents - bits)
        return rounded

    return _parted(entries, head)


def in_fixed_point(entries: Callable[[], list[arb]], places: int) -> tuple[Floats, Floats]:
    """Numbers as multiples of 2**-places, whose sums and small multiples are exact, and low words."""
    return _parted(entries, lambda nearest: np.rint(nearest * 2.0**places) * 2.0**-places)


def _parted(entries: Callable[[], list[arb]], head: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
    kept = ctx.prec
    ctx.prec = _TABLE_BITS
    try:
        balls = entries()
        heads = head(np.array([float(ball.mid()) for ball in balls]))
        return heads, np.array([float((b - h).mid()) for b, h in zip(balls, heads.tolist(), strict=True)])
    finally:
        ctx.prec = kept
