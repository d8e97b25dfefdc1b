"""Operations without an error analysis of their own, written in others that have one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from diffcheck.errors import Unsupported


def variance(x: Tensor, dims: Sequence[int], correction: float = 1, **_: Any) -> Tensor:
    """The mean square of what is left of the mean, along axes."""
    centred = x - torch.mean(x, tuple(dims), keepdim=True)
    squares: Tensor = torch.sum(centred * centred, tuple(dims))
    return squares / (x.numel() / max(1, squares.numel()) - correction)


def _scores(
    query: Tensor,
    key: Tensor,
    dropout: float,
    is_causal: bool,  # noqa: FBT001 - as PyTorch has it
    attn_mask: Tensor | None,
    scale: float | None,
) -> Tensor:
    """What the softmax is taken of: scaled products (batch, head, query, key), -∞ where a query may not look."""
    if dropout:
        raise Unsupported(_ATTENTION, "dropout is random")
    logits = (query @ key.transpose(-1, -2)) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if attn_mask is not None:
        logits = logits + attn_mask
    if is_causal:
        allowed = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        logits = torch.where(allowed, logits, -math.inf)
    return logits


def _one_for_each_query(query: Tensor, kept: Tensor) -> Tensor:
    """Keys or values (batch, head, key, width) that several query heads share, repeated for each."""
    return kept.repeat_interleave(query.shape[1] // kept.shape[1], 1)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002 - as PyTorch calls it
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """softmax(scale · q kᵀ + mask) v, and the logarithm of each softmax's denominator."""
    logits = _scores(query, _one_for_each_query(query, key), dropout, is_causal, attn_mask, scale)
    return torch.softmax(logits, -1) @ _one_for_each_query(query, value), torch.logsumexp(logits, -1)


def attention_backward(  # noqa: PLR0913 - as PyTorch calls it
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    log_mass: Tensor,
    dropout: float,
    is_causal: bool,  # noqa: FBT001 - as PyTorch calls it
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Its derivative: of the weights p = exp(scores - log mass) the cotangents are p · (grad vᵀ - Σ grad out)."""
    keys, values = _one_for_each_query(query, key), _one_for_each_query(query, value)
    weights = torch.exp(_scores(query, keys, dropout, is_causal, attn_mask, scale) - log_mass[..., None])
    slopes = weights * (grad @ values.transpose(-1, -2) - (grad * out).sum(-1, keepdim=True))
    slopes = slopes * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    shared = (key.shape[0], key.shape[1], -1, *key.shape[2:])
    by_key = (slopes.transpose(-1, -2) @ query).reshape(shared).sum(2)
    by_value = (weights.transpose(-1, -2) @ grad).reshape((*shared[:-1], value.shape[-1])).sum(2)
    return slopes @ keys, by_key, by_value


_ATTENTION: Final = "aten._scaled_dot_product_flash_attention_for_cpu"
SPELLED: Final[Mapping[str, Callable[..., Any]]] = {
    "prims.var": variance,
    _ATTENTION: attention,  # what PyTorch's decomposition returns second is not what the operation does
    f"{_ATTENTION}_backward": attention_backward,
}
"""By operation, a function of its arguments that returns what it does."""
