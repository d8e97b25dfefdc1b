"""What fails in a pipeline, as findings: everything that a person needs to see it and to replay it."""

from __future__ import annotations

from collections.abc import Sequence

from flint import arb

from diffcheck.certify.judgement import RADII, Assessment, Outcome
from diffcheck.derive import text
from diffcheck.explain.finding import finding_about
from diffcheck.regression.affine import error
from diffcheck.regression.diagnosis import diagnose
from diffcheck.regression.formulas import values_of
from diffcheck.regression.pipeline import Training
from diffcheck.trace.tracer import Entry
from diffcheck.verdict import Finding, Value


def of_step(training: Training, position: int) -> Finding:
    """The finding for a step that is not the closed-form update."""
    pipeline, step, judgement = training.pipeline, training.record.steps[position], training.judgements[position]
    worst = judgement.worst_number
    headline, notes = diagnose(training, position)
    # On two rows at most: the formula of a batch of ten is too long to be read.
    readable = pipeline.checker(min(step.rows, 2)).formulas
    numbers = (*step.before, *step.features, *step.labels)
    inputs = values_of(pipeline.shapes.of(step.rows), numbers, training.dtype)
    return finding_about(
        headline,
        pipeline.shapes.entries[worst],
        step.after[worst],
        judgement.failures[worst],
        pipeline.format,
        inputs=(*inputs, Value("lr", (), "float64", (training.declared.learning_rate,))),
        cotangents=(),
        autograd_formula=text.text(readable.executed[worst]),
        reference_formula=text.text(readable.reference[worst]),
        replay=training.replay,
        notes=(*notes, f"formulas for a batch of {readable.batch.rows}"),
    )


def of_trajectory(training: Training, count: int, position: int, true: arb, bound: float) -> Finding:
    """The finding for parameters that after so many steps are not where the affine maps lead."""
    name, record = training.pipeline.names[position], training.record
    ends = [record.start, *(step.after for step in record.steps)]
    moved = next((k for k in range(count) if record.steps[k].before != ends[k]), None)
    return _wrong(
        training,
        f"after step {count}, {name} is not what the product of the steps' affine maps gives",
        position,
        (record.steps[count - 1].after, record.start),
        (true, bound),
        (f"the parameters after {count} steps", f"M_{count}⋯M_1·θ_0 + Σ M_{count}⋯M_(k+1)·v_k"),
        () if moved is None else (f"something other than a step changed the parameters before step {moved + 1}",),
    )


def of_loss(training: Training, epoch: int, true: arb, slack: float) -> Finding:
    """The finding for a printed loss that is not the loss."""
    pipeline, record = training.pipeline, training.record
    return _wrong(
        training,
        f"the loss on all of the data after epoch {epoch} is wrong",
        None,
        ([record.losses[epoch - 1]], record.ends[epoch - 1]),
        (true, slack / RADII),
        ("loss(net(features), labels)", f"the {pipeline.how} over all rows of {text.text(pipeline.row.loss)}"),
    )


def of_end_point(training: Training, solution: Sequence[arb], bound: float) -> Finding:
    """The finding for an end that is too far from the least-squares solution."""
    end = training.record.steps[-1].after
    position = max(range(len(end)), key=lambda i: error(end[i], solution[i]))
    return _wrong(
        training,
        "the end is farther from the least-squares solution than learning rate, batches and spectrum allow",
        position,
        (end, training.record.start),
        (solution[position], bound),
        ("the parameters after training", "the solution of ∇L = 0"),
    )


def _wrong(
    training: Training,
    headline: str,
    position: int | None,
    numbers: tuple[Sequence[float], Sequence[float]],
    truth: tuple[arb, float],
    formulas: tuple[str, str],
    notes: tuple[str, ...] = (),
) -> Finding:
    """The finding for a number of a whole run.

    Args:
        training: The run.
        headline: What is wrong.
        position: Which parameter's it is; None for the loss.
        numbers: What was computed, and the parameters that are shown.
        truth: What it should be, and how far from that it may be.
        formulas: What was executed, and the reference.
        notes: What else is known.
    """
    pipeline = training.pipeline
    (computed, parameters), (true, bound) = numbers, truth
    number = computed[position or 0]
    return finding_about(
        headline,
        Entry("loss", ()) if position is None else pipeline.shapes.entries[position],
        number,
        Assessment(Outcome.WRONG, true, error(number, true), bound),
        pipeline.format,
        inputs=tuple(values_of(pipeline.shapes.parameters, parameters, training.dtype)),
        cotangents=(),
        autograd_formula=formulas[0],
        reference_formula=formulas[1],
        replay=training.replay,
        notes=notes,
    )
