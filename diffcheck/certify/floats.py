"""The functions of the table on NumPy's floats."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from diffcheck.algebra.functions import FUNCTIONS

Floats: TypeAlias = npt.NDArray[np.float64]


def _each(function: Callable[[float], float], x: Floats) -> Floats:
    """A function of numbers, on an array."""
    return np.array(list(map(function, x.ravel().tolist())), dtype=x.dtype).reshape(x.shape)


@cache
def in_numpy(name: str) -> Callable[[Any], Any] | None:
    """What NumPy or the standard library computes of a function of the table; None where neither has it."""
    source = FUNCTIONS[name].floats if name in FUNCTIONS else ""
    if not source:
        return None
    names = {"np": np, "math": math, "each": _each}
    function: Callable[[Any], Any] = eval(f"lambda x: {source.format('x')}", names)  # noqa: S307 - the table's own text
    return function
