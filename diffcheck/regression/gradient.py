"""The loss of a pipeline as an ordinary case: a function of parameters, features and labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from diffcheck.regression.formulas import parameter_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffcheck.declare.case import Case
    from diffcheck.regression.declare import Regression


_MODERATE: Final = 16.0
"""Beyond that, terms of a residual that cancel leave few of its digits, and training would have diverged."""


def loss_case(
    declared: Regression, make_model: Callable[[Regression, torch.dtype], nn.Module], data: tuple[Tensor, Tensor]
) -> Case:
    """The case whose gradient training follows.

    Args:
        declared: The pipeline.
        make_model: Makes its network.
        data: Features and labels, for their shapes.
    """
    from diffcheck.declare.case import case

    nets = {dtype: make_model(declared, dtype) for dtype in (torch.float64, torch.float32)}
    # Not every network can be made in a half precision; each can be converted to it.
    nets |= {dtype: make_model(declared, torch.float32).to(dtype) for dtype in (torch.float16, torch.bfloat16)}
    net = nets[torch.float64]
    full = [name for name, p in net.named_parameters() if p.requires_grad]
    shapes = [tuple(p.shape) for p in net.parameters() if p.requires_grad]
    features, labels = data

    def loss(*args: Any) -> Any:
        trained = dict(zip(full, args, strict=False))
        x, y = args[len(full) :]
        return declared.loss(functional_call(nets[x.dtype], trained, (x,)), y)

    axes = {name: tuple(map(str, shape)) for name, shape in zip(parameter_names(net), shapes, strict=True)}
    axes |= {name: ("rows", *map(str, t.shape[1:])) for name, t in (("X", features), ("y", labels))}
    made = case(loss, inputs={name: Float[Tensor, " ".join(names)] for name, names in axes.items()}, name=declared.name)
    return replace(made, arguments=tuple(replace(a, lower=-_MODERATE, upper=_MODERATE) for a in made.arguments))
