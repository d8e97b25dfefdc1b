"""A rule applied to the shadows of an operation's arguments, by the rule's kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from diffcheck.rules.registry import Array, Decisions, NumberNeeded, Rule, elements, elementwise, lift
from diffcheck.trace.deciding import Operands, Record


def prepared(rule: Rule, args: tuple[Any, ...], operands: Operands, record: Record) -> Callable[[Any], Any]:
    """What computes the shadows of an operation's results, given what its kernel returned.

    Args:
        rule: The operation's.
        args: Its arguments, as they are before it runs.
        operands: Their shadows.
        record: Records a condition that the rule relies on.
    """
    apply = _applied(rule, args, record)

    def shadows_of(result: Any) -> Any:
        try:
            return apply(result, operands.shadows, operands.options)
        except NumberNeeded:
            if not operands.can_be_decided:
                raise
            return apply(result, *operands.decided(record))

    return shadows_of


def _applied(
    rule: Rule, args: tuple[Any, ...], record: Record
) -> Callable[[Any, Sequence[Any], Mapping[str, Any]], Any]:
    match rule.kind:
        case "pointwise":
            signs = [] if rule.at_negative_zero is None else list(map(_negative_zeros, args))
            if any(sign.any() for sign in signs):
                return lambda _, shadows, __: _apply_with_signs(rule, signs, shadows)
            return lambda _, shadows, options: _apply_pointwise(rule, shadows, options)
        case "array":
            return lambda _, shadows, options: rule.apply(*shadows, **options)
        case "guarded":
            return lambda result, shadows, options: rule.apply(Decisions(args, result, record), *shadows, **options)


def _apply_pointwise(rule: Rule, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Array:
    kwargs = {k: v for k, v in kwargs.items() if k != "dtype"}
    spread = [a for a in args if isinstance(a, np.ndarray)]
    if all(a.ndim == 0 for a in spread):
        single = rule.apply(*(a.item() if isinstance(a, np.ndarray) else lift(a) for a in args), **kwargs)
        return elements((single,), ())
    shape = np.broadcast_shapes(*(a.shape for a in spread))
    columns = [np.broadcast_to(a, shape).flat if isinstance(a, np.ndarray) else None for a in args]
    fixed = [None if c is not None else lift(a) for a, c in zip(args, columns, strict=True)]
    size = int(np.prod(shape, dtype=int))
    return elements(
        (
            rule.apply(*(f if c is None else c[i] for c, f in zip(columns, fixed, strict=True)), **kwargs)
            for i in range(size)
        ),
        shape,
    )


def _negative_zeros(value: Any) -> Array:
    """Which elements of an argument are -0.0."""
    numbers = torch.as_tensor(value)
    found: Array = ((numbers == 0) & torch.signbit(numbers)).cpu().numpy()
    return found


def _apply_with_signs(rule: Rule, signs: Sequence[Array], args: Sequence[Any]) -> Array:
    function, count = rule.at_negative_zero, len(signs)
    assert function is not None
    return elementwise(lambda *both: function(both[:count], *both[count:]), *signs, *args)
