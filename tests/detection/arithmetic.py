"""Right formulas and wrong numbers: lower precision, finite differences, nondeterminism, what is left from before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.detection import operations as ops
from tests.detection.mutant import MATRIX_8, VECTOR_8, Mutant, Operation, Tensor, mutant, torch


def precision() -> Iterator[Mutant]:
    """Computed in float32 or float16, or with constants of a few digits."""
    family = "precision"
    lower = "computed in lower precision"
    yield mutant("cube_in_float32", family, ops.cube, lambda g, x: (3 * g.float() * x.float() ** 2).to(x.dtype), lower)
    yield mutant(
        "tanh_in_float16", family, ops.tanh, lambda g, x: g * (1 - torch.tanh(x.half()) ** 2).to(x.dtype), lower
    )
    yield mutant(
        "matmul_in_float16", family, Operation({"a": MATRIX_8, "b": MATRIX_8}, lambda a, b: a * b,
                                               lambda g, a, b: (g * b, g * a)),
        lambda g, a, b: ((g.half() * b.half()).to(a.dtype), g * a), lower,
    )  # fmt: skip
    yield mutant(
        "softmax_in_bfloat16", family, ops.softmax,
        lambda g, x: ops.softmax_backward(g.bfloat16(), x.bfloat16()).to(x.dtype), lower,
    )  # fmt: skip
    yield mutant(
        "layer_norm_in_float32", family, ops.rms_norm,
        lambda g, x: ops.rms_norm_backward(g.float(), x.float()).to(torch.float64), lower,
    )  # fmt: skip
    rounded = "rounded constant"

    def density(digits: float) -> Callable[..., Any]:
        def backward(g: Tensor, x: Tensor) -> Tensor:
            return g * (0.5 * (1 + torch.erf(x / ops.ROOT_TWO)) + x * digits * torch.exp(-0.5 * x**2))

        return backward

    yield mutant("gelu_four_digits", family, ops.gelu, density(0.3989), rounded)
    yield mutant("gelu_seven_digits", family, ops.gelu, density(0.3989423), rounded)
    circle = Operation({"x": VECTOR_8}, lambda x: torch.pi * x**2, lambda g, x: 2 * torch.pi * g * x)
    yield mutant("pi_in_five_digits", family, circle, lambda g, x: 2 * 3.1416 * g * x, rounded)


def differences() -> Iterator[Mutant]:
    """A backward pass that takes finite differences."""
    family = "finite differences"

    def central(function: Callable[[Tensor], Tensor], step: float) -> Callable[..., Any]:
        return lambda g, x: g * (function(x + step) - function(x - step)) / (2 * step)

    def one_sided(function: Callable[[Tensor], Tensor], step: float) -> Callable[..., Any]:
        return lambda g, x: g * (function(x + step) - function(x)) / step

    yield mutant("cube_central", family, ops.cube, central(ops.cube.forward, 1e-4), family)
    yield mutant("silu_forward", family, ops.silu, one_sided(ops.silu.forward, 1e-6), family)
    yield mutant("sine_central", family, ops.sine_of_square, central(ops.sine_of_square.forward, 1e-5), family)
    yield mutant("tanh_forward", family, ops.tanh, one_sided(torch.tanh, 1e-3), family)


def nondeterminism() -> Iterator[Mutant]:
    """A backward pass that gives another number each time, or that adds up over calls."""
    family = "nondeterminism"
    name = "nondeterministic"
    yield mutant("noise", family, ops.cube, lambda g, x: 3 * g * x**2 * (1 + 1e-6 * torch.randn_like(x)), name)
    yield mutant(
        "dropout", family, ops.tanh,
        lambda g, x: ops.tanh.backward(g, x) * (torch.rand_like(x) > 0.5) * 2, name,
    )  # fmt: skip
    yield mutant(
        "stochastic_rounding", family, ops.softplus,
        lambda g, x: ops.softplus.backward(g, x) + 1e-3 * torch.rand(()), name,
    )  # fmt: skip
    accumulated = "accumulated between calls"

    def buffered(host: Operation) -> Callable[..., Any]:
        """Adds to a buffer of the same shape that it keeps."""
        kept: dict[torch.Size, Tensor] = {}

        def backward(g: Tensor, x: Tensor) -> Tensor:
            kept[x.shape] = kept.get(x.shape, torch.zeros_like(x)).to(x.dtype) + host.backward(g, x)
            return kept[x.shape].clone()

        return backward

    yield mutant("cube_buffer", family, ops.cube, buffered(ops.cube), accumulated)
    yield mutant("sum_of_squares_buffer", family, ops.sum_of_squares, buffered(ops.sum_of_squares), accumulated)

    calls: list[int] = []

    def counting(g: Tensor, x: Tensor) -> Tensor:
        calls.append(1)
        return 2 * g * x * len(calls)

    yield mutant("grows_with_calls", family, ops.sum_of_squares, counting, accumulated)
