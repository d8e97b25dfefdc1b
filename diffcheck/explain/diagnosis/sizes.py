"""Mistakes that depend on a shape: factors that follow a size, what is wrong beyond a size or where broadcast."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from fractions import Fraction

from diffcheck.algebra import expr as graph
from diffcheck.declare.domain import Shapes, resized, size_assignments
from diffcheck.explain.diagnosis.formulas import factor_of, number_text
from diffcheck.explain.diagnosis.subject import Subject
from diffcheck.explain.diagnosis.view import View
from diffcheck.verdict import Certainty, Diagnosis, Mistake


def factors_by_size(views: Sequence[View]) -> Diagnosis | None:
    """A factor that is another one at other sizes; None if it is one and the same."""
    factors: list[tuple[View, Fraction]] = []
    certain = Certainty.CERTAIN
    for view in views:
        if not view.differing:
            factors.append((view, Fraction(1)))
            continue
        found = factor_of(view)
        exact = None if found is None else graph.number(found[0])
        if found is None or exact is None:
            return None
        certain = certain if found[1] is Certainty.CERTAIN else found[1]
        factors.append((view, exact))
    if len({factor for _, factor in factors}) == 1 or len(factors) < 3:
        return None
    for words, sizes in _sizes(factors):
        if sizes == [factor for _, factor in factors]:
            return Diagnosis(
                Mistake.SUM_FOR_MEAN, certain, f"the executed formula is the derivative times {words}, {_at(factors)}"
            )
        if [1 / size for size in sizes] == [factor for _, factor in factors]:
            return Diagnosis(
                Mistake.MEAN_FOR_SUM, certain, f"the executed formula is the derivative over {words}, {_at(factors)}"
            )
    right = [view for view, factor in factors if factor == 1]
    if right and len({factor for _, factor in factors}) == 2:
        return None  # one factor, at some shapes: that follows no size
    return Diagnosis(Mistake.SIZE, certain, f"the executed formula is a multiple of the derivative: {_at(factors)}")


def _at(factors: Sequence[tuple[View, Fraction]]) -> str:
    """Some factors with the shapes that they go with: `3 at [3]`."""
    shown = {f"{list(view.shape_of(view.owner))}": factor for view, factor in factors if factor != 1}
    return ", ".join(f"{number_text(graph.constant(f))} at shape {s}" for s, f in list(shown.items())[-2:])


def _sizes(factors: Sequence[tuple[View, Fraction]]) -> Iterator[tuple[str, list[Fraction]]]:
    """Sizes that a factor may follow: of an axis, or the number of entries of a tensor."""
    views = [view for view, _ in factors]
    for name in views[0].groups:
        shapes = [view.groups[name].shape for view in views]
        if len({len(shape) for shape in shapes}) != 1:
            continue
        for axis in range(len(shapes[0])):
            which = f"{name}.shape[{axis}]" if len(shapes[0]) > 1 else f"len({name})"
            yield which, [Fraction(shape[axis]) for shape in shapes]
        if len(shapes[0]) > 1:
            yield f"{name}.numel()", [Fraction(math.prod(shape)) for shape in shapes]


def beyond(subject: Subject) -> Diagnosis | None:
    """Right at all small shapes, wrong at another one: the size from which on it is, or at which it is."""
    arguments, shapes = subject.case.arguments, subject.drawn.shapes
    if shapes in size_assignments(arguments) or len(subject.elsewhere) < 2:
        return None
    if any(view.differing for view in subject.elsewhere) or resized(arguments, shapes, 1) is None:
        return None

    def wrong(size: int) -> int:
        other = resized(arguments, shapes, size)
        found = None if other is None else subject.at(other, large=True)
        return int(found is not None and bool(found.judgement.failures))

    last = max(max(shape, default=1) for shape in shapes.values())
    first = bisect_left(range(last), 1, lo=2, key=wrong)
    here, before, after = (_words(resized(arguments, shapes, first + step) or shapes) for step in (0, -1, 1))
    if not wrong(first + 1):
        said = f"with {here} it is wrong, with {before} and with {after} it is right"
        return Diagnosis(Mistake.AT_SIZE, Certainty.CERTAIN, said)
    return Diagnosis(Mistake.BEYOND, Certainty.CERTAIN, f"with {here} it is wrong, with {before} it is right")


def _words(shapes: Shapes) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def where_broadcast(subject: Subject) -> Diagnosis | None:
    """Wrong where an axis of size 1 stands for another size, right where sizes are equal."""
    if not any(axis.broadcast for a in subject.case.arguments for axis in a.axes):
        return None
    spread = {id(view): _spread(subject, view) for view in (subject.here, *subject.elsewhere)}
    views = (subject.here, *subject.elsewhere)
    if not any(not spread[id(v)] for v in views) or any(bool(v.differing) != spread[id(v)] for v in views):
        return None
    return Diagnosis(
        Mistake.WHERE_BROADCAST,
        Certainty.CERTAIN,
        f"with {subject.here.shapes} it is wrong, where nothing is broadcast it is right",
    )


def _spread(subject: Subject, view: View) -> bool:
    """Whether some axis that may be broadcast has size 1, and the same axis elsewhere has not."""
    sizes: dict[str, set[int]] = {}
    for argument in subject.case.differentiated:
        for axis, size in zip(argument.axes, view.groups[argument.name].shape, strict=False):
            sizes.setdefault(axis.text, set()).add(size)
    return any(len(found) > 1 for found in sizes.values())
