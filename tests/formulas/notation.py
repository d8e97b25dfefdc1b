"""The two notations of the data, formulas like Python's and preconditions like Lisp's, and their evaluation."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, TypeAlias

Tree: TypeAlias = Fraction | str | tuple[Any, ...]
"""A number as it is written, the name of a variable, or an operator's or function's name with its arguments."""

_OPERATORS: Final[Mapping[type, str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "pow",
    ast.USub: "neg",
}
_OPERATIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "pow": operator.pow,
    "neg": operator.neg,
}
FUNCTIONS: Final = ("exp", "log", "sqrt", "sin", "cos", "tan", "asin", "atan", "tanh")


# ---------------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------------


def formula(text: str) -> Tree:
    """A formula in Python's notation.

    Raises:
        ValueError: It contains what no formula of the data does.
    """

    def read(node: ast.AST) -> Tree:
        match node:
            case ast.Expression(body=body):
                return read(body)
            case ast.Constant(value=int() | float()):
                return Fraction(ast.get_source_segment(text, node))  # decimals as they stand there
            case ast.Name(id=name):
                return name
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
                return (_OPERATORS[type(op)], read(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return (_OPERATORS[type(op)], read(left), read(right))
            case ast.Call(func=ast.Name(id=name), args=args) if name in (*FUNCTIONS, "pow"):
                return (name, *map(read, args))
        raise ValueError(f"{ast.unparse(node)!r} in {text!r} is not understood")

    return read(ast.parse(text, mode="eval"))


def precondition(text: str) -> Tree:
    """A term in FPBench's notation: `(and (<= 0 x 1) (!= x y))`.

    Raises:
        ValueError: Parentheses do not match.
    """
    words = iter(re.findall(r"[()]|[^\s()]+", text))

    def read(word: str) -> Tree:
        if word != "(":
            return Fraction(word) if re.fullmatch(r"[-+.\d/eE]*\d[-+.\d/eE]*", word) else word
        parts: list[Tree] = []
        for inner in words:
            if inner == ")":
                return tuple(parts)
            parts.append(read(inner))
        raise ValueError(f"a parenthesis is not closed in {text!r}")

    return read(next(words))


# ---------------------------------------------------------------------------------------------------------------------
# Evaluating
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Algebra:
    """What formulas are evaluated in, besides the values of their variables."""

    number: Callable[[Fraction], Any]
    constants: Mapping[str, Any]
    function: Callable[[str, Any], Any]
    """By name, of one argument."""


def evaluated(tree: Tree, values: Mapping[str, Any], algebra: Algebra) -> Any:
    """The value of a tree, operation by operation as it is written."""
    if isinstance(tree, Fraction):
        return algebra.number(tree)
    if isinstance(tree, str):
        return values[tree] if tree in values else algebra.constants[tree]
    name, *arguments = tree
    found = [evaluated(argument, values, algebra) for argument in arguments]
    return _OPERATIONS[name](*found) if name in _OPERATIONS else algebra.function(name, *found)
