"""Proofs: is the formula that was executed the reference, for every input of the path?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Final

from diffcheck import expr as graph
from diffcheck.expr import ONE, ZERO, Expr
from diffcheck.normal_form import GiveUp, NormalForms, Polynomial

_MOST_CASES: Final = 8
"""Selectors over which a remaining difference is split into cases: 2**8 of them."""


class Status(StrEnum):
    """How an identity came out."""

    PROVED = "proved"
    REFUTED = "refuted"
    """As polynomials in independent atoms the two sides differ."""
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Proof:
    """What algebra says about a list of identities."""

    status: Status
    position: int | None = None
    """The first identity that does not hold, or is not decided."""
    why: str = ""


def prove(executed: Sequence[Expr], reference: Sequence[Expr]) -> Proof:
    """Decides executed[i] = reference[i] for every i, as functions of all of their variables."""
    forms = NormalForms()
    seen: set[tuple[Expr, Expr]] = set()
    undecided: Proof | None = None
    for position, pair in enumerate(zip(executed, reference, strict=True)):
        if pair[0] is pair[1] or pair in seen:
            continue
        seen.add(pair)
        try:
            difference = forms.subtract(forms.of(pair[0]), forms.of(pair[1]))
            holds = not difference.terms or forms.is_zero(difference) or _holds_in_every_case(forms, difference, pair)
        except GiveUp as reason:
            undecided = undecided or Proof(Status.UNDECIDED, position, str(reason))
            continue
        if not holds:
            return Proof(Status.REFUTED, position)
    return undecided or Proof(Status.PROVED)


def _holds_in_every_case(forms: NormalForms, difference: Polynomial, pair: tuple[Expr, Expr]) -> bool:
    """Selectors are not independent ([a > b], [b > c], [a > c]): the difference may vanish in every case there is."""
    if not forms.free_selectors(difference):
        return False
    selectors = [n for n in graph.topological(pair) if n.head in graph.SELECTORS]
    if len(selectors) > _MOST_CASES:
        raise GiveUp("too many cases")
    for values in product((ZERO, ONE), repeat=len(selectors)):
        left, right = graph.substitute(pair, dict(zip(selectors, values, strict=True)))
        case_forms = NormalForms()
        if not case_forms.is_zero(case_forms.subtract(case_forms.of(left), case_forms.of(right))):
            # The case may be one that never happens; which, algebra alone does not say.
            raise GiveUp("a case that may not exist")
    return True
