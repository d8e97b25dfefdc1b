"""The modes in which PyTorch differentiates. Shares nothing with the oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._pytree import tree_flatten


def outputs_of(result: Any) -> list[Tensor]:
    """The floating-point tensors that a function returned, in order."""
    return [t for t in tree_flatten(result)[0] if isinstance(t, Tensor) and t.dtype.is_floating_point]


def reverse(
    function: Callable[[Sequence[Tensor]], Any],
    inputs: Sequence[Tensor],
    cotangents_for: Callable[[Sequence[Tensor]], Sequence[Tensor]],
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Reverse mode: the outputs, and the cotangents of the inputs.

    Args:
        function: Takes the differentiated inputs.
        inputs: Tensors that do not require gradients yet; their memory is used as it is.
        cotangents_for: Gives one cotangent per output, of its shape and dtype.

    Returns:
        The outputs, and a gradient per input; None where autograd returned none.
    """
    leaves = [x.requires_grad_() for x in inputs]
    outputs = outputs_of(function(leaves))
    cotangents = cotangents_for(outputs)
    connected = [(y, c) for y, c in zip(outputs, cotangents, strict=True) if y.requires_grad]
    if not connected:
        return outputs, [None] * len(leaves)
    gradients = torch.autograd.grad([y for y, _ in connected], leaves, [c for _, c in connected], allow_unused=True)
    return outputs, list(gradients)


def forward(
    function: Callable[[Sequence[Tensor]], Any], inputs: Sequence[Tensor], tangents: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Forward mode: the outputs, and their tangents; None where PyTorch carried none."""
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(inputs, tangents, strict=True)]
        pairs = [forward_ad.unpack_dual(y) for y in outputs_of(function(duals))]
    return [p.primal for p in pairs], [p.tangent for p in pairs]


def accumulate(
    first: Callable[[Sequence[Tensor]], Any],
    second: Callable[[Sequence[Tensor]], Any],
    inputs: Sequence[Tensor],
    cotangents_for: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    *,
    clear: bool,
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Two backward passes into the same `.grad`, cleared in between or not: both functions' outputs, and `.grad`."""
    leaves = [x.requires_grad_() for x in inputs]
    earlier = outputs_of(first(leaves))
    outputs = outputs_of(second(leaves))
    cotangents = cotangents_for([*earlier, *outputs])
    torch.autograd.backward(earlier, list(cotangents[: len(earlier)]))
    if clear:
        for x in leaves:
            if x.grad is not None:
                x.grad.zero_()
    torch.autograd.backward(outputs, list(cotangents[len(earlier) :]))
    return [*earlier, *outputs], [x.grad for x in leaves]
