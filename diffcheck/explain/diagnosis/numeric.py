"""Mistakes of numbers: infinities and NaN on the way, a lower precision. The executed formula may well be right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from flint import arb

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import ONE, TWO, Expr
from diffcheck.certify.balls import BOUNDED, EXACT, Selections
from diffcheck.certify.compiler import Program
from diffcheck.certify.floats import in_numpy
from diffcheck.compare.evaluate import DTYPES, Evaluation
from diffcheck.explain.diagnosis.view import View
from diffcheck.verdict import Certainty, Diagnosis, Mistake

_FORMATS: Final = {24: "float32", 11: "float16", 8: "bfloat16"}
_FEWEST: Final = 3
"""Numbers that must agree before a factor is suspected."""
_DOUBLE: Final = 53
_BITS: Final = 4096
"""Enough to tell what cancels from what is 0."""


def _bfloat16(value: Any) -> np.float32:
    """Rounded to bfloat16, of which NumPy has none."""
    return np.float32(torch.tensor(float(value)).to(torch.bfloat16).item())


_TYPES: Final[Mapping[str, Callable[[Any], Any]]] = {
    "float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": _bfloat16,
    "complex128": np.float64, "complex64": np.float32,
}  # fmt: skip

_ARITHMETIC: Final[Mapping[str, Callable[..., Any]]] = {
    "add": lambda *terms: sum(terms[1:], terms[0]),
    "mul": np.multiply,
    "neg": np.negative,
    "div": np.divide,
    "pow": np.power,
    "positive": lambda a: a.dtype.type(a > 0),
    "vanishes": lambda a: a.dtype.type(a == 0),
    "not": lambda a: 1 - a,
    "where": lambda c, a, b: a if c == 1 else b,
    "frozen": lambda a: a,
    "rounded": lambda a: a,
}
"""What floating-point numbers make of an operation, infinities and NaN included."""


def in_floating_point(view: View, node: Expr, dtype: str) -> dict[Expr, Any]:
    """The value of every part of a formula, computed in a format as PyTorch does."""
    kind = _TYPES[dtype]
    symbols = {name: kind(value) for name, value in zip(view.trace.variables, view.point, strict=True)}
    values: dict[Expr, Any] = {}
    with np.errstate(all="ignore"):
        for part in graph.postorder([node]):
            args = [values[a] for a in part.args]
            if part.head == "symbol":
                values[part] = symbols[str(part.payload)]
            elif not part.args:
                values[part] = kind(_exact(part))
            elif operation := _ARITHMETIC.get(part.head) or in_numpy(part.head):
                values[part] = kind(operation(*args))
            elif all(np.isfinite(args)):
                leaves = [graph.constant(float(a)) for a in args]
                values[part] = kind(_exact(graph.rebuild(part, leaves)))
            else:
                values[part] = kind(np.nan)
    return values


def _exact(node: Expr) -> float:
    (ball,) = Program([node], [], EXACT)([], 64, Selections())
    return float(ball.mid()) if ball.is_finite() else float("nan")


def culprit(view: View, position: int, dtype: str) -> Expr | None:
    """The operation that gave the first infinity or NaN on the way to a number."""
    (executed,) = marks.as_computed([view.trace.executed[position]])
    return _origin(executed, in_floating_point(view, executed, dtype))[0]


def not_finite(view: View, position: int, dtype: str) -> Diagnosis | None:
    """Where an infinity or a NaN comes from, if one is met on the way."""
    (executed,) = marks.as_computed([view.trace.executed[position]])
    values = in_floating_point(view, executed, dtype)
    first, masked = _origin(executed, values)
    if first is None:
        return None
    if not first.args:
        words = f"{_shown(values[first])} comes of constants, as ∞ - ∞, 0 · ∞ or 0/0: it is no function of the inputs"
        return Diagnosis(Mistake.INFINITE, Certainty.CERTAIN, words)
    what = view.written(first)
    if masked is not None and _chooses(view) and _needs_not(view, position, executed, first):
        return _masked(view, first, values, what)
    limits = torch.finfo(DTYPES[dtype])
    if first.head == "div" and values[first.args[1]] == 0:
        return _division_by_zero(view, first, values, dtype, limits.smallest_normal)
    if np.isinf(values[first]) and _true_size(view, first) > arb(limits.max):
        return Diagnosis(Mistake.OVERFLOW, Certainty.CERTAIN, f"{what} is beyond the range of {dtype}")
    return None


def _needs_not(view: View, position: int, executed: Expr, part: Expr) -> bool:
    """Whether a number is the derivative without a part of its formula: then that part is of a branch not taken."""
    others = [graph.substitute([executed], {part: other})[0] for other in (ONE, TWO)]
    program = Program([*others, view.reference[position]], view.trace.variables, EXACT)
    *found, true = program([arb(v) for v in view.point], _BITS, Selections())
    return all(ball.is_finite() and ball.overlaps(true) for ball in found)


def _masked(view: View, first: Expr, values: Mapping[Expr, Any], what: str) -> Diagnosis:
    """What a mask or `where` leaves out and is multiplied by 0 all the same."""
    quotients = [n for n in graph.postorder(view.outputs) if n.head == "div"]
    exact = Program([side for n in quotients for side in n.args], view.trace.variables, EXACT)
    sides = exact([arb(v) for v in view.point], _BITS, Selections())
    for quotient, top, bottom in zip(quotients, sides[::2], sides[1::2], strict=True):
        if top.is_zero() and bottom.is_zero():
            words = f"{view.written(quotient)} is 0/0 here, in a branch that is not taken, and 0 times NaN is NaN"
            return Diagnosis(Mistake.MASKED, Certainty.CERTAIN, words)
    return Diagnosis(
        Mistake.NOT_TAKEN,
        Certainty.CERTAIN,
        f"{what} is {_shown(values[first])} here, in a branch that is not taken, and 0 times that is NaN",
    )


def _division_by_zero(
    view: View, quotient: Expr, values: Mapping[Expr, Any], dtype: str, smallest_normal: float
) -> Diagnosis | None:
    """Whether what is divided by is 0, or has become it out of range or by rounding."""
    top, bottom = map(view.written, quotient.args)
    size = _true_size(view, quotient.args[1])
    root = _root_of_zero(quotient.args[1], values)
    if root is not None:
        inside = _true_size(view, root.args[0])
        if not inside > 0:
            words = f"{view.written(root)} is 0 here, where the root has no slope: {top} is divided by it"
            return Diagnosis(Mistake.ROOT, Certainty.CERTAIN, words)
        if inside < smallest_normal:
            words = f"{view.written(root.args[0])} is 0 in {dtype}"
            return Diagnosis(Mistake.UNDERFLOW, Certainty.CERTAIN, words)
    if size.is_zero():
        words = f"{top} is divided by {bottom}, which is {_shown(values[quotient.args[0]])}/0 here"
        return Diagnosis(Mistake.ZERO, Certainty.CERTAIN, words)
    if size < smallest_normal:
        return Diagnosis(Mistake.UNDERFLOW, Certainty.CERTAIN, f"{bottom} is 0 in {dtype}")
    if size > smallest_normal:
        words = f"{top} is divided by {bottom}, which rounding makes 0 in {dtype}"
        return Diagnosis(Mistake.ZERO, Certainty.CERTAIN, words)
    return None


def _root_of_zero(divisor: Expr, values: Mapping[Expr, Any]) -> Expr | None:
    """The root that makes a divisor 0."""
    roots = [n for n in graph.postorder([divisor]) if n.head == "sqrt" and values[n] == 0]
    factors = {divisor, *(divisor.args if divisor.head in ("mul", "neg") else ())}
    return next((n for n in roots if n in factors), None)


def _shown(value: Any) -> str:
    return f"{float(value):g}"


def _origin(node: Expr, values: Mapping[Expr, Any]) -> tuple[Expr | None, Expr | None]:
    """The first operation that gave no finite number on the way to a result, and the condition that masks it.

    Without a NaN or an infinity as the result, any infinity on the way that the result depends on.
    """
    masked: Expr | None = None
    if np.isfinite(values[node]):
        lost = [n for n in graph.postorder([node]) if n.args and not np.isfinite(values[n])]
        lost = [n for n in lost if all(np.isfinite(values[a]) for a in n.args)]
        return (lost[0] if lost else None), None
    while True:
        wrong = [a for a in _used(node, values) if not np.isfinite(values[a])]
        if not wrong:
            return node, masked
        zeros = [a for a in node.args if values[a] == 0]
        if zeros and masked is None:
            masked = next((n for n in graph.postorder(zeros) if n.head == "positive" and values[n] == 0), None)
            masked = masked or next((n for n in graph.postorder(zeros) if n.head in ("positive", "vanishes")), None)
        node = wrong[0]


def _used(node: Expr, values: Mapping[Expr, Any]) -> Sequence[Expr]:
    """The arguments that count: of a `where`, the branch that is taken."""
    if node.head == "where":
        return (node.args[1] if values[node.args[0]] == 1 else node.args[2],)
    return node.args


def _chooses(view: View) -> bool:
    """Whether the function has branches."""
    return any(node.head in ("where", "positive", "vanishes") for node in graph.postorder(view.outputs))


def _true_size(view: View, node: Expr) -> arb:
    """The size of a part's value without rounding, overflow or underflow; no comparison holds where it has none."""
    program = Program([node], view.trace.variables, EXACT)
    (ball,) = program([arb(v) for v in view.point], _BITS, Selections())
    return abs(ball) if ball.is_finite() else arb("nan")


def _within_rounding(view: View, position: int, number: float) -> bool:
    """Whether what was executed, with all of its rounding, may have given a number."""
    program = Program([view.trace.executed[position]], view.trace.variables, BOUNDED)
    (ball,) = program([arb(v) for v in view.point], _DOUBLE, Selections())
    return bool(math.isfinite(number) and ball.is_finite() and ball.contains(arb(number)))


def by_numbers(evaluation: Evaluation) -> Diagnosis | None:
    """What the numbers alone suggest: one and the same factor wherever they are off."""
    true = evaluation.path.certifier.enclose(evaluation.point)
    wrong = [p for p in evaluation.judgement.failures if not true[p].contains(0) and true[p].is_finite()]
    ratios = [evaluation.computed[p] / float(true[p].mid()) for p in wrong]
    if len(ratios) < _FEWEST or not all(math.isclose(r, ratios[0], rel_tol=1e-6) for r in ratios):
        return None
    if math.isclose(ratios[0], -1, rel_tol=1e-6):
        return Diagnosis(Mistake.SIGN, Certainty.LIKELY, f"{len(ratios)} numbers are minus the derivative")
    words = f"{len(ratios)} numbers are {ratios[0]:.6g} times the derivative"
    return Diagnosis(Mistake.FACTOR, Certainty.LIKELY, words)


def lower_precision(view: View, position: int, number: float) -> Diagnosis | None:
    """What was executed rounded to fewer bits than the dtype has."""
    rounded = [n for n in graph.postorder([view.trace.executed[position]]) if n.head == "rounded"]
    theirs = {n.payload for n in graph.postorder(view.trace.outputs) if n.head == "rounded"}
    bits = [int(str(n.payload)) for n in rounded if n.payload not in theirs]
    certainty = view.explains({position: view.reference[position]}) if bits else None
    if certainty is None or not _within_rounding(view, position, number):
        return None
    name = _FORMATS.get(min(bits), f"{min(bits)} bits")
    return Diagnosis(Mistake.PRECISION, certainty, f"the executed formula is right, and computed in {name}")
