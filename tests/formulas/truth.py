"""Derivatives by a third method: differences of the formula itself in mpmath, at a precision that settles them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from random import Random
from typing import Final

import mpmath

from tests.formulas.notation import Algebra
from tests.formulas.rows import Formula

_DIGITS: Final = 60
_MOST_DIGITS: Final = 2000
"""What is left of exp(1024) - 1 and the like needs hundreds."""
_AGREED: Final = mpmath.mpf(10) ** -40
"""To how much of itself a derivative must be the same at twice the digits."""
_SAME: Final = mpmath.mpf(10) ** -20
"""To how much of themselves one-sided derivatives are the same."""
_TRIES: Final = 10_000


def derivative(formula: Formula, values: Mapping[str, float], direction: Mapping[str, float]) -> mpmath.mpf | None:
    """How fast the formula changes along a direction, to 40 digits; None where it has no such derivative (on a
    singularity, at a kink, or at the end of where the formula is real), or where two thousand digits do not settle it.

    Args:
        formula: The formula.
        values: Of its variables.
        direction: By how much the variables change; those that are not named do not.
    """
    digits, before = _DIGITS, None
    while digits <= _MOST_DIGITS:
        with mpmath.workdps(digits):
            found = _difference(formula, values, direction)
            if found is None:
                return None
            if before is not None and found != 0 and abs(found - before) <= _AGREED * abs(found):
                break
        digits, before = 2 * digits, found
    else:
        if found != 0:
            return None
    sides = one_sided(formula, values, direction, min(digits, _MOST_DIGITS))
    return found if sides is not None and abs(sides[1] - sides[0]) <= _SAME * (abs(found) + _SAME) else None


def one_sided(
    formula: Formula, values: Mapping[str, float], direction: Mapping[str, float], digits: int = _DIGITS
) -> tuple[mpmath.mpf, mpmath.mpf] | None:
    """The same against the direction and along it, at a precision; None where one of them does not exist."""
    with mpmath.workdps(digits):
        before, after = (_difference(formula, values, direction, side) for side in (-1, 1))
    return None if before is None or after is None else (before, after)


def _difference(
    formula: Formula, values: Mapping[str, float], direction: Mapping[str, float], side: int = 0
) -> mpmath.mpf | None:
    algebra = Algebra(
        lambda q: mpmath.mpf(q.numerator) / q.denominator,
        {"pi": +mpmath.pi},
        lambda function, x: getattr(mpmath, function)(x),
    )
    start = {name: mpmath.mpf(value) for name, value in values.items()}
    moves = {name: mpmath.mpf(value) for name, value in direction.items()}

    def moved(t: mpmath.mpf) -> mpmath.mpf:
        return formula.value({**start, **{name: start[name] + t * by for name, by in moves.items()}}, algebra)

    try:
        found = mpmath.diff(moved, 0, direction=side)
    except (ZeroDivisionError, ValueError):  # mpmath has no infinity where a pole or a logarithm of 0 is
        return None
    return found if isinstance(found, mpmath.mpf) and mpmath.isfinite(found) else None


def drawn(formula: Formula, random: Random) -> dict[str, float]:
    """Values within a formula's ranges, drawn without diffcheck's help; signed and over 2**±20 where there are none."""
    for _ in range(_TRIES):
        values = {name: _number(ranges, random) for name, ranges in formula.ranges.items()}
        if formula.related(values):
            return values
    raise ValueError(f"nothing is found that {formula.name} is declared for")


def _number(ranges: Sequence[tuple[str, Fraction]], random: Random) -> float:
    low = max((float(bound) for name, bound in ranges if name in (">", ">=")), default=-math.inf)
    high = min((float(bound) for name, bound in ranges if name in ("<", "<=")), default=math.inf)
    if math.isfinite(low) and math.isfinite(high):
        return random.uniform(low, high)
    size = 2.0 ** random.uniform(-20, 20)
    if math.isfinite(low):
        return low + size
    return high - size if math.isfinite(high) else random.choice((size, -size))
