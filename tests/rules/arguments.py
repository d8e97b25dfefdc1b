"""How the examples name what they draw: shapes and kinds of inputs, and what stands fixed behind them."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from tests.rules.tracing import Draw

Example: TypeAlias = tuple[Any, ...]


def r(*shape: int) -> Draw:
    """Any reals."""
    return Draw(shape)


def p(*shape: int) -> Draw:
    """Positive numbers."""
    return Draw(shape, "positive")


def u(*shape: int) -> Draw:
    """Between -1 and 1."""
    return Draw(shape, "unit")


def q(*shape: int) -> Draw:
    """Between 0 and 1."""
    return Draw(shape, "probability")


def a(*shape: int) -> Draw:
    """Above 1."""
    return Draw(shape, "above one")


def i(*values: Any) -> torch.Tensor:
    """Indices."""
    return torch.tensor(values)


def d(*values: Any) -> torch.Tensor:
    """Constants in double precision."""
    return torch.tensor(values, dtype=torch.float64)
