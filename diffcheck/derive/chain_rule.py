"""The reference: derivatives of a graph.

Every elementary derivative is SymPy's (`derive.symbolic`); this module only applies the chain rule, once per node,
so that shared subterms stay shared. A test holds the result to `sympy.diff` of the whole expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import ONE, ZERO, Expr
from diffcheck.derive import symbolic


def partials(node: Expr, *, forward: bool) -> tuple[Expr, ...]:
    """The derivative of one operation with respect to each of its arguments.

    `forward` is whether the derivative stands for forward mode, which `no_grad` does not stop.
    """
    args = node.args
    match node.head:
        case "add":
            return (ONE,) * len(args)
        case "neg":
            return (graph.MINUS_ONE,)
        case "mul":
            return (args[1], args[0])
        case "div":
            return (ONE / args[1], -node / args[1])
        case "pow":
            exponent = graph.number(args[1])
            if exponent is not None:
                return (symbolic.power_derivative(exponent)(args[0]), ZERO)
            return symbolic.general_power_derivatives(*args)
        case "where":
            return (ZERO, args[0], graph.logical_not(args[0]))
        case "positive" | "vanishes" | "not":
            return (ZERO,) * len(args)
        case "frozen":
            return (ONE if forward and node.payload == "no_grad" else ZERO,)
        case "rounded":
            return (ONE,)
        case head:
            # A constant argument needs no derivative, and may have none: the order of a polygamma function.
            return tuple(
                ZERO if graph.is_constant(a) else symbolic.partial_derivative(head, i)(*args)
                for i, a in enumerate(args)
            )


def _chain(node: Expr, index: int, partial: Expr, factor: Expr) -> Expr:
    """factor · ∂node/∂args[index]. A branch that is not taken passes nothing on, whatever its value."""
    if factor.head == "where" and ZERO in factor.args[1:]:
        # Where an adjoint is 0 because a branch was not taken, what it would be multiplied by may have no value.
        condition, a, b = factor.args
        return graph.where(condition, *(ZERO if f is ZERO else _chain(node, index, partial, f) for f in (a, b)))
    if node.head == "where" and index > 0:
        return graph.where(node.args[0], factor, ZERO) if index == 1 else graph.where(node.args[0], ZERO, factor)
    if node.head == "div" and index == 0:
        return factor / node.args[1]
    if partial.head == "div":
        return factor * partial.args[0] / partial.args[1] if partial.args[0] is not ONE else factor / partial.args[1]
    return factor * partial


def pull_back(outputs: Sequence[Expr], cotangents: Sequence[Expr], inputs: Sequence[Expr]) -> list[Expr]:
    """Σₖ cₖ · ∂yₖ/∂xᵢ for each input xᵢ: what reverse mode should give."""
    contributions: dict[Expr, list[Expr]] = {}
    for output, cotangent in zip(outputs, cotangents, strict=True):
        contributions.setdefault(output, []).append(cotangent)
    adjoints: dict[Expr, Expr] = {}
    nodes = graph.topological(outputs)
    wanted = _ancestors_of(nodes, inputs)
    for node in reversed(nodes):
        if node not in wanted or node not in contributions:
            continue
        adjoint = adjoints[node] = _total_by_branch(contributions.pop(node))
        if adjoint is ZERO or not node.args:
            continue
        for i, (argument, partial) in enumerate(zip(node.args, partials(node, forward=False), strict=True)):
            if argument in wanted and partial is not ZERO:
                contributions.setdefault(argument, []).append(_chain(node, i, partial, adjoint))
    return [adjoints.get(x, ZERO) for x in inputs]


def _total_by_branch(parts: Sequence[Expr]) -> Expr:
    """The sum; what only counts in one branch is summed within it, so that it stays 0 as a whole in the other."""
    if sum(part.head == "where" for part in parts) < 2:
        return graph.total(parts)
    plain: list[Expr] = []
    branches: dict[tuple[Expr, bool], list[Expr]] = {}
    for part in parts:
        if part.head == "where" and ZERO in part.args[1:]:
            condition, a, b = part.args
            branches.setdefault((condition, b is ZERO), []).append(a if b is ZERO else b)
        else:
            plain.append(part)
    for (condition, holds), terms in branches.items():
        inside = _total_by_branch(terms)
        plain.append(graph.where(condition, inside, ZERO) if holds else graph.where(condition, ZERO, inside))
    return graph.total(plain)


def push_forward(outputs: Sequence[Expr], tangents: Mapping[Expr, Expr]) -> list[Expr]:
    """Σᵢ ∂yₖ/∂xᵢ · tᵢ for each output yₖ: what forward mode should give."""
    done: dict[Expr, Expr] = {}
    for node in graph.topological(outputs):
        if node in tangents:
            done[node] = tangents[node]
            continue
        moving = [i for i, argument in enumerate(node.args) if done[argument] is not ZERO]
        if not moving:
            done[node] = ZERO
            continue
        slopes = partials(node, forward=True)
        done[node] = graph.total(
            _chain(node, i, slopes[i], done[node.args[i]]) for i in moving if slopes[i] is not ZERO
        )
    return [done[output] for output in outputs]


def nested(
    steps: Sequence[str], formulas: Sequence[Expr], inputs: Sequence[Expr], seeds: Sequence[Sequence[Expr]]
) -> list[Expr]:
    """Differentiations one after the other, each of what the one before it gave: what the last one gives."""
    return levels(formulas, steps=steps, inputs=inputs, seeds=seeds)[-1]


def levels(
    formulas: Sequence[Expr], *, steps: Sequence[str], inputs: Sequence[Expr], seeds: Sequence[Sequence[Expr]]
) -> list[list[Expr]]:
    """The formulas, and what each of several differentiations gives, one after the other.

    Args:
        formulas: What is differentiated.
        steps: `forward`, or another word for reverse mode; the innermost first.
        inputs: With respect to what: in later steps, with respect to the seeds of earlier ones too.
        seeds: By step, a tangent for everything that it is with respect to, or a cotangent for every formula.
    """
    found, moving = [list(formulas)], [*inputs]
    for how, own in zip(steps, seeds, strict=True):
        if how == "forward":
            found.append(push_forward(found[-1], dict(zip(moving, own, strict=True))))
        else:
            found.append(pull_back(found[-1], own, moving))
        moving += own
    return found


def _ancestors_of(nodes: Sequence[Expr], inputs: Sequence[Expr]) -> set[Expr]:
    """Those of all nodes, in order, that depend on an input: the only ones an adjoint is needed for."""
    found = set(inputs)
    for node in nodes:
        if any(argument in found for argument in node.args):
            found.add(node)
    return found


def with_unit_cotangents(expressions: Sequence[Expr], cotangents: Sequence[Expr]) -> list[Expr]:
    """The derivative of the sum of the outputs: every cotangent set to 1."""
    return graph.substitute(expressions, {c: graph.constant(Fraction(1)) for c in cotangents})
