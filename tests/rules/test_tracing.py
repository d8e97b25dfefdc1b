"""What the tables rely on: writes, views, frozen parts and guards, seen through PyTorch's public functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr
from diffcheck.errors import Unsupported
from tests.rules import tracing
from tests.rules.evaluate import evaluate

X = torch.tensor([[0.3, -1.2, 2.0], [0.7, 0.1, -0.4]], dtype=torch.float64)


def run(function: Callable[[Tensor], Any]) -> tracing.Trace:
    """The function at X; its values are checked."""
    trace = tracing.reverse(function, [X.clone()])
    assert not list(trace.mismatches())
    return trace


def shadow(trace: tracing.Trace) -> list[Expr]:
    """The first output's shadow."""
    return list(trace.pairs[0][1].flat)


def write_through_a_view(x: Tensor) -> Tensor:
    y = x * 1
    y[:, 1:].mul_(2)
    y.t()[0].sub_(x[:, 2])
    y.view(-1)[::2] += x[0, 0]
    return y


def write_under_a_view(x: Tensor) -> Tensor:
    y = x * 1
    window = y.t()[1:]
    y.copy_(x.exp())
    return window * 2


def write_with_out(x: Tensor) -> Tensor:
    y = torch.empty(2, 3, dtype=torch.float64)
    with torch.no_grad():
        torch.add(x, 1, out=y)
        torch.mul(y, y, out=y)
        torch.sum(y, 1, out=torch.empty(2, dtype=torch.float64))
    return x * y


def write_expanded(x: Tensor) -> Tensor:
    return x[:1].expand(2, 3) * x + x[:, :1].expand(2, 3).contiguous()


def write_transposed(x: Tensor) -> Tensor:
    y = torch.zeros(3, 2, dtype=torch.float64)
    y.t().copy_(x)
    return y.t().contiguous().view(-1) * y.reshape(-1)


def write_in_halves(x: Tensor) -> Tensor:
    y = x.clone()
    for half in (y[:, :1], y[:, 1:]):
        half.mul_(x[:, :1])
    return y


@pytest.mark.parametrize(
    "function",
    [write_through_a_view, write_under_a_view, write_with_out, write_expanded, write_transposed, write_in_halves],
)
def test_writes_are_seen_by_every_view(function: Callable[[Tensor], Tensor]) -> None:
    run(function)


@pytest.mark.parametrize(
    ("function", "by"),
    [(lambda x: x.detach() * x, "detach"), (lambda x: _without_grad(x) * x, "no_grad")],
)
def test_frozen_parts_are_marked(function: Callable[[Tensor], Tensor], by: str) -> None:
    nodes = graph.topological(shadow(run(function)))
    assert {node.payload for node in nodes if node.head == "frozen"} == {by}


def _without_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x * 2


def holds(trace: tracing.Trace) -> bool:
    """Whether every guard has, at X, the value that was recorded."""
    guards = trace.shadows.guards
    values = evaluate([g.selector for g in guards], trace.point)
    return bool(np.array_equal(values, [float(g.value) for g in guards]))


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda x: x.sort(1)[0], 4),
        (lambda x: x.max(1)[0], 4),
        (lambda x: x.reshape(-1)[x.argmax()], 5),
        (lambda x: x.topk(1, 1)[0], 4),
        (lambda x: x.topk(2, 1)[0], 4),
        (lambda x: x.kthvalue(2, 1)[0], 4),
        (lambda x: x.median(1)[0], 4),
        (lambda x: x.cummax(1)[0], 4),
        (lambda x: x[x > 0], 6),
        (lambda x: x.masked_select(x > 0), 6),
        (lambda x: x[x.nonzero(as_tuple=True)], 6),
        (lambda x: x * x[0, 0].item(), 1),
        (lambda x: x if x[0, 0] > 0 else -x, 1),
        (lambda x: torch.max_pool2d(x[None], (1, 3)), 4),
        (lambda x: x.amax(1) + x.max() + x.clamp(0, 1).sum(), 0),
        (lambda x: x[0, x[0, :2].abs().clamp(max=2).to(torch.int64)], 2),
        (lambda x: x.gather(1, (x > 0).long()), 6),
        (lambda x: x * ((x > 0).int() & 1), 6),
        (lambda x: x * torch.searchsorted(X[0].sort()[0], x.detach()), 0),
        (lambda x: x * torch.unique_consecutive(x[0].detach(), return_inverse=True)[1], 2),
    ],
)
def test_what_a_path_rests_on_is_recorded(function: Callable[[Tensor], Tensor], count: int) -> None:
    trace = run(function)
    assert len(set(trace.shadows.guards)) == count  # the backward pass may ask again
    assert holds(trace)


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: torch.linalg.svdvals(x.T @ x), "aten._linalg_svd"),
        (lambda x: torch.linalg.eigvalsh(x.T @ x), "aten._linalg_eigh"),
        (lambda x: torch.linalg.eigvals(x @ x.T).abs(), "aten.linalg_eig"),
        (lambda x: torch.linalg.matrix_exp(x @ x.T), "aten.linalg_matrix_exp"),
        (lambda x: torch.linalg.det((x @ x.T).to(torch.complex128)).abs(), "aten._linalg_det.default"),
        (lambda x: x.nan_to_num() * torch.where(X > 0, x, torch.inf).nan_to_num(), "aten.nan_to_num"),
    ],
)
def test_what_no_rule_can_say_is_refused(function: Callable[[Tensor], Tensor], operation: str) -> None:
    with pytest.raises(Unsupported) as refusal:
        tracing.reverse(function, [X.clone()])
    assert refusal.value.operation == operation
