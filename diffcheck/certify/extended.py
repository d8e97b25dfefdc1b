"""A graph's values at many inputs at once, each with a proven bound of its error: the certificate without balls.

Every node has a value in two words (`double_word`) and an upper bound of its distance to the true value:
sharper than balls of 64 bits, at the cost of some operations of NumPy for all nodes of one depth and all inputs.

A bound that is not finite says that nothing is known; balls decide there. That is so at selectors' boundaries, where a
function is not computed, and wherever a value or a bound leaves a range (`_in_range`) within which no operation of a
step overflows, or underflows by what counts. Bounds are float64 and sums of products that are not negative: rounding
takes less than 2⁻⁴⁵ of them off in a step, and by so much for each step they are enlarged in the end. What compares
bounds on the way leaves room for more than that.
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
from diffcheck.certify import double_word
from diffcheck.certify.double_word import RELATIVE, DoubleWord
from diffcheck.certify.elementary import FUNCTIONS, Found, pi, size, sqrt
from diffcheck.certify.floats import Floats
from diffcheck.certify.table import Rows, Step, Table

_Pair: TypeAlias = tuple[DoubleWord, Floats | None]
"""Values, and bounds of their errors; None where all of them are exact."""
_Operation: TypeAlias = Callable[[Sequence[_Pair]], _Pair]

_SMALLEST_VALUE: Final = 2.0**-400
_SMALLEST_BOUND: Final = 2.0**-600
_LARGEST: Final = 2.0**500
_MOST_FACTORS: Final = 64
_ROOM: Final = 1 + 2.0**-9
"""For what is of second order, and for the rounding of bounds."""
_WIDEST: Final = 2**13
"""Numbers of one operation, of as many inputs as are computed together: 64 KiB, which processors keep at hand."""
_STEP_US: Final = 10.0
_BALL_US: Final = 0.2
"""What a step, and an operation on balls at one input, take, roughly, in microseconds."""
_STEP_LOSS: Final = 2.0**-45
_ONE: Final = DoubleWord(np.ones(()))


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation on the rows of a table, and where its results go."""

    apply: _Operation
    arguments: tuple[Rows, ...]
    exact: tuple[bool, ...]
    """Which arguments are exact at every input."""
    floats: tuple[bool, ...]
    """Which arguments are floats at every input: their low words are 0."""
    results: slice


@dataclass(frozen=True, slots=True)
class ExtendedValues:
    """A graph, ready to be evaluated at many inputs."""

    rows: int
    _used: npt.NDArray[np.intp]
    """Of the inputs, those that occur: the first rows."""
    _constants: Floats
    """High words, low words and errors, one below the other."""
    _steps: tuple[_Step, ...]
    _outputs: npt.NDArray[np.intp]
    _widest: int
    """How many numbers of one input an operation takes at most."""

    def pays(self, points: int, numbers: int) -> bool:
        """Whether so many numbers at each of so many inputs are judged faster than by balls that are ready, too."""
        return (_BALL_US * (self.rows + 2 * numbers) + 1) * points >= _STEP_US * (3 + len(self._steps))

    def __call__(self, points: Floats) -> Floats:
        """High words, low words and bounds of the outputs, [3, points, outputs], at inputs [points, inputs].

        A bound is inf where nothing is known.
        """
        at_once = max(1, _WIDEST // self._widest)
        outputs = np.empty((3, len(self._outputs), len(points)))
        with np.errstate(all="ignore"):
            for start in range(0, len(points), at_once):
                part = slice(start, start + at_once)
                outputs[:, :, part] = self._at(points[part])
        return outputs.transpose(0, 2, 1)

    def _at(self, points: Floats) -> Floats:
        """High words, low words and bounds, [3, outputs, points]."""
        table = np.zeros((3, self.rows, len(points)))
        hi, lo, errors = table
        count, first = len(self._used), len(self._used) + self._constants.shape[1]
        hi[:count] = points.T[self._used]
        table[:, count:first] = self._constants[:, :, None]
        for step in self._steps:
            value, error = step.apply(
                [
                    (DoubleWord(hi[rows], None if floats else lo[rows]), None if exact else errors[rows])
                    for rows, exact, floats in zip(step.arguments, step.exact, step.floats, strict=True)
                ]
            )
            hi[step.results] = value.hi
            if value.lo is not None:
                lo[step.results] = value.lo
            if error is not None:
                errors[step.results] = error
        known = _in_range(hi, errors).all(axis=0)
        outputs: Floats = table[:, self._outputs]
        outputs[2] *= 1 + len(self._steps) * _STEP_LOSS
        outputs[2] = np.where(known, outputs[2], np.inf)
        return outputs


def extended_values(table: Table) -> ExtendedValues | None:
    """Prepares a graph for evaluation, as values; None if some operation leaves it to balls."""
    if any(isinstance(node.payload, float) for node in table.constants):
        return None
    constants = np.array([_constant(node) for node in table.constants]).reshape(-1, 3).T
    first = slice(len(table.used), len(table.used) + constants.shape[1])
    floats, exact = np.zeros((2, table.rows), dtype=bool)
    floats[: first.start] = exact[: first.start] = True
    floats[first], exact[first] = constants[1:] == 0
    steps = []
    for step in table.steps:
        apply = _operation(step)
        if apply is None:
            return None
        are_exact, are_floats = ([bool(which[rows].all()) for rows in step.arguments] for which in (exact, floats))
        steps.append(_Step(apply, step.arguments, tuple(are_exact), tuple(are_floats), step.results))
        head, terms = step.node.head, len(step.node.args)
        as_given = head in _EXACT or (head in _EXACT_OF_FLOATS and terms == 2 and all(are_floats))
        exact[step.results] = as_given and all(are_exact)
        floats[step.results] = head in graph.SELECTORS or (head in _FLOATS_OF_FLOATS and all(are_floats))
    return ExtendedValues(
        rows=table.rows,
        _used=table.used,
        _constants=constants,
        _steps=tuple(steps),
        _outputs=table.outputs,
        _widest=max([1, *((s.results.stop - s.results.start) * max(1, len(s.node.args)) for s in table.steps)]),
    )


@cache
def _constant(node: Expr) -> tuple[float, float, float]:
    """A constant in two words, and its error, which is infinite for one that is out of range."""
    if node.head == "pi":
        return *pi(), RELATIVE * math.pi
    true = node.payload
    assert isinstance(true, Fraction)
    if true and not _SMALLEST_VALUE <= abs(true) <= _LARGEST:
        return 0.0, 0.0, math.inf
    head = float(true)
    low = float(true - Fraction(head))
    return head, low, 0.0 if Fraction(head) + Fraction(low) == true else RELATIVE * abs(head)


def _in_range(values: Floats, errors: Floats) -> npt.NDArray[np.bool_]:
    """Whether values and bounds are 0 or so large, and so small, that no product of two of them leaves float64's range.

    By induction over the steps: what an operation is given is in range, so that what it gives is what the standard
    model says, and is then looked at itself.
    """
    sizes = np.abs(values)
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


def _together(one: Floats | None, other: Floats | None) -> Floats | None:
    """The sum of two bounds, where None is 0."""
    return other if one is None else one if other is None else one + other


def _add(arguments: Sequence[_Pair]) -> _Pair:
    (a, ea), (b, eb) = arguments
    value, error = double_word.add(a, b)
    return value, _together(error, _together(ea, eb))


def _any_order(arguments: Sequence[_Pair]) -> _Pair:
    """The terms stand along a first axis."""
    ((terms, errors),) = arguments
    value, error = double_word.total(terms)
    if errors is not None:
        error += errors.sum(axis=0)
    return value, error * (1 + len(terms.hi) * 2.0**-52)


def _same(arguments: Sequence[_Pair]) -> _Pair:
    return arguments[0]


def _negate(arguments: Sequence[_Pair]) -> _Pair:
    ((a, ea),) = arguments
    return double_word.negate(a), ea


def _multiply(arguments: Sequence[_Pair]) -> _Pair:
    (a, ea), (b, eb) = arguments
    value, error = double_word.multiply(a, b)
    if eb is not None:
        error = _together(error, size(a) * eb)
    if ea is not None:
        error = _together(error, (size(b) if eb is None else size(b) + eb) * ea)
    return value, error


def _divide(arguments: Sequence[_Pair]) -> _Pair:
    """|a/b - a'/b'| ≤ (|a - a'| + |a/b|·|b - b'|)/|b'|, and b' is b up to 2⁻¹⁰ of it."""
    (a, ea), (b, eb) = arguments
    value, error = double_word.divide(a, b)
    if ea is None and eb is None:
        return value, error
    divisor = size(b)
    moved = size(value) * eb if eb is not None else 0.0
    if ea is not None:
        moved = moved + ea
    moved = moved / divisor * _ROOM
    return value, error + (moved if eb is None else np.where(eb <= divisor * 2.0**-10, moved, np.inf))


def _decided(a: DoubleWord, ea: Floats | None) -> Floats:
    """The bound of a selector: none, unless its argument's sign is in doubt."""
    return np.where(size(a) > (0.0 if ea is None else ea * _ROOM), 0.0, np.inf)


def _positive(arguments: Sequence[_Pair]) -> _Pair:
    ((a, ea),) = arguments
    return DoubleWord((a.hi > 0).astype(np.float64)), _decided(a, ea)


def _vanishes(arguments: Sequence[_Pair]) -> _Pair:
    ((a, ea),) = arguments
    return DoubleWord(np.zeros_like(a.hi)), _decided(a, ea)


def _not(arguments: Sequence[_Pair]) -> _Pair:
    ((a, ea),) = arguments
    return _add([(_ONE, None), (double_word.negate(a), ea)])


def _where(arguments: Sequence[_Pair]) -> _Pair:
    """By a selector, which is 0 or 1: less than half of a doubt is none."""
    (s, es), (a, ea), (b, eb) = arguments
    first = s.hi > 0.5
    error = np.where(first, 0.0 if ea is None else ea, 0.0 if eb is None else eb)
    low = None
    if a.lo is not None or b.lo is not None:
        low = np.where(first, 0.0 if a.lo is None else a.lo, 0.0 if b.lo is None else b.lo)
    return DoubleWord(np.where(first, a.hi, b.hi), low), error if es is None else np.where(es < 0.25, error, np.inf)


_EXACT: Final = frozenset({"neg", "rounded"})
"""What gives exact values of exact ones."""
_EXACT_OF_FLOATS: Final = frozenset({"add", "mul"})
"""What gives exact values of two floats: in two words."""
_FLOATS_OF_FLOATS: Final = frozenset({"neg", "rounded", "where"})
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
        return found if exponent > 0 else _divide([(_ONE, None), found])

    return apply


def _looked_at(pair: _Pair) -> _Pair:
    """What is not in range on the way to a result does not count, whatever the result."""
    value, error = pair
    return value, np.where(
        _in_range(value.hi, np.zeros(()) if error is None else error), 0.0 if error is None else error, np.nan
    )


@cache
def _function(head: str) -> _Operation:
    function = FUNCTIONS[head]
    return lambda arguments: _of_function(function, arguments[0])


def _of_function(function: Callable[[DoubleWord], Found], argument: _Pair) -> _Pair:
    """By the mean value theorem, where the argument's error is within reach."""
    x, e = argument
    found = function(x)
    if e is None:
        return found.value, found.error
    moved = np.where(e * _ROOM <= found.reach, found.slope * e, np.inf)
    return found.value, found.error + np.where(e > 0, moved, np.where(e == 0, 0.0, np.nan))
