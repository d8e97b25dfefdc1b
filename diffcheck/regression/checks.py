"""A declared pipeline → Results."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import torch

from diffcheck.differentiate.faults import time_limit
from diffcheck.errors import DiffcheckError
from diffcheck.modes import dtypes_for
from diffcheck.regression import findings, report
from diffcheck.regression.affine import precision
from diffcheck.regression.bounds import end_point, follow, stability
from diffcheck.regression.closed_form import normal_equations
from diffcheck.regression.datasets import over_data_sets
from diffcheck.regression.formulas import batch_formulas
from diffcheck.regression.gradient import loss_case
from diffcheck.regression.pipeline import DTYPES, prepare
from diffcheck.regression.training import make_data, make_model, train
from diffcheck.regression.worked import Outcome, Worked
from diffcheck.verdict import Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from diffcheck.regression.declare import Regression
    from diffcheck.settings import Settings

MODES: Final = ("closed-form", "sgd-step", "trajectory", "end-point", "data-sets")
"""After `reverse`, which is the gradient's."""


@dataclass(slots=True)
class _Failed:
    """A mode that could not be worked out."""

    verdict: Verdict
    reason: str
    seconds: float = field(default=0.0)


def run(declared: Regression, settings: Settings, *, case_id: str, location: str) -> Iterator[Result]:
    """Checks a pipeline.

    Yields:
        The gradient of the loss in `reverse` mode, then `closed-form`, `sgd-step`, `trajectory`, `end-point` and
        `data-sets`, each per dtype.
    """
    rows = rows_of(settings)
    dtypes = [d for d in dtypes_for(settings.dtypes, complex_inputs=False) if any((mode, d) in rows for mode in MODES)]
    prepared: dict[str, Worked | _Failed] = {}
    for dtype in dtypes:
        started = time.perf_counter()
        prepared[dtype] = _guarded(
            lambda d=dtype: _work_out(declared, d, settings, case_id, location),  # type: ignore[misc]
            settings.seconds,
        )
        known = prepared[dtype]
        if isinstance(known, _Failed):
            known.seconds = time.perf_counter() - started
            yield Result(case_id, "training", dtype, known.verdict, seconds=known.seconds, reason=known.reason)
    if any(isinstance(p, _Failed) and p.verdict is Verdict.ERROR for p in prepared.values()):
        return
    if any(mode == "reverse" for mode, _ in rows):
        yield from _gradient(declared, settings, case_id, location)
    checks: dict[str, Callable[[Worked], Outcome]] = {
        "closed-form": _closed_form,
        "sgd-step": _steps,
        "trajectory": _trajectory,
        "end-point": _end_point,
        "data-sets": over_data_sets,
    }
    for mode, check_mode in checks.items():
        for dtype, worked in prepared.items():
            if isinstance(worked, Worked) and (mode, dtype) in rows:
                yield _result(worked, mode, check_mode)


def rows_of(settings: Settings) -> tuple[tuple[str, str], ...]:
    """The mode and dtype of each result, if the pipeline can be worked out: all are made of gradients in reverse."""
    if "reverse" not in settings.modes:
        return ()
    dtypes = dtypes_for(settings.dtypes, complex_inputs=False)
    rows = [("reverse", dtype) for dtype in dtypes]
    rows += [(mode, dtype) for mode in MODES for dtype in dtypes if dtype in DTYPES]
    return tuple(row for row in rows if settings.only is None or row in settings.only)


def _work_out(declared: Regression, dtype: str, settings: Settings, case_id: str, location: str) -> Worked:
    torch_dtype = DTYPES[dtype]
    features, labels = make_data(declared, torch_dtype)
    pipeline = prepare(declared, torch_dtype, features, labels)
    record = train(declared, features, labels)
    started = time.perf_counter()
    judged = pipeline.judge(record, declared.learning_rate)
    judging = time.perf_counter() - started
    solution = pipeline.solve(features, labels)
    per_epoch = -(-len(features) // declared.batch_size)
    stable = stability(solution.hessian, judged.updates.first(per_epoch), declared.learning_rate)
    return Worked(
        declared, dtype, case_id, location, settings, pipeline, features, labels, judged, solution, stable, judging
    )  # fmt: skip


def _guarded(work: Callable[[], Any], seconds: float) -> Any:
    """What the work gives, or why it gives nothing: the declared functions may do anything, and go on for ever."""
    try:
        with time_limit(seconds, "the pipeline"):
            return work()
    except DiffcheckError as error:
        return _Failed(error.verdict, str(error))
    except Exception as error:  # noqa: BLE001 - a person's function may raise anything
        text = (str(error).strip().splitlines() or [""])[0]
        return _Failed(Verdict.ERROR, f"the pipeline raises {type(error).__name__}: {text}")


def _result(worked: Worked, mode: str, check_mode: Callable[[Worked], Outcome]) -> Result:
    started = time.perf_counter()
    found = _guarded(lambda: check_mode(worked), worked.settings.seconds + 5)
    seconds = time.perf_counter() - started + (worked.judging if mode == "sgd-step" else 0.0)
    if isinstance(found, _Failed):
        return Result(worked.case_id, mode, worked.dtype, found.verdict, seconds=seconds, reason=found.reason)
    return Result(
        id=worked.case_id,
        mode=mode,
        dtype=worked.dtype,
        verdict=found.verdict,
        inputs=found.inputs,
        paths=1,
        undefined=found.undefined,
        max_error_ulps=found.max_ulps,
        max_error_bounds=found.max_bounds,
        seconds=seconds,
        gradient=found.gradient,
        finding=found.finding,
        reason=found.reason,
        details=found.details,
    )


def _gradient(declared: Regression, settings: Settings, case_id: str, location: str) -> Iterator[Result]:
    """The gradient of the loss in parameters, features and labels, on data that Hypothesis draws."""
    from diffcheck.checking.check import check

    case = _guarded(lambda: loss_case(declared, make_model, make_data(declared, torch.float64)), settings.seconds)
    if isinstance(case, _Failed):
        yield Result(case_id, "reverse", "float64", case.verdict, reason=case.reason)
        return
    # Training differentiates in reverse. A tangent of the loss is a sum over all inputs: where it cancels, it loses
    # digits that say nothing of the gradient.
    modes = tuple(mode for mode in settings.modes if mode == "reverse")
    fewer = replace(settings, examples=max(1, settings.examples // 4), modes=modes)
    yield from check(case, fewer, case_id=case_id, location=location)


# ---------------------------------------------------------------------------------------------------------------------
# The modes
# ---------------------------------------------------------------------------------------------------------------------


def _closed_form(worked: Worked) -> Outcome:
    pipeline, solution = worked.pipeline, worked.solution
    size = len(pipeline.names)
    net = make_model(worked.declared, DTYPES[worked.dtype])
    small = batch_formulas(worked.declared, net, pipeline.sizes, min(size + 1, 8), DTYPES[worked.dtype])
    equations = worked.equations = normal_equations(small)
    line = report.system_line(equations)
    if not solution.unique:
        rank = "could not be decided" if solution.rank is None else f"is {solution.rank}"
        reason = f"no unique solution: the rank of the normal equations' matrix {rank}, for {size} parameters"
        verdict = Verdict.UNDECIDED if solution.rank is None else Verdict.UNDEFINED
        return Outcome(
            verdict, line, len(worked.features), reason, undefined=1, details=report.equations(equations, pipeline)
        )
    details = (
        *report.equations(equations, pipeline),
        *report.solution(solution, pipeline),
        *report.digits_kept(pipeline, solution, worked.features, worked.labels),
    )
    solved = bool(equations.numerators) or equations.scale is not None
    reason = "" if solved else "SymPy's solution of the symbolic system was not verified"
    return Outcome(Verdict.PROVED if solved else Verdict.AGREES, line, len(worked.features), reason, details=details)


def _steps(worked: Worked) -> Outcome:
    judged = worked.judged
    worst = [
        max((j.numbers.max_bounds for j in judged.judgements), default=0.0),
        max((j.numbers.max_ulps for j in judged.judgements), default=0.0),
    ]
    outcome = Outcome(
        Verdict.PROVED,
        "θ - lr·∇L(θ) = (I - lr·H)·θ + lr·b",
        len(judged.judgements),
        max_bounds=worst[0],
        max_ulps=worst[1],
    )
    failed = judged.first_failure
    if failed is not None:
        outcome.finding = findings.of_step(
            worked.pipeline, judged, failed, worked.declared.learning_rate, worked.replay
        )
        outcome.verdict = judged.judgements[failed].verdict
        bad = sum(bool(j.numbers.failures) for j in judged.judgements)
        outcome.reason = f"{bad} of {len(judged.judgements)} steps are not the closed-form update"
        return outcome
    outcome.reason = worked.pipeline.unproved()
    if outcome.reason:
        outcome.verdict = Verdict.AGREES
    return outcome


def _passing(worked: Worked) -> tuple[Verdict, str]:
    """Proved, if every step's identity is and every step was what it should be."""
    if worked.judged.first_failure is not None:
        return Verdict.AGREES, "holds as far as the steps do, and a step is not the closed-form update"
    reason = worked.pipeline.unproved()
    return (Verdict.AGREES, reason) if reason else (Verdict.PROVED, "")


def _trajectory(worked: Worked) -> Outcome:
    judged, pipeline = worked.judged, worked.pipeline
    record, count = judged.record, len(judged.updates)
    verdict, reason = _passing(worked)
    outcome = Outcome(verdict, f"θ{report.subscript(count)} = M{report.subscript(count)}⋯M₁·θ₀ + c", count, reason)
    outcome.details = report.losses(record)
    places = [(k, f.parameters, f.bound) for k, f in enumerate(follow(record.start, judged.updates))]
    if places:
        places.append((count - 1, worked.product.end, worked.product.bound))
    fmt = pipeline.format()
    for k, exact, bounds in places:
        computed = record.steps[k].after
        for i, (number, true, bound) in enumerate(zip(computed, exact, bounds, strict=True)):
            with precision(judged.updates.bits):
                gap = abs(true - number)
            error = float(gap.upper())
            if not error <= bound:
                if float(gap.lower()) <= bound:
                    outcome.verdict = Verdict.UNDECIDED
                    outcome.reason = f"the product of the maps of {k + 1} steps grows beyond the precision of its balls"
                    return outcome
                outcome.verdict = Verdict.WRONG
                outcome.reason = f"after step {k + 1} the parameters are not what the affine maps lead to"
                outcome.finding = findings.of_trajectory(pipeline, judged, k, i, true, bound, worked.replay)
                return outcome
            outcome.max_bounds = max(outcome.max_bounds, error / bound if bound else 0.0)
            outcome.max_ulps = max(outcome.max_ulps, error / fmt.ulp(number))
    for epoch, (theta, value) in enumerate(zip(record.ends, record.losses, strict=True), start=1):
        true, slack = pipeline.loss(theta, worked.features, worked.labels)
        if not float(abs(true - value).upper()) <= slack + fmt.smallest and abs(true) < fmt.largest:
            outcome.verdict = Verdict.WRONG
            outcome.reason = f"the loss after epoch {epoch} is not what the rows' losses come to"
            outcome.finding = findings.of_loss(pipeline, epoch, theta, value, true, slack, worked.replay)
            return outcome
    if count < len(record.steps):
        outcome.details += (f"step {count + 1} leaves the range of {worked.dtype}",)
    return outcome


def _end_point(worked: Worked) -> Outcome:
    judged, solution, declared = worked.judged, worked.solution, worked.declared
    record = judged.record
    stable = worked.stability
    if solution.balls is None:
        reason = f"no unique solution to compare with: rank {solution.rank} of {solution.dimension}"
        return Outcome(Verdict.UNDEFINED, "", 0, reason, undefined=1)
    if stable.diverges or len(judged.updates) < len(record.steps):
        reason = f"divergence: {stable.describe(declared.learning_rate)}"
        return Outcome(Verdict.UNDEFINED, "", 0, reason, undefined=1, details=report.losses(record))
    verdict, reason = _passing(worked)
    bound = end_point(
        record.start, record.steps[-1].after, solution.balls, judged.updates, worked.product, declared.learning_rate
    )
    distance = float(bound.distance.upper())
    outcome = Outcome(
        verdict, f"‖θ{report.subscript(len(record.steps))} - θ*‖ = {distance:.3g} <= {bound.from_norms:.3g}", 1, reason
    )
    outcome.details = report.end_point(bound, stable, declared.learning_rate)
    outcome.max_bounds = distance / bound.from_norms if bound.from_norms else 0.0
    tight = min(bound.from_batches, bound.from_norms, bound.from_spectrum)
    if not distance <= tight:
        outcome.verdict = Verdict.WRONG
        outcome.reason = "the last parameters are farther from the least-squares solution than any right run can be"
        outcome.finding = findings.of_end_point(worked.pipeline, judged, solution.balls, tight, worked.replay)
    return outcome
