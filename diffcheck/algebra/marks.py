"""What marks say of outputs: which parts the author detached, and by which formulas kernels compute.

The marks themselves are made in `expr`; each is the identity, with something to say about it.
"""

from __future__ import annotations

import operator
from collections.abc import Container, Sequence

from diffcheck.algebra.expr import BY_SERIAL, Expr, is_constant, rebuild, topological


def is_detached(node: Expr) -> bool:
    """Whether the author's code keeps derivatives from flowing through it."""
    return node.head == "frozen" and node.payload != "rounding" and not is_constant(node.args[0])


def as_values(outputs: Sequence[Expr]) -> list[Expr]:
    """The outputs without how kernels compute them."""
    return _chosen(outputs, 0)


def thawed(outputs: Sequence[Expr], only: Container[Expr] | None = None) -> list[Expr]:
    """The outputs with nothing detached, or nothing by certain nodes: everything moves with the inputs."""
    done: dict[Expr, Expr] = {}
    for node in topological(outputs):
        args = [done[a] for a in node.args]
        if is_detached(node) and (only is None or node in only):
            done[node] = args[0]
        else:
            done[node] = node if all(map(operator.is_, args, node.args)) else rebuild(node, args)
    return [done[output] for output in outputs]


def as_computed(outputs: Sequence[Expr]) -> list[Expr]:
    """The outputs by the formulas that kernels use."""
    return _chosen(outputs, 1)


def _chosen(outputs: Sequence[Expr], which: int) -> list[Expr]:
    seen = {output for output in outputs if not output.plain}
    stack = list(seen)
    while stack:
        for argument in stack.pop().args:
            if not argument.plain and argument not in seen:
                seen.add(argument)
                stack.append(argument)
    done: dict[Expr, Expr] = {}
    for node in sorted(seen, key=BY_SERIAL):
        args = [done.get(a, a) for a in node.args]
        if node.head == "computed_as":
            done[node] = args[which]
        else:
            done[node] = node if all(map(operator.is_, args, node.args)) else rebuild(node, args)
    return [done.get(output, output) for output in outputs]
