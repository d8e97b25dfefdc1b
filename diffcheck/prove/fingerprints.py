"""Which sums are the same function, as far as their values at one random point tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr

_PRIME: Final = 2**61 - 1


def sums_in_both(left: Iterable[Expr], right: Iterable[Expr]) -> frozenset[Expr]:
    """The sums, of either side, whose value occurs in the other side too.

    The point is one modulo a prime; of functions other than the rational ones, equal arguments have equal values, and
    nothing else is known. That is a guess, and to be used as one.

    Args:
        left: Expressions.
        right: Others.
    """
    sides = graph.topological(left), graph.topological(right)
    values: dict[Expr, int] = {}
    for nodes in sides:
        _add_values(nodes, values)
    sums = [{values[n] for n in nodes if n.head == "add"} for nodes in sides]
    both = sums[0] & sums[1]
    return frozenset(n for nodes in sides for n in nodes if n.head == "add" and values[n] in both)


def _add_values(nodes: Sequence[Expr], values: dict[Expr, int]) -> None:
    for node in nodes:
        if node in values:
            continue
        args = [values[a] for a in node.args]
        match node.head:
            case "add":
                value = sum(args)
            case "mul":
                value = args[0] * args[1]
            case "neg":
                value = -args[0]
            case "div" if args[1]:
                value = args[0] * pow(args[1], -1, _PRIME)
            case "pow" if args[0] and (number := graph.number(node.args[1])) is not None and number.denominator == 1:
                value = pow(args[0], number.numerator, _PRIME)
            case "frozen" | "rounded":
                value = args[0]
            case "constant" if (number := graph.number(node)) is not None and number.denominator % _PRIME:
                value = number.numerator * pow(number.denominator, -1, _PRIME)
            case head:
                value = hash((head, node.payload, *args))
        values[node] = value % _PRIME
