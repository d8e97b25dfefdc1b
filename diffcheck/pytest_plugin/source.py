"""What a module says of its cases: where they stand, which are imported, and how they are marked."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Names:
    """The names that a module's source binds."""

    lines: dict[str, int]
    """Where each begins, its decorators included; those in a class as `Class.name`."""
    imported: frozenset[str]


@cache
def names_in(file: Path) -> Names:
    """Reads a file; what can't be read binds nothing."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return Names({}, frozenset())
    lines: dict[str, int] = {}
    imported: set[str] = set()
    for prefix, node in _statements(tree.body, ""):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                lines[prefix + name] = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            case ast.Assign(targets=targets):
                bound = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
                lines |= {prefix + name: node.lineno for name in bound}
            case ast.AnnAssign(target=ast.Name(id=name)):
                lines[prefix + name] = node.lineno
            case ast.Import(names=names) | ast.ImportFrom(names=names) if not prefix:
                imported |= {alias.asname or alias.name for alias in names}
    return Names(lines, frozenset(imported - lines.keys()))


def _statements(body: Iterable[ast.AST], prefix: str) -> Iterator[tuple[str, Any]]:
    """A module's statements, also those below `if`, `try` and `with`, and those of its classes."""
    for node in body:
        yield prefix, node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.expr)):
            inner = f"{prefix}{node.name}." if isinstance(node, ast.ClassDef) else prefix
            yield from _statements(ast.iter_child_nodes(node), inner)


def module_marks(module: object) -> list[pytest.MarkDecorator]:
    """What a module's `pytestmark` says; a function's, too."""
    found = getattr(module, "pytestmark", [])
    return [_again(mark) for mark in (found if isinstance(found, (list, tuple)) else [found])]


def marks_above(value: object) -> list[pytest.MarkDecorator]:
    """The marks above `@case`: each holds the case, or the next mark, as its last argument."""
    marks: list[pytest.MarkDecorator] = []
    while isinstance(value, pytest.MarkDecorator) and value.args:
        marks.append(_again(value, value.args[:-1]))
        value = value.args[-1]
    return marks


def _again(mark: pytest.Mark | pytest.MarkDecorator, arguments: tuple[Any, ...] | None = None) -> pytest.MarkDecorator:
    """The same mark as a decorator, or with other arguments."""
    made: pytest.MarkDecorator = getattr(pytest.mark, mark.name)
    return made.with_args(*(mark.args if arguments is None else arguments), **mark.kwargs)
