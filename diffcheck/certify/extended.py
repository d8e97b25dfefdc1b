"""A graph's values at many inputs at once, each with a proven bound of its error: the certificate without balls.

Every node has a value in extended precision (`elementary`) and an upper bound of its distance to the true
value, by the standard model of rounding: as sharp as balls of 64 bits, at the cost of some operations of NumPy for all
nodes of one depth and all inputs.

A bound that is not finite says that nothing is known; balls decide there. That is so at selectors' boundaries, where a
function is not computed, and wherever a value or a bound leaves a range (`_in_range`) within which no operation of a
step underflows or overflows. Bounds are float64 and sums of products that are not negative: rounding takes less than
2⁻⁴⁵ of them off in a step, and by so much for each step they are enlarged in the end. What compares bounds on the way
leaves room for more than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr
from diffcheck.certify.elementary import FUNCTIONS, UNIT, Extended, Found, available, pi, size, sqrt
from diffcheck.certify.floats import Floats
from diffcheck.certify.table import Rows, Step, Table

_Pair: TypeAlias = tuple[Extended, Floats | None]
"""Values, and bounds of their errors; None where all of them are exact."""
_Operation: TypeAlias = Callable[[Sequence[_Pair]], _Pair]

_SMALLEST_VALUE: Final = 2.0**-400
_SMALLEST_BOUND: Final = 2.0**-600
_LARGEST: Final = 2.0**500
_MOST_FACTORS: Final = 64
_ROOM: Final = 1 + 2.0**-9
"""For what is of second order, and for the rounding of bounds."""
_STEP_US: Final = 10.0
_BALL_US: Final = 0.2
"""What a step, and an operation on balls at one input, take, roughly, in microseconds."""
_STEP_LOSS: Final = 2.0**-45
_ONE: Final[_Pair] = np.ones((), dtype=np.longdouble), None


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation on the rows of a table, and where its results go."""

    apply: _Operation
    arguments: tuple[Rows, ...]
    exact: tuple[bool, ...]
    """Which arguments are exact at every input."""
    results: slice


@dataclass(frozen=True, slots=True)
class ExtendedValues:
    """A graph, ready to be evaluated at many inputs."""

    rows: int
    _used: npt.NDArray[np.intp]
    """Of the inputs, those that occur: the first rows."""
    _constants: Extended
    _constant_errors: Floats
    _steps: tuple[_Step, ...]
    _outputs: npt.NDArray[np.intp]

    def pays(self, points: int, numbers: int) -> bool:
        """Whether so many numbers at each of so many inputs are judged faster than by balls that are ready, too."""
        return (_BALL_US * (self.rows + 2 * numbers) + 1) * points >= _STEP_US * (3 + len(self._steps))

    def __call__(self, points: Floats) -> tuple[Extended, Floats]:
        """The outputs, [points, outputs], at inputs [points, inputs], and bounds of their errors; inf if unknown."""
        values = np.empty((self.rows, len(points)), dtype=np.longdouble)
        errors = np.zeros(values.shape)
        count, first = len(self._used), len(self._used) + len(self._constants)
        values[:count] = points.T[self._used]
        values[count:first] = self._constants[:, None]
        errors[count:first] = self._constant_errors[:, None]
        with np.errstate(all="ignore"):
            for step in self._steps:
                given = zip(step.arguments, step.exact, strict=True)
                value, error = step.apply([(values[rows], None if exact else errors[rows]) for rows, exact in given])
                values[step.results] = value
                if error is not None:
                    errors[step.results] = error
            known = _in_range(values, errors).all(axis=0)
        found = errors[self._outputs] * (1 + len(self._steps) * _STEP_LOSS)
        return values[self._outputs].T, np.where(known, found, np.inf).T


def extended_values(table: Table) -> ExtendedValues | None:
    """Prepares a graph for evaluation, as values; None if some operation, or this machine, leaves it to balls."""
    if not available() or any(isinstance(node.payload, float) for node in table.constants):
        return None
    constants = [_constant(node) for node in table.constants]
    exact = np.zeros(table.rows, dtype=bool)
    exact[: len(table.used)] = True
    exact[len(table.used) : len(table.used) + len(constants)] = [error == 0 for _, error in constants]
    steps = []
    for step in table.steps:
        apply = _operation(step)
        if apply is None:
            return None
        of_arguments = tuple(bool(exact[rows].all()) for rows in step.arguments)
        steps.append(_Step(apply, step.arguments, of_arguments, step.results))
        exact[step.results] = step.node.head in _EXACT and all(of_arguments)
    return ExtendedValues(
        rows=table.rows,
        _used=table.used,
        _constants=np.array([value for value, _ in constants], dtype=np.longdouble),
        _constant_errors=np.array([error for _, error in constants], dtype=float),
        _steps=tuple(steps),
        _outputs=table.outputs,
    )


@cache
def _constant(node: Expr) -> tuple[np.longdouble, float]:
    """A constant and its error, which is infinite for one that is out of range."""
    if node.head == "pi":
        return pi(), 1.01 * UNIT * math.pi
    true = node.payload
    assert isinstance(true, Fraction)
    if true and not _SMALLEST_VALUE <= abs(true) <= _LARGEST:
        return np.longdouble(0), math.inf
    head = float(true)
    value = np.longdouble(head) + np.longdouble(float(true - Fraction(head)))
    rounded = Fraction(float(value)) + Fraction(float(value - np.longdouble(float(value))))
    return value, 0.0 if rounded == true else 1.01 * UNIT * abs(head)


def _in_range(values: Extended, errors: Floats) -> npt.NDArray[np.bool_]:
    """Whether values and bounds are 0 or so large, and so small, that no product of two of them leaves float64's range.

    By induction over the steps: what an operation is given is in range, so that what it gives is what the standard
    model says, and is then looked at itself.
    """
    sizes = size(values)
    known: npt.NDArray[np.bool_] = (sizes >= _SMALLEST_VALUE) | (sizes == 0)
    known &= sizes <= _LARGEST
    known &= (errors >= _SMALLEST_BOUND) | (errors == 0)
    known &= errors <= _LARGEST
    return known


# ---------------------------------------------------------------------------------------------------------------------
# Operations: values and bounds of the arguments → value and bound
# ---------------------------------------------------------------------------------------------------------------------


def _operation(step: Step) -> _Operation | None:
    node = step.node
    match node.head:
        case "add" if len(node.args) > 2:
            return _any_order
        case "pow":
            exponent = graph.number(node.args[1])
            return None if exponent is None or not _is_power(exponent) else _power(exponent)
        case head if head in _OPERATIONS:
            return _OPERATIONS[head]
        case head:
            return _function(head) if head in FUNCTIONS else None


def _rounding(value: Extended) -> Floats:
    return UNIT * size(value)


def _add(arguments: Sequence[_Pair]) -> _Pair:
    (a, ea), (b, eb) = arguments
    value = a + b
    error = _rounding(value)
    for own in (ea, eb):
        if own is not None:
            error = error + own
    return value, error


def _any_order(arguments: Sequence[_Pair]) -> _Pair:
    """Higham, 4.2: (n - 1)·u·Σ|xᵢ|, whatever the order; the terms stand along a first axis."""
    ((terms, errors),) = arguments
    error = (len(terms) - 1) * UNIT * size(terms).sum(axis=0)
    if errors is not None:
        error += errors.sum(axis=0)
    return terms.sum(axis=0), error * (1 + len(terms) * 2.0**-52)


def _same(arguments: Sequence[_Pair]) -> _Pair:
    return arguments[0]


def _negate(arguments: Sequence[_Pair]) -> _Pair:
    ((a, ea),) = arguments
    return -a, ea


def _multiply(arguments: Sequence[_Pair]) -> _Pair:
    (a, ea), (b, eb) = arguments
    value = a * b
    error = _rounding(value)
    if eb is not None:
        error = error + size(a) * eb
    if ea is not None:
        error = error + (size(b) if eb is None else size(b) + eb) * ea
    return value, error


def _divide(arguments: Sequence[_Pair]) -> _Pair:
    """|a/b - a'/b'| ≤ (|a - a'| + |a/b|·|b - b'|)/|b'|, and b' is b up to 2⁻¹⁰ of it."""
    (a, ea), (b, eb) = arguments
    value = a / b
    quotient = size(value)
    error = UNIT * quotient
    if ea is None and eb is None:
        return value, error
    divisor = size(b)
    moved = quotient * eb if eb is not None else 0.0
    if ea is not None:
        moved = moved + ea
    moved = moved / divisor * _ROOM
    return value, error + (moved if eb is None else np.where(eb <= divisor * 2.0**-10, moved, np.inf))


def _decided(a: Extended, ea: Floats | None) -> Floats:
    """The bound of a selector: none, unless its argument's sign is in doubt."""
    return np.where(size(a) > (0.0 if ea is None else ea * _ROOM), 0.0, np.inf)


def _positive(arguments: Sequence[_Pair]) -> _Pair:
    ((a, ea),) = arguments
    return (a > 0).astype(np.longdouble), _decided(a, ea)


def _vanishes(arguments: Sequence[_Pair]) -> _Pair:
    ((a, ea),) = arguments
    return np.zeros_like(a), _decided(a, ea)


def _not(arguments: Sequence[_Pair]) -> _Pair:
    ((a, ea),) = arguments
    value = 1 - a
    return value, _rounding(value) if ea is None else _rounding(value) + ea


def _where(arguments: Sequence[_Pair]) -> _Pair:
    """By a selector, which is 0 or 1: less than half of a doubt is none."""
    (s, es), (a, ea), (b, eb) = arguments
    first = s > 0.5
    error = np.where(first, 0.0 if ea is None else ea, 0.0 if eb is None else eb)
    return np.where(first, a, b), error if es is None else np.where(es < 0.25, error, np.inf)


_EXACT: Final = frozenset({"neg", "rounded"})
"""What gives exact values of exact ones."""
_OPERATIONS: Final[dict[str, _Operation]] = {
    "add": _add, "neg": _negate, "mul": _multiply, "div": _divide, "positive": _positive, "vanishes": _vanishes,
    "not": _not, "where": _where, "rounded": _same,
}  # fmt: skip


def _is_power(exponent: Fraction) -> bool:
    return exponent.denominator <= 2 and 0 < abs(exponent.numerator) <= _MOST_FACTORS


@cache
def _power(exponent: Fraction) -> _Operation:
    """A whole power by products, half of one as that of the root."""
    count = abs(exponent.numerator)

    def apply(arguments: Sequence[_Pair]) -> _Pair:
        (base,) = arguments
        if exponent.denominator == 2:
            base = _of_function(sqrt, base)
        found: _Pair | None = None
        for bit in f"{count:b}":
            if found is not None:
                found = _looked_at(_multiply([found, found]))
            if bit == "1":
                found = base if found is None else _looked_at(_multiply([found, base]))
        assert found is not None
        return found if exponent > 0 else _divide([_ONE, found])

    return apply


def _looked_at(pair: _Pair) -> _Pair:
    """What is not in range on the way to a result does not count, whatever the result."""
    value, error = pair
    assert error is not None
    return value, np.where(_in_range(value, error), error, np.nan)


@cache
def _function(head: str) -> _Operation:
    function = FUNCTIONS[head]
    return lambda arguments: _of_function(function, arguments[0])


def _of_function(function: Callable[[Extended], Found], argument: _Pair) -> _Pair:
    """By the mean value theorem, where the argument's error is within reach."""
    x, e = argument
    found = function(x)
    if e is None:
        return found.value, found.error
    moved = np.where(e * _ROOM <= found.reach, found.slope * e, np.inf)
    return found.value, found.error + np.where(e > 0, moved, np.where(e == 0, 0.0, np.nan))
