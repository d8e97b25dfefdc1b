"""Right where `torch.autograd.grad` asks for everything once, and wrong where it is asked in one other way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tests.detection.mutant import VECTOR, Mutant, Tensor, torch

_NAME: Final = "only in one way of asking"
_ONE: Final = {"x": VECTOR}
_TWO: Final = {"a": VECTOR, "b": VECTOR}


def _function(forward: Callable[..., Any], backward: Callable[..., Any], *, materialize: bool = True) -> Any:
    """A Function whose backward pass takes the context, the incoming gradients and the inputs."""

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Any:
            ctx.save_for_backward(*inputs)
            ctx.set_materialize_grads(materialize)
            ctx.given = inputs
            ctx.passes = 0
            ctx.autocast = torch.is_autocast_enabled(inputs[0].device.type)
            return forward(*inputs)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Any:
            ctx.passes += 1
            return backward(ctx, *gradients, *ctx.saved_tensors)

    return Custom.apply


def _cube(factor: Callable[[Any], float]) -> Any:
    """A cube whose backward pass is multiplied by what the context says."""
    return _function(lambda x: x**3, lambda ctx, g, x: 3 * g * x**2 * factor(ctx))


def ways() -> Iterator[Mutant]:
    """Subsets of the inputs, no leaves, shared memory, a second pass, `.grad`, unused outputs, autocast."""

    def entry(name: str, wrong: Any, right: Any, inputs: Mapping[str, Any] = _ONE, mode: str = "reverse") -> Mutant:
        return Mutant(name, "ways of asking", wrong, right, inputs, _NAME, modes=(mode,))

    cube = _cube(lambda _: 1)

    def product(ctx: Any, g: Tensor, a: Tensor, b: Tensor) -> Any:
        return tuple(g * other if need else None for other, need in zip((b, a), ctx.needs_input_grad, strict=True))

    def first_of_those_needed(ctx: Any, g: Tensor, a: Tensor, b: Tensor) -> Any:
        parts = iter([g * b, g * a])  # the parts of those that need none are not skipped
        return tuple(next(parts) if need else None for need in ctx.needs_input_grad)

    right = _function(torch.mul, product)
    yield entry("needs_input_grad", _function(torch.mul, first_of_those_needed), right, _TWO)
    yield entry("freed_in_the_first_pass", _cube(lambda ctx: float(ctx.passes == 1)), cube)
    yield entry("grows_with_each_pass", _cube(lambda ctx: ctx.passes), cube)
    yield entry("leaves_only", _cube(lambda ctx: 1 if ctx.given[0].is_leaf else 2), cube)
    yield entry("expanded_input", _cube(lambda ctx: 3 if 0 in ctx.given[0].stride() else 1), cube)
    yield entry("autocast", _cube(lambda ctx: 2 if ctx.autocast else 1), cube)

    def into_grad(ctx: Any, g: Tensor, x: Tensor) -> Tensor:
        found = 3 * g * x**2
        if ctx.given[0].is_leaf:
            ctx.given[0].grad = found.clone()  # as in code that once called backward() by hand
        return found

    yield entry("own_grad", _function(lambda x: x**3, into_grad), cube)

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        return x**2, x**3

    def one_or_both(ctx: Any, g: Tensor | None, h: Tensor | None, x: Tensor) -> Tensor:
        if g is None or h is None:
            return torch.zeros_like(x)
        return 2 * g * x + 3 * h * x**2

    def each(ctx: Any, g: Tensor | None, h: Tensor | None, x: Tensor) -> Tensor:
        parts = [2 * g * x if g is not None else None, 3 * h * x**2 if h is not None else None]
        return sum((p for p in parts if p is not None), torch.zeros_like(x))

    right = _function(both, each, materialize=False)
    yield entry("unused_output", _function(both, one_or_both, materialize=False), right)
    yield entry("no_tangent", _moving(wrong=True), _moving(wrong=False), _TWO, "forward")


def _moving(*, wrong: bool) -> Any:
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
            ctx.save_for_forward(a, b)
            ctx.set_materialize_grads(False)
            return a * b

        @staticmethod
        def jvp(ctx: Any, va: Tensor | None, vb: Tensor | None) -> Tensor:
            a, b = ctx.saved_tensors
            if va is None or vb is None:
                return (a if wrong else b) * va if va is not None else a * vb
            return va * b + a * vb

    return Product.apply


__all__ = ["ways"]
