"""Rules of scaled dot-product attention: PyTorch's fused kernel for CPUs, forward and backward."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import ONE, Expr, call, constant
from diffcheck.errors import Unsupported
from diffcheck.rules.matrix import batched
from diffcheck.rules.normalization import safe_softmax_row
from diffcheck.rules.reduction import log_sum_exp, scan
from diffcheck.rules.registry import Array, Rule, array, elementwise, reduce, sum_over

_MINUS_INFINITY: Final = constant(-math.inf)


def _product(a: Array, b: Array) -> Array:
    flat = batched(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]))
    return flat.reshape(*a.shape[:-1], b.shape[-1])


def _transposed(a: Array) -> Array:
    return np.swapaxes(a, -1, -2)


def _scale(query: Array, scale: float | None) -> Expr:
    return ONE / call("sqrt", constant(query.shape[-1])) if scale is None else scalar(scale)


def _like_query(query: Array, kept: Array) -> Array:
    """Keys or values that several query heads share, repeated for each."""
    return np.repeat(kept, query.shape[1] // kept.shape[1], axis=1)


def _shared(kept: Array, gradient: Array) -> Array:
    """The gradient of keys or values that several query heads share."""
    batch, heads, length, width = kept.shape
    return sum_over(gradient.reshape(batch, heads, -1, length, width), 2)


def scores(query: Array, key: Array, is_causal: bool, mask: Array | None, scale: float | None) -> Array:
    """What the softmax is taken of: scaled products, -∞ where a query may not look."""
    factor = _scale(query, scale)
    result = elementwise(lambda e: factor * e, _product(query, _transposed(_like_query(query, key))))
    if mask is not None:
        result = elementwise(lambda e, m: e + m, result, mask)
    if is_causal:
        result[..., np.arange(result.shape[-1]) > np.arange(result.shape[-2])[:, None]] = _MINUS_INFINITY
    return result


def attention(
    query: Array,
    key: Array,
    value: Array,
    dropout: float = 0.0,
    is_causal: bool = False,
    attn_mask: Array | None = None,
    scale: float | None = None,
) -> tuple[Array, Array]:
    """softmax(scale · q kᵀ + mask) v, and the logarithm of each softmax's denominator."""
    if dropout:
        raise Unsupported("aten._scaled_dot_product_flash_attention_for_cpu", "dropout is random")
    logits = scores(query, key, is_causal, attn_mask, scale)
    weights = scan(safe_softmax_row, logits, -1)
    return _product(weights, _like_query(query, value)), reduce(log_sum_exp, logits, -1)


def attention_backward(
    g: Array,
    query: Array,
    key: Array,
    value: Array,
    out: Array,
    log_mass: Array,
    _: float,
    is_causal: bool,
    attn_mask: Array | None = None,
    scale: float | None = None,
) -> tuple[Array, Array, Array]:
    """From the weights p = exp(scores - log mass): their cotangents are p · (g vᵀ - Σ g out)."""
    logits = scores(query, key, is_causal, attn_mask, scale)
    weights = elementwise(lambda e, m: call("exp", e - m), logits, log_mass[..., None])
    inner = sum_over(elementwise(lambda a, b: a * b, g, out), -1, keepdim=True)
    slopes = elementwise(
        lambda p, d, s: p * (d - s), weights, _product(g, _transposed(_like_query(query, value))), inner
    )
    factor = _scale(query, scale)
    by_query = _product(slopes, _like_query(query, key))
    by_key = _product(_transposed(slopes), query)
    return (
        elementwise(lambda e: factor * e, by_query),
        _shared(key, elementwise(lambda e: factor * e, by_key)),
        _shared(value, _product(_transposed(weights), g)),
    )


RULES: Final[dict[str, Rule]] = {
    "aten._scaled_dot_product_flash_attention_for_cpu": array(attention),
    "aten._scaled_dot_product_flash_attention_for_cpu_backward": array(attention_backward),
}
