"""The search for inputs: how many, from which seed, where they are drawn from, and Hypothesis' `find`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar
from unittest import SkipTest

import hypothesis
import hypothesis.core
from hypothesis import Phase
from hypothesis.database import ExampleDatabase, choices_to_bytes
from hypothesis.errors import NoSuchExample, Unsatisfiable
from hypothesis.internal.conjecture import providers
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from diffcheck.alarm import processor_time
from diffcheck.declare.asked_sizes import asked_sizes
from diffcheck.declare.case import Case
from diffcheck.declare.domain import Shapes, asked_assignments, large_assignments
from diffcheck.draw import inputs as draw
from diffcheck.draw.corners import corners
from diffcheck.draw.inputs import Drawn, Layout, OneInput, SeveralInputs
from diffcheck.settings import Settings

_T = TypeVar("_T")

_TOGETHER: Final = 8
"""Inputs that are drawn as one example of Hypothesis', at most."""
_MOST_TOGETHER: Final = 256
"""Elements that are drawn as one example, at most, unless an input has more: Hypothesis gives up on long examples."""
_SIMPLE: Final = 2
"""Of the examples, the first ones hold little but the simplest input."""
_TURNS: Final = 10
"""So often is looked for more where a domain accepts few inputs."""
_GIVEN_EXAMPLES: Final = 10
"""Cotangents that are drawn for an input that was given."""
_MOST_TRACED: Final = 512
"""Elements of an input up to which a kernel's reference is traced at it."""
_GIVEN: Final = "given"
_LARGE: Final = "large"
_ASKED: Final = "asked"
_LAYOUT_EXAMPLES: Final = 4
"""Inputs that are drawn of each layout but the contiguous one."""
_LARGE_EXAMPLES: Final = 3
"""Inputs that are drawn of each large size."""
_ASKED_EXAMPLES: Final = 2
"""Inputs that are drawn of each size that the function asks about."""
_MOST_PROVED: Final = 8
"""Elements up to which the identity is proved at such a size too."""


@dataclass(frozen=True, slots=True)
class Source:
    """A strategy, and how many inputs are drawn from it at most."""

    name: str
    """Of the database entry where what disagreed is kept; the same in every run."""
    strategy: OneInput
    most: float = math.inf
    """Inputs that are drawn from it."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where a case's inputs are drawn from."""

    sources: tuple[Source, ...]
    """What was given, small sizes, other layouts in memory, large sizes. What chance might leave out has its own."""
    swept: tuple[Drawn, ...] = ()
    """Inputs that are not left to chance."""
    asked: tuple[Shapes, ...] = ()
    """Sizes that the function asks about, each of which has a source."""

    @property
    def ordinary(self) -> tuple[Source, ...]:
        """What was given, and small sizes as they usually lie in memory."""
        return tuple(source for source in self.sources if source.name in (_GIVEN, Layout.CONTIGUOUS.value))

    def like(self, drawn: Drawn) -> Source:
        """Where an input was drawn from, and simpler ones are."""
        if drawn.given is not None:
            return Source(_GIVEN, draw.around(drawn.given, large=drawn.large))
        if drawn.shapes in self.asked:
            name = f"{_ASKED} {self.asked.index(drawn.shapes)}"
        else:
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
    sizes = asked_sizes(case.function) + (asked_sizes(case.kernel) if case.kernel else ())
    asked = [shapes for shapes in asked_assignments(arguments, sizes) if shapes not in (*assignments, *large)]
    own = [
        Source(
            f"{_ASKED} {i}",
            draw.inputs(arguments, [shapes], special, large=sum(map(math.prod, shapes.values())) > _MOST_PROVED),
            _ASKED_EXAMPLES,
        )
        for i, shapes in enumerate(asked)
    ]
    beyond = [Source(_LARGE, draw.inputs(arguments, large, special, large=True), _LARGE_EXAMPLES * len(large))]
    swept = [*draw.sweep(arguments, assignments[-1], special), *corners(arguments, assignments[-1])]
    return Inputs((*given, *by_layout, *own, *(beyond if large else [])), tuple(swept), tuple(asked))


def is_at_scale(case: Case, values: Mapping[str, Tensor]) -> bool:
    """Whether a kernel is to be compared at an input that is larger than a trace of its reference should be."""
    return case.kernel is not None and sum(v.numel() for v in values.values()) > _MOST_TRACED


def gather(source: Source, accepted: Callable[[Drawn], bool], asked: Settings, deadline: float) -> list[Drawn]:
    """As many different inputs as are asked for; fewer if few are accepted, or if there is no time for more."""
    most = int(min(asked.examples, source.most))
    together = min(most, _TOGETHER, max(1, _MOST_TOGETHER // source.strategy.size))
    strategy = SeveralInputs(source.strategy, together)
    found: dict[tuple[int, ...], Drawn] = {}

    def collect(drawn: list[Drawn]) -> bool:
        for one in drawn:
            if processor_time() > deadline:
                return True  # the search ends
            if len(found) < most and one.choices not in found and accepted(one):
                found[one.choices] = one
        return False

    for turn in range(_TURNS):
        # No more than are needed: Hypothesis begins with simple examples, a tenth of all that it may try.
        examples = math.ceil((most - len(found)) / together) + _SIMPLE
        seed = None if asked.seed is None else asked.seed + turn * 2**32
        _found(strategy, collect, replace(asked, seed=seed), phases=[Phase.generate], examples=examples)
        if len(found) == most or processor_time() > deadline:
            break
    return list(found.values())


def find(
    strategy: SearchStrategy[_T],
    condition: Callable[[_T], bool],
    asked: Settings,
    *,
    phases: Sequence[Phase],
    examples: float = math.inf,
    key: bytes | None = None,
    first: _T | None = None,
) -> _T | None:
    """The smallest input, or whatever else is drawn, with a property, of at most so many as are asked for, or None.

    Args:
        strategy: Where they are drawn from.
        condition: The property.
        asked: The seed, and how many examples at most.
        phases: Of Hypothesis.
        examples: If that is fewer.
        key: Under which what has the property is kept, and looked for.
        first: An input with the property, to begin with.
    """
    database = None if key is None else (asked.profile or hypothesis.settings()).database
    if isinstance(first, Drawn) and first.choices:
        database = _Beginning(first.choices, database, reads=Phase.reuse in phases)
        phases, key = list({Phase.reuse, *phases}), key or b"first"
    most = min(asked.examples, examples)
    found: _T | None = _found(
        strategy, condition, asked, phases=phases, examples=most, database=database, database_key=key
    )
    return found


def _found(
    strategy: SearchStrategy[Any],
    condition: Callable[[Any], bool],
    asked: Settings,
    *,
    phases: Sequence[Phase],
    examples: float,
    database: ExampleDatabase | None = None,
    database_key: bytes | None = None,
) -> Any:
    """What `hypothesis.find` finds, or None."""
    settings = hypothesis.settings(
        asked.profile,
        max_examples=int(examples),
        phases=phases,
        deadline=None,
        derandomize=False,
        database=database,
    )
    with _forced(asked.seed), _without_constants():
        try:
            return hypothesis.find(strategy, condition, settings=settings, database_key=database_key)
        except (NoSuchExample, Unsatisfiable, SkipTest):  # SkipTest: nothing is known that could be tried again
            return None


class _Beginning(ExampleDatabase):
    """A database in which an input is found before all others."""

    def __init__(self, choices: Sequence[int], kept: ExampleDatabase | None, *, reads: bool) -> None:
        super().__init__()
        # One choice too many, and Hypothesis does not take it for the smallest one of an earlier run: it shrinks it.
        self._first = choices_to_bytes((*choices, 0))
        self._kept, self._reads = kept, reads

    def fetch(self, key: bytes) -> Iterable[bytes]:
        """What is tried: the input first."""
        yield self._first
        if self._kept is not None and self._reads:
            yield from self._kept.fetch(key)

    def save(self, key: bytes, value: bytes) -> None:
        """Keeps what has the property."""
        if self._kept is not None:
            self._kept.save(key, value)

    def delete(self, key: bytes, value: bytes) -> None:
        """Forgets what does not have it any more."""
        if self._kept is not None:
            self._kept.delete(key, value)


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
