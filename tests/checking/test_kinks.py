"""Points at which the formula does not say what the derivative is: each kind with its right values, derived by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo  # what forward mode imports at its first use takes seconds
from torch import Tensor

from diffcheck import check
from diffcheck.verdict import Result, Verdict


def at(function: Callable[..., Any], *values: Any, mode: str = "reverse", dtype: str = "float64") -> Result:
    inputs = [torch.tensor(v, dtype=getattr(torch, dtype)) for v in values]
    (result,) = check(function, *inputs, modes=mode, dtypes=dtype, seed=1)
    return result


def with_backward(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx, grad):
            return backward(grad, *ctx.saved_tensors)

    return lambda *inputs: Function.apply(*inputs)


def masked_mean(x: Tensor) -> Tensor:
    keep = (x > 0).to(x.dtype)
    return torch.where(keep.sum() > 0, (x * keep).sum() / keep.sum(), 0.0)


def masked_mean_guarded(x: Tensor) -> Tensor:
    keep = (x > 0).to(x.dtype)
    return (x * keep).sum() / keep.sum().clamp(min=1)


def root_where_positive(x: Tensor) -> Tensor:
    return torch.where(x > 0, x.sqrt(), 0.0)


def root_where_positive_guarded(x: Tensor) -> Tensor:
    return torch.where(x > 0, torch.where(x > 0, x, 1.0).sqrt(), 0.0)


def guarded(quotient: Callable[[Tensor], Tensor], limit: float) -> Callable[[Tensor], Tensor]:
    """A quotient that is 0/0 at 0, and says its value there: its derivative there is then 0 to autograd."""
    return lambda x: torch.where(x == 0, limit, quotient(torch.where(x == 0, 1.0, x)))


def matern(x: Tensor) -> Tensor:
    d = (x[:, None] - x[None]).square().sum(-1).sqrt()
    return (1 + d) * torch.exp(-d)


EXISTS: list[tuple[str, Callable[[Tensor], Tensor], list[Any], float]] = [
    ("0/0 where nothing is selected", masked_mean, [-1.0, -2.0], 0.0),
    ("a root of what is not selected", root_where_positive, [-1.0], 0.0),
    ("sin(x)/x", lambda x: torch.where(x == 0, 1.0, x.sin() / x), [0.0], 0.0),
    ("expm1(x)/x", guarded(lambda x: x.expm1() / x, 1.0), [0.0], 1 / 2),
    ("log1p(x)/x", guarded(lambda x: x.log1p() / x, 1.0), [0.0], -1 / 2),
    ("x root x", lambda x: x * x.sqrt(), [0.0], 0.0),
    ("root of x**4", lambda x: (x**4).sqrt(), [0.0], 0.0),
    ("root of what a mask switches off", lambda x: ((x > 0) * x).sqrt(), [-1.0], 0.0),
    ("x in two parts", lambda x: x.relu() - (-x).relu(), [0.0], 1.0),
    # its diagonal is 1 whatever x is, and off it d/dx (1 + d)·exp(-d) = -(x - y)·exp(-d); of the sum: 0 by symmetry
    ("distances of points to themselves", lambda x: matern(x).sum(), [[0.5], [-0.25]], -2 * 0.75 * math.exp(-0.75)),
]


@pytest.mark.parametrize(("function", "values", "true"), [row[1:] for row in EXISTS], ids=[row[0] for row in EXISTS])
def test_another_value_where_the_derivative_exists_is_wrong(
    function: Callable[[Tensor], Tensor], values: list[Any], true: float
):
    result = at(function, values)
    assert result.verdict is Verdict.WRONG
    assert result.kinks == 0
    finding = result.finding
    (cotangent,) = finding.cotangents
    scale = cotangent.entries[-1] if len(cotangent.entries) == 1 else 1.0
    if len(values) == 1 or true == 0.0 or not cotangent.shape:
        assert finding.certified_float == pytest.approx(true * scale, rel=1e-15)


RIGHT: list[tuple[str, Callable[..., Tensor], list[Any]]] = [
    ("masked mean, guarded", masked_mean_guarded, [-1.0, -2.0]),
    ("root, guarded twice", root_where_positive_guarded, [-1.0, 4.0]),
    ("(1 - cos x)/x², guarded", guarded(lambda x: (1 - x.cos()) / x**2, 0.5), [0.0]),  # it is even: 0 is right
    ("x**1.5", lambda x: x**1.5, [0.0]),
    ("huber at its corners", lambda x: torch.nn.functional.huber_loss(x, torch.zeros_like(x)), [1.0, -1.0]),
    ("x·|x|", lambda x: x * x.abs(), [0.0]),
]


@pytest.mark.parametrize(("function", "values"), [row[1:] for row in RIGHT], ids=[row[0] for row in RIGHT])
def test_its_right_twin_is_compared(function: Callable[..., Tensor], values: list[Any]):
    for mode in ("reverse", "forward"):
        assert at(function, values, mode=mode).verdict in (Verdict.PROVED, Verdict.AGREES)


KINKS: list[tuple[str, Callable[..., Tensor], list[Any]]] = [
    ("relu, each by itself", torch.relu, [[0.0] * 20]),
    ("a norm at 0", torch.linalg.vector_norm, [[0.0, 0.0, 0.0]]),
    ("amax shares", lambda x: x.amax(), [[1.0] * 5]),
    ("maximum halves", torch.maximum, [[1.0], [1.0]]),
    ("a layer at 0", lambda w, x, b: (w @ x + b).relu(),
     [[[1.0, 2.0], [-3.0, 1.0], [0.5, 0.25]], [0.0, 0.0], [0.0] * 3]),
    ("median shares", lambda x: x.median(), [[1.0] * 5]),
    ("max with an index that shares",
     with_backward(lambda x: x.max(0).values, lambda g, x: g * (x == x.max()) / (x == x.max()).sum()),
     [[1.0, 1.0, 0.0]]),
    ("one gradient of a norm",
     with_backward(torch.linalg.vector_norm, lambda g, x: g * torch.tensor([0.6, 0.8], dtype=x.dtype)), [[0.0, 0.0]]),
]  # fmt: skip


@pytest.mark.parametrize(("function", "values"), [row[1:] for row in KINKS], ids=[row[0] for row in KINKS])
def test_what_lies_between_the_one_sided_gradients_is_a_convention(function: Callable[..., Tensor], values: list[Any]):
    result = at(function, *values)
    assert result.finding is None
    assert result.kinks > 0


OUTSIDE: list[tuple[str, Callable[..., Tensor], list[Any]]] = [
    ("both get all", with_backward(torch.maximum, lambda g, a, b: (g * (a >= b), g * (b >= a))), [[1.0], [1.0]]),
    ("all of amax", with_backward(lambda x: x.amax(), lambda g, x: g * (x == x.amax())), [[1.0, 1.0, 0.0]]),
    ("all of max with an index",
     with_backward(lambda x: x.max(0).values, lambda g, x: g * (x == x.max())), [[1.0, 1.0, 0.0]]),
    ("all of a median", with_backward(lambda x: x.median(), lambda g, x: g * (x == x.median())), [[1.0, 1.0, 1.0]]),
    ("all of topk", with_backward(lambda x: x.topk(1).values, lambda g, x: g * (x == x.max())), [[2.0, 2.0]]),
    ("a norm's 0/0", lambda x: x.square().sum().sqrt(), [[0.0, 0.0]]),
    ("a norm with a gradient of length √2",
     with_backward(torch.linalg.vector_norm, lambda g, x: g * torch.ones_like(x)), [[0.0, 0.0]]),
    ("|x| by a root", lambda x: (x * x).sqrt(), [[0.0]]),
]  # fmt: skip


@pytest.mark.parametrize(("function", "values"), [row[1:] for row in OUTSIDE], ids=[row[0] for row in OUTSIDE])
def test_what_lies_outside_of_their_hull_is_wrong(function: Callable[..., Tensor], values: list[Any]):
    result = at(function, *values)
    assert result.verdict is Verdict.WRONG
    assert result.kinks > 0


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (torch.sqrt, [0.0]),  # infinite
        (lambda x: x * (x > 0.5), [0.5]),  # the value jumps
        (lambda x: torch.where(x > 0, 1.0, x), [0.0]),
        (lambda x: x.relu().sqrt(), [0.0]),  # infinite on one side
    ],
    ids=["infinite", "jump", "jump to a constant", "one side"],
)
def test_where_there_is_no_derivative_the_input_is_left_out_and_counted(
    function: Callable[[Tensor], Tensor], values: list[float]
):
    for mode in ("reverse", "forward"):
        result = at(function, values, mode=mode)
        assert result.verdict is Verdict.UNDEFINED
        assert result.undefined == result.inputs > 0


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_value_beyond_the_format_is_out_of_range_and_counted(dtype: str):
    result = at(torch.exp, [1024.0], dtype=dtype)
    assert result.verdict is Verdict.UNDEFINED
    assert "own value" in result.reason
    assert result.undefined == 0
    masked = at(lambda x: (x > 0) * x.log(), [0.0, 2.0], dtype=dtype)
    assert masked.verdict is Verdict.PROVED
    assert masked.out_of_range == masked.inputs


@pytest.mark.parametrize(("dtype", "value"), [("float64", 1e150), ("float32", 1e18), ("float16", 100.0)])
def test_overflow_on_the_way_of_a_right_formula_is_inaccurate_in_every_dtype(dtype: str, value: float):
    """The slope of 1/x is 1/x², and of its formula only the square leaves the range; the value does not."""
    function = with_backward(lambda x: 1 / x, lambda g, x: -g * x / (x * x * x))
    assert at(function, [value], dtype=dtype).verdict is Verdict.INACCURATE


@pytest.mark.parametrize("mode", ["reverse", "vmap-reverse"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_where_the_value_itself_overflows_on_its_way_nothing_is_asked(dtype: str, mode: str):
    result = at(lambda x: x.exp() / x.exp().sum(), [1024.0, 1.0], mode=mode, dtype=dtype)
    assert result.out_of_range == result.inputs
    assert result.finding is None


@pytest.mark.parametrize("mode", ["reverse", "forward", "vmap-reverse", "vmap-forward"])
def test_an_infinite_slope_of_what_is_no_number_is_not_compared_either(mode: str):
    """The imaginary part of a complex cosine: sin 0 is 0, and times an exponential out of range it is NaN."""
    result = at(lambda re, im: re.sin() * ((-im).exp() - im.exp()), 0.0, 1024.0, mode=mode)
    assert result.verdict is Verdict.UNDEFINED
    assert result.out_of_range == result.inputs


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_a_value_of_which_many_digits_are_needed_is_one(mode: str):
    """1 - sigmoid(915) is e⁻⁹¹⁵, its hundredth power e⁻⁹·¹⁵: no 0 to be divided by, nor a value out of range."""
    result = at(lambda x: (1 - x.sigmoid()) ** 0.01, 915.0, mode=mode)
    assert result.verdict is Verdict.INACCURATE
    assert result.out_of_range == 0
    assert result.finding.certified_float == pytest.approx(-0.01 * math.exp(-9.15))


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_a_right_formula_that_cancels_everything_is_told_so(mode: str):
    """Of (1 - cos x)/x² no digit is right near 0, where its slope is -x/12 and the bound on rounding some 1e3."""
    result = at(lambda x: (1 - x.cos()) / (x * x), 1.2e-6, mode=mode)
    assert result.verdict is Verdict.UNDECIDED
    assert "nothing was compared" in result.reason
    assert "The executed formula is the derivative" in result.reason
    assert "reference=" not in result.reason


@pytest.mark.parametrize("factor", [1.0, 5.0])
def test_what_rounding_may_make_anything_of_is_not_compared(factor: float):
    """Bisection to the last digit and beyond: whatever the backward says, its steps' bound is wider than that."""

    def search(a: Tensor) -> Tensor:
        low, step = torch.zeros_like(a), a + 1
        for _ in range(60):
            step = step / 2
            low = torch.where((low + step) ** 2 <= a, low + step, low)
        return low

    function = with_backward(search, lambda g, a: factor * g / (2 * a.sqrt()))
    result = at(function, [2.0])
    assert result.verdict in (Verdict.UNDECIDED, Verdict.WRONG)
    assert "reference=" in result.reason or result.verdict is Verdict.WRONG


def test_what_is_detached_in_a_condition_is_known_in_each_cell():
    """At a tie with a detached mean: the sides of `x > mean` are those of the derivative, too."""

    def clipped(slope: float) -> Callable[[Tensor], Tensor]:
        at_zero = with_backward(torch.relu, lambda g, z: g * torch.where(z == 0, slope, (z > 0).to(g.dtype)))
        return lambda x: at_zero(x - x.detach().mean())

    assert at(clipped(0.75), [1.0, 1.0]).verdict is Verdict.UNDEFINED  # between the sides, and nothing but a kink
    found = at(clipped(1.5), [1.0, 1.0])
    assert found.verdict is Verdict.WRONG
    assert found.finding is not None
    assert "adjacent branches" in found.finding.headline
