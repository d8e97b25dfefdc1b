"""How many digits a float's answer keeps of an exact one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flint import arb

MOST = 16.0
"""A float64 has no more than so many."""


def digits_of(estimate: Sequence[float], solution: Sequence[arb]) -> float:
    """The digits that the worst coefficient keeps: min of -log₁₀ of the relative error, from 0 to `MOST`.

    NIST's log relative error (McCullough, The American Statistician 52 (1998) 358); a coefficient that is 0 is
    judged by its absolute error.
    """
    kept = MOST
    for number, true in zip(estimate, solution, strict=True):
        if not math.isfinite(number):
            return 0.0
        error = float(abs(true - number).upper())
        size = float(abs(true).lower())
        relative = error / size if size else error
        if relative:
            kept = min(kept, -math.log10(relative))
    return max(kept, 0.0)


def normal_equations_in_floats(design: Tensor, target: Tensor) -> list[float]:
    """The solution of XᵀXθ = Xᵀy as floats find it; NaN where they find the matrix singular."""
    transposed = design.T
    try:
        found = torch.linalg.solve(transposed @ design, transposed @ target)
    except RuntimeError:  # torch.linalg.LinAlgError, which has no type
        return [math.nan] * design.shape[1]
    return [float(v) for v in found.reshape(-1)]
