"""One declared pipeline in one dtype: its formulas, its run, and what follows from both, each worked out once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from typing import Final

import numpy as np
import torch
from flint import arb, arb_mat
from torch import Tensor

from diffcheck.certify.balls import Selections
from diffcheck.certify.certifier import Certifier
from diffcheck.certify.compiler import Program
from diffcheck.certify.formats import Format, format_of
from diffcheck.certify.judgement import RADII, Judgement
from diffcheck.checking.conclude import command_line
from diffcheck.declare.case import Case
from diffcheck.errors import Unsupported
from diffcheck.prove.identity import Status
from diffcheck.regression.affine import column, error, identity, precision
from diffcheck.regression.bounds import (
    MAP_BITS,
    Product,
    Stability,
    Update,
    Updates,
    bits_needed,
    multiply_out,
    stability,
)
from diffcheck.regression.closed_form import NormalEquations, Solution, minimiser, normal_equations
from diffcheck.regression.declare import Regression
from diffcheck.regression.formulas import (
    BatchFormulas,
    Shapes,
    StepFormulas,
    additivity,
    batch_formulas,
    loss_case,
    shapes_of,
    step_formulas,
)
from diffcheck.regression.training import Numbers, Record, Step, finite, make_data, train
from diffcheck.settings import Settings
from diffcheck.trace.shadow import MANTISSA_BITS

_MOST_ROWS: Final = 8
"""Of symbolic data, on which the normal equations are set up."""


class StepChecker:
    """The closed-form update for batches of one size, and what was executed, compiled once.

    Args:
        formulas: The traced step.
        fmt: The format in which PyTorch computes.
    """

    def __init__(self, formulas: StepFormulas, fmt: Format) -> None:
        self.formulas = formulas
        self.format = fmt
        self._update = Certifier(formulas.variables, formulas.reference, formulas.executed, fmt)
        self._map = Program(formulas.batch.system, formulas.batch.data)

    @cached_property
    def _gradient(self) -> Certifier:
        gradient = self.formulas.batch.gradient
        return Certifier(self.formulas.variables, gradient, gradient, self.format)

    def judge_all(self, steps: Sequence[Step], learning_rate: float) -> list[Judgement]:
        """Judges what steps wrote, as any case's numbers are judged."""
        points = np.array([_point(step, learning_rate) for step in steps])
        return self._update.judge_all(points, np.array([step.after for step in steps]))

    def gradient(self, step: Step) -> tuple[list[arb], list[float]]:
        """∇L at the step's parameters and batch, enclosed; and how far rounding can take autograd from it."""
        point = _point(step, 0.0)
        slack = self._gradient.tolerances(point)
        return self._gradient.enclose(point, MAP_BITS), slack  # last: its precision is that of what follows

    def rounding(self, step: Step, judgement: Judgement, learning_rate: float) -> list[float]:
        """ρ: per parameter, how far from the closed form the step is held to be.

        What the executed formula's own rounding explains counts as rounding; what nothing explains does not.
        """
        point = _point(step, learning_rate)
        numbers = zip(step.after, self._update.enclose(point), self._update.tolerances(point), strict=True)
        return [
            bound if i in judgement.failures else max(bound, error(computed, true))
            for i, (computed, true, bound) in enumerate(numbers)
        ]

    def map(self, step: Step, rounding: Sequence[float], learning_rate: float, bits: int) -> Update:
        """The step as an affine map, enclosed with so many bits."""
        size = len(rounding)
        found = self._map([arb(v) for v in (*step.features, *step.labels)], bits, Selections())
        hessian, right = arb_mat(size, size, found[: size**2]), column(found[size**2 :])
        with precision(bits):
            rate = arb(learning_rate)
            return Update(hessian, right, identity(size) - hessian * rate, right * rate, column(rounding))


def _point(step: Step, learning_rate: float) -> Numbers:
    """The values of a step's variables."""
    return (*step.before, *step.features, *step.labels, learning_rate, *step.stale)


@dataclass
class Pipeline:
    """The formulas of a pipeline, by batch size, made when they are asked for."""

    declared: Regression
    dtype: torch.dtype
    shapes: Shapes
    loss: Case
    """With the network's outputs."""
    row: BatchFormulas
    how: str
    """Whether a batch's loss is the "mean" or the "sum" of its rows'."""

    _checkers: dict[int, StepChecker] = field(default_factory=dict)

    @cached_property
    def format(self) -> Format:
        """Of the dtype."""
        return format_of(self.dtype, MANTISSA_BITS[self.dtype])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The parameters' entries: `weight[0,0]`."""
        return tuple(str(e.payload) for e in self.row.theta)

    @cached_property
    def equations(self) -> NormalEquations:
        """∇L = 0 on symbolic data, a row more than there are unknowns."""
        rows = min(len(self.names) + 1, _MOST_ROWS)
        return normal_equations(batch_formulas(self.loss, self.shapes, rows, self.dtype))

    @cached_property
    def _row_loss(self) -> Certifier:
        return Certifier((*self.names, *self.row.data), [self.row.loss], [self.row.loss], self.format)

    def checker(self, rows: int) -> StepChecker:
        """What judges steps on batches of this size.

        Raises:
            Unsupported: The loss of a batch is not made of its rows' losses.
        """
        if rows not in self._checkers:
            batch = batch_formulas(self.loss, self.shapes, rows, self.dtype)
            if rows > 1 and additivity(batch, self.row) != self.how:
                raise Unsupported("the loss", f"that of {rows} rows is not the {self.how} of its rows' losses")
            formulas = step_formulas(self.declared, self.loss, self.shapes, batch, self.dtype)
            self._checkers[rows] = StepChecker(formulas, self.format)
        return self._checkers[rows]

    def unproved(self) -> str:
        """Why some step met so far is not proved; empty if all of them are."""
        for rows, checker in sorted(self._checkers.items()):
            proof = checker.formulas.proof
            if proof.status is not Status.PROVED:
                refuted = proof.status is Status.REFUTED
                how = "is another one" if refuted else f"was not decided by algebra ({proof.why})"
                return f"the executed update of {self.names[proof.position or 0]} on {rows} rows {how}"
        return ""

    def loss_at(self, parameters: Numbers, data: Sequence[Numbers]) -> tuple[arb, float]:
        """The loss over data, enclosed; and how far rounding can take the dtype's from it."""
        points = [(*parameters, *row) for row in data]
        each = [self._row_loss.enclose(point, MAP_BITS)[0] for point in points]
        slack = sum(self._row_loss.tolerances(point)[0] for point in points)
        with precision(MAP_BITS):
            # Summing in any order, and one division.
            slack += RADII * float(sum(map(abs, each), arb(0)).upper()) * len(data) * 2.0**-self.format.bits
            total, count = sum(each, arb(0)), len(data) if self.how == "mean" else 1
            return total / count, slack / count


def prepare(declared: Regression, dtype: torch.dtype) -> Pipeline:
    """The formulas of a pipeline.

    Raises:
        DeclarationError: The model is not linear in its parameters, or the loss is not quadratic.
        Unsupported: An operation has no rule, or the loss of a batch is not made of its rows' losses.
    """
    shapes = shapes_of(declared, dtype)
    loss = loss_case(declared, shapes, outputs=True)
    row = batch_formulas(loss, shapes, 1, dtype)
    how = additivity(batch_formulas(loss, shapes, 2, dtype), row)
    if how is None:
        raise Unsupported("the loss", "that of two rows is neither the mean nor the sum of their losses")
    return Pipeline(declared, dtype, shapes, loss, row, how)


@dataclass(frozen=True)
class Training:
    """A pipeline trained on some data: every step judged, and written as an affine map."""

    declared: Regression
    pipeline: Pipeline
    settings: Settings
    location: str
    """What names the pipeline on the command line, for replay commands."""
    features: Tensor
    labels: Tensor
    record: Record
    judgements: tuple[Judgement, ...]
    """Of the steps that begin with finite numbers."""
    updates: Updates
    """Of the steps that end in finite numbers: the others have left the dtype's range."""
    judging: float
    """Seconds spent on judging the steps."""

    @property
    def dtype(self) -> str:
        """Without `torch.`."""
        return str(self.pipeline.dtype).removeprefix("torch.")

    @property
    def replay(self) -> str:
        """The command that does it again."""
        return command_line(self.location, "reverse", self.dtype, self.settings)

    @cached_property
    def data(self) -> list[Numbers]:
        """Features and labels of each example."""
        rows = torch.cat([t.reshape(len(t), -1) for t in (self.features, self.labels)], dim=1)
        return list(map(tuple, rows.tolist()))

    @cached_property
    def solution(self) -> Solution:
        """The minimiser of the loss over all of the data."""
        return minimiser(self.pipeline.row, self.data, self.pipeline.how)

    @cached_property
    def stability(self) -> Stability:
        """Whether repeating the first epoch diverges."""
        per_epoch = -(-len(self.features) // self.declared.batch_size)
        return stability(self.solution.hessian, self.updates.first(per_epoch))

    @cached_property
    def product(self) -> Product:
        """Of the maps of all steps."""
        return multiply_out(self.record.start, self.updates)

    @property
    def failed(self) -> int | None:
        """The first step that is not what it should be."""
        return next((i for i, judgement in enumerate(self.judgements) if judgement.failures), None)

    @property
    def leaves_range(self) -> bool:
        """Whether a step ends in numbers that are not finite."""
        return len(self.updates) < len(self.record.steps)


def work_out(declared: Regression, pipeline: Pipeline, settings: Settings, location: str) -> Training:
    """Trains a pipeline with its own data, learning rate, batches and epochs, and judges every step.

    Args:
        declared: The pipeline.
        pipeline: The formulas of it, or of one that has them in common.
        settings: How.
        location: What names it on the command line.
    """
    features, labels = make_data(declared, pipeline.dtype)
    record = train(declared, features, labels)
    started = time.perf_counter()
    rate = declared.learning_rate
    steps = list(takewhile(lambda step: finite(step.before), record.steps))
    judgements: dict[int, Judgement] = {}
    for rows in dict.fromkeys(step.rows for step in steps):
        group = [i for i, step in enumerate(steps) if step.rows == rows]
        found = pipeline.checker(rows).judge_all([steps[i] for i in group], rate)
        judgements |= dict(zip(group, found, strict=True))
    ended = [step for step in steps if finite(step.after)]
    rounding = [pipeline.checker(s.rows).rounding(s, judgements[i], rate) for i, s in enumerate(ended)]

    def maps(bits: int) -> list[Update]:
        return [pipeline.checker(s.rows).map(s, r, rate, bits) for s, r in zip(ended, rounding, strict=True)]

    updates = maps(MAP_BITS)
    bits = bits_needed(updates)
    judging = time.perf_counter() - started
    judged = tuple(judgements[i] for i in range(len(steps)))
    kept = Updates(updates if bits == MAP_BITS else maps(bits), rate, bits)
    return Training(declared, pipeline, settings, location, features, labels, record, judged, kept, judging)
