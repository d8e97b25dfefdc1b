"""Running a declared pipeline with PyTorch, and writing down every step exactly."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from diffcheck.errors import CaseFailure, Unsupported
from diffcheck.regression.declare import Regression, parameters_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of training, as exact numbers; parameters are flattened in the order of `named_parameters()`."""

    before: Numbers
    features: Numbers
    labels: Numbers
    rows: int
    stale: Numbers
    """What `.grad` held before the step; zeros for None."""
    gradient: Numbers | None
    """What `.grad` held after the step; None if some parameter had none."""
    after: Numbers


@dataclass(frozen=True, slots=True)
class Record:
    """A whole run."""

    steps: tuple[Step, ...]
    losses: Numbers
    """The loss on all of the data, after each epoch."""
    ends: tuple[Numbers, ...]
    """The parameters at the same moments."""
    start: Numbers


@contextlib.contextmanager
def seeded(seed: int, dtype: torch.dtype) -> Iterator[None]:
    """PyTorch's generator on the CPU seeded, and its default dtype set; both are put back afterwards."""
    before, state = torch.get_default_dtype(), torch.get_rng_state()
    # Not torch.manual_seed, which looks for every kind of accelerator each time.
    torch.default_generator.manual_seed(seed)
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        torch.set_rng_state(state)


def make_data(declared: Regression, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The declared features and labels.

    Raises:
        CaseFailure: They are not two tensors with a row per example.
    """
    with seeded(declared.seed, dtype):
        made: Any = declared.data()
    if not (isinstance(made, (tuple, list)) and len(made) == 2 and all(isinstance(t, Tensor) for t in made)):
        raise CaseFailure(f"data= of {declared.name!r} returns no pair of tensors, features and labels")
    features, labels = (t.detach().to(dtype) for t in made)
    if features.ndim < 1 or labels.ndim < 1 or len(features) != len(labels) or len(features) == 0:
        raise CaseFailure(
            f"data= of {declared.name!r} returns features of shape {list(features.shape)} and labels of shape "
            f"{list(labels.shape)}: both need a row per example"
        )
    if not (features.isfinite().all() and labels.isfinite().all()):
        raise CaseFailure(f"data= of {declared.name!r} returns numbers that are not finite")
    return features, labels


def make_model(declared: Regression, dtype: torch.dtype) -> nn.Module:
    """A freshly initialised network of the declared kind.

    Raises:
        CaseFailure: It is none, or has no parameters.
    """
    with seeded(declared.seed + 1, dtype):
        net: Any = declared.model()
    if not isinstance(net, nn.Module) or not any(p.requires_grad for p in net.parameters()):
        raise CaseFailure(f"model= of {declared.name!r} returns no network with parameters, but {net!r}")
    fresh: nn.Module = net.to(dtype)
    return fresh


def make_optimizer(declared: Regression, net: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """The declared optimizer over the network's parameters.

    Raises:
        Unsupported: It is not plain SGD.
    """
    optimizer = declared.optimizer(net.parameters(), lr=learning_rate)
    if not isinstance(optimizer, torch.optim.SGD):
        raise Unsupported(
            type(optimizer).__name__,
            "the closed form of an update is known for torch.optim.SGD only: it is an affine map",
        )
    for option, value in parameters_of(optimizer):
        raise Unsupported(f"SGD({option}={value!r})", "the closed form checked here is that of plain SGD, θ - lr·∇L(θ)")
    return optimizer


def parameters(net: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained, in order."""
    return [p for p in net.parameters() if p.requires_grad]


def _flat(tensors: Sequence[Tensor]) -> Numbers:
    return tuple(v for t in tensors for v in t.detach().reshape(-1).tolist())


def _gradients(trained: Sequence[nn.Parameter]) -> Numbers | None:
    gradients = [p.grad for p in trained]
    return None if any(g is None for g in gradients) else _flat([g for g in gradients if g is not None])


def train(
    declared: Regression,
    features: Tensor,
    labels: Tensor,
    *,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
) -> Record:
    """Runs the pipeline on data, in the data's dtype, and records it. It ends early once a parameter is not finite.

    Args:
        declared: The pipeline.
        features: A row per example.
        labels: Likewise.
        learning_rate: Instead of the declared one.
        batch_size: Likewise.
        epochs: Likewise.
    """
    dtype = features.dtype
    net = make_model(declared, dtype)
    rate = declared.learning_rate if learning_rate is None else learning_rate
    optimizer = make_optimizer(declared, net, rate)
    trained = parameters(net)
    steps: list[Step] = []
    losses: list[float] = []
    ends: list[Numbers] = []
    start = now = _flat(trained)
    nothing = (0.0,) * len(start)
    with seeded(declared.seed + 2, dtype):
        loader = DataLoader(
            TensorDataset(features, labels), batch_size=batch_size or declared.batch_size, shuffle=declared.shuffle
        )
        for _ in range(epochs or declared.epochs):
            for batch, targets in loader:
                before, stale = _flat(trained), _gradients(trained)
                declared.step(net, declared.loss, optimizer, batch, targets)
                now = _flat(trained)
                steps.append(
                    Step(
                        before, _flat([batch]), _flat([targets]), len(batch), stale or nothing, _gradients(trained), now
                    )
                )
                if not all(abs(v) < float("inf") for v in now):
                    return Record(tuple(steps), tuple(losses), tuple(ends), start)
            with torch.no_grad():
                losses.append(float(declared.loss(net(features), labels)))
            ends.append(_flat(trained))
    return Record(tuple(steps), tuple(losses), tuple(ends), start)
