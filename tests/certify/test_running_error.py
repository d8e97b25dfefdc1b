"""The bounds of many inputs at once, held to what rounding does and to the radii of balls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from flint import arb

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import Expr, call, constant, greater, where
from diffcheck.certify.balls import BOUNDED, EXACT, Selections
from diffcheck.certify.compiler import Program
from diffcheck.certify.floats import Floats
from diffcheck.certify.running_error import running_error
from diffcheck.certify.table import levelled
from diffcheck.derive.chain_rule import pull_back
from tests.support.expressions import X, Y, over_arithmetic, over_heads

NAMES = ("x", "y", "c")
C = graph.symbol("c")


def bounds(outputs: list[Expr], points: Sequence[tuple[float, ...]], bits: int) -> Floats:
    prepared = running_error(levelled(marks.as_computed(outputs), NAMES))
    assert prepared is not None
    return prepared(np.array(points), bits)


def at(output: Expr, *point: float, bits: int = 53) -> float:
    return float(bounds([output], [(*point, *(1.0,) * (3 - len(point)))], bits)[0, 0])


# ---------------------------------------------------------------------------------------------------------------------
# Rounding stays inside
# ---------------------------------------------------------------------------------------------------------------------

# What float32 computes with correctly rounded functions: NumPy's own are within an ulp, in float64 before rounding.
SINGLE: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "log1p": np.log1p,
    "atan": np.arctan, "expm1": np.expm1, "asinh": np.arcsinh, "sinh": np.sinh,
}  # fmt: skip


def drawn_graph(random: Random) -> Expr:
    """Some operations on x, y, c and constants, the later ones on the results of earlier ones."""
    pool = [X, Y, C, constant(3), graph.HALF]
    for _ in range(random.randrange(2, 9)):
        head = random.choice(["add", "mul", "div", "add", "mul", *SINGLE])
        a, b = random.choice(pool[-4:]), random.choice(pool)
        match head:
            case "add":
                pool.append(a + b)
            case "mul":
                pool.append(a * b)
            case "div":
                pool.append(a / b)
            case "neg":
                pool.append(-a)
            case _:
                pool.append(call(head, a))
    return pool[-1]


def in_single(output: Expr, point: tuple[float, ...]) -> np.float32:
    """The graph computed in float32, each operation rounded once."""
    done: dict[Expr, np.float32] = {}
    for node in graph.topological([output]):
        if node.head == "symbol":
            done[node] = np.float32(point[NAMES.index(str(node.payload))])
        elif node.head == "constant":
            done[node] = np.float32(graph.number(node))
        else:
            done[node] = np.float32(SINGLE[node.head](*(np.float64(done[a]) for a in node.args)))
    return done[output]


def test_what_float32_rounds_is_within_the_radius():
    """Thousands of drawn graphs. First order: a hair more than the radius is second order, and is allowed."""
    random = Random(0)
    held = 0
    largest = 0.0
    with np.errstate(all="ignore"):
        for _ in range(4000):
            output = drawn_graph(random)
            point = tuple(
                float(np.float32(random.choice((1, -1)) * math.ldexp(random.uniform(1, 2), random.randrange(-6, 4))))
                for _ in NAMES
            )
            radius = float(bounds([output], [point], 24)[0, 0])
            computed = float(in_single(output, point))
            (true,) = Program([output], NAMES, EXACT)([arb(v) for v in point], 200, Selections())
            if not math.isfinite(radius) or not math.isfinite(computed) or not true.is_finite():
                continue
            if 0 < abs(computed) < 2.0**-120 or radius < 2.0**-140:
                continue  # underflow is no part of the analysis
            held += 1
            error = float((true - computed).abs_upper())
            assert error <= radius * 1.001, (output, point, error, radius)
            largest = max(largest, error / radius if radius else 0.0)
    assert held > 2500
    assert largest > 0.5  # it is no loose bound either


WIDE_BALLS = ("acos", "acosh", "atanh", "cube root")
"""Balls lose digits inside of these functions that kernels keep."""


@pytest.mark.parametrize("bits", [53, 24])
def test_radii_are_those_of_balls_within_a_factor(bits: int):
    """A ball rounds by up to an ulp, twice the unit roundoff, and not at all where a result happens to be exact."""
    random = Random(bits)
    ratios: list[float] = []
    for example in over_heads() + over_arithmetic():
        outputs = [example.of, *pull_back(marks.as_values([example.of]), [C], [X, Y])]
        if running_error(levelled(marks.as_computed(outputs), NAMES)) is None or example.name in WIDE_BALLS:
            continue
        points = [(x, y, random.choice((1.0, -1.0, random.uniform(-3, 3)))) for x, y in example.points(30)]
        if bits == 24:
            representable = np.array([p for p in points if max(map(abs, p)) < 1e30], dtype=np.float32)
            points = [(float(x), float(y), float(c)) for x, y, c in representable]
        program = Program(outputs, NAMES, BOUNDED)
        for point, radii in zip(points, bounds(outputs, points, bits), strict=True):
            for ball, radius in zip(program([arb(v) for v in point], bits, Selections()), radii, strict=True):
                if ball.is_finite() and math.isfinite(radius) and not (radius == 0 and ball.is_exact()):
                    other = max(float(ball.rad()), abs(float(ball.mid())) * 2.0**-bits)
                    if other > 1e-290:
                        ratios.append(radius / other)
    ratios.sort()
    assert len(ratios) > 4000
    assert 0.5 < ratios[len(ratios) // 2] < 1.5
    assert ratios[0] > 0.25
    assert ratios[-len(ratios) // 50] < 2.5
    assert ratios[-1] < 32  # where balls happen to be exact


# ---------------------------------------------------------------------------------------------------------------------
# Where first order is not enough
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "point"),
    [
        (call("log", X * Y + -1), (0.1, 10.000000000000002)),
        (call("sqrt", X * X - Y * Y), (1.1, 1.1)),
        (constant(1) / (X + Y - X), (1e20, 1e-3)),
        (call("asin", X * Y), (0.1, 10.0)),
        (call("sin", X * Y), (1e9, 1e9 / 3)),
        (call("exp", X * Y), (1e18 / 3, 3e-1)),
        (where(greater(X * Y, 1), X, -X), (0.1, 10.0)),
        (where(greater(X, Y), X, -X), (1.0, 1.0)),
        (X * Y, (1e200, 1e200)),
        (call("sqrt", X), (-1.0, 0.0)),
    ],
    ids=str,
)
def test_the_radius_is_not_finite(output: Expr, point: tuple[float, float]):
    assert not math.isfinite(at(output, *point))


def test_a_branch_that_is_not_taken_does_not_count():
    assert at(where(greater(X, 0), call("sqrt", X), X), -4.0) == 0
    assert at(where(greater(X, 0), call("sqrt", X), X), 2.0) == pytest.approx(math.sqrt(2) * 2.0**-53)


def test_exact_parts_have_no_radius():
    assert at(-X, 0.1) == 0
    assert at(constant(3) + graph.ZERO * X, 0.1) == 0
    assert at(graph.frozen(X, "detach"), 0.1) == 0
    assert at(constant(0.1), 0.1) == 0  # a binary fraction
    assert at(constant(graph.HALF.payload / 5), 0.1) == 0.1 * 2.0**-53  # type: ignore[operator]
    assert at(constant(0.1), 0.1, bits=24) == 0.1 * 2.0**-24


def test_sums_are_bounded_in_any_order():
    terms = [X, Y, C, X * 1024]
    size = 1.0 + 3.0 + 1.0 + 1024.0
    assert at(graph.total(terms), 1.0, -3.0) == pytest.approx((3 * size + 1024) * 2.0**-53)


def test_lower_precision_inside_counts():
    assert at(graph.rounded(X, 8), 1.5) == 1.5 * 2.0**-8


def test_kernels_formulas_are_bounded_not_values():
    value, kernel = X, (X + Y) + -Y
    assert at(graph.computed_as(value, kernel), 1e-3, 1e12) == at(kernel, 1e-3, 1e12) > 1e-5


def test_what_numpy_does_not_know_is_left_to_balls():
    for output in (call("lgamma", X), call("floor", X), X**Y, call("atan2", X, Y)):
        assert running_error(levelled([output], NAMES)) is None


def test_inputs_do_not_touch_each_other():
    outputs = [call("exp", X) / Y, where(greater(X, 0), X * Y, Y)]
    points = [(1.5, 2.0, 0.0), (-3.0, 0.1, 0.0), (0.0, 1.0, 0.0), (710.0, 1.0, 0.0)]
    together = bounds(outputs, points, 53)
    for point, row in zip(points, together, strict=True):
        np.testing.assert_array_equal(bounds(outputs, [point], 53)[0], row)
