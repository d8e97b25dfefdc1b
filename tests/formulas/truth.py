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
_TRIES: Final = 10_000


def derivative(formula: Formula, values: Mapping[str, float], name: str) -> mpmath.mpf | None:
    """∂formula/∂name, to 40 digits; None where there is none (on a singularity, or at the end of where the formula is
    real), or where two thousand digits do not settle it.
    """
    digits, before = _DIGITS, None
    while digits <= _MOST_DIGITS:
        with mpmath.workdps(digits):
            found = _difference(formula, values, name)
            if found is None:
                return None
            if before is not None and found != 0 and abs(found - before) <= _AGREED * abs(found):
                return found
        digits, before = 2 * digits, found
    return found if found == 0 else None


def _difference(formula: Formula, values: Mapping[str, float], name: str) -> mpmath.mpf | None:
    algebra = Algebra(
        lambda q: mpmath.mpf(q.numerator) / q.denominator,
        {"pi": +mpmath.pi},
        lambda function, x: getattr(mpmath, function)(x),
    )
    fixed = {other: mpmath.mpf(value) for other, value in values.items()}
    try:
        found = mpmath.diff(lambda x: formula.value({**fixed, name: x}, algebra), fixed[name])
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
