"""Declaring a training pipeline with a least-squares solution, once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

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

Loss = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[nn.Module, Loss, torch.optim.Optimizer, Tensor, Tensor], Any]
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

    Made by `regression`, not by hand.
    """

    name: str
    doc: str
    data: Callable[[], tuple[Tensor, Tensor]]
    """Makes features and labels, one row per example."""
    model: Callable[[], nn.Module]
    """Makes a freshly initialised network."""
    loss: Loss
    optimizer: Callable[..., torch.optim.Optimizer]
    """Called with the parameters and `lr=`."""
    learning_rate: float
    batch_size: int
    shuffle: bool
    epochs: int
    step: Step
    seed: int
    """Of PyTorch's generator, for data, initialisation and shuffling."""

    __diffcheck_case__ = True
    cost = 10
    """How much longer than a small case it runs, roughly: the command begins with what is long."""

    @property
    def signature(self) -> str:
        """The pipeline as text."""
        optimizer = getattr(self.optimizer, "__name__", "optimizer").replace("<lambda>", "optimizer")
        rate, epochs = f"learning rate {self.learning_rate:g}", _count(self.epochs, "epoch")
        return f"{optimizer}, {rate}, batches of {self.batch_size}, {epochs}"

    def show(self, *, latex: bool = False) -> str:
        """The loss, its gradient, the normal equations that follow, and the update, as text."""
        from diffcheck.regression.show import show

        return show(self, latex=latex)

    def _repr_latex_(self) -> str | None:
        """How a notebook shows it; None if it can't be worked out."""
        shown = self.show(latex=True)
        return shown if shown.startswith(r"\begin") else None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def regression(  # noqa: PLR0913 - a pipeline has that many parts
    data: Callable[[], tuple[Tensor, Tensor]],
    model: Callable[[], nn.Module],
    *,
    learning_rate: float,
    batch_size: int,
    epochs: int,
    loss: Loss | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    shuffle: bool = True,
    step: Step = training_step,
    seed: int = 0,
    name: str = "linear_regression",
    doc: str = "",
) -> Regression:
    """Declares a pipeline: nothing runs yet.

    Args:
        data: Makes features (a row per example) and labels (likewise); called under a seeded generator, and with the
            dtype under test as PyTorch's default.
        model: Makes a freshly initialised network, linear in its parameters; called likewise.
        learning_rate: What the update multiplies the gradient with.
        batch_size: How many examples a step sees; the last batch of an epoch may be smaller.
        epochs: How many times the data is gone through.
        loss: Quadratic in the network's output; `nn.MSELoss()` if nothing is said.
        optimizer: `torch.optim.SGD`, without momentum and weight decay, or something that claims to be the same.
        shuffle: Whether the `DataLoader` shuffles.
        step: The body of the training loop, if it is not the usual one.
        seed: Of PyTorch's generator.
        name: What the case is called.
        doc: What it is; its first line is a summary.

    Raises:
        DeclarationError: The declaration can't be checked; the message shows how to write it.
    """
    functions = {"data": data, "model": model, "optimizer": optimizer, "step": step}
    numbers: dict[str, Any] = {"batch_size": batch_size, "epochs": epochs}
    rate: Any = learning_rate
    for what, value in functions.items():
        if not callable(value):
            raise DeclarationError(f"regression {name!r}: {what}={value!r} is not a function.\n{_HOW}")
    if isinstance(model, nn.Module):
        raise DeclarationError(
            f"regression {name!r}: model= is a network; a run starts from a fresh one, so give a function that "
            f"makes it.\n{_HOW}"
        )
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < float("inf"):
        raise DeclarationError(f"regression {name!r}: learning_rate={rate!r} is not a positive number.\n{_HOW}")
    for what, count in numbers.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise DeclarationError(f"regression {name!r}: {what}={count!r} is not a positive whole number.\n{_HOW}")
    return Regression(
        name=name,
        doc=inspect.cleandoc(doc),
        data=data,
        model=model,
        loss=nn.MSELoss() if loss is None else loss,
        optimizer=optimizer,
        learning_rate=float(learning_rate),
        batch_size=batch_size,
        shuffle=shuffle,
        epochs=epochs,
        step=step,
        seed=seed,
    )


def parameters_of(optimizer: torch.optim.Optimizer) -> Iterable[tuple[str, Any]]:
    """The settings of an optimizer that plain SGD does not have, where they are not at rest."""
    for group in optimizer.param_groups:
        for option in ("momentum", "dampening", "weight_decay", "nesterov", "maximize"):
            if group.get(option):
                yield option, group[option]
