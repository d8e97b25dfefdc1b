"""Ties of orders: inputs at which the path that was taken ends, and others begin.

A sort, a median, or an `if` follows one order, and what a trace says holds for that order. Where elements tie, other
orders are next to it, with other derivatives, and the input is a kink of the function. PyTorch may share the gradient
among the elements that tie, which is none of the orders' gradients and lies between them. So what the path's own
derivative does not explain at such an input is held to those of all paths that end there: each is traced once, at an
input a little beside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from torch import Tensor

from diffcheck.certify.balls import Selections
from diffcheck.certify.cells import Direction, Function
from diffcheck.certify.certifier import Certifier, holds_near
from diffcheck.certify.compiler import Program
from diffcheck.certify.enclosure import EXECUTED_BITS
from diffcheck.certify.judgement import Judgement
from diffcheck.differentiate.batch import Input, flat

_BESIDE: Final = 2.0**-7
"""How far beside a tie another path is traced, relative to the square root of what the format tells from 1."""


def leave_out_of_range(
    judgement: Judgement, computed: Sequence[float], function: Function, values: Callable[[], Sequence[float]]
) -> None:
    """Takes numbers out of the judgement that are derivatives of what is infinite or NaN in PyTorch itself.

    What is finite and right stays: nothing was in its way.

    Args:
        judgement: What is left out is counted there.
        computed: What was judged.
        function: What was differentiated.
        values: Gives its values, as PyTorch computes them.
    """
    infinite = {i for i, number in enumerate(computed) if not math.isfinite(number)}
    doubtful = (infinite | judgement.failures.keys() | judgement.blind) - judgement.left_out
    if not doubtful:
        return
    found = values()[-len(function.outputs) :] if function.outputs else []
    if len(found) < len(function.outputs):
        return
    for number in doubtful:
        if not all(math.isfinite(found[k]) for k in function.outputs_of(number)):
            judgement.failures.pop(number, None)
            judgement.blind.discard(number)
            judgement.out_of_range.add(number)


def is_tied(guards: Program, entries: Sequence[float]) -> bool:
    """Whether an input is at the boundary of a condition that its path relied on."""
    from flint import arb

    selections = Selections()
    guards(list(map(arb, entries)), EXECUTED_BITS, selections)
    return bool(selections.boundary or selections.undecided)


def beside(given: Input, names: Sequence[str], direction: Direction, bits: int) -> Input:
    """An input a little to one side of another one."""
    size = max([1.0, *map(abs, given.entries)])
    step = _BESIDE * 2.0 ** (-bits / 2) * size
    values: dict[str, Tensor] = dict(given.values)
    start = 0
    for name in names:
        tensor = values[name]
        count = tensor.numel() * (2 if tensor.is_complex() else 1)
        moves = tensor.new_tensor(direction[start : start + count], dtype=tensor.real.dtype)
        start += count
        if tensor.is_complex():
            import torch

            moved = torch.view_as_complex(moves.reshape(*tensor.shape, 2).contiguous())
        else:
            moved = moves.reshape(tensor.shape)
        values[name] = tensor + moved * step
    return Input(given.drawn, values, flat([values[name] for name in names]))


Paths = Callable[[Direction], Certifier | None]


def paths_towards(
    known: Callable[[], Sequence[tuple[Program, Sequence[bool], Certifier]]],
    traced: Callable[[Direction], tuple[Program, Sequence[bool], Certifier] | None],
    here: Certifier,
    point: Sequence[float],
    inputs: int,
) -> Paths:
    """From a direction to the certifier of the path that lies there; None where it was not met.

    Args:
        known: The paths that have been traced: guards, what they came to, and the certifier.
        traced: Traces the path at an input beside.
        here: The certifier of the path that was taken.
        point: The values of the variables.
        inputs: How many of them are inputs.
    """

    def towards(direction: Direction) -> Certifier | None:
        near, precision = here.near(point, direction)
        for guards, expected, certifier in known():
            if holds_near(guards, expected, near[:inputs], precision):
                return certifier
        found = traced(direction)
        if found is not None and holds_near(found[0], found[1], near[:inputs], precision):
            return found[2]
        return None

    return towards
