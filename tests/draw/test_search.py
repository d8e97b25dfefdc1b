"""Inputs are gathered many at a time, the same for the same seed; what is found begins the search for a smaller one."""

from __future__ import annotations

import math
from collections.abc import Callable

import hypothesis
import pytest
from hypothesis import Phase
from hypothesis.database import InMemoryExampleDatabase
from jaxtyping import Float
from torch import Tensor

from diffcheck import case
from diffcheck.declare.case import Case
from diffcheck.declare.domain import size_assignments
from diffcheck.draw.inputs import Drawn, Layout
from diffcheck.draw.search import Inputs, Source, find, gather, inputs_of
from diffcheck.settings import Settings

IT: Case = case(lambda x: x.sum(), inputs={"x": Float[Tensor, "n m"]}, name="it")
SOURCES: Inputs = inputs_of(IT, size_assignments(IT.arguments), ())
SMALL: Source = SOURCES.sources[0]


def gathered(
    source: Source = SMALL,
    accepted: Callable[[Drawn], bool] = lambda _: True,
    deadline: float = math.inf,
    *,
    seed: int = 1,
    examples: int = 100,
) -> list[Drawn]:
    return gather(source, accepted, Settings(seed=seed, examples=examples), deadline)


@pytest.mark.parametrize("examples", [1, 2, 7, 8, 9, 100])
def test_as_many_as_are_asked_for_and_all_different(examples: int):
    found = gathered(examples=examples)
    assert len(found) == examples
    assert len({d.choices for d in found}) == examples


def test_a_source_may_have_its_own_limit():
    strided, *_, large = SOURCES.sources[1:]
    assert [len(gathered(s)) for s in (strided, large)] == [4, 6]
    assert {d.layout for d in gathered(strided)} == {Layout.STRIDED}
    assert {max(d.shapes["x"]) for d in gathered(large)} == {67}


def test_a_seed_draws_the_same_and_another_one_others():
    assert gathered() == gathered()
    assert gathered() != gathered(seed=2)


def test_most_inputs_are_no_simple_ones():
    """Hypothesis begins with examples that hold little but the simplest input: they must stay few."""
    found = gathered()
    assert sum(any(d.entries["x"]) for d in found) > 80
    assert len({d.entries["x"] for d in found}) > 80


def test_a_domain_that_accepts_few_is_searched_for_longer():
    found = gathered(accepted=lambda d: d.entries["x"][0] < 0 < d.seeds[0])
    assert len(found) == 100
    assert all(d.entries["x"][0] < 0 < d.seeds[0] for d in found)


def test_a_domain_that_accepts_nothing_ends():
    assert gathered(accepted=lambda _: False) == []


def test_no_time_no_inputs():
    assert gathered(deadline=0.0) == []


def rare() -> tuple[Drawn, Callable[[Drawn], bool]]:
    """An input that chance does not meet again, and the property that it has."""
    first = next(d for d in gathered() if len(d.entries["x"]) > 4 and any(v != round(v, 9) for v in d.entries["x"]))
    value = next(v for v in first.entries["x"] if v != round(v, 9))
    return first, lambda d: value in d.entries["x"]


def asked(database: InMemoryExampleDatabase | None = None, *, reuse: bool = True) -> Settings:
    return Settings(seed=2, profile=hypothesis.settings(database=database), reuse=reuse)


def test_what_was_found_is_made_smaller():
    first, condition = rare()
    found = find(SMALL.strategy, condition, asked(), phases=[Phase.generate, Phase.shrink], first=first)
    assert found is not None
    assert condition(found)
    assert found.seeds == (1.0,) * 5
    assert sorted(map(bool, found.entries["x"]))[-2:] != [True, True]  # all other entries are 0


def test_alone_it_would_not_have_been_found():
    _, condition = rare()
    assert find(SMALL.strategy, condition, asked(), phases=[Phase.generate, Phase.shrink]) is None


def test_what_was_found_is_kept_under_its_key():
    database = InMemoryExampleDatabase()
    first, condition = rare()
    phases = [Phase.reuse, Phase.generate, Phase.shrink]
    found = find(SMALL.strategy, condition, asked(database), phases=phases, key=b"it", first=first)
    assert find(SMALL.strategy, condition, asked(database), phases=[Phase.reuse], key=b"it") == found
    assert find(SMALL.strategy, condition, asked(database), phases=[Phase.reuse], key=b"other") is None


@pytest.mark.parametrize("reuse", [True, False])
def test_what_was_kept_is_tried_only_if_it_may_be(reuse: bool):
    database = InMemoryExampleDatabase()
    first, condition = rare()
    settings, phases = asked(database), [Phase.generate, Phase.shrink]
    find(SMALL.strategy, condition, settings, phases=[Phase.reuse, *phases], key=b"it", first=first)
    tried: list[Drawn] = []

    def watched(drawn: Drawn) -> bool:
        tried.append(drawn)
        return False

    other = gathered(seed=3)[50]
    find(SMALL.strategy, watched, settings, phases=[*([Phase.reuse] if reuse else []), *phases], key=b"it", first=other)
    assert other in tried
    assert any(map(condition, tried)) is reuse
