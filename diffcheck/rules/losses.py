"""Rules of losses and of the kernels that autograd runs for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import (
    HALF,
    MINUS_ONE,
    ONE,
    TWO,
    ZERO,
    Expr,
    call,
    constant,
    divide,
    greater,
    greater_equal,
    total,
    where,
)
from diffcheck.rules.registry import Array, Rule, array, elements, elementwise, filled, integers

MEAN, SUM = 1, 2
"""What PyTorch calls the reductions; 0 is none."""


def reduced(losses: Array, reduction: int) -> Array:
    """The losses, their mean or their sum."""
    if reduction == MEAN:
        return elements([divide(total(losses.flat), constant(losses.size))], ())
    return elements([total(losses.flat)], ()) if reduction == SUM else losses


def share(size: int, reduction: int) -> Expr:
    """What one element counts in the reduction."""
    return ONE / constant(size) if reduction == MEAN else ONE


def _loss(function: Callable[..., Expr]) -> Rule:
    """A loss of elements; what follows the reduction are the function's parameters."""

    def apply(x: Array, target: Array, reduction: int = MEAN, *parameters: float) -> Array:
        return reduced(elementwise(lambda e, t: function(e - t, *map(scalar, parameters)), x, target), reduction)

    return array(apply)


def _loss_backward(slope: Callable[..., Expr]) -> Rule:
    def apply(g: Array, x: Array, target: Array, reduction: int, *parameters: float) -> Array:
        part = share(np.broadcast(x, target).size, reduction)
        return elementwise(lambda c, e, t: slope(e - t, *map(scalar, parameters)) * part * c, g, x, target)

    return array(apply)


def three_pieces(d: Expr, edge: Expr, below: Expr, inside: Expr, above: Expr) -> Expr:
    """`below` up to -edge, `above` from the edge on. No absolute value: forward and backward ask the same questions."""
    return where(greater_equal(d, edge), above, where(greater_equal(-edge, d), below, inside))


def huber(d: Expr, delta: Expr = ONE) -> Expr:
    """Quadratic up to δ, linear beyond."""
    return three_pieces(d, delta, delta * (-d - HALF * delta), HALF * d * d, delta * (d - HALF * delta))


def smooth_l1(d: Expr, beta: Expr = ONE) -> Expr:
    """Huber's loss over β."""
    return three_pieces(d, beta, -d - HALF * beta, HALF * d * d / beta, d - HALF * beta)


# ---------------------------------------------------------------------------------------------------------------------
# Negative log-likelihood
# ---------------------------------------------------------------------------------------------------------------------


def _picks(target: Array, weight: Array | None, ignored: int, operation: str) -> list[tuple[int, int, Expr]]:
    """Sample, class and weight of everything that is not ignored."""
    classes = integers(target.reshape(-1), operation)
    return [(i, int(c), ONE if weight is None else weight[int(c)]) for i, c in enumerate(classes) if int(c) != ignored]


def _classes_last(x: Array) -> Array:
    return np.moveaxis(x, 1 if x.ndim > 1 else 0, -1)


def nll_loss(x: Array, target: Array, weight: Array | None, reduction: int, ignored: int) -> tuple[Array, Array | None]:
    """-w · x at each sample's class, reduced with the weights; and the sum of the weights."""
    rows = _classes_last(x).reshape(-1, x.shape[1 if x.ndim > 1 else 0])
    picks = _picks(target, weight, ignored, "aten.nll_loss_forward")
    losses = filled((rows.shape[0],), ZERO)
    for i, c, w in picks:
        losses[i] = -rows[i, c] * w
    if reduction not in (MEAN, SUM):
        return losses.reshape(target.shape), None
    weights = total(w for _, _, w in picks)
    loss = total(losses)
    return elements([loss / weights if reduction == MEAN else loss], ()), elements([weights], ())


def nll_loss_backward(
    g: Array, x: Array, target: Array, weight: Array | None, reduction: int, ignored: int, weights: Array
) -> Array:
    """-w · g at each sample's class, over the sum of the weights if the mean was taken."""
    classes = x.shape[1 if x.ndim > 1 else 0]
    result = filled(_classes_last(x).shape, ZERO).reshape(-1, classes)
    spread = np.broadcast_to(g.reshape(-1) if g.size == result.shape[0] else g.reshape(1), (result.shape[0],))
    for i, c, w in _picks(target, weight, ignored, "aten.nll_loss_backward"):
        result[i, c] = -w * (spread[i] / weights.item() if reduction == MEAN else spread[i])
    return np.moveaxis(result.reshape(_classes_last(x).shape), -1, 1 if x.ndim > 1 else 0)


# ---------------------------------------------------------------------------------------------------------------------
# Binary cross entropy
# ---------------------------------------------------------------------------------------------------------------------

_LEAST_LOG: Final = constant(-100)
_LEAST_PROBABILITY: Final = call("exp", _LEAST_LOG)
_LEAST_VARIANCE: Final = constant(float(np.float32(1e-12)))
"""A constant in single precision in the kernel, whatever it computes in."""


def held_log(p: Expr, head: str, argument: Expr) -> Expr:
    """The logarithm of p, which the kernel keeps from falling below -100."""
    return where(greater(p, _LEAST_PROBABILITY), call(head, argument), _LEAST_LOG)


def _cross_entropy(p: Expr, t: Expr, w: Expr | None) -> Expr:
    loss = (t - ONE) * held_log(ONE - p, "log1p", -p) - t * held_log(p, "log", p)
    return loss if w is None else loss * w


def binary_cross_entropy(p: Array, target: Array, weight: Array | None = None, reduction: int = MEAN) -> Array:
    """-t · log p - (1 - t) · log(1 - p)."""
    return reduced(elementwise(_cross_entropy, p, target, weight), reduction)


def binary_cross_entropy_backward(
    g: Array, p: Array, target: Array, weight: Array | None = None, reduction: int = MEAN
) -> Array:
    """g · (p - t) / (p · (1 - p)), the denominator held above 1e-12."""

    def slope(c: Expr, p: Expr, t: Expr, w: Expr | None) -> Expr:
        spread = (ONE - p) * p
        result = c * (p - t) / where(greater(spread, _LEAST_VARIANCE), spread, _LEAST_VARIANCE)
        return (result if w is None else result * w) * part

    part = share(p.size, reduction)
    return elementwise(slope, g, p, target, weight)


def _cross_entropy_of_logit(x: Expr, t: Expr, w: Expr | None, positive: Expr | None) -> Expr:
    log_weight = ONE if positive is None else (positive - ONE) * t + ONE
    loss = (ONE - t) * x + log_weight * call("log1p", call("exp", -x))
    return loss if w is None else loss * w


def binary_cross_entropy_with_logits(
    x: Array, target: Array, weight: Array | None = None, positive: Array | None = None, reduction: int = MEAN
) -> Array:
    """(1 - t) · x - (1 + (w⁺ - 1) · t) · log sigmoid x."""
    return reduced(elementwise(_cross_entropy_of_logit, x, target, weight, positive), reduction)


# ---------------------------------------------------------------------------------------------------------------------
# Margins
# ---------------------------------------------------------------------------------------------------------------------

Excess = tuple[int, int, int, Expr]
"""A sample, the class that should lead, the one that it should lead, and by how much it fails to."""


def _rows_and_targets(x: Array, target: Array, operation: str) -> tuple[Array, Any]:
    classes = integers(target, operation)
    return (x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)), classes.reshape(-1, classes.size // _rows(x))


def _rows(x: Array) -> int:
    return x.shape[0] if x.ndim > 1 else 1


def _excesses(x: Array, target: Array, margin: Expr) -> list[Excess]:
    """Of the one class of each sample over all others."""
    rows, classes = _rows_and_targets(x, target, "aten.multi_margin_loss")
    return [
        (i, int(c), j, margin - rows.item(i, int(c)) + rows.item(i, j))
        for i, (c,) in enumerate(classes)
        for j in range(rows.shape[1])
        if j != c
    ]


def _excesses_of_labels(x: Array, target: Array) -> list[Excess]:
    """Of each label of a sample, up to the first -1, over all that are none."""
    rows, classes = _rows_and_targets(x, target, "aten.multilabel_margin_loss_forward")
    found = []
    for i, row in enumerate(classes.tolist()):
        labels = row[: row.index(-1)] if -1 in row else row
        others = [j for j in range(rows.shape[1]) if j not in labels]
        found += [(i, c, j, ONE - rows.item(i, c) + rows.item(i, j)) for c in labels for j in others]
    return found


def _margin_losses(excesses: Sequence[Excess], x: Array, order: int, weight: Array | None, reduction: int) -> Array:
    terms: dict[int, list[Expr]] = {i: [] for i in range(_rows(x))}
    for i, c, _, z in excesses:
        loss = where(greater(z, ZERO), z if order == 1 else z * z, ZERO)
        terms[i].append(loss if weight is None else loss * weight.item(c))
    count = constant(x.shape[-1] if x.ndim else 1)
    losses = elements((divide(total(row), count) for row in terms.values()), (_rows(x),))
    result = reduced(losses, reduction)
    return result.reshape(()) if x.ndim < 2 else result


def _margin_gradients(
    excesses: Sequence[Excess], g: Array, x: Array, order: int, weight: Array | None, reduction: int
) -> Array:
    count = constant((x.shape[-1] if x.ndim else 1) * (_rows(x) if reduction == MEAN else 1))
    spread = np.broadcast_to(g.reshape(-1), (_rows(x),))
    terms: dict[tuple[int, int], list[Expr]] = {}
    for i, c, j, z in excesses:
        slope = where(greater(z, ZERO), ONE if order == 1 else TWO * z, ZERO) / count * spread[i]
        slope = slope if weight is None else slope * weight.item(c)
        terms.setdefault((i, j), []).append(slope)
        terms.setdefault((i, c), []).append(-slope)
    shape = (_rows(x), x.shape[-1] if x.ndim else 1)
    return elements((total(terms.get(at, ())) for at in np.ndindex(*shape)), shape).reshape(x.shape)


def multi_margin(
    x: Array,
    target: Array,
    order: int = 1,
    margin: float = 1,
    weight: Array | None = None,
    reduction: int = MEAN,
) -> Array:
    """Σ max(0, margin - x of the class + x of another)ᵖ over the number of classes."""
    return _margin_losses(_excesses(x, target, scalar(margin)), x, order, weight, reduction)


def multi_margin_backward(
    g: Array,
    x: Array,
    target: Array,
    order: int,
    margin: float,
    weight: Array | None = None,
    reduction: int = MEAN,
) -> Array:
    """Each excess pushes two classes apart."""
    return _margin_gradients(_excesses(x, target, scalar(margin)), g, x, order, weight, reduction)


RULES: Final[dict[str, Rule]] = {
    "aten.multi_margin_loss": array(multi_margin),
    "aten.multi_margin_loss_backward": array(multi_margin_backward),
    "aten.multilabel_margin_loss_forward": array(
        lambda x, target, reduction: (_margin_losses(_excesses_of_labels(x, target), x, 1, None, reduction), None)
    ),
    "aten.multilabel_margin_loss_backward": array(
        lambda g, x, target, reduction, _: _margin_gradients(_excesses_of_labels(x, target), g, x, 1, None, reduction)
    ),
    "aten.mse_loss": _loss(lambda d: d * d),
    "aten.mse_loss_backward": _loss_backward(lambda d: TWO * d),
    "aten.huber_loss": _loss(huber),
    "aten.huber_loss_backward": _loss_backward(lambda d, delta: three_pieces(d, delta, -delta, d, delta)),
    "aten.smooth_l1_loss": _loss(smooth_l1),
    "aten.smooth_l1_loss_backward": _loss_backward(lambda d, beta: three_pieces(d, beta, MINUS_ONE, d / beta, ONE)),
    "aten.nll_loss_forward": array(nll_loss),
    "aten.nll_loss_backward": array(nll_loss_backward),
    "aten.nll_loss2d_forward": array(nll_loss),
    "aten.nll_loss2d_backward": array(nll_loss_backward),
    "aten.binary_cross_entropy": array(binary_cross_entropy),
    "aten.binary_cross_entropy_backward": array(binary_cross_entropy_backward),
    "aten.binary_cross_entropy_with_logits": array(binary_cross_entropy_with_logits),
}
