"""One declared pipeline in one dtype: its formulas, its run, and what follows from both, each worked out once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import torch
from flint import arb
from torch import Tensor

from diffcheck.certify.certifier import Certifier
from diffcheck.certify.formats import Format, format_of
from diffcheck.certify.judgement import Judgement
from diffcheck.certify.linear import precision
from diffcheck.declare.case import Case
from diffcheck.errors import Unsupported
from diffcheck.prove.identity import Status
from diffcheck.regression import bounds, formulas
from diffcheck.regression.bounds import MAP_BITS, Updates
from diffcheck.regression.closed_form import Minimiser, NormalEquations, Solution, normal_equations
from diffcheck.regression.declare import Regression
from diffcheck.regression.formulas import BatchFormulas, StepFormulas, additivity, batch_formulas, loss_case
from diffcheck.regression.training import Numbers, Record, finite, make_data, train

_MOST_ROWS: Final = 8
"""Of symbolic data, on which the normal equations are set up."""


@dataclass
class Pipeline:
    """The formulas of a pipeline, by batch size, made when they are asked for."""

    declared: Regression
    dtype: torch.dtype
    loss: Case
    """With the network's outputs."""
    row: BatchFormulas
    how: str
    """Whether a batch's loss is the "mean" or the "sum" of its rows'."""

    _steps: dict[int, StepFormulas] = field(default_factory=dict)

    @cached_property
    def format(self) -> Format:
        """Of the dtype."""
        return format_of(self.dtype)

    @property
    def dtype_name(self) -> str:
        """`float64`."""
        return str(self.dtype).removeprefix("torch.")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The parameters' entries: `weight[0,0]`."""
        return tuple(str(e.payload) for e in self.row.theta)

    @cached_property
    def equations(self) -> NormalEquations:
        """∇L = 0 on symbolic data, a row more than there are unknowns."""
        rows = min(len(self.names) + 1, _MOST_ROWS)
        return normal_equations(batch_formulas(self.loss, rows, self.dtype))

    @cached_property
    def minimiser(self) -> Minimiser:
        """Of the loss over data."""
        return Minimiser(self.row, self.how)

    @cached_property
    def _row_loss(self) -> Certifier:
        return Certifier((*self.names, *self.row.data), [self.row.loss], [self.row.loss], self.format)

    def step(self, rows: int) -> StepFormulas:
        """A step on batches of this size.

        Raises:
            Unsupported: The loss of a batch is not made of its rows' losses.
        """
        if rows not in self._steps:
            batch = batch_formulas(self.loss, rows, self.dtype)
            if rows > 1 and additivity(batch, self.row) != self.how:
                raise Unsupported("the loss", f"that of {rows} rows is not the {self.how} of its rows' losses")
            self._steps[rows] = formulas.step_formulas(self.declared, self.loss, batch, self.dtype)
        return self._steps[rows]

    def unproved(self) -> str:
        """Why some step met so far is not proved; empty if all of them are."""
        for rows, step in sorted(self._steps.items()):
            if step.proof.status is not Status.PROVED:
                refuted = step.proof.status is Status.REFUTED
                how = "is another one" if refuted else f"was not decided by algebra ({step.proof.why})"
                return f"the executed update of {self.names[step.proof.position or 0]} on {rows} rows {how}"
        return ""

    def loss_at(self, parameters: Numbers, data: Sequence[Numbers]) -> tuple[arb, float]:
        """The loss over data, enclosed; and what rounding in the dtype can do to it."""
        points = [(*parameters, *row) for row in data]
        each = [self._row_loss.enclose(point, MAP_BITS)[0] for point in points]
        bound = sum(self._row_loss.bounds(point)[0] for point in points)
        with precision(MAP_BITS):
            # Summing in any order, and one division.
            bound += float(sum(map(abs, each), arb(0)).upper()) * len(data) * 2.0**-self.format.bits
            total, count = sum(each, arb(0)), len(data) if self.how == "mean" else 1
            return total / count, bound / count


def prepare(declared: Regression, dtype: torch.dtype) -> Pipeline:
    """The formulas of a pipeline.

    Raises:
        DeclarationError: The model is not linear in its parameters, or the loss is not quadratic.
        Unsupported: An operation has no rule, or the loss of a batch is not made of its rows' losses.
    """
    loss = loss_case(declared, outputs=True)
    row = batch_formulas(loss, 1, dtype)
    how = additivity(batch_formulas(loss, 2, dtype), row)
    if how is None:
        raise Unsupported("the loss", "that of two rows is neither the mean nor the sum of their losses")
    return Pipeline(declared, dtype, loss, row, how)


@dataclass(frozen=True)
class Training:
    """A pipeline trained on some data: every step judged, and written as an affine map."""

    declared: Regression
    pipeline: Pipeline
    features: Tensor
    labels: Tensor
    record: Record
    judgements: list[Judgement]
    updates: Updates
    """Of the steps that end in finite numbers: the others have left the dtype's range."""
    judging: float
    """Seconds spent on judging the steps."""

    @cached_property
    def data(self) -> list[Numbers]:
        """Features and labels of each example."""
        rows = torch.cat([t.reshape(len(t), -1) for t in (self.features, self.labels)], dim=1)
        return list(map(tuple, rows.tolist()))

    @cached_property
    def solution(self) -> Solution:
        """The minimiser of the loss over all of the data."""
        return self.pipeline.minimiser(self.data)

    @cached_property
    def stability(self) -> bounds.Stability:
        """Whether repeating the first epoch diverges."""
        per_epoch = -(-len(self.features) // self.declared.batch_size)
        return bounds.stability(self.solution.hessian, self.updates.first(per_epoch))

    @cached_property
    def product(self) -> bounds.Product:
        """Of the maps of all steps."""
        return bounds.multiply_out(self.record.start, self.updates)

    @property
    def failed(self) -> int | None:
        """The first step that is not what it should be."""
        return next((i for i, judgement in enumerate(self.judgements) if judgement.failures), None)

    @property
    def leaves_range(self) -> bool:
        """Whether a step ends in numbers that are not finite."""
        return len(self.updates) < len(self.record.steps)


def work_out(declared: Regression, pipeline: Pipeline) -> Training:
    """Trains a pipeline with its own data, learning rate, batches and epochs, and judges every step.

    Args:
        declared: The pipeline.
        pipeline: The formulas of it, or of one that has them in common.
    """
    features, labels = make_data(declared, pipeline.dtype)
    record, rate = train(declared, features, labels), declared.learning_rate
    started = time.perf_counter()
    judged = [pipeline.step(step.rows).judge(step) for step in record.steps]
    ended = [(step, rho) for step, (_, rho) in zip(record.steps, judged, strict=True) if finite(step.after)]
    updates = Updates([pipeline.step(step.rows).map(step, rho, MAP_BITS) for step, rho in ended], rate)
    if (bits := updates.bits_needed) > MAP_BITS:
        updates = Updates([pipeline.step(step.rows).map(step, rho, bits) for step, rho in ended], rate, bits)
    judgements = [judgement for judgement, _ in judged]
    judging = time.perf_counter() - started
    return Training(declared, pipeline, features, labels, record, judgements, updates, judging)
