"""The cells around an input: the open regions at its edge, in each of which the function is one smooth formula.

A function with selectors is one formula on each region where they are constant. At an input on a selector's boundary
several such regions meet, its *cells*; elsewhere there is one. What the function's derivative is at the input is a
matter of the cells alone: a branch that no cell selects does not exist, whatever its value would be, and a quotient
that is 0/0 at the input has a value beside it.

A cell is entered in a direction v, of random signs and sizes, so that it lies on no boundary: at x + t·v with
t = 2⁻²⁰⁰, or less where the input has small entries, far nearer than any format tells numbers apart. There every
selector is decided by balls of so many digits that t² and t³ are seen beside 1. What is not told from 0 even there is
0 on the whole cell. Selectors and zeros are then replaced by what they are, which leaves the cell's formula, and that
formula is differentiated anew: x - x under a root is gone, and so is what was divided by 0 in a branch not taken.

The limit of the derivative at the input is the cell's derivative *at* the input, where that has a value: without
selectors it is a continuous formula. Where it has none (0/0, a root of 0 that is divided by) it is what the derivatives
at t = 2⁻²⁰⁰ and at t = 2⁻¹⁰⁰ agree on. That is a limit for all functions that are, along a ray, powers of t (broken
ones and logarithms included) times analytic ones: those that elementary functions make, essential singularities
excepted.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

from flint import arb, ctx

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr
from diffcheck.certify.balls import EXACT, ONE, ZERO, Selections
from diffcheck.certify.compiler import Program

_NEAR: Final = 200
"""Cells are looked at in 2**-_NEAR times the size of the smallest entry, and of 1."""
_LESS_NEAR: Final = 100
_DIGITS: Final = 768
"""Bits beyond those that tell x + t·v from x."""
_AT_INPUT: Final = 256
"""Bits of a cell's derivative at the input itself."""
_CONVERGED: Final = 2.0**-30
"""Two values so close, relatively, are values of something that has a limit."""
_VANISHING: Final = 2.0**-40
"""What has become so much smaller, from t = 2⁻¹⁰⁰ to t = 2⁻²⁰⁰, goes to 0: so does a power of t above 2/5."""
_MOST_PASSES: Final = 4

Direction: TypeAlias = tuple[float, ...]
"""One number per input."""


@dataclass(frozen=True)
class Function:
    """What is differentiated, and how: the certificate of a point's derivative needs the function itself."""

    outputs: tuple[Expr, ...]
    inputs: tuple[str, ...]
    """The variables that move; others (cotangents, tangents) do not."""
    steps: tuple[str, ...]
    """How it is differentiated, what is done first coming first: `forward`, or another word for reverse mode."""
    levels: Callable[[Sequence[Expr]], Sequence[Sequence[Expr]]]
    """From outputs to these, then to what each step makes of them; the numbers that are compared come last."""

    @cached_property
    def reached(self) -> tuple[frozenset[int], ...]:
        """For each number that is compared, the outputs of which it is a derivative."""
        everything = frozenset(range(len(self.outputs)))
        if self.steps == ("forward",) or not self.steps:
            return tuple(frozenset([i]) for i in range(len(self.outputs)))
        if len(self.steps) > 1:
            return ()
        position = {name: i for i, name in enumerate(self.inputs)}
        found: list[set[int]] = [set() for _ in self.inputs]
        for k, output in enumerate(self.outputs):
            for name in graph.symbols([output]):
                if name in position:
                    found[position[name]].add(k)
        return tuple(frozenset(f) & everything for f in found)

    def outputs_of(self, number: int) -> frozenset[int]:
        """The outputs of which a number is a derivative; all of them in a higher order."""
        return self.reached[number] if self.reached else frozenset(range(len(self.outputs)))


def directions(count: int, seed: int = 0) -> list[Direction]:
    """Two opposite directions in general position."""
    generator = random.Random(seed)
    one = tuple(generator.choice((-1, 1)) * (0.5 + generator.randrange(2**20) * 2.0**-20) for _ in range(count))
    return [one, tuple(-v for v in one)]


@dataclass(frozen=True)
class Cell:
    """A cell's formulas: the function's, and its derivatives' of every order up to the one that is compared."""

    levels: tuple[tuple[Expr, ...], ...]
    variables: tuple[str, ...]

    @cached_property
    def _program(self) -> Program:
        return Program([e for level in self.levels for e in level], self.variables, EXACT)

    def at(self, values: Sequence[arb], precision: int) -> list[list[arb]]:
        """The formulas' values, by level."""
        flat = iter(self._program(values, precision, Selections(_at_zero(self._program))))
        return [[next(flat) for _ in level] for level in self.levels]


def _at_zero(program: Program) -> dict[int, arb]:
    """Every selector that is not told from one at its boundary is taken to be there."""
    return {i: ONE if node.head == "vanishes" else ZERO for i, node in enumerate(program.selectors)}


@dataclass(frozen=True)
class Sample:
    """What a cell says about the input at its edge. What has no finite limit is None."""

    direction: Direction
    selected: Mapping[Expr, arb]
    """The function's selectors, as they are written, and what they are in the cell."""
    inside: tuple[bool, ...]
    """By output: whether it has a value in the cell."""
    limits: tuple[tuple[arb | None, ...], ...]
    """The outputs, then the derivatives of each order."""

    @property
    def numbers(self) -> tuple[arb | None, ...]:
        """The limits of the numbers that are compared."""
        return self.limits[-1]


class Neighbourhood:
    """Finds the cells around inputs of a function, and keeps their formulas.

    Args:
        function: What is differentiated.
        variables: The names of all variables, in the order in which values will be given.
    """

    def __init__(self, function: Function, variables: Sequence[str]) -> None:
        self.function = function
        stops = [] if function.steps and set(function.steps) == {"forward"} else _frozen(function.outputs)
        names = [f"stop {i}" for i in range(len(stops))]
        held = list(map(graph.symbol, names))
        self.outputs = tuple(graph.substitute(function.outputs, dict(zip(stops, held, strict=True))))
        self._written: dict[Expr, Expr] = dict(zip(held, stops, strict=True))
        self._stops = Program([node.args[0] for node in stops], variables, EXACT)
        """What is detached keeps the value that it has at the input."""
        self.variables = (*variables, *names)
        inputs = set(function.inputs)
        self._moving = {name: i for i, name in enumerate(variables) if name in inputs}
        self._programs: dict[tuple[Expr, ...], tuple[list[Expr], Program]] = {}
        self._cells: dict[tuple[object, ...], Cell] = {}

    @cached_property
    def _values(self) -> Program:
        return Program(self.outputs, self.variables, EXACT)

    def values_at(self, values: Sequence[float], precision: int = _AT_INPUT) -> list[arb]:
        """The outputs at an input, their selectors as they are there."""
        given = self.with_stops(list(map(arb, values)), precision)
        return self._values(given, precision, Selections(_at_zero(self._values)))

    def values_towards(self, values: Sequence[float], selected: Mapping[Expr, arb]) -> list[arb]:
        """The limits of the outputs, where the formulas have values, with selectors as they are in a cell."""
        given = self.with_stops(list(map(arb, values)), _AT_INPUT)
        return self._values(given, _AT_INPUT, Selections(forced_by(self._values, selected, self.as_written)))

    def as_written(self, selector: Expr) -> Expr:
        """A selector as the function, and its derivatives, write it: with what is detached."""
        return graph.substitute([selector], self._written)[0] if self._written else selector

    def at_boundaries(self, values: Sequence[float]) -> list[Expr]:
        """The function's selectors that are at their boundaries at an input, or not told from it."""
        _, program = self.program(self.outputs)
        selections = Selections()
        program(self.with_stops(list(map(arb, values)), _AT_INPUT), _AT_INPUT, selections)
        return [program.selectors[i] for i in sorted(selections.boundary | selections.undecided)]

    def with_stops(self, values: list[arb], precision: int) -> list[arb]:
        """Values of the variables, and of what is detached."""
        return values + self._stops(values, precision, Selections(_at_zero(self._stops)))

    def enter(self, values: Sequence[float], direction: Direction) -> Entered:
        """The cell that a direction leads into."""
        near, step, precision = self.near(values, direction, _NEAR)
        return Entered(self, tuple(values), direction, tuple(near), step, precision)

    def near(self, values: Sequence[float], direction: Direction, exponent: int) -> tuple[list[arb], arb, int]:
        """The point x + t·v, t, and the precision at which it is looked at."""
        sizes = [math.frexp(values[i])[1] for i in self._moving.values() if values[i]]
        smallest = min(0, min(sizes, default=0))
        precision = _DIGITS + _NEAR - smallest + max(0, max(sizes, default=0))
        exact = list(map(arb, values))
        held = self.with_stops(exact, precision)[len(exact) :]
        step = arb(2) ** (smallest - exponent)
        ctx.prec = precision
        for i, v in zip(self._moving.values(), direction, strict=True):
            exact[i] += v * step
        return exact + held, step, precision

    def program(self, outputs: tuple[Expr, ...]) -> tuple[list[Expr], Program]:
        """The operations of formulas, and a program for the values of all of them."""
        if outputs not in self._programs:
            nodes = [node for node in graph.topological(outputs) if node.args]
            self._programs[outputs] = nodes, Program(nodes, self.variables, EXACT)
        return self._programs[outputs]

    def cell(self, outputs: tuple[Expr, ...]) -> Cell:
        """The cell in which the function is given by these formulas."""
        if outputs not in self._cells:
            levels = tuple(tuple(level) for level in self.function.levels(outputs))
            self._cells[outputs] = Cell(levels, self.variables)
        return self._cells[outputs]


@dataclass(frozen=True)
class Entered:
    """A cell as it is seen from one input, in one direction."""

    around: Neighbourhood
    values: tuple[float, ...]
    direction: Direction
    near: tuple[arb, ...]
    step: arb
    """t: `near` is x + t·v."""
    precision: int

    @cached_property
    def _first(self) -> tuple[list[Expr], list[arb]]:
        nodes, program = self.around.program(self.around.outputs)
        return nodes, program(self.near, self.precision, Selections(_at_zero(program)))

    @cached_property
    def selected(self) -> dict[Expr, arb]:
        """The selectors of the function, as they are written, in this cell."""
        written = self.around.as_written
        return {written(n): ball for n, ball in zip(*self._first, strict=True) if n.head in graph.SELECTORS}

    def arguments(self, selectors: Sequence[Expr]) -> list[arb]:
        """What is compared with 0 by some of the selectors."""
        ball_of = dict(zip(*self._first, strict=True))
        leaves = dict(zip(self.around.variables, self.near, strict=True))
        return [ball_of.get(s.args[0], leaves.get(str(s.args[0].payload), ZERO)) for s in selectors]

    @property
    def inside(self) -> tuple[bool, ...]:
        """By output, whether it certainly has a value in this cell: one that is masked may look as if it had none."""
        ball_of = dict(zip(*self._first, strict=True))
        return tuple(output not in ball_of or ball_of[output].is_finite() for output in self.around.outputs)

    @cached_property
    def formulas(self) -> tuple[Expr, ...]:
        """The function in this cell, its selectors and zeros replaced by what they are.

        What is selected may rest on something undefined that a selector masks: once that is replaced, it is decided.
        """
        outputs, (nodes, balls) = self.around.outputs, self._first
        for last in range(_MOST_PASSES):
            ball_of = dict(zip(nodes, balls, strict=True))
            known: dict[Expr, Expr] = {}
            waiting = 0
            for node, ball in ball_of.items():
                if node.head in graph.SELECTORS:
                    argument = ball_of.get(node.args[0])
                    if argument is None or argument.is_finite() or last == _MOST_PASSES - 1:
                        known[node] = graph.ONE if ball == 1 else graph.ZERO
                    else:
                        waiting += 1
                elif node.head != "not" and _is_zero(ball, self.precision):
                    known[node] = graph.ZERO
            if not known:
                break
            outputs = tuple(graph.substitute(outputs, known))
            if not waiting:
                break
            nodes, program = self.around.program(outputs)
            balls = program(self.near, self.precision, Selections(_at_zero(program)))
        return outputs

    def sample(self) -> Sample:
        """The limits, from inside of the cell, of the function and of its derivatives."""
        cell = self.around.cell(self.formulas)
        given = self.around.with_stops(list(map(arb, self.values)), _AT_INPUT)
        limits: list[list[arb | None]] = [list(level) for level in cell.at(given, _AT_INPUT)]
        near = cell.at(self.near, self.precision)
        inside = tuple(ball.is_finite() for ball in near[0])
        if any(ball is not None and not ball.is_finite() for level in limits for ball in level):
            farther, _, precision = self.around.near(self.values, self.direction, _LESS_NEAR)
            beside = cell.at(farther, precision)
            for level, close, far in zip(limits, near, beside, strict=True):
                for i, ball in enumerate(level):
                    if ball is None or not ball.is_finite():
                        level[i] = _limit(close[i], far[i])
        return Sample(self.direction, self.selected, inside, tuple(map(tuple, limits)))


def _is_zero(ball: arb, precision: int) -> bool:
    return bool(ball.is_finite() and 0 in ball and ball.abs_upper() < arb(2) ** -(precision // 2))


def _limit(close: arb, far: arb) -> arb | None:
    """What values at t = 2⁻²⁰⁰ and at t = 2⁻¹⁰⁰ go to; None if they do not."""
    if not close.is_finite() or not far.is_finite():
        return None
    if close.abs_upper() <= far.abs_upper() * _VANISHING:
        return ZERO
    apart = (close - far).abs_upper()
    if not apart <= close.abs_lower() * _CONVERGED:
        return None
    # The error goes with a power of t of at least 2/5: what is left of it is as much smaller than the difference.
    return close + arb(0, apart * _VANISHING)


def _frozen(outputs: Sequence[Expr]) -> list[Expr]:
    """What is detached, seen from outside."""
    found: dict[Expr, None] = {}
    seen = set(outputs)
    stack = list(seen)
    while stack:
        node = stack.pop()
        if node.head == "frozen":
            found[node] = None
            continue
        for argument in node.args:
            if argument not in seen:
                seen.add(argument)
                stack.append(argument)
    return sorted(found, key=graph.BY_SERIAL)


def forced_by(
    program: Program, selected: Mapping[Expr, arb], as_written: Callable[[Expr], Expr] = lambda selector: selector
) -> dict[int, arb]:
    """A program's selectors at their boundaries, as they are in a cell."""
    at_zero = _at_zero(program)
    return {i: selected.get(as_written(node), at_zero[i]) for i, node in enumerate(program.selectors)}
