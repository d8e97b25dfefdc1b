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
        _holds(tree, words, "")  # names what is no such expression before anything runs
    except (SyntaxError, _NoExpressionError) as error:
        raise LoadError(
            f"-k {expression!r} is no expression of names, `and`, `or`, `not` and brackets; "
            "write -k 'softmax and not forward'"
        ) from error
    return lambda case_id: _holds(tree, words, case_id.lower())


class _NoExpressionError(Exception):
    """Python understands it, and `-k` doesn't: `a (b)` is a call."""


def _holds(node: ast.expr, words: list[str], case_id: str) -> bool:
    """Evaluate without short cuts, so that one evaluation has seen every node."""
    match node:
        case ast.Name(id=name):
            return words[int(name[1:])] in case_id
        case ast.BoolOp(op=ast.And(), values=values):
            return all([_holds(value, words, case_id) for value in values])
        case ast.BoolOp(op=ast.Or(), values=values):
            return any([_holds(value, words, case_id) for value in values])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _holds(operand, words, case_id)
        case _:
            raise _NoExpressionError
