"""Running a declared pipeline with PyTorch, and writing down every step exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from diffcheck.errors import CaseFailure, Unsupported
from diffcheck.regression.declare import Regression

Numbers: TypeAlias = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of training, as exact numbers; parameters are flattened in the order of `named_parameters()`."""

    before: Numbers
    features: Numbers
    labels: Numbers
    rows: int
    learning_rate: float
    stale: Numbers
    """What `.grad` held before the step; zeros for None."""
    gradient: Numbers | None
    """What `.grad` held after the step; None if some parameter had none."""
    after: Numbers

    @property
    def point(self) -> Numbers:
        """What it was done with: the parameters, the batch, the learning rate, what `.grad` held."""
        return (*self.before, *self.features, *self.labels, self.learning_rate, *self.stale)


@dataclass(frozen=True, slots=True)
class Record:
    """A whole run."""

    start: Numbers
    steps: tuple[Step, ...]
    losses: Numbers
    """The loss on all of the data, after each epoch."""
    ends: tuple[Numbers, ...]
    """The parameters at the same moments."""


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
    # Not every network can be made in a half precision; each can be converted to it.
    with seeded(declared.seed + 1, dtype if dtype.itemsize > 2 else torch.float32):
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
        reason = "the closed form of an update is known for torch.optim.SGD only: it is an affine map"
        raise Unsupported(type(optimizer).__name__, reason)
    for group in optimizer.param_groups:
        for option in ("momentum", "dampening", "weight_decay", "nesterov", "maximize"):
            if group.get(option):
                reason = "the closed form checked here is that of plain SGD, θ - lr·∇L(θ)"
                raise Unsupported(f"SGD({option}={group[option]!r})", reason)
    return optimizer


def trained(net: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by short names: `weight` instead of `0.weight`, where that is unambiguous."""
    full = {name: p for name, p in net.named_parameters() if p.requires_grad}
    short = [name.rpartition(".")[2] for name in full]
    names = short if len(set(short)) == len(short) else [name.replace(".", "_") for name in full]
    return dict(zip(names, full.values(), strict=True))


def train(declared: Regression, features: Tensor, labels: Tensor) -> Record:
    """Runs the pipeline on data, in the data's dtype, and records it. It ends early once a parameter is not finite."""
    net = make_model(declared, features.dtype)
    optimizer = make_optimizer(declared, net, declared.learning_rate)
    parameters = trained(net).values()
    steps: list[Step] = []
    losses: list[float] = []
    ends: list[Numbers] = []
    start = _flat(parameters)
    if not finite(start):
        raise CaseFailure(f"model= of {declared.name!r} returns a network with parameters that are not finite")
    with seeded(declared.seed + 2, features.dtype):
        loader = DataLoader(TensorDataset(features, labels), declared.batch_size, shuffle=declared.shuffle)
        for _ in range(declared.epochs):
            for x, y in loader:
                stale = _gradients(parameters) or (0.0,) * len(start)
                point = _flat(parameters), _flat([x]), _flat([y]), len(x), declared.learning_rate, stale
                declared.step(net, declared.loss, optimizer, x, y)
                after = _flat(parameters)
                steps.append(Step(*point, _gradients(parameters), after))
                if not finite(after):
                    return Record(start, tuple(steps), tuple(losses), tuple(ends))
            with torch.no_grad():
                losses.append(float(declared.loss(net(features), labels)))
            ends.append(_flat(parameters))
    return Record(start, tuple(steps), tuple(losses), tuple(ends))


def finite(numbers: Iterable[float]) -> bool:
    """Whether none of them has left the range of its dtype."""
    return all(abs(n) < float("inf") for n in numbers)


def _flat(tensors: Iterable[Tensor]) -> Numbers:
    return tuple(v for t in tensors for v in t.detach().reshape(-1).tolist())


def _gradients(parameters: Iterable[nn.Parameter]) -> Numbers | None:
    gradients = [p.grad for p in parameters if p.grad is not None]
    return _flat(gradients) if len(gradients) == len(list(parameters)) else None
