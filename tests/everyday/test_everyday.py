"""Right functions as people write them pass, wrong twins are found: a part of the corpus, asked cheaply.

`python tests/everyday/run.py --seeds 5` asks for all of it at default settings (docs/everyday.md).
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffcheck.checking.check import check
from diffcheck.declare.case import Case
from diffcheck.declare.domain import Argument, resolved, size_assignments
from diffcheck.settings import Settings
from diffcheck.verdict import PASSING
from tests.everyday.corpus import Entry
from tests.everyday.gaps import GAPS
from tests.everyday.measure import complaints, entries, is_gap, judged

RIGHT = [entry for entry in entries() if not entry.is_wrong]
WRONG = [entry for entry in entries() if entry.is_wrong]
SHARE_OF_RIGHT, SHARE_OF_WRONG = 2, 24
"""One of so many is asked for here."""
AT_ONE_INPUT = {"distributions/kl_beta", "geometry/exponential_map", "matrices/vandermonde"}
"""Gaps that show at any input."""


def at_one_input(case: Case) -> Case:
    """The case at one random input of its domain, and no other."""
    shapes = size_assignments(case.arguments)[-1]
    generator = torch.Generator().manual_seed(zlib.crc32(case.name.encode()))
    values = {a.name: _random(resolved(a, shapes, case.arguments), shapes[a.name], generator) for a in case.arguments}
    return replace(case, given=(values,), draws=False)


def _random(known: Argument, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if known.kind == "boolean":
        return torch.rand(shape, generator=generator) < 0.75
    if known.kind == "complex":
        return torch.randn(shape, dtype=torch.complex128, generator=generator)
    lower, upper = float(known.lower), float(known.upper)
    if known.kind == "integer":
        return torch.randint(math.ceil(lower), math.ceil(upper), shape, generator=generator)
    if not math.isfinite(lower):
        return torch.randn(shape, dtype=torch.float64, generator=generator)
    return lower + (upper - lower) * torch.rand(shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("entry", RIGHT[::SHARE_OF_RIGHT], ids=lambda entry: entry.name)
def test_what_is_right_passes(entry: Entry):
    settings = Settings(seed=1, examples=1, modes=("reverse",), dtypes=("float64",), database=False)
    (result, *_) = check(at_one_input(entry.case), settings, case_id=entry.name, location=entry.name)
    assert entry.name in AT_ONE_INPUT or result.verdict in PASSING, complaints(entry, [result])


@pytest.mark.parametrize("entry", WRONG[::SHARE_OF_WRONG], ids=lambda entry: entry.name)
def test_what_is_wrong_is_found(entry: Entry):
    found = judged(entry.name, seed=1, examples=4, modes=("reverse",), dtypes=("float64",))
    assert not found.complaints


@pytest.mark.parametrize("name", sorted(AT_ONE_INPUT))
def test_what_is_known_not_to_pass_still_does_not(name: str):
    """Whoever mends it takes it out of the table."""
    (entry,) = (entry for entry in RIGHT if entry.name == name)
    settings = Settings(seed=1, examples=1, modes=("reverse",), dtypes=("float64",), database=False)
    (result,) = check(at_one_input(entry.case), settings, case_id=name, location=name)
    assert is_gap(name, result), result


def test_the_corpus_is_large_and_a_third_of_it_has_a_wrong_twin():
    assert len(RIGHT) >= 150
    assert 3 * len(WRONG) >= len(RIGHT)
    assert len({entry.name for entry in entries()}) == len(entries())


def test_gaps_are_of_right_functions_that_there_are():
    assert set(GAPS) <= {entry.name for entry in RIGHT}
    assert set(GAPS) >= AT_ONE_INPUT
