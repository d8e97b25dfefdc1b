"""Formulas of arithmetic alone, evaluated exactly over the rationals."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from flint import fmpq

from diffcheck.algebra import expr as graph
from diffcheck.errors import DiffcheckError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffcheck.algebra.expr import Expr


class NotRational(DiffcheckError):
    """The formula has a function in it whose values are not rational numbers."""


class RationalProgram:
    """Formulas as a function of named variables, over the rationals.

    Args:
        outputs: The formulas: sums, products, quotients and integer powers.
        inputs: The names of the variables, in the order in which values will be given.

    Raises:
        NotRational: There is something else in them.
    """

    def __init__(self, outputs: Sequence[Expr], inputs: Sequence[str]) -> None:
        nodes = graph.topological(outputs)
        slot = {node: i for i, node in enumerate(nodes)}
        position = {name: i for i, name in enumerate(inputs)}
        self._slots = [slot[o] for o in outputs]
        self._plan: list[tuple[str, tuple[int, ...], Any]] = []
        for node in nodes:
            args = tuple(slot[a] for a in node.args)
            match node.head:
                case "symbol":
                    self._plan.append(("symbol", (), position[str(node.payload)]))
                case "constant" if isinstance(node.payload, Fraction):
                    self._plan.append(("constant", (), fmpq(node.payload.numerator, node.payload.denominator)))
                case "pow" if (power := graph.number(node.args[1])) is not None and power.denominator == 1:
                    self._plan.append(("pow", args[:1], int(power)))
                case "add" | "mul" | "neg" | "div" | "frozen" | "rounded" as head:
                    self._plan.append((head, args, 0))
                case head:
                    raise NotRational(f"{head} is not arithmetic")

    def __call__(self, values: Sequence[fmpq]) -> list[fmpq]:
        """The values of the formulas at values of the variables.

        Raises:
            ZeroDivisionError: A divisor is 0 there.
        """
        known: list[fmpq] = []
        for head, args, payload in self._plan:
            match head:
                case "symbol":
                    known.append(values[payload])
                case "constant":
                    known.append(payload)
                case "add":
                    total = known[args[0]]
                    for a in args[1:]:
                        total = total + known[a]
                    known.append(total)
                case "mul":
                    known.append(known[args[0]] * known[args[1]])
                case "neg":
                    known.append(-known[args[0]])
                case "div":
                    known.append(known[args[0]] / known[args[1]])
                case "pow":
                    known.append(known[args[0]] ** payload)
                case _:
                    known.append(known[args[0]])
        return [known[s] for s in self._slots]


def exact(value: float) -> fmpq:
    """A float as the binary fraction that it is."""
    return fmpq(*float(value).as_integer_ratio())
