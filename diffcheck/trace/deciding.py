"""Whole numbers and truth values that are computed from the inputs, decided where a number is needed.

They are constant on regions of the inputs: `floor(x)` is 2 from 2 to 3. A rule that needs the number (an index, a
count) is given the one that PyTorch had, and the condition under which it stays the same goes on the record: the trace
then serves the inputs of that region, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr
from diffcheck.rules.registry import Array, elements, in_numpy

Record = Callable[[Expr, bool], None]


def is_discrete(tensor: Tensor) -> bool:
    """Whether a tensor holds whole numbers or truth values."""
    return not (tensor.is_floating_point() or tensor.is_complex())


def decided(shadow: Array, values: Any, record: Record) -> Array:
    """A shadow of discrete values as constants: the (real) values, each relied on."""
    truths = values.dtype == bool
    found = []
    for node, value in zip(shadow.flat, values.reshape(-1).tolist(), strict=True):
        known = graph.constant(int(value))
        if not graph.is_constant(node):
            record(node if truths else graph.equal(node, known), bool(value) if truths else True)
        found.append(known)
    return elements(found, shadow.shape)


@dataclass(frozen=True, slots=True)
class Operands:
    """The shadows of an operation's arguments, and the values of those among them that can be decided."""

    shadows: Sequence[Any]
    options: Mapping[str, Any]
    values: Sequence[Any]
    """By argument, as `shadows` nests them: what PyTorch had before it ran; None where nothing can be decided."""
    option_values: Mapping[str, Any]

    @classmethod
    def of(
        cls, args: Sequence[Any], shadows: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Self:
        """Of real arguments and their shadows."""
        return cls(
            shadows,
            options,
            [_values(a, s) for a, s in zip(args, shadows, strict=True)],
            {name: _values(kwargs[name], shadow) for name, shadow in options.items()},
        )

    @property
    def can_be_decided(self) -> bool:
        """Whether something depends on the inputs through whole numbers or truth values."""
        return any(map(_holds_one, [*self.values, *self.option_values.values()]))

    def decided(self, record: Record) -> tuple[list[Any], dict[str, Any]]:
        """The shadows with all discrete ones decided."""
        return (
            [_decided(s, v, record) for s, v in zip(self.shadows, self.values, strict=True)],
            {name: _decided(shadow, self.option_values[name], record) for name, shadow in self.options.items()},
        )


def _values(real: Any, shadow: Any) -> Any:
    if isinstance(real, Tensor):
        open_ones = is_discrete(real) and not all(map(graph.is_constant, shadow.flat))
        return in_numpy(real).copy() if open_ones else None
    if isinstance(real, (list, tuple)):
        return [_values(part, its) for part, its in zip(real, shadow, strict=True)]
    return None


def _holds_one(values: Any) -> bool:
    return any(map(_holds_one, values)) if isinstance(values, list) else values is not None


def _decided(shadow: Any, values: Any, record: Record) -> Any:
    if isinstance(values, list):
        return [_decided(s, v, record) for s, v in zip(shadow, values, strict=True)]
    return shadow if values is None else decided(shadow, values, record)


def rely_on(tensor: Tensor, shadow: Array, record: Record) -> None:
    """Relies on a tensor having the values that it has: Python has been told them."""
    values = tensor.detach()
    if values.dtype == torch.bool:
        decided(shadow, in_numpy(values), record)
        return
    for node, value in zip(shadow.flat, values.reshape(-1).tolist(), strict=True):
        record(graph.equal(node, graph.constant(value)), True)  # noqa: FBT003 - see `Decisions.record`
