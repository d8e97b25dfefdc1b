"""The training pipeline and its closed-form least-squares solution. Names are loaded when they are asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffcheck.regression.run import Regression, linear_regression, regression, training_step

__all__ = ["Regression", "linear_regression", "regression", "training_step"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.run"), name)
    return value
