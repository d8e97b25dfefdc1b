"""Small pipelines to check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from diffcheck.checking import declared
from diffcheck.regression import Regression, regression
from diffcheck.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffcheck.verdict import Result


def small_data() -> tuple[Tensor, Tensor]:
    features = torch.randn(40, 2)
    labels = features @ torch.tensor([2.0, -3.4]) + 4.2 + 0.01 * torch.randn(40)
    return features, labels.reshape(-1, 1)


def linear() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 1))


@pytest.fixture
def declare() -> Callable[..., Regression]:
    """A small pipeline, changed as the test wants."""

    def make(**changes: Any) -> Regression:
        usual: dict[str, Any] = {
            "data": small_data, "model": linear, "learning_rate": 0.03, "batch_size": 8, "epochs": 1,
        }  # fmt: skip
        return regression(**(usual | changes))

    return make


@pytest.fixture
def results() -> Callable[..., dict[tuple[str, str], Result]]:
    """Runs a pipeline; results by mode and dtype."""

    def run(pipeline: Regression, **options: Any) -> dict[tuple[str, str], Result]:
        settings = Settings(**({"examples": 8, "seed": 7, "database": False} | options))
        found = list(declared.run(pipeline, settings, case_id="file.py::case", location="file.py::case"))
        assert len({(r.mode, r.dtype) for r in found}) == len(found)
        return {(r.mode, r.dtype): r for r in found}

    return run
