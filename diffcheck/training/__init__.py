"""The training pipeline and its closed-form least-squares solution."""

from __future__ import annotations

from diffcheck.training.declare import Regression, regression, training_step

linear_regression = regression

__all__ = ["Regression", "linear_regression", "regression", "training_step"]
