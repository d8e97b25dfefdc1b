"""A few functions composed of the rules' examples: no internal error, no wrong rule, no false accusation."""

from __future__ import annotations

import pytest

from tests.rules.compositions import Composition, complaint, compositions


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("composition", [*compositions(6, seed=20)], ids=lambda c: c.text)
def test_nothing_is_said_of_a_composition_that_is_right(composition: Composition) -> None:
    assert not complaint(composition, seed=6, seconds=5)
