"""A graph as a table: a row for each node, and steps in which nodes of one depth that do the same fill their rows.

Evaluated on arrays, over all inputs at once, a step costs a few operations of NumPy where balls cost a Python object
for each node and input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr

Rows: TypeAlias = "slice | npt.NDArray[np.intp]"


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on rows, and where its results go."""

    node: Expr
    """One of the nodes: all do the same."""
    arguments: tuple[Rows, ...]
    """The rows of each argument. Of a sum of more than two terms there is one array, [terms, nodes]."""
    results: slice


@dataclass(frozen=True, slots=True)
class Table:
    """A graph by rows: variables first, then constants, then what the steps compute."""

    rows: int
    used: npt.NDArray[np.intp]
    """Of the inputs, those that occur: the first rows."""
    constants: tuple[Expr, ...]
    steps: tuple[Step, ...]
    outputs: npt.NDArray[np.intp]


def levelled(outputs: Sequence[Expr], inputs: Sequence[str]) -> Table:
    """The outputs as functions of the named inputs."""
    rows: dict[Expr, int] = {}
    positions = {name: i for i, name in enumerate(inputs)}
    nodes = graph.topological(outputs)
    variables = [node for node in nodes if node.head == "symbol"]
    constants = [node for node in nodes if node.head in ("constant", "pi")]
    for node in (*variables, *constants):
        rows[node] = len(rows)
    groups: dict[tuple[object, ...], list[Expr]] = {}
    levels: dict[Expr, int] = dict.fromkeys(rows, 0)
    for node in nodes:
        if node in levels:
            continue
        levels[node] = level = 1 + max(levels[a] for a in node.args)
        exponent = graph.number(node.args[1]) if node.head == "pow" else None
        groups.setdefault((level, node.head, len(node.args), node.payload, exponent), []).append(node)
    count = len(rows)
    steps = []
    for _, group in sorted(groups.items(), key=lambda item: int(levels[item[1][0]])):
        if group[0].head == "frozen":  # the same value: the same row
            rows.update((node, rows[node.args[0]]) for node in group)
            continue
        steps.append(Step(group[0], _arguments(group, rows), slice(count, count + len(group))))
        rows.update((node, count + i) for i, node in enumerate(group))
        count += len(group)
    return Table(
        rows=count,
        used=np.array([positions[str(node.payload)] for node in variables], dtype=np.intp),
        constants=tuple(constants),
        steps=tuple(steps),
        outputs=np.array([rows[output] for output in outputs], dtype=np.intp),
    )


def _arguments(group: Sequence[Expr], rows: dict[Expr, int]) -> tuple[Rows, ...]:
    columns = zip(*(node.args[:1] if node.head == "pow" else node.args for node in group), strict=True)
    found = [[rows[a] for a in column] for column in columns]
    if group[0].head == "add" and len(found) > 2:
        return (np.array(found, dtype=np.intp),)
    return tuple(map(_chosen, found))


def _chosen(rows: Sequence[int]) -> Rows:
    """As a window on the table where that is enough: one row for all, or neighbours."""
    first = rows[0]
    if all(row == first for row in rows):
        return slice(first, first + 1)
    if all(row == first + i for i, row in enumerate(rows)):
        return slice(first, first + len(rows))
    return np.array(rows, dtype=np.intp)
