"""diffcheck in people's own code: functions, modules, nested and keyword arguments, given inputs, opaque kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import hypothesis
import pytest
import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from torch import Tensor

import diffcheck
from diffcheck import DeclarationError, Results, Verdict, WrongDerivativeError, assert_derivatives, case, check
from diffcheck.errors import Unsupported

VECTOR = Float[Tensor, "n"]
CASE = case(lambda x: x**2, name="squared", inputs={"x": VECTOR})
THREE: Any = 3
BESIDES = 3 * 4 + 3 + 6
"""Inputs of three other layouts, and of the large size."""
X = torch.tensor([0.5, -1.25, 3.0], dtype=torch.float64)


class Scaled(torch.autograd.Function):
    """3x through NumPy, with a backward pass that is off by one part in a million."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(3 * x.detach().numpy())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return torch.from_numpy(3.000003 * grad.numpy())


class Right(Scaled):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return torch.from_numpy(3 * grad.numpy())


def verdicts(results: Results) -> dict[tuple[str, str], Verdict]:
    return {(r.mode, r.dtype): r.verdict for r in results}


def test_a_function_at_given_inputs_in_their_own_dtype():
    results = check(torch.sin, X)
    assert verdicts(results) == {("reverse", "float64"): Verdict.PROVED, ("forward", "float64"): Verdict.PROVED}
    assert {r.id for r in results} == {"sin"}
    assert all(r.inputs == 10 for r in results)
    assert verdicts(check(torch.sin, X.float(), modes="reverse")) == {("reverse", "float32"): Verdict.PROVED}


def test_a_lambda_over_a_domain():
    results = check(lambda x: x * x.sum(), inputs={"x": VECTOR}, examples=15, seed=1)
    assert verdicts(results) == {(m, d): Verdict.PROVED for m in ("reverse", "forward") for d in ("float64", "float32")}
    assert all(r.inputs == 15 + BESIDES for r in results)


def test_an_annotated_function_needs_no_domain_and_given_inputs_come_instead():
    def f(x: Annotated[VECTOR, Gt(0)]) -> VECTOR:
        return torch.log(x)

    assert all(r.verdict is Verdict.PROVED and r.inputs > 10 for r in check(f, examples=15))
    assert all(r.verdict is Verdict.PROVED and r.inputs == 10 for r in check(f, X.abs()))


def test_both_at_given_inputs_and_over_a_domain():
    (result,) = check(torch.sin, X, inputs={"x": VECTOR}, examples=15, modes="reverse", dtypes="float64")
    assert result.inputs == 10 + 15 + BESIDES


def test_a_case_with_given_inputs_is_checked_at_these_first():
    narrow = case(
        lambda x: torch.where(x == 1.5, 2 * x.detach(), x),
        name="narrow",
        inputs={"x": VECTOR},
        gradient=torch.ones_like,
    )
    point = torch.tensor([1.5], dtype=torch.float64)
    found = [r for r in check(narrow, point, modes="reverse", examples=15) if r.mode == "gradient"]
    assert [r.inputs for r in found] == [
        10 + 15 + BESIDES + 2 + 2
    ]  # where the condition changes, and a size that may be asked about


def test_nested_and_keyword_arguments_are_named_as_they_are_written():
    def model(params: dict[str, Any], x: Tensor, *, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(params["layers"][0] @ x)
        return scale * hidden, (params["bias"] * hidden).sum()

    params = {"layers": [torch.randn(2, 3).double()], "bias": torch.randn(2).double()}
    results = check(model, params, X, kwargs={"scale": 3.0})
    assert all(r.verdict is Verdict.PROVED for r in results)
    assert "params.layers.0[0,0]" in results[0].gradient
    domain = {
        "params": {"layers": [Float[Tensor, "m n"]], "bias": Float[Tensor, "m"]},
        "x": VECTOR,
    }
    assert all(r.verdict is Verdict.PROVED for r in check(model, inputs=domain, examples=15))


def test_only_what_requires_gradients_is_differentiated_if_anything_does():
    w = torch.randn(3).double().requires_grad_()
    (result,) = check(lambda x, w: (x * w).sum(), X, w, modes="reverse")
    assert result.gradient.startswith("1/2") or "∂/∂w[0] = 1/2" in result.gradient
    assert w.grad is None


def test_a_modules_parameters_are_inputs_by_name_and_its_buffers_are_not():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).double()
    before = {n: b.clone() for n, b in module.named_buffers()}
    (result,) = check(module, torch.randn(4, 3).double(), modes="reverse")
    assert result.verdict is Verdict.PROVED
    assert "0.weight" in result.gradient or "input" in result.gradient
    assert all(torch.equal(b, before[n]) for n, b in module.named_buffers())


def test_given_tensors_stay_as_they_are_and_lie_in_memory_as_they_like():
    x = torch.randn(3, 4).double().mT[::2]
    seen = []

    def f(x: Tensor) -> Tensor:
        seen.append(x.stride())
        return x**2

    kept = x.clone()
    assert all(r.verdict is Verdict.PROVED for r in check(f, x))
    assert torch.equal(x, kept)
    assert x.stride() in seen


def test_an_opaque_kernel_is_unsupported_alone_and_held_to_its_reference():
    assert verdicts(check(Right.apply, X, modes="reverse")) == {("reverse", "float64"): Verdict.UNSUPPORTED}

    def reference(x: Tensor) -> Tensor:
        return 3 * x

    for given in ((X,), ()):
        domain: dict[str, Any] = {} if given else {"inputs": {"x": VECTOR}}
        right = check(Right.apply, *given, reference=reference, modes="reverse", **domain)
        assert {r.mode for r in right} == {"value", "reverse"}
        assert all(r.verdict is Verdict.PROVED for r in right)
        wrong = verdicts(check(Scaled.apply, *given, reference=reference, modes="reverse", **domain))
        assert wrong["value", "float64"] is Verdict.PROVED
        assert wrong["reverse", "float64"] is Verdict.WRONG


def test_a_kernel_whose_value_is_another_one_is_told_apart_from_a_wrong_derivative():
    results = check(Right.apply, X, reference=lambda x: 3 * x + 1, modes="reverse")
    by_mode = {r.mode: r for r in results}
    assert by_mode["value"].verdict is Verdict.WRONG
    assert by_mode["value"].finding is not None
    assert by_mode["value"].finding.headline == "the value of y[0] is wrong"
    assert by_mode["reverse"].verdict is Verdict.PROVED


def test_what_is_wrong_is_raised_with_the_whole_message():
    with pytest.raises(WrongDerivativeError) as caught:
        assert_derivatives(Scaled.apply, X, reference=lambda x: 3 * x, modes="reverse", seed=7)
    text = str(caught.value)
    for part in ("wrong: apply, reverse, float64", "the gradient of x[0] is wrong", "input", "certified", "gap"):
        assert part in text
    assert "the same call with seed=7" in text
    assert [r.mode for r in caught.value.results] == ["reverse"]
    assert isinstance(caught.value, AssertionError)


def test_what_is_right_is_not_raised_and_strict_asks_for_proofs():
    assert_derivatives(torch.sin, X)

    def hard(x: Tensor) -> Tensor:
        return (x + 1) ** 0.3 * (x + 1) ** 0.7

    results = check(hard, X.abs(), modes="reverse")
    if results[0].verdict is Verdict.AGREES:
        with pytest.raises(WrongDerivativeError, match="only proved passes"):
            assert_derivatives(hard, X.abs(), modes="reverse", strict=True)


def test_the_same_seed_gives_the_same_results():
    def once(**options: Any) -> list[Any]:
        return [(r.max_error_bounds, r.inputs) for r in check(torch.sin, inputs={"x": VECTOR}, examples=20, **options)]

    assert once(seed=3) == once(seed=3)
    derandomized = hypothesis.settings(derandomize=True, database=None)
    assert once(settings=derandomized) == once(settings=derandomized)


def test_hypothesis_settings_say_how_many_and_an_option_says_otherwise():
    few = hypothesis.settings(max_examples=7, database=None)
    domain = {"x": VECTOR}
    assert {r.inputs for r in check(torch.sin, inputs=domain, settings=few)} == {7 + BESIDES}
    assert {r.inputs for r in check(torch.sin, inputs=domain, settings=few, examples=9)} == {9 + BESIDES}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check(THREE), "check takes a function, a module or a case, not 3 (int)"),
        (lambda: check(torch.sin, torch.tensor(3)), "no argument is a floating-point or complex tensor"),
        (lambda: check(torch.sin), "a built-in function says nothing of its arguments"),
        (lambda: check(torch.sin, X, modes="sideways"), "modes='sideways': 'sideways' is not one of reverse, forward"),
        (lambda: check(torch.sin, X, dtypes=["float8"]), "'float8' is not one of float64, float32"),
        (lambda: check(torch.add, X, X.float()), "several dtypes, torch.float32, torch.float64"),
        (lambda: check(lambda x: x, X, X), "too many positional arguments"),
        (lambda: check(torch.sin, X, gradient=torch.cos), "gradient= and assume= belong to a domain"),
        (lambda: check(CASE, inputs={"x": VECTOR}), "case 'squared' is declared already: say inputs= where it is"),
        (lambda: check(CASE, X.reshape(1, 3)), 'real (1, 3) was given, but real "n" is declared'),
        (lambda: check(CASE), None),
    ],
)
def test_calls_that_can_not_be_understood_say_why(call: Callable[[], Any], message: str | None):
    if message is None:
        assert all(r.verdict is Verdict.PROVED for r in call())
        return
    with pytest.raises(DeclarationError) as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.eye(2).to_sparse(), "sparse"),
        (torch.ones(2).to(torch.float8_e4m3fn), "inputs are judged in float64, float32, float16, bfloat16"),
    ],
)
def test_tensors_that_can_not_be_followed_are_unsupported(value: Tensor, message: str):
    with pytest.raises(Unsupported, match=message):
        check(torch.abs, value)


def test_integer_arguments_are_passed_on():
    index = torch.tensor([2, 0])
    assert all(r.verdict is Verdict.PROVED for r in check(lambda x, i: x[i] ** 2, X, index))
    domain = {"x": Float[Tensor, "3"], "i": Annotated[Int[Tensor, "k"], Gt(-1)]}
    assert all(r.verdict is Verdict.PROVED for r in check(lambda x, i: x[i % 3] ** 2, inputs=domain, examples=10))


def test_the_public_names_are_there():
    for name in diffcheck.__all__:
        assert getattr(diffcheck, name) is not None
