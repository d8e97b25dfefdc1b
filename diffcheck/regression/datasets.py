"""The pipeline over data sets, learning rates and batch sizes that Hypothesis draws."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from hypothesis import Phase
from hypothesis import strategies as st
from torch import Tensor

from diffcheck.draw.search import find
from diffcheck.regression import checks
from diffcheck.regression.pipeline import Training, work_out
from diffcheck.verdict import PASSING, Result, Verdict

_MOST_ROWS: Final = 6
_RATES: Final = (0.03, 0.003, 0.1, 0.3, 1.0, 3.0)
_DEFICIENT: Final = "without a unique solution"
_DIVERGENT: Final = "divergent"
_KINDS: Final = (
    "data sets", "converging, within the bound of the end point", _DEFICIENT, _DIVERGENT,
    "too near to the limit of stability to tell", "leaving the range of the dtype",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DataSet:
    """What is drawn."""

    features: tuple[tuple[float, ...], ...]
    labels: tuple[tuple[float, ...], ...]
    learning_rate: float
    batch_size: int

    def __str__(self) -> str:
        x, y = ([list(row) for row in rows] for rows in (self.features, self.labels))
        return f"X = {x}, y = {y}, batches of {self.batch_size}, learning rate {self.learning_rate:g}"


@dataclass(slots=True)
class _Met:
    """What the drawn data sets turned out to be."""

    counts: Counter[str] = field(default_factory=Counter)
    """By kind."""
    first: dict[str, str] = field(default_factory=dict)
    """The first of a kind, and why it is of it."""
    max_bounds: float = 0.0
    max_ulps: float = 0.0

    def note(self, drawn: DataSet, training: Training, steps: Result) -> None:
        """Counts one that nothing is wrong with."""
        solution, stable = training.solution, training.stability
        told = solution.balls is not None and stable.diverges is not None
        is_of = (
            True, told and not stable.diverges and not training.leaves_range, solution.balls is None, stable.diverges,
            solution.balls is not None and stable.diverges is None, training.leaves_range,
        )  # fmt: skip
        self.counts.update(kind for kind, holds in zip(_KINDS, is_of, strict=True) if holds)
        if stable.diverges:
            self.first.setdefault(_DIVERGENT, f"{stable}, on {drawn}")
        if solution.balls is None:
            rank = f"rank {solution.rank} of {len(training.pipeline.names)}"
            self.first.setdefault(_DEFICIENT, f"{rank}, on {drawn}")
        self.max_bounds = max(self.max_bounds, steps.max_error_bounds)
        self.max_ulps = max(self.max_ulps, steps.max_error_ulps)

    def lines(self) -> tuple[str, ...]:
        """As a table."""
        width = max(map(len, _KINDS))
        counted = [f"{kind:<{width}}  {self.counts[kind]:>5}" for kind in _KINDS if self.counts[kind]]
        return (*counted, *(f"first {kind}: {self.first[kind]}" for kind in _KINDS if kind in self.first))


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
            st.integers(0, _MOST_ROWS - 1),
        )
        for count in range(2, _MOST_ROWS + 1)
    }
    return st.integers(2, _MOST_ROWS).flatmap(by_count.__getitem__)


def over_data_sets(training: Training, blank: Result) -> Result:
    """Trains for an epoch on every drawn data set, and asks the same of its steps, its trajectory and its end."""
    settings = training.settings
    met = _Met()
    deadline = time.perf_counter() + settings.seconds
    known: dict[DataSet, bool] = {}

    def disagrees(drawn: DataSet) -> bool:
        # Out of time, what has been seen keeps its answer: Hypothesis runs the smallest data set once more at the end.
        if drawn not in known:
            known[drawn] = time.perf_counter() < deadline and _problem(training, drawn, blank, met) is not None
        return known[drawn]

    smallest = find(
        data_sets(training.features[0].numel(), training.labels[0].numel()),
        disagrees,
        settings,
        phases=[*([Phase.reuse] if settings.reuse else []), Phase.generate, Phase.shrink],
        key=f"diffcheck {blank.id} data-sets {blank.dtype}".encode() if settings.database else None,
    )
    found = replace(
        blank,
        gradient="θ ← (I - lr·H)·θ + lr·b, on any data",
        inputs=len(known),
        max_error_bounds=met.max_bounds,
        max_error_ulps=met.max_ulps,
        details=met.lines(),
    )
    if smallest is not None:
        problem = _problem(training, smallest, blank, _Met())
        if problem is None:
            reason = "a disagreement did not happen again on the same data set"
            return replace(found, verdict=Verdict.ERROR, reason=reason)
        reason = f"{problem.reason}; the smallest data set: {smallest}"
        return replace(found, verdict=problem.verdict, reason=reason, finding=problem.finding)
    if time.perf_counter() > deadline:
        reason = f"the case ran for more than {settings.seconds:g} seconds"
        return replace(found, verdict=Verdict.UNDECIDED, reason=reason)
    reason = training.pipeline.unproved()
    return replace(found, verdict=Verdict.AGREES if reason else Verdict.PROVED, reason=reason)


def _problem(training: Training, drawn: DataSet, blank: Result, met: _Met) -> Result | None:
    """What is wrong with training on a data set, if anything is; what the data set is goes into `met`."""
    pipeline = training.pipeline

    def data() -> tuple[Tensor, Tensor]:
        features, labels = (torch.tensor(rows, dtype=pipeline.dtype) for rows in (drawn.features, drawn.labels))
        return (
            features.reshape(-1, *pipeline.shapes.features),
            labels.reshape(-1, *pipeline.shapes.labels),
        )

    declared = replace(
        training.declared, data=data, learning_rate=drawn.learning_rate, batch_size=drawn.batch_size, epochs=1
    )
    other = work_out(declared, pipeline, training.settings, training.location)
    steps = checks.steps(other, blank)
    if steps.verdict not in PASSING:
        return steps
    met.note(drawn, other, steps)
    for check in (checks.trajectory, checks.end):
        result = check(other, blank)
        if result.verdict not in PASSING and result.verdict is not Verdict.UNDEFINED:
            return result
    return None
