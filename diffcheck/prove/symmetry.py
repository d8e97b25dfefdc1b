"""Formulas that are the same but for the names of their variables, and the order of sums and products.

The gradient of a standard deviation has a formula for every element, and they are one formula: exchanging two elements
turns one into another.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Final, TypeAlias

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr

Colour: TypeAlias = int
Figure: TypeAlias = tuple[int, ...]
"""Of formulas: of one table, equal ones are the same formulas in other variables."""

_COMMUTATIVE: Final = frozenset({"add", "mul"})


class Figures:
    """A table in which every operation on what is in it has a number."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def in_order(self, formulas: Sequence[Expr], marked: Collection[Expr] = ()) -> Figure:
        """The figure of formulas whose variables stand for each other in the order of their making.

        Args:
            formulas: The formulas.
            marked: Variables that stand for such variables only.
        """
        nodes = graph.topological(formulas)
        return self._figure(formulas, nodes, [n for n in nodes if n.head == "symbol"], marked)

    def by_role(self, formulas: Sequence[Expr], marked: Collection[Expr] = ()) -> Figure:
        """The figure of formulas whose variables stand for each other by how they are used.

        That is by what a variable stands in, with which others (two steps of Weisfeiler and Leman's refinement). Those
        that are used alike stay in the order of their names: elements, and their cotangents. Another order may make
        equal figures of formulas that have different ones by this.
        """
        nodes = graph.topological(formulas)
        roles = _roles(formulas, nodes, _roles(formulas, nodes, {}))
        variables = sorted((n for n in nodes if n.head == "symbol"), key=lambda v: (roles[v], *_by_name(v)))
        return self._figure(formulas, nodes, variables, marked)

    def _figure(
        self, formulas: Sequence[Expr], nodes: Sequence[Expr], variables: Sequence[Expr], marked: Collection[Expr]
    ) -> Figure:
        table = self._numbers
        number = {v: table.setdefault(("symbol", i, v in marked), len(table)) for i, v in enumerate(variables)}
        for node in nodes:
            if node.head != "symbol":
                args = [number[a] for a in node.args]
                if node.head in _COMMUTATIVE:
                    args.sort()
                key = (node.head, node.payload, *args) if args else node
                number[node] = table.setdefault(key, len(table))
        return tuple(number[formula] for formula in formulas)


def _by_name(variable: Expr) -> tuple[int, str]:
    name = str(variable.payload)
    return len(name), name  # `x[10]` after `x[9]`


def _roles(formulas: Sequence[Expr], nodes: Sequence[Expr], before: Mapping[Expr, Colour]) -> dict[Expr, Colour]:
    """By variable, a number that is equal for those that are used alike, with variables of the same numbers before."""
    made_of: dict[Expr, Colour] = {}
    for node in nodes:
        args = [made_of[a] for a in node.args]
        if node.head in _COMMUTATIVE:
            args.sort()
        if args:
            made_of[node] = hash((node.head, node.payload, *args))
        else:
            made_of[node] = before.get(node, 0) if node.head == "symbol" else hash(node)
    stands_in: dict[Expr, list[Colour]] = {node: [] for node in nodes}
    for position, formula in enumerate(formulas):
        stands_in[formula].append(position)
    for node in reversed(nodes):
        own = hash((made_of[node], *sorted(stands_in[node])))
        for position, argument in enumerate(node.args):
            stands_in[argument].append(own if node.head in _COMMUTATIVE else hash((own, position)))
    return {node: hash(tuple(sorted(stands_in[node]))) for node in nodes if node.head == "symbol"}
