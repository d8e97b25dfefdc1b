"""One declared pipeline in one dtype: its formulas, its data, its run, each worked out once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import torch
from flint import arb, arb_mat
from torch import Tensor

from diffcheck.certify import formats
from diffcheck.certify.balls import BOUNDED, EXACT, Selections
from diffcheck.certify.compiler import Program
from diffcheck.certify.judgement import RADII
from diffcheck.errors import Unsupported
from diffcheck.prove.identity import Status
from diffcheck.regression.affine import precision
from diffcheck.regression.bounds import Update, Updates, bits_needed
from diffcheck.regression.closed_form import Solution, minimiser
from diffcheck.regression.formulas import (
    BatchFormulas,
    Sizes,
    additivity,
    batch_formulas,
    step_formulas,
)
from diffcheck.regression.steps import MAP_BITS, StepChecker, StepJudgement, update_map
from diffcheck.regression.training import Record, Step, make_model
from diffcheck.trace.shadow import MANTISSA_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffcheck.regression.declare import Regression

DTYPES: Final = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class Judged:
    """A run with every step judged, and the affine map of each."""

    record: Record
    judgements: tuple[StepJudgement, ...]
    updates: Updates
    """Of the steps that end in finite numbers: the others have left the dtype's range."""

    @property
    def first_failure(self) -> int | None:
        """The first step that is not what it should be."""
        return next((i for i, j in enumerate(self.judgements) if j.numbers.failures), None)


@dataclass(slots=True)
class Pipeline:
    """The formulas of a pipeline, by batch size, made when they are asked for."""

    declared: Regression
    dtype: torch.dtype
    sizes: Sizes
    names: tuple[str, ...]
    """The parameters' entries: `weight[0,0]`."""
    row: BatchFormulas
    net: torch.nn.Module
    """Freshly initialised; for its structure only."""
    how: str
    """Whether a batch's loss is the "mean" or the "sum" of its rows'."""

    _checkers: dict[int, StepChecker] = field(default_factory=dict)
    _loss: tuple[Program, Program] | None = None

    def checker(self, rows: int) -> StepChecker:
        """What judges steps on batches of this size.

        Raises:
            Unsupported: The loss of a batch is not made of its rows' losses.
        """
        known = self._checkers.get(rows)
        if known is None:
            batch = batch_formulas(self.declared, self.net, self.sizes, rows, self.dtype)
            if rows > 1 and additivity(batch, self.row) != self.how:
                raise Unsupported("the loss", f"that of {rows} rows is not the {self.how} of its rows' losses")
            formulas = step_formulas(self.declared, self.net, self.sizes, batch, self.dtype)
            known = self._checkers[rows] = StepChecker(formulas, self.dtype)
        return known

    def unproved(self) -> str:
        """Why some step met so far is not proved; empty if all of them are."""
        for rows, checker in sorted(self._checkers.items()):
            proof = checker.formulas.proof
            if proof.status is not Status.PROVED:
                name = self.names[proof.position or 0]
                how = (
                    "is another one" if proof.status is Status.REFUTED else f"was not decided by algebra ({proof.why})"
                )
                return f"the executed update of {name} on {rows} rows {how}"
        return ""

    def judge(self, record: Record, learning_rate: float) -> Judged:
        """Judges every step of a run, and writes it down as an affine map."""
        judgements = []
        for step in record.steps:
            if not _finite(step.before):
                break
            checker = self.checker(step.rows)
            judgements.append(checker.judge(step, learning_rate))
        updates = self._updates(record, judgements, learning_rate, MAP_BITS)
        bits = bits_needed(updates)
        if bits > MAP_BITS:
            updates = self._updates(record, judgements, learning_rate, bits)
        return Judged(record, tuple(judgements), Updates(tuple(updates), bits))

    def _updates(
        self, record: Record, judgements: Sequence[StepJudgement], learning_rate: float, bits: int
    ) -> list[Update]:
        updates = []
        for step, judgement in zip(record.steps, judgements, strict=False):
            if _finite(step.after):
                hessian, right = self.checker(step.rows).map(step, bits)
                matrix, offset = update_map(hessian, right, learning_rate, bits)
                updates.append(Update(hessian, right, matrix, offset, arb_mat([[r] for r in judgement.rounding])))
        return updates

    def solve(self, features: Tensor, labels: Tensor) -> Solution:
        """The minimiser of the loss over all of the data."""
        return minimiser(self.row, zip(_rows(features), _rows(labels), strict=True), self.how)

    def loss(self, parameters: Sequence[float], features: Tensor, labels: Tensor) -> tuple[arb, float]:
        """The loss over all of the data, enclosed; and how far rounding can take the dtype's from it."""
        if self._loss is None:
            names = (*self.names, *self.row.data)
            self._loss = Program([self.row.loss], names, EXACT), Program([self.row.loss], names, BOUNDED)
        bits = MANTISSA_BITS[self.dtype]
        theta = [arb(v) for v in parameters]
        points = [theta + [arb(v) for v in (*x, *y)] for x, y in zip(_rows(features), _rows(labels), strict=True)]
        exact, bounded = self._loss
        total = radius = size = arb(0)
        for point in points:
            (narrow,) = bounded(point, bits, Selections())
            (true,) = exact(point, MAP_BITS, Selections())
            with precision(MAP_BITS):
                total, radius, size = total + true, radius + narrow.rad(), size + abs(narrow)
        with precision(MAP_BITS):
            count = len(points)
            # Summing in any order, and one division: as in `compiler._sum_in_any_order`.
            radius += size * count * arb(2) ** -bits
            if self.how == "mean":
                total, radius = total / count, radius / count
        return total, RADII * float(radius.upper())

    def format(self) -> formats.Format:
        """Of the dtype."""
        return formats.format_of(self.dtype, MANTISSA_BITS[self.dtype])


def prepare(declared: Regression, dtype: torch.dtype, features: Tensor, labels: Tensor) -> Pipeline:
    """The formulas of a pipeline.

    Raises:
        DeclarationError: The model is not linear in its parameters, or the loss is not quadratic.
        Unsupported: An operation has no rule, or the loss of a batch is not made of its rows' losses.
    """
    net = make_model(declared, dtype)
    sizes = Sizes(tuple(features.shape[1:]), tuple(labels.shape[1:]))
    row = batch_formulas(declared, net, sizes, 1, dtype)
    how = additivity(batch_formulas(declared, net, sizes, 2, dtype), row)
    if how is None:
        raise Unsupported("the loss", "that of two rows is neither the mean nor the sum of their losses")
    return Pipeline(declared, dtype, sizes, tuple(str(e.payload) for e in row.theta), row, net, how)


def _rows(tensor: Tensor) -> list[list[float]]:
    rows: list[list[float]] = tensor.reshape(len(tensor), -1).tolist()
    return rows


def _finite(numbers: Sequence[float]) -> bool:
    return all(abs(n) < float("inf") for n in numbers)


__all__ = ["DTYPES", "Judged", "Pipeline", "Step", "prepare"]
