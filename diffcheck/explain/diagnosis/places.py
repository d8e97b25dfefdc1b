"""Where a mistake shows: in a region, at one element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flint import arb

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import ONE, ZERO, Expr
from diffcheck.certify.balls import EXACT, Selections
from diffcheck.certify.compiler import Program
from diffcheck.derive import text
from diffcheck.explain.diagnosis.view import View, selectors_in
from diffcheck.verdict import Certainty

_BITS: Final = 256
_MOST_CONDITIONS: Final = 24
_FEWEST: Final = 3
"""Entries of which one can be said to be the only one."""


def region(view: View, position: int) -> tuple[str, Certainty] | None:
    """The conditions without which the executed formula would be right, and how sure that is.

    Each condition of the formulas is turned over alone: if the two sides are equal then, the mistake needs it.
    """
    pair = [view.executed[position], view.reference[position]]
    inputs = {str(node.payload) for node in view.inputs}
    conditions = [n for n in selectors_in(pair) if graph.symbols([n]) <= inputs]
    if not conditions or len(conditions) > _MOST_CONDITIONS:
        return None
    conditions.sort(key=lambda node: node.serial)
    values = _values(view, conditions, pair)
    if values is None:
        return None
    fixed = {n: ONE if v else ZERO for n, v in zip(conditions, values, strict=True)}
    needed: list[str] = []
    certainty = Certainty.CERTAIN
    for condition, value in zip(conditions, values, strict=True):
        turned = graph.substitute(pair, fixed | {condition: ZERO if value else ONE})
        holds = view.same([turned[0]], [turned[1]])
        if holds is not None:
            needed.append(condition_text(condition, holds=value))
            certainty = certainty if holds is Certainty.CERTAIN else holds
    if not needed:
        return None
    return " and ".join(needed), certainty


def _values(view: View, conditions: Sequence[Expr], pair: Sequence[Expr]) -> list[bool] | None:
    """How conditions come out where two formulas differ: at the input, or if that is on a boundary, at a sample."""
    for balls in view.values([*pair, *conditions]):
        if balls is not None and not balls[0].overlaps(balls[1]):
            return [ball == 1 for ball in balls[2:]]
    return None


def condition_text(node: Expr, *, holds: bool) -> str:
    """A condition, or its opposite, as people write it: `x[0] > 1.23`."""
    from diffcheck.derive import symbolic

    while node.head == "not":
        node, holds = node.args[0], not holds
    if node.head not in graph.SELECTORS:
        return f"{text.in_a_line(node)} is {1 if holds else 0}"
    if text.written_size(node) > text.LARGEST:
        signs = {"vanishes": ("==", "!=")}.get(node.head, (">", "<="))
        return f"{text.in_a_line(node.args[0])} {signs[0 if holds else 1]} 0"
    (argument,) = symbolic.to_sympy([node.args[0]])
    constant, rest = argument.as_coeff_Add()
    turned = rest.could_extract_minus_sign()
    signs = {"vanishes": ("==", "!=")}.get(node.head, ("<", ">=") if turned else (">", "<="))
    return f"{-rest if turned else rest} {signs[0 if holds else 1]} {_short(constant if turned else -constant)}"


def _short(number: object) -> str:
    value = float(number)  # type: ignore[arg-type]
    return f"{value:g}" if f"{value:g}" == str(value).removesuffix(".0") else str(number)


def tied(view: View, position: int) -> str | None:
    """Two entries that are compared with each other and are equal at the input: `x[0] equals x[1]`."""
    selectors = [n for n in graph.postorder([view.reference[position], *view.outputs]) if n.head in graph.SELECTORS]
    compared = [n for n in selectors if n.args[0].head == "add" and len(n.args[0].args) == 2]
    program = Program([n.args[0] for n in compared], view.trace.variables, EXACT)
    values = program([arb(v) for v in view.point], _BITS, Selections())
    for node, value in zip(compared, values, strict=True):
        left, right = node.args[0].args
        if value.is_zero() and all(graph.symbols([side]) for side in (left, right)):
            return f"{text.in_a_line(left)} equals {text.in_a_line(graph.negate(right))}"
    return None


def single_element(views: Sequence[View]) -> tuple[int, View] | None:
    """The one entry of an argument that is wrong, if it is alone at every shape that can tell."""
    telling = [view for view in views if len(_moving(view)) >= _FEWEST]
    wrong = [view for view in telling if view.differing]
    if not wrong or any(len(view.differing) > 1 for view in wrong):
        return None
    return wrong[-1].differing[0], wrong[-1]


def _moving(view: View) -> list[int]:
    """The entries whose derivative is not 0 everywhere."""
    return [i for i in view.positions if view.reference[i] is not ZERO]
