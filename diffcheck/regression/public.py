"""What the package is used for: declaring a pipeline, which the commands then know how to check."""

from __future__ import annotations

from diffcheck.checking import declared
from diffcheck.regression.checks import rows_of, run
from diffcheck.regression.declare import Regression, regression, training_step

linear_regression = regression
declared.rows.register(Regression, lambda _, settings: rows_of(settings))
declared.run.register(Regression, run)

__all__ = ["Regression", "linear_regression", "regression", "training_step"]
