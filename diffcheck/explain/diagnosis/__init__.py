"""A finding → what the mistake is, where it can be known.

The formulas make most of it algebra. Every hypothesis says what would have been executed had that mistake been made;
it is accepted if the executed formula equals that, by the same proofs that derivatives get. What no hypothesis explains
is not named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from diffcheck.alarm import alarm
from diffcheck.draw.inputs import Layout
from diffcheck.errors import BudgetExceeded, DiffcheckError
from diffcheck.explain.diagnosis import arrangement, constancy, formulas, numeric, places, upstream
from diffcheck.explain.diagnosis.epsilon import epsilon
from diffcheck.explain.diagnosis.origin import line_of
from diffcheck.explain.diagnosis.sizes import beyond, factors_by_size, where_broadcast
from diffcheck.explain.diagnosis.subject import Subject
from diffcheck.explain.diagnosis.view import View
from diffcheck.verdict import Certainty, Diagnosis, Mistake

_SECONDS: Final = 10.0
_CALLS: Final = 6
"""How often a derivative is computed again to see whether it stays the same."""

Hypothesis = Callable[[View], Diagnosis | None]

PLAIN: Final[Sequence[Hypothesis]] = (
    upstream.ignored,
    formulas.no_gradient,
    formulas.finite_differences,
    epsilon,
    formulas.rounded_constant,
    formulas.constant_factor,
    arrangement.exchanged,
    upstream.bent,
    arrangement.transposed,
    arrangement.reordered,
    arrangement.column_against_row,
    arrangement.broadcast,
    arrangement.axis,
)
"""What explains a formula for all inputs at once."""
SUBTLE: Final[Sequence[Hypothesis]] = (
    constancy.statistic_as_constant,
    formulas.factor,
    formulas.term,
    constancy.part_as_constant,
    formulas.no_second_gradient,
    upstream.not_linear,
)
"""What may hold by chance where a region explains more."""


def diagnose(subject: Subject) -> tuple[Diagnosis | None, str]:
    """What the mistake is and the line at which it enters, if that can be known within a few seconds."""
    found: Diagnosis | None = None
    line = ""
    try:
        with alarm(_SECONDS, lambda: BudgetExceeded("a diagnosis ran out of time")):
            found = _diagnose(subject)
            if subject.case.kernel is None and subject.evaluation.path.followed:
                line = line_of(subject, found)
            if found is not None and found.name is Mistake.EPSILON and not line:
                found = replace(found, name=Mistake.PYTORCHS_EPSILON)
    except BudgetExceeded:
        pass
    return found, line


def _diagnose(subject: Subject) -> Diagnosis | None:
    unsteady = next((d for runs in subject.repetitions(_CALLS) if (d := _changing(runs)) is not None), None)
    if unsteady is not None:
        return unsteady
    if subject.case.kernel is not None or not subject.evaluation.path.followed:
        return numeric.by_numbers(subject.evaluation)  # what ran was not traced
    here, position = subject.here, subject.position
    if not math.isfinite(subject.number):
        found = numeric.not_finite(here, position, subject.dtype)
        if found is not None:
            return found
    if subject.drawn.large:
        found = _layout(subject) or beyond(subject)
        if found is not None:
            return found
    if not here.differs_at(position):
        return _same_formula(subject)
    return (
        _only_somewhere(subject)
        or explained(subject.views, PLAIN)
        or epsilon(here)
        or _region(subject)
        or explained(subject.views, SUBTLE)
    )


def explained(views: Sequence[View], hypotheses: Sequence[Hypothesis]) -> Diagnosis | None:
    """The first hypothesis that explains the largest of some views, with what the others say of a factor."""
    wrong = [view for view in views if view.differing]
    if not wrong:
        return None
    largest = max(wrong, key=lambda v: len(v.trace.entries))
    found = next((d for hypothesis in hypotheses if (d := hypothesis(largest)) is not None), None)
    if found is None:
        return None
    if found.name in (Mistake.FACTOR, Mistake.SIGN):
        return factors_by_size(views) or found
    if largest is not views[0] and "[" in found.explanation:
        return replace(found, explanation=f"{found.explanation} (with {largest.shapes})")
    return found


def _changing(runs: Sequence[float]) -> Diagnosis | None:
    """Whether the same input gives other numbers each time."""
    if len({*map(repr, runs)}) == 1:
        return None
    steps = [b - a for a, b in pairwise(runs) if math.isfinite(a + b)]
    shown = ", ".join(f"{run:.6g}" for run in runs)
    even = all(math.isclose(step, steps[0], rel_tol=1e-6) for step in steps)
    if len(steps) == len(runs) - 1 and even and steps[0] != 0:
        explanation = f"the same input, again and again, gives {shown}: each call adds the same amount"
        return Diagnosis(Mistake.ACCUMULATED, Certainty.CERTAIN, explanation)
    return Diagnosis(Mistake.NONDETERMINISTIC, Certainty.CERTAIN, f"the same input, again and again, gives {shown}")


def _same_formula(subject: Subject) -> Diagnosis | None:
    """The executed formula is the reference, off kinks: what is wrong is the arithmetic, or a kink."""
    here, position = subject.here, subject.position
    verdict = subject.evaluation.judgement.failures[position]
    if verdict.at_kink:
        certainty = here.explains({position: here.reference[position]})
        if certainty is None:
            return None
        tied = places.tied(here, position)
        if tied is not None:
            words = f"{tied} here; everywhere else the executed formula is the derivative"
            return Diagnosis(Mistake.TIE, certainty, words)
        return Diagnosis(
            Mistake.TIES, certainty, "everywhere else the executed formula is the derivative; the input is a kink"
        )
    return (
        epsilon(here)
        or numeric.lower_precision(here, position, subject.number)
        or numeric.not_finite(here, position, subject.dtype)
    )


def _only_somewhere(subject: Subject) -> Diagnosis | None:
    """Mistakes that show at some shapes, inputs or entries only; what they are there is said as well."""
    found = _layout(subject)
    if found is not None:
        return _with_more(found, [subject.here])
    found = where_broadcast(subject)
    if found is not None:
        return _with_more(found, [v for v in subject.views if v.differing])
    return _path(subject) or _element(subject)


def _layout(subject: Subject) -> Diagnosis | None:
    """Right as soon as memory is contiguous."""
    layout = subject.drawn.layout
    if layout is Layout.CONTIGUOUS:
        return None
    try:
        plain = subject.probe(replace(subject.drawn, layout=Layout.CONTIGUOUS))
    except DiffcheckError:
        return None
    if plain is None or plain.judgement.failures or subject.view_of(plain).differing:
        return None
    what = "the cotangents expanded" if layout is Layout.EXPANDED else f"inputs and cotangents {layout} in memory"
    return Diagnosis(Mistake.LAYOUT, Certainty.CERTAIN, f"with {what}; with all of them contiguous it is right")


def _with_more(found: Diagnosis, views: Sequence[View]) -> Diagnosis:
    """A place, and what is wrong there."""
    more = explained(views, [*PLAIN, *SUBTLE])
    if more is None or more.name is Mistake.NONLINEAR:
        return found
    return Diagnosis(found.name, found.certainty, f"{found.explanation}; there, {more.explanation}")


def _region(subject: Subject) -> Diagnosis | None:
    """The conditions of the formula itself that the mistake needs."""
    found = places.region(subject.here, subject.position)
    if found is None:
        return None
    where, certainty = found
    return Diagnosis(Mistake.REGION, certainty, f"where {where}; elsewhere the executed formula is the derivative")


def _path(subject: Subject) -> Diagnosis | None:
    """The path on which the formula is wrong, if it is right on another."""
    guards = subject.here.trace.guards
    if not guards:
        return None
    for other in subject.nearby():
        view = subject.view_of(other)
        if view.trace.guards != guards and not view.differing:
            turned = [(g, o) for g, o in zip(guards, view.trace.guards, strict=False) if g != o]
            guard = turned[0][0] if turned else guards[-1]
            return Diagnosis(
                Mistake.REGION,
                Certainty.CERTAIN,
                f"on the path where {places.condition_text(guard.selector, holds=guard.value)}; "
                "on another the executed formula is the derivative",
            )
    return None


def _element(subject: Subject) -> Diagnosis | None:
    found = places.single_element(subject.views)
    if found is None:
        return None
    position, view = found
    one = Diagnosis(
        Mistake.ELEMENT,
        Certainty.CERTAIN,
        f"of the {len(view.positions)} entries of {view.owner} only {view.place(position)} is wrong",
    )
    return _with_more(one, [view])


__all__ = ["PLAIN", "SUBTLE", "Subject", "diagnose", "explained"]
