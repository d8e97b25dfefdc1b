"""Formulas as results have them, in SymPy's notation, → LaTeX for documents and MathML for browsers.

What can't be read as a formula (the size of a long one, an equation between matrices) has neither.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from html import escape
from typing import Final

from diffcheck.algebra.functions import FUNCTIONS

_RELATIONS: Final[dict[type[ast.cmpop], tuple[str, str]]] = {
    ast.Gt: (">", "&gt;"),
    ast.GtE: (r"\ge", "≥"),
    ast.Lt: ("<", "&lt;"),
    ast.LtE: (r"\le", "≤"),
    ast.Eq: ("=", "="),
    ast.NotEq: (r"\ne", "≠"),
}
_SUM, _PRODUCT, _POWER, _ATOM = range(4)


class _NoFormulaError(Exception):
    """A text that is no formula, or one with something in it that has no notation here."""


def latex(formula: str) -> str:
    """Write a formula in LaTeX, without delimiters; empty if it is none."""
    return _written(formula, _latex)


def mathml(formula: str) -> str:
    """Write a formula as an element of MathML, with its LaTeX inside; empty if it is none."""
    body = _written(formula, _mathml)
    if not body:
        return ""
    source = f'<annotation encoding="application/x-tex">{escape(latex(formula))}</annotation>'
    return f'<math displaystyle="true"><semantics><mrow>{body}</mrow>{source}</semantics></math>'


def _written(formula: str, write: Callable[[ast.expr], str]) -> str:
    try:
        return write(ast.parse(formula.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, _NoFormulaError):
        return ""


# ---------------------------------------------------------------------------------------------------------------------
# What both notations share
# ---------------------------------------------------------------------------------------------------------------------


def _level(node: ast.expr) -> int:
    """How strongly a formula holds together."""
    match node:
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            return _SUM
        case ast.UnaryOp() | ast.BinOp(op=ast.Mult() | ast.Div()):
            return _PRODUCT
        case ast.BinOp() | ast.Call(func=ast.Name(id="exp")):
            return _POWER
    return _ATOM


def _sign(node: ast.expr) -> tuple[bool, ast.expr]:
    """A product's sign, and the product without it: `-x**2/2` begins with its first factor's."""
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return True, operand
        case ast.BinOp(left=left, op=(ast.Mult() | ast.Div()) as op, right=right):
            negative, rest = _sign(left)
            return negative, ast.BinOp(rest, op, right) if negative else node
    return False, node


def _variable(node: ast.expr) -> tuple[str, str]:
    """A variable's name and index: `hidden.weight[0,1]` is `hidden.weight` and `0,1`."""
    match node:
        case ast.Name(id=name):
            return name, ""
        case ast.Attribute(value=value, attr=attribute):
            return f"{_variable(value)[0]}.{attribute}", ""
        case ast.Subscript(value=value, slice=index):
            entries = index.elts if isinstance(index, ast.Tuple) else [index]
            return _variable(value)[0], ",".join(ast.unparse(entry) for entry in entries)
    raise _NoFormulaError


def _begins_with_a_number(node: ast.expr) -> bool:
    match node:
        case ast.BinOp(left=left, op=ast.Mult() | ast.Pow()):
            return _begins_with_a_number(left)
    return isinstance(node, ast.Constant)


def _needs_brackets(node: ast.expr, level: int) -> bool:
    """Whether a part that must hold together at least so strongly does not."""
    return _level(node) < level or _sign(node)[0]


# ---------------------------------------------------------------------------------------------------------------------
# LaTeX
# ---------------------------------------------------------------------------------------------------------------------


def _latex(node: ast.expr) -> str:
    negative, positive = _sign(node)
    if negative:
        return f"-{_latex_at(_PRODUCT, positive)}"
    match node:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return f"{_latex(left)} + {_latex(right)}"
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return f"{_latex(left)} - {_latex_at(_PRODUCT, right)}"
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            between = r" \cdot " if _begins_with_a_number(right) else r" \, "
            return f"{_latex_at(_PRODUCT, left)}{between}{_latex_at(_PRODUCT, right)}"
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return rf"\frac{{{_latex(left)}}}{{{_latex(right)}}}"
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return f"{_latex_at(_ATOM, left)}^{{{_latex(right)}}}"
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _latex_call(name, [_latex(a) for a in arguments])
        case ast.List(elts=[ast.Compare(left=left, ops=[op], comparators=[right])]) if type(op) in _RELATIONS:
            return rf"\left[{_latex(left)} {_RELATIONS[type(op)][0]} {_latex(right)}\right]"
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return str(value)
    name, index = _variable(node)
    if name == "pi" and not index:
        return r"\pi"
    written = name if len(name) == 1 else rf"\mathrm{{{name.replace('_', chr(92) + '_')}}}"
    return f"{written}_{{{index}}}" if index else written


def _latex_at(level: int, node: ast.expr) -> str:
    text = _latex(node)
    return rf"\left({text}\right)" if _needs_brackets(node, level) else text


def _latex_call(name: str, arguments: list[str]) -> str:
    if name == "sqrt":
        return rf"\sqrt{{{arguments[0]}}}"
    if name == "exp":
        return f"e^{{{arguments[0]}}}"
    known = FUNCTIONS.get(name)
    command = (known and known.command) or rf"\operatorname{{{name.replace('_', chr(92) + '_')}}}"
    return rf"{command}\left({', '.join(arguments)}\right)"


# ---------------------------------------------------------------------------------------------------------------------
# MathML
# ---------------------------------------------------------------------------------------------------------------------


def _mathml(node: ast.expr) -> str:
    negative, positive = _sign(node)
    if negative:
        return f'<mo form="prefix">−</mo>{_mathml_at(_PRODUCT, positive)}'
    match node:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return f"{_mathml(left)}<mo>+</mo>{_mathml(right)}"
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return f"{_mathml(left)}<mo>−</mo>{_mathml_at(_PRODUCT, right)}"
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            between = "<mo>·</mo>" if _begins_with_a_number(right) else "<mo>&#x2062;</mo>"
            return f"{_mathml_at(_PRODUCT, left)}{between}{_mathml_at(_PRODUCT, right)}"
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return f"<mfrac><mrow>{_mathml(left)}</mrow><mrow>{_mathml(right)}</mrow></mfrac>"
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return f"<msup><mrow>{_mathml_at(_ATOM, left)}</mrow><mrow>{_mathml(right)}</mrow></msup>"
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _mathml_call(name, [_mathml(a) for a in arguments])
        case ast.List(elts=[ast.Compare(left=left, ops=[op], comparators=[right])]) if type(op) in _RELATIONS:
            sign = _RELATIONS[type(op)][1]
            return f"<mrow><mo>[</mo>{_mathml(left)}<mo>{sign}</mo>{_mathml(right)}<mo>]</mo></mrow>"
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return f"<mn>{value}</mn>"
    name, index = _variable(node)
    written = f"<mi>{'π' if name == 'pi' else escape(name)}</mi>"
    return f"<msub>{written}<mn>{escape(index)}</mn></msub>" if index else written


def _mathml_at(level: int, node: ast.expr) -> str:
    text = _mathml(node)
    return f"<mrow><mo>(</mo>{text}<mo>)</mo></mrow>" if _needs_brackets(node, level) else text


def _mathml_call(name: str, arguments: list[str]) -> str:
    if name == "sqrt":
        return f"<msqrt>{arguments[0]}</msqrt>"
    if name == "exp":
        return f"<msup><mi>e</mi><mrow>{arguments[0]}</mrow></msup>"
    inside = "<mo>,</mo>".join(arguments)
    return f"<mi>{escape(name)}</mi><mo>&#x2061;</mo><mrow><mo>(</mo>{inside}<mo>)</mo></mrow>"
