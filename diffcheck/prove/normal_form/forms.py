"""A normal form for expressions: sparse polynomials, with rational coefficients, in atoms.

An atom stands for a variable, an exponential, a root, a logarithm, a selector, any other function of a normal form, or
for a sum that is divided by. Atoms know their relations: r² = Q for a root, s² = s for a selector, sin² = 1 - cos².
Products of exponentials are exponentials of sums; hyperbolic functions are exponentials. What is left is compared as a
polynomial, after denominators have been multiplied out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import Final

from flint import fmpq

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr
from diffcheck.prove.normal_form.functions import Functions
from diffcheck.prove.normal_form.polynomials import Atom, GiveUp, Polynomial

_SHORTEST: Final = 3
"""Of fewer terms, a sum is as short as what would stand for it."""


class NormalForms(Functions):
    """Turns expressions into polynomials over a common, growing set of atoms.

    Args:
        most_terms: The largest polynomial to be handled.
        most_products: How many multiplications of terms may be spent altogether.
        abbreviated: Gives the sums that are abbreviated, once it is asked: a mean that is taken off every element is
            multiplied as one atom. Equal expressions may then have unequal forms, of which `is_zero` of the difference
            knows most.
    """

    def __init__(
        self,
        most_terms: int = 20_000,
        most_products: int = 3_000_000,
        abbreviated: Callable[[], Collection[Expr]] | None = None,
    ) -> None:
        super().__init__(most_terms, most_products)
        self._abbreviated = None if abbreviated is None else cache(abbreviated)
        self._done: dict[Expr, Polynomial] = {}
        self._inverses: dict[Expr, Polynomial] = {}

    def of(self, node: Expr) -> Polynomial:
        """The normal form of an expression.

        Raises:
            GiveUp: It would be too large, or has none.
        """
        for part in graph.topological([node], without=self._done):
            self._done[part] = self._convert(part, [self._done[a] for a in part.args])
        return self._done[node]

    def _convert(self, node: Expr, args: list[Polynomial]) -> Polynomial:
        match node.head:
            case "constant":
                value = graph.number(node)
                if value is None:
                    raise GiveUp("an infinite constant")
                return self._number(fmpq(value.numerator, value.denominator))
            case "symbol":
                return self._atom(("symbol", node.payload), Atom("symbol"))
            case "pi":
                return self.power(self._atom("root pi", Atom("root pi", sign_known=True)), 2)
            case "add":
                return self._sum_of(node, args)
            case "neg":
                return self.scale(args[0], fmpq(-1))
            case "mul":
                return self.multiply(*args)
            case "div":
                return self.multiply(args[0], self._inverse_of(node.args[1], args[1]))
            case "pow":
                return self._power_of(node, *args)
            case "where":
                return self._where(*args)
            case "not":
                return self.subtract(self.one, args[0])
            case "positive":
                return self._selector(args[0], self._positive)
            case "vanishes":
                return self._selector(args[0], self._vanishes)
            case "frozen" | "rounded":
                return args[0]
            case head:
                return self.function(head, args)

    def _sum_of(self, node: Expr, args: list[Polynomial]) -> Polynomial:
        found = self.sum(args)
        if self._abbreviated is None or len(found.terms) < _SHORTEST or node not in self._abbreviated():
            return found
        return self.abbreviated(found)

    def _power_of(self, node: Expr, base: Polynomial, exponent: Polynomial) -> Polynomial:
        fixed = graph.number(node.args[1])
        if fixed is not None:
            return self.rational_power(base, fixed)
        return self.exponential(self.multiply(exponent, self.logarithm(base)))

    def _inverse_of(self, node: Expr, p: Polynomial) -> Polynomial:
        # The sum under a softmax is divided by once per element.
        found = self._inverses.get(node)
        if found is None:
            found = self._inverses[node] = self.inverse(p)
        return found
