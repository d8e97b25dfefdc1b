"""What becomes of the incoming gradient; second order; and what gradcheck is known to miss, or to accuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from annotated_types import Interval

from tests.detection import operations as ops
from tests.detection.mutant import (
    MATRIX,
    VECTOR,
    VECTOR_8,
    Float,
    Mutant,
    Operation,
    Tensor,
    differentiable,
    mutant,
    torch,
)  # fmt: skip


def incoming() -> Iterator[Mutant]:
    """The incoming gradient ignored, made absolute, clipped, squared, modified in place."""
    family = "incoming gradients"
    ignored = "incoming gradient ignored"
    yield mutant("ignored_by_cube", family, ops.cube, lambda g, x: 3 * x**2, ignored)
    yield mutant(
        "ignored_by_loss",
        family,
        ops.mean_square,
        lambda g, x, t: (2 * (x - t) / x.numel(), -2 * (x - t) / x.numel()),
        ignored,
    )
    yield mutant(
        "ignored_by_cross_entropy",
        family,
        ops.cross_entropy,
        lambda g, x, t: ops.cross_entropy_backward(torch.ones_like(g), x, t),
        ignored,
    )
    yield mutant(
        "ignored_by_weight", family, ops.linear,
        lambda g, x, w, b: (g @ w, torch.ones_like(g).T @ x, g.sum(0)), ignored,
    )  # fmt: skip
    absolute = "incoming gradient made absolute"
    twice = Operation({"x": VECTOR}, lambda x: 2 * x, lambda g, x: 2 * g)
    yield mutant("absolute_of_double", family, twice, lambda g, x: 2 * g.abs(), absolute)
    yield mutant("absolute_of_root", family, ops.square_root,
                 lambda g, x: torch.sqrt(g**2) / (2 * torch.sqrt(x)), absolute)  # fmt: skip
    clipped = "incoming gradient clipped"
    yield mutant("clipped_to_one", family, ops.cube, lambda g, x: 3 * g.clamp(-1, 1) * x**2, clipped)
    yield mutant("negative_cut_off", family, ops.relu, lambda g, x: g.clamp(min=0) * (x > 0), clipped)
    yield mutant(
        "clipped_in_linear", family, ops.linear,
        lambda g, x, w, b: ops.linear.backward(g.clamp(-0.5, 0.5), x, w, b), clipped,
    )  # fmt: skip
    squared = "incoming gradient squared"
    yield mutant("squared_by_double", family, twice, lambda g, x: 2 * g * g, squared)
    yield mutant("squared_by_sigmoid", family, ops.sigmoid, lambda g, x: ops.sigmoid.backward(g * g, x), squared)
    yield mutant(
        "normalised", family, ops.cumulative_sum,
        lambda g, x: ops.cumulative_sum.backward(torch.tanh(g), x), "not linear in the incoming gradient",
    )  # fmt: skip
    modified = "incoming gradient modified in place"
    yield mutant("modified_by_cube", family, ops.cube, lambda g, x: g.mul_(3 * x**2), modified)

    def residual(backward: Callable[..., Any]) -> Callable[..., Any]:
        block = differentiable(ops.tanh.forward, backward)
        return lambda x: x + block(x)

    def in_place(g: Tensor, x: Tensor) -> Tensor:
        return g.div_(torch.cosh(x) ** 2)

    yield Mutant(
        "modified_beside_residual", family, residual(in_place), residual(ops.tanh.backward), {"x": VECTOR_8}, modified
    )


def second_order() -> Iterator[Mutant]:
    """The first derivative is right, and its own derivative is not."""
    family = "second order"
    modes = ("reverse-over-reverse",)

    def custom(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
        """A Function whose context keeps what the forward pass saved."""

        class Custom(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                ctx.save_for_backward(x)
                ctx.result = forward(x.detach())
                return forward(x)

            @staticmethod
            def backward(ctx: Any, g: Tensor) -> Any:
                return backward(g, ctx.saved_tensors[0], ctx.result)

        apply: Callable[..., Any] = Custom.apply
        return apply

    def entry(
        name: str, of: Operation, backward: Callable[..., Any], right: Callable[..., Any], diagnosis: str
    ) -> Mutant:
        return Mutant(
            name, family, custom(of.forward, backward), custom(of.forward, right), of.inputs, diagnosis, modes
        )

    name = "treated as constant"
    exponential = Operation({"x": VECTOR_8}, torch.exp, lambda g, x: g * torch.exp(x))
    yield entry("exp_kept_result", exponential, lambda g, x, y: g * y, lambda g, x, y: g * torch.exp(x), name)
    yield entry(
        "tanh_kept_result", ops.tanh, lambda g, x, y: g * (1 - y**2), lambda g, x, y: g * (1 - torch.tanh(x) ** 2), name
    )
    yield entry("cube_detached", ops.cube, lambda g, x, y: 3 * g * x.detach() ** 2, lambda g, x, y: 3 * g * x**2, name)

    def quiet(g: Tensor, x: Tensor, _: Tensor) -> Tensor:
        with torch.no_grad():
            slope = torch.cos(x)
        return g * slope

    sine = Operation({"x": VECTOR_8}, torch.sin, lambda g, x: g * torch.cos(x))
    yield entry("sine_without_grad", sine, quiet, lambda g, x, y: g * torch.cos(x), name)
    yield entry("cube_half_detached", ops.cube, lambda g, x, y: 3 * g * x * x.detach(),
                lambda g, x, y: 3 * g * x**2, "constant factor")  # fmt: skip

    wrong_cosine = differentiable(torch.cos, lambda g, x: g * torch.sin(x))
    yield entry("sine_with_wrong_cosine", sine, lambda g, x, y: g * wrong_cosine(x), lambda g, x, y: g * torch.cos(x),
                "sign")  # fmt: skip
    yield entry("incoming_detached", ops.cube, lambda g, x, y: 3 * g.detach() * x**2,
                lambda g, x, y: 3 * g * x**2, name)  # fmt: skip


def blind_spots() -> Iterator[Mutant]:
    """What torch.autograd.gradcheck is known to accept."""
    family = "gradcheck's blind spots"
    yield mutant(
        "relative_9e-4", family, ops.sine_of_square,
        lambda g, x: 1.0009 * ops.sine_of_square.backward(g, x), "constant factor",
    )  # fmt: skip
    vector = Operation({"x": Float[Tensor, "100"]}, lambda x: x**2, lambda g, x: 2 * g * x)

    def one_of_a_hundred(g: Tensor, x: Tensor) -> Tensor:
        found = 2 * g * x
        found[37] *= 1.05
        return found

    yield mutant("one_of_a_hundred", family, vector, one_of_a_hundred, "one element only")
    total = Operation({"x": VECTOR}, lambda x: x.sum(), lambda g, x: g.expand(x.shape))
    yield mutant("zero", family, total, lambda g, x: torch.zeros_like(x), "no gradient", sizes={"n": 100_000})
    scale = Operation({"x": MATRIX}, lambda x: x * 3, lambda g, x: g * 3)
    yield mutant("diagonal_sign", family, scale, lambda g, x: 3 * g.abs(), "incoming gradient made absolute")
    tiny = Operation({"x": VECTOR_8}, lambda x: 1e-6 * x**3, lambda g, x: 3e-6 * g * x**2)
    yield mutant("absolute_tolerance", family, tiny, lambda g, x: torch.zeros_like(g), "no gradient")


@dataclass(frozen=True)
class FalseAlarm:
    """A right function that gradcheck accuses at a point."""

    name: str
    function: Callable[..., Any]
    point: float
    domain: Interval


FALSE_ALARMS: Final = (
    FalseAlarm("large_offset", lambda x: 1e8 + x**2, 0.5, Interval(ge=-1, le=1)),
    FalseAlarm("root_near_zero", torch.sqrt, 2e-6, Interval(ge=1e-6, le=1e-5)),
    FalseAlarm("reciprocal_near_zero", torch.reciprocal, 1e-5, Interval(ge=1e-6, le=1e-4)),
    FalseAlarm("fast_sine", lambda x: torch.sin(1e6 * x), 0.3, Interval(ge=-1, le=1)),
    FalseAlarm("large_input", lambda x: x**2, 3e10, Interval(ge=1e10, le=1e11)),
    FalseAlarm("relu_near_zero", torch.relu, 5e-7, Interval(ge=-1e-6, le=1e-6)),
)
