"""Examples of special functions, and of operations that draw random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F

from tests.rules.arguments import Example, p, q, r

aten = torch.ops.aten

FUNCTIONS: Final[dict[str, Example]] = {
    "i0": (torch.special.i0, r(4)),
    "i0e": (torch.special.i0e, r(4)),
    "i1": (torch.special.i1, r(4)),
    "i1e": (torch.special.i1e, r(4)),
    "erfcx": (torch.special.erfcx, r(4)),
    "ndtri": (torch.special.ndtri, q(4)),
    "log_ndtr": (torch.special.log_ndtr, r(4)),
    "angle": (torch.angle, r(4)),
}


def _seeded(function: Callable[..., Any]) -> Callable[..., Any]:
    def apply(*args: Any) -> Any:
        torch.manual_seed(0)
        return function(*args)

    return apply


DRAWS: Final[dict[str, Example]] = {
    "bernoulli": (_seeded(lambda x: torch.bernoulli(x) * x), q(5)),
    "normal": (_seeded(lambda m, s: torch.normal(m, s) * m), r(4), p(4)),
    "dropout": (_seeded(lambda x: torch.native_dropout(x, 0.3, True)), r(5)),
    "dropout at rest": (lambda x: torch.native_dropout(x, 0.3, False), r(5)),
    "rrelu": (_seeded(lambda x: F.rrelu(x, training=True)), r(5)),
    "rrelu at rest": (lambda x: F.rrelu(x, 0.1, 0.3), r(5)),
}

SPECIAL: Final[dict[str, Example]] = {**FUNCTIONS, **DRAWS}
