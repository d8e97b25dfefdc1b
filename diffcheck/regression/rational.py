"""Formulas of arithmetic alone, evaluated exactly over the rationals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final

from flint import fmpq

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr
from diffcheck.errors import DiffcheckError

_ARITHMETIC: Final[dict[str, Callable[..., fmpq]]] = {
    "add": lambda *terms: sum(terms, fmpq(0)),
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a ** int(b),
    "frozen": lambda a: a,
    "rounded": lambda a: a,
}


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
        self._outputs = outputs
        self._variables = [graph.symbol(name) for name in inputs]
        self._constants: dict[Expr, fmpq] = {}
        self._nodes = []
        for node in graph.topological(outputs):
            value = graph.number(node)
            power = graph.number(node.args[1]) if node.head == "pow" else Fraction(1)
            if value is not None:
                self._constants[node] = fmpq(value.numerator, value.denominator)
            elif node.head in _ARITHMETIC and power is not None and power.denominator == 1:
                self._nodes.append(node)
            elif node.head != "symbol":
                raise NotRational(f"{node.head} is not arithmetic")

    def __call__(self, values: Sequence[fmpq]) -> list[fmpq]:
        """The values of the formulas at values of the variables.

        Raises:
            ZeroDivisionError: A divisor is 0 there.
        """
        known = self._constants | dict(zip(self._variables, values, strict=True))
        for node in self._nodes:
            known[node] = _ARITHMETIC[node.head](*[known[a] for a in node.args])
        return [known[output] for output in self._outputs]


def exact(value: float) -> fmpq:
    """A float as the binary fraction that it is."""
    return fmpq(*float(value).as_integer_ratio())
