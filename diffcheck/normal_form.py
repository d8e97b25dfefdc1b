"""A normal form for expressions: sparse polynomials, with rational coefficients, in atoms.

An atom stands for a variable, an exponential, a root, a logarithm, a selector, any other function of a normal form, or
for a sum that is divided by. Atoms know their relations: r² = Q for a root, s² = s for a selector, sin² = 1 - cos².
Products of exponentials are exponentials of sums; hyperbolic functions are exponentials. What is left is compared as a
polynomial, after denominators have been multiplied out.

Exponents are packed into one integer per monomial, so that multiplying monomials is adding integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import gcd, lcm
from typing import Final

from flint import fmpq, fmpz

from diffcheck import expr as graph
from diffcheck.expr import Expr

_WIDTH: Final = 24
"""Bits per exponent."""
_HALF: Final = 1 << (_WIDTH - 1)
_MASK: Final = (1 << _WIDTH) - 1
_EXP_UNIT: Final = 240
"""An atom of an exponential is its 240th root, so that roots and the common fractions of it are whole exponents."""
_MOST_INNER_SELECTORS: Final = 6
_PRIME: Final = 2**61 - 1

Monomial = int
Terms = dict[Monomial, fmpq]


class GiveUp(Exception):
    """The normal form grew beyond its budget, or the expression has no such form."""


class Piecewise(GiveUp):
    """It has a form, but only where conditions have one value."""


@dataclass(frozen=True, slots=True)
class _Atom:
    kind: str
    degree: int = 0
    """For a root: which one. The atom to this power is `inside`."""
    inside: Polynomial | None = None
    """What a root is of, what a denominator stands for, what a logarithm or a selector is of."""
    sign_known: bool = False
    """Positive for all values of the variables."""
    log: tuple[Monomial, fmpq] | None = None
    """For an exponential: what it is the exponential of, a coefficient times a monomial."""


class Polynomial:
    """A sum of monomials. `special` has a bit for every atom with a relation that occurs in it."""

    __slots__ = ("special", "terms")

    def __init__(self, terms: Terms, special: int = 0) -> None:
        self.terms = terms
        self.special = special if terms else 0

    def key(self) -> frozenset[tuple[Monomial, fmpq]]:
        """Equal for equal polynomials."""
        return frozenset(self.terms.items())


class NormalForms:
    """Turns expressions into polynomials over a common, growing set of atoms.

    Args:
        most_terms: The largest polynomial to be handled.
        most_products: How many multiplications of terms may be spent altogether.
    """

    def __init__(self, most_terms: int = 20_000, most_products: int = 3_000_000) -> None:
        self._atoms: list[_Atom] = []
        self._index: dict[object, int] = {}
        self._done: dict[Expr, Polynomial] = {}
        self._inverses: dict[Expr, Polynomial] = {}
        self._most_terms = most_terms
        self._products_left = most_products
        self._bias = 0
        self._piecewise = 0
        """A bit for every atom that is a floor, or a function of selectors or floors."""
        self.zero = Polynomial({})
        self.one = self._number(fmpq(1))

    # -- expressions -----------------------------------------------------------------------------------------------

    def of(self, node: Expr) -> Polynomial:
        """The normal form of an expression.

        Raises:
            GiveUp: It would be too large, or has none.
        """
        for part in graph.topological([node]):
            if part not in self._done:
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
                return self._atom(("symbol", node.payload), _Atom("symbol"))
            case "pi":
                return self.power(self._atom("root pi", _Atom("root pi", sign_known=True)), 2)
            case "add":
                return self.sum(args)
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
                return self._function(head, args)

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

    def _where(self, condition: Polynomial, a: Polynomial, b: Polynomial) -> Polynomial:
        return self.sum([self.multiply(condition, self.subtract(a, b)), b])

    def _function(self, head: str, args: list[Polynomial]) -> Polynomial:
        handler = _FUNCTIONS.get(head)
        if handler is not None:
            return handler(self, *args)
        if head in _ODD and self._leads_negative(args[0]):
            return self.scale(self._function(head, [self.scale(args[0], fmpq(-1))]), fmpq(-1))
        return self._atom((head, *(a.key() for a in args)), _Atom(head), *args)

    # -- arithmetic ------------------------------------------------------------------------------------------------

    def _number(self, value: fmpq) -> Polynomial:
        return Polynomial({0: value} if value != 0 else {})

    def _atom(self, key: object, atom: _Atom, *of: Polynomial) -> Polynomial:
        index = self._index.get(key)
        if index is None:
            index = self._index[key] = len(self._atoms)
            if atom.kind == "floor" or any(self._selectors_in(p) or self.is_piecewise(p) for p in of):
                self._piecewise |= 1 << index
            self._atoms.append(atom)
            self._bias += _HALF << (_WIDTH * index)
        has_relation = self._atoms[index].degree or self._atoms[index].kind in ("selector", "sin", "denominator")
        return Polynomial({1 << (_WIDTH * index): fmpq(1)}, (1 << index) if has_relation else 0)

    def is_piecewise(self, p: Polynomial) -> bool:
        """Whether atoms occur that depend on selectors or floors: p may vanish on more than a boundary."""
        return bool(self._piecewise) and any(
            (self._piecewise >> index) & 1 for monomial in p.terms for index, _ in self._factors(monomial)
        )

    def scale(self, p: Polynomial, factor: fmpq) -> Polynomial:
        """factor · p."""
        return Polynomial({m: c * factor for m, c in p.terms.items()}, p.special) if factor != 0 else self.zero

    def sum(self, parts: Iterable[Polynomial]) -> Polynomial:
        """Σ parts."""
        terms: Terms = {}
        special = 0
        for part in parts:
            special |= part.special
            for monomial, coefficient in part.terms.items():
                before = terms.get(monomial)
                terms[monomial] = coefficient if before is None else before + coefficient
        return Polynomial({m: c for m, c in terms.items() if c != 0}, special)

    def subtract(self, a: Polynomial, b: Polynomial) -> Polynomial:
        """a - b."""
        return self.sum([a, self.scale(b, fmpq(-1))])

    def multiply(self, a: Polynomial, b: Polynomial) -> Polynomial:
        """a · b, with the atoms' relations applied."""
        if not a.terms or not b.terms:
            return self.zero
        self._products_left -= len(a.terms) * len(b.terms)
        if self._products_left < 0:
            raise GiveUp("too many products")
        terms: Terms = {}
        for m, c in a.terms.items():
            for n, d in b.terms.items():
                key = m + n
                before = terms.get(key)
                terms[key] = c * d if before is None else before + c * d
        if len(terms) > self._most_terms:
            raise GiveUp("too many terms")
        self._check_exponents(terms)
        result = Polynomial({m: c for m, c in terms.items() if c != 0}, a.special | b.special)
        return self._reduced(result) if a.special & b.special else result

    def _check_exponents(self, terms: Terms) -> None:
        """Exponents stay below a quarter of their field's range, so that a sum of two never reaches the next field."""
        bias = self._bias
        middle = bias >> 1
        for monomial in terms:
            packed = monomial + bias
            if (packed ^ (packed >> 1)) & middle != middle:
                raise GiveUp("a very large exponent")

    def power(self, p: Polynomial, exponent: int) -> Polynomial:
        """p ** exponent, for a whole exponent."""
        if exponent < 0:
            return self.power(self.inverse(p), -exponent)
        result, square = self.one, p
        while exponent:
            if exponent & 1:
                result = self.multiply(result, square)
            exponent >>= 1
            if exponent:
                square = self.multiply(square, square)
        return result

    def _exponent(self, monomial: Monomial, index: int) -> int:
        return (((monomial + self._bias) >> (_WIDTH * index)) & _MASK) - _HALF

    def _factors(self, monomial: Monomial) -> list[tuple[int, int]]:
        """The atoms of a monomial, with their exponents."""
        found = []
        while monomial:
            index = ((monomial & -monomial).bit_length() - 1) // _WIDTH
            exponent = (monomial >> (_WIDTH * index)) & _MASK
            if exponent >= _HALF:  # negative exponents have borrowed from the field above
                exponent -= 1 << _WIDTH
            found.append((index, exponent))
            monomial -= exponent << (_WIDTH * index)
        return found

    def _reduced(self, p: Polynomial) -> Polynomial:
        """Applies s² = s, r^q = Q and sin² = 1 - cos² until nothing changes."""
        special = p.special
        index = 0
        while special >> index:
            if (special >> index) & 1:
                p = self._reduced_in(p, index)
            index += 1
        return p

    def _reduced_in(self, p: Polynomial, index: int) -> Polynomial:
        atom, unit = self._atoms[index], 1 << (_WIDTH * index)
        if atom.kind == "denominator":
            highest = 0
        else:
            highest = (atom.degree or 2) - 1
        kept: Terms = {}
        rewritten: list[Polynomial] = []
        for monomial, coefficient in p.terms.items():
            exponent = self._exponent(monomial, index)
            if exponent <= highest and (exponent >= 0 or atom.kind == "denominator"):
                kept[monomial] = coefficient
                continue
            rest = Polynomial({monomial - exponent * unit: coefficient}, p.special & ~(1 << index))
            rewritten.append(self.multiply(rest, self._atom_power(index, exponent)))
        return self.sum([Polynomial(kept, p.special), *rewritten]) if rewritten else p

    def _atom_power(self, index: int, exponent: int) -> Polynomial:
        """An atom to any power, in reduced form."""
        atom = self._atoms[index]
        generator = Polynomial({1 << (_WIDTH * index): fmpq(1)}, 1 << index)
        if atom.kind == "selector":
            return generator
        assert atom.inside is not None
        if atom.kind == "denominator":
            if exponent < 0:
                return Polynomial({exponent << (_WIDTH * index): fmpq(1)}, 1 << index)
            return self.power(atom.inside, exponent)
        wholes, left = divmod(exponent, atom.degree or 2)
        power = self.power(atom.inside, wholes)
        if not left:
            return power
        if left == 1:
            return self.multiply(power, generator)
        return self.multiply(power, Polynomial({left << (_WIDTH * index): fmpq(1)}, 1 << index))

    # -- contents --------------------------------------------------------------------------------------------------

    def _rational_content(self, p: Polynomial) -> fmpq:
        """The positive rational whose removal leaves coprime whole coefficients."""
        tops, bottoms = 0, 1
        for c in p.terms.values():
            tops = gcd(tops, int(abs(c.p)))
            bottoms = lcm(bottoms, int(c.q))
        return fmpq(tops, bottoms)

    def _monomial_content(self, p: Polynomial, wanted: Callable[[_Atom], bool]) -> Monomial:
        """The largest monomial in the wanted atoms that divides every term."""
        lowest: dict[int, int] | None = None
        for monomial in p.terms:
            exponents = {i: e for i, e in self._factors(monomial) if wanted(self._atoms[i])}
            if lowest is None:
                lowest = exponents
            else:
                lowest = {i: min(lowest.get(i, 0), exponents.get(i, 0)) for i in lowest.keys() | exponents.keys()}
        return sum(e << (_WIDTH * i) for i, e in (lowest or {}).items())

    def _leads_negative(self, p: Polynomial) -> bool:
        return bool(p.terms) and p.terms[max(p.terms)] < 0

    def _special_of(self, monomial: Monomial) -> int:
        return sum(
            1 << i
            for i, _ in self._factors(monomial)
            if self._atoms[i].degree or self._atoms[i].kind in ("selector", "sin", "denominator")
        )

    def _divided_by_monomial(self, p: Polynomial, monomial: Monomial) -> Polynomial:
        return Polynomial({m - monomial: c for m, c in p.terms.items()}, p.special)

    # -- inverses, roots, exponentials, logarithms -----------------------------------------------------------------

    def inverse(self, p: Polynomial) -> Polynomial:
        """1 / p. A sum becomes an atom of its own, to the power -1."""
        if not p.terms:
            raise GiveUp("a division by zero")
        content = self._rational_content(p)
        if self._leads_negative(p):
            content = -content
        shared = self._monomial_content(p, lambda atom: atom.kind != "selector")
        # Without the denominators that all terms share, some terms have positive powers of them: those are sums again.
        rest = self._reduced(self.scale(self._divided_by_monomial(p, shared), 1 / content))
        result = self._number(1 / content)
        for index, exponent in self._factors(shared):
            factor = Polynomial({-exponent << (_WIDTH * index): fmpq(1)})
            atom = self._atoms[index]
            if atom.degree or atom.kind in ("sin", "denominator"):
                factor = self._atom_power(index, -exponent)
            result = self.multiply(result, factor)
        if rest.terms.keys() == {0} and rest.terms[0] == 1:
            return result
        denominator = self._atom(
            ("denominator", rest.key()), _Atom("denominator", inside=rest, sign_known=self._sign(rest) == 1), rest
        )
        (monomial,) = denominator.terms
        return self.multiply(result, Polynomial({-monomial: fmpq(1)}, denominator.special))

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
                halved += (exponent // degree) << (_WIDTH * index)
            else:
                shared -= exponent << (_WIDTH * index)
        rest = self.scale(self._divided_by_monomial(p, shared), 1 / content)
        result = self.multiply(Polynomial({halved: fmpq(1)}), self._root_of_rational(content, degree))
        if rest.terms.keys() == {0} and rest.terms[0] == 1:
            return result
        if degree % 2 == 0 and self._is_square(rest):
            if degree != 2 or len(rest.terms) > 1:
                raise GiveUp("the root of a square")
            ((monomial, _),) = rest.terms.items()
            halved = sum((e // 2) << (_WIDTH * i) for i, e in self._factors(monomial))
            base = Polynomial({halved: fmpq(1)}, rest.special)
            sign = self.subtract(self.scale(self._selector(base, self._positive), fmpq(2)), self.one)
            return self.multiply(result, self.multiply(base, sign))
        known = self._sign(rest) == 1
        return self.multiply(result, self._atom(("root", degree, rest.key()), _Atom("root", degree, rest, known), rest))

    def _is_square(self, p: Polynomial) -> bool:
        """Whether p is the square of a polynomial: modulo a prime, its values are squares everywhere.

        The root of a square would satisfy r² = s² in two ways, and r could not be told from s and from -s.
        """
        for turn in range(20):
            value = 0
            for monomial, coefficient in p.terms.items():
                term = int(coefficient.p) * pow(int(coefficient.q), -1, _PRIME)
                for index, exponent in self._factors(monomial):
                    term = term * pow(7919 * (index + 1) + 104_729 * (turn + 1), 65_537 * exponent, _PRIME) % _PRIME
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
                    generator = self._atom(
                        ("root", degree, inside.key()), _Atom("root", degree, inside, sign_known=True)
                    )
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
            if exponent.q == 1 and abs(exponent.p) < _HALF // 4:
                break
        atom = _Atom("exp", sign_known=True, log=(monomial, unit / _EXP_UNIT))
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
            parts.append(self._atom(("log", rest.key()), _Atom("log", inside=rest), rest))
        return self.sum(parts)

    def _logarithm_of_rational(self, value: fmpq) -> Polynomial:
        parts = [self.zero]
        for part, sign in ((fmpz(value.p), 1), (fmpz(value.q), -1)):
            if part > fmpz(10) ** 30:
                raise GiveUp("the logarithm of a very large number")
            for prime, multiplicity in part.factor():
                inside = self._number(fmpq(prime))
                atom = self._atom(("log", inside.key()), _Atom("log", inside=inside))
                parts.append(self.scale(atom, fmpq(sign * int(multiplicity))))
        return self.sum(parts)

    def cosine(self, p: Polynomial) -> Polynomial:
        """cos(p); even."""
        p = self.scale(p, fmpq(-1)) if self._leads_negative(p) else p
        return self._atom(("cos", p.key()), _Atom("cos"), p)

    def sine(self, p: Polynomial) -> Polynomial:
        """sin(p); odd, with sin² = 1 - cos²."""
        if self._leads_negative(p):
            return self.scale(self.sine(self.scale(p, fmpq(-1))), fmpq(-1))
        cosine = self.cosine(p)
        square = self.subtract(self.one, self.multiply(cosine, cosine))
        return self._atom(("sin", p.key()), _Atom("sin", inside=square), p)

    # -- selectors -------------------------------------------------------------------------------------------------

    def _selectors_in(self, p: Polynomial) -> list[int]:
        return [i for i in range(p.special.bit_length()) if (p.special >> i) & 1 and self._atoms[i].kind == "selector"]

    def _with_selectors(self, p: Polynomial, values: dict[int, int]) -> Polynomial:
        """p with selectors set to 0 or 1."""
        terms: Terms = {}
        for monomial, coefficient in p.terms.items():
            for index, value in values.items():
                exponent = self._exponent(monomial, index)
                if exponent and not value:
                    break
                monomial -= exponent << (_WIDTH * index)
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
                bracket = Polynomial({1 << (_WIDTH * index): fmpq(1)}, 1 << index)
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
        negated = self._leads_negative(p) and not piecewise
        if negated:
            p = self.scale(p, fmpq(-1))
        bracket = self._atom(("selector", p.key()), _Atom("selector", inside=p), p)
        (monomial,) = bracket.terms
        index = (monomial.bit_length() - 1) // _WIDTH
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

    def _sign(self, p: Polynomial) -> int | None:
        """1, 0 or -1 if p has that sign for all values of the variables (off its zeros), else None."""
        if not p.terms:
            return 0
        signs = set()
        for monomial, coefficient in p.terms.items():
            for index, exponent in self._factors(monomial):
                atom = self._atoms[index]
                if (self._piecewise >> index) & 1 and atom.kind not in ("exp", "denominator"):
                    return None
                never_negative = atom.sign_known or atom.kind in ("selector", "root")
                if exponent % 2 and not never_negative:
                    return None
            signs.add(1 if coefficient > 0 else -1)
        return signs.pop() if len(signs) == 1 else None

    # -- the question ----------------------------------------------------------------------------------------------

    def is_zero(self, p: Polynomial) -> bool:
        """Whether p vanishes identically, after its denominators are multiplied out."""
        for index in reversed(range(len(self._atoms))):
            if self._atoms[index].kind == "denominator" and p.terms:
                p = self._multiplied_out(p, index)
        return not p.terms

    def _multiplied_out(self, p: Polynomial, index: int) -> Polynomial:
        exponents = {m: self._exponent(m, index) for m in p.terms}
        lowest = min(exponents.values(), default=0)
        if lowest >= 0:
            return p
        by_power: dict[int, Terms] = {}
        for monomial, coefficient in p.terms.items():
            exponent = exponents[monomial]
            by_power.setdefault(exponent - lowest, {})[monomial - (exponent << (_WIDTH * index))] = coefficient
        inside = self._atoms[index].inside
        assert inside is not None
        special = p.special & ~(1 << index)
        return self.sum(
            self.multiply(Polynomial(terms, special), self.power(inside, height)) for height, terms in by_power.items()
        )

    def free_selectors(self, p: Polynomial) -> Sequence[int]:
        """The selectors that a polynomial depends on."""
        return self._selectors_in(p)


def _tanh(forms: NormalForms, p: Polynomial) -> Polynomial:
    """1 - 2 / (1 + exp(2p))."""
    denominator = forms.sum([forms.one, forms.exponential(forms.scale(p, fmpq(2)))])
    return forms.subtract(forms.one, forms.scale(forms.inverse(denominator), fmpq(2)))


def _sigmoid(forms: NormalForms, p: Polynomial) -> Polynomial:
    """1 - 1 / (1 + exp(p))."""
    denominator = forms.sum([forms.one, forms.exponential(p)])
    return forms.subtract(forms.one, forms.inverse(denominator))


def _half_exponentials(sign: int) -> Callable[[NormalForms, Polynomial], Polynomial]:
    def build(forms: NormalForms, p: Polynomial) -> Polynomial:
        up, down = forms.exponential(p), forms.exponential(forms.scale(p, fmpq(-1)))
        return forms.scale(forms.sum([up, forms.scale(down, fmpq(sign))]), fmpq(1, 2))

    return build


_FUNCTIONS: Final[dict[str, Callable[..., Polynomial]]] = {
    "exp": NormalForms.exponential,
    "expm1": lambda forms, p: forms.subtract(forms.exponential(p), forms.one),
    "log": NormalForms.logarithm,
    "log1p": lambda forms, p: forms.logarithm(forms.sum([forms.one, p])),
    "sqrt": lambda forms, p: forms.root(p, 2),
    "sin": NormalForms.sine,
    "cos": NormalForms.cosine,
    "tan": lambda forms, p: forms.multiply(forms.sine(p), forms.inverse(forms.cosine(p))),
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "sinh": _half_exponentials(-1),
    "cosh": _half_exponentials(1),
    "erfc": lambda forms, p: forms.subtract(forms.one, forms._function("erf", [p])),  # noqa: SLF001 - a method's part
}
_ODD: Final = frozenset({"erf", "erfinv", "atan", "asin", "asinh", "atanh"})
