"""Small changes to a module, one at a time: what its tests should notice."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one change."""

    line: int
    function: str
    """The innermost function that it is in."""
    change: str
    """What was there, and what is there instead."""
    source: str


_COMPARED: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}  # fmt: skip
_COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
_CALLED: Final = {"min": "max", "max": "min", "any": "all", "all": "any", "upper": "lower", "lower": "upper"}
_BOUNDS: Final = {"abs_upper": "abs_lower", "abs_lower": "abs_upper"}
"""An enclosure's ends: to take the wrong one is a bound that does not hold."""


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines.

    Comparisons, arithmetic, `and` and `or`, `not`, conditions that always or never hold, numbers one off, `min` and
    `max`, the ends of enclosures, statements left out.
    """
    tree = ast.parse(source)
    inside = _functions(tree)
    typing_only = {id(n) for node in ast.walk(tree) for part in _annotations(node) for n in ast.walk(part)}
    nodes = list(ast.walk(tree))
    found = []
    for position, node in enumerate(nodes):
        if id(node) in typing_only:
            continue
        for change, replace in _changes(node):
            mutated = copy.deepcopy(tree)
            place = next(n for i, n in enumerate(ast.walk(mutated)) if i == position)
            replace(place)
            line = getattr(node, "lineno", 0)
            found.append(
                Mutant(line, inside.get(id(node), ""), change, ast.unparse(ast.fix_missing_locations(mutated)))
            )
    yield from sorted(found, key=lambda m: m.line)


def _functions(tree: ast.Module) -> dict[int, str]:
    """The innermost function that a node is in, by the node's identity."""
    inside: dict[int, str] = {}

    def visit(node: ast.AST, name: str) -> None:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            name = f"{name}.{node.name}".lstrip(".")
        inside[id(node)] = name
        for child in ast.iter_child_nodes(node):
            visit(child, name)

    visit(tree, "")
    return inside


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    """What only type checkers, people and dataclasses' declarations read."""
    match node:
        case ast.FunctionDef():
            yield from (a.annotation for a in [*node.args.args, *node.args.kwonlyargs] if a.annotation)
            if node.returns:
                yield node.returns
            yield from node.decorator_list
        case ast.AnnAssign():
            yield node.annotation
        case ast.Raise() | ast.JoinedStr():  # the words of an error; snapshots hold those that matter
            yield node
        case ast.Expr(value=ast.Constant()):
            yield node
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            yield node


Change = tuple[str, Callable[[ast.AST], None]]


def _changes(node: ast.AST) -> Iterator[Change]:  # noqa: C901 - a case for each kind of node
    match node:
        case ast.Compare(ops=[op]):
            for other in _COMPARED[type(op)]:
                yield f"{type(op).__name__} → {other.__name__}", _set("ops", [other()])
        case ast.BinOp(op=op) if type(op) in _COMPUTED and not _is_text(node):
            other_op = _COMPUTED[type(op)]
            yield f"{type(op).__name__} → {other_op.__name__}", _set("op", other_op())
        case ast.BoolOp(op=op):
            swapped = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield f"{type(op).__name__} → {type(swapped).__name__}", _set("op", swapped)
        case ast.UnaryOp(op=ast.Not()):
            yield "not x → x", _becomes("operand")
        case ast.UnaryOp(op=ast.USub()):
            yield "-x → x", _set("op", ast.UAdd())
        case ast.If() | ast.IfExp():
            for value in (True, False):
                yield f"if … → if {value}", _set("test", ast.Constant(value))
        case ast.Constant(value=bool() as value):
            yield f"{value} → {not value}", _set("value", not value)
        case ast.Constant(value=int() | float() as value):
            yield f"{value} → {value + 1}", _set("value", value + 1)
        case ast.Name(id=name) if name in _CALLED and isinstance(node.ctx, ast.Load):
            yield f"{name} → {_CALLED[name]}", _set("id", _CALLED[name])
        case ast.Attribute(attr=name) if name in _BOUNDS or name in ("upper", "lower"):
            other_name = _BOUNDS.get(name) or _CALLED[name]
            yield f".{name} → .{other_name}", _set("attr", other_name)
        case ast.AugAssign(op=op) if type(op) in _COMPUTED:
            yield f"{type(op).__name__}= → {_COMPUTED[type(op)].__name__}=", _set("op", _COMPUTED[type(op)]())
        case ast.Continue():
            yield "continue → pass", _stands_for(ast.Pass())
        case ast.Break():
            yield "break → pass", _stands_for(ast.Pass())


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, (ast.JoinedStr, ast.Constant)) and not _is_number(side) for side in (node.left, node.right)
    )


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float))


def _set(name: str, value: object) -> Callable[[ast.AST], None]:
    return lambda node: setattr(node, name, value)


def _becomes(part: str) -> Callable[[ast.AST], None]:
    """The node is replaced by a part of itself."""
    return lambda node: _take_over(node, getattr(node, part))


def _stands_for(other: ast.AST) -> Callable[[ast.AST], None]:
    return lambda node: _take_over(node, other)


def _take_over(node: ast.AST, other: ast.AST) -> None:
    node.__class__ = other.__class__
    node.__dict__.clear()
    node.__dict__.update(other.__dict__)
