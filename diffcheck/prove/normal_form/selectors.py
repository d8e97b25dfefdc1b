"""Selectors of polynomials: brackets [p > 0] and [p = 0], by cases where p contains brackets itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Final

from flint import fmpq

from diffcheck.prove.normal_form.polynomials import WIDTH, Atom, GiveUp, Piecewise, Polynomial, Ring, Terms

_MOST_INNER_SELECTORS: Final = 6


class Selectors(Ring):
    """Polynomials with brackets among their atoms."""

    def _where(self, condition: Polynomial, a: Polynomial, b: Polynomial) -> Polynomial:
        return self.sum([self.multiply(condition, self.subtract(a, b)), b])

    def _with_selectors(self, p: Polynomial, values: dict[int, int]) -> Polynomial:
        """p with selectors set to 0 or 1."""
        terms: Terms = {}
        for monomial, coefficient in p.terms.items():
            for index, value in values.items():
                exponent = self._exponent(monomial, index)
                if exponent and not value:
                    break
                monomial -= exponent << (WIDTH * index)
            else:
                terms[monomial] = terms.get(monomial, fmpq(0)) + coefficient
        cleared = p.special
        for index in values:
            cleared &= ~(1 << index)
        return Polynomial({m: c for m, c in terms.items() if c != 0}, cleared)

    def _selector(self, p: Polynomial, decide: Callable[[Polynomial, dict[int, int]], Polynomial]) -> Polynomial:
        """A selector of p: by cases where p contains selectors itself."""
        inner = self._selectors_in(p)
        if len(inner) > _MOST_INNER_SELECTORS:
            raise GiveUp("selectors nested too deeply")
        cases = []
        for values in product((0, 1), repeat=len(inner)):
            assumed = dict(zip(inner, values, strict=True))
            outcome = decide(self._with_selectors(p, assumed), assumed)
            for index, value in assumed.items():
                bracket = Polynomial({1 << (WIDTH * index): fmpq(1)}, 1 << index)
                outcome = self.multiply(outcome, bracket if value else self.subtract(self.one, bracket))
            cases.append(outcome)
        return self.sum(cases)

    def _positive(self, p: Polynomial, assumed: dict[int, int]) -> Polynomial:
        """[p > 0] off the boundary, given how other selectors came out."""
        sign = self._sign(p)
        if sign is not None:
            return self.one if sign > 0 else self.zero
        piecewise = self.is_piecewise(p)
        if not piecewise:
            shared = self._monomial_content(p, lambda atom: atom.sign_known)
            p = self._divided_by_monomial(p, shared)
        p = self.scale(p, 1 / self._rational_content(p))
        # Where p may vanish on more than a boundary, [p > 0] is not 1 - [-p > 0].
        negated = self.leads_negative(p) and not piecewise
        if negated:
            p = self.scale(p, fmpq(-1))
        bracket = self._atom(("selector", p), Atom("selector", inside=p), p)
        (monomial,) = bracket.terms
        index = (monomial.bit_length() - 1) // WIDTH
        if index in assumed:
            bracket = self._number(fmpq(assumed[index]))
        return self.subtract(self.one, bracket) if negated else bracket

    def _vanishes(self, p: Polynomial, _: dict[int, int]) -> Polynomial:
        """[p = 0] off the boundary."""
        if self.is_zero(p):
            return self.one
        if self.is_piecewise(p) and self._sign(p) is None:
            raise Piecewise("whether a function of conditions vanishes")
        return self.zero

    def free_selectors(self, p: Polynomial) -> Sequence[int]:
        """The selectors that a polynomial depends on."""
        return self._selectors_in(p)
