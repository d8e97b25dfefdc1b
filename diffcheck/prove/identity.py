"""Proofs: is the formula that was executed the reference, for every input of the path?"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain, product
from typing import Final, TypeAlias

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import ONE, ZERO, Expr
from diffcheck.prove.fingerprints import sums_in_both
from diffcheck.prove.normal_form import GiveUp, NormalForms, Piecewise, Polynomial
from diffcheck.prove.symmetry import Figure, Figures

Pair: TypeAlias = tuple[Expr, Expr]
"""The two sides of an identity."""

_PRODUCTS_TO_AGREE: Final = 5_000
_FEW_PRODUCTS: Final = 20_000
_MANY_PRODUCTS: Final = 250_000
_MOST_PRODUCTS: Final = 4_000_000
"""For identities that hang together: what is then left is not decided."""
_MOST_AFTER_ONE: Final = 300_000
"""The same once one is not decided: the others are looked at for one that does not hold."""
_DEAR: Final = 2_000
_DEAR_FOR_A_NODE: Final = 1
"""After a proof that took more products, and more for a node, it is looked whether the next identity is the same."""

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


class Known:
    """What was decided before: identities that are the same but for the names of variables need it no more."""

    def __init__(self) -> None:
        self.figures = Figures()
        self.parts: dict[Figure, Proof] = {}
        self.single: dict[Figure, Proof] = {}
        """Of single identities, whose first position is theirs."""


def prove(
    executed: Sequence[Expr],
    reference: Sequence[Expr],
    seeds: Collection[str] = (),
    known: Known | None = None,
    *,
    all_or_none: bool = False,
) -> Proof:
    """Decides executed[i] = reference[i] for every i, as functions of all of their variables.

    Identities without a common variable (the rows of a softmax) have nothing to do with each other: each such part is
    decided by itself, and what is the same but for the names of its variables is decided once.

    Args:
        executed: One side.
        reference: The other.
        seeds: The variables that are cotangents or tangents. Both sides are linear in them: what is too large as a
            whole is decided for one after the other.
        known: What earlier calls decided; this one adds to it.
        all_or_none: Whether to end at an identity that is not decided, since it is only asked whether all are proved;
            else it is looked on for one that is refuted.
    """
    pairs = list(zip(marks.as_values(executed), marks.as_values(reference), strict=True))
    known = Known() if known is None else known
    marked = {graph.symbol(name) for name in seeds}
    refuted: Proof | None = None
    undecided: Proof | None = None
    for positions in _parts(pairs):
        if (refuted is not None and positions[0] > _at(refuted)) or (all_or_none and undecided is not None):
            break
        part = [pairs[i] for i in positions]
        shape = known.figures.in_order([side for pair in part for side in pair], marked)
        # The others have the same sums and products on both sides, in another order.
        different = [i for i in range(len(part)) if shape[2 * i] != shape[2 * i + 1]]
        if not different:
            continue
        if shape not in known.parts:
            known.parts[shape] = _prove_together([part[i] for i in different], marked, known, all_or_none=all_or_none)
        proof = known.parts[shape]
        if proof.position is None:
            continue
        found = replace(proof, position=positions[different[proof.position]])
        if proof.status is Status.REFUTED:
            refuted = found if refuted is None else min(refuted, found, key=_at)
        else:
            undecided = found if undecided is None else min(undecided, found, key=_at)
    return refuted or undecided or Proof(Status.PROVED)


def _at(proof: Proof) -> int:
    assert proof.position is not None
    return proof.position


def _parts(pairs: Sequence[Pair]) -> list[list[int]]:
    """The positions of the pairs that hang together by variables, in order; without those that have equal sides."""
    above: dict[Expr, Expr] = {}
    """A tree over the nodes that hang together; nodes without a variable are in none."""

    def root(node: Expr) -> Expr:
        while above[node] is not node:
            above[node] = node = above[above[node]]
        return node

    for node in graph.topological(side for pair in pairs for side in pair):
        if node.head == "symbol" or any(a in above for a in node.args):
            above[node] = node
        for argument in node.args:
            if argument in above:
                above[root(argument)] = node
    for left, right in pairs:
        if left in above and right in above:
            above[root(left)] = root(right)
    parts: dict[Expr | None, list[int]] = {}
    for position, pair in enumerate(pairs):
        if pair[0] is not pair[1]:
            place = next((root(side) for side in pair if side in above), None)
            parts.setdefault(place, []).append(position)
    return list(parts.values())


def _prove_together(pairs: Sequence[Pair], seeds: Collection[Expr], known: Known, *, all_or_none: bool) -> Proof:
    forms = _Forms(NormalForms(), NormalForms(abbreviated=lambda: sums_in_both(*zip(*pairs, strict=True))))
    seen: set[Pair] = set()
    undecided: Proof | None = None
    dear = bool(known.single)
    agreeing = True
    for position, pair in enumerate(pairs):
        if pair in seen:
            continue
        seen.add(pair)
        if forms.products > (_MOST_PRODUCTS if undecided is None else _MOST_AFTER_ONE):
            return undecided or Proof(Status.UNDECIDED, position, "too many products")
        if agreeing and forms.products > _DEAR:  # sides that are built alike go on being so
            agreeing = _agree(forms.short, pair)
            if agreeing:
                continue
        figure = known.figures.by_role(pair, seeds) if dear else None
        proof = known.single.get(figure) if figure is not None else None
        if proof is None:
            before = forms.products
            proof = _decided(forms, pair, seeds, thoroughly=undecided is None)
            spent = forms.products - before
            dear = spent > _DEAR and spent > _DEAR_FOR_A_NODE * len(graph.topological(pair))
            if dear:
                known.single[figure or known.figures.by_role(pair, seeds)] = proof
        if proof.status is Status.REFUTED or (all_or_none and proof.status is Status.UNDECIDED):
            return replace(proof, position=position)
        if proof.status is Status.UNDECIDED:
            undecided = undecided or replace(proof, position=position)
    return undecided or Proof(Status.PROVED)


def _decided(forms: _Forms, pair: Pair, seeds: Collection[Expr], *, thoroughly: bool) -> Proof:
    """Decides one identity; if another one was not decided, only as far as a few products tell."""
    try:
        if thoroughly:
            with forms.written_out.at_most(_MANY_PRODUCTS), forms.short.at_most(_MANY_PRODUCTS):
                holds = _is_identity(forms, pair, seeds)
        else:
            with forms.written_out.at_most(_FEW_PRODUCTS):
                holds = _holds(forms.written_out, pair)
        return Proof(Status.PROVED) if holds else Proof(Status.REFUTED, 0)
    except GiveUp as reason:
        return Proof(Status.UNDECIDED, 0, str(reason))
    except RecursionError:  # relations between roots may lead into each other
        return Proof(Status.UNDECIDED, 0, "relations without an end")


@dataclass(frozen=True, slots=True)
class _Forms:
    """The normal forms of a part."""

    written_out: NormalForms
    short: NormalForms
    """With sums that both sides have as atoms: what vanishes there vanishes, and nothing follows if it does not."""

    @property
    def products(self) -> int:
        """How many multiplications of terms were spent."""
        return self.written_out.products + self.short.products


def _agree(forms: NormalForms, pair: Pair) -> bool:
    """Whether the sides have one form."""
    with contextlib.suppress(GiveUp, RecursionError), forms.at_most(_PRODUCTS_TO_AGREE):
        return not forms.subtract(*map(forms.of, pair)).terms
    return False


def _is_identity(forms: _Forms, pair: Pair, seeds: Collection[Expr]) -> bool:
    """By few products if they do, else while long sums are atoms, else seed by seed, else by all products."""
    with contextlib.suppress(GiveUp, RecursionError), forms.written_out.at_most(_FEW_PRODUCTS):
        return _holds(forms.written_out, pair)
    with contextlib.suppress(GiveUp, RecursionError):
        if _vanishes(forms.short, pair):
            return True
    slopes = _slopes(pair, seeds)
    first = next(slopes, None)
    if first is not None:
        return all(_is_identity(forms, slope, ()) for slope in chain([first], slopes))
    return _holds(forms.written_out, pair)


def _slopes(pair: Pair, seeds: Collection[Expr]) -> Iterator[Pair]:
    """What the sides multiply each seed with; nothing if they are not seen to be linear in the seeds."""
    nodes = graph.topological(pair)
    occurring = [n for n in nodes if n in seeds]
    if len(occurring) < 2 or not _are_linear(pair, nodes, frozenset(occurring)):
        return
    silent = dict.fromkeys(occurring, ZERO)
    yield ZERO, ZERO  # both sides are 0 without seeds
    for seed in occurring:
        left, right = graph.substitute(pair, {**silent, seed: ONE})
        if left is not right:
            yield left, right


def _are_linear(outputs: Pair, nodes: Sequence[Expr], seeds: frozenset[Expr]) -> bool:
    """Whether the outputs are sums of products in which one seed occurs, once."""
    degrees: dict[Expr, int | None] = {}
    """In the seeds; None for 0, which has any."""
    for node in nodes:
        args = [degrees[a] for a in node.args]
        known = {d for d in args if d is not None}
        match node.head:
            case "symbol":
                degrees[node] = int(node in seeds)
            case "constant":
                degrees[node] = None if graph.number(node) == 0 else 0
            case "add" | "neg" | "frozen" | "rounded" if len(known) < 2:
                degrees[node] = min(known, default=None)
            case "mul":
                degrees[node] = None if None in args else sum(known) if len(known) == 2 else 2 * known.pop()
            case "div" if not args[1]:
                degrees[node] = args[0]
            case "where" if not args[0] and len({d for d in args[1:] if d is not None}) < 2:
                degrees[node] = min((d for d in args[1:] if d is not None), default=None)
            case "add" | "neg" | "frozen" | "rounded" | "div" | "where":
                return False
            case _ if any(args):
                return False
            case _:
                degrees[node] = 0
    return all(degrees[o] in (1, None) for o in outputs)


def _vanishes(forms: NormalForms, pair: Pair) -> bool:
    return forms.is_zero(forms.subtract(*map(forms.of, pair)))


def _holds(forms: NormalForms, pair: Pair) -> bool:
    try:
        difference = forms.subtract(forms.of(pair[0]), forms.of(pair[1]))
        if not difference.terms or forms.is_zero(difference):
            return True
        if not forms.free_selectors(difference) and not forms.is_piecewise(difference):
            return False
    except Piecewise:
        pass
    return _holds_in_every_case(pair)


def _holds_in_every_case(pair: Pair) -> bool:
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
