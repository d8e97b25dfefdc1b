"""The rows of the data as formulas with ranges, and formulas as cases."""

from __future__ import annotations

import csv
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import Annotated, Any, Final

import torch
from annotated_types import BaseMetadata, Ge, Gt, Interval, Le, Lt
from jaxtyping import Float
from torch import Tensor

from diffcheck import case
from diffcheck.case import Case
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
    bounds: Mapping[str, tuple[BaseMetadata, ...]]
    """By variable, in the order of the arguments."""
    relations: tuple[Comparison, ...] = ()
    """What else the precondition says."""

    def value(self, values: Mapping[str, Any], algebra: Algebra) -> Any:
        """The formula at values of its variables."""
        return evaluated(_tree(self.text), values, algebra)

    def inside(self, *values: Tensor) -> bool:
        """Whether the relations hold, exactly."""
        known = {name: Fraction(v.item()) for name, v in zip(self.bounds, values, strict=True)}
        return all(
            _HOLDS[name](evaluated(left, known, _EXACT), evaluated(right, known, _EXACT))
            for name, left, right in self.relations
        )

    def case(self) -> Case:
        """The formula as a PyTorch function of scalars, with its ranges."""
        scalar = Float[Tensor, ""]
        return case(
            lambda *values: self.value(dict(zip(self.bounds, values, strict=True)), TORCH),
            name=self.name,
            inputs={v: Annotated[scalar, *bounds] if bounds else scalar for v, bounds in self.bounds.items()},
            assume=self.inside if self.relations else None,
        )


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
    bounds = {name: (Interval(ge=float(low), le=float(high)),) for name, low, high in ranges}
    return Formula(f"feynman/{row['name']}", row["formula"], bounds)


def _fpbench(row: Mapping[str, str]) -> Formula:
    bounds: dict[str, tuple[BaseMetadata, ...]] = dict.fromkeys(row["arguments"].split(), ())
    relations = []
    for one in _comparisons(precondition(row["precondition"])) if row["precondition"] else ():
        bound = _bound(*one)
        if bound is None:
            relations.append(one)
        else:
            bounds[bound[0]] += (bound[1],)
    file = row["file"].removesuffix(".fpcore")
    return Formula(f"{file}/{row['name']}", row["expression"], bounds, tuple(relations))


def _comparisons(tree: Tree) -> Iterator[Comparison]:
    """What a precondition says, two by two: `(< 0 x 1)` is a chain, `(!= x 0 1)` means all different."""
    name, *parts = tree
    if name == "and":
        for part in parts:
            yield from _comparisons(part)
    else:
        yield from ((name, *pair) for pair in (combinations if name == "!=" else _chain)(parts, 2))


def _chain(parts: list[Tree], _: int) -> Iterator[tuple[Tree, Tree]]:
    return pairwise(parts)


def _bound(name: str, left: Tree, right: Tree) -> tuple[str, BaseMetadata] | None:
    """The variable and its bound, where a comparison is one."""
    if isinstance(left, str) and isinstance(right, Fraction) and name in _BOUNDS:
        return left, _BOUNDS[name](float(right))
    if isinstance(left, Fraction) and isinstance(right, str) and name in _BOUNDS:
        return right, _BOUNDS[_MIRRORED[name]](float(left))
    return None
