"""Where to look: the numbers at and around which the formulas of a trace change, taken from the formulas themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Final

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr
from diffcheck.algebra.functions import FUNCTIONS

_MOST_POINTS: Final = 8
"""Boundaries that are looked at; there may be one for every element."""
_BESIDE: Final = 2.0**-9
"""How far beside a boundary, relative to its size."""
_LARGEST: Final = 2.0**20


def numbers_to_try(formulas: Sequence[Expr]) -> tuple[float, ...]:
    """Numbers that an entry of an input should also be: boundaries of selectors, poles, and what is between and beside.

    A formula that is another one for 1.23 < x < 1.24 only has selectors that change at 1.23 and at 1.24.
    """
    points = sorted({p for node in graph.topological(formulas) for p in _points(node) if abs(p) < _LARGEST})
    points = sorted(sorted(points, key=abs)[:_MOST_POINTS])
    found: dict[float, None] = dict.fromkeys(points)
    found.update(dict.fromkeys((a + b) / 2 for a, b in pairwise(points)))
    for point in points:
        beside = _BESIDE * max(abs(point), _BESIDE)
        found.update(dict.fromkeys((point - beside, point + beside, point / 2, point * 2)))
    return tuple(found)


def _points(node: Expr) -> Iterator[float]:
    """Where an operation changes its branch or has a pole, if that is a matter of one variable."""
    known = FUNCTIONS.get(node.head)
    levels = known.singular if known else (0,) if node.head in graph.SELECTORS or node.head == "div" else ()
    if not levels:
        return
    argument = node.args[-1]
    line = _affine(argument)
    if line is not None:
        slopes, offset = line
        if len(slopes) == 1:
            (slope,) = slopes.values()
            yield from (float((Fraction(level) - offset) / slope) for level in levels)
            return
    if node.head in graph.SELECTORS:
        for part in argument.args:
            value = graph.number(part)
            if value is not None and math.isfinite(value):
                yield float(value)
                yield -float(value)


def _affine(node: Expr) -> tuple[dict[str, Fraction], Fraction] | None:
    """The slopes and the offset of an affine function of variables; None if it is none."""
    value = graph.number(node)
    if value is not None:
        return {}, value
    match node.head:
        case "symbol":
            return {str(node.payload): Fraction(1)}, Fraction(0)
        case "neg":
            return _scaled(_affine(node.args[0]), Fraction(-1))
        case "mul":
            for factor, other in (node.args, node.args[::-1]):
                constant = graph.number(factor)
                if constant is not None:
                    return _scaled(_affine(other), constant)
        case "div":
            constant = graph.number(node.args[1])
            if constant:
                return _scaled(_affine(node.args[0]), 1 / constant)
        case "add":
            slopes: dict[str, Fraction] = {}
            offset = Fraction(0)
            for part in map(_affine, node.args):
                if part is None:
                    return None
                for name, slope in part[0].items():
                    slopes[name] = slopes.get(name, Fraction(0)) + slope
                offset += part[1]
            return {name: slope for name, slope in slopes.items() if slope}, offset
    return None


def _scaled(
    line: tuple[dict[str, Fraction], Fraction] | None, factor: Fraction
) -> tuple[dict[str, Fraction], Fraction] | None:
    if line is None or not factor:
        return None if line is None else ({}, Fraction(0))
    return {name: slope * factor for name, slope in line[0].items()}, line[1] * factor
