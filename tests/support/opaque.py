"""Operations whose inside no trace can follow: NumPy stands for C++, CUDA and Triton here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffcheck import rule


def _exp(x: Tensor) -> Any:
    with np.errstate(over="ignore"):  # C++ says nothing of an overflow
        return np.exp(x.detach().numpy())


def _array(values: Any, like: Tensor) -> Tensor:
    return torch.from_numpy(np.array(values)).to(like.dtype)


@torch.library.custom_op("opaque::scaled_exp", mutates_args=())
def scaled_exp(x: Tensor, scale: float = 1.0) -> Tensor:
    return _array(scale * _exp(x), x)


scaled_exp.register_autograd(
    lambda ctx, g: (g * ctx.saved_tensors[0], None),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(output),
)


@torch.library.custom_op("opaque::square", mutates_args=())
def square(x: Tensor) -> Tensor:
    return _array(x.numpy() ** 2, x)


square.register_autograd(
    lambda ctx, g: 3 * ctx.saved_tensors[0] * g,  # should be 2
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


@torch.library.custom_op("opaque::polar", mutates_args=())
def polar(x: Tensor, y: Tensor, *, degree: int = 2, flip: bool = False) -> tuple[Tensor, Tensor]:
    """Two outputs, two keyword arguments: r = x^degree + y², and x·y or its negative."""
    a, b = x.numpy(), y.numpy()
    return _array(a**degree + b * b, x), _array(a * b * (-1 if flip else 1), x)


def _polar_setup(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.degree, ctx.flip = keyword_only_inputs["degree"], keyword_only_inputs["flip"]


def _polar_backward(ctx: Any, g: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    x, y = ctx.saved_tensors
    s = -1 if ctx.flip else 1
    return g * ctx.degree * x ** (ctx.degree - 1) + s * h * y, 2 * g * y + s * h * x


polar.register_autograd(_polar_backward, setup_context=_polar_setup)


@torch.library.custom_op("opaque::weighted_sum", mutates_args=())
def weighted_sum(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return _array(sum(w * p.numpy() for w, p in zip(weights, parts, strict=True)), parts[0])


weighted_sum.register_autograd(
    lambda ctx, g: ([g * w for w in ctx.weights], None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "weights", inputs[1]),
)


@torch.library.custom_op("opaque::exp_into", mutates_args={"out"})
def exp_into(out: Tensor, x: Tensor) -> None:
    out.copy_(_array(_exp(x), x))


class ExpInto(torch.autograd.Function):
    """As Triton kernels are wrapped: memory is made, and an operation writes to it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        exp_into(out, x)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * ctx.saved_tensors[0]


@torch.library.custom_op("opaque::tanh", mutates_args=())
def tanh(x: Tensor) -> Tensor:
    return _array(np.tanh(x.numpy()), x)


@torch.library.custom_op("opaque::tanh_backward", mutates_args=())
def tanh_backward(y: Tensor, g: Tensor) -> Tensor:
    return _array(g.numpy() * (1 - y.numpy() ** 2), y)


tanh.register_autograd(
    lambda ctx, g: tanh_backward(ctx.saved_tensors[0], g.contiguous()),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(output),
)

LIBRARY = torch.library.Library("opaque", "FRAGMENT")
LIBRARY.define("cube(Tensor x, *, float by=1.0) -> Tensor")
LIBRARY.impl("cube", lambda x, by=1.0: _array(by * x.detach().numpy() ** 3, x), "CPU")
LIBRARY.define("first(Tensor(a) x) -> Tensor(a)")
LIBRARY.impl("first", lambda x: x[:1], "CPU")
LIBRARY.define("length(Tensor x) -> float")
LIBRARY.impl("length", lambda x: float(x.detach().norm()), "CPU")
LIBRARY.define("halves(Tensor x) -> Tensor[]")
LIBRARY.impl("halves", lambda x: [_array(p, x) for p in np.split(x.detach().numpy(), [1])], "CPU")
LIBRARY.define("plain(Tensor x) -> Tensor")
LIBRARY.impl("plain", lambda x: x * 2, "CompositeImplicitAutograd")
LIBRARY.define("noise(Tensor x) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,))
LIBRARY.impl("noise", lambda x: x + torch.rand(()), "CPU")
LIBRARY.define("scale_(Tensor(a!) x, float by) -> Tensor(a!)")
LIBRARY.impl("scale_", lambda x, by: x.copy_(_array(by * x.detach().numpy(), x)), "CPU")


class Cube(torch.autograd.Function):
    """Forward mode too, as C++ extensions are wrapped."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.ops.opaque.cube(x, by=2.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 6 * ctx.saved_tensors[0] ** 2 * g

    @staticmethod
    def jvp(ctx: Any, t: Tensor) -> Tensor:
        return 6 * ctx.saved_tensors[0] ** 2 * t


# ---------------------------------------------------------------------------------------------------------------------
# Their rules
# ---------------------------------------------------------------------------------------------------------------------


@rule(scaled_exp)
def scaled_exp_rule(x, scale):
    return scale * torch.exp(x)


@rule("opaque::polar")
def polar_rule(x, y, *, degree, flip):
    return x**degree + y * y, x * y * (-1 if flip else 1)


@rule(torch.ops.opaque.weighted_sum.default)
def weighted_sum_rule(parts, weights):
    return sum(w * p for w, p in zip(weights, parts, strict=True))


@rule(exp_into)
def exp_into_rule(out, x):
    out.copy_(torch.exp(x))


@rule("opaque::cube")
def cube_rule(x, *, by):
    return by * x**3


@rule("opaque::halves")
def halves_rule(x):
    return [x[:1].clone(), x[1:].clone()]


@rule("opaque::scale_")
def scale_rule(x, by):
    return x.mul_(by)


square_rule = rule(square, torch.square)
tanh_rules = (rule(tanh, torch.tanh), rule(tanh_backward, lambda y, g: g * (1 - y * y)))
