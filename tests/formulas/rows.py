"""The rows of the data as formulas with ranges, and formulas as cases."""

from __future__ import annotations

import csv
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import Annotated, Any, Final

import torch
from annotated_types import BaseMetadata, Ge, Gt, Le, Lt
from jaxtyping import Float
from torch import Tensor

from diffcheck import case
from diffcheck.declare.case import Case
from tests.formulas.notation import Algebra, Tree, evaluated, formula, precondition

_DATA: Final = Path(__file__).parents[1] / "data"


def _torch_or_math(name: str, value: Any) -> Any:
    return getattr(torch if isinstance(value, Tensor) else math, name)(value)


TORCH: Final = Algebra(lambda q: q.numerator if q.denominator == 1 else float(q), {"pi": math.pi}, _torch_or_math)
"""As people write it: constants are Python's numbers."""
_EXACT: Final = Algebra(lambda q: q, {}, lambda name, _: name)

_BOUNDS: Final[Mapping[str, Callable[[float], BaseMetadata]]] = {"<": Lt, "<=": Le, ">": Gt, ">=": Ge}
_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_HOLDS: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "!=": operator.ne}

Comparison = tuple[str, Tree, Tree]


@dataclass(frozen=True)
class Formula:
    """One row: a formula, and the ranges of its variables."""

    name: str
    """`feynman/I.6.2a`, `rosa/doppler1`."""
    text: str
    """As it stands in the data."""
    ranges: Mapping[str, Sequence[tuple[str, Fraction]]]
    """Comparisons with numbers, by variable, in the order of the arguments: `x: [(">=", 0), ("<", 1)]`."""
    relations: Sequence[Comparison] = ()
    """What else the precondition says."""

    def value(self, values: Mapping[str, Any], algebra: Algebra) -> Any:
        """The formula at values of its variables."""
        return evaluated(_tree(self.text), values, algebra)

    def related(self, values: Mapping[str, float]) -> bool:
        """Whether the relations hold, exactly."""
        exact = {name: Fraction(value) for name, value in values.items()}
        return all(
            _HOLDS[name](evaluated(left, exact, _EXACT), evaluated(right, exact, _EXACT))
            for name, left, right in self.relations
        )

    def case(self) -> Case:
        """The formula as a PyTorch function of scalars, with its ranges."""

        def named(values: Sequence[Tensor]) -> dict[str, Tensor]:
            return dict(zip(self.ranges, values, strict=True))

        return case(
            lambda *values: self.value(named(values), TORCH),
            name=self.name,
            inputs={name: _annotation(ranges) for name, ranges in self.ranges.items()},
            assume=(lambda *values: self.related({n: v.item() for n, v in named(values).items()}))
            if self.relations
            else None,
        )


def _annotation(ranges: Sequence[tuple[str, Fraction]]) -> Any:
    scalar = Float[Tensor, ""]
    return Annotated[scalar, *(_BOUNDS[name](float(bound)) for name, bound in ranges)] if ranges else scalar


_tree = cache(formula)


@cache
def formulas() -> tuple[Formula, ...]:
    """The hundred formulas of the Feynman database, and FPBench's 110 straight-line cores."""
    return (*map(_feynman, _rows("feynman.csv")), *map(_fpbench, _rows("fpbench.csv", kind="straight line")))


def _rows(file: str, **wanted: str) -> Iterator[Mapping[str, str]]:
    with (_DATA / file).open(newline="") as lines:
        yield from (row for row in csv.DictReader(lines) if row.items() >= wanted.items())


def _feynman(row: Mapping[str, str]) -> Formula:
    ranges = zip(row["variables"].split(), row["low"].split(), row["high"].split(), strict=True)
    bounds = {name: ((">=", Fraction(low)), ("<=", Fraction(high))) for name, low, high in ranges}
    return Formula(f"feynman/{row['name']}", row["formula"], bounds)


def _fpbench(row: Mapping[str, str]) -> Formula:
    ranges: dict[str, list[tuple[str, Fraction]]] = {name: [] for name in row["arguments"].split()}
    relations = []
    for name, left, right in _comparisons(precondition(row["precondition"])) if row["precondition"] else ():
        match left, right:
            case str(), Fraction() if name in _BOUNDS:
                ranges[left].append((name, right))
            case Fraction(), str() if name in _BOUNDS:
                ranges[right].append((_MIRRORED[name], left))
            case _:
                relations.append((name, left, right))
    return Formula(f"{row['file'].removesuffix('.fpcore')}/{row['name']}", row["expression"], ranges, relations)


def _comparisons(tree: Tree) -> Iterator[Comparison]:
    """What a precondition says, two by two: `(< 0 x 1)` is a chain, `(!= x 0 1)` means all different."""
    assert isinstance(tree, tuple)
    name, *parts = tree
    if name == "and":
        for part in parts:
            yield from _comparisons(part)
    else:
        pairs = combinations(parts, 2) if name == "!=" else pairwise(parts)
        yield from ((name, left, right) for left, right in pairs)
