"""The table of functions: what each field says is true of the function that another field defines."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import mpmath
import numpy as np
import pytest

from diffcheck.algebra import expr as graph
from diffcheck.algebra.functions import FUNCTIONS, Function
from diffcheck.certify.floats import in_numpy
from diffcheck.derive.symbolic import definition, partial_derivative
from tests.support.reference import HEADS_BY_MPMATH

POINTS = (-2.75, -0.625, 0.125, 0.5, 0.875, 1.75, 3.5)
OF_ONE = sorted(name for name in FUNCTIONS if len(definition(name).free_symbols) == 1)


def value(name: str, x: float) -> float:
    """By mpmath; NaN where it is not a real number."""
    try:
        found = HEADS_BY_MPMATH[name](mpmath.mpf(x))
    except (ValueError, ZeroDivisionError):
        return math.nan
    return float(found) if isinstance(found, mpmath.mpf) else math.nan


def test_a_new_function_is_told_which_field_it_lacks():
    with pytest.raises(TypeError, match="'parity' and 'singular'"):
        Function("sin(u)", "{0}.sin()", "np.sin({0})", {0: 0})  # type: ignore[call-arg]


def test_mpmath_knows_every_function():
    assert HEADS_BY_MPMATH.keys() >= FUNCTIONS.keys()


@pytest.mark.parametrize("name", OF_ONE)
def test_a_parity_is_that_of_the_values(name: str):
    for x in POINTS:
        there, mirrored = value(name, x), value(name, -x)
        if math.isnan(there) or math.isnan(mirrored):
            continue
        assert math.isclose(mirrored, -there, rel_tol=1e-12) or FUNCTIONS[name].parity != "odd"
        assert math.isclose(mirrored, there, rel_tol=1e-12) or FUNCTIONS[name].parity != "even"
    seen = [(value(name, x), value(name, -x)) for x in POINTS]
    known = [(a, b) for a, b in seen if not math.isnan(a + b)]
    if len(known) > 2 and FUNCTIONS[name].parity == "neither":
        assert not all(math.isclose(b, -a, rel_tol=1e-12) for a, b in known)
        assert not all(math.isclose(b, a, rel_tol=1e-12) for a, b in known)


@pytest.mark.parametrize(("name", "x"), [(n, x) for n in OF_ONE for x in FUNCTIONS[n].values])
def test_a_constant_is_folded_to_its_value(name: str, x: float):
    folded = graph.call(name, graph.constant(x))
    assert folded is graph.constant(FUNCTIONS[name].values[x])
    limit = value(name, x if math.isfinite(x) else math.copysign(600.0, x))
    if math.isfinite(FUNCTIONS[name].values[x]):
        assert math.isclose(limit, FUNCTIONS[name].values[x], abs_tol=1e-12)
    else:
        assert limit > 6


@pytest.mark.parametrize("name", OF_ONE)
def test_what_is_positive_everywhere_is(name: str):
    signs = {value(name, x) > 0 for x in POINTS if not math.isnan(value(name, x))}
    assert not FUNCTIONS[name].positive or signs == {True}


@pytest.mark.parametrize(("name", "x"), [(n, x) for n in OF_ONE for x in FUNCTIONS[n].singular])
def test_at_a_singular_point_the_function_or_its_derivative_has_no_value(name: str, x: float):
    slope = partial_derivative(name, 0)(graph.constant(x))
    at = value(name, x)
    assert not math.isfinite(at) or graph.number(slope) is None or FUNCTIONS[name].step


@pytest.mark.parametrize("name", sorted(n for n in OF_ONE if in_numpy(n) is not None))
def test_numpy_agrees_with_mpmath(name: str):
    kind: Any
    for x, kind in product(POINTS, (np.float64, np.float32)):
        true = value(name, x)
        if not math.isnan(true):
            (found,) = in_numpy(name)(np.array([x], dtype=kind))
            assert found.dtype == kind
            assert math.isclose(float(found), true, rel_tol=8 * np.finfo(kind).eps), (x, found)
