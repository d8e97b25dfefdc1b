"""Proofs: is the formula that was executed the reference, for every input of the path?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Final

from diffcheck import expr as graph
from diffcheck.expr import ONE, ZERO, Expr
from diffcheck.normal_form import GiveUp, NormalForms, Piecewise, Polynomial

_MOST_CASES: Final = 8
"""Selectors over which a remaining difference is split into cases: 2**8 of them."""

_MOST_CONDITIONS: Final = 200


class Status(StrEnum):
    """How an identity came out."""

    PROVED = "proved"
    REFUTED = "refuted"
    """As polynomials in independent atoms the two sides differ."""
    UNDECIDED = "undecided"
    LEFT = "left"
    """Not tried: the same formula is decided at a smaller size."""


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
    executed, reference = graph.as_values(executed), graph.as_values(reference)
    seen: set[tuple[Expr, Expr]] = set()
    undecided: Proof | None = None
    for position, pair in enumerate(zip(executed, reference, strict=True)):
        if pair[0] is pair[1] or pair in seen:
            continue
        seen.add(pair)
        try:
            holds = _holds(forms, pair)
        except GiveUp as reason:
            undecided = undecided or Proof(Status.UNDECIDED, position, str(reason))
            continue
        except RecursionError:  # relations between roots may lead into each other
            undecided = undecided or Proof(Status.UNDECIDED, position, "relations without an end")
            continue
        if not holds:
            return Proof(Status.REFUTED, position)
    return undecided or Proof(Status.PROVED)


def _holds(forms: NormalForms, pair: tuple[Expr, Expr]) -> bool:
    try:
        difference = forms.subtract(forms.of(pair[0]), forms.of(pair[1]))
        if not difference.terms or forms.is_zero(difference):
            return True
        if not forms.free_selectors(difference) and not forms.is_piecewise(difference):
            return False
    except Piecewise:
        pass
    return _holds_in_every_case(pair)


def _holds_in_every_case(pair: tuple[Expr, Expr]) -> bool:
    """Selectors are not independent ([a > b], [b > c], [a > c]): the difference may vanish in every case there is."""
    selectors = [n for n in graph.topological(pair) if n.head == "positive"]
    if len(selectors) > _MOST_CASES:
        raise GiveUp("too many cases")
    for values in product((ZERO, ONE), repeat=len(selectors)):
        chosen = dict(zip(selectors, values, strict=True))
        left, right, *arguments = graph.substitute([*pair, *(s.args[0] for s in selectors)], chosen)
        case_forms = NormalForms()
        if case_forms.is_zero(case_forms.subtract(case_forms.of(left), case_forms.of(right))):
            continue
        conditions = [(case_forms.of(a), v is ONE) for a, v in zip(arguments, values, strict=True)]
        if any(positive and case_forms.is_zero(p) for p, positive in conditions):
            continue  # [0 > 0] is 0
        # What is not positive is negative off the boundary, unless it vanishes on more than that.
        if _possible([(p, positive) for p, positive in conditions if positive or not _may_vanish(case_forms, p)]):
            return False
    return True


def _may_vanish(forms: NormalForms, p: Polynomial) -> bool:
    """Whether p may be 0 on more than a boundary."""
    return bool(forms.is_zero(p) or forms.is_piecewise(p) or forms.free_selectors(p))


def _possible(conditions: Sequence[tuple[Polynomial, bool]]) -> bool:
    """Whether some real values satisfy p > 0 (or p < 0) for every condition, as far as linear algebra tells.

    Monomials are taken for independent variables; by Fourier and Motzkin, one after the other is eliminated. "No" is
    certain, "yes" is not.
    """
    rows = [dict(p.terms) if positive else {m: -c for m, c in p.terms.items()} for p, positive in conditions]
    while True:
        monomials = {m for row in rows for m in row if m != 0}
        if not monomials:
            return all(row.get(0, 0) > 0 for row in rows)
        monomial = min(monomials)
        above = [row for row in rows if row.get(monomial, 0) > 0]
        below = [row for row in rows if row.get(monomial, 0) < 0]
        rows = [row for row in rows if monomial not in row]
        for up in above:
            for down in below:
                scale_up, scale_down = -down[monomial], up[monomial]
                combined = {m: up.get(m, 0) * scale_up + down.get(m, 0) * scale_down for m in up.keys() | down.keys()}
                rows.append({m: c for m, c in combined.items() if c != 0})
        if len(rows) > _MOST_CONDITIONS:
            return True
