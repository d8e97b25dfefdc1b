"""Certified values contain the truth, the derived bound never accuses the innocent, and small errors are caught."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from flint import arb
from torch import Tensor

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import Expr, constant, greater, symbol, where
from diffcheck.algebra.functions import FUNCTIONS
from diffcheck.certify.balls import Selections
from diffcheck.certify.cells import Function
from diffcheck.certify.certifier import Certifier
from diffcheck.certify.compiler import Program
from diffcheck.certify.formats import format_of
from diffcheck.certify.judgement import Judgement, Outcome
from diffcheck.compare.evaluate import DTYPES, Evaluation, Memory, evaluate
from diffcheck.declare.case import Case
from diffcheck.declare.domain import Argument, resolved, size_assignments
from diffcheck.declare.domain import contains as within
from diffcheck.derive.chain_rule import pull_back
from diffcheck.derive.symbolic import variable
from diffcheck.draw.inputs import Drawn
from diffcheck.trace.tracer import trace
from tests.support.expressions import X, Y, over_arithmetic, over_heads
from tests.support.loaded import cases, gallery
from tests.support.reference import DIGITS, NoValue, contains, exact, sympy_gradient, sympy_value

DOUBLE = format_of(torch.float64)
SINGLE = format_of(torch.float32)
EXAMPLES = {example.name: example for example in over_heads() + over_arithmetic()}
POINTS, SLOW_POINTS = 150, 15


# ---------------------------------------------------------------------------------------------------------------------
# Every certified value against mpmath at 300 digits
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Checked:
    """What was held to mpmath."""

    points: int = 0
    values: int = 0
    without_value: int = 0


def hold(certifier: Certifier, forms: Sequence[Any], names: Sequence[str], point: Sequence[float]) -> tuple[int, int]:
    """Holds the certified values at one point to SymPy's derivative at 300 digits: how many there were, or not."""
    mpmath.mp.dps = DIGITS + 20
    values = {variable(n): mpmath.mpf(v) for n, v in zip(names, point, strict=True)}
    quick, fine = certifier.enclose(point), certifier.enclose(point, 1200)
    found = missing = 0
    for position, (form, ball, narrow) in enumerate(zip(forms, quick, fine, strict=True)):
        try:
            truth = sympy_value(form, values)
        except NoValue:
            missing += 1
            continue
        found += 1
        where = f"{form} at {list(point)}"
        assert contains(ball, truth, mpmath.mpf(10) ** -290), f"{where}: {ball} is not {mpmath.nstr(truth, 30)}"
        if not contains(narrow, truth, mpmath.mpf(10) ** -290):  # have the 300 digits been cancelled?
            with mpmath.workdps(4 * DIGITS):
                truth = sympy_value(form, values)
                assert contains(narrow, truth, mpmath.mpf(10) ** -290), f"{where}: {narrow}"
        if ball.is_finite() and truth != 0:
            sharp, decided = certifier._settler_at(point).sharpened(position, ball, 0.0)
            assert decided, where
            assert contains(sharp, truth, mpmath.mpf(10) ** -290), where
            ulp = mpmath.mpf(DOUBLE.ulp(float(truth))) if abs(truth) < DOUBLE.largest else abs(truth)
            assert exact(sharp.rad()) <= ulp / 2**20, f"{where}: {sharp}"
    return found, missing


@cache
def checked_example(name: str) -> Checked:
    example = EXAMPLES[name]
    cotangent = symbol("c")
    names = ["x", "y", "c"]
    reference = pull_back(marks.as_values([example.of]), [cotangent], [X, Y])
    forms = sympy_gradient([example.of], [cotangent], [X, Y])
    certifier = Certifier(names, reference, reference, DOUBLE)
    checked, random = Checked(), Random(0)
    for x, y in example.points(SLOW_POINTS if example.slow else POINTS):
        found, missing = hold(certifier, forms, names, (x, y, random.choice((1.0, -1.0, random.uniform(-3, 3)))))
        checked.points += found > 0
        checked.values += found
        checked.without_value += missing
    return checked


def test_the_table_covers_every_head():
    used = {node.head for e in EXAMPLES.values() for node in graph.topological([e.of])}
    assert FUNCTIONS.keys() <= used


@pytest.mark.parametrize("name", EXAMPLES)
def test_certified_values_of_expressions(name: str):
    checked = checked_example(name)
    assert checked.without_value == 0
    assert checked.points == (SLOW_POINTS if EXAMPLES[name].slow else POINTS)


# ---------------------------------------------------------------------------------------------------------------------
# The same for the project's cases
# ---------------------------------------------------------------------------------------------------------------------


def wide_values(case: Case, shapes: Mapping[str, tuple[int, ...]], random: Random) -> dict[str, Tensor]:
    """Inputs within a case's domain, drawn without diffcheck's help: signed, over fourteen powers of two."""
    values = {}
    for known in case.arguments:
        count = math.prod(shapes[known.name])
        entries: list[float]
        if known.kind == "integer":
            entries = [float(random.randrange(shapes["logits"][1])) for _ in range(count)]
        elif case.name == "layer_norm":
            entries = [random.uniform(-4, 4) for _ in range(count)]
        else:
            entries = [
                random.choice((1, -1)) * math.ldexp(random.uniform(1, 2), random.randrange(-10, 4))
                for _ in range(count)
            ]
        dtype = torch.int64 if known.kind == "integer" else torch.float64
        values[known.name] = torch.tensor(entries, dtype=dtype).reshape(shapes[known.name])
    return values


def mode_of(case: Case) -> str:
    return "reverse" if case.preceded_by is None else "accumulate"


def ones_like(like: Sequence[Tensor]) -> list[Tensor]:
    return [torch.ones_like(y) for y in like]


@cache
def checked_case(name: str) -> Checked:
    case, checked, random = cases()[name], Checked(), Random(name)
    for shapes in size_assignments(case.arguments)[:2]:
        values = wide_values(case, shapes, random)
        traced = trace(case, mode_of(case), values, ones_like).trace
        count = len(traced.unit_reference)
        inputs = [symbol(v) for v in traced.variables[:count]]
        seeds = [symbol(v) for v in traced.variables[count:]]
        outputs = marks.as_values(traced.outputs)
        if case.clear:  # only the second pass counts
            outputs, seeds = outputs[-1:], seeds[-1:]
        forms = sympy_gradient(outputs, seeds, inputs)
        certifier = Certifier(traced.variables, traced.reference, traced.executed, DOUBLE)
        size = sum(form.count_ops() for form in forms)
        for _ in range(3 if traced.guards else max(4, min(100, 3000 // max(size, 1)))):
            point = [v for a in case.arguments if a.differentiated for v in values[a.name].reshape(-1).tolist()]
            point += [random.choice((1.0, -1.0, 0.0, random.uniform(-3, 3))) for _ in traced.variables[count:]]
            found, missing = hold(certifier, forms, traced.variables, point)
            checked.points += found > 0
            checked.values += found
            checked.without_value += missing
            if not traced.guards:
                values = wide_values(case, shapes, random)
    return checked


@pytest.mark.parametrize("name", cases())
def test_certified_values_of_cases(name: str):
    checked = checked_case(name)
    assert checked.points >= 3
    assert checked.without_value == 0


def test_more_than_ten_thousand_points_were_checked():
    checked = [checked_example(name) for name in EXAMPLES] + [checked_case(name) for name in cases()]
    assert sum(c.points for c in checked) >= 10_000
    assert sum(c.values for c in checked) >= 20_000


# ---------------------------------------------------------------------------------------------------------------------
# No false alarm: PyTorch's own derivatives, and any order of summation
# ---------------------------------------------------------------------------------------------------------------------

INNOCENT = {**cases(), **gallery()}
_GUARDED = ("control_flow",)


def entries(known: Argument, count: int, random: Random) -> tuple[float | int, ...]:
    """Entries within an argument's bounds, of magnitudes from 2**-20 to 2**20, simple ones among them."""
    if known.kind == "integer":
        return tuple(random.randrange(int(known.lower), int(known.upper)) for _ in range(count))
    found: list[float] = []
    while len(found) < count:
        value = random.choice((1, -1)) * math.ldexp(random.uniform(1, 2), random.randrange(-20, 20))
        if random.random() < 0.2:
            value = float(random.randrange(-3, 4))
        if not within(known, value) and math.isfinite(float(known.lower) - float(known.upper)):
            value = random.uniform(float(known.lower), float(known.upper))
        if within(known, value):
            found.append(value)
    return tuple(found)


def evaluations(case: Case, mode: str, dtype: str, each: int) -> list[Evaluation]:
    """A case judged at inputs of three assignments of sizes."""
    random, memory, found = Random(f"{case.name} {mode}"), Memory(), []
    for shapes in size_assignments(case.arguments)[:3]:
        for _ in range(each):
            drawn = Drawn(
                shapes,
                {
                    a.name: entries(resolved(a, shapes, case.arguments), math.prod(shapes[a.name]), random)
                    for a in case.arguments
                },
                tuple(random.choice((1.0, -1.0, random.uniform(-3, 3))) for _ in range(5)),
            )
            evaluation = evaluate(case, mode, dtype, drawn, memory)
            if evaluation is not None:
                found.append(evaluation)
    return found


@cache
def innocent(name: str) -> tuple[int, int, float]:
    """How many evaluations and numbers of a correct function were judged, and the largest error in bounds."""
    case = INNOCENT[name]
    count = numbers = 0
    largest = 0.0
    for mode in ("reverse", "forward") if case.preceded_by is None else ("accumulate",):
        for dtype in DTYPES:
            for evaluation in evaluations(case, mode, dtype, 5 if name in _GUARDED else 12):
                assert not evaluation.judgement.failures, (mode, dtype, evaluation.values, evaluation.computed)
                assert math.isfinite(evaluation.judgement.max_bounds)
                assert not math.isnan(evaluation.judgement.max_ulps)
                count += 1
                numbers += len(evaluation.computed)
                largest = max(largest, evaluation.judgement.max_bounds)
    return count, numbers, largest


@pytest.mark.parametrize("name", INNOCENT)
def test_no_false_alarm_on_pytorchs_own_derivatives(name: str):
    count, _, largest = innocent(name)
    assert count >= 20
    assert largest <= 4.0


def test_thousands_of_correct_evaluations_were_judged():
    judged = [innocent(name) for name in INNOCENT]
    assert sum(count for count, _, _ in judged) >= 5_000
    assert sum(numbers for _, numbers, _ in judged) >= 20_000


def pairwise(terms: Tensor) -> Tensor:
    """As a tree."""
    while len(terms) > 1:
        half = len(terms) // 2
        terms = torch.cat([terms[:half] + terms[half : 2 * half], terms[2 * half :]])
    return terms[0]


def one_by_one(terms: Tensor) -> Tensor:
    """From left to right."""
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("size", [2, 3, 7, 40])
def test_no_false_alarm_in_any_order_of_summation(size: int, dtype: torch.dtype):
    """Σ aᵢbᵢ one by one, reversed, permuted, as a tree, with fused multiply-adds, and by PyTorch's kernels."""
    names = [f"{letter}[{i}]" for letter in "ab" for i in range(size)]
    a, b = map(symbol, names[:size]), map(symbol, names[size:])
    reference = [graph.total(x * y for x, y in zip(a, b, strict=True))]
    certifier = Certifier(names, reference, reference, DOUBLE if dtype is torch.float64 else SINGLE)
    generator = torch.Generator().manual_seed(size)
    largest = 0.0
    for _ in range(150):
        scale = torch.randint(-20, 20, (2, size), generator=generator)
        x, y = torch.ldexp(torch.randn(2, size, generator=generator, dtype=dtype), scale.to(dtype))
        if size > 2:
            y[1], x[1] = -y[0], x[0] * (1 + torch.finfo(dtype).eps)  # nearly cancels
        products = x * y
        fused = x.new_zeros(())
        for i in range(size):
            fused = torch.addcmul(fused.double(), x[i].double(), y[i].double()).to(dtype)
        ways = [
            one_by_one(products), one_by_one(products.flip(0)), pairwise(products), products.sum(), x @ y, fused,
            one_by_one(products[torch.randperm(size, generator=generator)]), (x[None] @ y[:, None])[0, 0],
        ]  # fmt: skip
        for way in ways:
            judgement = certifier.judge([*x.tolist(), *y.tolist()], [way.item()])
            assert not judgement.failures, (x, y, way)
            largest = max(largest, judgement.max_bounds)
    assert 0 < largest <= 4.0


# ---------------------------------------------------------------------------------------------------------------------
# No false comfort: small errors are caught
# ---------------------------------------------------------------------------------------------------------------------

WELL_CONDITIONED = (
    "quadratic", "hadamard", "detached", "custom_function", "dot", "square root", "exponential", "relu", "clamp",
    "outer", "arcsine", "where", "power", "squared error", "tanh", "norm",
)  # fmt: skip


@pytest.mark.parametrize(("dtype", "relative"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("name", WELL_CONDITIONED)
def test_a_small_relative_error_is_caught(name: str, dtype: str, relative: float):
    """Every number that is not lost in cancellation, off by one part in 10¹² (in float32, in 10⁵), is a failure."""
    caught = tried = 0
    for evaluation in evaluations(INNOCENT[name], "reverse", dtype, 6):
        if evaluation.judgement.kink:
            continue
        certifier = evaluation.path.certifier
        for position, number in enumerate(evaluation.computed):
            if abs(number) < 1e-30:
                continue
            for factor in (1 + relative, 1 - relative):
                off = list(evaluation.computed)
                off[position] = number * factor
                tried += 1
                caught += position in certifier.judge(evaluation.point, off).failures
    assert tried > 30
    assert caught >= 0.97 * tried  # some sums happen to cancel
    assert caught == tried or name in ("exponential", "outer", "squared error", "norm")


# ---------------------------------------------------------------------------------------------------------------------
# Kinks, infinities, overflow and underflow, points without a derivative
# ---------------------------------------------------------------------------------------------------------------------

ZERO, ONE = graph.ZERO, graph.ONE
RELU = where(greater(X, 0), X, ZERO)
ABSOLUTE = where(greater(X, 0), X, -X)
MAXIMUM = where(greater(X, Y), X, Y)


def judged(reference: Expr, point: Sequence[float], computed: float, executed: Expr | None = None) -> Judgement:
    """One computed number against a reference in x and y."""
    return Certifier(["x", "y"], [reference], [executed or reference], DOUBLE).judge(point, [computed])


def outcome(*args: Any, **kwargs: Any) -> Outcome:
    failures = judged(*args, **kwargs).failures
    return failures[0].outcome if failures else Outcome.WITHIN


def with_function(of: Expr, inputs: Sequence[Expr], names: Sequence[str]) -> Certifier:
    """A certifier that knows what its reference is the gradient of."""

    def levels(outputs: Sequence[Expr]) -> list[Sequence[Expr]]:
        return [outputs, pull_back(outputs, [ONE], inputs)]

    reference = pull_back([of], [ONE], inputs)
    function = Function((of,), tuple(names), ("reverse",), levels)
    return Certifier(names, reference, reference, DOUBLE, function=function)


def slope(of: Expr) -> Expr:
    return pull_back([of], [ONE], [X])[0]


@pytest.mark.parametrize(
    ("of", "point", "accepted", "refused"),
    [
        (RELU, (0.0, 0.0), (0.0, 0.5, 1.0), (-1e-9, 1 + 1e-9, 2.0, -1.0, math.nan, math.inf)),
        (ABSOLUTE, (0.0, 0.0), (-1.0, 0.0, 0.3, 1.0), (1.1, -1.1, 2.0, math.nan)),
        (MAXIMUM, (3.0, 3.0), (0.0, 0.5, 1.0), (1.5, -0.5)),
        (X * X * RELU, (0.0, 0.0), (0.0,), (1e-9, 1.0)),  # both sides agree
        (where(greater(X, 1), ONE, X), (1.0, 0.0), (0.0, 1.0), (2.0, -1.0)),
        (RELU * MAXIMUM, (0.0, 0.0), (0.0,), (1.0,)),
    ],
    ids=["relu", "abs", "maximum", "smooth kink", "clamp", "two at once"],
)
def test_a_kink_is_judged_by_the_hull(
    of: Expr, point: tuple[float, float], accepted: tuple[float, ...], refused: tuple[float, ...]
):
    certifier = with_function(of, [X, Y], ["x", "y"])
    for value in accepted:
        judgement = certifier.judge(point, [value, 1 - value if of is MAXIMUM else 0.0])
        assert judgement.kink == (len(accepted) > 1)
        assert 0 not in judgement.failures, value
    for value in refused:
        judgement = certifier.judge(point, [value, 0.0])
        assert judgement.failures[0].outcome is Outcome.WRONG, value


def test_where_the_value_jumps_there_is_no_hull():
    certifier = with_function(where(greater(X * Y, 0), 3 * X, -5 * X), [X, Y], ["x", "y"])
    for value in (3.0, -5.0, 4.0, math.nan):
        judgement = certifier.judge((2.0, 0.0), [value, 0.0])
        assert not judgement.failures
        assert judgement.undefined == {0, 1}


def test_next_to_a_kink_the_side_counts():
    tiny = 5e-324
    assert outcome(slope(RELU), (tiny, 0.0), 1.0) is Outcome.WITHIN
    assert outcome(slope(RELU), (tiny, 0.0), 0.0) is Outcome.WRONG
    assert outcome(slope(RELU), (-tiny, 0.0), 1.0) is Outcome.WRONG
    just_above = math.nextafter(3.0, 4.0)
    assert outcome(slope(MAXIMUM), (just_above, 3.0), 0.5) is Outcome.WRONG
    assert outcome(slope(MAXIMUM), (just_above, 3.0), 1.0) is Outcome.WITHIN


def test_many_kinks_at_once_stay_within_the_hull():
    terms = [symbol(f"x{i}") for i in range(12)]
    of = graph.total(where(greater(t, 0), t, ZERO) for t in terms)
    certifier = with_function(of, terms, [f"x{i}" for i in range(12)])
    assert not certifier.judge([0.0] * 12, [0.0, 1.0, 0.5] * 4).failures
    assert certifier.judge([0.0] * 12, [0.0] * 11 + [2.0]).failures.keys() == {11}


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_no_number_where_there_is_one_is_wrong(value: float):
    assert outcome(X * Y, (2.0, 3.0), value) is Outcome.WRONG
    assert outcome(ZERO * X, (2.0, 3.0), value) is Outcome.WRONG


def test_overflow_is_infinity_of_the_right_sign():
    of = X * Y
    assert outcome(of, (1e200, 1e200), math.inf) is Outcome.WITHIN
    assert outcome(of, (1e200, 1e200), -math.inf) is Outcome.INACCURATE  # of a right formula: it is no mistake in it
    assert outcome(of, (-1e200, 1e200), -math.inf) is Outcome.WITHIN
    assert outcome(of, (1e200, 1e200), math.nan) is Outcome.INACCURATE
    assert outcome(of, (1e200, 1e200), 1.0) is Outcome.INACCURATE
    assert outcome(of, (1e200, 1e200), 1.0, X + Y) is Outcome.WRONG
    assert outcome(of, (1e200, 1e100), math.inf) is Outcome.WRONG
    growth = graph.call("exp", X) + -graph.call("exp", -X)
    assert outcome(growth, (4096.0, 0.0), math.inf) is Outcome.WITHIN  # thousands of bits before its first ulp
    for point in ((1e200, 0.0), (-1e200, 0.0)):
        assert outcome(slope(ABSOLUTE) * X * X, point, math.copysign(math.inf, point[0])) is Outcome.WITHIN


def test_overflow_on_the_way_is_not_the_formulas_fault():
    """√(x²) overflows in between: the rounding of what was executed covers that; a scaled formula does not overflow."""
    root = graph.call("sqrt", X * X)
    assert outcome(X, (1e200, 0.0), math.inf, root) is not Outcome.WITHIN
    assert outcome(root, (1e200, 0.0), 1e200) is Outcome.WITHIN


def test_underflow_is_rounding():
    of = X * Y
    assert outcome(of, (1e-200, 1e-200), 0.0) is Outcome.WITHIN
    assert outcome(of, (1e-200, 1e-200), 5e-324) is Outcome.WITHIN
    assert outcome(of, (1e-200, 1e-200), 1e-300) is Outcome.WRONG
    assert outcome(X * Y / constant(2), (1e-160, 1e-160), 5e-321, X * (Y / 2)) is Outcome.WITHIN
    # It happens on the way, and the last operation makes it large again.
    assert outcome(X * Y / Y, (1e-200, 1e-200), 0.0, X * Y / Y) is not Outcome.WRONG


@pytest.mark.parametrize(
    ("of", "point"),
    [
        (graph.call("sqrt", X), (0.0, 0.0)),
        (graph.call("log", X), (0.0, 0.0)),
        (ONE / X, (0.0, 0.0)),
        (graph.call("asin", X), (1.0, 0.0)),
        (X ** constant(-2), (0.0, 0.0)),
        (graph.call("log", X), (-1.0, 0.0)),
    ],
    ids=str,
)
@pytest.mark.parametrize("value", [0.0, 1.0, math.inf, math.nan])
def test_where_there_is_no_derivative_nothing_is_judged(of: Expr, point: tuple[float, float], value: float):
    reference = of if of.head == "log" and point[0] < 0 else slope(of)
    judgement = judged(reference, point, value)
    assert len(judgement.undefined) == 1
    assert not judgement.failures


def test_digits_that_are_lost_by_a_longer_way_are_inaccurate():
    """(x + y) - y where the formula says x: right, and not one digit of it."""
    executed = (X + Y) + -Y
    computed = (1e-3 + 1e12) - 1e12
    assert outcome(X, (1e-3, 1e12), computed, executed) is Outcome.INACCURATE
    assert outcome(X, (1e-3, 1e12), 1e-3, executed) is Outcome.WITHIN
    assert outcome(X, (1e-3, 1e12), 1.0, executed) is Outcome.WRONG
    failure = judged(X, (1e-3, 1e12), computed, executed).failures[0]
    assert not failure.formula_differs
    assert failure.error == pytest.approx(abs(computed - 1e-3))


def test_another_formula_is_wrong_even_where_rounding_is_large():
    executed = (X + Y) + -Y + X / 2**60
    failure = judged(X, (1.0, 0.0), 1 + 2**-40, (X + Y) + -Y + X / 2**40).failures[0]
    assert failure.outcome is Outcome.WRONG
    assert failure.formula_differs
    assert outcome(X, (1.0, 0.0), 1.0, executed) is Outcome.WITHIN


def test_where_rounding_may_do_anything_the_formula_decides():
    """1/(x + y - x) at y far below x's last digit: in float64 anything may come out, but not of another formula."""
    quotient = ONE / (X + Y + -X)
    point = (1e20, 1e-3)
    assert outcome(quotient, point, 999.0) is Outcome.WITHIN
    assert outcome(quotient, point, 2000.0, 2 * quotient) is Outcome.WRONG
    failure = judged(quotient, point, math.inf).failures[0]
    assert failure.outcome is Outcome.INACCURATE
    assert float(failure.certified.rad()) < 1e-9  # beside a bound that is infinite, the certified value has digits


def test_where_no_bound_is_finite_what_has_no_digit_is_not_passed():
    """A power of 1 - sigmoid(x), which is 0 in float64 from x = 37 on, and to 512 bits at x = 512."""
    power = (ONE - ONE / (ONE + graph.call("exp", -X))) ** Y
    failure = judged(power, (512.0, 0.9), 0.0).failures[0]
    assert failure.outcome is Outcome.INACCURATE
    assert not failure.formula_differs
    with mpmath.workdps(4 * DIGITS):  # 222 digits cancel
        truth = (1 - 1 / (1 + mpmath.exp(-512))) ** mpmath.mpf(0.9)
        assert contains(failure.certified, truth, mpmath.mpf(10) ** -280)
    assert outcome(power, (512.0, 0.9), float(truth)) is Outcome.WITHIN
    assert outcome(power, (512.0, 0.9), 0.0, 2 * power) is Outcome.WRONG
    quotient = ONE / (X + Y + -X)
    assert outcome(quotient, (1e20, 1e-3), 2000.0) is Outcome.INACCURATE


def test_zero_times_what_is_beyond_the_range_is_not_judged():
    """The derivative of exp at 1024 is no float64: with a cotangent of 0, autograd multiplies 0 by infinity."""
    reference = Y * graph.call("exp", X)
    certifier = Certifier(["x", "y"], [reference], [reference], DOUBLE, seeds=1)
    assert certifier.judge([1024.0, 0.0], [math.nan]).out_of_range == {0}
    assert certifier.judge([1024.0, 1.0], [math.nan]).failures[0].outcome is Outcome.INACCURATE
    assert certifier.judge([700.0, 0.0], [math.nan]).failures[0].outcome is Outcome.WRONG
    assert certifier.judge([1024.0, 0.0], [math.inf]).failures[0].outcome is Outcome.INACCURATE
    assert outcome(reference, (1024.0, 0.0), math.nan) is Outcome.INACCURATE  # y may be an input, and 0 is its value


def test_precision_runs_out():
    """The floor of 3·(x/3) at x = 1: no enclosure of what is inside ever decides it."""
    assert outcome(graph.call("floor", X / 3 * 3), (1.0, 0.0), 5.0) is Outcome.UNDECIDED
    assert outcome(graph.call("floor", X / 3 * 3), (1.5, 0.0), 5.0) is Outcome.WRONG


@pytest.mark.parametrize("fmt", [DOUBLE, SINGLE], ids=["float64", "float32"])
def test_many_inputs_at_once_are_judged_as_one_by_one(fmt: Any):
    """Right ones, wrong ones, kinks, points without a derivative, NaN and infinities, side by side."""
    names = ["x", "y"]
    reference = [slope(RELU * Y), X * Y, X * Y, graph.call("sqrt", X), ONE / X]
    certifier = Certifier(names, reference, reference, fmt)
    points = [[x, y] for x in (0.75, -2.0, 0.0, 3.0, 1e-30) for y in (1.5, -3.0)]
    right = [[y * (x > 0), x * y, x * y, math.sqrt(max(x, 0)), 1 / x if x else math.inf] for x, y in points]
    right = [[float(torch.tensor(v, dtype=torch.float32)) if fmt is SINGLE else v for v in row] for row in right]
    changes: list[tuple[float, float]] = [(1, 0), (1 + 1e-6, 0), (-1, 0), (math.nan, 0), (1, math.inf), (0, 7.0)]
    failed = 0
    for factor, shift in changes:
        computed = [[v * factor + shift for v in row] for row in right]
        together = certifier.judge_all(np.array(points), np.array(computed))
        alone = [certifier.judge(point, row) for point, row in zip(points, computed, strict=True)]
        for one, other in zip(together, alone, strict=True):
            assert (one.kink, one.undefined, one.failures.keys()) == (
                other.kink,
                other.undefined,
                other.failures.keys(),
            )
            assert [v.outcome for v in one.failures.values()] == [v.outcome for v in other.failures.values()]
            assert one.max_bounds <= 4 * other.max_bounds + 1e-300
            failed += len(one.failures)
    assert failed > 100


def test_a_power_of_what_nothing_is_known_of_has_no_value():
    """FLINT 3.6 ends the process there: neither the middle nor the radius of the base is finite (ndtri at 1)."""
    program = Program([graph.power(X, constant(2))], ["x"])
    (ball,) = program([arb(math.inf) + arb(0, math.inf)], 53, Selections())
    assert not ball.is_finite()


@pytest.mark.parametrize("exponent", [1, 2, 3, 7])
def test_a_power_of_a_ball_around_zero_is_bounded(exponent: int):
    """FLINT 3.6 gives NaN there; a variance squares differences that rounding may make 0."""
    program = Program([graph.power(X + -Y, constant(exponent))], ["x", "y"])
    for radius in (1e-15, 2.0):
        (ball,) = program([arb(1, radius), arb(1)], 53, Selections())
        assert ball.is_finite()
        assert ball.abs_upper() <= arb(radius) ** exponent * (1 + 2.0**-20)
        for inside in (-radius, radius / 3, 0.0):
            assert ball.contains(arb(inside) ** exponent)


def test_the_gamma_functions_left_of_zero():
    program = Program([graph.call("lgamma", X), graph.call("polygamma", constant(1), X)], ["x"])
    for at in (-0.5, -1.25, -20.25):
        log, trigamma = program([arb(at)], 128, Selections())
        with mpmath.workdps(DIGITS):
            assert contains(log, mpmath.re(mpmath.loggamma(at)))
            assert contains(trigamma, mpmath.psi(1, at))


def test_functions_that_numpy_lacks_are_judged_on_balls():
    certifier = Certifier(["x", "y"], [graph.call("lgamma", X)], [graph.call("lgamma", X)], DOUBLE)
    points = [[0.5 + i, 0.0] for i in range(6)]
    right = [[math.lgamma(x)] for x, _ in points]
    assert not any(j.failures for j in certifier.judge_all(np.array(points), np.array(right)))
    assert all(j.failures for j in certifier.judge_all(np.array(points), np.array([[v + 1e-9] for (v,) in right])))


def test_the_same_reference_for_several_numbers_is_judged_for_each():
    certifier = Certifier(["x", "y"], [X, Y, X], [X, Y, X], DOUBLE)
    assert certifier.judge([1.0, 2.0], [1.0, 2.0, 1.0]).failures == {}
    assert certifier.judge([1.0, 2.0], [1.0, 2.0, 2.0]).failures.keys() == {2}
    assert certifier.judge([1.0, 2.0], [2.0, 2.0, 1.0]).failures.keys() == {0}
    assert [float(b) for b in certifier.enclose([1.0, 2.0])] == [1.0, 2.0, 1.0]


def test_lower_precision_inside_widens_the_bound_only_where_it_was_used():
    rough = graph.rounded(X * Y, 8) * X
    assert outcome(X * X * Y, (1.1, 1.3), 1.1 * 1.1 * 1.3 * (1 + 1e-3), rough) is not Outcome.WRONG
    assert outcome(X * X * Y, (1.1, 1.3), 1.1 * 1.1 * 1.3 * (1 + 1e-3)) is Outcome.WRONG
    assert outcome(X * X * Y, (1.1, 1.3), 1.1 * 1.1 * 1.3 * (1 + 1e-1), rough) is Outcome.WRONG


@pytest.mark.parametrize("fmt", [DOUBLE, SINGLE], ids=["float64", "float32"])
def test_ulps_are_those_of_the_format(fmt: Any):
    dtype = torch.float64 if fmt is DOUBLE else torch.float32
    for value in (1.0, 1.5, 2.0, 3.7, 1e-3, 1e30, fmt.smallest_normal, fmt.smallest_normal / 4, 0.0):
        x = torch.tensor(value, dtype=dtype)
        assert (
            fmt.ulp(x.item()) == (torch.nextafter(x, torch.tensor(math.inf, dtype=dtype)).double() - x.double()).item()
        )


def test_the_rounding_of_what_was_executed_is_that_of_the_format():
    """A certifier for another format shares its programs, and nothing that it remembers of an input."""
    formulas = [graph.call("exp", symbol("x") - constant(0.3))]
    wide = Certifier(["x"], formulas, formulas, format_of(torch.float64))
    _, fine = wide._settler_at([2.0])._executed_rounding(0, arb(1))
    narrow = wide.in_format(format_of(torch.float32))
    _, coarse = narrow._settler_at([2.0])._executed_rounding(0, arb(1))
    assert coarse > 1e6 * fine


def test_what_happens_to_be_exact_in_one_order_is_no_tighter_bound():
    """Products that cancel are exact in the reference's order, as balls see it, and rounded in PyTorch's."""
    x, z, w, b = map(graph.symbol, "xzwb")
    certifier = Certifier("xzwb", [x * w + z * w + b], [x * w + z * w + b], format_of(torch.float32))
    values = [15.999999046325684, -15.9990234375, -16.0, -2.0]
    product, opposite, rest = map(torch.tensor, (-255.99998474121094, 255.984375, -2.0))
    other_order = float((rest + product) + opposite)
    assert other_order != math.fsum([-255.99998474121094, 255.984375, -2.0])
    assert not certifier.judge(values, [other_order]).failures
    assert certifier.judge(values, [other_order * (1 + 1e-3)]).failures
