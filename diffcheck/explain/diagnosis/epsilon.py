"""Small numbers that keep a quotient finite, and take its place where there is none."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import ONE, ZERO, Expr
from diffcheck.explain.diagnosis.view import View
from diffcheck.verdict import Certainty, Diagnosis, Mistake

_SMALL: Final = Fraction(1, 10**5)
"""Numbers up to this are put into divisors so that these are not 0."""


def epsilon(view: View) -> Diagnosis | None:
    """A small number of the executed formula's own, without which that is the derivative."""
    theirs = {n for n in graph.postorder([*view.reference, *view.outputs]) if graph.is_constant(n)}
    differing = view.differing or view.positions
    executed = [view.executed[i] for i in differing]
    for node in graph.postorder(executed):
        value = graph.number(node)
        if node in theirs or value is None or not 0 < abs(value) <= _SMALL:
            continue
        certainty = _without(view, node, executed, [view.reference[i] for i in differing])
        if certainty is not None:
            words = f"{float(value):g} in the executed formula keeps it from dividing by 0, or by less than that"
            return Diagnosis(Mistake.EPSILON, certainty, f"{words}; without it, that is the derivative")
    return None


def _without(view: View, number: Expr, executed: list[Expr], reference: list[Expr]) -> Certainty | None:
    """Whether formulas are the reference once a number is 0, or what is compared with it is on one side of it."""
    conditions = [s for s in graph.postorder(executed) if s.head in graph.SELECTORS and number in graph.postorder([s])]
    for changes in ({number: ZERO}, dict.fromkeys(conditions, ONE), dict.fromkeys(conditions, ZERO)):
        without = graph.substitute(executed, changes)
        if without == executed:
            continue
        certainty = view.same(without, reference)
        if certainty is not None:
            return certainty
        if view.differ(executed, reference) and not view.differ(without, reference):
            return Certainty.LIKELY
    return None
