"""`gradcheck` and `gradgradcheck`: what PyTorch's accept and is right passes, what they miss is caught."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError as TorchGradcheckError
from torch.autograd.gradcheck import gradcheck as torch_gradcheck
from torch.autograd.gradcheck import gradgradcheck as torch_gradgradcheck
from torch.nn import functional as F

from diffcheck import GradcheckError, Verdict, gradcheck, gradgradcheck
from diffcheck.errors import DeclarationError, Unsupported

EVERYTHING: Any = {
    "check_forward_ad": True,
    "check_batched_grad": True,
    "check_batched_forward_grad": True,
    "check_grad_dtypes": True,
}


def leaf(*entries: Any, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(entries, dtype=dtype, requires_grad=True)


def fresh(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1)).requires_grad_()


def custom(
    forward: Callable[[Tensor], Any], backward: Callable[..., Any], *, materialize: bool = True
) -> Callable[..., Any]:
    """A custom Function; `backward` takes the input and the incoming gradients."""

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Any:
            ctx.save_for_backward(x)
            ctx.set_materialize_grads(materialize)
            return forward(x)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return backward(*ctx.saved_tensors, *grads)

    return Custom.apply


X = leaf(0.5, -1.25, 3.0)


# ---------------------------------------------------------------------------------------------------------------------
# What is right passes
# ---------------------------------------------------------------------------------------------------------------------


def several(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    return torch.tanh(w @ x), (x * x).sum()


RIGHT: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "sin": (torch.sin, (X,)),
    "several outputs": (several, (X, fresh(2, 3))),
    "matmul": (torch.matmul, (fresh(2, 3), fresh(3, 4))),
    "softmax": (lambda x: torch.softmax(x, dim=1), (fresh(2, 3),)),
    "module": (torch.nn.Linear(3, 2).double(), (fresh(2, 3),)),
    "layer norm": (F.layer_norm, (fresh(2, 3), [3])),
    "not tensors": (lambda x, p, reduction: (x**p).sum() if reduction == "sum" else x**p, (X, 3, "none")),
    "an integer tensor": (lambda x, i: x[i] ** 2, (X, torch.tensor([2, 0, 2]))),
    "one does not require gradients": (lambda x, w: x * w, (X, torch.tensor([2.0, 3.0, 4.0]).double())),
    "not contiguous": (lambda x: x.exp() * x.sum(0), (fresh(4, 3).detach().mT[::2].requires_grad_(),)),
    "a detached output": (lambda x: (x**2, (2 * x).detach()), (X,)),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes_with_every_option(name: str):
    function, inputs = RIGHT[name]
    assert gradcheck(function, inputs, **EVERYTHING) is True
    assert torch_gradcheck(function, inputs) is True


@pytest.mark.parametrize("name", ["sin", "several outputs", "softmax", "module", "a detached output"])
def test_second_derivatives_that_are_right_pass_with_every_option(name: str):
    function, inputs = RIGHT[name]
    options: Any = {"check_fwd_over_rev": True, "check_batched_grad": True, "check_grad_dtypes": True}
    assert gradgradcheck(function, inputs, gen_non_contig_grad_outputs=True, **options) is True
    assert torch_gradgradcheck(function, inputs) is True


def test_a_single_tensor_and_float32():
    x = X.detach().float().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch's warns of precision, and fails
        assert gradcheck(torch.sin, x, **EVERYTHING)
        assert gradgradcheck(torch.sin, x)
    with pytest.warns(UserWarning, match="double precision"):
        assert not torch_gradcheck(torch.sin, x, raise_exception=False)


def test_nested_inputs_are_differentiated_too():
    assert gradcheck(lambda xs: xs[0] * xs[1], ([fresh(3), fresh(3)],), **EVERYTHING)
    nested: Any = ([fresh(3), fresh(3)],)
    with pytest.raises(ValueError, match="at least one input tensor"):
        torch_gradcheck(lambda xs: xs[0] * xs[1], nested)


def test_inputs_and_buffers_stay_as_they_are():
    x = fresh(4, 3)
    norm = torch.nn.BatchNorm1d(3).double()
    before = x.detach().clone(), {n: b.clone() for n, b in norm.named_buffers()}
    assert gradcheck(norm, x)
    assert torch.equal(x, before[0])
    assert x.grad is None
    assert all(torch.equal(b, before[1][n]) for n, b in norm.named_buffers())


def test_expanded_inputs_are_as_many_variables_as_they_have_elements():
    x = torch.tensor(2.0).double().expand(3).requires_grad_()
    assert gradcheck(lambda x: x * x.sum(), x)
    with pytest.raises(RuntimeError, match="stride 0"):
        torch_gradcheck(torch.sin, x)


FALSE_ALARMS: dict[str, tuple[Callable[..., Any], Tensor]] = {
    "1e8 + x²": (lambda x: 1e8 + x**2, leaf(1.5)),
    "sqrt near 0": (torch.sqrt, leaf(2e-6)),
    "1/x near 0": (lambda x: 1 / x, leaf(1e-5)),
    "fast": (lambda x: torch.sin(1e6 * x), leaf(0.3)),
    "far away": (lambda x: 3 * x, leaf(3e10)),
    "near a kink": (torch.relu, leaf(5e-7)),
    "at a kink": (torch.relu, leaf(0.0, 1.0)),
}


@pytest.mark.parametrize("name", FALSE_ALARMS)
def test_false_alarms_of_pytorchs_pass(name: str):
    function, x = FALSE_ALARMS[name]
    assert not torch_gradcheck(function, x, raise_exception=False)
    assert gradcheck(function, x, check_forward_ad=True)


# ---------------------------------------------------------------------------------------------------------------------
# What is wrong is caught
# ---------------------------------------------------------------------------------------------------------------------


def one_of_many(x: Tensor, g: Tensor) -> Tensor:
    factors = torch.ones(100).double()
    factors[41] = 1.05
    return 2 * g * factors


BLIND_SPOTS: dict[str, tuple[Callable[..., Any], Tensor, bool]] = {
    "a relative error of 9e-4": (custom(lambda x: x**2, lambda x, g: 2 * x * g * (1 + 9e-4)), X, False),
    "a sign, where values are small": (
        custom(lambda x: 1e-6 * torch.sin(x), lambda x, g: -1e-6 * torch.cos(x) * g), X, False,
    ),
    "the gradient's absolute value": (custom(lambda x: 2 * x, lambda x, g: 2 * g.abs()), X, False),
    "the gradient squared": (custom(lambda x: 2 * x, lambda x, g: 2 * g * g), X, False),
    "the gradient changed in place": (custom(lambda x: 2 * x, lambda x, g: g.mul_(2)), X, False),
    "one entry of many, in fast mode": (custom(lambda x: 2 * x, one_of_many), leaf(*[1.0] * 100), True),
}  # fmt: skip


@pytest.mark.parametrize("name", BLIND_SPOTS)
def test_blind_spots_of_pytorchs_are_caught(name: str):
    function, x, fast = BLIND_SPOTS[name]
    torch.manual_seed(0)
    assert torch_gradcheck(function, x, fast_mode=fast)
    assert gradcheck(function, x, fast_mode=fast, raise_exception=False) is False


def test_the_whole_message_and_the_results_are_raised():
    wrong = custom(lambda x: x**3, lambda x, g: 2 * x**2 * g)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(wrong, X)
    text = str(caught.value)
    for part in ("wrong: apply, reverse, float64", "the gradient of x[0] is wrong", "PyTorch's value is 0.66666666666"):
        assert part in text
    assert "diffcheck.check(apply, *inputs, modes=('reverse',), seed=" in text
    assert [r.verdict for r in caught.value.results] == [Verdict.WRONG]
    assert isinstance(caught.value, RuntimeError)
    with pytest.raises(TorchGradcheckError):
        gradcheck(wrong, X)


def test_a_detached_factor_is_a_mistake_as_it_is_for_pytorchs():
    def first(x: Tensor) -> Tensor:
        return x.detach() * x

    for function in (first, lambda x: (x.detach() * x).sum() + x):
        assert not torch_gradcheck(function, X, raise_exception=False)
        assert not gradcheck(function, X, raise_exception=False)
    assert not torch_gradgradcheck(first, X, raise_exception=False)
    assert not gradgradcheck(first, X, raise_exception=False)
    shifted = custom(lambda x: torch.exp(x.detach()), lambda x, g: g * x.exp())
    for right in (lambda x: (x - x.max().detach()).exp() / (x - x.max().detach()).exp().sum(), shifted):
        assert torch_gradcheck(right, X)
        assert gradcheck(right, X)


def test_a_wrong_second_derivative_is_caught_in_both_modes():
    class Inner(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return g * 3 * x.detach() ** 2

    assert gradcheck(Inner.apply, X)
    assert not gradgradcheck(Inner.apply, X, raise_exception=False)
    with pytest.raises(GradcheckError, match="the gradient of the gradient, for x"):
        gradgradcheck(Inner.apply, X)


def test_a_wrong_tangent_is_caught_where_forward_mode_is_asked_for():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return 2 * g

        @staticmethod
        def jvp(ctx: Any, t: Tensor) -> Tensor:
            return 2.0000001 * t

    assert gradcheck(Twice.apply, X)
    for backward in (True, False):
        assert not gradcheck(
            Twice.apply, X, check_forward_ad=True, check_backward_ad=backward, check_undefined_grad=False,
            raise_exception=False,
        )  # fmt: skip
    with pytest.raises(GradcheckError, match="the tangent of y"):
        gradcheck(Twice.apply, X, check_forward_ad=True)


# ---------------------------------------------------------------------------------------------------------------------
# The options
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"), [(gradcheck, torch_gradcheck), (gradgradcheck, torch_gradgradcheck)], ids=["first", "second"]
)
def test_the_signatures_are_pytorchs_and_rules(ours: Callable[..., Any], theirs: Callable[..., Any]):
    other = list(inspect.signature(theirs).parameters.values())
    every = list(inspect.signature(ours).parameters.values())
    mine, added = every[: len(other)], [p.name for p in every[len(other) :]]
    assert added in (["rules"], ["rules", "reference", "surrogate"])
    assert [(p.name, p.kind, p.default) for p in mine] == [(p.name, p.kind, p.default) for p in other]


def test_an_undefined_gradient_that_is_not_understood_is_caught():
    pair = custom(lambda x: (2 * x, 3 * x), lambda x, a, b: 2 * a + 3 * b, materialize=False)
    assert not torch_gradcheck_quietly(pair)
    with pytest.raises(GradcheckError, match=r"with an undefined gradient \(dy0, dy1 is None\)"):
        gradcheck(pair, X)
    assert gradcheck(pair, X, check_undefined_grad=False)


def torch_gradcheck_quietly(function: Callable[..., Any]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch_gradcheck(function, X, raise_exception=False)
        except TypeError:
            return False


def test_a_gradient_that_changes_where_another_is_undefined_is_caught():
    def backward(x: Tensor, a: Tensor | None, b: Tensor | None) -> Tensor | None:
        if a is None or b is None:
            return None  # right only if both are
        return 2 * a + 3 * b

    pair = custom(lambda x: (2 * x, 3 * x), backward, materialize=False)
    with pytest.raises(GradcheckError, match="with undefined gradients; otherwise PyTorch.s value is"):
        gradcheck(pair, X)


def test_a_second_backward_pass_with_an_undefined_gradient():
    class Outer(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, g: Tensor) -> Tensor:
            ctx.save_for_backward(x, g)
            ctx.set_materialize_grads(False)
            return 2 * x * g

        @staticmethod
        def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor]:
            x, g = ctx.saved_tensors
            return 2 * g * v, 2 * x * v

    class Inner(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Any:
            return Outer.apply(*ctx.saved_tensors, g)

    assert gradgradcheck(Inner.apply, X, check_undefined_grad=False)
    with pytest.raises(GradcheckError, match="with an undefined gradient"):
        gradgradcheck(Inner.apply, X)


def test_a_backward_that_vmap_can_not_follow_is_caught_where_it_is_asked_for():
    function = custom(lambda x: 2 * x, lambda x, g: 2 * g + 0 * (g.abs().sum().item() > 1e300))
    for check in (gradcheck, torch_gradcheck):
        assert not check(function, X, check_batched_grad=True, raise_exception=False)


def test_a_backward_that_is_another_one_under_vmap_is_caught():
    def backward(x: Tensor, g: Tensor) -> Tensor:
        try:
            g.untyped_storage()
        except (NotImplementedError, RuntimeError):  # a batch has none
            return 2.000001 * g
        return 2 * g

    function = custom(lambda x: 2 * x, backward)
    assert gradcheck(function, X)
    assert torch_gradcheck(function, X, check_batched_grad=True)
    with pytest.raises(GradcheckError, match="under vmap; otherwise PyTorch.s value is"):
        gradcheck(function, X, check_batched_grad=True)


def test_a_tangent_of_another_dtype_is_caught_where_it_is_asked_for():
    class Narrow(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 0 * x

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return 0 * g

        @staticmethod
        def jvp(ctx: Any, t: Tensor) -> Tensor:
            return (0 * t).float()

    assert gradcheck(Narrow.apply, X, check_forward_ad=True)
    with pytest.raises(GradcheckError, match="the tangent of output 0 is torch.float32, and should be torch.float64"):
        gradcheck(Narrow.apply, X, check_forward_ad=True, check_grad_dtypes=True)


def test_options_of_finite_differences_mean_nothing_and_a_failure_says_so():
    """Nothing is raised for an option that is merely handed through: warnings are errors here."""
    assert gradcheck(torch.sin, X, eps=1e-3, atol=1e-2)
    wrong = custom(lambda x: x**2, lambda x, g: 2.01 * x.detach() * g)
    with pytest.raises(GradcheckError, match=r"eps=0.001, rtol=0.1: without a meaning here\."):
        gradcheck(wrong, X, eps=1e-3, rtol=0.1)
    with pytest.raises(GradcheckError) as raised:
        gradcheck(wrong, X, eps=1e-6, atol=1e-5, rtol=1e-3)
    assert "without a meaning" not in str(raised.value)
    assert not gradgradcheck(custom(lambda x: x**2, lambda x, g: 2 * x.detach() * g), X, rtol=0.1,
                             raise_exception=False)  # fmt: skip
    assert gradcheck(torch.sin, X, eps=1e-6, atol=1e-5, rtol=1e-3, fast_mode=True, masked=True)


def test_a_derivative_that_changes_is_caught_and_no_tolerance_lets_it_pass():
    calls = []

    def backward(x: Tensor, g: Tensor) -> Tensor:
        calls.append(g)
        return 2 * g * (1 + 1e-12 * len(calls))

    function = custom(lambda x: 2 * x, backward)
    assert gradcheck(torch.sin, X, nondet_tol=1e-3)
    assert torch_gradcheck(function, X, nondet_tol=1e-3)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(function, X, nondet_tol=1e-3)
    assert "nondet_tol=0.001 is not honoured" in str(caught.value)
    with pytest.raises(GradcheckError, match="are not the same twice"):
        gradcheck(function, X)


@pytest.mark.parametrize("modes", [{}, {"check_fwd_over_rev": True}, {"check_fwd_over_rev": True,
                                   "check_rev_over_rev": False, "check_undefined_grad": False}])  # fmt: skip
def test_given_grad_outputs_are_where_second_derivatives_are_checked(modes: Any):
    class Odd(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)
            return x**2

        @staticmethod
        def jvp(ctx: Any, t: Tensor) -> Tensor:
            return 2 * ctx.saved_tensors[0] * t

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return 2 * x * g + torch.where(g == 17.25, x**2, 0.0)

    grad = torch.tensor([1.0, 17.25, -1.0]).double()
    for layout in (grad, torch.stack([grad, grad], dim=1)[:, 0]):
        assert not gradgradcheck(Odd.apply, X, layout, raise_exception=False, **modes)
    assert gradgradcheck(torch.sin, X, (grad,), **modes)
    assert gradgradcheck(several, (X, fresh(2, 3)), (leaf(1.0, 2.0), None), **modes)


def test_grad_outputs_that_do_not_fit_are_refused():
    with pytest.raises(DeclarationError, match=r"grad_outputs of shapes \[\(2,\)\] do not fit outputs of shapes"):
        gradgradcheck(torch.sin, X, leaf(1.0, 2.0))
    with pytest.raises(Unsupported, match="complex"):
        gradgradcheck(torch.sin, X, torch.ones(3, dtype=torch.complex128))


@pytest.mark.parametrize(
    ("check", "options"),
    [
        (gradcheck, {"check_backward_ad": False}),
        (gradcheck, {"check_backward_ad": False, "check_forward_ad": True, "check_batched_grad": True}),
        (gradcheck, {"check_batched_forward_grad": True}),
        (gradgradcheck, {"check_rev_over_rev": False}),
        (gradgradcheck, {"check_rev_over_rev": False, "check_fwd_over_rev": True}),
        (
            gradgradcheck,
            {"check_rev_over_rev": False, "check_fwd_over_rev": True, "check_undefined_grad": False,
             "check_batched_grad": True},
        ),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused_as_pytorch_refuses_them(
    check: Callable[..., Any], options: dict[str, bool]
):
    theirs: Any = torch_gradcheck if check is gradcheck else torch_gradgradcheck
    for either in (check, theirs):
        with pytest.raises(AssertionError, match="True"):
            either(torch.sin, X, **options)


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_what_can_not_be_judged_is_refused_with_a_reason(check: Callable[..., Any]):
    with pytest.raises(ValueError, match="at least one input that requires gradients"):
        check(torch.sin, X.detach())
    for value, message in (
        (torch.eye(2).double().to_sparse().requires_grad_(), "sparse"),
        (torch.ones(2).to(torch.float8_e4m3fn).requires_grad_(), "judged in float64, float32, float16, bfloat16"),
    ):
        with pytest.raises(Unsupported, match=message):
            check(torch.abs, value, raise_exception=False)


@pytest.mark.parametrize("raise_exception", [True, False])
def test_what_has_no_rule_never_passes_and_is_told_from_what_is_wrong(raise_exception: bool):
    opaque = custom(lambda x: torch.from_numpy(3 * x.detach().numpy()), lambda x, g: 3 * g)
    assert torch_gradcheck(opaque, X)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(opaque, X, raise_exception=raise_exception)
    assert "unsupported: Tensor.numpy" in str(caught.value)
    assert "diffcheck.check(func, *inputs, reference=plain)" in str(caught.value)


def test_where_there_is_no_derivative_nothing_passes():
    assert not gradcheck(torch.sqrt, leaf(0.0), raise_exception=False)
