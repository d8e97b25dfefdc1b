"""What a diagnosis is made of: a finding's evaluation, and more evaluations where one input can't tell."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from diffcheck.compare.evaluate import Evaluation
from diffcheck.declare.case import Case
from diffcheck.declare.domain import Argument, Shapes, contains, resolved, size_assignments
from diffcheck.draw.inputs import Drawn, Entries
from diffcheck.errors import DiffcheckError
from diffcheck.explain.diagnosis.view import View
from diffcheck.modes import plain

_MOST_ENTRIES = 120
"""Entries of a trace that is taken apart."""
_TRIES = 4
_SEEDS = (1.0, -0.75, 0.5, -1.25, 2.0)


@dataclass(frozen=True)
class Subject:
    """A finding to be explained."""

    case: Case
    mode: str
    dtype: str
    drawn: Drawn
    evaluation: Evaluation
    position: int
    """Which of the evaluation's numbers the finding is about."""
    again: Callable[[Drawn], Sequence[float]]
    """Lets PyTorch differentiate at an input once more; nothing outside of the domain."""
    probe: Callable[[Drawn], Evaluation | None]
    """Evaluates the case at another input, in the same mode and dtype; None outside of the domain."""

    @property
    def owner(self) -> str:
        """The argument (in forward mode, the output) that the finding is about."""
        return self.evaluation.path.trace.entries[self.position].owner

    @property
    def number(self) -> float:
        """What PyTorch computed."""
        return self.evaluation.computed[self.position]

    @cached_property
    def here(self) -> View:
        """The formulas at the finding's input."""
        return self.view_of(self.evaluation)

    @cached_property
    def elsewhere(self) -> list[View]:
        """The formulas at other shapes, small ones first, at moderate inputs."""
        found = [self.at(shapes) for shapes in size_assignments(self.case.arguments)]
        return [self.view_of(one) for one in found if one is not None]

    @cached_property
    def views(self) -> list[View]:
        """All of them that can be taken apart, the finding's first."""
        return [v for v in (self.here, *self.elsewhere) if len(v.trace.entries) <= _MOST_ENTRIES]

    def view_of(self, evaluation: Evaluation) -> View:
        """The formulas of an evaluation."""
        trace = evaluation.path.trace
        bounds = {a.name: (_real(a.lower), _real(a.upper)) for a in self.case.differentiated}
        return View(trace, tuple(evaluation.point), bounds, plain(self.mode), self.owner, large=self.drawn.large)

    def at(self, shapes: Shapes, scale: float = 1.0, *, large: bool = False) -> Evaluation | None:
        """An evaluation at an ordinary input of some shapes within the domain; None if none is found."""
        for drawn in self._ordinary(shapes, scale, large=large):
            try:
                found = self.probe(drawn)
            except DiffcheckError:
                return None
            if found is not None:
                return found
        return None

    def _ordinary(self, shapes: Shapes, scale: float, *, large: bool) -> Iterator[Drawn]:
        for turn in range(_TRIES):
            entries = {
                a.name: _entries(
                    resolved(a, shapes, self.case.arguments), a.parts * math.prod(shapes[a.name]), turn, scale
                )
                for a in self.case.arguments
            }
            yield Drawn(shapes, entries, _SEEDS, large=large)

    def repetitions(self, count: int) -> Iterator[list[float]]:
        """The finding's number, again and again: at its input and at an ordinary one, in case it is 0 there."""
        for drawn in (self.drawn, next(self._ordinary(self.drawn.shapes, 1.0, large=self.drawn.large))):
            try:
                runs = [self.again(drawn) for _ in range(count)]
            except DiffcheckError:
                return
            if all(runs):
                yield [run[self.position] for run in runs]

    def nearby(self) -> Iterator[Evaluation]:
        """Evaluations at the finding's shapes, at other inputs."""
        for scale in (0.5, 1.0, 4.0, 32.0, 256.0):
            found = self.at(self.drawn.shapes, scale)
            if found is not None:
                yield found


def _real(bound: float | str) -> float:
    return math.inf if isinstance(bound, str) else bound


def _entries(known: Argument, count: int, turn: int, scale: float) -> Entries:
    lower, upper = _real(known.lower), _real(known.upper)
    generator = random.Random(f"{known.name} {turn}")
    if known.kind == "boolean":
        return tuple((i + turn) % 2 == 0 for i in range(count))
    if known.kind == "integer":
        choices = [n for n in range(-64, 65) if contains(known, n)]
        return tuple(choices[(i * (turn + 1) + turn) % len(choices)] for i in range(count))
    low, high = max(lower, -2.0 * scale), min(upper, 2.0 * scale)
    if low >= high:
        low, high = lower if math.isfinite(lower) else upper - 4, upper if math.isfinite(upper) else lower + 4
    return tuple(low + (high - low) * generator.uniform(0.05, 0.95) for _ in range(count))
