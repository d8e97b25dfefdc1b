"""Operations on two words, held to exact rationals and to mpmath at 300 bits; mistakes, which are seen."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest

from diffcheck.certify import double_word
from diffcheck.certify.double_word import RELATIVE, ROUNDOFF, DoubleWord
from diffcheck.certify.floats import Floats

COUNT = 4000


def drawn(seed: int, *, floats: bool = False, near: DoubleWord | None = None) -> DoubleWord:
    """Of all sizes, with few bits and with all, with low words of every size; or next to others, but for the sign."""
    random = np.random.default_rng(seed)
    hi = random.choice([-1.0, 1.0], COUNT) * random.uniform(1, 2, COUNT) * 2.0 ** random.integers(-300, 240, COUNT)
    hi[::3] = np.ldexp(np.rint(np.ldexp(np.frexp(hi[::3])[0], 3)), np.frexp(hi[::3])[1])
    if near is not None:
        hi = np.where(random.random(COUNT) < 0.5, hi, -near.hi * (1 + random.integers(-3, 4, COUNT) * 2.0**-52))
    if floats:
        return DoubleWord(hi)
    low = np.spacing(np.abs(hi)) * random.choice([0.5, -0.5, 0.0, 2.0**-40], COUNT)
    low = low * random.choice([1.0, random.uniform(0, 1)], COUNT) * random.uniform(0.99, 1, COUNT)
    return DoubleWord(*double_word.fast_two_sum(hi, low))


def exact(x: DoubleWord) -> list[Fraction]:
    lows = np.zeros_like(x.hi) if x.lo is None else x.lo
    return [Fraction(h) + Fraction(low) for h, low in zip(x.hi.tolist(), lows.tolist(), strict=True)]


def root(x: Fraction) -> Fraction:
    with mpmath.workprec(300):
        sign, digits, exponent, _ = mpmath.sqrt(mpmath.mpf(x.numerator) / x.denominator)._mpf_
    return (-1) ** sign * int(digits) * Fraction(2) ** exponent


def beyond(found: DoubleWord, error: Floats | None, true: list[Fraction]) -> tuple[int, float]:
    """How many errors exceed their bounds, and the largest part of its bound that one takes."""
    gaps = [abs(a - b) for a, b in zip(exact(found), true, strict=True)]
    bounds = [0.0] * len(gaps) if error is None else np.broadcast_to(error, found.hi.shape).tolist()
    parts = [float(gap / Fraction(bound)) if bound else 0.0 for gap, bound in zip(gaps, bounds, strict=True)]
    return sum(gap > bound for gap, bound in zip(gaps, bounds, strict=True)), max(parts)


BINARY: dict[str, tuple[Callable[..., Any], Callable[[Fraction, Fraction], Fraction]]] = {
    "add": (double_word.add, lambda a, b: a + b),
    "multiply": (double_word.multiply, lambda a, b: a * b),
    "divide": (double_word.divide, lambda a, b: a / b),
}


def held(name: str, first: int, second: int) -> tuple[int, float]:
    """By how many words each argument has."""
    apply, true = BINARY[name]
    a = drawn(1, floats=first == 1)
    b = drawn(2, floats=second == 1, near=a)
    found, error = apply(a, b)
    assert normal(found)
    return beyond(found, error, list(map(true, exact(a), exact(b))))


def normal(x: DoubleWord) -> bool:
    return x.lo is None or bool(np.all(x.hi + x.lo == x.hi))


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("name", BINARY)
def test_errors_are_within_their_bounds(name: str, first: int, second: int):
    outside, largest = held(name, first, second)
    assert not outside
    assert (largest > 0.03) == (name == "divide" or first + second > 2)  # of two floats the others are exact


@pytest.mark.parametrize("floats", [True, False])
def test_roots_are_within_their_bounds(floats: bool):
    a = drawn(3, floats=floats)
    a = DoubleWord(np.abs(a.hi), None if a.lo is None else a.lo * np.sign(a.hi))
    found, error = double_word.sqrt(a)
    outside, largest = beyond(found, error, list(map(root, exact(a))))
    assert not outside
    assert largest > 0.05
    assert normal(found)
    zero, error = double_word.sqrt(DoubleWord(np.zeros(1)))
    assert zero.hi[0] == zero.lo[0] == error[0] == 0


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 129, 1000])
@pytest.mark.parametrize("floats", [True, False])
def test_sums_are_within_their_bounds(count: int, floats: bool):
    terms = drawn(count, floats=floats)
    scale = 2.0 ** -np.rint(np.log2(np.abs(terms.hi)) * 0.98)  # not all of the sum is its largest term
    terms = DoubleWord(terms.hi * scale, None if terms.lo is None else terms.lo * scale)
    parts = DoubleWord(*(None if part is None else part[: 4 * count].reshape(count, -1) for part in terms))
    found, error = double_word.total(parts)
    columns = [exact(DoubleWord(*(None if p is None else p[:, j] for p in parts))) for j in range(parts.hi.shape[1])]
    assert not beyond(found, error, [sum(column, Fraction(0)) for column in columns])[0]
    assert normal(found)


def test_products_of_floats_are_exact_whatever_their_bits():
    """The halves at their ends: heads that carry, and rests of ±2²⁶."""
    odd = np.array(
        [2.0**53 - 1, 2.0**52 + 1, 2.0**52 + 2**26, 2.0**52 + 2**26 - 1, 2.0**52 + 2**26 + 1, 2.0**53 - 2**26]
    )
    a, b = (part.ravel() for part in np.meshgrid(np.concatenate([odd, -odd]), np.concatenate([odd, odd / 8])))
    product, rest = double_word.two_product(a, b)
    assert all(
        Fraction(x) * Fraction(y) == Fraction(p) + Fraction(r)
        for x, y, p, r in zip(a.tolist(), b.tolist(), product.tolist(), rest.tolist(), strict=True)
    )


# ---------------------------------------------------------------------------------------------------------------------
# Wrong on purpose
# ---------------------------------------------------------------------------------------------------------------------


def without_rest(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    return a * b, np.zeros_like(a * b)


def split_elsewhere(a: Floats) -> tuple[Floats, Floats]:
    """The head has 32 bits: its square has more than a float."""
    head = ((a.view(np.int64) + 2**20) & -(2**21)).view(np.float64)
    return head, a - head


@pytest.mark.parametrize(("name", "wrong"), [
    ("two_product", without_rest), ("split", split_elsewhere), ("RELATIVE", RELATIVE / 64),
])  # fmt: skip
@pytest.mark.parametrize("operation", ["multiply", "divide"])
def test_a_mistake_is_seen(operation: str, name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(double_word, name, wrong)
    assert held(operation, 2, 2)[0]


@pytest.mark.parametrize(("name", "wrong"), [
    ("two_sum", double_word.fast_two_sum), ("two_sum", lambda a, b: (a + b, np.zeros_like(a + b))),
    ("ROUNDOFF", ROUNDOFF / 16),
])  # fmt: skip
def test_a_mistake_in_sums_is_seen(name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(double_word, name, wrong)
    assert held("add", 2, 2)[0]
