"""Formulas as people read them: a few lines, what is common or long named below, constants as they were written."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import Expr
from diffcheck.derive import symbolic

LARGEST: Final = 60
"""Operations, counted without sharing, up to which a formula is written in one piece."""
_PIECE: Final = 24
"""Operations up to which a part of a larger one is."""
_COMMON: Final = 5
"""Operations from which on a part that occurs twice gets a name."""
_TERMS: Final = 6
"""Terms of a sum that are written out, if there are many more."""
_FEW: Final = 5
"""Parts that are shown below a formula."""
_FEWEST: Final = 2
"""Parts that are shown within a line."""
_MOST: Final = 200
"""Parts of a formula that are written at all."""
_LONG_CONSTANT: Final = 10**7
"""Denominators from which on a fraction is what a decimal number has become."""
_NAMES: Final = "stuvpqrabcdefghkmn"

MORE: Final = "…"


def written_size(node: Expr) -> int:
    """How many operations the formula has when it is written out."""
    sizes: dict[Expr, int] = {}
    for part in graph.topological([node]):
        sizes[part] = 1 + sum(sizes[a] for a in part.args)
    return sizes[node]


def text(node: Expr) -> str:
    """An expression in SymPy's notation; of a long one the top, and a line below it for every part that it names."""
    return texts([node])[0]


def texts(nodes: Sequence[Expr]) -> list[str]:
    """Several, in which the same part has the same name."""
    return ["\n".join(_lines(top, parts)) for top, parts in _pieces(nodes)]


def _lines(top: Expr, parts: Sequence[tuple[str, Expr]]) -> Iterator[str]:
    """The top, then the parts that it needs; what comes out as a number, or as another name, needs none."""
    import sympy

    plain: dict[Any, Any] = {}
    defined: list[tuple[Any, Any]] = []
    for name, part in reversed(parts):  # those that are used before those that use them
        expression = _in_sympy(part).xreplace(plain)
        symbol = symbolic.variable(name)
        if expression.is_number or isinstance(expression, sympy.Symbol):
            plain[symbol] = expression
        else:
            defined.append((symbol, expression))
    first = _in_sympy(top).xreplace(plain)
    yield str(first)
    needed = set(first.free_symbols)
    for symbol, expression in reversed(defined):
        shown = expression.xreplace(plain)
        if symbol in needed:
            needed |= shown.free_symbols
            yield f"{symbol} = {shown}"


def in_a_line(node: Expr) -> str:
    """The same for a place where there is one line; of a long formula the top, and what the first names stand for."""
    first, *below = text(node).split("\n")
    if not below:
        return first
    return f"{first}, where {'; '.join(below[:_FEWEST])}" + (f"; {MORE}" if len(below) > _FEWEST else "")


def latex(node: Expr) -> str:
    """One expression in LaTeX; of a long one the top, and what it names."""
    ((top, parts),) = _pieces([node])
    written = [_latex(top), *(f"{name} = {_latex(part)}" for name, part in parts[:_FEW])]
    return r",\; ".join([*written, r"\dots"] if len(parts) > _FEW else written)


def _latex(node: Expr) -> str:
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


def _in_sympy(node: Expr) -> Any:
    """One piece, its long fractions as the decimal numbers that they are."""
    decimals = {n: _decimal(n) for n in graph.topological([node]) if _is_long(n)}
    return symbolic.to_sympy(graph.substitute([node], decimals))[0]


def _is_long(node: Expr) -> bool:
    value = graph.number(node)
    return value is not None and value.denominator >= _LONG_CONSTANT


def _decimal(node: Expr) -> Expr:
    value = float(graph.number(node) or 0)
    decimal = graph.symbol(repr(abs(value)))
    return graph.negate(decimal) if value < 0 else decimal


# ---------------------------------------------------------------------------------------------------------------------
# Pieces
# ---------------------------------------------------------------------------------------------------------------------


_Piece = tuple[Expr, list[tuple[str, Expr]]]
"""The top of a formula, and the parts that it and they name, in the order in which they are met."""


def _pieces(nodes: Sequence[Expr]) -> list[_Piece]:
    nodes = marks.as_values(nodes)
    if all(written_size(node) <= LARGEST for node in nodes):
        return [(node, []) for node in nodes]
    cut, names = _cut(nodes), _fresh_names(nodes)
    symbols: dict[Expr, Expr] = {}
    found: list[_Piece] = []
    for node in nodes:
        top, met = _with_names(node, cut, symbols, names)
        parts: list[tuple[str, Expr]] = []
        queue = deque(met)
        seen = set(met)
        while queue and len(parts) < _MOST:
            part = queue.popleft()
            shown, more = _with_names(part, cut, symbols, names)
            parts.append((str(symbols[part].payload), shown))
            queue.extend(m for m in more if m not in seen)
            seen.update(more)
        found.append((top, parts))
    return found


def _cut(outputs: Sequence[Expr]) -> set[Expr]:
    """The parts that get names: what occurs twice, and the longest parts of what would be too long."""
    nodes = graph.topological(outputs)
    uses = Counter(a for n in nodes for a in n.args)
    uses.update(outputs)
    sizes: dict[Expr, int] = {}
    cut: set[Expr] = set()
    for part in nodes:
        shown = _shown_arguments(part)
        size = 1 + sum(1 if a in cut else sizes[a] for a in shown)
        for argument in sorted(shown, key=sizes.__getitem__, reverse=True):
            if size <= _PIECE:
                break
            if argument not in cut and sizes[argument] > 1:
                cut.add(argument)
                size -= sizes[argument] - 1
        sizes[part] = size
        if size >= _COMMON and uses[part] > 1:
            cut.add(part)
    return cut


def _shown_arguments(node: Expr) -> tuple[Expr, ...]:
    return node.args[:_TERMS] if len(node.args) > 2 * _TERMS else node.args


def _with_names(node: Expr, cut: set[Expr], symbols: dict[Expr, Expr], names: Iterator[str]) -> tuple[Expr, list[Expr]]:
    """One piece: the parts that are cut as symbols, which are named as they are met; and these parts."""
    done: dict[Expr, Expr] = {}
    met: list[Expr] = []
    stack = [node]
    while stack:
        part = stack[-1]
        if part in done:
            stack.pop()
            continue
        if part in cut and part is not node:
            if part not in symbols:
                symbols[part] = graph.symbol(next(names))
            met.append(part)
            done[part] = symbols[part]
            continue
        shown = _shown_arguments(part)
        missing = [a for a in shown if a not in done]
        if missing:
            stack.extend(reversed(missing))
            continue
        arguments = [done[a] for a in shown]
        if len(shown) < len(part.args):
            arguments.append(graph.symbol(f"({len(part.args) - len(shown)} more terms)"))
        done[part] = graph.rebuild(part, arguments) if part.args else part
    return done[node], met


def _fresh_names(nodes: Sequence[Expr]) -> Iterator[str]:
    taken = {name.partition("[")[0].partition(".")[0] for name in graph.symbols(nodes)}
    yield from (name for name in _NAMES if name not in taken)
    number = 1
    while True:
        if f"s{number}" not in taken:
            yield f"s{number}"
        number += 1


# ---------------------------------------------------------------------------------------------------------------------
# Gradients
# ---------------------------------------------------------------------------------------------------------------------


def gradient_line(variables: Sequence[str], gradient: Sequence[Expr]) -> str:
    """The gradient of the sum of the outputs in one line: once for all elements if they follow one pattern.

    `4*x` stands for `[4*x[0], 4*x[1]]`; otherwise the first element is shown, named.
    """
    if not gradient:
        return ""
    return _line(tuple(variables[: len(gradient)]), tuple(gradient))


@lru_cache(maxsize=64)
def _line(variables: tuple[str, ...], gradient: tuple[Expr, ...]) -> str:
    first = in_a_line(gradient[0])
    if len(gradient) == 1:
        return first
    owners = {name.partition("[")[0] for name in variables}
    pattern = _without_index(first, variables[0])
    if len(owners) == 1 and f"{next(iter(owners))}[" not in pattern:
        rest = zip(gradient[1:], variables[1:], strict=True)
        if all(_without_index(in_a_line(g), name) == pattern for g, name in rest):
            return pattern
    return f"∂/∂{variables[0]} = {first}"


def _without_index(formula: str, variable: str) -> str:
    """`4*x[1]` as `4*x`, for the element x[1]."""
    return formula.replace(variable, variable.partition("[")[0])
