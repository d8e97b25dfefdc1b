"""The message of one entry of each family, held by a snapshot; read it as a stranger would, then accept it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from diffcheck.report.summary import Run
from diffcheck.report.terminal import text_of
from diffcheck.settings import Settings
from tests.detection.catalogue import MUTANTS, named
from tests.detection.measure import checked
from tests.detection.mutant import Mutant

ROOT = Path(__file__).parents[2]
SHOWN = (
    "factors/cube_two_thirds",
    "signs/gaussian_mean",
    "dropped terms/damped_product_rule",
    "constants/layer_norm_mean",
    "transposed Jacobian/matrix_vector",
    "axes/softmax_sum",
    "broadcasting/bias_first_row",
    "(n, 1) against (n,)/column_loss",
    "sum for mean/mean_square",
    "sizes/bias_beyond_32_rows",
    "layouts/saved_input_by_memory",
    "regions/cube_a_hundredth",
    "single elements/cube_first",
    "ties and kinks/relu_at_zero",
    "zeros/square_by_division",
    "branches/safe_root",
    "overflow/softplus",
    "incoming gradients/clipped_to_one",
    "second order/exp_kept_result",
    "gradcheck's blind spots/absolute_tolerance",
    "precision/cube_in_float32",
    "finite differences/cube_central",
    "nondeterminism/grows_with_calls",
    "ways of asking/needs_input_grad",
)


def message(entry: Mutant) -> str:
    """What the command prints, without what changes from run to run and from edit to edit."""
    settings = Settings(seed=1, modes=entry.modes, dtypes=("float64",), examples=40, database=False)
    results = [replace(result, seconds=0.0) for result in checked(entry.cases()[0], settings)]
    text = text_of(Run(tuple(results), seed=1, seconds=0.0), "the message", 0)
    text = re.sub(r"gives? \[.*?, at x = .*?;", "give …;", text, flags=re.DOTALL) if "nondet" in entry.family else text
    return re.sub(r"(\w\.py):[\d-]+", r"\1:N", text)


@pytest.mark.parametrize("name", SHOWN)
def test_message(name: str, snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    assert message(named(name)) == snapshot


def test_every_family_is_shown():
    assert {name.partition("/")[0] for name in SHOWN} == {m.family for m in MUTANTS}
