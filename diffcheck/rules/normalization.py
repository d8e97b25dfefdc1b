"""Rules of softmax and of the layers that standardise: layer, group and batch normalization; attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import ONE, ZERO, Expr, call, computed_as, constant, total
from diffcheck.rules.pointwise import largest
from diffcheck.rules.reduction import exponentials, mean, scan, variance
from diffcheck.rules.registry import Array, Rule, array, elementwise, sum_over

_MINUS_INFINITY: Final = constant(-math.inf)
Three = tuple[Array | None, Array | None, Array | None]


def softmax_row(row: list[Expr]) -> list[Expr]:
    """exp xᵢ / Σ exp xⱼ; the kernel takes the largest element off first."""
    weights, shifted = exponentials(row)
    mass, shifted_mass = total(weights), total(shifted)
    return [computed_as(w / mass, s / shifted_mass) for w, s in zip(weights, shifted, strict=True)]


def safe_softmax_row(row: list[Expr]) -> list[Expr]:
    """Softmax, and zeros where everything is masked."""
    return [ZERO] * len(row) if all(e is _MINUS_INFINITY for e in row) else softmax_row(row)


def log_softmax_row(row: list[Expr]) -> list[Expr]:
    """xᵢ - log Σ exp xⱼ; the kernel takes the largest element off first."""
    weights, shifted = exponentials(row)
    log_mass, shifted_log_mass = call("log", total(weights)), call("log", total(shifted))
    top = largest(row)
    return [computed_as(e - log_mass, e - top - shifted_log_mass) for e in row]


def softmax_backward(g: Array, y: Array, dim: int, *_: Any) -> Array:
    """y · (g - Σ g y)."""
    inner = sum_over(elementwise(lambda a, b: a * b, g, y), dim, keepdim=True)
    return elementwise(lambda a, b, s: b * (a - s), g, y, inner)


def log_softmax_backward(g: Array, y: Array, dim: int, *_: Any) -> Array:
    """g - exp y · Σ g."""
    return elementwise(lambda a, b, s: a - call("exp", b) * s, g, y, sum_over(g, dim, keepdim=True))


# ---------------------------------------------------------------------------------------------------------------------
# Standardisation, of the rows of a matrix: what the three layers do once the elements are arranged
# ---------------------------------------------------------------------------------------------------------------------


def moments(rows: Array, eps: float) -> tuple[Array, Array]:
    """Each row's mean, and the reciprocal of its standard deviation."""
    centre = mean(rows, 1, keepdim=True)
    spread = mean(elementwise(lambda e, m: (e - m) * (e - m), rows, centre), 1)
    return centre.reshape(-1), elementwise(lambda v: ONE / call("sqrt", v + scalar(eps)), spread)


def standardised(rows: Array, centre: Array, scale: Array, weight: Array | None, bias: Array | None) -> Array:
    """(x - m) · s · w + b; the kernel computes x·s - m·s, which cancels more."""

    def apply(e: Expr, m: Expr, s: Expr, w: Expr | None, b: Expr | None) -> Expr:
        result = computed_as((e - m) * s, e * s + (-m * s))
        result = result if w is None else result * w
        return result if b is None else result + b

    return elementwise(apply, rows, centre.reshape(-1, 1), scale.reshape(-1, 1), weight, bias)


def standardised_backward(g: Array, rows: Array, centre: Array, scale: Array, weight: Array | None) -> Array:
    """s / n · (n · gw - Σ gw - x̂ · Σ gw x̂), with x̂ = (x - m) · s."""
    count = constant(rows.shape[1])
    weighted = g if weight is None else elementwise(lambda a, w: a * w, g, weight)
    unit = standardised(rows, centre, scale, None, None)
    plain = sum_over(weighted, 1, keepdim=True)
    along = sum_over(elementwise(lambda a, u: a * u, weighted, unit), 1, keepdim=True)
    value = elementwise(
        lambda a, u, s, p, q: s / count * (count * a - p - u * q), weighted, unit, scale.reshape(-1, 1), plain, along
    )
    # The kernel computes s·gw + b·x + c, with b = (m·Σ gw - Σ gw x)·s³ / n and c = -b·m - s / n·Σ gw: it cancels more.
    raw = sum_over(elementwise(lambda a, e: a * e, weighted, rows), 1, keepdim=True)
    slope = elementwise(
        lambda p, r, m, s: (p * m - r) * s * s * s / count, plain, raw, centre.reshape(-1, 1), scale.reshape(-1, 1)
    )
    offset = elementwise(
        lambda b, m, p, s: -b * m - p * s / count, slope, centre.reshape(-1, 1), plain, scale.reshape(-1, 1)
    )
    kernel = elementwise(lambda a, e, s, b, c: s * a + b * e + c, weighted, rows, scale.reshape(-1, 1), slope, offset)
    return elementwise(computed_as, value, kernel)


def parameter_gradients(g: Array, rows: Array, centre: Array, scale: Array) -> tuple[Array, Array]:
    """What every element adds to the gradients of the weight and of the bias."""
    unit = standardised(rows, centre, scale, None, None)
    return elementwise(lambda a, u: a * u, g, unit), g


def _wanted(gradients: Sequence[Array], mask: Sequence[bool]) -> Three:
    x, w, b = (gradient if wanted else None for gradient, wanted in zip(gradients, mask, strict=True))
    return x, w, b


def layer_norm(
    x: Array, normalized: Sequence[int], weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """The result, the means and the reciprocal standard deviations."""
    rows = x.reshape(-1, math.prod(normalized))
    flat = [None if p is None else p.reshape(1, -1) for p in (weight, bias)]
    centre, scale = moments(rows, eps)
    kept = x.shape[: x.ndim - len(normalized)] + (1,) * len(normalized)
    return standardised(rows, centre, scale, *flat).reshape(x.shape), centre.reshape(kept), scale.reshape(kept)


def layer_norm_backward(
    g: Array,
    x: Array,
    normalized: Sequence[int],
    centre: Array,
    scale: Array,
    weight: Array | None,
    _bias: Array | None,
    mask: Sequence[bool],
) -> Three:
    """The gradients of the input, the weight and the bias."""
    shape = (-1, math.prod(normalized))
    g_rows, rows = g.reshape(shape), x.reshape(shape)
    flat = None if weight is None else weight.reshape(1, -1)
    by_weight, by_bias = parameter_gradients(g_rows, rows, centre, scale)
    return _wanted(
        (
            standardised_backward(g_rows, rows, centre, scale, flat).reshape(x.shape),
            sum_over(by_weight, 0).reshape(tuple(normalized)),
            sum_over(by_bias, 0).reshape(tuple(normalized)),
        ),
        mask,
    )


def _per_channel(parameter: Array | None, n: int, c: int, inner: int, groups: int) -> Array | None:
    if parameter is None:
        return None
    return np.broadcast_to(parameter.reshape(1, c, 1), (n, c, inner)).reshape(n * groups, c // groups * inner)


def group_norm(
    x: Array, weight: Array | None, bias: Array | None, n: int, c: int, inner: int, groups: int, eps: float
) -> tuple[Array, Array, Array]:
    """The result, the means and the reciprocal standard deviations."""
    rows = x.reshape(n * groups, c // groups * inner)
    centre, scale = moments(rows, eps)
    parameters = [_per_channel(p, n, c, inner, groups) for p in (weight, bias)]
    result = standardised(rows, centre, scale, *parameters).reshape(x.shape)
    return result, centre.reshape(n, groups), scale.reshape(n, groups)


def group_norm_backward(
    g: Array,
    x: Array,
    centre: Array,
    scale: Array,
    weight: Array | None,
    n: int,
    c: int,
    inner: int,
    groups: int,
    mask: Sequence[bool],
) -> Three:
    """The gradients of the input, the weight and the bias."""
    g_rows, rows = g.reshape(n * groups, c // groups * inner), x.reshape(n * groups, c // groups * inner)
    per_element = _per_channel(weight, n, c, inner, groups)
    parameters = (sum_over(p.reshape(n, c, inner), (0, 2)) for p in parameter_gradients(g_rows, rows, centre, scale))
    by_input = standardised_backward(g_rows, rows, centre, scale, per_element)
    return _wanted((by_input.reshape(x.shape), *parameters), mask)


def _by_channel(x: Array) -> Array:
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


def _from_channels(rows: Array, shape: tuple[int, ...]) -> Array:
    return np.moveaxis(rows.reshape(shape[1], shape[0], *shape[2:]), 0, 1)


def _column(parameter: Array | None) -> Array | None:
    return None if parameter is None else parameter.reshape(-1, 1)


def _running(centre: Array, spread: Array, eps: float) -> tuple[Array, Array]:
    return centre, elementwise(lambda v: ONE / call("sqrt", v + scalar(eps)), spread)


def batch_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Any,
    running_var: Any,
    training: bool,
    _momentum: float,
    eps: float,
) -> tuple[Array, Array | None, Array | None]:
    """The result and, in training, the batch's means and reciprocal standard deviations."""
    rows = _by_channel(x)
    if training:
        centre, scale = moments(rows, eps)
        saved: tuple[Array | None, Array | None] = (centre, scale)
    else:
        centre, scale = _running(running_mean, running_var, eps)
        saved = (None, None)
    return _from_channels(standardised(rows, centre, scale, _column(weight), _column(bias)), x.shape), *saved


def batch_norm_backward(
    g: Array,
    x: Array,
    weight: Array | None,
    running_mean: Any,
    running_var: Any,
    saved_mean: Any,
    saved_scale: Any,
    training: bool,
    eps: float,
    mask: Sequence[bool],
) -> Three:
    """The gradients of the input, the weight and the bias."""
    g_rows, rows, factor = _by_channel(g), _by_channel(x), _column(weight)
    if training:
        centre, scale = saved_mean, saved_scale
        by_input = standardised_backward(g_rows, rows, centre, scale, factor)
    else:
        centre, scale = _running(running_mean, running_var, eps)
        by_input = elementwise(lambda a, s, w: a * s if w is None else a * s * w, g_rows, scale.reshape(-1, 1), factor)
    parameters = (sum_over(p, 1) for p in parameter_gradients(g_rows, rows, centre, scale))
    return _wanted((_from_channels(by_input, x.shape), *parameters), mask)


def batch_norm_with_update(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    momentum: float,
    eps: float,
) -> tuple[Array | None, ...]:
    """The result, the batch's means and reciprocal standard deviations, and the running statistics as they become."""
    result, centre, scale = batch_norm(x, weight, bias, None, None, training=True, _momentum=momentum, eps=eps)
    rows, part = _by_channel(x), scalar(momentum)
    spread = variance(rows, 1)

    def moved(old: Expr, new: Expr) -> Expr:
        return (ONE - part) * old + part * new

    moved_mean = elementwise(moved, running_mean, mean(rows, 1))
    return result, centre, scale, None, moved_mean, elementwise(moved, running_var, spread)


RULES: Final[dict[str, Rule]] = {
    "aten._batch_norm_with_update": array(batch_norm_with_update),
    "aten._softmax": array(lambda x, dim, *_: scan(softmax_row, x, dim)),
    "aten._safe_softmax": array(lambda x, dim, *_, **__: scan(safe_softmax_row, x, dim)),
    "aten._log_softmax": array(lambda x, dim, *_: scan(log_softmax_row, x, dim)),
    "aten._softmax_backward_data": array(softmax_backward),
    "aten._log_softmax_backward_data": array(log_softmax_backward),
    "aten.native_layer_norm": array(layer_norm),
    "aten.native_layer_norm_backward": array(layer_norm_backward),
    "aten.native_group_norm": array(group_norm),
    "aten.native_group_norm_backward": array(group_norm_backward),
    "aten.native_batch_norm": array(batch_norm),
    "aten.native_batch_norm_backward": array(batch_norm_backward),
}
