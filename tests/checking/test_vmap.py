"""Derivatives of several inputs at once, under `torch.func.vmap`: right ones, wrong ones, and what vmap can't do."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval, Lt
from jaxtyping import Float, Int
from torch import Tensor

from diffcheck import case, check
from diffcheck.checking.check import check as check_case
from diffcheck.declare.case import Case
from diffcheck.declare.load import Loaded, collect
from diffcheck.differentiate import autodiff
from diffcheck.differentiate.batch import COMPANIONS, Input, flat, stacked
from diffcheck.draw.inputs import Drawn, Layout, admits, tensors
from diffcheck.modes import MODES, SECOND_ORDER, THIRD_ORDER, order, plain, steps, under_vmap
from diffcheck.settings import Settings
from diffcheck.verdict import Mistake, Result, Verdict

VMAP = [mode for mode in MODES if under_vmap(mode)]
UP_TO_SECOND = [mode for mode in VMAP if order(mode) < 3]
VECTOR = {"x": Float[Tensor, "n"]}
MATRIX = {"x": Float[Tensor, "n m"]}


def judged(function: Callable[..., Any], mode: str = "vmap-reverse", inputs: Any = None, **options: Any) -> Result:
    """The one result."""
    asked: dict[str, Any] = {"dtypes": ["float64"], "examples": 8, "seed": 1} | options
    (result,) = check(function, inputs=inputs or VECTOR, modes=[mode], name="it", **asked)
    return result


# ---------------------------------------------------------------------------------------------------------------------
# What is right
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", UP_TO_SECOND)  # of third order: test_third_order.py
@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda x: torch.sin(x) * x.sum(), VECTOR),
        (lambda x: x.detach() * x**2, VECTOR),
        (lambda x: torch.relu(x).sum(), VECTOR),
        (lambda a, b: torch.tanh(a @ b), {"a": Float[Tensor, "n m"], "b": Float[Tensor, "m"]}),
        (lambda x: (x.sum(), x.prod()), VECTOR),
        (lambda x: F.softmax(x, -1), MATRIX),
        (F.softsign, {"x": Float[Tensor, ""]}),  # the 1 in it is a tensor there
    ],
)
def test_right_functions_are_proved(mode: str, function: Callable[..., Any], inputs: dict[str, Any]):
    result = judged(function, mode, inputs)
    assert result.verdict is Verdict.PROVED, (result.reason, result.finding)
    assert result.inputs >= 8


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_in_other_dtypes(dtype: str):
    assert judged(lambda x: F.softmax(x, 0), dtypes=[dtype]).verdict is Verdict.PROVED


def test_what_is_not_differentiated_is_the_same_for_all():
    inputs = {"x": Float[Tensor, "n m"], "i": Annotated[Int[Tensor, "k"], Ge(0), Lt("n")]}
    assert judged(lambda x, i: (x[i] ** 2).sum(0), inputs=inputs).verdict is Verdict.PROVED


def test_given_inputs_and_modules():
    assert judged(lambda x: (x * x).sum(), inputs=VECTOR).verdict is Verdict.PROVED
    (result,) = check(torch.nn.Linear(3, 2).double(), torch.randn(3).double(), modes=["vmap-reverse"])
    assert result.verdict is Verdict.PROVED


@pytest.mark.parametrize("mode", ["reverse", "forward", *SECOND_ORDER, *THIRD_ORDER])
def test_it_differentiates_as_one_after_the_other(mode: str):
    """`each_under_vmap` beside the modes without it, which run on other code of PyTorch's."""
    x = torch.tensor([[0.3, -1.2, 2.0], [1.5, 0.7, -0.4]], dtype=torch.float64)

    def function(inputs: Any) -> Tensor:
        return torch.sin(inputs[0]) * inputs[0].prod()

    def seeds(like: Any) -> list[Tensor]:
        return [torch.linspace(-1, 2, t.numel(), dtype=t.dtype).reshape(t.shape) for t in like]

    outputs, derivatives = autodiff.each_under_vmap(steps(mode), function, [x], [seeds] * order(mode))
    for i in range(2):

        def own(like: Any, i: int = i) -> list[Tensor]:
            return [seed[i] for seed in seeds([t.expand(2, *t.shape) for t in like])]

        alone: Any
        if mode == "reverse":
            alone = autodiff.reverse(function, [x[i].clone()], own)
        elif mode == "forward":
            alone = autodiff.forward(function, [x[i].clone()], own([x[i]]))
        else:
            alone = autodiff.nested(steps(mode), function, [x[i].clone()], [own] * order(mode))
        assert torch.equal(outputs[0][i], alone[0][0])
        for batched, single in zip(derivatives, alone[1], strict=True):
            # Terms of a derivative of a derivative cancel: what is rounded is as large as the largest of them.
            torch.testing.assert_close(batched[i], single, rtol=0, atol=1e-14 * max(1.0, float(single.abs().max())))


# ---------------------------------------------------------------------------------------------------------------------
# What is wrong
# ---------------------------------------------------------------------------------------------------------------------


class Cube(torch.autograd.Function):
    """A backward pass with a factor of 2 in place of 3."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Any) -> Any:
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x**2 * grad


class Scaled(torch.autograd.Function):
    """grad · 2x, whose rule for a batch is told what to do with the first axis."""

    rule: Callable[[Any, Any], Any] = staticmethod(lambda x, grad: 2 * x * grad)

    @staticmethod
    def forward(x: Any, grad: Any) -> Any:
        return 2 * x * grad

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @classmethod
    def vmap(cls, _info: Any, _dims: Any, x: Any, grad: Any) -> Any:
        return cls.rule(x, grad), 0


def square(rule: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """x² with the right backward pass for one input, and another one for a batch."""

    class Backward(Scaled):
        pass

    Backward.rule = staticmethod(rule)

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(x: Any) -> Any:
            return x * x

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return Backward.apply(ctx.saved_tensors[0], grad)

        @staticmethod
        def vmap(_info: Any, _dims: Any, x: Any) -> Any:
            return Square.apply(x), 0

    return Square.apply


def test_a_wrong_backward_pass_is_wrong_under_vmap_too():
    result = judged(Cube.apply)
    assert result.verdict is Verdict.WRONG
    finding = result.finding
    assert finding.headline == "under vmap, the gradient of x[0, 0] is wrong"
    assert finding.diagnosis.name is Mistake.FACTOR
    assert "2/3 times the derivative" in finding.diagnosis.explanation
    assert finding.inputs[0].shape == (2, 1)
    assert "the first axis is that of the batch: two inputs, differentiated at once" in finding.notes


def test_a_wrong_double_backward():
    result = judged(Cube.apply, "vmap-reverse-over-reverse")
    assert result.verdict is Verdict.WRONG
    assert result.finding.headline.startswith("under vmap, the gradient of the gradient, for x[0, 0]")


@pytest.mark.parametrize(
    ("rule", "formula"),
    [
        (lambda x, grad: 2 * x.flip(0) * grad, "2*dy[0,0]*x[1,0]"),  # another input's
        (lambda x, grad: (2 * x * grad).sum(0).expand(x.shape), "2*dy[0,0]*x[0,0] + 2*dy[1,0]*x[1,0]"),  # the sum
        (lambda x, grad: 2 * x[:1] * grad, None),  # the first one's
        (lambda x, grad: 2 * x * grad.mean(0), "2*x[0,0]*(dy[0,0]/2 + dy[1,0]/2)"),
    ],
)
def test_inputs_that_are_mixed_up_are_found_under_vmap_only(rule: Callable[..., Any], formula: str | None):
    function = square(rule)
    assert judged(square(lambda x, grad: 2 * x * grad)).verdict is Verdict.PROVED
    assert judged(function, "reverse").verdict is Verdict.PROVED
    result = judged(function)
    assert result.verdict is Verdict.WRONG
    if formula is not None:
        assert result.finding.autograd_formula == formula


# ---------------------------------------------------------------------------------------------------------------------
# What vmap can't do
# ---------------------------------------------------------------------------------------------------------------------


class Old(torch.autograd.Function):
    """A Function in the style before torch.func."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return 2 * ctx.saved_tensors[0] * grad


class Unruly(Cube):
    """One that says nothing of vmap."""

    generate_vmap_rule = False


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x * 2 if x.sum() > 0 else x * 3, "data-dependent control flow"),
        (lambda x: x * x.sum().item(), "vmap over calling .item()"),
        (lambda x: x * torch.rand(x.shape, dtype=x.dtype), "random operation"),
        (Old.apply, "setup_context"),
        (lambda x: x.expand(1, 1, 1, -1).to(memory_format=torch.channels_last), "to use channels_last format"),
        (Unruly.apply, "does not have vmap support"),
    ],
)
def test_what_vmap_can_not_do_is_not_available_in_pytorchs_words(function: Callable[..., Any], words: str):
    result = judged(function)
    assert result.verdict is Verdict.NOT_AVAILABLE, result
    assert result.reason.startswith("vmap-reverse mode: ")
    assert words in result.reason


def test_what_a_function_raises_itself_is_its_error():
    def raising(x: Tensor) -> Tensor:
        raise KeyError("no such thing")

    assert judged(raising).verdict is Verdict.ERROR


# ---------------------------------------------------------------------------------------------------------------------
# The other input
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "assume", "companion"),
    [
        ({"x": Float[Tensor, "n"]}, None, (2.25, 0.75, 1.5)),  # rolled, and three quarters
        ({"x": Annotated[Float[Tensor, "n"], Gt(0)]}, lambda x: (x[1:] > x[:-1]).all(), (0.75, 1.5, 2.25)),
        ({"x": Annotated[Float[Tensor, "n"], Interval(ge=1, le=3)]}, None, (3.0, 1.0, 2.0)),
        ({"x": Annotated[Float[Tensor, "n"], Ge(1)]}, lambda x: (x[1:] > x[:-1]).all(), (1.0, 2.0, 3.0)),
    ],
)
def test_it_is_another_one_of_the_domain_where_that_can_be_made(inputs: Any, assume: Any, companion: tuple[float, ...]):
    it = case(lambda x: x.sum(), name="it", inputs=inputs, assume=assume)
    drawn = Drawn({"x": (3,)}, {"x": (1.0, 2.0, 3.0)}, (1.0,), Layout.STRIDED)
    values = tensors(drawn, it.arguments, torch.float64)
    both = stacked(it, Input(drawn, values, flat([values["x"]])), COMPANIONS)
    assert both.entries == [1.0, 2.0, 3.0, *companion]
    assert not both.values["x"].is_contiguous()
    assert admits(it.arguments, {"x": (3,)}, {"x": both.values["x"][1]}, assume)


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------

FILE = """
import torch
from jaxtyping import Float
from torch import Tensor
from diffcheck import case

class Sine(torch.autograd.Function):
    generate_vmap_rule = True
    @staticmethod
    def forward(x):
        return torch.sin(x)
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
    @staticmethod
    def backward(ctx, grad):
        return ctx.saved_tensors[0].cos() * grad * 1.5
    @staticmethod
    def jvp(ctx, tangent):
        return 0 * tangent

@case
def sine(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    return Sine.apply(x)
"""


@pytest.mark.parametrize("mode", ["vmap-reverse", "vmap-forward"])
def test_the_script_of_a_finding_shows_it(mode: str, tmp_path: Path):
    file = tmp_path / "sine.py"
    file.write_text(FILE)
    (item,) = collect([str(file)])
    assert isinstance(item, Loaded)
    assert isinstance(item.case, Case)
    settings = Settings(modes=(mode,), dtypes=("float64",), examples=15, seed=1, database=False)
    results = list(check_case(item.case, settings, case_id="sine", location=f"{file}::sine"))
    (result,) = results
    assert result.verdict is Verdict.WRONG, result
    assert f"--mode {mode} " in result.finding.replay
    ran = subprocess.run([sys.executable, "-c", result.finding.repro], capture_output=True, text=True, check=True)
    first, second = ran.stdout.splitlines()
    assert first.split() == ["PyTorch", repr(result.finding.autograd)]
    assert math.isclose(float(second.split()[1]), result.finding.certified_float, rel_tol=1e-15)


def test_every_mode_has_one_under_vmap():
    assert [plain(mode) for mode in VMAP] == [mode for mode in MODES if not under_vmap(mode)]
