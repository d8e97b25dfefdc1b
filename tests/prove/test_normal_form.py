"""The normal form itself: equal things have one form, and what has none says so."""

from __future__ import annotations

import pytest

from diffcheck.algebra.expr import ONE, PI, Expr, call, constant, positive, symbol
from diffcheck.prove.normal_form import GiveUp, NormalForms

X, Y = symbol("x"), symbol("y")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((X + Y) * (X - Y), X * X - Y * Y),
        (call("exp", X + Y), call("exp", X) * call("exp", Y)),
        (call("sqrt", constant(12)), 2 * call("sqrt", constant(3))),
        (call("sqrt", PI) * call("sqrt", PI), PI),
        (call("sin", X) * call("sin", X), 1 - call("cos", X) * call("cos", X)),
        (positive(X) * positive(X), positive(2 * X)),
        (call("log", constant(6)), call("log", constant(2)) + call("log", constant(3))),
        (1 / (2 * X + 2 * Y), constant(1) / 2 / (X + Y)),
    ],
    ids=str,
)
def test_equal_expressions_have_one_form(left: Expr, right: Expr):
    forms = NormalForms()
    assert forms.of(left) == forms.of(right)


def test_a_quotient_vanishes_after_denominators_are_multiplied_out():
    forms = NormalForms()
    difference = forms.of(1 / X - 1 / (X + 1) - 1 / (X * (X + 1)))
    assert forms.is_zero(difference)
    assert not forms.is_zero(forms.of(1 / X - 1 / (X + 1)))


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (ONE / (X - X), "a division by zero"),
        (call("log", X - X), "the logarithm of zero"),
        (X ** constant(1000), "a very large exponent"),
        ((X ** constant(64)) ** constant(64) * (X ** constant(64)) ** constant(64), None),
        (((X ** constant(64)) ** constant(64)) ** constant(16), "a very large exponent"),
        (X + constant(float("inf")) * 0 + ONE / constant(0), "a division by zero"),
        (call("sqrt", constant(10**40 + 1)), "the root of a very large number"),
        (call("sqrt", (X + Y) * (X + Y)), "the root of a square"),
    ],
)
def test_what_has_no_form_says_why(node: Expr, reason: str | None):
    forms = NormalForms()
    if reason is None:
        assert forms.of(node).terms
        return
    try:
        forms.of(node)
    except GiveUp as found:
        assert str(found) == reason or node.head == "constant"  # noqa: PT017 - NaN has no form for another reason
    else:
        pytest.fail("it has a form")


@pytest.mark.parametrize(
    ("forms", "reason"), [(NormalForms(most_terms=50), "terms"), (NormalForms(most_products=50), "products")]
)
def test_a_budget_is_kept(forms: NormalForms, reason: str):
    node = constant(1)
    for i in range(10):
        node = node * (symbol(f"a{i}") + symbol(f"b{i}"))
    with pytest.raises(GiveUp, match=f"too many {reason}"):
        forms.of(node)
    assert len(NormalForms().of(node).terms) == 2**10
