"""What fails in a pipeline, as findings: everything that a person needs to see it and to replay it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffcheck.certify.judgement import RADII
from diffcheck.derive import text
from diffcheck.regression.steps import diagnose
from diffcheck.verdict import Finding, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flint import arb

    from diffcheck.regression.pipeline import Judged, Pipeline

_DIGITS = 40


def _place(pipeline: Pipeline, position: int) -> tuple[str, tuple[int, ...]]:
    name, _, index = pipeline.names[position].partition("[")
    return name, tuple(map(int, index.rstrip("]").split(","))) if index else ()


def _dtype(pipeline: Pipeline) -> str:
    return str(pipeline.dtype).removeprefix("torch.")


def _parameters(pipeline: Pipeline, numbers: Sequence[float]) -> list[Value]:
    """Parameters as one value per tensor."""
    groups: dict[str, list[tuple[tuple[int, ...], float]]] = {}
    for i, number in enumerate(numbers):
        name, index = _place(pipeline, i)
        groups.setdefault(name, []).append((index, number))
    return [
        Value(name, tuple(n + 1 for n in entries[-1][0]), _dtype(pipeline), tuple(v for _, v in entries))
        for name, entries in groups.items()
    ]


def of_step(pipeline: Pipeline, judged: Judged, position: int, learning_rate: float, command: str) -> Finding:
    """The finding for a step that is not the closed-form update."""
    step, judgement = judged.record.steps[position], judged.judgements[position]
    checker = pipeline.checker(step.rows)
    worst = judgement.numbers.worst_number
    failure = judgement.numbers.failures[worst]
    headline, notes = diagnose(checker, judged.record.steps, position, learning_rate, pipeline.checker)
    dtype = _dtype(pipeline)
    # On two rows at most: the formula of a batch of ten is too long to be read.
    readable = pipeline.checker(min(step.rows, 2)).formulas
    inputs = [
        *_parameters(pipeline, step.before),
        Value("X", (step.rows, *pipeline.sizes.features), dtype, step.features),
        Value("y", (step.rows, *pipeline.sizes.labels), dtype, step.labels),
        Value("lr", (), "float64", (learning_rate,)),
    ]
    gap = _Gap(worst, step.after[worst], failure.certified, failure.error, failure.bound)
    formulas = text.text(readable.executed[worst]), text.text(readable.reference[worst])
    notes.append(f"formulas for a batch of {readable.batch.rows}")
    return _finding(pipeline, gap, headline, inputs, formulas, command, notes)


def of_trajectory(
    pipeline: Pipeline, judged: Judged, step: int, position: int, true: arb, bound: float, command: str
) -> Finding:
    """The finding for parameters that are not where the affine maps lead."""
    record = judged.record
    moved = next((k for k in range(1, step + 1) if record.steps[k].before != record.steps[k - 1].after), None)
    if moved is None and record.steps[0].before != record.start:
        moved = 0
    headline = (
        f"after step {step + 1}, {pipeline.names[position]} is not what the product of the steps' affine maps gives"
    )
    notes = [] if moved is None else [f"something other than a step changed the parameters before step {moved + 1}"]
    number, count = record.steps[step].after[position], step + 1
    gap = _Gap(position, number, true, float(abs(true - number).upper()), bound)
    formulas = f"the parameters after {count} steps", f"M_{count}⋯M_1·θ_0 + Σ M_{count}⋯M_(k+1)·v_k"
    return _finding(pipeline, gap, headline, _parameters(pipeline, record.start), formulas, command, notes)


def of_loss(
    pipeline: Pipeline, epoch: int, theta: Sequence[float], value: float, true: arb, slack: float, command: str
) -> Finding:
    """The finding for a printed loss that is not the loss."""
    gap = _Gap(None, value, true, float(abs(true - value).upper()), slack / RADII)
    headline = f"the loss on all of the data after epoch {epoch} is wrong"
    formulas = "loss(net(features), labels)", f"the {pipeline.how} over all rows of {text.text(pipeline.row.loss)}"
    return _finding(pipeline, gap, headline, _parameters(pipeline, theta), formulas, command)


def of_end_point(pipeline: Pipeline, judged: Judged, solution: Sequence[arb], bound: float, command: str) -> Finding:
    """The finding for an end that is too far from the least-squares solution."""
    record = judged.record
    end = record.steps[-1].after
    position = max(range(len(end)), key=lambda i: float(abs(solution[i] - end[i]).upper()))
    number, true = end[position], solution[position]
    gap = _Gap(position, number, true, float(abs(true - number).upper()), bound)
    headline = "the end is farther from the least-squares solution than learning rate, batches and spectrum allow"
    formulas = "the parameters after training", "the solution of ∇L = 0"
    return _finding(pipeline, gap, headline, _parameters(pipeline, record.start), formulas, command)


@dataclass(frozen=True, slots=True)
class _Gap:
    """A number, and the true one."""

    position: int | None
    """Which parameter; None for the loss."""
    number: float
    true: arb
    error: float
    bound: float


def _finding(
    pipeline: Pipeline,
    gap: _Gap,
    headline: str,
    inputs: Sequence[Value],
    formulas: tuple[str, str],
    command: str,
    notes: Sequence[str] = (),
) -> Finding:
    argument, index = ("loss", ()) if gap.position is None else _place(pipeline, gap.position)
    certified = float(gap.true.mid())
    return Finding(
        headline=headline,
        argument=argument,
        index=index,
        inputs=tuple(inputs),
        cotangents=(),
        autograd=gap.number,
        certified=gap.true.str(_DIGITS, radius=False),
        certified_float=certified,
        radius=float(gap.true.rad()),
        ulps=_over(gap.error, pipeline.format().ulp(certified)),
        bounds=_over(gap.error, gap.bound),
        autograd_formula=formulas[0],
        reference_formula=formulas[1],
        replay=command,
        notes=tuple(notes),
    )


def _over(error: float, unit: float) -> float:
    return error / unit if unit > 0 else math.inf if error > 0 else 0.0
