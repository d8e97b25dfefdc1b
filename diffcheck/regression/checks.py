"""The questions about a training: what each mode says of it."""

from __future__ import annotations

from dataclasses import replace

from diffcheck.certify.linear import error
from diffcheck.regression import findings, show
from diffcheck.regression.bounds import end_point, follow
from diffcheck.regression.pipeline import Training
from diffcheck.settings import Settings
from diffcheck.verdict import Result, Verdict


def closed_form(training: Training, blank: Result, _: Settings) -> Result:
    """∇L = 0, set up and solved by SymPy; solved on the data exactly."""
    pipeline, solution = training.pipeline, training.solution
    equations = pipeline.equations
    found = replace(
        blank,
        inputs=len(training.features),
        gradient=f"∇L = 0 is {'the linear system H·θ = b' if equations.scale is None else 'XᵀX·θ = Xᵀy'}",
        details=(*show.equations(pipeline), *show.solution(training)),
    )
    if solution.balls is None:
        rank = "could not be decided" if solution.rank is None else f"is {solution.rank}"
        reason = f"the rank of the normal equations' matrix {rank}, for {len(pipeline.names)} parameters"
        verdict = Verdict.UNDECIDED if solution.rank is None else Verdict.UNDEFINED
        return replace(found, verdict=verdict, reason=f"no unique solution: {reason}", undefined=1)
    if not equations.numerators and equations.scale is None:
        reason = "SymPy's solution of the symbolic system was not verified"
        return replace(found, verdict=Verdict.AGREES, reason=reason)
    return found


def steps(training: Training, blank: Result, _: Settings) -> Result:
    """Every step against θ - lr·∇L(θ), from the same parameters and batch."""
    judgements, failed = training.judgements, training.failed
    found = replace(
        blank,
        gradient="θ - lr·∇L(θ) = (I - lr·H)·θ + lr·b",
        inputs=len(judgements),
        max_error_bounds=max((j.max_bounds for j in judgements), default=0.0),
        max_error_ulps=max((j.max_ulps for j in judgements), default=0.0),
    )
    if failed is None:
        return proved(training, found)
    worst = judgements[failed].worst
    assert worst is not None
    bad = sum(bool(j.failures) for j in judgements)
    reason = f"{bad} of {len(judgements)} steps are not the closed-form update"
    return replace(found, verdict=worst.verdict, reason=reason, finding=findings.of_step(training, failed))


def proved(training: Training, found: Result) -> Result:
    """Proved, if every step's identity is and every step was what it should be."""
    reason = training.pipeline.unproved()
    if training.failed is not None:
        reason = "holds as far as the steps do, and a step is not the closed-form update"
    return replace(found, verdict=Verdict.AGREES if reason else Verdict.PROVED, reason=reason)


def trajectory(training: Training, blank: Result, _: Settings) -> Result:
    """The parameters after every step against the product of the steps' affine maps; the loss after each epoch."""
    record, updates, fmt = training.record, training.updates, training.pipeline.format
    count = show.subscript(len(updates))
    found = replace(blank, gradient=f"θ{count} = M{count}⋯M₁·θ₀ + c", inputs=len(updates), details=show.losses(record))
    places = list(enumerate(follow(record.start, updates), start=1))
    if places:
        places.append((len(updates), training.product.end))
    most_bounds = most_ulps = 0.0
    for after, known in places:
        computed = record.steps[after - 1].after
        for i, (number, true, bound) in enumerate(zip(computed, *known, strict=True)):
            gap = error(number, true, updates.bits)
            if gap <= bound:
                most_bounds = max(most_bounds, gap / bound if bound else 0.0)
                most_ulps = max(most_ulps, gap / fmt.ulp(number))
                continue
            if gap - 2 * float(true.rad()) <= bound:
                reason = f"the product of the maps of {after} steps grows beyond the precision of its balls"
                return replace(found, verdict=Verdict.UNDECIDED, reason=reason)
            finding = findings.of_trajectory(training, after, i, true, bound)
            reason = f"after step {after} the parameters are not what the affine maps lead to"
            return replace(found, verdict=Verdict.WRONG, reason=reason, finding=finding)
    found = replace(found, max_error_bounds=most_bounds, max_error_ulps=most_ulps)
    for epoch, (theta, value) in enumerate(zip(record.ends, record.losses, strict=True), start=1):
        true, bound = training.pipeline.loss_at(theta, training.data)
        if not error(value, true) <= fmt.tolerance(bound) and abs(true) < fmt.largest:
            finding = findings.of_loss(training, epoch, true, bound)
            reason = f"the loss after epoch {epoch} is not what the rows' losses come to"
            return replace(found, verdict=Verdict.WRONG, reason=reason, finding=finding)
    if training.leaves_range:
        last = f"step {len(updates) + 1} leaves the range of {training.pipeline.dtype_name}"
        found = replace(found, details=(*found.details, last))
    return proved(training, found)


def end(training: Training, blank: Result, _: Settings) -> Result:
    """The distance of the last parameters to the least-squares solution against a bound."""
    solution, record, stable = training.solution, training.record, training.stability
    missing = replace(blank, verdict=Verdict.UNDEFINED, undefined=1)
    if solution.balls is None:
        rank = f"rank {solution.rank} of {len(training.pipeline.names)}"
        return replace(missing, reason=f"no unique solution to compare with: {rank}")
    if stable.diverges or training.leaves_range:
        return replace(missing, reason=f"divergence: {stable}", details=show.losses(record))
    bound = end_point(record.start, record.steps[-1].after, solution.balls, training.updates, training.product)
    distance, last = bound.distance, show.subscript(len(record.steps))
    found = replace(
        blank,
        gradient=f"‖θ{last} - θ*‖ = {distance:.3g} <= {bound.from_norms:.3g}",
        inputs=1,
        details=show.end_point(bound, stable),
        max_error_bounds=distance / bound.from_norms if bound.from_norms else 0.0,
    )
    if distance <= bound.bound:
        return proved(training, found)
    reason = "the last parameters are farther from the least-squares solution than any right run can be"
    finding = findings.of_end_point(training, solution.balls, bound.bound)
    return replace(found, verdict=Verdict.WRONG, reason=reason, finding=finding)
