"""Between the expression graph and SymPy: what people are shown, and where every elementary derivative comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from math import isnan
from typing import Any

import sympy

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import Expr
from diffcheck.algebra.functions import FUNCTIONS

_U, _V = sympy.symbols("u v")


class Iverson(sympy.Function):  # type: ignore[misc]
    """[condition]: 1 where a relation holds, 0 elsewhere. SymPy has it only inside Piecewise."""

    is_real = True  # a bracket may stand inside another's condition, and SymPy compares real numbers only

    def _sympystr(self, printer: Any) -> str:
        return f"[{printer.doprint(self.args[0])}]"

    def _latex(self, printer: Any) -> str:
        return rf"\left[{printer.doprint(self.args[0])}\right]"

    def _eval_derivative(self, _: Any) -> Any:
        # 0 off the boundary. Not `fdiff`: SymPy would differentiate the relation first, and can't.
        return sympy.Integer(0)


class Frozen(sympy.Function):  # type: ignore[misc]
    """A value that differentiation treats as a constant: `detach()` and `no_grad`."""

    is_real = True

    def _sympystr(self, printer: Any) -> str:
        return f"stop({printer.doprint(self.args[0])})"

    def _latex(self, printer: Any) -> str:
        return rf"\operatorname{{stop}}\left({printer.doprint(self.args[0])}\right)"

    def _eval_derivative(self, _: Any) -> Any:
        return sympy.Integer(0)


@cache
def definition(head: str) -> Any:
    """The SymPy expression, in u and v, that the table gives for a head."""
    return sympy.sympify(FUNCTIONS[head].definition, locals={"u": _U, "v": _V})


def variable(name: str) -> Any:
    """The SymPy symbol of a variable. Real, as all of our variables are."""
    return sympy.Symbol(name, real=True)


def _constant(value: Fraction | float) -> Any:
    if isinstance(value, Fraction):
        return sympy.Rational(value.numerator, value.denominator)
    return sympy.nan if isnan(value) else sympy.oo if value > 0 else -sympy.oo


def to_sympy(outputs: Sequence[Expr], *, reveal: bool = False) -> list[Any]:
    """The outputs as SymPy writes them. `reveal` shows the marks (frozen parts) that have no value of their own."""
    done: dict[Expr, Any] = {}
    outputs = marks.as_values(outputs)
    for node in graph.topological(outputs):
        done[node] = _node_to_sympy(node, [done[a] for a in node.args], reveal=reveal)
    return [done[output] for output in outputs]


def _node_to_sympy(node: Expr, args: list[Any], *, reveal: bool) -> Any:
    match node.head:
        case "constant":
            assert isinstance(node.payload, (Fraction, float))
            return _constant(node.payload)
        case "symbol":
            return variable(str(node.payload))
        case "pi":
            return sympy.pi
        case "add":
            return sympy.Add(*args)
        case "mul":
            return sympy.Mul(*args)
        case "neg":
            return -args[0]
        case "div":
            return args[0] / args[1]
        case "pow":
            return args[0] ** args[1]
        case "positive":
            return _bracket(args[0] > 0)
        case "vanishes":
            return _bracket(sympy.Eq(args[0], 0))
        case "not":
            return 1 - args[0]
        case "where":
            return args[0] * args[1] + (1 - args[0]) * args[2]
        case "frozen":
            return Frozen(args[0]) if reveal else args[0]
        case "rounded":
            return args[0]
        case head:
            return definition(head).subs(dict(zip((_U, _V), args, strict=False)), simultaneous=True)


def _bracket(condition: Any) -> Any:
    if condition in (True, False):
        return sympy.Integer(int(bool(condition)))
    return Iverson(condition)


# How SymPy's functions are called in the graph.
_HEAD_OF = {function.sympy_name: name for name, function in FUNCTIONS.items()}


def from_sympy(expression: Any, bindings: dict[Any, Expr]) -> Expr:
    """A SymPy expression as a node, its symbols bound to nodes.

    Raises:
        KeyError: A function that the table of heads lacks.
    """
    if expression in bindings:
        return bindings[expression]

    def convert(part: Any) -> Expr:
        return from_sympy(part, bindings)

    if expression.is_Rational:
        return graph.constant(Fraction(int(expression.p), int(expression.q)))
    if expression is sympy.pi:
        return graph.PI
    if expression is sympy.E:
        return graph.call("exp", graph.ONE)
    if expression.is_Add:
        return graph.total([convert(a) for a in expression.args])
    if expression.is_Mul:
        # Denominators are divided by, once: fewer roundings than multiplying by reciprocals.
        top = [a for a in expression.args if not _is_reciprocal(a)]
        bottom = [1 / a for a in expression.args if _is_reciprocal(a)]
        numerator = graph.product(map(convert, top))
        return graph.divide(numerator, graph.product(map(convert, bottom))) if bottom else numerator
    if expression.is_Pow:
        if _is_reciprocal(expression):
            return graph.divide(graph.ONE, convert(1 / expression))
        return graph.power(convert(expression.base), convert(expression.exp))
    name = _HEAD_OF[type(expression).__name__]
    return graph.call(name, *map(convert, expression.args))


def _is_reciprocal(expression: Any) -> bool:
    return bool(expression.is_Pow and expression.exp.is_Rational and expression.exp.is_negative)


def _as_function(derivative: Any) -> Callable[..., Expr]:
    """An expression in u and v as a function of nodes; it is read once, where its head first occurs."""
    bindings = {_U: graph.symbol("u"), _V: graph.symbol("v")}

    @cache
    def read() -> tuple[Expr, list[Expr]]:
        formula = from_sympy(derivative, bindings)
        return formula, [node for node in graph.topological([formula]) if node.args]

    def build(*args: Expr) -> Expr:
        formula, steps = read()
        done = dict(zip(bindings.values(), args, strict=False))
        for node in steps:
            done[node] = graph.rebuild(node, [done.get(a, a) for a in node.args])
        return done.get(formula, formula)

    return build


@cache
def partial_derivative(head: str, argument: int) -> Callable[..., Expr]:
    """How SymPy differentiates a head with respect to one of its arguments, ready to be applied to nodes."""
    if FUNCTIONS[head].step:
        return lambda *_: graph.ZERO
    return _as_function(sympy.diff(definition(head), (_U, _V)[argument]))


@cache
def power_derivative(exponent: Fraction) -> Callable[[Expr], Expr]:
    """SymPy's derivative of u**exponent, for a literal exponent."""
    return _as_function(sympy.diff(_U ** sympy.Rational(exponent.numerator, exponent.denominator), _U))


@cache
def _general_power() -> tuple[Callable[..., Expr], Callable[..., Expr]]:
    return _as_function(sympy.diff(_U**_V, _U)), _as_function(sympy.diff(_U**_V, _V))


def general_power_derivatives(base: Expr, exponent: Expr) -> tuple[Expr, Expr]:
    """SymPy's derivatives of u**v with respect to u and to v."""
    by_base, by_exponent = _general_power()
    return by_base(base, exponent), by_exponent(base, exponent)


def derive_all() -> None:
    """Differentiates every head: what processes that are forked then need not do."""
    for head in FUNCTIONS:
        for position, argument in enumerate((_U, _V)):
            if argument in definition(head).free_symbols:
                partial_derivative(head, position)
    _general_power()
