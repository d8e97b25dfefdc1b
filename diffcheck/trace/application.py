"""A rule applied to the shadows of an operation's arguments, by the rule's kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from diffcheck.algebra.expr import Expr
from diffcheck.rules.registry import Array, Decisions, Rule, elements, elementwise, lift


def prepared(
    rule: Rule,
    args: tuple[Any, ...],
    shadows: Sequence[Any],
    options: dict[str, Any],
    record: Callable[[Expr, bool], None],
) -> Callable[[Any], Any]:
    """What computes the shadows of an operation's results, given what its kernel returned.

    Args:
        rule: The operation's.
        args: Its arguments, as they are before it runs.
        shadows: The same with their tensors replaced by their shadows.
        options: Its keyword arguments, in the same way.
        record: Records a condition that the rule relies on.
    """
    match rule.kind:
        case "pointwise":
            signs = [] if rule.at_negative_zero is None else list(map(_negative_zeros, args))
            if any(sign.any() for sign in signs):
                return lambda _: _apply_with_signs(rule, signs, shadows)
            return lambda _: _apply_pointwise(rule, shadows, options)
        case "array":
            return lambda _: rule.apply(*shadows, **options)
        case "guarded":
            return lambda result: rule.apply(Decisions(args, result, record), *shadows, **options)


def _apply_pointwise(rule: Rule, args: Sequence[Any], kwargs: dict[str, Any]) -> Array:
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
