"""The catalogue: every wrong backward pass, by family."""

from __future__ import annotations

from typing import Final

from tests.detection import arithmetic, formulas, gradients, places, shapes, ways
from tests.detection.mutant import Mutant

SOURCES: Final = (
    formulas.factors, formulas.signs, formulas.terms, formulas.constants,
    shapes.jacobians, shapes.axes, shapes.broadcasting, shapes.columns, shapes.means, shapes.sizes, shapes.layouts,
    places.regions, places.elements, places.ties, places.zeros, places.branches, places.overflows,
    gradients.incoming, gradients.second_order, gradients.blind_spots,
    arithmetic.precision, arithmetic.differences, arithmetic.nondeterminism,
    ways.ways,
)  # fmt: skip

MUTANTS: Final[tuple[Mutant, ...]] = tuple(mutant for source in SOURCES for mutant in source())


def named(name: str) -> Mutant:
    """The entry `family/name`."""
    family, _, short = name.partition("/")
    (found,) = (m for m in MUTANTS if (m.family, m.name) == (family, short))
    return found
