"""Pipelines that are wrong on purpose: each is caught, and the message names what is off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from diffcheck import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffcheck.regression import Regression
    from diffcheck.verdict import Result


class Off(torch.autograd.Function):
    """xw, with a gradient in w that is off by one part in 10¹⁰."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any) -> Any:
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        x, weight = ctx.saved_tensors
        return gradient @ weight, (1 + 1e-10) * (gradient.T @ x)


class OffLinear(nn.Linear):
    def forward(self, x: Any) -> Any:
        return Off.apply(x, self.weight) + self.bias


def step_without_zero_grad(net: Any, loss: Any, optimizer: Any, x: Any, y: Any) -> Any:
    loss(net(x), y).backward()
    optimizer.step()


def step_that_sums(net: Any, _loss: Any, optimizer: Any, x: Any, y: Any) -> Any:
    value = ((net(x) - y) ** 2).sum()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()


def step_with_a_sign(net: Any, loss: Any, optimizer: Any, x: Any, y: Any) -> Any:
    value = -loss(net(x), y)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()


def step_that_clips(net: Any, loss: Any, optimizer: Any, x: Any, y: Any) -> Any:
    value = loss(net(x), y)
    optimizer.zero_grad()
    value.backward()
    for parameter in net.parameters():
        parameter.grad.clamp_(-0.5, 0.5)
    optimizer.step()


class Decaying(torch.optim.SGD):
    """Plain SGD by its settings, and yet the weights decay."""

    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.mul_(1 - 1e-9)


def wrong_rate(parameters: Any, lr: float) -> Any:  # that it is not used is the mistake
    return torch.optim.SGD(parameters, lr=0.03000001)


@pytest.mark.parametrize(
    ("changes", "headline", "notes"),
    [
        ({"model": lambda: OffLinear(2, 1)}, "step 1: the gradient of weight[0,", "is 1.0000000001"),
        (
            {"optimizer": wrong_rate},
            "step 1: the gradient is right, the learning rate is not: the update used 0.03000001 where 0.03",
            "1.000000333 times the declared one",
        ),
        (
            {"step": step_that_sums},
            "step 1: the gradient is 8 times that of the declared loss: the loss is a sum over the batch's 8 rows",
            ".grad: ",
        ),
        (
            {"step": step_without_zero_grad},
            "step 2: gradients accumulate: .grad holds the sum of the last 2 batches' gradients; zero_grad() is",
            "∇L of this batch: ",
        ),
        ({"step": step_with_a_sign}, "step 1: the gradient is -1 times that of the declared loss", ".grad: "),
        ({"step": step_that_clips}, "step 1: the gradient of ", ".grad: "),
        ({"optimizer": Decaying}, "step 1: the gradient is right, the update is not θ - lr·∇L", "moved by"),
    ],
    ids=["backward", "learning rate", "sum", "zero_grad", "sign", "clipping", "decay"],
)
def test_a_wrong_step_is_caught_and_named(
    declare: Callable[..., Regression],
    results: Callable[..., dict[tuple[str, str], Result]],
    changes: Any,
    headline: Any,
    notes: Any,
) -> None:
    found = results(declare(**changes), dtypes=("float64",))
    result = found["sgd-step", "float64"]
    assert result.verdict is Verdict.WRONG
    finding = result.finding
    assert finding.headline.startswith(headline)
    assert any(notes in note for note in finding.notes), finding.notes
    assert finding.bounds > 1e3
    assert finding.argument in {"weight", "bias"}
    assert [v.name for v in finding.inputs] == ["weight", "bias", "X", "y", "lr"]
    assert finding.autograd_formula != finding.reference_formula
    assert "formula of" not in finding.autograd_formula
    assert finding.replay == "diffcheck run file.py::case --mode reverse --dtype float64 --examples 8 --seed 7"
    assert "steps are not the closed-form update" in result.reason
    # What is declared is right, and so is its closed form.
    assert found["closed-form", "float64"].verdict is Verdict.PROVED
    for mode in ("trajectory", "data-sets"):
        assert found[mode, "float64"].verdict is Verdict.WRONG
    if notes == "∇L of this batch: ":
        assert "gradients accumulate" in found["data-sets", "float64"].finding.headline
    for mode in ("trajectory", "end-point", "data-sets"):
        assert found[mode, "float64"].verdict is not Verdict.PROVED


def test_an_optimizer_that_is_wrong_at_one_learning_rate_only(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]]
) -> None:
    def optimizer(parameters: Any, lr: Any) -> Any:
        return torch.optim.SGD(parameters, lr=0.03000001 if lr == 0.03 else lr)

    found = results(declare(optimizer=optimizer), dtypes=("float64",))
    assert found["sgd-step", "float64"].verdict is Verdict.WRONG
    assert "0.03000001 where 0.03 is declared" in found["sgd-step", "float64"].finding.headline


def test_the_finding_can_be_recomputed_by_hand(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]]
) -> None:
    from fractions import Fraction

    finding = results(declare(optimizer=wrong_rate), dtypes=("float64",))["sgd-step", "float64"].finding
    values = {v.name: [Fraction(e) for e in v.entries] for v in finding.inputs}
    (w0, w1), (b,), x, y, (rate,) = (values[n] for n in ("weight", "bias", "X", "y", "lr"))
    rows = len(y)
    residuals = [w0 * x[2 * i] + w1 * x[2 * i + 1] + b - y[i] for i in range(rows)]
    gradients = {
        ("weight", (0, 0)): sum(r * x[2 * i] for i, r in enumerate(residuals)),
        ("weight", (0, 1)): sum(r * x[2 * i + 1] for i, r in enumerate(residuals)),
        ("bias", (0,)): sum(residuals),
    }
    before = {("weight", (0, 0)): w0, ("weight", (0, 1)): w1, ("bias", (0,)): b}
    place = (finding.argument, finding.index)
    true = before[place] - rate * gradients[place] * 2 / rows
    assert abs(Fraction(finding.certified) - true) < Fraction(1, 10**25)
    assert Fraction(finding.autograd) != true
    assert finding.certified_float == float(true)


def test_a_wrong_backward_is_found_in_the_gradient_too(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]]
) -> None:
    found = results(declare(model=lambda: OffLinear(2, 1)), dtypes=("float64",), modes=("reverse",))
    result = found["reverse", "float64"]
    assert result.verdict is Verdict.WRONG
    assert result.finding.argument == "weight"


def test_parameters_changed_between_the_steps_leave_the_trajectory(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]]
) -> None:
    count: dict[str, bool] = {}

    def step(net: Any, loss: Any, optimizer: Any, x: Any, y: Any) -> Any:
        # The change comes before the forward pass, yet outside of what a step is: θ is read before and after.
        value = loss(net(x), y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    class Meddling:
        """A loss that, evaluated without gradients after an epoch, meddles with the parameters."""

        def __init__(self) -> None:
            self.loss = nn.MSELoss()
            self.net: Any = None

        def __call__(self, output: Any, labels: Any) -> Any:
            value = self.loss(output, labels)
            if not torch.is_grad_enabled() and self.net is not None:
                next(self.net.parameters()).data[0, 0] += 1e-9
                count["meddled"] = True
            return value

    meddling = Meddling()

    def model() -> Any:
        meddling.net = nn.Linear(2, 1)
        return meddling.net

    found = results(declare(step=step, loss=meddling, model=model, epochs=2), dtypes=("float64",))
    assert count["meddled"]
    result = found["trajectory", "float64"]
    assert result.verdict is Verdict.WRONG
    assert (
        result.finding.headline == "after step 6, weight[0,0] is not what the product of the steps' affine maps gives"
    )
    assert result.finding.notes == ("something other than a step changed the parameters before step 6",)


def test_a_printed_loss_that_is_not_the_loss(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]]
) -> None:
    def loss(output: Any, labels: Any) -> Any:
        value = ((output - labels) ** 2).mean()
        return value if torch.is_grad_enabled() else value * (1 + 1e-12)

    result = results(declare(loss=loss), dtypes=("float64",))["trajectory", "float64"]
    assert result.verdict is Verdict.WRONG
    assert result.finding.headline == "the loss on all of the data after epoch 1 is wrong"
    assert result.finding.argument == "loss"


def test_data_sets_find_what_the_declared_data_hides(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]]
) -> None:
    # The clipping never bites on the declared data, whose gradients are small.
    def step(net: Any, loss: Any, optimizer: Any, x: Any, y: Any) -> Any:
        value = loss(net(x), y)
        optimizer.zero_grad()
        value.backward()
        for parameter in net.parameters():
            parameter.grad.clamp_(-2.0, 2.0)
        optimizer.step()

    def data() -> Any:
        return 0.1 * torch.randn(20, 2), 0.1 * torch.randn(20, 1)

    found = results(declare(step=step, data=data), dtypes=("float64",), examples=40)
    assert found["sgd-step", "float64"].verdict is Verdict.AGREES
    result = found["data-sets", "float64"]
    assert result.verdict is Verdict.WRONG
    assert "the smallest data set: X = " in result.reason
    # Shrunk: two rows, one of them nothing but zeros.
    (features,) = (v for v in result.finding.inputs if v.name == "X")
    assert len(features.entries) <= 4
