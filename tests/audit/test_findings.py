"""What docs/pytorch-findings.md says of nested modes: PyTorch's number, the one by hand, and what diffcheck says.

Each is a function of one number s, at s = 0. A failure may mean that PyTorch has been mended: then the page changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, jvp

import diffcheck
from diffcheck.modes import SECOND_ORDER, THIRD_ORDER
from diffcheck.verdict import Verdict

OVER_FORWARD = ("reverse-over-forward", "forward-over-forward")
WITH_FORWARD = ("forward-over-reverse", *OVER_FORWARD)


@dataclass(frozen=True)
class Nested:
    """A function whose second derivative PyTorch has wrong in some modes."""

    name: str
    function: Callable[[Tensor], Tensor]
    right: float
    wrong: float
    modes: Sequence[str]
    """Those that give the wrong number; `forward-over-reverse` by dual numbers, for `torch.func` has it right."""


def matrix(*rows: Sequence[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def column(s: Tensor) -> Tensor:
    return torch.stack([torch.ones_like(s), 0.5 + s])[:, None]


def pair(s: Tensor) -> Tensor:
    return torch.stack([s, torch.ones_like(s)])


SYMMETRIC, IDENTITY = matrix([2, 1], [1, 3]), matrix([1, 0], [0, 1])
UPPER, ALONG, RIGHT_SIDE = matrix([2, 1], [0, 3]), matrix([1, 0.5], [0, 2]), matrix([1, 1], [1, 2])
LOWER, FIRST = matrix([1, 0], [1, 1]), matrix([1, 0], [0, 0])
TAU = matrix([0.3])[0]
TWO, ONE = matrix([2]), matrix([1])
SPREAD = 3 * 1e-5 * 0.5 / (0.25 + 1e-5) ** 2.5 / 4
"""d²/ds² of δ/√(δ² + ε) at δ = (s - 1)/2, ε = 1e-5."""

FOUND = (
    # det(A + s) = 5 + 5s + s²
    Nested("det", lambda s: torch.det(SYMMETRIC + s * IDENTITY), 2.0, 5.0, WITH_FORWARD),
    Nested("slogdet", lambda s: torch.linalg.slogdet(SYMMETRIC + s * IDENTITY)[1], -0.6, 0.0, WITH_FORWARD),
    Nested("logdet", lambda s: torch.logdet(TWO + s * ONE), -0.25, 0.0, WITH_FORWARD),
    # (I - 0.3 v vᵀ) has -0.3 v₁ below, v = (1, 0.5 + s)
    Nested("householder_product", lambda s: torch.linalg.householder_product(column(s), TAU)[1, 0], 0.0, -0.1224,
           OVER_FORWARD),
    Nested("triangular_solve", lambda s: torch.triangular_solve(RIGHT_SIDE, UPPER + s * ALONG)[0].sum(),
           17 / 18, 19 / 24, ("forward-over-reverse",)),
    Nested("solve", lambda s: torch.linalg.solve(SYMMETRIC + s * ALONG, RIGHT_SIDE).sum(), 0.752, 0.376, WITH_FORWARD),
    # (LLᵀ)⁻¹ has 2/(1 + s)² first
    Nested("cholesky_inverse, over reverse", lambda s: torch.cholesky_inverse(LOWER + s * FIRST)[0, 0], 12.0, 40.0,
           ("forward-over-reverse",)),
    Nested("cholesky_inverse, reverse over", lambda s: torch.cholesky_inverse(LOWER + s * FIRST)[0, 0], 12.0, 24.0,
           ("reverse-over-forward",)),
    Nested("cholesky_inverse, forward over", lambda s: torch.cholesky_inverse(LOWER + s * FIRST)[0, 0], 12.0, 56.0,
           ("forward-over-forward",)),
    Nested("layer_norm", lambda s: F.layer_norm(pair(s), (2,))[0], SPREAD, 2.9998200089993925, OVER_FORWARD),
    Nested("batch_norm", lambda s: F.batch_norm(pair(s)[:, None], None, None, training=True)[0, 0], SPREAD,
           2.9998200089993925, OVER_FORWARD),
    Nested("instance_norm", lambda s: F.instance_norm(pair(s)[None, None])[0, 0, 0], SPREAD, 2.9998200089993925,
           OVER_FORWARD),
    # -log(p) at p = 1/1000
    Nested("binary_cross_entropy", lambda s: F.binary_cross_entropy(s + 1e-3, torch.ones_like(s)), 1e6,
           999999.997997998, SECOND_ORDER),
)  # fmt: skip


def second_derivative(function: Callable[[Tensor], Tensor], mode: str) -> float:
    """By PyTorch alone."""
    at, one = torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    if mode == "reverse-over-reverse":
        return float(grad(grad(function))(at))
    if mode == "forward-over-reverse":
        with forward_ad.dual_level():
            moving = forward_ad.make_dual(at.clone().requires_grad_(), one)
            (gradient,) = torch.autograd.grad(function(moving), moving)
            tangent = forward_ad.unpack_dual(gradient).tangent
        return 0.0 if tangent is None else float(tangent)

    def tangent_at(s: Tensor) -> Tensor:
        moved: Tensor = jvp(function, (s,), (one,))[1]
        return moved

    return float(grad(tangent_at)(at) if mode == "reverse-over-forward" else jvp(tangent_at, (at,), (one,))[1])


@pytest.mark.filterwarnings("ignore::UserWarning")  # triangular_solve is deprecated, and says so
@pytest.mark.parametrize("found", FOUND, ids=lambda found: found.name)
def test_a_wrong_second_derivative_is_what_the_page_says(found: Nested):
    for mode in found.modes:
        assert second_derivative(found.function, mode) == pytest.approx(found.wrong, rel=1e-9, abs=1e-9), mode
    zero = torch.tensor(0.0, dtype=torch.float64)
    results = diffcheck.check(found.function, zero, modes=tuple(found.modes))
    assert {r.verdict for r in results} == {Verdict.WRONG}, [r.reason for r in results]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("found", FOUND[:-1], ids=lambda found: found.name)
def test_reverse_over_reverse_has_the_one_by_hand(found: Nested):
    assert second_derivative(found.function, "reverse-over-reverse") == pytest.approx(found.right, rel=1e-6, abs=1e-12)
    zero = torch.tensor(0.0, dtype=torch.float64)
    (result,) = diffcheck.check(found.function, zero, modes=("reverse-over-reverse",))
    # The backward of det that can be differentiated itself goes through singular values: they are roots of squares.
    expected = Verdict.AGREES if found.name == "det" else Verdict.PROVED
    assert result.verdict is expected, result.reason


def normalized(s: Tensor) -> Tensor:
    """Layer norm of (s, 1, 3) as it is written down, its first entry."""
    x = torch.stack([s, torch.ones_like(s), torch.full_like(s, 3.0)])
    centred = x - x.mean()
    return centred[0] / (centred.square().mean() + 1e-5).sqrt()


NORMALIZATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "layer_norm": lambda x: F.layer_norm(x, (3,))[0],
    "batch_norm": lambda x: F.batch_norm(x[:, None], None, None, training=True)[0, 0],
    "instance_norm": lambda x: F.instance_norm(x[None, None])[0, 0, 0],
    "group_norm": lambda x: F.group_norm(x[None], 1)[0, 0],
}
SINCE_2_14 = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 14)
FOUND_THIRD = (0.2101206547807966, 0.21969509377325656)
"""What `layer_norm` gives, and the third derivative."""


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_third_derivative_of_a_normalization_is_what_the_page_says(name: str):
    def function(s: Tensor) -> Tensor:
        return NORMALIZATIONS[name](torch.stack([s, torch.ones_like(s), torch.full_like(s, 3.0)]))

    at = torch.tensor(0.3, dtype=torch.float64)
    found, right = FOUND_THIRD
    assert float(grad(grad(grad(normalized)))(at)) == pytest.approx(right, rel=1e-12)
    s = at.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(s), s, create_graph=True)
    (second,) = torch.autograd.grad(first, s, create_graph=True)
    if name in ("batch_norm", "instance_norm") and SINCE_2_14:
        with pytest.raises(RuntimeError, match="batch_norm does not support 3rd"):  # it lost it silently before
            torch.autograd.grad(second, s)
        return
    (third,) = torch.autograd.grad(second, s)
    lost = name != "group_norm"
    assert float(third) == pytest.approx(found if lost else right, rel=1e-12)
    if name in ("layer_norm", "group_norm"):  # what is wrong is the same in the others
        two, three = diffcheck.check(function, at, modes=("reverse-over-reverse", "reverse-over-reverse-over-reverse"))
        assert two.verdict is Verdict.PROVED, two.reason
        assert three.verdict is (Verdict.WRONG if lost else Verdict.PROVED), three.reason


def along(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda s: jvp(function, (s,), (torch.ones_like(s),))[1]


def test_parts_of_the_third_derivative_of_a_solution_are_lost():
    def solution(s: Tensor) -> Tensor:
        return torch.linalg.solve(SYMMETRIC + s * ALONG, RIGHT_SIDE).sum()

    zero = torch.tensor(0.0, dtype=torch.float64)
    right = -1.2048  # mpmath, and reverse over reverse over reverse
    assert float(grad(grad(grad(solution)))(zero)) == pytest.approx(right, rel=1e-12)
    assert float(along(along(along(solution)))(zero)) == pytest.approx(right / 6, rel=1e-9)
    assert float(grad(grad(along(solution)))(zero)) == pytest.approx(right / 3, rel=1e-9)
    assert float(along(along(grad(solution)))(zero)) == pytest.approx(right * 2 / 3, rel=1e-9)
    results = diffcheck.check(solution, zero, modes=(THIRD_ORDER[0], THIRD_ORDER[1]))
    assert [r.verdict for r in results] == [Verdict.PROVED, Verdict.WRONG], [r.reason for r in results]


def test_the_third_derivative_of_a_determinant_is_lost():
    zero = torch.tensor(0.0, dtype=torch.float64)

    def determinant(s: Tensor) -> Tensor:
        return torch.det(SYMMETRIC + s * IDENTITY)

    assert float(along(along(along(determinant)))(zero)) == pytest.approx(5)  # and not 0
    assert float(grad(grad(along(determinant)))(zero)) == pytest.approx(2)


def test_the_gradient_of_a_singular_determinant_is_lost():
    a = matrix([1, 2], [2, 4]).requires_grad_()
    (gradient,) = torch.autograd.grad(torch.det(a), a)
    assert torch.equal(gradient, torch.zeros(2, 2, dtype=torch.float64))  # and not ((4, -2), (-2, 1))
    by_mode = {r.mode: r for r in diffcheck.check(torch.det, a.detach())}
    assert {r.verdict for r in by_mode.values()} == {Verdict.WRONG}
    finding = by_mode["reverse"].finding
    assert finding is not None
    assert (finding.index, finding.autograd, finding.certified_float) == ((0, 0), 0.0, 4.0)


@pytest.mark.parametrize(
    ("dtype", "x"), [("float64", -40.0), ("float32", -20.0), ("bfloat16", -9.0), ("float16", -9.0)]
)
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_expm1_loses_all_digits_where_the_exponential_is_small(dtype: str, x: float, mode: str):
    at = torch.tensor([x], dtype=getattr(torch, dtype), requires_grad=True)
    assert torch.autograd.grad(torch.expm1(at), at)[0].item() == 0.0
    (result,) = diffcheck.check(torch.expm1, at, modes=mode, seed=1)
    assert result.verdict is Verdict.INACCURATE
    assert result.finding is not None
    assert result.finding.certified_float == pytest.approx(math.exp(x), rel=1e-12)


def test_where_of_complex_and_real_numbers_has_no_backward_pass():
    z = torch.tensor([1 + 2j, 3j], requires_grad=True)
    y = torch.tensor([1.0, 2.0], requires_grad=True)
    chosen = torch.tensor([True, False])
    with pytest.raises(RuntimeError, match="isFloatingType"):
        torch.autograd.grad(torch.where(chosen, z, y).real.sum(), (z, y))
    first, second = torch.autograd.grad(torch.where(chosen, z, y.to(z.dtype)).real.sum(), (z, y))
    assert (first.tolist(), second.tolist()) == ([1, 0], [0, 1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_max_unpool_sends_the_whole_cotangent_to_what_was_overwritten(dtype: torch.dtype):
    """The database's fourth sample of `max_unpool2d`, in one channel: the index 14 twice, with equal values.

    Which of both is written last depends on the threads; moving both moves the output once, whatever the order.
    """

    def unpooled(x: Tensor) -> Tensor:
        return F.max_unpool2d(x, torch.tensor([[[14, 14]]]), [3, 3], [2, 2], output_size=[3, 6])

    x = torch.full((1, 1, 2), 8.625, dtype=dtype, requires_grad=True)
    assert torch.autograd.grad(unpooled(x).sum(), x)[0].tolist() == [[[1, 1]]]
    at = x.detach()
    assert float(unpooled(at + 1).sum() - unpooled(at - 1).sum()) / 2 == 1.0
    (result,) = diffcheck.check(unpooled, x, modes="reverse", seed=1)
    assert result.verdict is Verdict.WRONG


@pytest.mark.filterwarnings("ignore:index_reduce")  # it is in beta, and says so once
@pytest.mark.parametrize("reduce", [torch.scatter_reduce, torch.index_reduce])
@pytest.mark.parametrize(("how", "other"), [("amax", 0.0), ("amin", 2.0)])
def test_what_takes_no_part_in_a_maximum_takes_a_share(reduce: Callable[..., Tensor], how: str, other: float):
    both = torch.tensor([0, 0])

    def reduced(x: Tensor, source: Tensor) -> Tensor:
        return reduce(x, 0, both, source, how, include_self=False)

    x, source = matrix([1])[0], matrix([1, other])[0].requires_grad_()
    assert torch.autograd.grad(reduced(x, source), source)[0].tolist() == [0.5, 0.0]
    step = 0.25 * matrix([1, 0])[0]
    assert float(reduced(x, source.detach() + step) - reduced(x, source.detach() - step)) / 0.5 == 1.0
    (result,) = diffcheck.check(reduced, x, source.detach(), modes="reverse", seed=1)
    assert result.verdict is Verdict.WRONG
    assert result.finding is not None
    assert (result.finding.argument, result.finding.index, result.finding.certified_float) == ("source", (0,), 1.0)


@pytest.mark.parametrize(
    "function", [torch.cholesky_inverse, lambda a: torch.cholesky_solve(IDENTITY, a)], ids=["inverse", "solve"]
)
def test_the_triangle_that_is_not_read_has_a_gradient(function: Callable[[Tensor], Tensor]):
    a = matrix([2, 7], [1, 3]).requires_grad_()
    (gradient,) = torch.autograd.grad(function(a).sum(), a)
    assert gradient[0, 1].item() == pytest.approx(-62 / 81)
    assert gradient[1, 1].item() == pytest.approx(-31 / 162)
    (cut,) = torch.autograd.grad(function(a.tril()).sum(), a)
    assert cut.flatten().tolist() == pytest.approx([-2 / 9, 0, -1 / 18, -1 / 54])
    for result in diffcheck.check(function, a.detach(), seed=1):
        assert result.verdict is Verdict.WRONG
    (whole,) = diffcheck.check(lambda a: function(a.tril()), a.detach(), modes="reverse", seed=1)
    assert whole.verdict is Verdict.PROVED


@pytest.mark.parametrize(("exponent", "found"), [(200, 0.0), (-200, math.inf)])
def test_the_exponent_of_frexp_is_raised_in_float32(exponent: int, found: float):
    x = torch.tensor([1.5 * 2.0**exponent], dtype=torch.float64, requires_grad=True)  # at powers of 2 the value jumps
    assert torch.autograd.grad(torch.frexp(x).mantissa.sum(), x)[0].item() == found
    for result in diffcheck.check(lambda x: torch.frexp(x).mantissa, x, seed=1):
        assert result.verdict is Verdict.WRONG
        assert result.finding is not None
        assert (result.finding.autograd, result.finding.certified_float) == (found, 2.0 ** (-exponent - 1))


@pytest.mark.parametrize("function", [lambda x: torch.frexp(x).mantissa, lambda x: torch.renorm(x, 2, 0, 1.0)])
def test_a_tangent_is_float32_in_half_precisions(function: Callable[[Tensor], Tensor]):
    x = torch.tensor([[3.0, 4.0]]).half()
    by_mode = {r.mode: r for r in diffcheck.check(function, x, seed=1)}
    assert by_mode["reverse"].verdict in {Verdict.PROVED, Verdict.AGREES}
    assert by_mode["forward"].verdict is Verdict.ERROR
    assert "for y is float32 of shape [1, 2] on cpu, and y is float16" in by_mode["forward"].reason
