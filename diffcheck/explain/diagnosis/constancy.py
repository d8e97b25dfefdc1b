"""What was held constant and moves, or was differentiated and is held constant."""

from __future__ import annotations

from collections.abc import Sequence

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import Expr
from diffcheck.explain.diagnosis.view import View
from diffcheck.verdict import Certainty, Diagnosis, Mistake


def statistic_as_constant(view: View) -> Diagnosis | None:
    """A mean, a norm, a denominator: what depends on several entries, and was differentiated as if it did not."""
    return _as_constant(view, several=view.mode != "gradient")  # what was written down was meant, part by part


def part_as_constant(view: View) -> Diagnosis | None:
    """Any part of the function that was differentiated as if it were a constant."""
    return _as_constant(view, several=False)


def _as_constant(view: View, *, several: bool) -> Diagnosis | None:
    names = {str(node.payload) for node in view.inputs}
    thawed = {n: n.args[0] for n in graph.postorder(view.outputs) if marks.is_detached(n) and graph.symbols([n])}
    if thawed:
        certainty = _explains(view, 0, thawed)
        if certainty is not None:
            return _constancy(view, next(iter(thawed.values())), certainty, function_holds_it=True)
    for stage, formulas in reversed(list(enumerate(view.stages))):
        patterns: dict[object, list[Expr]] = {}
        seeds = {*view.seeds_before(stage)}
        for node, pattern in _patterns(formulas).items():
            owners = [name.partition("[")[0] for name in graph.symbols([node]) & names]
            most = max(map(owners.count, owners), default=int(node in seeds))
            named = node.head != "neg" and (node.head != "symbol" or stage > 0)
            if node not in formulas and most > several and named:
                patterns.setdefault(pattern, []).append(node)
        for nodes in reversed(patterns.values()):
            certainty = _explains(view, stage, {node: graph.frozen(node, "detach") for node in nodes})
            if certainty is not None:
                return _constancy(view, nodes[0], certainty, function_holds_it=False)
    return None


def _explains(view: View, stage: int, replacements: dict[Expr, Expr]) -> Certainty | None:
    changed = graph.substitute(view.stages[stage], replacements)
    derivative = view.derivative(changed, stage)
    return view.explains({i: derivative[i] for i in view.differing})


def _constancy(view: View, node: Expr, certainty: Certainty, *, function_holds_it: bool) -> Diagnosis:
    what = view.written(node)
    textbook = view.mode == "gradient"
    if textbook:  # what was written down is what was meant
        whose = f"the function holds {what} constant (detach, .data or no_grad)"
        if not function_holds_it:
            whose = f"gradient= holds {what} constant, which the function does not"
        return Diagnosis(Mistake.CONSTANT if function_holds_it else Mistake.NOT_CONSTANT, certainty, whose)
    if function_holds_it:
        return Diagnosis(
            Mistake.NOT_CONSTANT, certainty, f"the executed formula differentiates {what}, which the function detaches"
        )
    return Diagnosis(Mistake.CONSTANT, certainty, f"the executed formula is the derivative with {what} held constant")


def _patterns(outputs: Sequence[Expr]) -> dict[Expr, object]:
    """What nodes look like without indices: the means of two rows are the same."""
    found: dict[Expr, object] = {}
    for node in graph.postorder(outputs):
        if node.head == "symbol":
            found[node] = str(node.payload).partition("[")[0]
        elif graph.is_constant(node):
            found[node] = node.payload
        else:
            parts = tuple(found[a] for a in node.args)
            found[node] = (node.head, frozenset(parts) if node.head == "add" else parts)
    return found
