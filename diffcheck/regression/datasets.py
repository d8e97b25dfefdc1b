"""The pipeline over data sets, learning rates and batch sizes that Hypothesis draws."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

import hypothesis
import torch
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample, Unsatisfiable
from torch import Tensor

from diffcheck.regression import findings
from diffcheck.regression.bounds import end_point, follow, multiply_out, stability
from diffcheck.regression.training import train
from diffcheck.regression.worked import Outcome, Worked
from diffcheck.verdict import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffcheck.regression.pipeline import Pipeline

MOST_ROWS: Final = 6
_RATES: Final = (0.03, 0.003, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True, slots=True)
class DataSet:
    """What is drawn."""

    features: tuple[tuple[float, ...], ...]
    labels: tuple[tuple[float, ...], ...]
    learning_rate: float
    batch_size: int


@dataclass(slots=True)
class Met:
    """What the drawn data sets turned out to be."""

    drawn: int = 0
    converging: int = 0
    deficient: int = 0
    """Without a unique solution."""
    divergent: int = 0
    undecided: int = 0
    """Too near to the limit of stability to tell."""
    overflowing: int = 0
    """The parameters left the range of the dtype."""
    shortage: str = ""
    """The first data set without a unique solution."""
    divergence: str = ""
    """The first data set on which training diverges, with the limit that was crossed."""
    max_bounds: float = 0.0
    max_ulps: float = 0.0


def data_sets(features: int, labels: int) -> st.SearchStrategy[DataSet]:
    """A few rows: small numbers, now and then repeated rows and columns that are equal."""
    width = features + labels

    def built(count: int, kind: str, numbers: list[int], rate: float, batch: int) -> DataSet:
        entries = [k / 8 if abs(k) <= 32 else k / 1024 + 0.001 for k in numbers]
        rows = [tuple(entries[i * width : (i + 1) * width]) for i in range(count)]
        x, y = [row[:features] for row in rows], tuple(row[features:] for row in rows)
        if kind == "repeated":
            x = [x[0]] * count
        elif kind == "tied":
            x = [(row[0],) * features for row in x]
        return DataSet(tuple(x), y, rate, 1 + batch % count)

    kind = st.sampled_from(("any",) * 8 + ("repeated", "tied"))
    rate = st.sampled_from(_RATES) | st.integers(1, 4000).map(lambda k: k / 1000)
    # Made once: Hypothesis validates a strategy anew for every object.
    by_count = {
        count: st.builds(
            built,
            st.just(count),
            kind,
            st.lists(st.integers(-4000, 4000), min_size=count * width, max_size=count * width),
            rate,
            st.integers(0, MOST_ROWS - 1),
        )
        for count in range(2, MOST_ROWS + 1)
    }
    return st.integers(2, MOST_ROWS).flatmap(by_count.__getitem__)


def over_data_sets(worked: Worked) -> Outcome:
    """Trains for an epoch on every drawn data set, and checks its steps, its trajectory and its end."""
    pipeline, settings = worked.pipeline, worked.settings
    strategy = data_sets(worked.features[0].numel(), worked.labels[0].numel())
    met = Met()
    deadline = time.perf_counter() + settings.seconds
    known: dict[DataSet, bool] = {}

    def disagrees(drawn: DataSet) -> bool:
        # Out of time, what has been seen keeps its answer: Hypothesis runs the smallest data set once more at the end.
        if drawn not in known:
            known[drawn] = time.perf_counter() < deadline and _problem(pipeline, drawn, met) is not None
        return known[drawn]

    store: dict[str, Any] = {} if settings.database else {"database": None}
    key = f"diffcheck {worked.case_id} data-sets {worked.dtype}".encode()
    found = None
    with contextlib.suppress(NoSuchExample, Unsatisfiable):
        found = hypothesis.find(
            strategy,
            disagrees,
            settings=hypothesis.settings(
                max_examples=settings.examples,
                phases=[Phase.reuse, Phase.generate, Phase.shrink],
                deadline=None,
                **store,
            ),
            random=Random(settings.seed) if settings.seed is not None else None,
            database_key=key if settings.database else None,
        )
    outcome = Outcome(
        Verdict.PROVED,
        "θ ← (I - lr·H)·θ + lr·b, on any data",
        met.drawn,
        max_bounds=met.max_bounds,
        max_ulps=met.max_ulps,
    )
    outcome.details = _details(met)
    if found is not None:
        problem = _problem(pipeline, found, Met())
        if problem is None:
            outcome.verdict, outcome.reason = Verdict.ERROR, "a disagreement did not happen again on the same data set"
            return outcome
        outcome.verdict = problem.verdict
        outcome.reason = f"{problem.what}; the smallest data set: {_described(found)}"
        outcome.finding = problem.finding(worked.replay)
        return outcome
    outcome.reason = pipeline.unproved()
    if outcome.reason:
        outcome.verdict = Verdict.AGREES
    if time.perf_counter() > deadline:
        outcome.verdict, outcome.reason = Verdict.UNDECIDED, f"the case ran for more than {settings.seconds:g} seconds"
    return outcome


def _tensors(pipeline: Pipeline, drawn: DataSet) -> tuple[Tensor, Tensor]:
    count = len(drawn.features)
    return (
        torch.tensor(drawn.features, dtype=pipeline.dtype).reshape(count, *pipeline.sizes.features),
        torch.tensor(drawn.labels, dtype=pipeline.dtype).reshape(count, *pipeline.sizes.labels),
    )


@dataclass(frozen=True, slots=True)
class _Problem:
    """What is wrong with training on a data set."""

    what: str
    finding: Callable[[str], Finding]
    """Of the command that replays it."""
    verdict: Verdict = Verdict.WRONG


def _problem(pipeline: Pipeline, drawn: DataSet, met: Met) -> _Problem | None:
    """What is wrong with training on a data set, if anything is; what the data set is goes into `met`."""
    features, labels = _tensors(pipeline, drawn)
    rate = drawn.learning_rate
    record = train(
        pipeline.declared, features, labels, learning_rate=rate, batch_size=drawn.batch_size, epochs=1
    )  # fmt: skip
    judged = pipeline.judge(record, rate)
    met.drawn += 1
    met.max_bounds = max([met.max_bounds, *(j.numbers.max_bounds for j in judged.judgements)])
    met.max_ulps = max([met.max_ulps, *(j.numbers.max_ulps for j in judged.judgements)])
    failed = judged.first_failure
    if failed is not None:
        return _Problem(
            f"step {failed + 1} is not the closed-form update",
            lambda command: findings.of_step(pipeline, judged, failed, rate, command),
            judged.judgements[failed].verdict,
        )
    followed = follow(record.start, judged.updates)
    for k, known in enumerate(followed):
        for i, (true, bound) in enumerate(zip(known.parameters, known.bound, strict=True)):
            if not float(abs(true - record.steps[k].after[i]).lower()) <= bound:
                return _Problem(
                    f"after step {k + 1} the parameters are not what the affine maps lead to",
                    partial(findings.of_trajectory, pipeline, judged, k, i, true, bound),
                )
    solution = pipeline.solve(features, labels)
    stable = stability(solution.hessian, judged.updates, rate)
    met.overflowing += len(judged.updates) < len(record.steps)
    met.undecided += stable.diverges is None and solution.unique
    if stable.diverges:
        met.divergent += 1
        met.divergence = met.divergence or f"{stable.describe(rate)}, on {_described(drawn)}"
    if solution.balls is None:
        met.deficient += 1
        met.shortage = met.shortage or f"rank {solution.rank} of {solution.dimension}, on {_described(drawn)}"
        return None
    if stable.diverges or len(judged.updates) < len(record.steps):
        return None
    met.converging += stable.diverges is False
    product = multiply_out(record.start, judged.updates)
    end = end_point(record.start, record.steps[-1].after, solution.balls, judged.updates, product, rate)
    tight = min(end.from_batches, end.from_norms, end.from_spectrum)
    if not float(end.distance.upper()) <= tight:
        return _Problem(
            "the end is farther from the least-squares solution than its bound",
            partial(findings.of_end_point, pipeline, judged, solution.balls, tight),
        )
    return None


def _details(met: Met) -> tuple[str, ...]:
    rows = (
        ("data sets", met.drawn, ""),
        ("converging, within the bound of the end point", met.converging, ""),
        ("without a unique solution", met.deficient, met.shortage),
        ("divergent", met.divergent, met.divergence),
        ("too near to the limit of stability to tell", met.undecided, ""),
        ("leaving the range of the dtype", met.overflowing, ""),
    )
    width = max(len(what) for what, _, _ in rows)
    lines = [f"{what:<{width}}  {count:>5}" for what, count, _ in rows if count]
    return (*lines, *(f"first {what}: {first}" for what, _, first in rows if first))


def _described(drawn: DataSet) -> str:
    features = [list(r) for r in drawn.features]
    labels = [list(r) for r in drawn.labels]
    return f"X = {features}, y = {labels}, batches of {drawn.batch_size}, learning rate {drawn.learning_rate:g}"
