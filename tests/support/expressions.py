"""Expressions over every head, each with inputs at which it is defined."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import HALF, ONE, Expr, call, constant, greater, symbol, where

X, Y = symbol("x"), symbol("y")

Draw = Callable[[Random], float]


def magnitude(lowest: int, highest: int) -> Draw:
    """Positive floats of full precision, from 2**lowest up to 2**highest."""
    return lambda random: math.ldexp(random.uniform(1, 2), random.randrange(lowest, highest))


def signed(lowest: int, highest: int) -> Draw:
    """Of either sign."""
    draw = magnitude(lowest, highest)
    return lambda random: random.choice((1, -1)) * draw(random)


def near(value: float, sides: tuple[int, ...] = (1, -1)) -> Draw:
    """Numbers as near to a value as floats get, and further away."""
    return lambda random: value + random.choice(sides) * math.ldexp(random.uniform(0.5, 1), -random.randrange(1, 50))


def either(*draws: Draw) -> Draw:
    """One of several."""
    return lambda random: random.choice(draws)(random)


WIDE = signed(-100, 40)
MIDDLE = signed(-60, 9)
UNIT = either(signed(-60, -1), near(0.75), near(1.0, (-1,)), near(-1.0, (1,)))


@dataclass(frozen=True)
class Example:
    """A function of x and y, and where to draw them."""

    name: str
    of: Expr
    x: Draw
    y: Draw = MIDDLE
    slow: bool = False
    """mpmath needs milliseconds."""

    def points(self, count: int) -> Iterator[tuple[float, float]]:
        """Inputs, the same in every run."""
        random = Random(self.name)
        for _ in range(count):
            yield self.x(random), self.y(random)


_SQUARES = X * X + Y * Y + HALF
_BELOW_ONE = X / call("sqrt", X * X + Y * Y + 1)

# By head: where it is defined, and something composed that is within its domain everywhere.
_DOMAINS: dict[str, tuple[Draw, Expr]] = {
    "sqrt": (magnitude(-900, 900), _SQUARES),
    "exp": (MIDDLE, X * Y - X),
    "expm1": (MIDDLE, X * Y - X),
    "log": (magnitude(-900, 900), _SQUARES),
    "log1p": (either(magnitude(-100, 60), near(-1.0, (1,)), signed(-60, -1)), X * X - X + Y * Y),
    "sin": (WIDE, X * Y - X),
    "cos": (WIDE, X * Y - X),
    "tan": (WIDE, X * Y - X),
    "asin": (UNIT, _BELOW_ONE),
    "acos": (UNIT, _BELOW_ONE),
    "atan": (WIDE, X * Y - X),
    "sinh": (MIDDLE, X * Y - X),
    "cosh": (MIDDLE, X * Y - X),
    "tanh": (signed(-60, 6), (X * Y - X) / (X * X + 1)),
    "asinh": (WIDE, X * Y - X),
    "acosh": (either(magnitude(1, 200), near(1.0, (1,))), _SQUARES + 1),
    "atanh": (UNIT, _BELOW_ONE),
    "sigmoid": (signed(-60, 7), (X * Y - X) / (X * X + 1)),
    "erf": (signed(-60, 4), _BELOW_ONE * 3),
    "erfc": (signed(-60, 4), _BELOW_ONE * 3),
    "erfcx": (signed(-40, 2), _BELOW_ONE * 3),
    "erfinv": (either(signed(-40, -1), near(0.5)), _BELOW_ONE * HALF),
    "gamma": (either(magnitude(-20, 4), signed(-3, 0)), _SQUARES / (1 + X * X)),
    "lgamma": (magnitude(-20, 20), _SQUARES / (1 + X * X)),
    "floor": (signed(-4, 40), X * Y - X),
}
_SLOW = ("erfinv", "erfcx", "gamma", "lgamma")


def over_heads() -> list[Example]:
    """Every head of one argument alone and composed, and those of two."""
    found = []
    for head, (domain, inside) in _DOMAINS.items():
        found.append(Example(head, call(head, X) * Y, domain, slow=head in _SLOW))
        found.append(
            Example(f"{head} composed", call(head, inside) * X + Y, signed(-12, 5), signed(-12, 3), slow=head in _SLOW)
        )
    found.append(Example("atan2", call("atan2", X, Y) * X, WIDE, WIDE))
    found.extend(
        Example(f"polygamma {order}", call("polygamma", constant(order), X) * Y, magnitude(-12, 5), slow=True)
        for order in (0, 1, 2)
    )
    found.extend(
        Example(f"besseli {order}", call("besseli", constant(order), X) * Y, signed(-12, 5), slow=True)
        for order in (0, 1)
    )
    return found


def softmax_like() -> Expr:
    """log(eˣ + eʸ), shifted by the maximum as kernels do."""
    top = where(greater(X, Y), X, Y)
    return top + call("log", call("exp", X - top) + call("exp", Y - top))


def over_arithmetic() -> list[Example]:
    """Sums, quotients, powers and selectors."""
    ratio = (X * X - Y * Y) / (X * X + Y * Y)
    relu = where(greater(X, 0), X, graph.ZERO)
    clamped = where(greater(X, 1), ONE, where(greater(X, -1), X, graph.MINUS_ONE))
    return [
        Example("ratio", ratio, WIDE, WIDE),
        Example("chain of quotients", X / (Y / (X * X + 1)) - ONE / Y, WIDE, WIDE),
        Example("cancelling", (X + Y) * (X - Y) - X * X, WIDE, WIDE),
        Example("cube", X ** constant(3) * Y - 2 * X ** constant(-2), MIDDLE),
        Example("root", (X * X + Y * Y) ** HALF / X, WIDE, WIDE),
        Example("cube root", X ** (ONE / 3) * Y, magnitude(-200, 200)),
        Example("power", X**Y, magnitude(-30, 30), signed(-8, 6)),
        Example("exponential of base 2", constant(2) ** (X * Y), signed(-20, 5), signed(-20, 4)),
        Example("relu", relu * relu * Y, WIDE),
        Example("leaky relu", where(greater(X, 0), X, X / 100) * Y, WIDE),
        Example("clamp", clamped * X * Y, either(near(1.0), near(-1.0), MIDDLE)),
        Example("maximum", where(greater(X, Y), X * X, Y * Y * Y), MIDDLE),
        Example("absolute", where(greater(X, 0), X, -X) ** constant(3) + Y, WIDE),
        Example("bracket as a factor", greater(X * Y, X) * X * X * Y, MIDDLE),
        Example("equality", graph.equal(X, Y) * X + X * Y, MIDDLE),
        Example("branch without a value", where(greater(X, 0), call("log", X), X * X) * Y, MIDDLE),
        Example("log-sum-exp", softmax_like(), signed(-20, 12), signed(-20, 12)),
        Example("normal density", call("exp", -(X * X) / 2) / call("sqrt", 2 * graph.PI) * Y, signed(-40, 5)),
        Example("gelu", HALF * X * (1 + call("erf", X / call("sqrt", constant(2)))) * Y, signed(-40, 4)),
        Example("softplus", call("log1p", call("exp", X)) * Y, signed(-40, 8)),
        Example("logit", call("log", call("sigmoid", X) / (1 - call("sigmoid", X))) * Y, signed(-20, 6)),
        Example("frozen factor", graph.frozen(X * Y, "detach") * X * Y, WIDE),
        Example("rounded factor", graph.rounded(X * Y, 8) * X, WIDE),
        Example("computed otherwise", graph.computed_as(X * Y + X, X * (Y + 1)) * X, WIDE),
    ]
