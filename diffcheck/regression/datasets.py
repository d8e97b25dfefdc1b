"""The pipeline over data sets, learning rates and batch sizes that Hypothesis draws."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from hypothesis import Phase
from hypothesis import strategies as st
from torch import Tensor

from diffcheck.draw.search import find
from diffcheck.regression import checks
from diffcheck.regression.pipeline import Training, work_out
from diffcheck.settings import Settings
from diffcheck.verdict import PASSING, Result, Verdict

_MOST_ROWS: Final = 6
_RATES: Final = (0.03, 0.003, 0.1, 0.3, 1.0, 3.0)
_KINDS: Final = (
    "data sets", "converging, within the bound of the end point", "without a unique solution", "divergent",
    "too near to the limit of stability to tell", "leaving the range of the dtype",
)  # fmt: skip
"""What a data set turns out to be."""


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


def data_sets(features: int, labels: int) -> st.SearchStrategy[DataSet]:
    """A few rows: small numbers, now and then repeated rows and columns that are equal."""
    width = features + labels

    def built(numbers: list[int], kind: str, rate: float, batch: int) -> DataSet:
        entries = [k / 8 if abs(k) <= 32 else k / 1024 + 0.001 for k in numbers]
        rows = [tuple(entries[start : start + width]) for start in range(0, len(entries), width)]
        x, y = [row[:features] for row in rows], tuple(row[features:] for row in rows)
        if kind == "repeated":
            x = [x[0]] * len(rows)
        elif kind == "tied":
            x = [(row[0],) * features for row in x]
        return DataSet(tuple(x), y, rate, 1 + batch % len(rows))

    # Made once: Hypothesis validates a strategy anew for every object.
    sizes = [count * width for count in range(2, _MOST_ROWS + 1)]
    numbers = {size: st.lists(st.integers(-4000, 4000), min_size=size, max_size=size) for size in sizes}
    return st.builds(
        built,
        st.sampled_from(sizes).flatmap(numbers.__getitem__),
        st.sampled_from(("any",) * 8 + ("repeated", "tied")),
        st.sampled_from(_RATES) | st.integers(1, 4000).map(lambda k: k / 1000),
        st.integers(0, _MOST_ROWS - 1),
    )


def _kinds(training: Training) -> Iterator[tuple[str, str]]:
    """What the data set of a training is, and why."""
    every, converging, deficient, divergent, near, leaving = _KINDS
    stable, unique = training.stability, training.solution.balls is not None
    yield every, ""
    if not unique:
        yield deficient, f"rank {training.solution.rank} of {len(training.pipeline.names)}"
    elif stable.diverges is None:
        yield near, ""
    elif not stable.diverges and not training.leaves_range:
        yield converging, ""
    if stable.diverges:
        yield divergent, str(stable)
    if training.leaves_range:
        yield leaving, ""


def _table(met: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """How many there were of each kind, and the first ones; of the kinds met, each with the reason."""
    counts, width = Counter(kind for kind, _ in met), max(map(len, _KINDS))
    first = {kind: why for kind, why in reversed(met) if why}
    counted = [f"{kind:<{width}}  {counts[kind]:>5}" for kind in _KINDS if counts[kind]]
    return (*counted, *(f"first {kind}: {first[kind]}" for kind in _KINDS if kind in first))


def over_data_sets(training: Training, blank: Result, settings: Settings) -> Result:
    """Trains for an epoch on every drawn data set, and asks the same of its steps, its trajectory and its end."""
    deadline = time.perf_counter() + settings.seconds
    results: dict[DataSet, Result] = {}
    met: list[tuple[str, str]] = []

    def disagrees(drawn: DataSet) -> bool:
        # Out of time, what has been seen keeps its answer: Hypothesis runs the smallest data set once more at the end.
        if drawn not in results and time.perf_counter() < deadline:
            other = _trained(training, drawn)
            results[drawn] = _judged(other, blank, settings)
            met.extend((kind, why and f"{why}, on {drawn}") for kind, why in _kinds(other))
        return drawn in results and results[drawn].verdict not in PASSING

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
        inputs=len(results),
        max_error_bounds=max((r.max_error_bounds for r in results.values()), default=0.0),
        max_error_ulps=max((r.max_error_ulps for r in results.values()), default=0.0),
        details=_table(met),
    )
    if smallest is not None:
        problem = _judged(_trained(training, smallest), blank, settings)
        if problem.verdict in PASSING:
            again = "a disagreement did not happen again on the same data set"
            return replace(found, verdict=Verdict.ERROR, reason=again)
        reason = f"{problem.reason}; the smallest data set: {smallest}"
        return replace(found, verdict=problem.verdict, reason=reason, finding=problem.finding)
    if time.perf_counter() > deadline:
        late = f"the case ran for more than {settings.seconds:g} seconds"
        return replace(found, verdict=Verdict.UNDECIDED, reason=late)
    return checks.proved(training, found)


def _trained(training: Training, drawn: DataSet) -> Training:
    """The same pipeline on another data set."""
    pipeline = training.pipeline

    def data() -> tuple[Tensor, Tensor]:
        x, y = (torch.tensor(rows, dtype=pipeline.dtype) for rows in (drawn.features, drawn.labels))
        return x.reshape(-1, *training.features.shape[1:]), y.reshape(-1, *training.labels.shape[1:])

    rate, batch_size = drawn.learning_rate, drawn.batch_size
    declared = replace(training.declared, data=data, learning_rate=rate, batch_size=batch_size, epochs=1)
    return work_out(declared, pipeline)


def _judged(training: Training, blank: Result, settings: Settings) -> Result:
    """What its steps come to; or its trajectory or its end, if that fails."""
    steps = checks.steps(training, blank, settings)
    results = [steps]
    if steps.verdict in PASSING:
        results += [checks.trajectory(training, blank, settings), checks.end(training, blank, settings)]
    return next((r for r in results if r.verdict not in {*PASSING, Verdict.UNDEFINED}), steps)
