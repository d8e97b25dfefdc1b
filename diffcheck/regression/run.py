"""A declared pipeline → Results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

import torch

from diffcheck.checking import declared as declarations
from diffcheck.checking.check import check
from diffcheck.checking.conclude import command_line
from diffcheck.differentiate.faults import time_limit
from diffcheck.errors import DiffcheckError
from diffcheck.modes import dtypes_for
from diffcheck.regression import checks
from diffcheck.regression.datasets import over_data_sets
from diffcheck.regression.declare import Regression, linear_regression, regression, training_step
from diffcheck.regression.formulas import loss_case
from diffcheck.regression.pipeline import Training, prepare, work_out
from diffcheck.settings import Settings
from diffcheck.verdict import Result, Verdict

__all__ = ["Regression", "linear_regression", "regression", "training_step"]

_T = TypeVar("_T")

_DTYPES: Final = {"float64": torch.float64, "float32": torch.float32}
_MODES: Final[dict[str, Callable[[Training, Result, Settings], Result]]] = {
    "closed-form": checks.closed_form,
    "sgd-step": checks.steps,
    "trajectory": checks.trajectory,
    "end-point": checks.end,
    "data-sets": over_data_sets,
}
"""After `reverse`, which is the gradient's."""


def rows_of(_: Regression, settings: Settings) -> tuple[tuple[str, str], ...]:
    """The mode and dtype of each result, if the pipeline can be worked out: all are made of gradients in reverse."""
    if "reverse" not in settings.modes:
        return ()
    dtypes = dtypes_for(settings.dtypes, complex_inputs=False)
    rows = [("reverse", dtype) for dtype in dtypes]
    rows += [(mode, dtype) for mode in _MODES for dtype in dtypes if dtype in _DTYPES]
    return tuple(row for row in rows if settings.only is None or row in settings.only)


def run(declared: Regression, settings: Settings, *, case_id: str, location: str) -> Iterator[Result]:
    """Checks a pipeline.

    Yields:
        The gradient of the loss in `reverse` mode, then `closed-form`, `sgd-step`, `trajectory`, `end-point` and
        `data-sets`, each per dtype; one result `training` for a dtype in which it can't be worked out.
    """
    rows = rows_of(declared, settings)
    trainings: dict[str, Training] = {}
    broken = False
    for dtype in dict.fromkeys(dtype for mode, dtype in rows if mode in _MODES):
        blank = Result(case_id, "training", dtype, Verdict.PROVED)
        started = time.perf_counter()
        training = _guarded(blank, settings.seconds, partial(_trained, declared, _DTYPES[dtype]))
        if isinstance(training, Training):
            trainings[dtype] = training
        else:
            broken |= training.verdict is Verdict.ERROR
            yield replace(training, seconds=time.perf_counter() - started)
    if broken:
        return
    if any(mode == "reverse" for mode, _ in rows):
        yield from _gradient(declared, settings, case_id, location)
    for mode, answer in _MODES.items():
        for dtype, training in trainings.items():
            if (mode, dtype) in rows:
                started = time.perf_counter()
                blank = Result(case_id, mode, dtype, Verdict.PROVED, paths=1)
                result = _guarded(blank, settings.seconds + 5, partial(answer, training, blank, settings))
                seconds = time.perf_counter() - started + (training.judging if mode == "sgd-step" else 0.0)
                replay = command_line(location, "reverse", dtype, settings)
                finding = result.finding and replace(result.finding, replay=replay)
                yield replace(result, seconds=seconds, finding=finding)


def _trained(declared: Regression, dtype: torch.dtype) -> Training:
    return work_out(declared, prepare(declared, dtype))


def _guarded(blank: Result, seconds: float, work: Callable[[], _T]) -> _T | Result:
    """What the work gives, or why it gives nothing: the declared functions may do anything, and go on for ever."""
    try:
        with time_limit(seconds, "the pipeline"):
            return work()
    except DiffcheckError as error:
        return replace(blank, verdict=error.verdict, reason=str(error), paths=0)
    except Exception as error:  # noqa: BLE001 - a person's function may raise anything
        text = (str(error).strip().splitlines() or [""])[0]
        reason = f"the pipeline raises {type(error).__name__}: {text}"
        return replace(blank, verdict=Verdict.ERROR, reason=reason, paths=0)


def _gradient(declared: Regression, settings: Settings, case_id: str, location: str) -> Iterator[Result]:
    """The gradient of the loss in parameters, features and labels, on data that Hypothesis draws."""
    blank = Result(case_id, "reverse", "float64", Verdict.PROVED)
    case = _guarded(blank, settings.seconds, partial(loss_case, declared))
    if isinstance(case, Result):
        yield case
        return
    # Training differentiates in reverse. A tangent of the loss is a sum over all inputs: where it cancels, it loses
    # digits that say nothing of the gradient.
    modes = tuple(mode for mode in settings.modes if mode == "reverse")
    fewer = replace(settings, examples=max(1, settings.examples // 4), modes=modes)
    yield from check(case, fewer, case_id=case_id, location=location)


declarations.rows.register(Regression, rows_of)
declarations.run.register(Regression, run)
