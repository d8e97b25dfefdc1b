"""float16 and bfloat16: what is right, what is wrong on purpose, and what the range of float16 does to either."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import mpmath
import pytest
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from diffcheck import check
from diffcheck.algebra.expr import call, symbol
from diffcheck.certify.certifier import Certifier
from diffcheck.certify.formats import MANTISSA_BITS, format_of
from diffcheck.certify.judgement import Outcome
from diffcheck.verdict import Mistake, Result, Verdict

HALVES = ("float16", "bfloat16")
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
VECTOR = {"x": Float[Tensor, "n"]}
MATRIX = {"x": Float[Tensor, "n m"]}
POSITIVE = {"x": Annotated[Float[Tensor, "n"], Gt(0)]}
TWO = {"a": Float[Tensor, "n m"], "b": Float[Tensor, "m k"]}

half = pytest.mark.parametrize("dtype", HALVES)


def judged(function: Callable[..., Any], dtype: str, inputs: Mapping[str, Any], **options: Any) -> Result:
    """In reverse mode unless others are asked for: the first result."""
    asked: dict[str, Any] = {"modes": ("reverse",), "examples": 25, "seed": 1, "dtypes": [dtype]} | options
    return next(iter(check(function, inputs=inputs, name="it", **asked)))


# ---------------------------------------------------------------------------------------------------------------------
# What is right
# ---------------------------------------------------------------------------------------------------------------------

RIGHT: dict[str, tuple[Callable[..., Any], Mapping[str, Any]]] = {
    "cube": (lambda x: x**3, VECTOR),
    "softmax": (lambda x: F.softmax(x, 0), VECTOR),
    "logsumexp": (lambda x: x.logsumexp(0), VECTOR),
    "tanh": (torch.tanh, VECTOR),
    "gelu": (F.gelu, VECTOR),
    "matmul": (lambda a, b: a @ b, TWO),
    "layer_norm": (lambda x: F.layer_norm(x, x.shape[-1:]), MATRIX),
    "maximum": (lambda x: x.amax(), VECTOR),
    "where": (lambda x: torch.where(x * x > 2 * x, x.sin(), x.cos()), VECTOR),
    "reciprocal": (lambda x: 1 / x, {"x": Annotated[Float[Tensor, "n"], Gt(0.01), Lt(100)]}),
    "in_float32": (lambda x: (x.float() ** 2).mean().log1p(), VECTOR),
}


@pytest.mark.parametrize(
    ("name", "mode", "dtype"),
    [
        (name, mode, dtype)
        for name in RIGHT
        for mode in ("reverse", "forward")
        for dtype in HALVES
        # PyTorch's own formula overflows there, as in `test_a_right_formula_that_leaves_the_range`.
        if (name, mode, dtype) != ("layer_norm", "forward", "float16")
    ],
)
def test_what_is_right_is_proved(name: str, mode: str, dtype: str):
    result = judged(RIGHT[name][0], dtype, RIGHT[name][1], modes=(mode,))
    assert result.verdict is Verdict.PROVED, result
    assert result.inputs > result.undefined


@half
@pytest.mark.parametrize("mode", ["reverse-over-reverse", "forward-over-reverse"])
def test_second_order(mode: str, dtype: str):
    assert judged(lambda x: (x * x.sin()).sum(), dtype, VECTOR, modes=(mode,)).verdict is Verdict.PROVED


@half
def test_given_inputs_keep_their_dtype(dtype: str):
    x = torch.tensor([0.1, -2.5, 3.0], dtype=DTYPES[dtype])
    for result in check(torch.sin, x):
        assert (result.dtype, result.verdict) == (dtype, Verdict.PROVED)


def test_they_are_not_checked_unless_they_are_asked_for():
    assert [r.dtype for r in check(torch.sin, inputs=VECTOR, examples=3, modes=("reverse",))] == ["float64", "float32"]


@half
@given(data=st.data())
def test_one_rounding_or_one_after_each_operation(dtype: str, data: st.DataObject):
    """Kernels compute in float32 and round once, or round after each operation: both are within the bound."""
    kind = DTYPES[dtype]
    x, g = (
        torch.tensor(data.draw(st.floats(-8, 8, width=16).filter(lambda v: abs(v) > 2**-6)), dtype=kind).item()
        for _ in range(2)
    )
    # The gradient of tanh(x)², and as it is computed.
    symbol_x, symbol_g = symbol("x"), symbol("g")
    tanh = call("tanh", symbol_x)
    formula = symbol_g * (2 * tanh) * (1 - tanh * tanh)
    with mpmath.workdps(60):
        true = g * 2 * mpmath.tanh(x) / mpmath.cosh(x) ** 2
    once = torch.tensor(float(true), dtype=torch.float64).to(kind).item()

    def rounded(value: float) -> float:
        return torch.tensor(value, dtype=torch.float64).to(kind).item()

    t = rounded(math.tanh(x))
    each = rounded(rounded(g * rounded(2 * t)) * rounded(1 - rounded(t * t)))
    certifier = Certifier(["x", "g"], [formula], [formula], format_of(kind))
    assert not certifier.judge([x, g], [once]).failures
    assert all(v.outcome is Outcome.INACCURATE for v in certifier.judge([x, g], [each]).failures.values())
    # Eight units in the last place are more than rounding does where nothing cancels.
    if abs(x) < 0.5:
        assert not certifier.judge([x, g], [each]).failures
        off = once * (1 + 64 * 2.0 ** -MANTISSA_BITS[kind])
        assert certifier.judge([x, g], [off]).failures[0].outcome is Outcome.WRONG


def test_a_place_that_rounding_takes_between_other_points():
    """(1 - 0.000284)·5/2 - 1/2 is 1.9993, and 2 in bfloat16: the kernel interpolates between the next two rows."""
    image = (torch.arange(25, dtype=torch.bfloat16) ** 2 % 17).view(1, 1, 5, 5)
    place = torch.tensor([[[[-0.46484375, -0.00028419]]]], dtype=torch.bfloat16)
    (result,) = check(lambda g: F.grid_sample(image, g, align_corners=False), place, modes="reverse")
    assert result.verdict is Verdict.PROVED


# ---------------------------------------------------------------------------------------------------------------------
# What is wrong
# ---------------------------------------------------------------------------------------------------------------------


def custom(forward: Callable[[Tensor], Tensor], backward: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    """A function with a backward pass of its own."""

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return forward(x)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return backward(ctx.saved_tensors[0], grad)

    return Custom.apply


WRONG: dict[str, tuple[Callable[..., Any], Mistake | None]] = {
    "factor": (custom(lambda x: x**3, lambda x, g: 2 * x * x * g), Mistake.FACTOR),
    "sign": (custom(torch.cos, lambda x, g: x.sin() * g), Mistake.SIGN),
    "a tenth": (custom(torch.exp, lambda x, g: 1.1 * x.exp() * g), Mistake.FACTOR),
    "upstream ignored": (custom(torch.sin, lambda x, _: x.cos()), Mistake.IGNORED),
    "missing term": (custom(lambda x: x * x + x, lambda x, g: 2 * x * g), Mistake.MISSING_TERM),
    "other selector": (custom(F.relu, lambda x, g: g * (x > 1)), None),
}


@half
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str, dtype: str):
    function, mistake = WRONG[name]
    result = judged(function, dtype, VECTOR)
    assert result.verdict is Verdict.WRONG, result
    assert result.finding.headline.startswith("the gradient of x")
    if mistake is not None:
        assert result.finding.diagnosis.name is mistake
    for value in (*result.finding.inputs, *result.finding.cotangents):
        assert value.dtype == dtype
        assert torch.equal(
            torch.tensor(value.entries, dtype=torch.float64),
            torch.tensor(value.entries, dtype=DTYPES[dtype]).double(),
        )


def test_an_error_below_the_rounding_of_the_dtype_is_not_proved():
    """A factor of 1.001 is nothing in bfloat16, and 16 units of float32: the formula is another one all the same."""
    function = custom(torch.sin, lambda x, g: 1.001 * x.cos() * g)
    result = judged(function, "bfloat16", VECTOR)
    assert result.verdict is Verdict.AGREES
    assert "another one than the reference, by less than rounding" in result.reason
    assert judged(function, "float32", VECTOR).verdict is Verdict.WRONG


def test_digits_that_are_lost_on_the_way():
    """Right, and by way of a difference that leaves no digit."""
    way_around = custom(torch.sin, lambda x, g: ((x.cos() + 1000) - 1000) * g)
    for dtype in HALVES:
        result = judged(way_around, dtype, VECTOR)
        assert result.verdict is Verdict.INACCURATE, result
        assert "loses digits" in result.finding.headline


# ---------------------------------------------------------------------------------------------------------------------
# The range of float16
# ---------------------------------------------------------------------------------------------------------------------


def test_a_right_formula_that_leaves_the_range():
    """1/√ε³ is beyond 65504 for ε = 1e-5: PyTorch gives NaN, and not a wrong derivative."""
    result = judged(lambda x: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5), "float16", MATRIX)
    assert result.verdict is Verdict.INACCURATE
    assert "leaves the range of its dtype" in result.finding.headline
    assert result.finding.diagnosis.name is Mistake.OVERFLOW
    assert "is beyond the range of float16" in result.finding.diagnosis.explanation
    assert "PyTorch's value is nan where the derivative is finite" in result.finding.notes


def test_a_wrong_formula_that_leaves_the_range_is_wrong():
    function = custom(lambda x: x, lambda x, g: 2 * g * (x * 60000) / (x * 60000))
    assert judged(function, "float16", POSITIVE).verdict is Verdict.WRONG


def test_what_the_formula_itself_can_not_hold_is_left_out():
    """exp(x) is beyond 65504 from x = 11.1: there the function has no value in float16."""
    result = judged(lambda x: x.exp() / x.exp().sum(), "float16", VECTOR)
    assert result.verdict is Verdict.PROVED
    assert result.out_of_range > 0


def test_nothing_but_such_inputs_has_not_passed():
    result = judged(lambda x: (x * x) / (x * x), "float16", {"x": Annotated[Float[Tensor, "n"], Ge(1000)]})
    assert result.verdict is Verdict.UNDEFINED


def test_a_derivative_that_underflows_to_zero_is_right():
    tiny = {"x": Annotated[Float[Tensor, "n"], Ge(2), Le(16)]}  # beyond it x³ overflows: 0 times infinity
    assert judged(lambda x: torch.exp(-(x**3)), "float16", tiny).verdict is Verdict.PROVED


def test_what_leaves_the_range_on_the_way_is_inaccurate_and_not_wrong():
    """The square of 0.001 is no float16 to speak of, while a small cotangent times its reciprocal is."""
    result = judged(lambda x: 1 / x, "float16", {"x": Annotated[Float[Tensor, "n"], Gt(0)]})
    assert result.verdict is Verdict.INACCURATE
    assert "beyond the range of float16" in str(result.finding)


# ---------------------------------------------------------------------------------------------------------------------
# What PyTorch does not implement
# ---------------------------------------------------------------------------------------------------------------------


@half
def test_what_pytorch_does_not_implement_is_not_available_in_its_words(dtype: str):
    name = {"float16": "Half", "bfloat16": "BFloat16"}[dtype]
    for function, words in (
        (
            lambda x: torch.linalg.inv(x @ x.mT + 1),
            f"{dtype}: linalg.inv: Low precision dtypes not supported. Got {name}",
        ),
        (lambda x: torch.linalg.qr(x)[1], f"{dtype}: \"geqrf_cpu\" not implemented for '{name}'"),
        (lambda x: torch.fft.fft(x).abs(), f"{dtype}: Unsupported dtype {name}"),
    ):
        result = judged(function, dtype, MATRIX)
        assert (result.verdict, result.reason) == (Verdict.NOT_AVAILABLE, f"{words} (asked for by name)")


@half
def test_a_function_that_accepts_no_half_has_an_error_of_its_own(dtype: str):
    result = judged(lambda x: x @ torch.ones(x.shape[0]), dtype, VECTOR)
    assert result.verdict is Verdict.ERROR
    assert "same dtype" in result.reason
