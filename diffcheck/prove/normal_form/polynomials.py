"""Sparse polynomials, with rational coefficients, in atoms that know their relations.

Exponents are packed into one integer per monomial, so that multiplying monomials is adding integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd, lcm
from typing import Final

from flint import fmpq

WIDTH: Final = 16
"""Bits per exponent."""
HALF: Final = 1 << (WIDTH - 1)
_MASK: Final = (1 << WIDTH) - 1

_WIDE: Final = 512
"""An integer of the exponents of so many atoms takes as long to add as everything else that a product asks for."""
_LOOKED_AT: Final = 8
"""Terms that are looked at for a power, in the time of one product."""
_SPECIAL: Final = frozenset({"selector", "sin", "denominator", "sum"})
"""Kinds of atoms that stand for something, or have a relation; roots have, too."""

Monomial = int
Terms = dict[Monomial, fmpq]


class GiveUp(Exception):
    """The normal form grew beyond its budget, or the expression has no such form."""


class Piecewise(GiveUp):
    """It has a form, but only where conditions have one value."""


@dataclass(frozen=True, slots=True)
class Atom:
    """A generator: what it stands for, and its relation."""

    kind: str
    degree: int = 0
    """For a root: which one. The atom to this power is `inside`."""
    inside: Polynomial | None = None
    """What a root is of, what a denominator or a sum stands for, what a logarithm or a selector is of."""
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(frozenset(self.terms))  # FLINT's rationals take microseconds for theirs


class Ring:
    """Polynomials over a common, growing set of atoms.

    Args:
        most_terms: The largest polynomial to be handled.
        most_products: How many multiplications of terms may be spent altogether.
    """

    def __init__(self, most_terms: int = 20_000, most_products: int = 3_000_000) -> None:
        self._atoms: list[Atom] = []
        self._index: dict[object, int] = {}
        self._most_terms = most_terms
        self._products_left = most_products
        self.products = 0
        """How many multiplications of terms were spent."""
        self._bias = 0
        self._selectors = 0
        """A bit for every atom that is a selector."""
        self._piecewise = 0
        """A bit for every atom that is a floor, or a function of selectors or floors."""
        self.zero = Polynomial({})
        self.one = self._number(fmpq(1))

    # -- arithmetic ------------------------------------------------------------------------------------------------

    def _number(self, value: fmpq) -> Polynomial:
        return Polynomial({0: value} if value != 0 else {})

    def _atom(self, key: object, atom: Atom, *of: Polynomial) -> Polynomial:
        index = self._index.get(key)
        if index is None:
            index = self._index[key] = len(self._atoms)
            if atom.kind == "floor" or any(self._selectors_in(p) or self.is_piecewise(p) for p in of):
                self._piecewise |= 1 << index
            if atom.kind == "selector":
                self._selectors |= 1 << index
            self._atoms.append(atom)
            self._bias += HALF << (WIDTH * index)
        return Polynomial({1 << (WIDTH * index): fmpq(1)}, self._bit(index))

    def _bit(self, index: int) -> int:
        """An atom's bit in `special`."""
        atom = self._atoms[index]
        return 1 << index if atom.degree or atom.kind in _SPECIAL else 0

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
        self._spend(len(a.terms) * len(b.terms) * (1 + len(self._atoms) // _WIDE))
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
        return self._reduced(result, a.special & b.special)

    def _spend(self, products: int) -> None:
        self._products_left -= products
        if self._products_left < 0:
            raise GiveUp("too many products")
        self.products += products

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
        return (((monomial + self._bias) >> (WIDTH * index)) & _MASK) - HALF

    def _factors(self, monomial: Monomial) -> list[tuple[int, int]]:
        """The atoms of a monomial, with their exponents."""
        found = []
        while monomial:
            index = ((monomial & -monomial).bit_length() - 1) // WIDTH
            exponent = (monomial >> (WIDTH * index)) & _MASK
            if exponent >= HALF:  # negative exponents have borrowed from the field above
                exponent -= 1 << WIDTH
            found.append((index, exponent))
            monomial -= exponent << (WIDTH * index)
        return found

    def _reduced(self, p: Polynomial, common: int) -> Polynomial:
        """Applies s² = s, r^q = Q and sin² = 1 - cos² to a product, in the atoms that both factors have.

        What only one of them has is as it was; and what comes in by a relation is a product, which is reduced.
        """
        while common:
            index = (common & -common).bit_length() - 1
            common &= common - 1
            if self._atoms[index].kind != "sum":
                self._spend(len(p.terms) // _LOOKED_AT)
                p = self._reduced_in(p, index)
        return p

    def _reduced_in(self, p: Polynomial, index: int) -> Polynomial:
        atom, unit = self._atoms[index], 1 << (WIDTH * index)
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
        generator = Polynomial({1 << (WIDTH * index): fmpq(1)}, 1 << index)
        if atom.kind == "selector":
            return generator
        assert atom.inside is not None
        if atom.kind == "denominator":
            if exponent < 0:
                return Polynomial({exponent << (WIDTH * index): fmpq(1)}, 1 << index)
            return self.power(atom.inside, exponent)
        wholes, left = divmod(exponent, atom.degree or 2)
        power = self.power(atom.inside, wholes)
        if not left:
            return power
        if left == 1:
            return self.multiply(power, generator)
        return self.multiply(power, Polynomial({left << (WIDTH * index): fmpq(1)}, 1 << index))

    # -- contents --------------------------------------------------------------------------------------------------

    def _rational_content(self, p: Polynomial) -> fmpq:
        """The positive rational whose removal leaves coprime whole coefficients."""
        tops, bottoms = 0, 1
        for c in p.terms.values():
            tops = gcd(tops, int(abs(c.p)))
            bottoms = lcm(bottoms, int(c.q))
        return fmpq(tops, bottoms)

    def _monomial_content(self, p: Polynomial, wanted: Callable[[Atom], bool]) -> Monomial:
        """The largest monomial in the wanted atoms that divides every term."""
        lowest: dict[int, int] | None = None
        for monomial in p.terms:
            exponents = {i: e for i, e in self._factors(monomial) if wanted(self._atoms[i])}
            if lowest is None:
                lowest = exponents
            else:
                lowest = {i: min(lowest.get(i, 0), exponents.get(i, 0)) for i in lowest.keys() | exponents.keys()}
        return sum(e << (WIDTH * i) for i, e in (lowest or {}).items())

    def leads_negative(self, p: Polynomial) -> bool:
        """Whether p and -p are told apart by turning p around."""
        return bool(p.terms) and p.terms[max(p.terms)] < 0

    def _special_of(self, monomial: Monomial) -> int:
        return sum(self._bit(i) for i, _ in self._factors(monomial))

    def _divided_by_monomial(self, p: Polynomial, monomial: Monomial) -> Polynomial:
        return Polynomial({m - monomial: c for m, c in p.terms.items()}, p.special)

    def _selectors_in(self, p: Polynomial) -> list[int]:
        found = []
        left = p.special & self._selectors
        while left:
            found.append(left.bit_length() - 1)
            left ^= 1 << found[-1]
        return found[::-1]

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

    # -- denominators ----------------------------------------------------------------------------------------------

    def inverse(self, p: Polynomial) -> Polynomial:
        """1 / p. A sum becomes an atom of its own, to the power -1."""
        if self.is_zero(p):  # what is multiplied out below would vanish whatever it is
            raise GiveUp("a division by zero")
        content = self._rational_content(p)
        if self.leads_negative(p):
            content = -content
        shared = self._monomial_content(p, lambda atom: atom.kind != "selector")
        # Without the denominators that all terms share, some terms have positive powers of them: those are sums again.
        rest = self._reduced(self.scale(self._divided_by_monomial(p, shared), 1 / content), p.special)
        result = self._number(1 / content)
        for index, exponent in self._factors(shared):
            factor = Polynomial({-exponent << (WIDTH * index): fmpq(1)})
            atom = self._atoms[index]
            if atom.degree or atom.kind in ("sin", "denominator"):
                factor = self._atom_power(index, -exponent)
            result = self.multiply(result, factor)
        if rest.terms.keys() == {0} and rest.terms[0] == 1:
            return result
        denominator = self._atom(
            ("denominator", rest), Atom("denominator", inside=rest, sign_known=self._sign(rest) == 1), rest
        )
        (monomial,) = denominator.terms
        return self.multiply(result, Polynomial({-monomial: fmpq(1)}, denominator.special))

    def abbreviated(self, p: Polynomial) -> Polynomial:
        """A sum as one atom, which stands for it until it is asked what vanishes. Brackets stay in sight."""
        if self._selectors_in(p) or self.is_piecewise(p):
            return p
        return self._atom(("sum", p), Atom("sum", inside=p, sign_known=self._sign(p) == 1), p)

    def is_zero(self, p: Polynomial) -> bool:
        """Whether p vanishes identically, after its denominators are multiplied out and its sums written out."""
        index = p.special.bit_length()
        while index and p.terms:
            index -= 1
            if (p.special >> index) & 1 and self._atoms[index].kind in ("denominator", "sum"):
                p = self._multiplied_out(p, index)
        return not p.terms

    def _multiplied_out(self, p: Polynomial, index: int) -> Polynomial:
        self._spend(len(p.terms))  # not to multiply by 1, but it takes as long
        exponents = {m: self._exponent(m, index) for m in p.terms}
        lowest = min(0, *exponents.values())
        by_power: dict[int, Terms] = {}
        for monomial, coefficient in p.terms.items():
            exponent = exponents[monomial]
            by_power.setdefault(exponent - lowest, {})[monomial - (exponent << (WIDTH * index))] = coefficient
        special = p.special & ~(1 << index)
        untouched = Polynomial(by_power.pop(0, {}), special)
        if not by_power:
            return untouched
        inside = self._atoms[index].inside
        assert inside is not None
        parts = [
            self.multiply(Polynomial(terms, special), self.power(inside, height)) for height, terms in by_power.items()
        ]
        return self.sum([untouched, *parts])

    @contextmanager
    def at_most(self, products: int) -> Iterator[None]:
        """Gives up after so many multiplications of terms; what was found by then is kept."""
        later = max(self._products_left - products, 0)
        self._products_left -= later
        try:
            yield
        finally:
            self._products_left = max(self._products_left, 0) + later
