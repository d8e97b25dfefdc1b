"""Every wrong backward pass is found and named, and its correct twin passes; with one seed here.

`python tests/detection/run.py` takes more seeds, gradcheck beside them, and writes docs/detection.md.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from diffcheck.verdict import Mistake
from tests.detection.catalogue import MUTANTS
from tests.detection.gradients import FALSE_ALARMS, FalseAlarm
from tests.detection.measure import accepts, alarm_passes, ours
from tests.detection.mutant import Mutant

FLOAT32_ONLY = {"overflow/hypotenuse", "ways of asking/autocast"}
"""In float64 a number of their domain does not overflow, and autocast leaves it alone."""


WANT_MANY = {
    "sizes", "layouts", "regions", "ties and kinks", "zeros", "branches", "overflow", "incoming gradients", "precision"
}  # fmt: skip
"""Families that the proof alone does not find: the rest is wrong at the first ordinary input."""


@pytest.mark.parametrize("entry", MUTANTS, ids=lambda m: f"{m.family}/{m.name}")
def test_it_is_found_and_named_and_its_twin_is_not_accused(entry: Mutant):
    dtype = "float32" if f"{entry.family}/{entry.name}" in FLOAT32_ONLY else "float64"
    examples = 100 if entry.family in WANT_MANY else 8
    outcome = ours(entry, seed=1, dtypes=(dtype,), examples=examples, twins_examples=6)
    assert outcome.found
    assert outcome.names
    assert set(outcome.names) == {entry.diagnosis}
    assert not outcome.accused


def test_the_catalogue_is_large_and_has_no_name_twice():
    assert len(MUTANTS) >= 100
    assert not [name for name, count in Counter((m.family, m.name) for m in MUTANTS).items() if count > 1]


def test_every_name_that_can_be_given_is_expected_somewhere():
    assert {m.diagnosis for m in MUTANTS} - {""} == {str(mistake) for mistake in Mistake}


@pytest.mark.parametrize("alarm", FALSE_ALARMS, ids=lambda a: a.name)
def test_what_gradcheck_accuses_wrongly_passes(alarm: FalseAlarm):
    point = torch.tensor([alarm.point], dtype=torch.float64, requires_grad=True)
    assert not accepts(torch.autograd.gradcheck, alarm.function, [point], fast=False)
    assert alarm_passes(alarm)
