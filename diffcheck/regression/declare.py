"""Declaring a training pipeline with a least-squares solution, once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from diffcheck.errors import DeclarationError

_HOW = """\
Write, for example:

    linear_regression = regression(
        data=lambda: synthetic_data(torch.tensor([2.0, -3.4]), 4.2, examples=1000),
        model=lambda: nn.Sequential(nn.Linear(2, 1)),
        learning_rate=0.03,
        batch_size=10,
        epochs=3,
    )"""

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Step: TypeAlias = Callable[[nn.Module, Loss, torch.optim.Optimizer, Tensor, Tensor], Any]
"""One step of training: forward pass, loss, backward pass, update."""


def training_step(
    net: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer, features: Tensor, labels: Tensor
) -> None:
    """The usual step: the gradient of this batch's loss, and nothing else, goes into the update."""
    value = loss(net(features), labels)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()


@dataclass(frozen=True, eq=False)
class Regression:
    """A declared pipeline: data, a model that is linear in its parameters, a quadratic loss, plain SGD.

    Nothing runs yet.

    Raises:
        DeclarationError: It can't be checked; the message shows how to write it.
    """

    data: Callable[[], tuple[Tensor, Tensor]]
    """Makes features and labels, a row per example; called under a seeded generator, with the dtype under test as
    PyTorch's default."""
    model: Callable[[], nn.Module]
    """Makes a freshly initialised network, linear in its parameters; called likewise."""
    _: KW_ONLY
    learning_rate: float
    """What the update multiplies the gradient with."""
    batch_size: int
    """How many examples a step sees; the last batch of an epoch may be smaller."""
    epochs: int
    """How many times the data is gone through."""
    loss: Loss = field(default_factory=nn.MSELoss)
    """Quadratic in the network's output."""
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD
    """Called with the parameters and `lr=`: plain SGD, or something that claims to be the same."""
    shuffle: bool = True
    """Whether the `DataLoader` shuffles."""
    step: Step = training_step
    """The body of the training loop, if it is not the usual one."""
    seed: int = 0
    """Of PyTorch's generator, for data, initialisation and shuffling."""
    name: str = "linear_regression"
    doc: str = ""
    """What it is; its first line is a summary."""

    __diffcheck_case__ = True
    cost = 10
    """How much longer than a small case it runs, roughly: the command begins with what is long."""

    def __post_init__(self) -> None:
        if isinstance(self.model, nn.Module):
            raise self._unusable("model= is a network; a run starts from a fresh one, so give a function that makes it")
        for what in ("data", "model", "loss", "optimizer", "step"):
            if not callable(getattr(self, what)):
                raise self._unusable(f"{what}={getattr(self, what)!r} is not a function")
        rate: Any = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < float("inf"):
            raise self._unusable(f"learning_rate={rate!r} is not a positive number")
        for what in ("batch_size", "epochs"):
            count = getattr(self, what)
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise self._unusable(f"{what}={count!r} is not a positive whole number")
        self.__dict__.update(learning_rate=float(rate), doc=inspect.cleandoc(self.doc))

    def _unusable(self, why: str) -> DeclarationError:
        return DeclarationError(f"regression {self.name!r}: {why}.\n{_HOW}")

    @property
    def signature(self) -> str:
        """The pipeline as text."""
        optimizer = getattr(self.optimizer, "__name__", "optimizer").replace("<lambda>", "optimizer")
        epochs = f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}"
        return f"{optimizer}, learning rate {self.learning_rate:g}, batches of {self.batch_size}, {epochs}"

    def show(self, *, latex: bool = False) -> str:
        """The loss, its gradient, the normal equations that follow, and the update, as text."""
        from diffcheck.regression.show import show

        return show(self, latex=latex)

    def _repr_latex_(self) -> str | None:
        """How a notebook shows it; None if it can't be worked out."""
        shown = self.show(latex=True)
        return shown if shown.startswith(r"\begin") else None


regression = linear_regression = Regression
"""What is written in a file of cases."""
