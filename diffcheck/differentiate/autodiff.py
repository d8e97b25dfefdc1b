"""The modes in which PyTorch differentiates. Shares nothing with the oracle."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import jvp, vjp, vmap

from diffcheck import torch_internals
from diffcheck.errors import DiffcheckError

Function: TypeAlias = Callable[[Sequence[Tensor]], Any]
"""Takes the differentiated inputs."""
_OfTensors: TypeAlias = Callable[..., tuple[Tensor, ...]]
SeedsFor: TypeAlias = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Gives a cotangent (a tangent) for each of some tensors, of its shape and dtype."""


REENTRANT: Final = "use_reentrant=True"
"""What a checkpoint says that can't be asked for the gradients of certain inputs."""


def import_forward_mode() -> None:
    """Imports what PyTorch imports where forward mode is first used, which takes seconds.

    There an alarm may interrupt it, and half of a module fails whoever uses it next.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch scripts functions there, and warns of that
        torch_internals.find("torch._decomp.decompositions_for_jvp")


def outputs_of(result: Any) -> list[Tensor]:
    """The real and complex tensors that a function returned, in order."""
    if type(result) is Tensor:  # as most are: asking what it is an instance of costs as much as adding two of them
        return [result] if result.is_floating_point() or result.is_complex() else []
    parts = [result] if isinstance(result, Tensor) else torch_internals.tree_leaves(result)
    return [t for t in parts if isinstance(t, Tensor) and (t.is_floating_point() or t.is_complex())]


def materialized(tensor: Tensor) -> Tensor:
    """A tensor that has memory: PyTorch's zero tangents have none, and can't be read."""
    return torch.zeros_like(tensor) if torch_internals.is_without_memory(tensor) else tensor


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
    leaves = _recorded(inputs)
    outputs = outputs_of(function(leaves))
    cotangents = cotangents_for(outputs)
    try:
        return outputs, _gradients(outputs, leaves, cotangents)
    except RuntimeError as error:
        if REENTRANT not in str(error):
            raise
    # A reentrant checkpoint knows `.backward()` only. What went back so far has used up its part of the graph.
    again = outputs_of(function(leaves))
    for x in leaves:
        x.grad = None
    torch.autograd.backward(again, list(cotangents))
    return outputs, [x.grad for x in leaves]


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
    found = torch.autograd.grad(
        [y for y, _ in connected],
        list(inputs),
        [c for _, c in connected],
        allow_unused=True,
        create_graph=again,
        is_grads_batched=batched,
    )
    if any(d is None for d in found):
        _check_not_refused([y for y, _ in connected])
    return list(found)


def _check_not_refused(outputs: Sequence[Tensor]) -> None:
    """Raises what a Function says that may not be differentiated twice.

    `backward()` of it raises that; asked for the gradients of certain inputs, PyTorch says that there are none.
    """
    nodes: list[Any] = [y.grad_fn for y in outputs if y.grad_fn is not None]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if type(node).__name__ == "Error":
            node(outputs[0].detach())
        fresh = {n for n, _ in node.next_functions if n is not None} - seen
        seen |= fresh
        nodes += fresh


def forward(
    function: Function, inputs: Sequence[Tensor], tangents: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Forward mode: the outputs, and their tangents; None where PyTorch carried none."""
    with forward_ad.dual_level():
        return _moved(function, inputs, tangents)


def _moved(
    function: Function, inputs: Sequence[Tensor], tangents: Sequence[Tensor], missing: int | None = None
) -> tuple[list[Tensor], list[Tensor | None]]:
    def outputs_at(primals: Sequence[Tensor]) -> list[Tensor]:
        pairs = enumerate(zip(primals, tangents, strict=True))
        return outputs_of(function([x if i == missing else forward_ad.make_dual(x, t) for i, (x, t) in pairs]))

    try:
        outputs = outputs_at(inputs)
    except DiffcheckError:
        raise
    except Exception as error:  # noqa: BLE001 - a user's function may raise anything
        try:  # it may ask for gradients itself, which needs what people differentiate to require them
            outputs = outputs_at(_recorded(inputs))
        except Exception:  # noqa: BLE001 - see above
            raise error from None
    pairs = [forward_ad.unpack_dual(y) for y in outputs]
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


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives of derivatives
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reached:
    """What some differentiations, one after the other, have come to."""

    found: Sequence[Tensor | None]
    """What the last of them gave; None where PyTorch gave nothing. Before the first, the function's outputs."""
    like: Sequence[Tensor]
    """Tensors of the shapes and dtypes of what was found."""
    moving: Sequence[Tensor]
    """With respect to what is differentiated next: the inputs, then all cotangents and tangents so far."""


def nested(
    how: Sequence[str], function: Function, inputs: Sequence[Tensor], seeds_for: Sequence[SeedsFor]
) -> tuple[list[Tensor], list[Tensor]]:
    """A derivative of a derivative, and so on, asked of PyTorch as people ask for it.

    Reverse mode is `torch.autograd.grad`, with `create_graph`. Forward mode is dual numbers, over whatever backward
    passes are inside of it. Dual levels do not nest: where there are several forward modes, they and what is inside of
    the last one are `torch.func.jvp` and `torch.func.vjp` of each other.

    Args:
        how: `reverse` or `forward` for each differentiation, the innermost first.
        function: Takes the differentiated inputs.
        inputs: Tensors that do not require gradients yet; their memory is used as it is.
        seeds_for: For each differentiation. In reverse mode it gives a cotangent for everything
            that was found before; in forward mode a tangent for everything that moves: the inputs, then the cotangents
            and tangents of the differentiations inside. Tangents may be asked for one tensor after the other.

    Returns:
        The function's outputs, and what the outermost differentiation gives: in forward mode a tangent for everything
        that was found before, in reverse mode a cotangent for everything that moves. Zeros where PyTorch gave nothing.
    """
    last = max((i for i, step in enumerate(how) if step == "forward"), default=-1)
    several = how.count("forward") > 1
    start = last + 1 if several else 0  # from here on reverse mode is torch.autograd.grad
    again = ["reverse" in how[max(i, start) :] for i in range(len(how) + 1)]
    leaves = _recorded(inputs) if again[0] else inputs
    given = [_recording(seeds) if again[i + 1] else seeds for i, seeds in enumerate(seeds_for)]
    if several:
        outputs, reached = _functional(how[:start], function, leaves, given)
    elif last >= 0:
        outputs, reached = _dual(last, function, leaves, given, again)
    else:
        outputs = outputs_of(function(leaves))
        reached = _Reached(outputs, outputs, leaves)
    for i in range(last + 1, len(how)):
        reached = _pulled_back(reached, given[i](reached.like), again=again[i + 1])
    pairs = zip(reached.found, reached.like, strict=True)
    return outputs, [torch.zeros_like(x) if d is None else materialized(d) for d, x in pairs]


def _recorded(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t.requires_grad_() for t in tensors]


def _recording(seeds: SeedsFor) -> SeedsFor:
    """Cotangents or tangents that a later backward pass differentiates with respect to."""
    return lambda like: _recorded(seeds(like))


def _pulled_back(reached: _Reached, cotangents: Sequence[Tensor], *, again: bool) -> _Reached:
    found = _gradients(reached.found, reached.moving, cotangents, again=again)
    return _Reached(found, reached.moving, [*reached.moving, *cotangents])


def _dual(
    last: int, function: Function, leaves: Sequence[Tensor], seeds_for: Sequence[SeedsFor], again: Sequence[bool]
) -> tuple[list[Tensor], _Reached]:
    """Dual numbers over so many backward passes: everything that goes in has a tangent."""
    still: list[Tensor] = []
    tangents: list[Tensor] = []

    def moved(tensors: Sequence[Tensor]) -> list[Tensor]:
        along = seeds_for[last](tensors)
        still.extend(tensors)
        tangents.extend(along)
        return [forward_ad.make_dual(x, t) for x, t in zip(tensors, along, strict=True)]

    with forward_ad.dual_level():
        moving = moved(leaves)
        outputs = outputs_of(function(moving))
        reached = _Reached(outputs, outputs, moving)
        for i in range(last):
            reached = _pulled_back(reached, moved(seeds_for[i](reached.like)), again=again[i + 1])
        found = [None if y is None else forward_ad.unpack_dual(y).tangent for y in reached.found]
        like = [forward_ad.unpack_dual(y).primal for y in reached.like]
        return [forward_ad.unpack_dual(y).primal for y in outputs], _Reached(found, like, [*still, *tangents])


def _functional(
    how: Sequence[str],
    function: Function,
    inputs: Sequence[Tensor],
    seeds_for: Sequence[SeedsFor],
    over: Callable[[_OfTensors], _OfTensors] = lambda f: f,
) -> tuple[list[Tensor], _Reached]:
    """`torch.func.jvp` and `torch.func.vjp`, of each other; of all of it `over` is taken, which may be `vmap`."""

    def value(*primals: Tensor) -> tuple[Tensor, ...]:
        return tuple(outputs_of(function(primals)))

    outputs = list(over(value)(*inputs))
    like, moving, current = outputs, [*inputs], value
    for step, seeds in zip(how, seeds_for, strict=False):
        given = seeds(moving if step == "forward" else like)
        current = _differentiated(step, current, len(moving))
        like = like if step == "forward" else moving
        moving = [*moving, *given]
    return outputs, _Reached(over(current)(*moving), like, moving)


def _differentiated(how: str, function: _OfTensors, count: int) -> _OfTensors:
    """A function of so many tensors as one of these and of what it is differentiated with."""

    def derivative(*both: Tensor) -> tuple[Tensor, ...]:
        if how == "forward":
            moved: tuple[Tensor, ...] = jvp(function, both[:count], both[count:])[1]
            return moved
        found: tuple[Tensor, ...] = vjp(function, *both[:count])[1](both[count:])
        return found

    return derivative


# ---------------------------------------------------------------------------------------------------------------------
# Several inputs at once
# ---------------------------------------------------------------------------------------------------------------------


def each_under_vmap(
    how: Sequence[str], function: Function, inputs: Sequence[Tensor], seeds_for: Sequence[SeedsFor]
) -> tuple[list[Tensor], list[Tensor]]:
    """`torch.func.vmap` of a derivative, which is `torch.func.vjp` and `torch.func.jvp`, of any order.

    Args:
        how: `reverse` or `forward` for each differentiation, the innermost first.
        function: Takes the differentiated inputs.
        inputs: Tensors that do not require gradients, each with a first axis along which they are several.
        seeds_for: As for `nested`, with that axis.

    Returns:
        The outputs and the derivatives at several inputs, with that axis, in the order of the mode without vmap.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        outputs, reached = _functional(how, function, inputs, seeds_for, vmap)
        return outputs, [d for d in reached.found if d is not None]


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

    batched: tuple[Tensor, ...] = torch_internals.get("torch._vmap_internals._vmap")(along)(*tangents)
    return batched


def forward_without(
    function: Function, inputs: Sequence[Tensor], tangents: Sequence[Tensor], missing: int
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Forward mode with an input, by position, that has no tangent at all."""
    with forward_ad.dual_level():
        return _moved(function, inputs, tangents, missing)
