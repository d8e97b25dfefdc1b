"""Values of graphs at many inputs at once: within their bounds, sharp, and silent where nothing is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import pytest
from flint import arb

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import Expr, call, constant, greater, where
from diffcheck.certify import certifier, double_word, elementary, enclosure, extended
from diffcheck.certify.balls import EXACT, Selections
from diffcheck.certify.certifier import Certifier
from diffcheck.certify.compiler import Program
from diffcheck.certify.elementary import UNIT
from diffcheck.certify.extended import ExtendedValues, extended_values
from diffcheck.certify.table import levelled
from diffcheck.derive.chain_rule import pull_back
from tests.certify.test_certifier import DOUBLE, SINGLE
from tests.support.expressions import X, Y, over_arithmetic, over_heads

NAMES = ("x", "y", "c")
C = graph.symbol("c")
EXAMPLES = {example.name: example for example in over_heads() + over_arithmetic()}
LEFT_TO_BALLS = {
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erfc", "erfcx", "erfinv",
    "gamma", "lgamma", "floor", "atan2", "polygamma", "besseli", "power", "cube root", "exponential of base 2",
}  # fmt: skip
"""Examples of what has no bound."""
BOUNDED = [name for name in EXAMPLES if name not in LEFT_TO_BALLS and name.split()[0] not in LEFT_TO_BALLS]
TENTH, SEVENTH = constant(Fraction(1, 10)), constant(Fraction(1, 7))


def prepared(outputs: Sequence[Expr]) -> ExtendedValues | None:
    return extended_values(levelled(marks.as_values(outputs), NAMES))


def held(outputs: Sequence[Expr], points: Sequence[tuple[float, ...]]) -> tuple[list[Any], list[float], int]:
    """What lies outside of its bound by balls of 400 bits, the bounds relative to values, and what is not known."""
    found = prepared(outputs)
    assert found is not None
    program = Program(outputs, NAMES, EXACT)
    outside, relative, unknown = [], [], 0
    for point, *rows in zip(points, *found(np.array(points)), strict=True):
        true = program([arb(v) for v in point], 400, Selections())
        for ball, value, low, error in zip(true, *rows, strict=True):
            if not math.isfinite(error):
                unknown += 1
                continue
            gap = float((ball - arb(float(value)) - arb(float(low))).abs_upper())
            if not gap <= error:
                outside.append((point, value, gap, error))
            if value:
                relative.append(error / abs(value))
    return outside, relative, unknown


def points_of(name: str, count: int) -> list[tuple[float, float, float]]:
    random = Random(name)
    return [(x, y, random.choice((1.0, -1.0, random.uniform(-3, 3)))) for x, y in EXAMPLES[name].points(count)]


@pytest.mark.parametrize("name", BOUNDED)
def test_true_values_are_within_their_bounds(name: str):
    of = marks.as_values([EXAMPLES[name].of])[0]
    outside, relative, _ = held([of, *pull_back([of], [C], [X, Y])], points_of(name, 200))
    assert not outside
    assert len(relative) > 250 or name in {"log", "sqrt", "branch without a value"}
    assert sorted(relative)[len(relative) // 2] < 16 * UNIT


def drawn_graph(random: Random) -> Expr:
    """Some operations on x, y, c and constants, the later ones on the results of earlier ones."""
    pool: list[Expr] = [X, Y, C, constant(3), constant(0.1), TENTH, graph.PI]
    heads = ["add", "mul", "div", "sub", "sum", "power", "where", *elementary.FUNCTIONS]
    for _ in range(random.randrange(2, 12)):
        head = random.choice(heads[: 7 if random.random() < 0.7 else None])
        a, b, c = random.choice(pool[-4:]), random.choice(pool), random.choice(pool)
        match head:
            case "add":
                pool.append(a + b)
            case "sub":
                pool.append(a - b)
            case "mul":
                pool.append(a * b)
            case "div":
                pool.append(a / b)
            case "sum":
                pool.append(graph.total([a, b, c, -a * c]))
            case "power":
                pool.append(a ** constant(random.choice((2, 3, -1, -2, 5, 1.5, -0.5))))
            case "where":
                pool.append(where(greater(a, b), b * c, c - a))
            case _:
                pool.append(call(head, a))
    return pool[-1]


def drawn_and_held(count: int) -> tuple[list[Any], list[float], int]:
    random = Random(0)
    outside: list[Any] = []
    relative: list[float] = []
    unknown = 0
    for _ in range(count):
        output = drawn_graph(random)
        points = [
            tuple(random.choice((1, -1)) * math.ldexp(random.uniform(1, 2), random.randrange(-6, 4)) for _ in NAMES)
            for _ in range(4)
        ]
        points.append((random.choice((0.0, 1.0, -1.0)), random.choice((0.0, 1.0, 2.0)), 1.0))
        one = held([output], points)
        outside.extend((output, *o) for o in one[0])
        relative.extend(one[1])
        unknown += one[2]
    return outside, relative, unknown


def test_drawn_graphs_are_within_their_bounds():
    outside, relative, unknown = drawn_and_held(3000)
    assert not outside
    assert len(relative) > 6000
    assert unknown < 0.5 * (len(relative) + unknown)
    assert sorted(relative)[len(relative) // 2] < 2.0**-30 * UNIT


@pytest.mark.parametrize("constant", ["RELATIVE", "ROUNDOFF"])
def test_a_bound_that_is_too_small_is_seen(constant: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(double_word, constant, getattr(double_word, constant) / 64)
    assert drawn_and_held(300)[0]


@pytest.mark.parametrize("operation", ["_add", "_multiply", "_divide", "_any_order", "_not"])
def test_an_error_that_is_not_passed_on_is_seen(operation: str, monkeypatch: pytest.MonkeyPatch):
    """Each operation, as if its arguments were exact."""
    right = getattr(extended, operation)

    def forgetful(arguments: Any) -> Any:
        return right([(values, None) for values, _ in arguments])

    monkeypatch.setattr(extended, operation, forgetful)
    monkeypatch.setattr(extended, "_OPERATIONS", {
        head: forgetful if apply is right else apply for head, apply in extended._OPERATIONS.items()
    })  # fmt: skip
    # Less what it is near to, this has many units of error; what is done with it then adds one.
    near = (X + TENTH) * SEVENTH
    cases = {
        "_add": near - Y,
        "_multiply": (near - Y) * C,
        "_divide": (near - Y) / 3,
        "_any_order": graph.total([near - Y, (Y - near) / 3, (near - Y) * C]),
        "_not": graph.logical_not(near / (near - Y)),
    }
    points = [(0.3 + i / 4096, 0.4 / 7, 1.5) for i in range(32)]
    assert held([cases[operation]], points)[0]


# ---------------------------------------------------------------------------------------------------------------------
# Where nothing is known
# ---------------------------------------------------------------------------------------------------------------------


def error_at(output: Expr, *point: float) -> float:
    found = prepared([output])
    assert found is not None
    with np.errstate(all="raise"):
        return float(found(np.array([(*point, *(1.0,) * (3 - len(point)))]))[2, 0, 0])


@pytest.mark.parametrize(
    ("output", "point"),
    [
        (where(greater(X, Y), X, -X), (1.0, 1.0)),
        (where(greater(X / 3 * 3, X), X, -X), (1.0,)),
        (graph.equal(X, Y) * X, (2.0, 2.0)),
        (call("log", X - Y), (1.0, 1.0)),
        (call("log", X), (-1.0,)),
        (call("sqrt", X), (-1.0,)),
        (call("sqrt", X / 3 * 3 - X), (1.0,)),
        (constant(1) / (X - Y), (1.0, 1.0)),
        (call("exp", X), (400.0,)),
        (X * Y, (1e100, 1e100)),
        (X * Y, (1e-100, 1e-100)),
        (X ** constant(64), (1e-30,)),
        (X ** constant(-64), (1e-30,)),
        (X ** constant(64), (1e30,)),
        (X * 1.0, (5e-324,)),
        (X + Y, (math.inf, 1.0)),
        (X + Y, (math.nan, 1.0)),
        (X * constant(10) ** constant(400), (1.0,)),
        (X - constant(10) ** constant(-400), (1.0,)),
    ],
    ids=str,
)
def test_nothing_is_known(output: Expr, point: tuple[float, ...]):
    assert not math.isfinite(error_at(output, *point))


def test_exact_parts_have_no_error():
    for output in (X, -X, graph.frozen(X, "detach"), graph.rounded(-X, 8), constant(3), constant(0.1)):
        assert error_at(output, 0.1) == 0
    assert 0 < error_at(TENTH, 0.1) < 1.1 * UNIT / 10
    assert 0 < error_at(graph.PI, 0.1) < 4 * UNIT


def test_what_does_not_count_has_no_error():
    branch = where(greater(X, 0), X, Y / 3)
    assert error_at(branch, 2.0) == 0
    assert 0 < error_at(branch, -2.0) <= UNIT
    both = where(graph.logical_or(greater(X, 0), greater(Y, 0)), X, Y / 3)
    assert error_at(both, 2.0, -1.0) == 0
    assert error_at(call("exp", X), -400.0) < 2.0**-480


def test_functions_without_a_bound_are_left_to_balls():
    for head in ("sin", "lgamma", "floor"):
        assert prepared([call(head, X)]) is None
    assert prepared([X**Y]) is None
    assert prepared([X ** constant(65)]) is None
    assert prepared([X ** (graph.ONE / 3)]) is None
    assert prepared([graph._intern("mul", (X, graph.INFINITY))]) is None


def test_inputs_do_not_touch_each_other():
    outputs = [call("exp", X) / Y, where(greater(X, 0), X * Y, Y), graph.total([X, Y, C, X * Y])]
    points = np.array([(1.5, 2.0, 0.0), (-3.0, 0.1, 0.0), (0.0, 1.0, 0.0), (710.0, 1.0, 0.0), (7.0, 1.0, 3.0)])
    found = prepared(outputs)
    assert found is not None
    together = found(points)
    for i in range(len(points)):
        np.testing.assert_array_equal(together[:, i], found(points[i : i + 1])[:, 0])


# ---------------------------------------------------------------------------------------------------------------------
# Judgements are those of balls
# ---------------------------------------------------------------------------------------------------------------------


def judged(name: str, fmt: Any) -> list[tuple[Any, ...]]:
    """A fresh certifier's judgements: of right numbers, and of such that are off by half a bound to many."""
    of = marks.as_values([EXAMPLES[name].of])[0]
    reference = [of, *pull_back([of], [C], [X, Y]), C]
    certifier = Certifier(NAMES, reference, reference, fmt)
    points = [p for p in points_of(name, 24) if max(map(abs, p)) < 1e30]
    random, computed = Random(name), []
    for point in points:
        balls = Program(reference, NAMES, EXACT)([arb(v) for v in point], 200, Selections())
        off = random.choice((0.0, 0.0, 0.3, 2.0, 100.0, 1e6)) * 2.0**-fmt.bits
        computed.append([float(b.mid()) * (1 + off) for b in balls])
    found = certifier.judge_all(np.array(points), np.array(computed))
    assert len(found) == len(points)
    return [
        (j.kink, j.undefined, {i: v.outcome for i, v in j.failures.items()}, j.max_bounds, j.max_ulps) for j in found
    ]


@pytest.mark.parametrize("fmt", [DOUBLE, SINGLE], ids=["float64", "float32"])
@pytest.mark.parametrize("name", BOUNDED)
def test_judgements_are_those_of_balls(name: str, fmt: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ExtendedValues, "pays", lambda *_: True)
    quick = judged(name, fmt)
    monkeypatch.setattr(enclosure, "extended_values", lambda _: None)
    slow = judged(name, fmt)
    for one, other in zip(quick, slow, strict=True):
        assert one[:3] == other[:3]
        assert one[3] == pytest.approx(other[3], rel=0.02, abs=0.01)
        assert one[4] <= other[4] * 1.02 + 0.01  # which has half of the enclosure's width on top
    assert any(failures for _, _, failures, _, _ in quick)


def test_ulps_are_those_of_the_numbers_and_not_of_the_enclosure(monkeypatch: pytest.MonkeyPatch):
    """log(σ/(1 - σ)) is x, and loses its digits: what is rounded once is off by half an ulp, whatever the bound is."""
    monkeypatch.setattr(ExtendedValues, "pays", lambda *_: True)
    reference = [EXAMPLES["logit"].of]
    certifier = Certifier(NAMES, reference, reference, DOUBLE)
    points = [[x, 1.0, 1.0] for x in (0.1, 1.3, 2.7, 3.1)]
    judgements = certifier.judge_all(np.array(points), np.array([[x] for x, _, _ in points]))
    assert all(0 <= j.max_ulps < 0.05 for j in judgements)
    off = certifier.judge_all(np.array(points), np.array([[math.nextafter(x, 20.0)] for x, _, _ in points]))
    assert all(0.95 < j.max_ulps < 1.05 for j in off)


def test_large_formulas_are_judged_in_parts(monkeypatch: pytest.MonkeyPatch):
    """As many inputs together as there is room for: the same judgements."""
    reference = [call("exp", X) * Y, X / Y]
    points = np.array([[i / 16 - 1, 3.0, 1.0] for i in range(32)])
    computed = np.array([[math.exp(x) * y, x / y * (1 + 1e-9 * (i % 5 == 0))] for i, (x, y, _) in enumerate(points)])
    whole = Certifier(NAMES, reference, reference, DOUBLE).judge_all(points, computed)
    monkeypatch.setattr(certifier, "_MOST_ROWS", 50)
    parts = Certifier(NAMES, reference, reference, DOUBLE).judge_all(points, computed)
    assert [j.failures.keys() for j in parts] == [j.failures.keys() for j in whole]
    assert [j.max_bounds for j in parts] == pytest.approx([j.max_bounds for j in whole], rel=0.01, abs=0.01)
    assert sum(bool(j.failures) for j in parts) == 7


def test_many_inputs_are_not_judged_by_balls(monkeypatch: pytest.MonkeyPatch):
    reference = [call("exp", X) * Y, call("erf", X) / Y]
    certifier = Certifier(NAMES, reference, reference, DOUBLE)
    points = [[i / 16 - 1, 3.0, 1.0] for i in range(32)]
    computed = [[math.exp(x) * y, math.erf(x) / y] for x, y, _ in points]
    monkeypatch.setattr(enclosure.Reference, "exact", lambda *_: pytest.fail("balls were asked"))
    judgements = certifier.judge_all(np.array(points), np.array(computed))
    assert not any(j.failures for j in judgements)
    assert all(j.max_bounds > 0 for j in judgements)
