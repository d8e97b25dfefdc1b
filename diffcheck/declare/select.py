"""`-k`: an expression of names, `and`, `or`, `not` and brackets, as in pytest."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

from diffcheck.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable

_TOKEN: Final = re.compile(r"[()]|[^\s()]+")
_OPERATORS: Final = frozenset({"and", "or", "not", "(", ")"})
_NODES: Final = (ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Name, ast.Load)
"""What may be in a parsed expression: `a (b)` parses too, as a call."""


def matcher(expression: str) -> Callable[[str], bool]:
    """Compile an expression; a name in it means "the id contains this", in any case of letters."""
    words: list[str] = []
    source: list[str] = []
    for token in _TOKEN.findall(expression):
        if token in _OPERATORS:
            source.append(token)
        else:
            source.append(f"w{len(words)}")
            words.append(token.lower())
    if not source:
        return lambda _id: True
    try:
        tree = ast.parse(" ".join(source), mode="eval").body
    except SyntaxError:
        tree = None
    if tree is None or not all(isinstance(node, _NODES) for node in ast.walk(tree)):
        raise LoadError(
            f"-k {expression!r} is no expression of names, `and`, `or`, `not` and brackets; "
            "write for example -k 'softmax and not layer'"
        )
    return lambda case_id: _holds(tree, words, case_id.lower())


def _holds(node: ast.expr, words: list[str], case_id: str) -> bool:
    """Evaluate an expression that has no other nodes than these."""
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_holds(value, words, case_id) for value in values)
        case ast.BoolOp(values=values):
            return any(_holds(value, words, case_id) for value in values)
        case ast.UnaryOp(operand=operand):
            return not _holds(operand, words, case_id)
    return words[int(ast.unparse(node)[1:])] in case_id
