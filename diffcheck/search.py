"""The search for inputs: how many, from which seed, where they are drawn from, and Hypothesis' `find`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from unittest import SkipTest

import hypothesis
import hypothesis.core
from hypothesis import Phase
from hypothesis.errors import NoSuchExample, Unsatisfiable
from hypothesis.internal.conjecture import providers
from torch import Tensor

from diffcheck import draw
from diffcheck.case import Case
from diffcheck.config import FIRST_ORDER, USUAL_DTYPES
from diffcheck.domain import Shapes, large_assignments
from diffcheck.draw import Drawn, Layout


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is asked to do."""

    examples: int = 100
    """Inputs drawn per case."""
    seed: int | None = None
    """Of Hypothesis; the same seed draws the same inputs."""
    modes: tuple[str, ...] = FIRST_ORDER
    dtypes: tuple[str, ...] = USUAL_DTYPES
    seconds: float = 60.0
    """Per case; what is not done by then is undecided."""
    database: bool = True
    """Whether disagreements are kept in Hypothesis' example database."""
    profile: hypothesis.settings | None = None
    """Hypothesis' settings for everything else; by default those in force."""
    reuse: bool = True
    """Whether what is kept there is tried first; without it, a seed gives the same run whatever came before."""
    device: str = "cpu"
    """Where PyTorch computes: `cpu` or `cuda`."""
    only: frozenset[tuple[str, str]] | None = None
    """Of the rows that modes and dtypes give, only these: pairs of mode and dtype."""


_GIVEN_EXAMPLES: Final = 10
"""Cotangents that are drawn for an input that was given."""
_MOST_TRACED: Final = 512
"""Elements of an input up to which a kernel's reference is traced at it."""
_GIVEN: Final = "given"
_LARGE: Final = "large"
_LAYOUT_EXAMPLES: Final = 4
"""Inputs that are drawn of each layout but the contiguous one."""
_LARGE_EXAMPLES: Final = 3
"""Inputs that are drawn of each large size."""


@dataclass(frozen=True, slots=True)
class Source:
    """A strategy, and how many inputs are drawn from it at most."""

    name: str
    """Of the database entry where what disagreed is kept; the same in every run."""
    strategy: Any
    most: float = math.inf


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where a case's inputs are drawn from."""

    sources: tuple[Source, ...]
    """What was given, small sizes, other layouts in memory, large sizes. What chance might leave out has its own."""
    swept: tuple[Drawn, ...] = ()
    """Inputs that are not left to chance."""

    @property
    def ordinary(self) -> tuple[Source, ...]:
        """What was given, and small sizes as they usually lie in memory."""
        return tuple(source for source in self.sources if source.name in (_GIVEN, Layout.CONTIGUOUS.value))

    def like(self, drawn: Drawn) -> Source:
        """Where an input was drawn from, and simpler ones are."""
        if drawn.given is not None:
            return Source(_GIVEN, draw.around(drawn.given, large=drawn.large))
        name = _LARGE if drawn.large else drawn.layout.value
        return next(source for source in self.sources if source.name == name)


def inputs_of(case: Case, assignments: Sequence[Shapes], special: Sequence[float]) -> Inputs:
    """Where the inputs of a case are drawn from.

    Args:
        case: The case.
        assignments: Small sizes of its axes; none if only given inputs count.
        special: Numbers that an entry should also be.
    """
    given = [
        Source(_GIVEN, draw.around(values), _GIVEN_EXAMPLES) for values in case.given if not is_at_scale(case, values)
    ]
    if not assignments:
        return Inputs(tuple(given))
    arguments = case.arguments
    by_layout = [
        # Of one element, all layouts are the same.
        Source(
            layout.value,
            draw.inputs(arguments, assignments[bool(first and assignments[1:]) :], special, layouts=(layout,)),
            _LAYOUT_EXAMPLES if first else math.inf,
        )
        for first, layout in enumerate(Layout)
    ]
    large = large_assignments(arguments)
    beyond = [Source(_LARGE, draw.inputs(arguments, large, special, large=True), _LARGE_EXAMPLES * len(large))]
    swept = draw.sweep(arguments, assignments[-1], special)
    return Inputs((*given, *by_layout, *(beyond if large else [])), tuple(swept))


def is_at_scale(case: Case, values: Mapping[str, Tensor]) -> bool:
    """Whether a kernel is to be compared at an input that is larger than a trace of its reference should be."""
    return case.kernel is not None and sum(v.numel() for v in values.values()) > _MOST_TRACED


def find(
    strategy: Any,
    condition: Callable[[Drawn], bool],
    asked: Settings,
    *,
    phases: Sequence[Phase],
    examples: float = math.inf,
    key: bytes | None = None,
) -> Drawn | None:
    """The smallest input with a property, of at most so many as are asked for, or None."""
    database: dict[str, Any] = {} if key is not None else {"database": None}
    most = int(min(asked.examples, examples))
    settings = hypothesis.settings(
        asked.profile, max_examples=most, phases=phases, deadline=None, derandomize=False, **database
    )
    with _forced(asked.seed), _without_constants():
        try:
            found: Drawn = hypothesis.find(strategy, condition, settings=settings, database_key=key)
        except (NoSuchExample, Unsatisfiable, SkipTest):  # SkipTest: nothing is known that could be tried again
            return None
    return found


@contextlib.contextmanager
def _without_constants() -> Iterator[None]:
    """Keeps Hypothesis from drawing numbers that it reads in the source of whatever modules are loaded.

    Our integers stand for other numbers, so that they mean nothing here; and the same seed would draw other inputs for
    one case alone than for a folder of them.
    """
    name, provider = "_maybe_draw_constant", providers.HypothesisProvider
    before = vars(provider).get(name)
    if before is None:  # an older Hypothesis, which does not
        yield
        return
    setattr(provider, name, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(provider, name, before)


@contextlib.contextmanager
def _forced(seed: int | None) -> Iterator[None]:
    """Draws from a seed as `pytest --hypothesis-seed` does: given it as an argument, `find` forgets its database."""
    before = hypothesis.core.global_force_seed
    hypothesis.core.global_force_seed = before if seed is None else seed  # type: ignore[assignment]
    try:
        yield
    finally:
        hypothesis.core.global_force_seed = before
