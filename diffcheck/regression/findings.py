"""What fails in a pipeline, as findings: what is wrong, and what was done instead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from flint import arb

from diffcheck.certify.formats import Format
from diffcheck.certify.judgement import Assessment, Outcome
from diffcheck.certify.linear import error
from diffcheck.derive import text
from diffcheck.explain.finding import finding_about
from diffcheck.regression.pipeline import Training
from diffcheck.regression.training import Step
from diffcheck.trace.tracer import Entry
from diffcheck.verdict import Finding, Value

_MOST_ACCUMULATED: Final = 8
"""How many batches back a missing `zero_grad()` is looked for."""


def of_step(training: Training, position: int) -> Finding:
    """The finding for a step that is not the closed-form update."""
    pipeline, step, judgement = training.pipeline, training.record.steps[position], training.judgements[position]
    worst = judgement.worst_number
    headline, notes = _diagnose(training, position)
    # On two rows at most: the formula of a batch of ten is too long to be read.
    readable, batch = pipeline.step(min(step.rows, 2)), pipeline.step(step.rows).batch
    inputs = batch.values((*step.before, *step.features, *step.labels), pipeline.dtype_name)
    return finding_about(
        headline,
        batch.entries[worst],
        step.after[worst],
        judgement.failures[worst],
        pipeline.format,
        inputs=(*inputs, Value("lr", (), "float64", (training.declared.learning_rate,))),
        autograd_formula=text.text(readable.executed[worst]),
        reference_formula=text.text(readable.reference[worst]),
        notes=(*notes, f"formulas for a batch of {readable.batch.rows}"),
    )


def of_trajectory(training: Training, count: int, position: int, true: arb, bound: float) -> Finding:
    """The finding for parameters that after so many steps are not where the affine maps lead."""
    pipeline, record = training.pipeline, training.record
    ends = [record.start, *(step.after for step in record.steps)]
    moved = next((k for k in range(count) if record.steps[k].before != ends[k]), None)
    changed = f"something other than a step changed the parameters before step {(moved or 0) + 1}"
    return finding_about(
        f"after step {count}, {pipeline.names[position]} is not what the product of the steps' affine maps gives",
        pipeline.row.entries[position],
        ends[count][position],
        _wrong(ends[count][position], true, bound),
        pipeline.format,
        inputs=tuple(pipeline.row.values(record.start, pipeline.dtype_name)),
        autograd_formula=f"the parameters after {count} steps",
        reference_formula=f"M_{count}⋯M_1·θ_0 + Σ M_{count}⋯M_(k+1)·v_k",
        notes=() if moved is None else (changed,),
    )


def of_loss(training: Training, epoch: int, true: arb, bound: float) -> Finding:
    """The finding for a printed loss that is not the loss."""
    pipeline, number = training.pipeline, training.record.losses[epoch - 1]
    return finding_about(
        f"the loss on all of the data after epoch {epoch} is wrong",
        Entry("loss", ()),
        number,
        _wrong(number, true, bound),
        pipeline.format,
        inputs=tuple(pipeline.row.values(training.record.ends[epoch - 1], pipeline.dtype_name)),
        autograd_formula="loss(net(features), labels)",
        reference_formula=f"the {pipeline.how} over all rows of {text.text(pipeline.row.loss)}",
    )


def of_end_point(training: Training, solution: Sequence[arb], bound: float) -> Finding:
    """The finding for an end that is too far from the least-squares solution."""
    pipeline, end = training.pipeline, training.record.steps[-1].after
    position = max(range(len(end)), key=lambda i: error(end[i], solution[i]))
    return finding_about(
        "the end is farther from the least-squares solution than learning rate, batches and spectrum allow",
        pipeline.row.entries[position],
        end[position],
        _wrong(end[position], solution[position], bound),
        pipeline.format,
        inputs=tuple(pipeline.row.values(training.record.start, pipeline.dtype_name)),
        autograd_formula="the parameters after training",
        reference_formula="the solution of ∇L = 0",
    )


def _wrong(number: float, true: arb, bound: float) -> Assessment:
    return Assessment(Outcome.WRONG, true, error(number, true), bound)


def _diagnose(training: Training, position: int) -> tuple[str, list[str]]:
    """What a step that fails did instead: a headline, and notes."""
    pipeline, steps = training.pipeline, training.record.steps
    step, used, fmt = steps[position], steps[position].gradient, pipeline.format
    true, slack = pipeline.step(step.rows).gradient(step)
    where = f"step {position + 1}"
    if used is None:
        return f"{where}: a parameter has no gradient", []
    if _close(used, true, slack):
        headline, notes = _of_update(step, used, training.declared.learning_rate, fmt)
        return f"{where}: the gradient is right, {headline}", notes
    shown = [_list(".grad", used), _list("∇L of this batch", true)]
    summed, allowed = list(true), list(slack)
    for count, earlier in enumerate(reversed(steps[max(0, position - _MOST_ACCUMULATED) : position]), start=2):
        more, further = pipeline.step(earlier.rows).gradient(earlier)
        summed = [a + b for a, b in zip(summed, more, strict=True)]
        # Each addition into .grad rounds once more.
        allowed = [a + b + fmt.ulp(float(s.mid())) for a, b, s in zip(allowed, further, summed, strict=True)]
        if _close(used, summed, allowed):
            held = f".grad holds the sum of the last {count} batches' gradients"
            return f"{where}: gradients accumulate: {held}; zero_grad() is missing", shown
    # A factor makes the rounding larger too.
    grown = [s * max(1.0, abs(u) / max(float(abs(t).lower()), s)) for s, u, t in zip(slack, used, true, strict=True)]
    factor = _ratio(used, true, grown)
    if factor is not None:
        why = _reduction(factor, step.rows)
        return f"{where}: the gradient is {factor:.10g} times that of the declared loss{why}", shown
    worst = max(range(len(used)), key=lambda i: float((arb(used[i]) - true[i]).abs_upper()) / slack[i])
    name = pipeline.names[worst]
    if not true[worst].contains(0):
        times = float((arb(used[worst]) / true[worst]).mid())
        shown.append(f"the gradient of {name} is {times:.15g} times the right one")
    return f"{where}: the gradient of {name} is wrong", shown


def _reduction(factor: float, rows: int) -> str:
    """Which reduction of the loss was taken for which, if that explains a factor."""
    if math.isclose(factor, rows, rel_tol=1e-6):
        return f": the loss is a sum over the batch's {rows} rows where a mean is declared"
    if math.isclose(factor * rows, 1, rel_tol=1e-6):
        return f": the loss is a mean over the batch's {rows} rows where a sum is declared"
    return ""


def _of_update(step: Step, used: Sequence[float], declared: float, fmt: Format) -> tuple[str, list[str]]:
    moved = [b - a for b, a in zip(step.before, step.after, strict=True)]
    # The parameters were rounded when they were written.
    lost = [4 * max(fmt.ulp(b), fmt.ulp(a)) for b, a in zip(step.before, step.after, strict=True)]
    rate = _ratio(moved, list(map(arb, used)), lost)
    if rate is None:
        return "the update is not θ - lr·∇L", [_list("∇L", used), _list("moved by", moved)]
    note = f"the update's learning rate is {rate / declared:.10g} times the declared one"
    return f"the learning rate is not: the update used {rate:.10g} where {declared!r} is declared", [note]


def _close(used: Sequence[float], true: Sequence[arb], slack: Sequence[float]) -> bool:
    """Whether numbers are the true ones up to rounding."""
    return all(float((arb(u) - t).abs_upper()) <= s for u, t, s in zip(used, true, slack, strict=True))


def _ratio(numbers: Sequence[float], true: Sequence[arb], slack: Sequence[float]) -> float | None:
    """The common factor between two vectors, if there is one up to the errors that the numbers may have."""
    leading = max(range(len(true)), key=lambda i: float(abs(true[i]).lower()))
    if true[leading].contains(0):
        return None
    factor = arb(numbers[leading]) / true[leading]
    for number, entry, allowed in zip(numbers, true, slack, strict=True):
        # The factor is off by the leading number's own error.
        inherited = float(abs(entry / true[leading]).upper()) * slack[leading]
        if not float((arb(number) - factor * entry).abs_upper()) <= 2 * (allowed + inherited):
            return None
    return float(factor.mid())


def _list(what: str, numbers: Sequence[float | arb]) -> str:
    return f"{what}: {', '.join(f'{float(n.mid()) if isinstance(n, arb) else n:.12g}' for n in numbers)}"
