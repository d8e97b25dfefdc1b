"""Functions that differentiate inside, that ask what requires gradients, and what runs them: checkpoints, scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diffcheck import case, check, gradcheck, gradgradcheck
from diffcheck.results import Results
from diffcheck.verdict import Verdict

VECTOR = {"x": Float[Tensor, "n"]}


def judged(function: Callable[..., Any], **options: Any) -> Results:
    return check(function, inputs=VECTOR, seed=1, examples=20, dtypes=["float64"], **options)


class Cube(torch.autograd.Function):
    """x³, whose backward pass is what it is told."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return 3 * ctx.factor * grad * ctx.saved_tensors[0] ** 2, None


def penalty(x: Tensor) -> Tensor:
    (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    return g.pow(2).sum()


def residual(x: Tensor) -> Tensor:
    """u″ + 2u of u = sin, as in a physics-informed loss."""
    u = torch.sin(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    return (bend + 2 * u).pow(2).mean()


def asserted(x: Tensor) -> Tensor:
    assert x.requires_grad
    return x**2


def chosen(x: Tensor) -> Tensor:
    return next(p for p in (torch.ones(()), x) if p.requires_grad) ** 2


def by_func(x: Tensor) -> Tensor:
    return torch.func.grad(lambda y: (y**3).sum())(x)


def penalty_of_results(x: Tensor) -> Tensor:
    """Of operations that keep their results: autograd detaches them where it takes them out again."""
    value = torch.tanh(x) * x.exp() + torch.sigmoid(x) / torch.sqrt(x * x + 1)
    (g,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    return g.pow(2).sum()


RIGHT = [penalty, residual, asserted, chosen, by_func, penalty_of_results]


def test_where_an_input_has_no_tangent_a_gradient_may_be_asked_for_inside():
    def residual_with_a_speed(x: Tensor, a: Tensor) -> Tensor:
        u = torch.tanh(a * x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return ((slope + u) ** 2).mean()

    both = {"x": Float[Tensor, "n"], "a": Float[Tensor, ""]}
    results = check(residual_with_a_speed, inputs=both, seed=1, examples=10, dtypes=["float64"])
    assert [r.verdict for r in results if r.mode == "forward"] == [Verdict.PROVED], results


def test_what_is_detached_of_a_gradient_taken_inside_is_constant_all_the_same():
    def scaled(x: Tensor) -> Tensor:
        (g,) = torch.autograd.grad(torch.tanh(x).sum(), x, create_graph=True)
        return g.detach() * x

    results = judged(scaled, gradient=lambda x: 1 - torch.tanh(x) ** 2)
    assert results.proved, results


@pytest.mark.parametrize("function", RIGHT)
def test_what_differentiates_by_itself_is_proved(function: Callable[[Tensor], Tensor]):
    assert judged(function).proved
    x = torch.tensor([0.5, -1.25], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x,))
    assert gradcheck(function, (x,))
    assert gradgradcheck(function, (x,))


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_its_mistakes_are_found(factor: float):
    def through(x: Tensor) -> Tensor:
        (g,) = torch.autograd.grad(Cube.apply(x, factor).sum(), x, create_graph=True)
        return g.pow(2).sum() + Cube.apply(x, factor).sum()

    (result,) = judged(through, modes="reverse")
    assert (result.verdict is Verdict.PROVED) == (factor == 1)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_checkpoint_is_seen_through(reentrant: bool, factor: float):
    (result,) = judged(lambda x: checkpoint(Cube.apply, x, factor, use_reentrant=reentrant), modes="reverse")
    assert result.verdict is (Verdict.PROVED if factor == 1 else Verdict.WRONG), result


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_what_a_script_detaches_is_not_the_authors_doing():
    @torch.jit.script
    def scripted(x: Tensor) -> Tensor:
        return torch.sin(x) * x

    assert judged(scripted).proved
    assert judged(lambda x: scripted(x) * x.detach()).proved
    assert judged(lambda x: scripted(x.detach()) + x).proved


# ---------------------------------------------------------------------------------------------------------------------
# Random or not
# ---------------------------------------------------------------------------------------------------------------------


def test_what_draws_numbers_that_do_not_matter_is_not_random():
    def degenerate(x: Tensor) -> Tensor:
        return x ** torch.empty(1, dtype=x.dtype).uniform_(2.0, 2.0)

    assert judged(degenerate).proved


@pytest.mark.parametrize("function", [lambda x: x * torch.rand(()), lambda x: x + torch.randn(2)[0]])
def test_what_gives_different_results_is_random(function: Callable[[Tensor], Tensor]):
    for result in judged(function, modes="reverse"):
        assert result.verdict is Verdict.ERROR
        assert "is random: it draws from PyTorch's generator: the same input gives" in result.reason


class Block(nn.Module):
    """A layer and a batch norm that learns its statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 2), nn.BatchNorm1d(2)

    def forward(self, x: Float[Tensor, "5 3"]) -> Float[Tensor, "5 2"]:
        return self.norm(self.linear(x))


def test_a_batch_norm_in_training_is_not_random_and_keeps_its_statistics():
    torch.manual_seed(0)
    block = Block()
    before = {name: value.clone() for name, value in block.named_buffers()}
    declared = check(case(block), seed=1, examples=5, modes="reverse")
    given = check(block, torch.randn(5, 3), modes="reverse")
    for result in (*declared, *given):
        assert result.verdict in (Verdict.PROVED, Verdict.AGREES), result
    assert all(torch.equal(value, before[name]) for name, value in block.named_buffers())


# ---------------------------------------------------------------------------------------------------------------------
# Parameters
# ---------------------------------------------------------------------------------------------------------------------


class Scale(nn.Module):
    """Registers what it is given, if that is a parameter."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight


def registered(weight: Tensor, x: Tensor) -> Tensor:
    own = list(Scale(weight).parameters())
    return x * own[0].sum() if own else x * weight.detach().sum()


def test_a_parameter_stays_one():
    weight = nn.Parameter(torch.tensor([0.5, 2.0], dtype=torch.float64))
    x = torch.tensor([1.0, -0.75, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(registered, (weight, x))
    assert gradcheck(registered, (weight, x))
    assert gradgradcheck(registered, (weight, x))
    assert check(registered, weight, x).proved
