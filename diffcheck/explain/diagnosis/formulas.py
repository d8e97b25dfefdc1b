"""Mistakes of formulas: signs, factors, terms, numbers, finite differences."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any, Final

from flint import arb, fmpq

from diffcheck.algebra import expr as graph
from diffcheck.algebra.constants import known_constants, scalar
from diffcheck.algebra.expr import ZERO, Expr
from diffcheck.certify.balls import EXACT, Selections
from diffcheck.certify.compiler import Program
from diffcheck.derive import symbolic
from diffcheck.derive.text import in_a_line, written_size
from diffcheck.explain.diagnosis.view import View
from diffcheck.prove.normal_form import GiveUp, NormalForms
from diffcheck.verdict import Certainty, Diagnosis, Mistake

_LARGEST: Final = 150
"""Operations of a formula that SymPy is asked to simplify."""
_SIMPLIFIED: Final = 40
"""Operations of a quotient that is simplified; of a longer one, common factors are cancelled."""
_SIMPLE: Final = 12
"""Operations of a factor that is worth a name."""
_SHOWN: Final = 4
"""How many entries must be explained one by one."""
_NEAR: Final = 5e-3
"""How far off a rounded constant may be."""


def no_gradient(view: View) -> Diagnosis | None:
    """Nothing comes back at all. In higher orders, a part that was detached says more."""
    return None if "over" in view.mode else no_second_gradient(view)


def no_second_gradient(view: View) -> Diagnosis | None:
    """Nothing comes back at all, and no part of an earlier derivative says why."""
    certainty = view.explains(dict.fromkeys(view.differing, ZERO))
    if certainty is None or len(view.differing) < len([i for i in view.positions if view.reference[i] is not ZERO]):
        return None
    return Diagnosis(Mistake.NO_GRADIENT, certainty, "0 comes back, which the derivative is not")


# ---------------------------------------------------------------------------------------------------------------------
# Factors
# ---------------------------------------------------------------------------------------------------------------------


def factor_of(view: View) -> tuple[Expr, Certainty] | None:
    """The constant c for which the executed formulas are c times the derivatives, if there is one."""
    first = view.differing[0]
    ratio = _ratio(view, first)
    if ratio is None:
        return None
    for node in _readings(ratio):
        certainty = view.explains({i: node * view.reference[i] for i in view.differing})
        if certainty is not None:
            return node, certainty
    return None


def constant_factor(view: View) -> Diagnosis | None:
    """Everything is multiplied by one number."""
    found = factor_of(view)
    if found is None:
        return None
    node, certainty = found
    if node is graph.MINUS_ONE:
        return Diagnosis(Mistake.SIGN, certainty, "the executed formula is minus the derivative")
    return Diagnosis(Mistake.FACTOR, certainty, f"the executed formula is {number_text(node)} times the derivative")


def number_text(node: Expr) -> str:
    """A constant as people write it: `2/3`, `1.001`, `sqrt(2)`."""
    value = graph.number(node)
    if value is None:
        return str(symbolic.to_sympy([node])[0])
    short = value.denominator <= 100 and value.denominator not in (10, 20, 40, 50, 100)
    return str(value) if short else repr(float(value))


def _ratio(view: View, position: int) -> arb | None:
    """Executed over reference, if it is the same at all samples."""
    ratio: arb | None = None
    for balls in view.values([view.executed[position], view.reference[position]]):
        if balls is None or not all(b.is_finite() for b in balls) or balls[1].contains(0):
            continue
        quotient = balls[0] / balls[1]
        if ratio is not None and not ratio.overlaps(quotient):
            return None
        ratio = quotient
    return ratio


def _readings(ratio: arb) -> Iterator[Expr]:
    """Constants that a ratio may stand for, the simplest first."""
    value = float(ratio.mid())
    if value == 0:
        return
    candidates = (
        graph.constant(Fraction(value).limit_denominator(1000)),
        graph.constant(Fraction(repr(value))),
        scalar(value),
        graph.constant(value),
    )
    for node in dict.fromkeys(candidates):
        if _value(node).overlaps(ratio):
            yield node


@cache
def _value(node: Expr) -> arb:
    exact = graph.number(node)
    if exact is not None:
        return arb(fmpq(exact.numerator, exact.denominator))
    (ball,) = Program([node], [], EXACT)([], 256, Selections())
    return ball


def factor(view: View) -> Diagnosis | None:
    """A factor of a product, or of a chain, that is missing or one too many."""
    found: list[tuple[Mistake, str, Certainty]] = []
    for position in view.differing[:_SHOWN]:
        one = _factor_at(view, position)
        if one is None or (found and (one[0], _bare(one[1])) != (found[0][0], _bare(found[0][1]))):
            return None
        found.append(one)
    mistake, words, certainty = found[0]
    if mistake is Mistake.MISSING_FACTOR:
        explanation = f"the derivative has the factor {words}, which the executed formula lacks"
    else:
        explanation = f"the executed formula has the factor {words}, which the derivative has not"
    return Diagnosis(mistake, certainty, explanation)


def _bare(words: str) -> str:
    """A formula without its indices: `cos(x[1])` is the pattern of `cos(x[0])`."""
    import re

    return re.sub(r"\[[\d,]*\]", "", words)


def _factor_at(view: View, position: int) -> tuple[Mistake, str, Certainty] | None:
    pairs = [
        (ours, right)
        for ours, right in zip(view.slopes[position], view.jacobian[position], strict=True)
        if ours is not ZERO or right is not ZERO
    ]
    if not pairs or any(ours is ZERO or right is ZERO for ours, right in pairs):
        return None
    ours, right = pairs[0]
    quotient = _quotient(ours, right)
    if quotient is None:
        return None
    mistake, shown, node = quotient
    # Missing in every term of the sum, or it is no factor.
    left = [o * node for o, _ in pairs] if mistake is Mistake.MISSING_FACTOR else [o for o, _ in pairs]
    whole = [r for _, r in pairs] if mistake is Mistake.MISSING_FACTOR else [r * node for _, r in pairs]
    certainty = view.same(left, whole)
    return None if certainty is None else (mistake, shown, certainty)


def _quotient(ours: Expr, right: Expr) -> tuple[Mistake, str, Expr] | None:
    """Which factor makes one of the other."""
    import sympy

    if max(written_size(ours), written_size(right)) > _LARGEST:
        return None
    a, b = symbolic.to_sympy([ours, right])
    reduce = sympy.simplify if sympy.count_ops(b / a) <= _SIMPLIFIED else sympy.cancel
    try:
        quotient = reduce(b / a)
    except TypeError:  # SymPy tries conditions at a pole: clipping of 1/(1 - x²), at x = 1
        return None
    top, bottom = quotient.replace(sympy.tan, lambda u: sympy.sin(u) / sympy.cos(u)).together().as_numer_denom()
    if not quotient.free_symbols or (top.free_symbols and bottom.free_symbols):
        return None
    powers = _exponents(sympy.factor(a)), _exponents(sympy.factor(b))
    missing = all(_between(powers[0].get(f, 0), powers[1].get(f, 0)) for f in powers[0] | powers[1])
    extra = all(_between(powers[1].get(f, 0), powers[0].get(f, 0)) for f in powers[0] | powers[1])
    if missing == extra:
        missing = sympy.count_ops(b) > sympy.count_ops(a)
    shown = quotient if missing else sympy.simplify(1 / quotient)
    if sympy.count_ops(shown) > _SIMPLE:
        return None
    try:
        node = symbolic.from_sympy(shown, {s: graph.symbol(s.name) for s in shown.free_symbols})
    except (KeyError, AttributeError):
        return None
    return (Mistake.MISSING_FACTOR if missing else Mistake.EXTRA_FACTOR), str(shown), node


def _exponents(product: Any) -> dict[Any, Any]:
    """The factors that contain variables, with their exponents."""
    return {base: power for base, power in product.as_powers_dict().items() if base.free_symbols}


def _between(part: Any, whole: Any) -> bool:
    """Whether a factor to one power is part of it to another."""
    numbers = all(not hasattr(power, "is_number") or power.is_number for power in (part, whole))
    return numbers and bool(0 <= part <= whole or whole <= part <= 0)


# ---------------------------------------------------------------------------------------------------------------------
# Terms
# ---------------------------------------------------------------------------------------------------------------------


def term(view: View) -> Diagnosis | None:
    """A summand that is missing or one too many."""
    if not view.linear:
        return None
    mistakes: set[Mistake] = set()
    shown = ""
    kept = False
    for position in view.differing:
        ours, right = view.slopes[position], view.jacobian[position]
        for seed, a, b in zip(view.seeds or [graph.ONE], ours, right, strict=True):
            if a is b:
                kept = kept or a is not ZERO
                continue
            part = _part(a, b)
            if part is None:
                return None
            mistake, some = part
            kept = kept or some
            if mistake is not None:
                mistakes.add(mistake)
                whole = seed * (b - a if mistake is Mistake.MISSING_TERM else a - b)
                shown = shown or f"{_difference(whole)}, for {view.place(position)}"
    if not kept or len(mistakes) != 1:
        return None
    (mistake,) = mistakes
    lacks = "lacks" if mistake is Mistake.MISSING_TERM else "has besides"
    return Diagnosis(mistake, Certainty.CERTAIN, f"the executed formula {lacks} {shown}")


def _part(ours: Expr, right: Expr) -> tuple[Mistake | None, bool] | None:
    """Whether one sum has all terms of the other and more, and whether some term is in both."""
    forms = NormalForms()
    try:
        a, b = forms.of(ours).terms, forms.of(right).terms
    except GiveUp:
        return None
    if a == b:
        return None, bool(a)
    shared = any(a[m] == b[m] for m in a.keys() & b.keys())
    for fewer, more, mistake in ((a, b, Mistake.MISSING_TERM), (b, a, Mistake.EXTRA_TERM)):
        # Part of a coefficient may have gone: on the diagonal, A x + Aᵀ x is twice A x.
        if len(fewer) < len(more) and all(m in more and 0 < c / more[m] <= 1 for m, c in fewer.items()):
            return mistake, shared
    return None


def _difference(node: Expr) -> str:
    import sympy

    if written_size(node) > _LARGEST:
        return in_a_line(node)
    (difference,) = symbolic.to_sympy([node])
    return str(sympy.simplify(difference))


# ---------------------------------------------------------------------------------------------------------------------
# Numbers within a formula
# ---------------------------------------------------------------------------------------------------------------------


def rounded_constant(view: View) -> Diagnosis | None:
    """A number that stands for a known one, with fewer digits than the dtype has."""
    theirs = {n for n in graph.postorder(view.reference) if graph.is_constant(n)}
    for node in graph.postorder(view.executed[i] for i in view.differing):
        value = graph.number(node)
        if value is None or node in theirs or value.denominator == 1:
            continue
        for exact in _meant(float(value)):
            executed = graph.substitute([view.executed[i] for i in view.differing], {node: exact})
            certainty = view.same(executed, [view.reference[i] for i in view.differing])
            if certainty is not None:
                return Diagnosis(
                    Mistake.ROUNDED, certainty, f"{float(value)!r} stands for {number_text(exact)} = {_digits(exact)}"
                )
    return None


def _digits(node: Expr) -> str:
    return str(_value(node).str(17, radius=False))


def _meant(value: float) -> list[Expr]:
    near = [(abs(k / value - 1), k, node) for k, node in known_constants().items() if abs(k / value - 1) < _NEAR]
    return [node for _, _, node in sorted(near, key=lambda found: found[:2])[:30]]


def finite_differences(view: View) -> Diagnosis | None:
    """The derivative was taken by differences of the function itself."""
    if "over" in view.mode or view.mode == "gradient" or not view.seeds:
        return None
    steps = {
        abs(v)
        for node in graph.postorder(view.executed[i] for i in view.differing[:1])
        if (v := graph.number(node)) is not None and 0 < abs(v) <= Fraction(1, 10)
    }
    for step in sorted(steps):
        for words, up, down in (("central", step, -step), ("one-sided", step, 0), ("one-sided", 0, -step)):
            quotient = _along_tangents if view.mode == "forward" else _difference_quotient
            candidates = {i: quotient(view, i, Fraction(up), Fraction(down)) for i in view.differing}
            certainty = view.explains(candidates)
            if certainty is not None:
                return Diagnosis(
                    Mistake.FINITE_DIFFERENCES, certainty, f"{words} differences with a step of {float(step):g}"
                )
    return None


def _along_tangents(view: View, position: int, up: Fraction, down: Fraction) -> Expr:
    def moved(by: Fraction) -> Expr:
        steps = {x: x + graph.constant(by) * t for x, t in zip(view.inputs, view.seeds, strict=True)} if by else {}
        return graph.substitute([view.outputs[position]], steps)[0]

    return (moved(up) - moved(down)) / graph.constant(up - down)


def _difference_quotient(view: View, position: int, up: Fraction, down: Fraction) -> Expr:
    variable = view.inputs[position]
    seeds = view.seeds
    above = graph.substitute(view.outputs, {variable: variable + graph.constant(up)} if up else {})
    below = graph.substitute(view.outputs, {variable: variable + graph.constant(down)} if down else {})
    return graph.total(
        seed * ((a - b) / graph.constant(up - down)) for seed, a, b in zip(seeds, above, below, strict=True)
    )
