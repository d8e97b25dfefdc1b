"""The modes in which PyTorch differentiates. Shares nothing with the oracle."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._vmap_internals import _vmap
from torch.autograd import forward_ad
from torch.func import jvp, vjp, vmap
from torch.utils._pytree import tree_flatten

Function: TypeAlias = Callable[[Sequence[Tensor]], Any]
"""Takes the differentiated inputs."""
SeedsFor: TypeAlias = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Gives a cotangent (a tangent) for each of some tensors, of its shape and dtype."""


def import_forward_mode() -> None:
    """Imports what PyTorch imports where forward mode is first used, which takes seconds.

    There an alarm may interrupt it, and half of a module fails whoever uses it next.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch scripts functions there, and warns of that
        from torch._decomp import decompositions_for_jvp  # noqa: F401 - so that PyTorch has it


def outputs_of(result: Any) -> list[Tensor]:
    """The real and complex tensors that a function returned, in order."""
    if type(result) is Tensor:  # as most are: asking what it is an instance of costs as much as adding two of them
        return [result] if result.is_floating_point() or result.is_complex() else []
    parts = [result] if isinstance(result, Tensor) else tree_flatten(result)[0]
    return [t for t in parts if isinstance(t, Tensor) and (t.is_floating_point() or t.is_complex())]


def materialized(tensor: Tensor) -> Tensor:
    """A tensor that has memory: PyTorch's zero tangents have none, and can't be read."""
    return torch.zeros_like(tensor) if tensor._is_zerotensor() else tensor


def reverse(
    function: Function,
    inputs: Sequence[Tensor],
    cotangents_for: SeedsFor,
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
    return outputs, _gradients(outputs, leaves, cotangents_for(outputs))


def _gradients(
    outputs: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    *,
    again: bool = False,
    batched: bool = False,
) -> list[Tensor | None]:
    """One backward pass, from the outputs that autograd has connected to anything.

    `again` if another is to follow, `batched` if every cotangent stands for several, along its first axis.
    """
    connected = [
        (y, c) for y, c in zip(outputs, cotangents, strict=True) if y is not None and (y.requires_grad or y.grad_fn)
    ]
    if not connected:
        return [None] * len(inputs)
    return list(
        torch.autograd.grad(
            [y for y, _ in connected],
            list(inputs),
            [c for _, c in connected],
            allow_unused=True,
            create_graph=again,
            is_grads_batched=batched,
        )
    )


def forward(
    function: Function, inputs: Sequence[Tensor], tangents: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Forward mode: the outputs, and their tangents; None where PyTorch carried none."""
    with forward_ad.dual_level():
        return _moved(function, inputs, tangents)


def _moved(
    function: Function, inputs: Sequence[Tensor], tangents: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor | None]]:
    duals = [forward_ad.make_dual(x, t) for x, t in zip(inputs, tangents, strict=True)]
    pairs = [forward_ad.unpack_dual(y) for y in outputs_of(function(duals))]
    return [p.primal for p in pairs], [p.tangent for p in pairs]


@dataclass(frozen=True, slots=True)
class Several:
    """Cotangents or tangents of several calls."""

    blocks: tuple[Tensor, ...]
    """One for each that a call is given, with the calls along a first axis."""
    apart: Mapping[int, Sequence[Tensor]]
    """By call, tensors with the same entries that lie in memory in another way; they stand for its own."""

    def each(self, calls: int) -> list[Sequence[Tensor]]:
        """By call, its own."""
        rows: list[Sequence[Tensor]] = [*zip(*(block.unbind() for block in self.blocks), strict=True)]
        return [self.apart.get(i, rows[i] if rows else ()) for i in range(calls)]


def handed_out(seeds: Sequence[Tensor]) -> SeedsFor:
    """Gives the tensors in turn, as many as are asked for."""
    left = iter(seeds)
    return lambda like: [next(left) for _ in like]


Calls: TypeAlias = Sequence[tuple[Function, Sequence[Tensor]]]
"""Functions and inputs, as `reverse` and `forward` are given."""


def reverse_each(calls: Calls, cotangents: Several) -> list[tuple[list[Tensor], list[Tensor | None]]]:
    """Reverse mode at several inputs, each with a call of its own; one run of the engine does all backward passes.

    PyTorch looks at each pair of an output and its cotangent in Python, which takes as long as a small backward pass.
    So outputs are stacked, and have one cotangent: what the functions' backward passes are given are its rows.

    Args:
        calls: What `reverse` is given, for every input.
        cotangents: Those of the outputs, of which every call has as many.

    Returns:
        What `reverse` returns, for every input.
    """
    leaves = [[x.requires_grad_() for x in inputs] for _, inputs in calls]
    outputs = [outputs_of(function(own)) for (function, _), own in zip(calls, leaves, strict=True)]
    together = [i for i in range(len(calls)) if i not in cotangents.apart]
    columns = zip(*(outputs[i] for i in together), strict=True)
    roots: list[Tensor] = []
    seeds: list[Tensor] = []
    for column, block in zip(columns, cotangents.blocks if together else (), strict=True):
        if len(column) > 1 and all(y.requires_grad for y in column):
            roots.append(torch.stack(column))
            seeds.append(block[together] if cotangents.apart else block)
        else:
            roots.extend(column)
            seeds.extend(block[i] for i in together)
    for i, own in cotangents.apart.items():
        roots.extend(outputs[i])
        seeds.extend(own)
    found = iter(_gradients(roots, [x for own in leaves for x in own], seeds))
    return [(ys, [next(found) for _ in xs]) for ys, xs in zip(outputs, leaves, strict=True)]


def forward_each(calls: Calls, tangents: Several) -> list[tuple[list[Tensor], list[Tensor | None]]]:
    """Forward mode at several inputs, each with a call of its own, at one dual level; as `reverse_each`."""
    with forward_ad.dual_level():
        each = zip(calls, tangents.each(len(calls)), strict=True)
        return [_moved(function, inputs, own) for (function, inputs), own in each]


def accumulate(
    first: Function,
    second: Function,
    inputs: Sequence[Tensor],
    cotangents_for: SeedsFor,
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


def reverse_over_reverse(
    function: Function, inputs: Sequence[Tensor], cotangents_for: SeedsFor, seconds_for: SeedsFor
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Double backward: the outputs, and the cotangents of the inputs and of the first cotangents.

    Args:
        function: Takes the differentiated inputs.
        inputs: As for `reverse`.
        cotangents_for: Gives one cotangent per output.
        seconds_for: Gives one cotangent per gradient of the first backward pass.
    """
    leaves = [x.requires_grad_() for x in inputs]
    outputs = outputs_of(function(leaves))
    cotangents = [c.requires_grad_() for c in cotangents_for(outputs)]
    gradients = _gradients(outputs, leaves, cotangents, again=True)
    return outputs, _gradients(gradients, [*leaves, *cotangents], seconds_for(leaves))


def forward_over_reverse(
    function: Function, inputs: Sequence[Tensor], cotangents_for: SeedsFor, seconds_for: SeedsFor
) -> tuple[list[Tensor], list[Tensor | None]]:
    """The tangents of the gradients along tangents of the inputs and of the cotangents (a Hessian-vector product).

    Args:
        function: Takes the differentiated inputs.
        inputs: As for `reverse`.
        cotangents_for: Gives one cotangent per output.
        seconds_for: Gives one tangent per tensor, first for the inputs, then for the cotangents.
    """
    leaves = [x.requires_grad_() for x in inputs]
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(leaves, seconds_for(leaves), strict=True)]
        outputs = outputs_of(function(duals))
        cotangents = cotangents_for(outputs)
        moving = [forward_ad.make_dual(c, t) for c, t in zip(cotangents, seconds_for(cotangents), strict=True)]
        gradients = _gradients(outputs, duals, moving)
        tangents = [None if g is None else forward_ad.unpack_dual(g).tangent for g in gradients]
        return [forward_ad.unpack_dual(y).primal for y in outputs], tangents


def reverse_over_forward(
    function: Function, inputs: Sequence[Tensor], tangents_for: SeedsFor, seconds_for: SeedsFor
) -> tuple[list[Tensor], list[Tensor | None]]:
    """The backward pass of forward mode: the outputs, and the cotangents of the inputs and of their tangents.

    Args:
        function: Takes the differentiated inputs.
        inputs: As for `reverse`.
        tangents_for: Gives one tangent per input.
        seconds_for: Gives one cotangent per tangent of an output.
    """
    leaves = [x.requires_grad_() for x in inputs]
    tangents = [t.requires_grad_() for t in tangents_for(leaves)]
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(leaves, tangents, strict=True)]
        pairs = [forward_ad.unpack_dual(y) for y in outputs_of(function(duals))]
        outputs = [p.primal for p in pairs]
        return outputs, _gradients([p.tangent for p in pairs], [*leaves, *tangents], seconds_for(outputs))


def forward_over_forward(
    function: Function, inputs: Sequence[Tensor], tangents_for: SeedsFor, seconds_for: SeedsFor
) -> tuple[list[Tensor], list[Tensor | None]]:
    """`torch.func.jvp` of `torch.func.jvp` (dual levels do not nest): the outputs, and the second tangents.

    Args:
        function: Takes the differentiated inputs.
        inputs: Tensors that do not require gradients.
        tangents_for: Gives one tangent per input.
        seconds_for: Gives one tangent per tensor, first for the inputs, then for their tangents.
    """
    count = len(inputs)
    tangents = tuple(tangents_for(inputs))

    def value(*primals: Tensor) -> tuple[Tensor, ...]:
        return tuple(outputs_of(function(primals)))

    def tangent(*both: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        outputs, moved = jvp(value, both[:count], both[count:])[:2]
        return moved, outputs

    moving = (*inputs, *tangents)
    seconds_of: Any = jvp  # with `has_aux` it returns three things, which its annotation does not say
    _, seconds, outputs = seconds_of(tangent, moving, (*seconds_for(inputs), *seconds_for(tangents)), has_aux=True)
    return list(outputs), list(seconds)


# ---------------------------------------------------------------------------------------------------------------------
# Several inputs at once
# ---------------------------------------------------------------------------------------------------------------------


def each_under_vmap(
    mode: str, function: Function, inputs: Sequence[Tensor], firsts_for: SeedsFor, seconds_for: SeedsFor
) -> tuple[list[Tensor], list[Tensor]]:
    """`torch.func.vmap` of a derivative: the outputs and the derivatives at several inputs.

    Args:
        mode: `reverse`, `forward`, or one of `SECOND_ORDER`: `torch.func.vjp` and `torch.func.jvp`, one of the other.
        function: Takes the differentiated inputs.
        inputs: Tensors that do not require gradients, each with a first axis along which they are several.
        firsts_for: Gives a cotangent per output, or a tangent per input, with that axis.
        seconds_for: Gives what the derivative is differentiated with, with that axis; see `SECOND_ORDER`.

    Returns:
        Tensors with that axis, in the order of the mode without vmap.
    """
    outer, _, inner = mode.rpartition("-over-")
    count = len(inputs)

    def value(*primals: Tensor) -> tuple[Tensor, ...]:
        return tuple(outputs_of(function(primals)))

    def first(*both: Tensor) -> tuple[Tensor, ...]:
        return _differentiated(inner, value, both[:count], both[count:])

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        outputs = vmap(value)(*inputs)
        firsts = firsts_for(inputs if inner == "forward" else outputs)
        moving = (*inputs, *firsts)
        if not outer:
            return list(outputs), list(vmap(first)(*moving))
        if outer == "forward":
            seconds = [*seconds_for(inputs), *seconds_for(firsts)]
        else:
            seconds = [*seconds_for(outputs if inner == "forward" else inputs)]

        def second(*all_three: Tensor) -> tuple[Tensor, ...]:
            return _differentiated(outer, first, all_three[: len(moving)], all_three[len(moving) :])

        return list(outputs), list(vmap(second)(*moving, *seconds))


def _differentiated(
    how: str, function: Callable[..., tuple[Tensor, ...]], primals: tuple[Tensor, ...], seeds: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    if how == "forward":
        moved: tuple[Tensor, ...] = jvp(function, primals, seeds)[1]
        return moved
    found: tuple[Tensor, ...] = vjp(function, *primals)[1](seeds)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# What autograd asks of a derivative besides its numbers
# ---------------------------------------------------------------------------------------------------------------------


class _Undefined(torch.autograd.Function):
    """The identity, with a backward pass that gives no gradient at all: not even zeros."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, _grad: Tensor) -> Any:
        return None


def before_backward(
    mode: str, function: Function, inputs: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> tuple[list[Tensor | None], list[Tensor]]:
    """What a last backward pass goes from and to: outputs and inputs, or gradients and what they depend on.

    Args:
        mode: `reverse` or `reverse-over-reverse`.
        function: Takes the differentiated inputs.
        inputs: As for `reverse`.
        cotangents: Of the outputs; in first order they are left to the last pass.
    """
    leaves = [x.requires_grad_() for x in inputs]
    outputs = outputs_of(function(leaves))
    if mode == "reverse":
        return [*outputs], leaves
    firsts = [c.requires_grad_() for c in cotangents]
    return _gradients(outputs, leaves, firsts, again=True), [*leaves, *firsts]


def backward_without(
    sources: Sequence[Tensor | None], leaves: Sequence[Tensor], cotangents: Sequence[Tensor], missing: frozenset[int]
) -> list[Tensor | None]:
    """A backward pass in which some sources, by position, have an undefined gradient."""
    cut_off: Any = _Undefined.apply  # PyTorch's Functions are untyped
    cut = [cut_off(y) if i in missing and y is not None and y.requires_grad else y for i, y in enumerate(sources)]
    return _gradients(cut, leaves, cotangents)


def backward_under_vmap(
    sources: Sequence[Tensor | None], leaves: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> list[Tensor | None]:
    """Several backward passes at once: every cotangent has them along its first axis, as the gradients then have."""
    return _gradients(sources, leaves, cotangents, batched=True)


def forward_under_vmap(function: Function, inputs: Sequence[Tensor], tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Forward mode along several tangents at once, which stand along the first axis of each.

    By the vmap that `torch.autograd.functional.jacobian(..., vectorize=True)` uses: `torch.vmap` has no dual numbers
    outside of `torch.func`.
    """

    def along(*each: Tensor) -> tuple[Tensor, ...]:
        outputs, found = forward(function, inputs, each)
        return tuple(torch.zeros_like(y) if t is None else t for y, t in zip(outputs, found, strict=True))

    batched: tuple[Tensor, ...] = _vmap(along)(*tangents)
    return batched


def forward_without(
    function: Function, inputs: Sequence[Tensor], tangents: Sequence[Tensor], missing: int
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Forward mode with an input, by position, that has no tangent at all."""
    with forward_ad.dual_level():
        duals = [
            x if i == missing else forward_ad.make_dual(x, t)
            for i, (x, t) in enumerate(zip(inputs, tangents, strict=True))
        ]
        pairs = [forward_ad.unpack_dual(y) for y in outputs_of(function(duals))]
        return [p.primal for p in pairs], [p.tangent for p in pairs]


SECOND_ORDER: dict[
    str, Callable[[Function, Sequence[Tensor], SeedsFor, SeedsFor], tuple[list[Tensor], list[Tensor | None]]]
] = {
    "reverse-over-reverse": reverse_over_reverse,
    "forward-over-reverse": forward_over_reverse,
    "reverse-over-forward": reverse_over_forward,
    "forward-over-forward": forward_over_forward,
}
"""By name: what differentiates a derivative, over what gave it."""
