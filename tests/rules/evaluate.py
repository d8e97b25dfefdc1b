"""Another evaluator of expressions than the product's: mpmath, at 50 digits, for holding the rules to PyTorch."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any, Final

import mpmath

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr

_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "pi": lambda: +mpmath.pi,
    "add": lambda *terms: mpmath.fsum(terms),
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": mpmath.power,
    "neg": lambda a: -a,
    "positive": lambda a: mpmath.mpf(a > 0),
    "vanishes": lambda a: mpmath.mpf(a == 0),
    "not": lambda a: 1 - a,
    "frozen": lambda a: a,
    "rounded": lambda a: a,
    "sigmoid": lambda a: 1 / (1 + mpmath.exp(-a)),
    "erfcx": lambda a: mpmath.exp(a * a) * mpmath.erfc(a),
    "lgamma": lambda a: mpmath.re(mpmath.loggamma(a)),
    "polygamma": lambda n, a: mpmath.polygamma(int(n), a),
}  # fmt: skip


def _value(node: Expr, args: list[Any], point: Mapping[str, float]) -> Any:
    payload = node.payload
    if isinstance(payload, Fraction):
        return mpmath.mpf(payload.numerator) / payload.denominator
    if node.head == "constant":
        return mpmath.mpf(payload)
    if node.head == "symbol":
        return mpmath.mpf(point[str(payload)])
    return (_FUNCTIONS.get(node.head) or getattr(mpmath, node.head))(*args)


def evaluate(outputs: Iterable[Expr], point: Mapping[str, float], *, kernel: bool = False) -> list[float]:
    """The outputs' values. What has no real value is NaN, and spreads, but not out of a branch that is not taken.

    `kernel` goes by the formulas that kernels use, where a rule names one beside the value.
    """
    wanted = list(outputs)
    done: dict[Expr, Any] = {}
    with mpmath.workdps(50):
        for node in graph.topological(wanted):
            args = [done[a] for a in node.args]
            if node.head == "computed_as":
                done[node] = args[kernel]
                continue
            if node.head == "where":
                done[node] = mpmath.nan if mpmath.isnan(args[0]) else args[1] if args[0] else args[2]
                continue
            try:
                value = mpmath.nan if any(map(mpmath.isnan, args)) else _value(node, args, point)
            except (ZeroDivisionError, ValueError):
                value = mpmath.nan
            done[node] = mpmath.nan if isinstance(value, mpmath.mpc) else value
        return [float(done[node]) for node in wanted]
