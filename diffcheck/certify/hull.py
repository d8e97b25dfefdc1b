"""Whether a vector lies in the convex hull of others, as exactly as the numbers are known.

The nearest point of the hull is Lawson and Hanson's non-negative least squares (*Solving Least Squares Problems*,
1974, chapter 23) with a row for Σλ = 1. Its weights are then refined until the residual, which is computed in
fractions, is as small as it gets: floating-point weights alone would leave 10⁻¹⁶ of the vectors' size, and a bound may
be less.

Rounding moves each coordinate within a bound of its own. What one of them is off is therefore not shared among all:
beside a coordinate that is known to 10⁻⁷, one that is exactly 0 stays so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt

_MOST_PIVOTS: Final = 200
_REFINEMENTS: Final = 4
_LIGHTEST: Final = 2.0**-26
"""Of a row, beside the heaviest: the square of it is what rounding leaves of the heaviest one."""
_NOTHING: Final = Fraction(1, 2**20)
"""What rounding may have moved a coordinate by is no more than this in the search for the nearest point."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """The point of a hull that is nearest to a point."""

    weights: tuple[Fraction, ...]
    """One per vertex, of sum 1."""
    residual: tuple[Fraction, ...]
    """From there to the point, by coordinate."""

    def within(self, slack: Sequence[float]) -> bool:
        """Whether no coordinate is farther than that."""
        return all(abs(r) <= Fraction(s) for r, s in zip(self.residual, slack, strict=True))


def nearest(
    vertices: Sequence[Sequence[Fraction]], point: Sequence[Fraction], slack: Sequence[float] | None = None
) -> Nearest:
    """The point of the convex hull of some vertices that is nearest, relative to how far they lie from it.

    Args:
        vertices: They span the hull.
        point: To which it is to be near.
        slack: How far each coordinate may be off: what is left is left where it may be.
    """
    scales = _scales(vertices, point, slack)
    # From the point: vertices that differ in their tenth digit only are as far from each other as others.
    away = [[float((v - x) / s) for v, x, s in zip(vertex, point, scales, strict=True)] for vertex in vertices]
    matrix = np.array([[*vertex, 1.0] for vertex in away]).T
    target = np.array([0.0] * len(point) + [1.0])
    weights = [Fraction(w) for w in _non_negative(matrix, target).tolist()]
    best = _with_weights(weights, vertices, point)
    support = [i for i, w in enumerate(weights) if w > 0]
    rows = np.array([*_row_weights(scales, slack), 1.0])
    units = [s / Fraction(w) for s, w in zip(scales, rows.tolist(), strict=False)]
    for _ in range(_REFINEMENTS):
        if not support or not any(best.residual):
            break
        off = np.array([float(r / u) for r, u in zip(best.residual, units, strict=True)] + [0.0])
        step, *_rest = np.linalg.lstsq(rows[:, None] * matrix[:, support], off, rcond=None)
        moved = list(best.weights)
        for i, change in zip(support, step.tolist(), strict=True):
            moved[i] = max(moved[i] + Fraction(change), Fraction(0))
        better = _with_weights(moved, vertices, point)
        if _size(better, units) >= _size(best, units):
            break
        best = better
    return best


def _scales(
    vertices: Sequence[Sequence[Fraction]], point: Sequence[Fraction], slack: Sequence[float] | None
) -> list[Fraction]:
    """Of each coordinate: how far vertices lie from the point, or what makes rounding nothing beside the others."""
    spread = [max(abs(v - x) for v in column) for x, *column in zip(point, *vertices, strict=True)]
    allowed = [Fraction(0)] * len(spread) if slack is None else [Fraction(s) / _NOTHING for s in slack]
    return [max(a, b) or Fraction(1) for a, b in zip(spread, allowed, strict=True)]


def _row_weights(scales: Sequence[Fraction], slack: Sequence[float] | None) -> list[float]:
    if slack is None:
        return [1.0] * len(scales)
    relative = [Fraction(b) / s for b, s in zip(slack, scales, strict=True)]
    least = min(relative)
    return [max(float(least / r), _LIGHTEST) if r else 1.0 for r in relative]


def _size(found: Nearest, units: Sequence[Fraction]) -> Fraction:
    return max(abs(r) / u for r, u in zip(found.residual, units, strict=True))


def _with_weights(
    weights: Sequence[Fraction], vertices: Sequence[Sequence[Fraction]], point: Sequence[Fraction]
) -> Nearest:
    total = sum(weights, Fraction(0))
    shares = [w / total for w in weights] if total else [Fraction(1), *[Fraction(0)] * (len(weights) - 1)]
    used = [(w, v) for w, v in zip(shares, vertices, strict=True) if w]
    residual = tuple(x - sum((w * v[i] for w, v in used), Fraction(0)) for i, x in enumerate(point))
    return Nearest(tuple(shares), residual)


def _non_negative(matrix: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The x ≥ 0 for which matrix @ x is nearest to the target."""
    count = matrix.shape[1]
    found = np.zeros(count)
    active: list[int] = []
    tolerance = 1e-13 * max(1.0, float(np.abs(matrix).max()))
    for _ in range(_MOST_PIVOTS):
        gain = matrix.T @ (target - matrix @ found)
        gain[active] = -np.inf
        entering = int(np.argmax(gain))
        if gain[entering] <= tolerance:
            break
        active.append(entering)
        while active:
            solution, *_rest = np.linalg.lstsq(matrix[:, active], target, rcond=None)
            if np.all(solution > 0):
                found[:] = 0.0
                found[active] = solution
                break
            old = found[active]
            falling = solution <= 0
            share = float(np.min(old[falling] / np.maximum(old[falling] - solution[falling], np.finfo(float).tiny)))
            moved = old + share * (solution - old)
            found[:] = 0.0
            found[active] = np.maximum(moved, 0.0)
            # What reached 0 leaves; so does what has just entered and would turn back at once.
            leaving = [i for i, m, f in zip(active, moved, falling, strict=True) if f and m <= tolerance]
            active = [i for i in active if i not in (leaving or active[-1:])]
    return found
