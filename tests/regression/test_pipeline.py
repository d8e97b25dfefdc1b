from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from diffcheck import DeclarationError, Verdict
from diffcheck.declare.load import collect
from diffcheck.regression import Regression, regression

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffcheck.verdict import Result

# PyTorch scripts some of its forward-mode decompositions on first use, and warns of itself.
MODES = ("reverse", "closed-form", "sgd-step", "trajectory", "end-point", "data-sets")


def test_a_small_pipeline_is_proved_in_every_mode(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]]
) -> None:
    found = results(declare())
    assert set(found) == {(m, d) for m in MODES for d in ("float64", "float32")}
    for (mode, _), result in found.items():
        assert result.verdict is Verdict.PROVED, (mode, result.reason)
        assert result.finding is None
        assert result.max_error_bounds <= 4
        assert result.id == "file.py::case"
    assert found["sgd-step", "float64"].inputs == 5


def test_the_declared_case_of_the_tutorial(results: Callable[..., dict[tuple[str, str], Result]]) -> None:
    import importlib.util
    from pathlib import Path

    file = Path(__file__).parents[2] / "cases" / "linear_regression.py"
    spec = importlib.util.spec_from_file_location("tutorial", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    declared = module.linear_regression
    assert (declared.learning_rate, declared.batch_size, declared.epochs, declared.shuffle) == (0.03, 10, 3, True)
    features, labels = declared.data()
    assert features.shape == (1000, 2)
    assert labels.shape == (1000, 1)
    found = results(declared, examples=4)
    assert {r.verdict for r in found.values()} == {Verdict.PROVED}
    assert found["sgd-step", "float64"].inputs == 300
    for dtype in ("float64", "float32"):
        losses = found["trajectory", dtype].details
        assert [line.split(",")[0] for line in losses] == ["epoch 1", "epoch 2", "epoch 3"]
        assert all(line.split()[2] == "loss" and float(line.split()[3]) < 0.001 for line in losses)


def test_its_file_is_loaded_as_a_case() -> None:
    from pathlib import Path

    loaded = collect([str(Path(__file__).parents[2] / "cases" / "linear_regression.py")])
    assert [item.id.rpartition("::")[2] for item in loaded] == ["linear_regression"]


class Polynomial(nn.Module):
    """A cubic in one feature: linear in its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x: Any) -> Any:
        return self.linear(torch.cat([x, x**2, x**3], dim=1))


class Waves(nn.Module):
    """A feature that is no rational function."""

    def __init__(self) -> None:
        super().__init__()
        self.amplitude = nn.Parameter(torch.tensor([0.5]))

    def forward(self, x: Any) -> Any:
        return self.amplitude * torch.sin(x)


class Affine(nn.Module):
    """Linear in its parameters, with something added that depends on none."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1, bias=False)

    def forward(self, x: Any) -> Any:
        return self.linear(x) + x.sum(dim=1, keepdim=True) + 1


class Centred(nn.Linear):
    """Linear in its parameters, but every row's output depends on the others."""

    def __init__(self) -> None:
        super().__init__(2, 1)

    def forward(self, x: Any) -> Any:
        return super().forward(x - x.mean(dim=0))


class Boundless(nn.Linear):
    """It starts beyond every number."""

    def __init__(self) -> None:
        super().__init__(2, 1)
        nn.init.constant_(self.bias, math.inf)


def of_shape(features: Any, labels: Any) -> Any:
    return lambda: (torch.randn(12, features), torch.randn(12, labels))


@pytest.mark.parametrize(
    "changes",
    [
        {"data": of_shape(1, 1), "model": Polynomial, "learning_rate": 0.01},
        {"data": of_shape(1, 1), "model": Waves},
        {"data": of_shape(2, 1), "model": Affine},
        {"data": of_shape(2, 2), "model": lambda: nn.Linear(2, 2)},
        {"data": of_shape(4, 1), "model": lambda: nn.Linear(4, 1)},
        {"loss": nn.MSELoss(reduction="sum"), "learning_rate": 0.004},
        {"loss": nn.MSELoss(reduction="sum"), "learning_rate": 0.004, "batch_size": 1},
        {"batch_size": 7, "shuffle": False, "epochs": 2},
        {"batch_size": 100, "learning_rate": 0.2},
        {"loss": lambda out, y: ((out - y) ** 2).mean() / 2},
    ],
    ids=[
        "polynomial",
        "sine",
        "affine",
        "two outputs",
        "five parameters",
        "sum",
        "sum of single rows",
        "uneven batches",
        "full batch",
        "halved",
    ],
)
def test_other_declarations_are_proved_too(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]], changes: Any
) -> None:
    for (mode, _), result in results(declare(**changes), examples=4).items():
        assert result.verdict is Verdict.PROVED, (mode, result.reason, result.finding)


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        (
            {"model": lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))},
            Verdict.ERROR, "not linear in its parameters",
        ),
        (
            {"model": lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))},
            Verdict.ERROR, "not linear in its parameters",
        ),
        ({"loss": lambda out, y: ((out - y) ** 4).mean()}, Verdict.ERROR, "not quadratic"),
        ({"optimizer": torch.optim.Adam}, Verdict.UNSUPPORTED, "Adam"),
        ({"optimizer": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)}, Verdict.UNSUPPORTED, "momentum=0.9"),
        (
            {"optimizer": lambda p, lr: torch.optim.SGD(p, lr=lr, weight_decay=0.1)},
            Verdict.UNSUPPORTED, "weight_decay=0.1",
        ),
        ({"data": lambda: torch.ones(3, 2)}, Verdict.ERROR, "no pair of tensors"),
        ({"data": lambda: (torch.ones(3, 2), torch.ones(4, 1))}, Verdict.ERROR, "a row per example"),
        ({"data": lambda: (torch.ones(3, 2) / 0, torch.ones(3, 1))}, Verdict.ERROR, "not finite"),
        ({"data": lambda: torch.ones(3) / torch.ones(2)}, Verdict.ERROR, "RuntimeError"),
        ({"model": nn.ReLU}, Verdict.ERROR, "no network with parameters"),
        ({"model": lambda: nn.Linear(3, 1)}, Verdict.ERROR, "RuntimeError"),
        (
            {"model": lambda: nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 1))},
            Verdict.ERROR, "more than 1 value per channel",
        ),
        ({"model": Centred}, Verdict.UNSUPPORTED, "neither the mean nor the sum"),
        ({"model": lambda: nn.Sequential(nn.Dropout(), nn.Linear(2, 1))}, Verdict.ERROR, "is random"),
        ({"model": Boundless}, Verdict.ERROR, "parameters that are not finite"),
    ],
    ids=[
        "tanh", "two layers", "quartic loss", "adam", "momentum", "weight decay", "one tensor", "rows", "infinite",
        "raises", "no parameters", "shapes", "batch norm", "rows that know each other", "dropout", "infinite start",
    ],
)  # fmt: skip
def test_what_has_no_closed_form_is_refused_and_says_why(
    declare: Callable[..., Regression],
    results: Callable[..., dict[tuple[str, str], Result]],
    changes: Any,
    verdict: Any,
    said: Any,
) -> None:
    found = results(declare(**changes))
    # Where only the update is unknown, the gradient of the loss is still checked.
    expected = {"training"} if verdict is Verdict.ERROR else {"training", "reverse"}
    assert {mode for mode, _ in found} == expected
    for (mode, _), result in found.items():
        if mode == "training":
            assert result.verdict is verdict, result.reason
            assert said in result.reason
        else:
            assert result.verdict is Verdict.PROVED


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": 0}, "learning_rate=0"),
        ({"learning_rate": True}, "learning_rate=True"),
        ({"learning_rate": math.inf}, "learning_rate=inf"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"epochs": 1.5}, "epochs=1.5"),
        ({"data": (torch.ones(3, 2), torch.ones(3, 1))}, "data="),
        ({"model": nn.Linear(2, 1)}, "model= is a network"),
        ({"model": 3}, "model=3"),
    ],
)
def test_a_declaration_that_cannot_be_checked_is_refused_at_once(
    declare: Callable[..., Regression], changes: Any, said: Any
) -> None:
    with pytest.raises(DeclarationError, match=r"(?s)Write, for example") as caught:
        declare(**changes)
    assert said in str(caught.value)


def test_rank_deficient_data_has_no_unique_solution(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]]
) -> None:
    def data() -> Any:
        column = torch.randn(20, 1)
        return torch.cat([column, 2 * column], dim=1), torch.randn(20, 1)

    found = results(declare(data=data))
    for dtype in ("float64", "float32"):
        closed = found["closed-form", dtype]
        assert closed.verdict is Verdict.UNDEFINED
        assert closed.reason == "no unique solution: the rank of the normal equations' matrix is 2, for 3 parameters"
        end = found["end-point", dtype]
        assert end.verdict is Verdict.UNDEFINED
        assert "rank 2 of 3" in end.reason
        for mode in ("reverse", "sgd-step", "trajectory", "data-sets"):
            assert found[mode, dtype].verdict is Verdict.PROVED


@pytest.mark.parametrize("batch_size", [40, 8])
def test_a_learning_rate_past_the_limit_is_divergence_and_names_the_limit(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]], batch_size: Any
) -> None:
    found = results(declare(batch_size=batch_size, learning_rate=1.9, epochs=2))
    for dtype in ("float64", "float32"):
        end = found["end-point", dtype]
        assert end.verdict is Verdict.UNDEFINED
        assert end.reason.startswith("divergence: ")
        assert "past the" in end.reason
        assert "2/λ_max = " in end.reason
        for mode in ("reverse", "sgd-step", "trajectory", "closed-form", "data-sets"):
            assert found[mode, dtype].verdict is Verdict.PROVED, found[mode, dtype].reason


def test_a_step_that_never_ends_is_stopped(declare: Callable[..., Regression], results: Callable[..., Any]) -> None:
    def step(*_: Any) -> None:
        while True:
            pass

    found = results(declare(step=step), seconds=0.5, dtypes=("float64",), modes=("reverse",))
    assert found["training", "float64"].verdict is Verdict.UNDECIDED
    assert "more than 0.5 seconds" in found["training", "float64"].reason


def test_overflow_is_no_failure_of_autograd(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]]
) -> None:
    found = results(declare(batch_size=8, learning_rate=50.0, epochs=12), dtypes=("float32",))
    assert found["sgd-step", "float32"].verdict is Verdict.PROVED
    assert found["trajectory", "float32"].verdict is Verdict.PROVED
    assert "leaves the range of float32" in found["trajectory", "float32"].details[-1]
    assert found["end-point", "float32"].reason.startswith("divergence")


def test_data_sets_tell_what_was_met(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]]
) -> None:
    result = results(declare(), examples=60)["data-sets", "float64"]
    assert result.verdict is Verdict.PROVED
    counted = {
        line.rsplit(maxsplit=1)[0].strip(): int(line.split()[-1])
        for line in result.details
        if line.split()[-1].isdigit()
    }
    assert counted["data sets"] == result.inputs >= 40
    assert counted["converging, within the bound of the end point"] > 0
    assert counted["without a unique solution"] > 0
    assert counted["divergent"] > 0
    assert any(line.startswith("first divergent: the ") and "2/λ_max" in line for line in result.details)
    assert any(line.startswith("first without a unique solution: rank ") for line in result.details)


def test_a_run_repeats_itself(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]]
) -> None:
    def stable(found: Any) -> Any:
        # The last digits of LAPACK's answers depend on the alignment of memory.
        return {
            k: (r.verdict, r.inputs, r.max_error_ulps, [d for d in r.details if "torch.linalg.lstsq" not in d])
            for k, r in found.items()
        }

    state = torch.get_rng_state()
    assert stable(results(declare())) == stable(results(declare()))
    assert torch.equal(state, torch.get_rng_state()), "a run leaves PyTorch's generator as it was"
    assert torch.get_default_dtype() is torch.float32


def test_modes_and_dtypes_are_chosen(
    declare: Callable[..., Regression], results: Callable[..., dict[tuple[str, str], Result]]
) -> None:
    assert set(results(declare(), dtypes=("float32",), modes=("reverse",))) >= {("reverse", "float32")}


def test_show(declare: Callable[..., Regression]) -> None:
    text = declare(doc="What it is.\nMore.").show()
    assert "What it is.\n" in text
    assert "(X[0,0]*weight[0,0] + X[0,1]*weight[0,1] + bias[0] - y[0,0])**2" in text
    assert "(XᵀX·θ - Xᵀy) for all data" in text
    assert text.endswith("is θ - lr·∇L for all parameters, data and learning rates: proved")
    latex = declare().show(latex=True)
    assert latex.startswith(r"\begin{align*}")
    assert r"\sum_i X_{i,0}^{2}" in latex
    refused = declare(model=lambda: nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))).show()
    assert "not linear in its parameters" in refused


def test_the_declared_object_is_what_the_command_expects() -> None:
    declared = regression(lambda: None, lambda: None, learning_rate=0.1, batch_size=2, epochs=1, name="mine", doc="Doc")
    assert declared.__diffcheck_case__ is True
    assert (declared.name, declared.doc) == ("mine", "Doc")
    assert declared.signature == "SGD, learning rate 0.1, batches of 2, 1 epoch"
