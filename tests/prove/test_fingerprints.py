"""Sums that occur in both of two formulas: found in whatever order they are added up, and no others."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import ZERO, Expr, call, constant, symbol, where
from diffcheck.prove.fingerprints import sums_in_both
from tests.prove.test_identity import through_sympy

X, Y, Z, W = (symbol(name) for name in "xyzw")
THIRD = constant(Fraction(1, 3))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (graph.total([X, Y, Z]), graph.total([Z, X, Y])),
        (X + (Y + Z), (X + Y) + Z),
        (X * Z + Y * Z, Z * Y + Z * X),
        (X / Y + Z, (X * (1 / Y)) + Z),
        (X * THIRD - Y, -Y + X / constant(3)),
        (X * X / (Y * Y) + Z, (X / Y) ** constant(2) + Z),
        (call("exp", X + Y) + Z, Z + call("exp", Y + X)),
        (graph.frozen(X, "detach") + Y, Y + X),
        (where(graph.positive(X), X, Y) + Z, Z + where(graph.positive(X), X, Y)),
    ],
)
def test_equal_sums_are_found(left: Expr, right: Expr):
    found = sums_in_both([left], [call("exp", right)])
    assert left in found
    assert any(node in found for node in graph.topological([right]) if node.head == "add")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (X + Y, X * Y),
        (X + Y, X + Z),
        (X + Y + Z, X + Y + constant(Fraction(10**12 + 1, 10**12)) * Z),
        (call("exp", X) + Y, call("log", X) + Y),
        (call("exp", X) + Y, call("exp", -X) + Y),
        (X / Y + Z, Y / X + Z),
        (X + Y, ZERO),
    ],
)
def test_other_sums_are_not(left: Expr, right: Expr):
    assert left not in sums_in_both([left], [right])
    assert left not in sums_in_both([right], [left])


def test_a_sum_of_one_side_only_is_not():
    assert sums_in_both([X + Y, (X + Y) * (X + Z)], [W]) == frozenset()


def test_a_division_by_zero_is_no_accident():
    nothing = (X + Y) - (Y + X)
    assert nothing / nothing + X not in sums_in_both([nothing / nothing + X], [1 + X])


POLYNOMIALS = st.recursive(
    st.sampled_from((X, Y, Z, THIRD, constant(-2))),
    lambda inner: st.one_of(
        st.builds(lambda a, b: a + b, inner, inner),
        st.builds(lambda a, b: a * b, inner, inner),
        st.builds(lambda a, b: a - b / constant(7), inner, inner),
    ),
    max_leaves=8,
)


@given(POLYNOMIALS)
def test_sums_rewritten_by_sympy_are_found(node: Expr):
    left = node * (X + 2) + W
    right = through_sympy(node * (X + 2), "expand") + W
    assert left is right or left in sums_in_both([left], [right])
