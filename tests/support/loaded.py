"""The project's own cases, and a few more functions that PyTorch surely differentiates rightly."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Gt, Interval
from jaxtyping import Float
from torch import Tensor

from diffcheck import case
from diffcheck.declare.case import Case

FOLDER = Path(__file__).parents[2] / "cases"


def _module(path: Path) -> ModuleType:
    name = f"diffcheck_cases_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@cache
def cases() -> dict[str, Case]:
    """Every case of `cases/`, by name."""
    found: dict[str, Case] = {}
    for path in sorted(FOLDER.glob("*.py")):
        for value in vars(_module(path)).values():
            if isinstance(value, Case):
                found[value.name] = value
    return found


def real(shape: str) -> Any:
    return Float[Tensor, shape]


def _declared(function: Callable[..., Any], *shapes: str, **inputs: Any) -> Case:
    annotations = dict(zip("xyz", map(real, shapes), strict=False)) | inputs
    made: Case = case(function, inputs=annotations)
    return made


@cache
def gallery() -> dict[str, Case]:
    """Functions whose derivatives are PyTorch's own, at inputs that keep them well-conditioned."""
    positive = Annotated[Float[Tensor, "n"], Gt(0)]
    moderate = Annotated[Float[Tensor, "n"], Interval(ge=-8, le=8)]
    unit = Annotated[Float[Tensor, "n"], Interval(ge=-0.9, le=0.9)]
    return {
        "dot": _declared(lambda x, y: x @ y, "n", "n"),
        "matrix product": _declared(lambda x, y: x @ y, "n m", "m k"),
        "sum of squares": _declared(lambda x: (x * x).sum(), "n m"),
        "mean": _declared(lambda x: (x * x * x).mean(0), "n m"),
        "variance": _declared(lambda x: x.var(0, correction=0), "n m"),
        "quotient": _declared(lambda x, y: x / (y * y + 1), "n", "n"),
        "product": _declared(lambda x: x.prod(), "n"),
        "cumulative sum": _declared(lambda x: x.cumsum(0) * x, "n"),
        "power": _declared(lambda x: x**1.5, x=positive),
        "square root": _declared(lambda x: x.sqrt() * x, x=positive),
        "logarithm": _declared(lambda x: x.log() / x, x=positive),
        "norm": _declared(lambda x: x.norm(), x=positive),
        "exponential": _declared(lambda x: torch.exp(x) * x, x=moderate),
        "sine": _declared(lambda x: torch.sin(x) * torch.cos(2 * x), x=moderate),
        "tanh": _declared(lambda x: torch.tanh(x) + x, x=moderate),
        "sigmoid": _declared(lambda x: torch.sigmoid(x) * x, x=moderate),
        "arctangent": _declared(torch.atan2, "n", y=positive),
        "arcsine": _declared(torch.asin, x=unit),
        "relu": _declared(lambda x, y: torch.relu(x) * y, "n", "n"),
        "leaky relu": _declared(lambda x: F.leaky_relu(x, 0.1) * x, "n"),
        "maximum": _declared(lambda x, y: torch.maximum(x, y) * x, "n", "n"),
        "absolute": _declared(lambda x: x.abs() * x, "n"),
        "where": _declared(lambda x, y: torch.where(x > 1, x * y, y), "n", "n"),
        "clamp": _declared(lambda x: x.clamp(-1, 1) * x, "n"),
        "silu": _declared(F.silu, x=moderate),
        "elu": _declared(F.elu, x=moderate),
        "softmax": _declared(lambda x: torch.softmax(x, 0), x=moderate),
        "log-softmax": _declared(lambda x: torch.log_softmax(x, 0), x=moderate),
        "linear": _declared(F.linear, "n m", "k m", "k"),
        "squared error": _declared(F.mse_loss, "n", "n"),
        "transposed": _declared(lambda x, y: (x.T * y).sum(0), "n m", "m n"),
        "indexed": _declared(lambda x: x[0] * x[-1], "n m"),
        "outer": _declared(torch.outer, "n", "m"),
        "in place": _declared(lambda x: x.clone().mul_(2).add_(x), "n"),
    }  # fmt: skip
