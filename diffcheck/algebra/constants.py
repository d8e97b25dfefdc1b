"""Numbers as a reader means them: 0.1 is 1/10, 0.7071067811865476 is 1/√2."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import e, isfinite, isqrt, log, pi, sqrt, ulp
from typing import Final

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr

_SHORT: Final = 12
"""A float that prints with at most so many significant digits was written by hand."""
_LARGEST_DENOMINATOR: Final = 1000


def scalar(value: float) -> Expr:
    """A Python number that appears in a formula, as the number it was meant to be.

    Integers and short decimals are themselves. A float within half an ulp of a small fraction, of the square root of
    one, or of a simple product of π, ln 2 and √π is taken for that; any other float is the binary fraction it is.
    """
    if isinstance(value, (bool, int)):
        return graph.constant(int(value))
    if not isfinite(value):
        return graph.constant(value)
    shown = Fraction(repr(value))
    digits = repr(abs(value)).partition("e")[0].replace(".", "").strip("0")
    if len(digits) <= _SHORT:
        return graph.constant(shown)
    return _recognise(value)


def _is_rounding_of(value: float, candidate: Fraction, ulps: Fraction = Fraction(1, 2)) -> bool:
    return abs(Fraction(value) - candidate) <= Fraction(ulp(value)) * ulps


@cache
def _recognise(value: float) -> Expr:
    exact = Fraction(value)
    nearby = exact.limit_denominator(_LARGEST_DENOMINATOR)
    if _is_rounding_of(value, nearby):
        return graph.constant(nearby)
    square = (exact * exact).limit_denominator(_LARGEST_DENOMINATOR)
    if 0 < square < 10**6 and _is_rounding_of(abs(value), _root(square)):
        root = graph.call("sqrt", graph.constant(square))
        return root if value > 0 else -root
    fourth = (exact**4).limit_denominator(_LARGEST_DENOMINATOR)
    if 0 < fourth < 10**6 and _is_rounding_of(abs(value), _root(_root(fourth)), Fraction(1)):
        # Attention scales queries and keys by the square root of 1/√d, each; that takes three roundings.
        root = graph.call("sqrt", graph.call("sqrt", graph.constant(fourth)))
        return root if value > 0 else -root
    return known_constants().get(value, graph.constant(exact))


def _root(square: Fraction) -> Fraction:
    """√square, to 60 digits."""
    scale = 10**60
    return Fraction(isqrt(square.numerator * scale**2 // square.denominator), scale)


@cache
def known_constants() -> dict[float, Expr]:
    """Simple products of π, ln 2, √π, …, by the floats that they round to."""
    root_two, root_pi = graph.call("sqrt", graph.TWO), graph.call("sqrt", graph.PI)
    root_two_over_pi = graph.call("sqrt", graph.TWO / graph.PI)
    ln_two, ln_ten = graph.call("log", graph.TWO), graph.call("log", graph.constant(10))
    bases: list[tuple[float, Expr]] = [
        (pi, graph.PI), (1 / pi, graph.ONE / graph.PI), (pi * pi, graph.PI * graph.PI),
        (sqrt(pi), root_pi), (1 / sqrt(pi), graph.ONE / root_pi), (2 / sqrt(pi), graph.TWO / root_pi),
        (sqrt(2 / pi), root_two_over_pi), (1 / sqrt(2 * pi), graph.HALF * root_two_over_pi),
        (sqrt(2 * pi), root_two * root_pi), (2 / sqrt(pi) * sqrt(0.5), root_two_over_pi),
        (log(2), ln_two), (1 / log(2), graph.ONE / ln_two), (log(10), ln_ten), (1 / log(10), graph.ONE / ln_ten),
        (log(pi), graph.call("log", graph.PI)), (log(2 * pi), graph.call("log", graph.TWO * graph.PI)),
        (e, graph.call("exp", graph.ONE)),
        (2.3025850929940456, ln_ten),  # as PyTorch writes it: the neighbour, which is as near
    ]  # fmt: skip
    known: dict[float, Expr] = {}
    for value, node in bases:
        for factor in (Fraction(p, q) for p in range(1, 13) for q in range(1, 13)):
            for sign in (1, -1):
                multiple = graph.constant(sign * factor) * node
                known.setdefault(sign * float(factor) * value, multiple)
    return known
