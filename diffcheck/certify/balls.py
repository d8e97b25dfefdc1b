"""Arithmetic on balls as the rules need it: selectors, powers, special functions, and rounding as wide as PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from operator import mul
from typing import Any, Final

from flint import acb, arb, ctx

_MOST_FACTORS: Final = 64

ZERO: Final = arb(0)
ONE: Final = arb(1)
EVERYTHING: Final = arb(0, float("inf"))
UNIT: Final = arb(0.5, 0.5)
"""The enclosure of a selector that could be either."""


class Selections:
    """How the selectors of one evaluation came out, and which of them were forced."""

    __slots__ = ("boundary", "forced", "undecided")

    def __init__(self, forced: dict[int, arb] | None = None) -> None:
        self.forced = forced or {}
        self.boundary: set[int] = set()
        """Selectors whose argument is exactly 0: the input is a kink of theirs."""
        self.undecided: set[int] = set()
        """Selectors whose argument's enclosure contains 0 and more."""

    def positive(self, index: int, argument: arb) -> arb:
        """[argument > 0]."""
        if argument > 0:
            return ONE
        if argument < 0:
            return ZERO
        return self._at_boundary(index, argument, ZERO)

    def vanishes(self, index: int, argument: arb) -> arb:
        """[argument = 0]."""
        if argument > 0 or argument < 0:
            return ZERO
        return self._at_boundary(index, argument, ONE)

    def _at_boundary(self, index: int, argument: arb, at_zero: arb) -> arb:
        exact = argument.is_zero()
        (self.boundary if exact else self.undecided).add(index)
        forced = self.forced.get(index)
        if forced is not None:
            return forced
        return at_zero if exact else UNIT


def pick(selector: arb, a: arb, b: arb) -> arb:
    """The branch that the selector names; both of them, if it could be either."""
    if selector == 1:
        return a
    if selector == 0:
        return b
    return a.union(b)


def power(base: arb, exponent: arb) -> arb:
    """A power, also where FLINT 3.6 has none.

    It crashes if neither middle nor radius of the base is finite: nothing is known of such a one. For a ball around 0
    itself, a difference of equal numbers, it gives NaN for every exponent: a whole one is multiplied out.
    """
    if not base.is_finite() and not base.is_exact() and not base.mid().is_finite():
        base = EVERYTHING
    found = base**exponent
    if found.is_finite() or not base.is_finite():
        return found
    whole = exponent.unique_fmpz() if exponent.is_integer() else None
    if whole is None or not 0 < whole <= _MOST_FACTORS:
        return found
    return reduce(mul, [base] * int(whole))


def polygamma(order: arb, x: arb) -> arb:
    """ψ⁽ⁿ⁾(x) = (-1)ⁿ⁺¹ n! ζ(n + 1, x) for n ≥ 1 (DLMF 25.11.12), and the digamma function for n = 0."""
    if order == 0:
        return x.digamma()
    whole = order.unique_fmpz()
    assert whole is not None
    sign = ONE if int(whole) % 2 else -ONE
    # On the real line alone, FLINT knows it right of 0 only.
    zeta = acb(order + 1).zeta(acb(x)).real if x < 0 else (order + 1).zeta(x)
    return sign * (order + 1).gamma() * zeta


def log_gamma(x: arb) -> arb:
    """log |Γ(x)|: left of 0, where Γ may be negative, the real part of the complex logarithm."""
    return acb(x).lgamma().real if x < 0 else x.lgamma()


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How rounding is treated.

    `exact`: plain balls. `bounded`: balls as wide as the rounding of PyTorch's kernels, whatever the order in which
    they sum. `careful`: the same, with underflow and overflow of a format whose smallest normal and largest numbers are
    given.
    """

    name: str
    smallest_normal: float = 0.0
    smallest: float = 0.0
    largest: float = 0.0


EXACT: Final = Arithmetic("exact")
BOUNDED: Final = Arithmetic("bounded")


def _sum(first: arb, *others: arb) -> arb:
    return sum(others, first)


def _sum_in_any_order(*terms: arb, largest: float | None = None) -> arb:
    """The sum, with the rounding error of summing at the current precision in an order that is not known.

    Any order of n - 1 additions is within (n - 1)·u·Σ|xᵢ| to first order (Higham, Accuracy and Stability of Numerical
    Algorithms, 4.2); the term ball's own radii cover the rest. In a format with a largest number, a part of the sum may
    be beyond it in some order.
    """
    total = terms[0]
    size = abs(terms[0])
    for term in terms[1:]:
        total += term
        size += abs(term)
    rounded = total + arb(0, (size * (len(terms) - 1)).abs_upper() * 2.0 ** -int(ctx.prec))
    return rounded if largest is None or size <= largest else rounded + arb(0, float("inf"))


RANGES: Final = {24: (2.0**-149, 2.0**128), 11: (2.0**-24, 65520.0), 8: (2.0**-133, 2.0**128)}
"""The smallest subnormal number of a format of so many bits, and what rounds to an infinity."""


def _rounded(x: arb, bits: int) -> arb:
    smallest, overflow = RANGES.get(bits, (0.0, float("inf")))
    size = abs(x).abs_upper()
    if size == 0:
        return x
    return x + arb(0, size * 2.0**-bits + smallest if size < overflow else float("inf"))


def _ranged(arithmetic: Arithmetic) -> Callable[[arb], arb]:
    """Underflow loses what is below the smallest normal number, which kernels may flush to 0; overflow everything."""
    largest, tiny = arb(arithmetic.largest), arb(arithmetic.smallest_normal)
    lost = arb(0, arithmetic.smallest_normal)

    def within_range(x: arb) -> arb:
        size = abs(x)
        if size < tiny:
            return x if x.is_zero() else x + lost
        return x if size <= largest else x + arb(0, float("inf"))

    return within_range


@lru_cache(maxsize=32)
def scope_of(arithmetic: Arithmetic) -> dict[str, Any]:
    """What the text of an operation (`compiler`) may name."""
    scope: dict[str, Any] = {
        "pick": pick, "polygamma": polygamma, "log_gamma": log_gamma, "power": power, "atan2": arb.atan2,
        "total": _sum, "any_order": _sum_in_any_order, "rounded": _rounded, "one": ONE,
    }  # fmt: skip
    if arithmetic.largest:
        scope["ranged"] = _ranged(arithmetic)
        scope["any_order"] = partial(_sum_in_any_order, largest=arithmetic.largest)
    return scope
