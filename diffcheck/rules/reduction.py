"""Rules that combine elements: sums, extrema, norms, running totals, orders."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import (
    NAN,
    ONE,
    ZERO,
    Expr,
    call,
    computed_as,
    constant,
    divide,
    equal,
    logical_and,
    logical_not,
    logical_or,
    number,
    power,
    product,
    topological,
    total,
    vanishes,
    where,
)
from diffcheck.rules.pointwise import absolute, larger, largest, smallest, truth
from diffcheck.rules.registry import (
    Array,
    Decisions,
    Rule,
    array,
    count_over,
    elements,
    elementwise,
    guarded,
    in_numpy,
    reduce,
    sum_over,
)

Dim = int | Sequence[int] | None


def _reduction(function: Callable[[list[Expr]], Expr]) -> Rule:
    return array(lambda x, dim=None, keepdim=False, **_: reduce(function, x, dim, keepdim))


def mean(x: Array, dim: Dim = None, keepdim: bool = False) -> Array:
    """The sum divided by the count."""
    count = constant(count_over(x, dim))
    return elementwise(lambda s: divide(s, count), sum_over(x, dim, keepdim))


def variance(x: Array, dim: Dim = None, correction: float | None = None, keepdim: bool = False) -> Array:
    """The sum of squared distances from the mean, divided by the count less the correction."""
    count = scalar(max(count_over(x, dim) - (1 if correction is None else correction), 0))
    centred = elementwise(lambda e, m: e - m, x, mean(x, dim, keepdim=True))
    squares = elementwise(lambda e: e * e, centred)
    return elementwise(lambda s: divide(s, count), sum_over(squares, dim, keepdim))


def root(x: Array) -> Array:
    """The square root of every element."""
    return elementwise(lambda e: call("sqrt", e), x)


def exponentials(row: list[Expr]) -> tuple[list[Expr], list[Expr]]:
    """exp xᵢ, and exp(xᵢ - max x), which kernels compute instead so as not to overflow."""
    top = largest(row)
    return [call("exp", e) for e in row], [call("exp", e - top) for e in row]


def log_sum_exp(row: list[Expr]) -> Expr:
    """log Σ exp; the kernel takes the largest element off first."""
    plain, shifted = exponentials(row)
    mass = total(plain)
    if mass is ZERO:
        return constant(-math.inf)
    return computed_as(call("log", mass), call("log", total(shifted)) + largest(row))


def length(row: list[Expr], order: float) -> Expr:
    """The p-norm of some elements."""
    if order == 0:
        return total(logical_not(vanishes(e)) for e in row)
    if order == math.inf:
        return largest([absolute(e) for e in row])
    if order == -math.inf:
        return smallest([absolute(e) for e in row])
    if order == 1:
        return total(absolute(e) for e in row)
    if order == 2:
        return call("sqrt", total(e * e for e in row))
    p = scalar(order)
    # An even power needs no absolute value, and so has no kink at 0.
    powers = [power(e if order % 2 == 0 else absolute(e), p) for e in row]
    return power(total(powers), ONE / p)


def norm(x: Array, order: float | None = 2, dim: Dim = None, keepdim: bool = False, **_: Any) -> Array:
    """The p-norm along some axes."""
    return reduce(lambda row: length(row, 2 if order is None else order), x, dim, keepdim)


def scan(function: Callable[[list[Expr]], list[Expr]], x: Array, dim: int) -> Array:
    """Applies a function from rows to rows along one axis."""
    if x.ndim == 0:
        return elements(function([x.item()]), ())
    rows = np.moveaxis(x, dim, -1)
    done = elements((e for index in np.ndindex(rows.shape[:-1]) for e in function(list(rows[index]))), rows.shape)
    return np.moveaxis(done, -1, dim)


def _running(function: Callable[[Expr, Expr], Expr]) -> Rule:
    return array(lambda x, dim, **_: scan(lambda row: list(accumulate(row, function)), x, dim))


_ALMOST_INFINITE: Final = 2**1000


def _is_lowest(e: Expr) -> bool:
    value = number(e)
    return value is not None and value < -_ALMOST_INFINITE


def _exponential(e: Expr) -> Expr:
    """exp e; 0 in the branches where e is the lowest number of a format, which kernels have for the logarithm of 0."""
    if _is_lowest(e):
        return ZERO
    if e.head == "where" and any(map(_is_lowest, e.args[1:])):
        return where(e.args[0], _exponential(e.args[1]), _exponential(e.args[2]))
    if e.head == "add":
        for i, part in enumerate(e.args):
            if _exponential(part) is not call("exp", part):
                rest = total(e.args[:i] + e.args[i + 1 :])
                if part.head != "where":
                    return ZERO
                condition, a, b = part.args
                return where(condition, _exponential(a + rest), _exponential(b + rest))
    return call("exp", e)


def _added_exponentials(a: Expr, b: Expr) -> Expr:
    """log(exp a + exp b), from the larger one up."""
    return larger(a, b) + call("log1p", call("exp", -absolute(a - b)))


def _running_log_sum_exp(row: list[Expr]) -> list[Expr]:
    kernel = accumulate(row, _added_exponentials)
    masses = accumulate(map(_exponential, row), lambda a, b: a + b)
    return [computed_as(_logarithm(mass), shifted) for mass, shifted in zip(masses, kernel, strict=True)]


def _logarithm(mass: Expr) -> Expr:
    """log of a sum of exponentials; the lowest number of float64 where there were none."""
    if all(part.head != "where" for part in topological([mass])):
        return call("log", mass)
    return where(vanishes(mass), constant(-sys.float_info.max), call("log", mass))


def _truths(decisions: Decisions, x: Array, dim: Dim, keepdim: bool, function: Callable[..., Expr]) -> Array:
    def combine(row: list[Expr]) -> Expr:
        result = ONE if function is logical_and else ZERO
        for e in row:
            result = function(result, e)
        return result

    return reduce(combine, truth(x, decisions.arguments[0]), dim, keepdim)


# ---------------------------------------------------------------------------------------------------------------------
# Orders: the kernel's choice is followed, and what it rests on is recorded
# ---------------------------------------------------------------------------------------------------------------------


def exact(values: Any) -> Array:
    """Real indices, or booleans, as constants."""
    return elements(map(constant, values.detach().reshape(-1).tolist()), tuple(values.shape))


def _along(x: Array, dim: int) -> Array:
    """The array with one axis last; a number is a row of one."""
    return np.moveaxis(x, dim, -1) if x.ndim else x.reshape(1)


def picked(x: Array, indices: Array, dim: int) -> Array:
    """The elements at real indices along an axis, the indices keeping that axis."""
    return x if x.ndim == 0 else np.take_along_axis(x, indices, dim)


def _real(indices: Any) -> Any:
    return in_numpy(indices).astype(np.int64)


def record_extreme(decisions: Decisions, x: Array, indices: Any, dim: int, *, greatest: bool) -> None:
    """Relies on the element at each index being the greatest, or the least, of its row."""
    rows, chosen = _along(x, dim), _along(indices, dim)
    for index in np.ndindex(rows.shape[:-1]):
        row = rows[index]
        best = int(chosen[index][0])
        for i, other in enumerate(row):
            if i != best:
                decisions.ordered([other, row[best]] if greatest else [row[best], other])


def _extreme(*, greatest: bool) -> Rule:
    def apply(decisions: Decisions, x: Array, dim: int | None = None, keepdim: bool = False) -> Any:
        if dim is None:
            return reduce(largest if greatest else smallest, x)
        indices = decisions.result[1].detach()
        kept = _real(indices if keepdim or x.ndim == 0 else indices.unsqueeze(dim))
        record_extreme(decisions, x, kept, dim, greatest=greatest)
        return picked(x, kept, dim).reshape(indices.shape), exact(indices)

    return guarded(apply)


def _where_extreme(*, greatest: bool) -> Rule:
    def apply(decisions: Decisions, x: Array, dim: int | None = None, _keepdim: bool = False) -> Array:
        flat, axis = (x.reshape(-1), 0) if dim is None else (x, dim)
        indices = _real(decisions.result)
        kept = indices.reshape([1 if a == axis % max(flat.ndim, 1) else n for a, n in enumerate(flat.shape)])
        record_extreme(decisions, flat, kept, axis, greatest=greatest)
        return exact(decisions.result)

    return guarded(apply)


def _running_extreme(*, greatest: bool) -> Rule:
    def apply(decisions: Decisions, x: Array, dim: int) -> tuple[Array, Array]:
        indices = _real(decisions.result[1])
        rows, chosen = _along(x, dim), _along(indices, dim)
        for index in np.ndindex(rows.shape[:-1]):
            row, best = rows[index], chosen[index]
            for i in range(1, len(row)):
                rival = row[best[i - 1] if best[i] == i else i]
                decisions.ordered([rival, row[best[i]]] if greatest else [row[best[i]], rival])
        return picked(x, indices, dim), exact(decisions.result[1])

    return guarded(apply)


def _sort(decisions: Decisions, x: Array, dim: int = -1, descending: bool = False, **_: Any) -> tuple[Array, Array]:
    values = picked(x, _real(decisions.result[1]), dim)
    rows = _along(values, dim)
    for index in np.ndindex(rows.shape[:-1]):
        row = list(rows[index])
        decisions.ordered(row[::-1] if descending else row)
    return values, exact(decisions.result[1])


def _top(
    decisions: Decisions, x: Array, _k: int, dim: int = -1, greatest: bool = True, _sorted: bool = True
) -> tuple[Array, Array]:
    indices = _real(decisions.result[1])
    rows, chosen = _along(x, dim), _along(indices, dim)
    reals = _along(in_numpy(decisions.arguments[0]), dim)
    for index in np.ndindex(rows.shape[:-1]):
        row, inside = rows[index], sort_by(reals[index], chosen[index], descending=greatest)
        outside = [i for i in range(len(row)) if i not in set(inside)]
        order = [row[i] for i in inside]
        decisions.ordered(order[::-1] if greatest else order)
        for i in outside if inside else []:
            decisions.ordered([row[i], order[-1]] if greatest else [order[-1], row[i]])
    return picked(x, indices, dim), exact(decisions.result[1])


def sort_by(reals: Any, indices: Any, *, descending: bool) -> list[int]:
    """Some indices in the order of the real values."""
    return sorted((int(i) for i in indices), key=lambda i: reals[i], reverse=descending)


def _ranked(
    decisions: Decisions, x: Array, dim: int, keepdim: bool, rank: Callable[[int], int] = lambda count: (count + 1) // 2
) -> tuple[Array, Array]:
    """The element that the kernel chose; relies on each of the others staying on its side of it.

    `rank` is from how many numbers there are to how many of them are at most the chosen one, itself included. Of those
    that are equal to it some are taken to be below, so that these are as many: else the path beside a tie is another.
    """
    indices = decisions.result[1].detach()
    kept = _real(indices if keepdim or x.ndim == 0 else indices.unsqueeze(dim))
    rows, chosen = _along(x, dim), _along(kept, dim)
    reals = _along(in_numpy(decisions.arguments[0]), dim)
    for index in np.ndindex(rows.shape[:-1]):
        row, real, best = rows[index], reals[index], int(chosen[index][0])
        others = [i for i in range(len(row)) if i != best and row[i] is not NAN]
        equal_below = rank(len(others) + 1) - 1 - sum(real[i] < real[best] for i in others)
        for i in others:
            tied = real[i] == real[best]
            equal_below -= tied
            below = equal_below >= 0 if tied else real[i] < real[best]
            decisions.ordered([row[i], row[best]] if below else [row[best], row[i]])
    return picked(x, kept, dim).reshape(indices.shape), exact(indices)


def _mode(decisions: Decisions, x: Array, dim: int = -1, keepdim: bool = False) -> tuple[Array, Array]:
    """The element that the kernel chose; relies on the order of all elements and on which of them are equal."""
    indices = decisions.result[1].detach()
    kept = _real(indices if keepdim or x.ndim == 0 else indices.unsqueeze(dim))
    reals = _along(in_numpy(decisions.arguments[0]), dim)
    rows = _along(x, dim)
    for index in np.ndindex(rows.shape[:-1]):
        row, real = rows[index], reals[index]
        order = np.argsort(real, kind="stable").tolist()
        decisions.ordered([row[i] for i in order])
        for i, j in pairwise(order):
            decisions.record(equal(row[i], row[j]), bool(real[i] == real[j]))
    return picked(x, kept, dim).reshape(indices.shape), exact(indices)


def _nanmedian(decisions: Decisions, x: Array, dim: int | None = None, keepdim: bool = False) -> Any:
    return _median(decisions, x, dim, keepdim, skips_nan=True)


def _median(
    decisions: Decisions, x: Array, dim: int | None = None, keepdim: bool = False, *, skips_nan: bool = False
) -> Any:
    if dim is not None:
        return _ranked(decisions, x, dim, keepdim)
    flat = decisions.arguments[0].detach().reshape(-1)
    values, indices = flat.nanmedian(dim=0) if skips_nan else flat.median(dim=0)
    chosen = Decisions((flat,), (values, indices), decisions.record)
    return _ranked(chosen, x.reshape(-1), 0, False)[0]


RULES: Final[dict[str, Rule]] = {
    "aten.sum": array(lambda x, dim=None, keepdim=False, **_: sum_over(x, dim, keepdim)),
    "aten.mean": array(lambda x, dim=None, keepdim=False, **_: mean(x, dim, keepdim)),
    "aten.prod": _reduction(product),
    "aten.var": array(variance),
    "aten.std": array(lambda *args, **options: root(variance(*args, **options))),
    "aten.var_mean": array(
        lambda x, dim=None, correction=None, keepdim=False: (
            variance(x, dim, correction, keepdim),
            mean(x, dim, keepdim),
        )
    ),
    "aten.std_mean": array(
        lambda x, dim=None, correction=None, keepdim=False: (
            root(variance(x, dim, correction, keepdim)),
            mean(x, dim, keepdim),
        )
    ),
    "aten.logsumexp": _reduction(log_sum_exp),
    "aten.linalg_vector_norm": array(norm),
    "aten.norm": array(norm),
    "aten.amax": _reduction(largest),
    "aten.amin": _reduction(smallest),
    "aten.aminmax": array(
        lambda x, dim=None, keepdim=False: (reduce(smallest, x, dim, keepdim), reduce(largest, x, dim, keepdim))
    ),
    "aten.any": guarded(lambda d, x, dim=None, keepdim=False: _truths(d, x, dim, keepdim, logical_or)),
    "aten.all": guarded(lambda d, x, dim=None, keepdim=False: _truths(d, x, dim, keepdim, logical_and)),
    "aten.cumsum": _running(lambda a, b: a + b),
    "aten.cumprod": _running(lambda a, b: a * b),
    "aten.logcumsumexp": array(lambda x, dim: scan(_running_log_sum_exp, x, dim)),
    "aten.max": _extreme(greatest=True),
    "aten.min": _extreme(greatest=False),
    "aten.argmax": _where_extreme(greatest=True),
    "aten.argmin": _where_extreme(greatest=False),
    "aten.cummax": _running_extreme(greatest=True),
    "aten.cummin": _running_extreme(greatest=False),
    "aten.sort": guarded(_sort),
    "aten.topk": guarded(_top),
    "aten.kthvalue": guarded(lambda d, x, k, dim=-1, keepdim=False: _ranked(d, x, dim, keepdim, lambda _: k)),
    "aten.median": guarded(_median),
    "aten.nanmedian": guarded(_nanmedian),
    "aten.mode": guarded(_mode),
}
