"""An oracle of our own: SymPy's trees and the graph's nodes evaluated by mpmath, to as many digits as are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import mpmath
import sympy
from flint import arb
from mpmath import mpf

from diffcheck.algebra.expr import Expr, topological
from diffcheck.derive.symbolic import Frozen, Iverson, to_sympy, variable

DIGITS: Final = 300


class NoValue(ArithmeticError):
    """There is no real number here: a division by zero, the logarithm of a negative number."""


def real(value: Any) -> Any:
    """A finite real number, or none at all."""
    if isinstance(value, mpmath.mpc):
        if value.imag != 0:
            raise NoValue
        value = value.real
    if not mpmath.isfinite(value):
        raise NoValue
    return value


# ---------------------------------------------------------------------------------------------------------------------
# SymPy's trees
# ---------------------------------------------------------------------------------------------------------------------

FUNCTIONS: Final[dict[Any, Callable[..., Any]]] = {
    sympy.exp: mpmath.exp, sympy.log: mpmath.log, sympy.sin: mpmath.sin, sympy.cos: mpmath.cos, sympy.tan: mpmath.tan,
    sympy.asin: mpmath.asin, sympy.acos: mpmath.acos, sympy.atan: mpmath.atan, sympy.atan2: mpmath.atan2,
    sympy.sinh: mpmath.sinh, sympy.cosh: mpmath.cosh, sympy.tanh: mpmath.tanh, sympy.asinh: mpmath.asinh,
    sympy.acosh: mpmath.acosh, sympy.atanh: mpmath.atanh, sympy.erf: mpmath.erf, sympy.erfc: mpmath.erfc,
    sympy.erfinv: mpmath.erfinv, sympy.gamma: mpmath.gamma, sympy.loggamma: mpmath.loggamma,
    sympy.polygamma: lambda n, x: mpmath.psi(int(n), x), sympy.floor: mpmath.floor, sympy.Abs: abs,
    sympy.sign: mpmath.sign, sympy.besseli: lambda n, x: mpmath.re(mpmath.besseli(int(n), x)),
    Frozen: lambda x: x,
}  # fmt: skip


def sympy_value(expression: Any, values: Mapping[Any, Any]) -> Any:
    """A SymPy expression at the values of its symbols, at mpmath's current precision.

    Raises:
        NoValue: There is none.
    """
    known: dict[Any, Any] = dict(values)

    def of(node: Any) -> Any:
        found = known.get(node)
        if found is None:
            found = known[node] = real(compute(node))
        return found

    def compute(node: Any) -> Any:
        if node.is_Rational:
            return mpf(int(node.p)) / int(node.q)
        if node is sympy.pi:
            return +mpmath.pi
        if node is sympy.E:
            return mpmath.exp(1)
        if node.is_Add:
            return mpmath.fsum([of(a) for a in node.args])
        if node.is_Mul:
            result = mpf(1)
            for factor in sorted(node.args, key=lambda a: not _selects(a)):
                result *= of(factor)
                if result == 0:
                    break  # a branch that is not taken need not have a value
            return result
        if node.is_Pow:
            base, exponent = of(node.base), of(node.exp)
            if base == 0 and exponent < 0:
                raise NoValue
            return base ** (int(exponent) if node.exp.is_Integer else exponent)
        if isinstance(node, Iverson):
            (condition,) = node.args
            difference = of(condition.args[0]) - of(condition.args[1])
            holds = {"StrictGreaterThan": difference > 0, "StrictLessThan": difference < 0, "Equality": difference == 0}
            return mpf(int(holds[type(condition).__name__]))
        return FUNCTIONS[type(node)](*map(of, node.args))

    try:
        return of(expression)
    except (ZeroDivisionError, ValueError) as error:  # mpmath's poles
        raise NoValue from error


def _selects(node: Any) -> bool:
    return isinstance(node, Iverson) or (node.is_Add and any(map(_selects, node.args)))


def sympy_gradient(outputs: Sequence[Expr], cotangents: Sequence[Expr], inputs: Sequence[Expr]) -> list[Any]:
    """Σₖ cₖ · ∂yₖ/∂xᵢ, by `sympy.diff` of the whole expression; frozen parts are constants."""
    forms = to_sympy([*outputs, *cotangents], reveal=True)
    whole = sum(y * c for y, c in zip(forms[: len(outputs)], forms[len(outputs) :], strict=True))
    return [without_floors(sympy.diff(whole, variable(str(x.payload)))) for x in inputs]


def without_floors(derivative: Any) -> Any:
    """SymPy leaves the derivative of a floor as it is; off the jumps it is 0."""
    return derivative.replace(lambda e: isinstance(e, (sympy.Derivative, sympy.Subs)), lambda _: sympy.Integer(0))


# ---------------------------------------------------------------------------------------------------------------------
# Nodes of the graph
# ---------------------------------------------------------------------------------------------------------------------

HEADS_BY_MPMATH: Final[dict[str, Callable[..., Any]]] = {
    "sqrt": mpmath.sqrt, "exp": mpmath.exp, "expm1": lambda x: mpmath.exp(x) - 1, "log": mpmath.log,
    "log1p": lambda x: mpmath.log(1 + x), "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "asin": mpmath.asin,
    "acos": mpmath.acos, "atan": mpmath.atan, "atan2": mpmath.atan2, "sinh": mpmath.sinh, "cosh": mpmath.cosh,
    "tanh": mpmath.tanh, "asinh": mpmath.asinh, "acosh": mpmath.acosh, "atanh": mpmath.atanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)), "erf": mpmath.erf, "erfc": mpmath.erfc, "erfinv": mpmath.erfinv,
    "gamma": mpmath.gamma, "lgamma": mpmath.loggamma, "polygamma": lambda n, x: mpmath.psi(int(n), x),
    "floor": mpmath.floor, "besseli": lambda n, x: mpmath.re(mpmath.besseli(int(n), x)),
    "erfcx": lambda x: mpmath.exp(x * x) * mpmath.erfc(x),
}  # fmt: skip


def node_value(node: Expr, values: Mapping[str, Any]) -> Any:
    """A node at the values of its variables, at mpmath's current precision; branches that are not taken need no value.

    Raises:
        NoValue: There is none.
    """
    known: dict[Expr, Any] = {}
    for part in topological([node]):
        try:
            known[part] = real(_node(part, [known[a] for a in part.args], values))
        except (NoValue, ZeroDivisionError, ValueError):
            known[part] = None
    if known[node] is None:
        raise NoValue
    return known[node]


def _node(node: Expr, args: list[Any], values: Mapping[str, Any]) -> Any:
    payload = node.payload
    if node.head == "where":
        return args[1] if args[0] == 1 else args[2]
    if any(a is None for a in args):
        raise NoValue
    match node.head:
        case "constant":
            assert isinstance(payload, Fraction)
            return mpf(payload.numerator) / payload.denominator
        case "symbol":
            return values[str(payload)]
        case "pi":
            return +mpmath.pi
        case "add":
            return mpmath.fsum(args)
        case "mul":
            return args[0] * args[1]
        case "neg":
            return -args[0]
        case "div":
            return args[0] / args[1]
        case "pow":
            return args[0] ** (int(args[1]) if args[1] == int(args[1]) else args[1])
        case "positive":
            return mpf(int(args[0] > 0))
        case "vanishes":
            return mpf(int(args[0] == 0))
        case "not":
            return 1 - args[0]
        case "frozen" | "rounded" | "computed_as":
            return args[0]
        case head:
            return HEADS_BY_MPMATH[head](*args)


# ---------------------------------------------------------------------------------------------------------------------
# Balls
# ---------------------------------------------------------------------------------------------------------------------


def exact(value: arb) -> Any:
    """A ball's midpoint, or its radius, as an mpmath number; exact if the precision suffices."""
    man, exponent = value.man_exp()
    return mpmath.ldexp(mpf(int(man)), int(exponent))


def contains(ball: arb, value: Any, slack: float | Any = 0) -> bool:
    """Whether a ball contains a number, up to a relative slack."""
    return bool(abs(exact(ball.mid()) - value) <= exact(ball.rad()) + abs(value) * slack)
