"""What became of the incoming gradient (in forward mode, of the tangents)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import ONE, ZERO, Expr
from diffcheck.explain.diagnosis.view import View
from diffcheck.modes import order
from diffcheck.verdict import Certainty, Diagnosis, Mistake


def ignored(view: View) -> Diagnosis | None:
    """The incoming gradient does not occur in what was executed."""
    seeds = {str(node.payload) for node in view.seeds}
    executed = [view.executed[i] for i in view.differing]
    if not seeds or graph.symbols(executed) & seeds or all(node is ZERO for node in executed):
        return None
    if any(graph.is_constant(node) and graph.number(node) is None for node in executed):
        return None  # ∞ - ∞ is no gradient that somebody forgot
    as_one = view.explains(_with_seeds(view, lambda _: ONE))
    more = ", which it takes for 1" if as_one else ""
    return Diagnosis(Mistake.IGNORED, Certainty.CERTAIN, f"the executed formula does not contain {_named(view)}{more}")


def bent(view: View) -> Diagnosis | None:
    """The derivative is that of another incoming gradient: its absolute value, its square, …"""
    if not view.seeds or "over" in view.mode:
        return None
    for mistake, function, words in _changes(view):
        certainty = view.explains(_with_seeds(view, function))
        if certainty is not None:
            return Diagnosis(
                mistake,
                certainty,
                f"the executed formula is the derivative with {words} in the place of {_named(view)}",
            )
    return None


def not_linear(view: View) -> Diagnosis | None:
    """Whatever else it is, a derivative is linear in the incoming gradient: in that of the last differentiation."""
    last = view.seeds_of(order(view.mode) - 1)
    if not last:
        return None
    twice = {seed: graph.constant(-2) * seed for seed in last}
    executed = [view.executed[i] for i in view.differing]
    silent = graph.substitute(executed, dict.fromkeys(last, ZERO))
    if view.differ(silent, [ZERO] * len(silent)):
        return None  # something is left over that has nothing to do with it
    if not view.differ(graph.substitute(executed, twice), [graph.constant(-2) * node for node in executed]):
        return None
    return Diagnosis(
        Mistake.NONLINEAR,
        Certainty.CERTAIN,
        f"multiplied by -2, {_last(view)} does not multiply the executed formula by -2",
    )


def _named(view: View) -> str:
    return " and ".join(view.trace.seed_names)


def _last(view: View) -> str:
    return " and ".join(seed.name for seed in view.trace.seeds if seed.step == order(view.mode) - 1)


def _with_seeds(view: View, function: Callable[[Expr], Expr]) -> dict[int, Expr]:
    references = [view.reference[i] for i in view.differing]
    changed = graph.substitute(references, {seed: function(seed) for seed in view.seeds})
    return dict(zip(view.differing, changed, strict=True))


def _changes(view: View) -> Iterator[tuple[Mistake, Callable[[Expr], Expr], str]]:
    name = view.trace.seed_names[0]
    yield Mistake.ABSOLUTE, lambda g: graph.where(graph.greater(g, ZERO), g, -g), f"|{name}|"
    yield Mistake.SQUARED, lambda g: g * g, f"{name}²"
    ends = sorted(_bounds(view))
    for low, high in [*((e, None) for e in ends), *((None, e) for e in ends), *combinations(ends, 2)]:
        words = f"{name} clipped to {'≥' if high is None else '≤'} {low if high is None else high}"
        if low is not None and high is not None:
            words = f"{name} clipped to [{float(low):g}, {float(high):g}]"
        yield Mistake.CLIPPED, _clip(low, high), words


def _bounds(view: View) -> set[float]:
    """The numbers that the incoming gradient is compared with."""
    seeds = {str(node.payload) for node in view.seeds}
    found: set[float] = set()
    for node in graph.postorder(view.executed[i] for i in view.differing[:1]):
        if node.head == "positive" and graph.symbols([node]) <= seeds:
            found |= {float(n.payload) for n in graph.postorder([node]) if graph.is_constant(n)} or {0.0}  # type: ignore[arg-type]
    return {sign * value for value in found for sign in (1, -1) if abs(value) < float("inf")}


def _clip(low: float | None, high: float | None) -> Callable[[Expr], Expr]:
    from diffcheck.algebra.constants import scalar

    def clip(g: Expr) -> Expr:
        if low is not None:
            g = graph.where(graph.greater(g, scalar(low)), g, scalar(low))
        if high is not None:
            g = graph.where(graph.greater(g, scalar(high)), scalar(high), g)
        return g

    return clip
