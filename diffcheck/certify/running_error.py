"""A graph's quick bound at many inputs at once: running error analysis in NumPy.

Every node has a value and the radius that its rounding may have (Higham, Accuracy and Stability of Numerical
Algorithms, 3.3), at the precision of the dtype under test and with the same accuracies of kernels and the same sums in
any order as the balls of `compiler`. Nodes of one depth that do the same are one operation on an array, over
all inputs: what costs a Python object per node and input there costs a fraction of it here.

A radius that is not finite says that first order is not enough: near a singularity, or next to a selector's boundary.
The balls decide there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import Expr
from diffcheck.algebra.functions import FUNCTIONS
from diffcheck.certify.balls import RANGES
from diffcheck.certify.floats import Floats, in_numpy
from diffcheck.certify.table import Rows, Table

_Pair: TypeAlias = tuple[Floats, Floats]
"""Values, and radii."""

_SMALL: Final = 2.0**-10
"""An argument's radius that is larger than this, and than this part of the argument, is not of first order."""
"""A part of their argument may be many periods."""
_STEP: Final = 2.0**-30
"""Over such a part of an argument the slope of a function is seen; rounding moves an argument by far less."""
_NOISE: Final = 2.0**-50
"""Such a part of a value may be rounding."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation on the rows of a table, and where its results go."""

    apply: Callable[[Sequence[_Pair], float], _Pair]
    arguments: tuple[Rows, ...]
    results: slice


@dataclass(frozen=True, slots=True)
class RunningError:
    """A graph, ready to be bounded at many inputs."""

    rows: int
    _used: npt.NDArray[np.intp]
    """Of the inputs, those that occur: the first rows."""
    _constants: Floats
    _constant_bits: Floats
    """How many bits each constant needs; infinitely many if it is no binary fraction."""
    _steps: tuple[_Step, ...]
    _outputs: npt.NDArray[np.intp]

    def __call__(self, points: Floats, bits: int) -> Floats:
        """The radii of the outputs, [points, outputs], at inputs [points, inputs], computed with so many bits."""
        unit = 2.0**-bits
        values, errors = np.empty((2, self.rows, len(points)))
        count, first = len(self._used), len(self._used) + len(self._constants)
        values[:count], errors[:count] = points.T[self._used], 0.0
        values[count:first] = self._constants[:, None]
        errors[count:first] = np.where(self._constant_bits <= bits, 0.0, unit * np.abs(self._constants))[:, None]
        with np.errstate(all="ignore"):
            for step in self._steps:
                found = step.apply([(values[rows], errors[rows]) for rows in step.arguments], unit)
                values[step.results], errors[step.results] = found
        return errors[self._outputs].T


def running_error(table: Table) -> RunningError | None:
    """Prepares a graph for evaluation, as the formulas that kernels use; None if some operation is left to balls."""
    steps = []
    for step in table.steps:
        apply = _operation(step.node)
        if apply is None:
            return None
        steps.append(_Step(apply, step.arguments, step.results))
    numbers = [math.pi if node.head == "pi" else _as_float(node) for node in table.constants]
    return RunningError(
        rows=table.rows,
        _used=table.used,
        _constants=np.array(numbers, dtype=float),
        _constant_bits=np.array([_bits(node) for node in table.constants], dtype=float),
        _steps=tuple(steps),
        _outputs=table.outputs,
    )


def _as_float(node: Expr) -> float:
    value = node.payload
    assert isinstance(value, (Fraction, float))
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _bits(node: Expr) -> float:
    value = node.payload
    if not isinstance(value, Fraction):
        return math.inf if node.head == "pi" else 0.0
    if value.denominator & (value.denominator - 1):
        return math.inf
    odd = abs(value.numerator)
    return float((odd // (odd & -odd)).bit_length()) if odd else 0.0


# ---------------------------------------------------------------------------------------------------------------------
# Operations: values and radii of the arguments, the unit roundoff → value and radius
# ---------------------------------------------------------------------------------------------------------------------


def _operation(node: Expr) -> Callable[[Sequence[_Pair], float], _Pair] | None:
    match node.head:
        case "add" if len(node.args) > 2:
            return _any_order
        case "pow":
            exponent = graph.number(node.args[1])
            return None if exponent is None else _power(exponent)
        case "rounded":
            assert isinstance(node.payload, int)
            return _rounded(node.payload)
        case head if head in _OPERATIONS:
            return _OPERATIONS[head]
        case head:
            return None if in_numpy(head) is None or FUNCTIONS[head].step else _function(head)


def _add(arguments: Sequence[_Pair], unit: float) -> _Pair:
    (a, ea), (b, eb) = arguments
    value = a + b
    return value, ea + eb + unit * np.abs(value)


def _any_order(arguments: Sequence[_Pair], unit: float) -> _Pair:
    """Higham, 4.2: (n - 1)·u·Σ|xᵢ|, whatever the order; the terms stand along a first axis."""
    ((terms, errors),) = arguments
    return terms.sum(axis=0), errors.sum(axis=0) + (len(terms) - 1) * unit * np.abs(terms).sum(axis=0)


def _negate(arguments: Sequence[_Pair], _: float) -> _Pair:
    ((a, ea),) = arguments
    return -a, ea


def _multiply(arguments: Sequence[_Pair], unit: float) -> _Pair:
    (a, ea), (b, eb) = arguments
    value = a * b
    return value, np.abs(a) * eb + np.abs(b) * ea + ea * eb + unit * np.abs(value)


def _divide(arguments: Sequence[_Pair], unit: float) -> _Pair:
    (a, ea), (b, eb) = arguments
    value = a / b
    size, quotient = np.abs(b), np.abs(value)
    return value, np.where(eb < size, (ea + quotient * eb) / (size - eb), np.inf) + unit * quotient


def _decided(a: Floats, ea: Floats) -> Floats:
    """The radius of a selector: none, unless its argument's sign is in doubt."""
    return np.where(np.abs(a) > ea, 0.0, np.inf)


def _positive(arguments: Sequence[_Pair], _: float) -> _Pair:
    ((a, ea),) = arguments
    return (a > 0).astype(float), _decided(a, ea)


def _vanishes(arguments: Sequence[_Pair], _: float) -> _Pair:
    ((a, ea),) = arguments
    return np.zeros_like(a), _decided(a, ea)


def _not(arguments: Sequence[_Pair], _: float) -> _Pair:
    ((a, ea),) = arguments
    return 1 - a, ea


def _same(arguments: Sequence[_Pair], _: float) -> _Pair:
    (pair,) = arguments
    return pair


def _where(arguments: Sequence[_Pair], _: float) -> _Pair:
    (s, es), (a, ea), (b, eb) = arguments
    first = s != 0
    return np.where(first, a, b), np.where(first, ea, eb) + es


def _rounded(bits: int) -> Callable[[Sequence[_Pair], float], _Pair]:
    smallest, overflow = RANGES.get(bits, (0.0, math.inf))

    def apply(arguments: Sequence[_Pair], _: float) -> _Pair:
        ((a, ea),) = arguments
        size = np.abs(a) + ea
        return a, ea + np.where(size == 0, 0.0, np.where(size < overflow, size * 2.0**-bits + smallest, np.inf))

    return apply


_OPERATIONS: Final[dict[str, Callable[[Sequence[_Pair], float], _Pair]]] = {
    "add": _add, "neg": _negate, "mul": _multiply, "div": _divide, "positive": _positive, "vanishes": _vanishes,
    "not": _not, "where": _where, "frozen": _same,
}  # fmt: skip


@cache
def _power(exponent: Fraction) -> Callable[[Sequence[_Pair], float], _Pair]:
    return _smooth(lambda x: np.power(x, float(exponent)), 2, periodic=False)


@cache
def _function(head: str) -> Callable[[Sequence[_Pair], float], _Pair]:
    known, function = FUNCTIONS[head], in_numpy(head)
    assert function is not None
    return _smooth(function, max(1, 2 * known.ulps), periodic=known.periodic)


def _smooth(
    function: Callable[[Floats], Floats], units: int, *, periodic: bool
) -> Callable[[Sequence[_Pair], float], _Pair]:
    """f(x), off by as much as f moves within the argument's radius e, and by so many units of roundoff.

    The slope is seen over a step h that is at least e: |f(x ± h) - f(x)|·e/h, which rounding makes wrong by a small
    part of a unit of roundoff of f. If the two sides differ, f is no line there.
    """

    def apply(arguments: Sequence[_Pair], unit: float) -> _Pair:
        ((x, e),) = arguments
        value = function(x)
        size = np.abs(value)
        step = np.maximum(e, _STEP * np.abs(x))
        left, right = np.abs(value - function(x - step)), np.abs(function(x + step) - value)
        steeper = np.maximum(left, right)
        straight = steeper <= 1.5 * np.minimum(left, right) + _NOISE * size
        short = e <= _SMALL if periodic else e <= _SMALL * np.maximum(1.0, np.abs(x))
        moved = np.where(e > 0, np.where(straight & short, steeper * (e / step), np.inf), 0.0)
        return value, moved + units * unit * size

    return apply


def bounded_values(expression: Expr, arguments: Mapping[str, _Pair], unit: float, *, at_zero: bool) -> _Pair | None:
    """One formula at arrays with radii of their own; None if some operation is left to balls.

    Args:
        expression: In the variables that `arguments` names.
        arguments: By variable, values and radii; they are broadcast against each other.
        unit: The unit roundoff.
        at_zero: Whether a selector of what certainly is 0 is decided: 0 may be the value of a branch, and not a kink.
    """
    done: dict[Expr, _Pair] = {}
    with np.errstate(all="ignore"):
        (computed,) = marks.as_computed([expression])
        for node in graph.topological([computed]):
            if node.head == "symbol":
                done[node] = arguments[str(node.payload)]
            elif node.head in ("constant", "pi"):
                value = np.asarray(math.pi if node.head == "pi" else _as_float(node))
                done[node] = value, np.where(_bits(node) <= -math.log2(unit), 0.0, unit * np.abs(value))
            elif node.head == "frozen":
                done[node] = done[node.args[0]]
            else:
                apply = _operation(node)
                if apply is None:
                    return None
                found = [done[a] for a in (node.args[:1] if node.head == "pow" else node.args)]
                if apply is _any_order:
                    values, errors = (np.stack(np.broadcast_arrays(*part)) for part in zip(*found, strict=True))
                    found = [(values, errors)]
                done[node] = apply(found, unit)
                if at_zero and node.head in graph.SELECTORS:
                    a, ea = done[node.args[0]]
                    value = np.asarray(a > 0 if node.head == "positive" else a == 0, dtype=float)
                    done[node] = value, np.where((a == 0) & (ea == 0), 0.0, done[node][1])
    return done[computed]
