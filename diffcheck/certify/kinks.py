"""The judgement where the reference does not say what the derivative is: kinks, quotients 0/0, masked branches.

PyTorch's numbers are held to what the cells around the input give (`existence`): to the derivative if there is one, and
at a kink to the convex hull of the cells' gradients. The hull is one of vectors. A gradient of which each part lies
between the parts of one-sided gradients need not be one of them, or between them: (1, 1) for a maximum at a tie.

Cells are found by random directions, and from there by crossing walls (`arrangement`) before a gradient is called
wrong. What is no polyhedron (the gradients of a norm at 0) is looked at towards the gradient too, and towards where it
lies from the hull. Where many selectors meet there are too many cells: there only what no choice of selectors explains,
number by number, is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Final

from flint import arb

from diffcheck.certify.cells import Direction, Sample, directions
from diffcheck.certify.existence import Block, Status, Surroundings
from diffcheck.certify.hull import Nearest, nearest
from diffcheck.certify.judgement import RADII, Assessment, Judgement, Outcome

if TYPE_CHECKING:
    from diffcheck.certify.settle import Settler

_PAIRS: Final = 4
"""Pairs of opposite directions that are looked in, where the first does not explain the numbers."""
_MOST_SELECTORS: Final = 6
"""Where more selectors meet, not all cells are looked for."""
_MOST_LOOKS: Final = 160
"""Cells that are looked for around one input."""
_MOST_ROUNDS: Final = 12
_MOST_TIED: Final = 40
"""Pairs of directions in which paths are looked for at a tie."""
_UNSEEN: Final = 24
"""After so many directions in a row that showed nothing new, all paths have been met."""
_UNCERTAIN: Final = 2.0**-64
"""A vertex of a hull is known to so many digits, far more than a format has."""


class KinkJudge:
    """Judges the numbers of one input at which the reference has no value, or stands at the boundary of a selector.

    Args:
        settler: Of that input.
        surroundings: Its cells.
        computed: What PyTorch returned.
        judgement: Of the input; what comes of it is written down there.
    """

    def __init__(
        self, settler: Settler, surroundings: Surroundings, computed: Sequence[float], judgement: Judgement
    ) -> None:
        self._settler = settler
        self._around = surroundings
        self._computed = computed
        self._judgement = judgement
        self._moving = settler.moving
        self._looks = 0

    def judge(self) -> None:
        """Judges all numbers."""
        for direction in directions(self._moving):
            self._look(direction)
        if self._explained_by_one():
            return
        for seed in range(1, _PAIRS):
            for direction in directions(self._moving, seed):
                self._look(direction)
        for block in self._settler.blocks(self._judged()):
            self._judge_block(block)

    def judge_tie(self) -> None:
        """Judges all numbers where paths end: by the paths that lie in random directions, until no more are met."""
        unseen = 0
        statuses: list[Status] = []
        for seed in range(_MOST_TIED):
            for direction in directions(self._moving, seed):
                before = len(self._around.samples)
                sample = self._around.look_if_known(direction)
                if sample is None:
                    continue
                unseen += 1
                others = self._around.samples[:before]
                if not any(_equal(range(len(self._computed)), sample, s) for s in others):
                    unseen = 0
            statuses = [self._around.status(i) for i in range(len(self._computed))]
            numbers = [i for i, s in enumerate(statuses) if s in (Status.EXISTS, Status.KINK)]
            block = Block(tuple(numbers), 0, 0)
            samples = self._complete(block, self._around.samples)
            if not numbers or not samples:
                break
            point = [self._computed[i] for i in numbers]
            if all(map(math.isfinite, point)):
                slack = self._slacks(block, samples)
                if nearest(_vertices(block, samples), [Fraction(p) for p in point], slack).within(slack):
                    self._judged()
                    return
            if unseen >= _UNSEEN:
                break
        self._judge_tied(statuses, complete=unseen >= _UNSEEN)

    def _judge_tied(self, statuses: Sequence[Status], *, complete: bool) -> None:
        numbers = self._judged()
        block = Block(tuple(numbers), 0, 0)
        samples = self._complete(block, self._around.samples)
        if not numbers or not samples:
            return
        if Status.KINK not in statuses:
            for i in numbers:
                if not self._is_within(i, samples[0].numbers[i]):
                    self._settle(i, samples[0])
            return
        point = [self._computed[i] for i in numbers]
        finite = all(map(math.isfinite, point))
        if not finite or complete:
            slack = self._slacks(block, samples)
            found = nearest(_vertices(block, samples), [Fraction(p) for p in point], slack) if finite else None
            self._outside(block, samples, found, slack)

    def _look(self, direction: Direction) -> Sample:
        self._looks += 1
        return self._around.look(direction)

    def _judged(self) -> list[int]:
        """The numbers that there is something to compare with; the others are counted."""
        found = []
        for number in range(len(self._computed)):
            match self._around.status(number):
                case Status.NONE:
                    self._judgement.undefined.add(number)
                case Status.OUT_OF_RANGE:
                    self._judgement.out_of_range.add(number)
                case Status.KINK:
                    self._judgement.kink = True
                    found.append(number)
                case Status.EXISTS:
                    found.append(number)
        return found

    def _explained_by_one(self) -> bool:
        """Whether all numbers are those of one cell; mostly they are."""
        statuses = [self._around.status(i) for i in range(len(self._computed))]
        judged = [i for i, s in enumerate(statuses) if s in (Status.EXISTS, Status.KINK)]
        for sample in self._around.samples:
            if all(self._is_within(i, sample.numbers[i]) for i in judged):
                self._judged()
                return True
        return False

    def _is_within(self, number: int, limit: arb | None) -> bool:
        computed = self._computed[number]
        if limit is None or math.isnan(computed):
            return False
        if math.isinf(computed):  # it is what rounds to an infinity
            return bool(abs(limit) >= self._settler.fmt.largest and (limit > 0) == (computed > 0))
        return bool(float((limit - computed).abs_upper()) <= self._slack(number))

    def _slack(self, number: int) -> float:
        settler = self._settler
        ulp = settler.fmt.ulp(self._computed[number])
        return RADII * max(settler.radius(number, self._around.samples[:2]), ulp) + settler.fmt.smallest

    def _slacks(self, block: Block, samples: Sequence[Sample]) -> list[float]:
        sizes = [max(float(abs(_middle(s.numbers[i]))) for s in samples) for i in block.numbers]
        return [max(self._slack(i), _UNCERTAIN * size) for i, size in zip(block.numbers, sizes, strict=True)]

    # -- one block -------------------------------------------------------------------------------------------------

    def _judge_block(self, block: Block) -> None:
        samples = self._complete(block, self._around.samples)
        if self._all_same(block, samples) and all(self._is_within(i, samples[0].numbers[i]) for i in block.numbers):
            return
        if block.selectors <= _MOST_SELECTORS:
            self._walk(block, samples)
        point = [self._computed[i] for i in block.numbers]
        if self._all_same(block, samples):
            if not self._leaves_open(block, point):
                for i in block.numbers:
                    self._settle(i, samples[0])
            return
        self._judgement.kink = True
        found = self._explore(block, point, samples)
        slack = self._slacks(block, samples)
        if (found is not None and found.within(slack)) or self._leaves_open(block, point):
            return
        self._outside(block, samples, found, slack)

    def _walk(self, block: Block, samples: list[Sample]) -> None:
        """Adds the cells that are reached from those that are known, wall by wall."""
        moving = block.moving
        seen = {_pattern(sample) for sample in samples}
        waiting = list({_pattern(sample): sample for sample in samples}.values())
        while waiting and self._looks < _MOST_LOOKS:
            for direction in self._around.beyond(waiting.pop(), moving):
                if self._looks >= _MOST_LOOKS:
                    return
                sample = self._look(direction)
                if _pattern(sample) not in seen:
                    seen.add(_pattern(sample))
                    waiting.append(sample)
                    samples += self._complete(block, [sample])

    def _complete(self, block: Block, samples: Sequence[Sample]) -> list[Sample]:
        """Those that say something about each of its numbers."""
        valid = [set(map(id, self._around.sides(i))) for i in block.numbers]
        return [
            s
            for s in samples
            if all(id(s) in v for v in valid) and all(s.numbers[i] is not None for i in block.numbers)
        ]

    def _all_same(self, block: Block, samples: Sequence[Sample]) -> bool:
        return all(_equal(block.numbers, samples[0], s) for s in samples)

    def _settle(self, number: int, sample: Sample) -> None:
        """Judges a number of which the derivative exists."""
        true = sample.numbers[number]
        assert true is not None
        sharper = partial(self._sharper, number, sample.direction, true)
        radius = self._settler.radius(number, self._around.samples[:2])
        self._settler.settle(number, self._computed[number], true, radius, self._judgement, sharper)

    def _sharper(self, number: int, direction: Direction, true: arb, precision: int) -> arb:
        """The derivative to more digits; a limit has as many as it has."""
        found = self._settler.in_cell(direction, precision)[number]
        return found if found.is_finite() else true

    def _explore(self, block: Block, point: Sequence[float], samples: list[Sample]) -> Nearest | None:
        """Looks for cells until the point lies in their hull, or no more of them come nearer to it."""
        if not all(map(math.isfinite, point)):
            return None
        target = [Fraction(p) for p in point]
        slack = self._slacks(block, samples)
        found = nearest(_vertices(block, samples), target, slack)
        if not self._settler.is_gradient:
            return found
        for turn in range(_MOST_ROUNDS):
            if found.within(slack):
                break
            before = len(samples)
            for direction in self._towards(block, [target, found.residual] if turn == 0 else [found.residual]):
                fresh = self._complete(block, [self._look(direction)])
                if fresh and not any(_equal(block.numbers, fresh[0], s) for s in samples):
                    samples += fresh
            if len(samples) == before:
                break
            found = nearest(_vertices(block, samples), target, slack)
        return found

    def _towards(self, block: Block, vectors: Sequence[Sequence[Fraction]]) -> Iterator[Direction]:
        """Directions along vectors and against them: a convex function's gradient is farthest along w in that of w."""
        noise = directions(self._moving, 100 + self._looks)[0]
        beside = 2.0**-30 if block.selectors else 0.0  # on no boundary; where there is none, along the vector itself
        for vector in vectors:
            largest = max(map(abs, vector))
            if largest:
                direction = list(noise)
                for number, x in zip(block.numbers, vector, strict=True):
                    direction[number] = float(x / largest) + noise[number] * beside
                yield tuple(direction)
                yield tuple(-v for v in direction)

    def _leaves_open(self, block: Block, point: Sequence[float]) -> bool:
        """Whether more selectors meet than were looked at, and some choice of them may explain each number."""
        if block.selectors <= _MOST_SELECTORS and self._looks < _MOST_LOOKS:
            return False
        for number, computed in zip(block.numbers, point, strict=True):
            either = self._settler.either_way[number]
            if not math.isfinite(computed):
                return False
            if either.is_finite() and float((either - computed).abs_lower()) > self._slack(number):
                return False
        self._judgement.kink = True
        return True

    def _outside(self, block: Block, samples: Sequence[Sample], found: Nearest | None, slack: Sequence[float]) -> None:
        """Writes down what lies outside of the hull, unless the executed formula lies inside and lost its digits."""
        executed = self._settler.executed_at(block.numbers)
        if executed is not None:
            wider = [s + RADII * self._settler.fmt.ulp(e) for s, e in zip(slack, executed, strict=True)]
            explained = nearest(_vertices(block, samples), [Fraction(e) for e in executed], wider).within(wider)
        else:
            explained = False
        for position, number in enumerate(block.numbers):
            sides = [s.numbers[number] for s in samples]
            hull = _hull(sides)
            computed = self._computed[number]
            off = math.inf if found is None else float(abs(found.residual[position]))
            if found is None and math.isfinite(computed):
                off = max(0.0, float((hull - computed).abs_lower()))
            if off <= slack[position]:
                continue
            executed_bound = self._settler.executed_radius(number)
            if explained and (off <= RADII * executed_bound if math.isfinite(computed) else math.isinf(executed_bound)):
                if math.isfinite(computed):
                    continue
                outcome = Outcome.INACCURATE
            else:
                outcome = Outcome.WRONG
            self._judgement.failures[number] = Assessment(
                outcome, hull, off, slack[position] / RADII, executed_bound, at_kink=True
            )


def judge_by_term(settler: Settler, computed: Sequence[float], judgement: Judgement) -> None:
    """Judges derivatives of higher order at selectors' boundaries, and those of a function that is not known.

    Where a derivative of lower order jumps there is none of the next one. PyTorch gives a number all the same, of which
    each term may stand on a side of its own: it is held to all of them together. What has no value on any side is
    judged by the cells around, if lower orders do not jump.
    """
    around = settler.surroundings
    judgement.kink = True
    samples: list[Sample] = []
    for number, (value, either) in enumerate(zip(computed, settler.either_way, strict=True)):
        slack = RADII * max(settler.radius_either_way(number), settler.fmt.ulp(value)) + settler.fmt.smallest
        if either.is_finite() and math.isfinite(value) and float((either - value).abs_lower()) <= slack:
            continue
        if around is None:
            judgement.undefined.add(number)
            continue
        if not samples:
            samples = [around.look(direction) for direction in directions(settler.moving)]
        status = around.status(number)
        limit = samples[0].numbers[number]
        if status is Status.OUT_OF_RANGE:
            judgement.out_of_range.add(number)
        elif status is Status.EXISTS and limit is not None:
            settler.settle(number, value, limit, 0.0, judgement, partial(_as_known, limit))
        elif not either.is_finite() or not math.isfinite(value):
            judgement.undefined.add(number)
        else:
            off = float((either - value).abs_lower())
            judgement.failures[number] = Assessment(Outcome.WRONG, either, off, slack / RADII, at_kink=True)


def _as_known(limit: arb, _precision: int) -> arb:
    """A limit has as many digits as it has."""
    return limit


def _vertices(block: Block, samples: Sequence[Sample]) -> list[list[Fraction]]:
    found = dict.fromkeys(tuple(_middle(s.numbers[i]) for i in block.numbers) for s in samples)
    return [list(vertex) for vertex in found]


def _middle(ball: arb | None) -> Fraction:
    assert ball is not None
    mantissa, exponent = ball.mid().man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def _equal(numbers: Sequence[int], a: Sample, b: Sample) -> bool:
    """Whether two cells say the same of some numbers."""
    pairs = [(a.numbers[i], b.numbers[i]) for i in numbers]
    return all((x is None and y is None) or (x is not None and y is not None and x.overlaps(y)) for x, y in pairs)


def _pattern(sample: Sample) -> tuple[bool, ...]:
    return tuple(bool(value == 1) for value in sample.selected.values())


def _hull(sides: Sequence[arb | None]) -> arb:
    known = [s for s in sides if s is not None]
    lowest, highest = min(s.lower() for s in known), max(s.upper() for s in known)
    return lowest.union(highest)
