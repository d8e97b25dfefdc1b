"""Figures of formulas: equal ones are the same formulas in other variables, and no others."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr, constant, symbol
from diffcheck.prove.symmetry import Figures

A, B, C, D = (symbol(name) for name in "abcd")
"""In the order of their making."""


def exp(x: Expr) -> Expr:
    return graph.call("exp", x)


def test_one_formula_in_other_variables():
    figures = Figures()
    assert figures.in_order([A * A + B]) == figures.in_order([C * C + D])
    assert figures.in_order([A * A + B]) != figures.in_order([B * B + A])
    assert figures.by_role([A * A + B]) == figures.by_role([B * B + A]) == figures.by_role([C + D * D])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (A - B, B + A),
        (A / B, A * B),
        (A / (A + B), B / (A / B)),
        (A + 2, A + 3),
        (A + constant(1.0 / 3), A + constant(Fraction(1, 3))),
        (exp(A) + B, exp(A) + A),
        (A * B + C * D, A * B + A * C),
        (graph.where(graph.positive(A), B, C), graph.where(graph.positive(A), C, B) + A),
        (graph.frozen(A, "detach") * A, graph.frozen(A, "no_grad") * A),
        (A + B + C, A + B + A),
    ],
    ids=str,
)
def test_other_formulas_have_other_figures(one: Expr, other: Expr):
    figures = Figures()
    assert figures.in_order([one]) != figures.in_order([other])
    assert figures.by_role([one]) != figures.by_role([other])


def test_several_formulas_hang_together():
    figures = Figures()
    assert figures.by_role([A + B, A]) == figures.by_role([A + B, B])
    assert figures.by_role([A + B * 2, A]) != figures.by_role([A + B * 2, B])
    assert figures.by_role([A, B]) != figures.by_role([A, A])


def test_marked_variables_stand_for_marked_ones():
    figures = Figures()
    assert figures.by_role([A * A + B], [A]) == figures.by_role([C * C + D], [C])
    assert figures.by_role([A * A + B], [A]) != figures.by_role([A * A + B], [B])


def test_an_element_and_its_cotangent_go_together():
    figures = Figures()
    x = [symbol(f"x{i}") for i in range(6)]
    dy = [symbol(f"dy{i}") for i in range(6)]
    norm = graph.total(exp(v) for v in x)
    inner = graph.total(d * exp(v) / norm for d, v in zip(dy, x, strict=True))
    gradients = [exp(v) / norm * (d - inner) for d, v in zip(dy, x, strict=True)]
    assert len({figures.by_role([g]) for g in gradients}) == 1
    crossed = exp(x[0]) / norm * (dy[1] - inner)
    assert figures.by_role([crossed]) != figures.by_role([gradients[0]])


def _combined(parts: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    return st.one_of(
        st.builds(lambda a, b: a + b, parts, parts),
        st.builds(lambda a, b: a * b, parts, parts),
        st.builds(lambda a, b: a / b, parts, parts),
        st.builds(lambda a, b, c: graph.total([a, b, c]), parts, parts, parts),
        parts.map(exp),
    )


FORMULAS = st.recursive(st.sampled_from([A, B, C, constant(2)]), _combined, max_leaves=5)


@given(FORMULAS, FORMULAS)
def test_equal_figures_are_renamings(one: Expr, other: Expr):
    """Two formulas have one figure by role only if some renaming of variables makes them one."""
    figures = Figures()
    found = figures.by_role([one]) == figures.by_role([other])
    variables, others = (sorted(graph.symbols([f])) for f in (one, other))
    kept = [symbol(name) for name in others]  # beside the formula, so that each variable stands for itself
    goal = figures.in_order([other, *kept])
    orders = itertools.permutations(kept) if len(variables) == len(others) else ()
    renamings = [dict(zip(map(symbol, variables), order, strict=True)) for order in orders]
    same = any(figures.in_order([*graph.substitute([one], r), *kept]) == goal for r in renamings)
    assert same or not found
