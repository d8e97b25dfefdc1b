"""From one cell to the next: all cells that meet at an input, found by crossing their walls.

In a cell every selector's argument is, to first order, a linear function of the direction: a·v. Those that are 0 at
the input are the walls, and the cell is where each a·v has its sign. By Gordan's theorem there are directions in which
all vectors sᵢaᵢ have positive products, or 0 lies in their convex hull; so the hull's nearest point to 0 either is such
a direction, or is 0. To cross a wall its sign is turned, the others stay. Where the arguments are other functions in
other cells (a maximum of maxima), walls are those of the cell that is being left: whatever cell the direction then lies
in is the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Final

from flint import arb

from diffcheck.certify.cells import Direction, Entered, Neighbourhood
from diffcheck.certify.hull import nearest

_BESIDE: Final = 2.0**-40
"""Slopes are those of differences over so much of a direction: nearer than any other wall."""
_FLAT: Final = 2.0**-60
"""A nearest point of so little length, relatively, is 0."""


def walls(around: Neighbourhood, entered: Entered, moving: Sequence[int]) -> list[tuple[tuple[Fraction, ...], int]]:
    """The slopes of the arguments that are 0 at the input, along some variables, and their signs in a cell."""
    open_ones = around.at_boundaries(entered.values)
    here = entered.arguments(open_ones)
    slopes: list[list[Fraction]] = [[] for _ in open_ones]
    for i in moving:
        moved = list(entered.direction)
        moved[i] += _BESIDE
        beside = around.enter(entered.values, tuple(moved)).arguments(open_ones)
        for row, near, far in zip(slopes, here, beside, strict=True):
            difference = (far - near) / entered.step / _BESIDE if near.is_finite() and far.is_finite() else arb(0)
            row.append(Fraction(float(difference.mid())) if difference.is_finite() else Fraction(0))
    found = []
    for row, argument in zip(slopes, here, strict=True):
        sign = 1 if argument > 0 else -1 if argument < 0 else 0
        if sign and any(row):
            largest = max(map(abs, row))
            found.append((tuple(x / largest for x in row), sign))
    return list(dict.fromkeys(found))


def across(around: Neighbourhood, entered: Entered, moving: Sequence[int]) -> Iterator[Direction]:
    """A direction into what lies behind each wall of a cell."""
    found = walls(around, entered, moving)
    for crossed in range(len(found)):
        inward = [[x * (-sign if i == crossed else sign) for x in row] for i, (row, sign) in enumerate(found)]
        point = nearest(inward, [Fraction(0)] * len(moving))
        towards = [-float(r) for r in point.residual]
        if max(map(abs, towards)) <= _FLAT:
            continue  # the others exclude it: it is no wall of this cell
        scale = max(map(abs, towards))
        direction = list(entered.direction)
        for i, x in zip(moving, towards, strict=True):
            # Beside the middle, so that nothing is exactly equal there.
            direction[i] = x / scale + direction[i] * 2.0**-20
        yield tuple(direction)
