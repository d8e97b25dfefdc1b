"""Every rule's value is PyTorch's: forward, in reverse mode and in forward mode, at random and at special points."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from diffcheck.rules import table
from diffcheck.rules.registry import pointwise
from tests.rules import tracing
from tests.rules.examples import EXAMPLES
from tests.rules.factorizations import GONE

SEEDS = (0, 1, 2)
REFUSED = {"aten.linalg_eig", "aten.linalg_matrix_exp"}
"""What no rule can say; `test_tracing` holds the refusals."""

# PyTorch's trigamma is a short asymptotic series: it has about ten digits.
TOLERANCE = {"digamma": 1e-8, "polygamma": 1e-8}

# PyTorch says so itself, when its forward mode is first used, and of two reductions.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter:UserWarning"),
    pytest.mark.filterwarnings("ignore:index_reduce.. is in beta:UserWarning"),
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning"),
]


def arguments(drawn: tuple[Any, ...], seed: int) -> tuple[list[torch.Tensor], list[Any]]:
    """The drawn inputs, and what stands fixed behind them."""
    draws = [a for a in drawn if isinstance(a, tracing.Draw)]
    return [a.at(seed + 3 * i) for i, a in enumerate(draws)], list(drawn[len(draws) :])


@cache
def outcome(name: str) -> tuple[list[str], frozenset[str]]:
    """What disagreed in one example, and which rules it used."""
    function, *drawn = EXAMPLES[name]
    wrong: list[str] = []
    used: set[str] = set()
    for seed in SEEDS:
        inputs, fixed = arguments(tuple(drawn), seed)
        call = lambda *xs: function(*xs, *fixed)  # noqa: B023, E731 - called before the loop goes on
        traces = {"reverse": tracing.reverse(call, [x.clone() for x in inputs], seed=seed)}
        with suppress(NotImplementedError):  # PyTorch has no forward mode for some
            traces["forward"] = tracing.forward(call, inputs, seed=seed)
        for mode, trace in traces.items():
            wrong += [f"{mode}, seed {seed}, {text}" for text in trace.mismatches(TOLERANCE.get(name, 1e-13))]
            used |= trace.used
    return wrong, frozenset(used)


@pytest.mark.parametrize("name", EXAMPLES)
def test_traced_values_are_pytorchs(name: str, shared_folder: Path) -> None:
    wrong, used = outcome(name)
    record(name, shared_folder).write_text(json.dumps(sorted(used)))
    assert not wrong, "\n".join(wrong)


def record(name: str, folder: Path) -> Path:
    """Where a run's workers tell each other which rules an example used."""
    return folder / f"rules of example {list(EXAMPLES).index(name)}.json"


@pytest.mark.last  # by then the examples have been run
def test_every_rule_has_an_example(shared_folder: Path) -> None:
    used: set[str] = set()
    for name in EXAMPLES:
        told = record(name, shared_folder)
        with suppress(json.JSONDecodeError, FileNotFoundError):  # not yet, or it is being written
            used.update(json.loads(told.read_text()))
            continue
        used.update(outcome(name)[1])
    assert table().keys() - used == REFUSED | GONE


def test_a_wrong_rule_is_noticed() -> None:
    wrong = {**table(), "aten.mul": pointwise(lambda x, y: x * y + x)}
    trace = tracing.reverse(lambda x: x.exp() * 2, [torch.randn(3, dtype=torch.float64)], rules=wrong)
    assert any(text.startswith("output") for text in trace.mismatches())
    assert any(text.startswith("gradient") for text in trace.mismatches())
