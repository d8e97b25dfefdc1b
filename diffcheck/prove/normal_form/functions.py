"""Roots, exponentials, logarithms and the functions that are made of them, as polynomials in atoms."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final

from flint import fmpq, fmpz

from diffcheck.algebra.functions import FUNCTIONS
from diffcheck.prove.normal_form.polynomials import HALF, WIDTH, Atom, GiveUp, Monomial, Polynomial
from diffcheck.prove.normal_form.selectors import Selectors

_EXP_UNIT: Final = 240
"""An atom of an exponential is its 240th root, so that roots and the common fractions of it are whole exponents."""
_PRIME: Final = 2**61 - 1


class Functions(Selectors):
    """What an elementary function of a polynomial is."""

    def function(self, head: str, args: list[Polynomial]) -> Polynomial:
        """A function of the table, of normal forms."""
        handler = _FUNCTIONS.get(head)
        if handler is not None:
            return handler(self, *args)
        if FUNCTIONS[head].parity == "odd" and self.leads_negative(args[0]):
            return self.scale(self.function(head, [self.scale(args[0], fmpq(-1))]), fmpq(-1))
        return self.opaque(head, args)

    def opaque(self, head: str, args: list[Polynomial]) -> Polynomial:
        """A function of which nothing else is known."""
        return self._atom((head, *args), Atom(head), *args)

    def rational_power(self, p: Polynomial, exponent: Fraction) -> Polynomial:
        """p ** exponent; for a fractional exponent, the real root of a positive p."""
        if exponent.denominator == 1:
            if abs(exponent) > 512:
                raise GiveUp("a very large exponent")
            return self.power(p, int(exponent))
        return self.power(self.root(p, exponent.denominator), exponent.numerator)

    def root(self, p: Polynomial, degree: int) -> Polynomial:
        """The degree-th root of a positive p."""
        if not p.terms:
            return self.zero
        content = self._rational_content(p)
        shared = self._monomial_content(p, lambda atom: atom.kind in ("exp", "root pi"))
        halved = 0
        for index, exponent in self._factors(shared):
            if exponent % degree == 0:
                halved += (exponent // degree) << (WIDTH * index)
            else:
                shared -= exponent << (WIDTH * index)
        rest = self.scale(self._divided_by_monomial(p, shared), 1 / content)
        result = self.multiply(Polynomial({halved: fmpq(1)}), self._root_of_rational(content, degree))
        if rest.terms.keys() == {0} and rest.terms[0] == 1:
            return result
        if degree % 2 == 0 and self._is_square(rest):
            if degree != 2 or len(rest.terms) > 1:
                raise GiveUp("the root of a square")
            ((monomial, _),) = rest.terms.items()
            halved = sum((e // 2) << (WIDTH * i) for i, e in self._factors(monomial))
            base = Polynomial({halved: fmpq(1)}, rest.special)
            sign = self.subtract(self.scale(self._selector(base, self._positive), fmpq(2)), self.one)
            return self.multiply(result, self.multiply(base, sign))
        known = self._sign(rest) == 1
        return self.multiply(result, self._atom(("root", degree, rest), Atom("root", degree, rest, known), rest))

    def _is_square(self, p: Polynomial) -> bool:
        """Whether p is the square of a polynomial: modulo a prime, its values are squares everywhere.

        The root of a square would satisfy r² = s² in two ways, and r could not be told from s and from -s.
        """
        terms = [
            (int(c.p) * pow(int(c.q), -1, _PRIME) % _PRIME, self._factors(monomial)) for monomial, c in p.terms.items()
        ]
        for turn in range(20):
            powers: dict[tuple[int, int], int] = {}
            value = 0
            for term, factors in terms:
                for factor in factors:
                    if factor not in powers:
                        index, exponent = factor
                        base = 7919 * (index + 1) + 104_729 * (turn + 1)
                        powers[factor] = pow(base, 65_537 * exponent, _PRIME)
                    term = term * powers[factor] % _PRIME
                value += term
            if pow(value, (_PRIME - 1) // 2, _PRIME) == _PRIME - 1:
                return False
        return True

    def _root_of_rational(self, value: fmpq, degree: int) -> Polynomial:
        """As a rational times roots of primes."""
        result = self.one
        for part, sign in ((fmpz(value.p), 1), (fmpz(value.q), -1)):
            if part > fmpz(10) ** 30:
                raise GiveUp("the root of a very large number")
            for prime, multiplicity in part.factor():
                wholes, left = divmod(int(multiplicity) * sign, degree)
                result = self.scale(result, fmpq(prime) ** wholes)
                if left:
                    inside = self._number(fmpq(prime))
                    generator = self._atom(("root", degree, inside), Atom("root", degree, inside, sign_known=True))
                    result = self.multiply(result, self.power(generator, left))
        return result

    def exponential(self, p: Polynomial) -> Polynomial:
        """exp(p), as a product over the terms of p."""
        result = self.one
        for monomial, coefficient in p.terms.items():
            result = self.multiply(result, self._exponential_of_term(monomial, coefficient))
        return result

    def _exponential_of_term(self, monomial: Monomial, coefficient: fmpq) -> Polynomial:
        factors = self._factors(monomial)
        if len(factors) == 1 and factors[0][1] == 1 and self._atoms[factors[0][0]].kind == "log":
            inside = self._atoms[factors[0][0]].inside
            assert inside is not None
            return self.rational_power(inside, Fraction(int(coefficient.p), int(coefficient.q)))
        for unit in (fmpq(1), abs(coefficient)):
            exponent = coefficient / unit * _EXP_UNIT
            if exponent.q == 1 and abs(exponent.p) < HALF // 4:
                break
        atom = Atom("exp", sign_known=True, log=(monomial, unit / _EXP_UNIT))
        (generator,) = self._atom(
            ("exp", monomial, unit), atom, Polynomial({monomial: fmpq(1)}, self._special_of(monomial))
        ).terms
        return Polynomial({generator * int(exponent.p): fmpq(1)})

    def logarithm(self, p: Polynomial) -> Polynomial:
        """log(p) for a positive p: exponentials and rational factors come out."""
        if not p.terms:
            raise GiveUp("the logarithm of zero")
        content = self._rational_content(p)
        shared = self._monomial_content(p, lambda atom: atom.kind == "exp")
        parts = [self._logarithm_of_rational(content)]
        for index, exponent in self._factors(shared):
            log = self._atoms[index].log
            assert log is not None
            monomial, unit = log
            parts.append(Polynomial({monomial: unit * exponent}, self._special_of(monomial)))
        rest = self.scale(self._divided_by_monomial(p, shared), 1 / content)
        if not (rest.terms.keys() == {0} and rest.terms[0] == 1):
            parts.append(self._atom(("log", rest), Atom("log", inside=rest), rest))
        return self.sum(parts)

    def _logarithm_of_rational(self, value: fmpq) -> Polynomial:
        parts = [self.zero]
        for part, sign in ((fmpz(value.p), 1), (fmpz(value.q), -1)):
            if part > fmpz(10) ** 30:
                raise GiveUp("the logarithm of a very large number")
            for prime, multiplicity in part.factor():
                inside = self._number(fmpq(prime))
                atom = self._atom(("log", inside), Atom("log", inside=inside))
                parts.append(self.scale(atom, fmpq(sign * int(multiplicity))))
        return self.sum(parts)

    def cosine(self, p: Polynomial) -> Polynomial:
        """cos(p); even."""
        p = self.scale(p, fmpq(-1)) if self.leads_negative(p) else p
        return self._atom(("cos", p), Atom("cos"), p)

    def sine(self, p: Polynomial) -> Polynomial:
        """sin(p); odd, with sin² = 1 - cos²."""
        if self.leads_negative(p):
            return self.scale(self.sine(self.scale(p, fmpq(-1))), fmpq(-1))
        cosine = self.cosine(p)
        square = self.subtract(self.one, self.multiply(cosine, cosine))
        return self._atom(("sin", p), Atom("sin", inside=square), p)


def _tanh(forms: Functions, p: Polynomial) -> Polynomial:
    """1 - 2 / (1 + exp(2p))."""
    denominator = forms.sum([forms.one, forms.exponential(forms.scale(p, fmpq(2)))])
    return forms.subtract(forms.one, forms.scale(forms.inverse(denominator), fmpq(2)))


def _sigmoid(forms: Functions, p: Polynomial) -> Polynomial:
    """1 - 1 / (1 + exp(p))."""
    denominator = forms.sum([forms.one, forms.exponential(p)])
    return forms.subtract(forms.one, forms.inverse(denominator))


def _half_exponentials(sign: int) -> Callable[[Functions, Polynomial], Polynomial]:
    def build(forms: Functions, p: Polynomial) -> Polynomial:
        up, down = forms.exponential(p), forms.exponential(forms.scale(p, fmpq(-1)))
        return forms.scale(forms.sum([up, forms.scale(down, fmpq(sign))]), fmpq(1, 2))

    return build


def _erfcx(forms: Functions, p: Polynomial) -> Polynomial:
    """exp(p²) · (1 - erf p)."""
    complement = forms.subtract(forms.one, forms.function("erf", [p]))
    return forms.multiply(forms.exponential(forms.multiply(p, p)), complement)


def _bessel(forms: Functions, order: Polynomial, p: Polynomial) -> Polynomial:
    """By the order: I₋ₙ = Iₙ, and Iₙ₊₁ = Iₙ₋₁ - 2n/p · Iₙ brings it down to 0 and 1 (DLMF 10.29.1)."""
    whole = order.terms.get(0, fmpq(0))
    if order.terms.keys() - {0} or whole.q != 1:
        raise GiveUp("a Bessel function of another than a whole order")
    n = abs(int(whole.p))
    if n > 1:
        lower, lowest = (_bessel(forms, forms.scale(forms.one, fmpq(k)), p) for k in (n - 1, n - 2))
        return forms.subtract(lowest, forms.scale(forms.multiply(lower, forms.inverse(p)), fmpq(2 * (n - 1))))
    if forms.leads_negative(p):  # I₀ is even, I₁ odd
        return forms.scale(_bessel(forms, order, forms.scale(p, fmpq(-1))), fmpq((-1) ** n))
    return forms.opaque("besseli", [forms.scale(forms.one, fmpq(n)), p])


_FUNCTIONS: Final[dict[str, Callable[..., Polynomial]]] = {
    "exp": Functions.exponential,
    "expm1": lambda forms, p: forms.subtract(forms.exponential(p), forms.one),
    "log": Functions.logarithm,
    "log1p": lambda forms, p: forms.logarithm(forms.sum([forms.one, p])),
    "sqrt": lambda forms, p: forms.root(p, 2),
    "sin": Functions.sine,
    "cos": Functions.cosine,
    "tan": lambda forms, p: forms.multiply(forms.sine(p), forms.inverse(forms.cosine(p))),
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "sinh": _half_exponentials(-1),
    "cosh": _half_exponentials(1),
    "erfcx": _erfcx,
    "besseli": _bessel,
    "erfc": lambda forms, p: forms.subtract(forms.one, forms.function("erf", [p])),
}
