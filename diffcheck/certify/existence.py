"""What the derivative is at an input where its formula does not say: one number, several one-sided ones, or none.

Looked at from the cells around the input (`cells`), for each number that is compared:

- a value that is infinite or 0/0, or that the format does not hold, has no derivative that could be asked for;
- where the value jumps, or where the derivative of a cell has no finite limit, there is none;
- where all cells have the same limit, that is the derivative: the function is continuous, and a continuous function
  whose derivative has a limit is differentiable there (the mean value theorem, along each ray);
- otherwise the input is a *kink*, and what the cells give are its one-sided derivatives.

A side on which the function has no value (√x left of 0) is no side. In a derivative of higher order, the ones before it
must not jump either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from functools import cached_property

from flint import arb

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import Expr
from diffcheck.certify.arrangement import across
from diffcheck.certify.balls import EXACT, Selections
from diffcheck.certify.cells import Direction, Entered, Neighbourhood, Sample
from diffcheck.certify.compiler import Program
from diffcheck.certify.enclosure import EXECUTED_BITS, MOST_BITS, Reference


class Status(Enum):
    """What there is to be compared with, of one number."""

    EXISTS = auto()
    """All cells that were looked at have the same derivative."""
    KINK = auto()
    """They have different ones."""
    NONE = auto()
    """There is no derivative, or it is infinite."""
    OUT_OF_RANGE = auto()
    """The function's value itself is infinite, undefined, or beyond the format."""


class Surroundings:
    """The cells around one input, as far as they have been looked at.

    Args:
        around: Of the function.
        reference: Its derivative.
        values: Of the variables.
        seeds: How many of them, the last ones, are cotangents or tangents.
        largest: The largest number of the format.
    """

    def __init__(
        self, around: Neighbourhood, reference: Reference, values: Sequence[float], seeds: int, largest: float
    ) -> None:
        self._around = around
        self._reference = reference
        self._values = tuple(values)
        self._largest = arb(largest)
        self.samples: list[Sample] = []
        self._path: Callable[[Direction], tuple[Neighbourhood, Reference] | None] | None = None
        self._for_any_seed = self
        """A cotangent or tangent of 0 hides what the function has, and has not: 0 times no derivative is none."""
        inputs = len(values) - seeds
        if 0.0 in values[inputs:]:
            others = (*values[:inputs], *(v or 1.0 + i / 8 for i, v in enumerate(values[inputs:])))
            self._for_any_seed = Surroundings(around, reference, others, seeds, largest)

    @cached_property
    def _outputs(self) -> list[arb]:
        found, precision = self._around.values_at(self._values), EXECUTED_BITS
        while precision <= MOST_BITS and not all(ball.is_finite() for ball in found):
            found = self._around.values_at(self._values, precision)
            precision *= 2
        return found

    def is_out_of_range(self, number: int) -> bool:
        """Whether the function has no value, in this format, that the number could be a derivative of."""
        return not all(
            self._outputs[k].is_finite() and abs(self._outputs[k]) <= self._largest
            for k in self._around.function.outputs_of(number)
        )

    def beyond(self, sample: Sample, moving: Sequence[int]) -> Iterator[Direction]:
        """Directions into the cells that are next to one."""
        return across(self._around, self._around.enter(self._values, sample.direction), moving)

    def with_paths(self, path: Callable[[Direction], tuple[Neighbourhood, Reference] | None]) -> Surroundings:
        """The same around an input at which paths end: what is in a direction is the formulas of the path there."""
        self._path = path
        self._for_any_seed._path = path  # noqa: SLF001 - of the same class
        return self

    def look(self, direction: Direction) -> Sample:
        """Looks at the cell in a direction."""
        found = self._seen(direction)
        assert found is not None
        return found

    def look_if_known(self, direction: Direction) -> Sample | None:
        """The same; None where the path in that direction is not known."""
        return self._seen(direction)

    def _seen(self, direction: Direction) -> Sample | None:
        there = (self._around, self._reference) if self._path is None else self._path(direction)
        if there is None:
            return None
        around, reference = there
        entered = around.enter(self._values, direction)
        found = self._by_reference(entered, reference) or entered.sample()
        self.samples.append(found)
        if self._for_any_seed is not self:
            self._for_any_seed.look_if_known(direction)
        return found

    def _by_reference(self, entered: Entered, reference: Reference) -> Sample | None:
        """From the reference, with its selectors as they are in the cell: if it has a value it is the cell's."""
        if len(self._around.function.steps) != 1 or not all(entered.inside):
            return None
        balls = reference.in_cell(self._values, entered.selected)
        numbers = tuple(balls[slot] for slot in reference.slots)
        outputs = tuple(entered.around.values_towards(self._values, entered.selected))
        if not all(ball.is_finite() for ball in (*numbers, *outputs)):
            return None
        return Sample(entered.direction, entered.selected, entered.inside, (outputs, numbers))

    def sides(self, number: int) -> list[Sample]:
        """The cells in which the function that a number is a derivative of has a value."""
        outputs = self._around.function.outputs_of(number)
        return [sample for sample in self.samples if all(sample.inside[k] for k in outputs)]

    def status(self, number: int) -> Status:
        """What there is to compare a number with, as far as has been looked."""
        if self._for_any_seed is not self:
            return self._for_any_seed.status(number)
        if self.is_out_of_range(number):
            return Status.OUT_OF_RANGE
        sides = self.sides(number)
        if not sides or self._jumps(number, sides):
            return Status.NONE
        limits = [sample.numbers[number] for sample in sides]
        if any(limit is None for limit in limits):
            return Status.NONE
        return Status.EXISTS if all(_same(limits[0], limit) for limit in limits) else Status.KINK

    def _jumps(self, number: int, sides: Sequence[Sample]) -> bool:
        """Whether the function, or a derivative of lower order, is not continuous."""
        for k in self._around.function.outputs_of(number):
            if not all(_same(sample.limits[0][k], self._outputs[k]) for sample in sides):
                return True
        return any(
            not _same(sides[0].limits[level][k], sample.limits[level][k])
            for sample in sides
            for level in range(1, len(sample.limits) - 1)
            for k in range(len(sample.limits[level]))
        )


def _same(a: arb | None, b: arb | None) -> bool:
    return a is not None and b is not None and bool(a.overlaps(b))


class Blocks:
    """Which numbers of a reference stand at the same boundaries, so that what they are goes together.

    Two numbers whose open operations (selectors at their boundaries, quotients and roots without a value) have no
    variable in common take their sides independently: a hull of both is the product of two hulls.

    Args:
        reference: The expressions, per number.
        variables: All variables, in the order in which values will be given.
        moving: Those that move.
    """

    def __init__(self, reference: Sequence[Expr], variables: Sequence[str], moving: Sequence[str]) -> None:
        self._reference = marks.as_values(reference)
        self._nodes = graph.topological(self._reference)
        inner = [node for node in self._nodes if node.args]
        self._program = Program(inner, variables, EXACT)
        self._inner = inner
        bits = {name: 1 << i for i, name in enumerate(moving)}
        self._variables: dict[Expr, int] = {}
        for node in self._nodes:
            mask = bits.get(str(node.payload), 0) if node.head == "symbol" else 0
            for argument in node.args:
                mask |= self._variables[argument]
            self._variables[node] = mask

    def at(self, values: Sequence[float], numbers: Sequence[int]) -> list[Block]:
        """The blocks of some numbers at an input."""
        selections = Selections()
        balls = dict(zip(self._inner, self._program(list(map(arb, values)), 128, selections), strict=True))
        at_boundary = {self._program.selectors[i] for i in selections.boundary | selections.undecided}
        open_ones: list[Expr] = []
        reached: dict[Expr, int] = {}
        for node in self._nodes:
            mask = 0
            for argument in node.args:
                mask |= reached[argument]
            fine = all(a not in balls or balls[a].is_finite() for a in node.args)
            if node in at_boundary or (node in balls and fine and not balls[node].is_finite()):
                mask |= 1 << len(open_ones)
                open_ones.append(node)
            reached[node] = mask
        blocks: list[Block] = []
        for number in numbers:
            own = reached[self._reference[number]]
            variables = 0
            for i, node in enumerate(open_ones):
                if own >> i & 1:
                    variables |= self._variables[node]
            joined = [block for block in blocks if block.variables & variables]
            blocks = [block for block in blocks if not block.variables & variables]
            found = Block((number,), variables, own)
            for block in joined:
                found = Block(block.numbers + found.numbers, block.variables | found.variables, block.open | found.open)
            blocks.append(found)
        return [block.counting(open_ones) for block in blocks]


class Block:
    """Numbers that stand at the same boundaries."""

    def __init__(self, numbers: tuple[int, ...], variables: int, open_ones: int) -> None:
        self.numbers = tuple(sorted(numbers))
        self.variables = variables
        """The variables on which it depends what side is taken, as bits."""
        self.open = open_ones
        self.selectors = 0
        """How many selectors are at their boundaries."""

    def counting(self, open_ones: Sequence[Expr]) -> Block:
        """The same, with its selectors counted."""
        self.selectors = sum(node.head in graph.SELECTORS and self.open >> i & 1 for i, node in enumerate(open_ones))
        return self

    @property
    def moving(self) -> list[int]:
        """The positions of those variables."""
        return [i for i in range(self.variables.bit_length()) if self.variables >> i & 1]
