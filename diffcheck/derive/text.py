"""Formulas as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr
from diffcheck.derive import symbolic

LARGEST: Final = 400
"""Operations, counted without sharing, up to which a formula is written out."""


def written_size(node: Expr) -> int:
    """How many operations the formula has when it is written out."""
    sizes: dict[Expr, int] = {}
    for part in graph.topological([node]):
        sizes[part] = 1 + sum(sizes[a] for a in part.args)
    return sizes[node]


def text(node: Expr) -> str:
    """One expression in SymPy's notation, or its size if nobody would read it."""
    size = written_size(node)
    if size > LARGEST:
        return f"(a formula of {size:,} operations)"
    return str(symbolic.to_sympy([node])[0])


def latex(node: Expr) -> str:
    """One expression in LaTeX."""
    size = written_size(node)
    if size > LARGEST:
        return rf"\text{{(a formula of {size:,} operations)}}"
    return latex_of(*symbolic.to_sympy([node], reveal=True))


def latex_of(expression: Any) -> str:
    """One of SymPy's expressions in LaTeX, the entries of a variable with their index below."""
    import sympy

    names = {symbol: _subscripted(symbol.name) for symbol in expression.free_symbols}
    return str(sympy.latex(expression, symbol_names=names))


def _subscripted(name: str) -> str:
    """`x[0,1]` as x_{0,1}."""
    base, bracket, index = name.partition("[")
    base = base if len(base) == 1 else rf"\mathrm{{{base.replace('_', chr(92) + '_')}}}"
    return f"{base}_{{{index.rstrip(']')}}}" if bracket else base


def gradient_line(variables: Sequence[str], gradient: Sequence[Expr]) -> str:
    """The gradient of the sum of the outputs in one line: once for all elements if they follow one pattern.

    `4*x` stands for `[4*x[0], 4*x[1]]`; otherwise the first element is shown, named.
    """
    if not gradient:
        return ""
    return _line(tuple(variables[: len(gradient)]), tuple(gradient))


@lru_cache(maxsize=64)
def _line(variables: tuple[str, ...], gradient: tuple[Expr, ...]) -> str:
    first = text(gradient[0])
    if len(gradient) == 1:
        return first
    owners = {name.partition("[")[0] for name in variables}
    pattern = _without_index(first, variables[0])
    if len(owners) == 1 and f"{next(iter(owners))}[" not in pattern:
        rest = zip(gradient[1:], variables[1:], strict=True)
        if all(_without_index(text(g), name) == pattern for g, name in rest):
            return pattern
    return f"∂/∂{variables[0]} = {first}"


def _without_index(formula: str, variable: str) -> str:
    """`4*x[1]` as `4*x`, for the element x[1]."""
    return formula.replace(variable, variable.partition("[")[0])
