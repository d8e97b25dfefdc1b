"""Certified values contain the truth, the derived bound never accuses the innocent, and small errors are caught."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor

from diffcheck import expr as graph
from diffcheck.case import Case
from diffcheck.certify import Certifier, Format, Outcome, format_of
from diffcheck.derive import pull_back, push_forward
from diffcheck.domain import size_assignments
from diffcheck.expr import Expr, symbol
from diffcheck.heads import HEADS
from diffcheck.shadow import MANTISSA_BITS
from diffcheck.trace import trace
from tests.core.expressions import X, Y, over_arithmetic, over_heads
from tests.core.loaded import cases
from tests.core.reference import DIGITS, NoValue, contains, exact, sympy_gradient, sympy_value, variable

DOUBLE = format_of(torch.float64, 53)
SINGLE = format_of(torch.float32, 24)
EXAMPLES = {example.name: example for example in over_heads() + over_arithmetic()}
POINTS, SLOW_POINTS = 140, 25


# ---------------------------------------------------------------------------------------------------------------------
# Every certified value against mpmath at 300 digits
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Checked:
    """What was held to mpmath."""

    points: int = 0
    values: int = 0
    without_value: int = 0


def hold(certifier: Certifier, forms: Sequence[Any], names: Sequence[str], point: Sequence[float]) -> tuple[int, int]:
    """Holds the certified values at one point to SymPy's derivative at 300 digits: how many there were, and were not."""
    mpmath.mp.dps = DIGITS + 20
    values = {variable(n): mpmath.mpf(v) for n, v in zip(names, point, strict=True)}
    quick, fine = certifier.enclose(point), certifier.enclose(point, 1200)
    found = missing = 0
    for position, (form, ball, narrow) in enumerate(zip(forms, quick, fine, strict=True)):
        try:
            truth = sympy_value(form, values)
        except NoValue:
            missing += 1
            continue
        found += 1
        where = f"{form} at {list(point)}"
        assert contains(ball, truth, mpmath.mpf(10) ** -290), f"{where}: {ball} is not {mpmath.nstr(truth, 30)}"
        if not contains(narrow, truth, mpmath.mpf(10) ** -290):  # have the 300 digits been cancelled?
            with mpmath.workdps(4 * DIGITS):
                truth = sympy_value(form, values)
                assert contains(narrow, truth, mpmath.mpf(10) ** -290), f"{where}: {narrow}"
        if ball.is_finite() and truth != 0:
            sharp, decided = certifier._sharpened(position, [mpmath_to_arb(v) for v in point], ball, 0.0)
            assert decided, where
            assert contains(sharp, truth, mpmath.mpf(10) ** -290), where
            ulp = mpmath.mpf(DOUBLE.ulp(float(truth)) if abs(truth) < DOUBLE.largest else DOUBLE.largest)
            assert exact(sharp.rad()) <= ulp / 2**20, f"{where}: {sharp}"
    return found, missing


def mpmath_to_arb(value: float) -> Any:
    from flint import arb

    return arb(value)


@cache
def checked_example(name: str) -> Checked:
    example = EXAMPLES[name]
    cotangent = symbol("c")
    names = ["x", "y", "c"]
    reference = pull_back(graph.as_values([example.of]), [cotangent], [X, Y])
    forms = sympy_gradient([example.of], [cotangent], [X, Y])
    certifier = Certifier(names, reference, reference, DOUBLE)
    checked, random = Checked(), Random(0)
    for x, y in example.points(SLOW_POINTS if example.slow else POINTS):
        found, missing = hold(certifier, forms, names, (x, y, random.choice((1.0, -1.0, random.uniform(-3, 3)))))
        checked.points += found > 0
        checked.values += found
        checked.without_value += missing
    return checked


def test_the_table_covers_every_head():
    used = {node.head for e in EXAMPLES.values() for node in graph.topological([e.of])}
    assert HEADS.keys() <= used


@pytest.mark.parametrize("name", EXAMPLES)
def test_certified_values_of_expressions(name: str):
    checked = checked_example(name)
    assert checked.without_value == 0
    assert checked.points == (SLOW_POINTS if EXAMPLES[name].slow else POINTS)
