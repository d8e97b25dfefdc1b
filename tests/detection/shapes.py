"""Mistakes of shapes: transposed Jacobians, axes, broadcasting, (n, 1) against (n,), means, sizes, layouts."""

from __future__ import annotations

from collections.abc import Iterator

from annotated_types import Interval

from tests.detection import operations as ops
from tests.detection.mutant import (
    MATRIX,
    SQUARE,
    VECTOR,
    Annotated,
    Float,
    Mutant,
    Operation,
    Tensor,
    mutant,
    scaled,
    torch,
)  # fmt: skip


def jacobians() -> Iterator[Mutant]:
    """J·g in the place of Jᵀ·g."""
    family = "transposed Jacobian"
    name = "transposed Jacobian"
    yield mutant("cumulative_sum", family, ops.cumulative_sum, lambda g, x: g.cumsum(0), name)
    yield mutant("matrix_vector", family, ops.matrix_vector, lambda g, a, x: (torch.outer(g, x), a @ g), name)
    yield mutant("square_matmul", family, ops.square_matmul, lambda g, a, b: (g @ b, a.T @ g), name)
    yield mutant(
        "outer_product_turned", family, ops.matrix_vector, lambda g, a, x: (torch.outer(x, g), a.T @ g),
        "axis mixed up",
    )  # fmt: skip

    def shift(x: Tensor) -> Tensor:
        return torch.roll(x, 1) * torch.arange(1, len(x) + 1, dtype=x.dtype)

    rolled = Operation(
        {"x": VECTOR}, shift, lambda g, x: torch.roll(g * torch.arange(1, len(x) + 1, dtype=x.dtype), -1)
    )
    yield mutant("roll", family, rolled, lambda g, x: shift(g), name)
    yield mutant(
        "attention_scores",
        family,
        Operation({"p": SQUARE, "v": Float[Tensor, "n d"]}, lambda p, v: p @ v, lambda g, p, v: (g @ v.T, p.T @ g)),
        lambda g, p, v: (g @ v.T, p @ g),
        name,
    )


def axes() -> Iterator[Mutant]:
    """A reduction over the wrong axis, elements in the wrong order, arguments exchanged."""
    family = "axes"

    def softmax_over_rows(g: Tensor, x: Tensor) -> Tensor:
        y = torch.softmax(x, -1)
        return y * (g - (g * y).sum(0, keepdim=True))

    yield mutant("softmax_sum", family, ops.softmax, softmax_over_rows, "axis mixed up")
    yield mutant(
        "log_softmax_sum",
        family,
        ops.log_softmax,
        lambda g, x: g - torch.softmax(x, -1) * g.sum(0, keepdim=True),
        "axis mixed up",
    )

    def layer_norm_over_batch(g: Tensor, x: Tensor) -> Tensor:
        scale = torch.rsqrt((x**2).mean(-1, keepdim=True) + 0.1)
        return scale * g - x * scale**3 * (g * x).mean(0, keepdim=True)

    yield mutant("rms_norm_mean", family, ops.rms_norm, layer_norm_over_batch, "axis mixed up")
    both = Operation({"x": SQUARE}, lambda x: x.sum(0), lambda g, x: g.unsqueeze(0).expand(x.shape))
    yield mutant("column_sums", family, both, lambda g, x: g.unsqueeze(1).expand(x.shape), "axis mixed up")
    yield mutant(
        "transpose_as_reshape", family, ops.transpose, lambda g, x: g.reshape(x.shape), "elements in another order"
    )
    flip = Operation({"x": VECTOR}, lambda x: x.flip(0) ** 2, lambda g, x: 2 * x * g.flip(0))
    yield mutant("flip", family, flip, lambda g, x: 2 * x * g, "elements in another order")
    yield mutant(
        "convolution_not_flipped",
        family,
        ops.convolution,
        lambda g, x, w: (
            torch.nn.functional.pad(g, (2, 2)).unfold(0, 3, 1) @ w,
            ops.convolution_backward(g, x, w)[1],
        ),
        "elements in another order",
    )
    yield mutant("product_exchanged", family, ops.product, lambda g, a, b: (g * a, g * b), "arguments exchanged")
    yield mutant(
        "divide_exchanged", family, ops.quotient, lambda g, a, b: (-g * a / b**2, g / b), "arguments exchanged"
    )


def broadcasting() -> Iterator[Mutant]:
    """The gradient of what was broadcast is a sum over where it went."""
    family = "broadcasting"
    name = "wrong reduction after broadcasting"
    yield mutant("bias_first_row", family, ops.bias, lambda g, x, b: (g, g[0]), name)
    yield mutant("bias_total", family, ops.bias, lambda g, x, b: (g, g.sum().expand(b.shape)), name)
    yield mutant("linear_bias_last", family, ops.linear, lambda g, x, w, b: (g @ w, g.T @ x, g[-1]), name)
    yield mutant("column_scale_no_sum", family, ops.column_scale, lambda g, x, s: (g * s, (g * x)[0]), name)
    yield mutant("row_scale_total", family, ops.row_scale, lambda g, x, s: (g * s, (g * x).sum().expand(s.shape)), name)
    yield mutant("temperature_first", family, ops.temperature, lambda g, x, s: (g * s, (g * x)[0, 0]), name)
    yield mutant("bias_mean", family, ops.bias, lambda g, x, b: (g, g.mean(0)), "mean for sum")
    yield mutant(
        "layer_norm_bias_mean",
        family,
        ops.layer_norm,
        lambda g, x, w, b: (*ops.layer_norm_backward(g, x, w, b)[:2], g.mean(0)),
        "mean for sum",
    )
    yield mutant(
        "only_where_broadcast",
        family,
        ops.optional_scale,
        lambda g, x, s: (g * s, (g * x).sum_to_size(s.shape) if s.shape == x.shape else (g * x)[:, :1]),
        "only where broadcast",
    )


def columns() -> Iterator[Mutant]:
    """(n, 1) against (n,) is (n, n)."""
    family = "(n, 1) against (n,)"
    yield mutant(
        "column_loss",
        family,
        ops.column_loss,
        lambda g, x, t: (2 * g * (x - t) / t.numel(), 2 * g * (t - x.squeeze(1)) / t.numel()),
        family,
    )
    yield mutant(
        "column_loss_mean",
        family,
        ops.column_loss,
        lambda g, x, t: (
            2 * g * (x - t).mean(1, keepdim=True) / t.numel(),
            2 * g * (t - x.squeeze(1)) / t.numel(),
        ),
        family,
    )
    weighted = Operation(
        {"x": Float[Tensor, "n 1"], "w": VECTOR},
        lambda x, w: x.squeeze(1) * w,
        lambda g, x, w: ((g * w).unsqueeze(1), g * x.squeeze(1)),
    )
    yield mutant("weights", family, weighted, lambda g, x, w: ((g * w).unsqueeze(1), (g * x).sum(0)), family)


def means() -> Iterator[Mutant]:
    """Sum for mean, and factors that follow a size."""
    family = "sum for mean"
    yield mutant("mean", family, ops.mean, lambda g, x: g.expand(x.shape), "sum for mean")
    yield mutant(
        "mean_square", family, ops.mean_square, lambda g, x, t: (2 * g * (x - t), -2 * g * (x - t)), "sum for mean"
    )
    yield mutant("row_means", family, ops.row_means, lambda g, x: g.unsqueeze(1).expand(x.shape), "sum for mean")
    yield mutant(
        "cross_entropy",
        family,
        ops.cross_entropy,
        lambda g, x, t: (ops.cross_entropy_backward(g, x, t)[0] * x.shape[0], None),
        "sum for mean",
    )
    yield mutant("sum_of_squares", family, ops.sum_of_squares, lambda g, x: 2 * g * x / len(x), "mean for sum")
    yield mutant(
        "variance_biased",
        family,
        ops.variance,
        lambda g, x: g * 2 * (x - x.mean(0)) / len(x),
        "factor that follows a size",
    )
    yield mutant(
        "mean_of_the_wrong_axis",
        family,
        ops.row_means,
        lambda g, x: (g / x.shape[0]).unsqueeze(1).expand(x.shape),
        "factor that follows a size",
    )


def _beyond(size: int, host: Operation, factor: float) -> Operation:
    """Wrong where the first argument has more elements than one block of a kernel."""

    def backward(g: Tensor, *inputs: Tensor) -> object:
        wrong = scaled(host.backward, factor)
        return (wrong if inputs[0].numel() > size else host.backward)(g, *inputs)

    return Operation(host.inputs, host.forward, backward)


def sizes() -> Iterator[Mutant]:
    """Right at small sizes only."""
    family = "sizes"
    name = "only beyond a size"

    def truncated(g: Tensor, x: Tensor) -> Tensor:
        found = 3 * g * x**2
        found[32:] = 0  # the kernel's second block is never written
        return found

    yield mutant("cube_one_block", family, ops.cube, truncated, name, sizes={"n": 5})

    def partial_sum(g: Tensor, x: Tensor) -> Tensor:
        weight = torch.softmax(x, -1)
        inner = (g * weight)[..., :32].sum(-1, keepdim=True)
        return weight * (g - inner)

    wide = Operation({"x": Annotated[VECTOR, Interval(ge=-2, le=2)]}, ops.softmax_forward, ops.softmax_backward)
    yield mutant("softmax_one_warp", family, wide, partial_sum, name)
    yield mutant(
        "sum_of_squares_beyond_64", family, ops.sum_of_squares,
        _beyond(64, ops.sum_of_squares, 1.01).backward, name,
    )  # fmt: skip
    yield mutant(
        "cube_at_17", family, ops.cube, lambda g, x: 3 * g * x**2 * (2 if len(x) == 17 else 1), "only at a size"
    )  # fmt: skip
    yield mutant("bias_beyond_32_rows", family, ops.bias, lambda g, x, b: (g, g[:32].sum(0)), name)


def layouts() -> Iterator[Mutant]:
    """Right where memory is contiguous only."""
    family = "layouts"
    name = "only for one layout"

    def memory(t: Tensor) -> Tensor:
        """A tensor's first numbers in memory, as a kernel reads them that does not ask for strides."""
        return torch.as_strided(t, t.shape, torch.empty(t.shape).stride())

    def strided(t: Tensor) -> Tensor:
        fits = t.numel() <= t.untyped_storage().nbytes() // t.element_size() - t.storage_offset()
        return memory(t) if fits else t * 0

    scale = Operation({"x": MATRIX}, lambda x: x**3, lambda g, x: 3 * g * x**2)
    yield mutant("saved_input_by_memory", family, scale, lambda g, x: 3 * g * strided(x) ** 2, name)
    yield mutant("incoming_by_memory", family, scale, lambda g, x: 3 * strided(g) * x**2, name)
    yield mutant(
        "expanded_incoming",
        family,
        scale,
        lambda g, x: 3 * g * x**2 * (2 if 0 in g.stride() and g.numel() > 1 else 1),
        name,
    )
    yield mutant(
        "transposed_weight",
        family,
        ops.matmul,
        lambda g, a, b: (g @ strided(b).T, a.T @ g),
        name,
    )
