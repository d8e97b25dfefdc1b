"""Wrong formulas: factors from 10⁻¹ to 10⁻¹², signs, dropped terms, what is treated as a constant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.detection import operations as ops
from tests.detection.mutant import (
    POSITIVE,
    VECTOR,
    VECTOR_8,
    Annotated,
    Mutant,
    Operation,
    Tensor,
    differentiable,
    mutant,
    scaled,
    torch,
)  # fmt: skip


def factors() -> Iterator[Mutant]:
    """The right gradient, times something near 1."""
    hosts: list[tuple[str, Operation]] = [
        ("cube", ops.cube),
        ("sigmoid", ops.sigmoid),
        ("mean_square", ops.mean_square),
        ("matmul", ops.matmul),
        ("huber", ops.huber),
        ("logsumexp", ops.logsumexp),
        ("cumulative_sum", ops.cumulative_sum),
        ("linear", ops.linear),
        ("gelu", ops.gelu),
        ("softplus", ops.softplus),
        ("bmm", ops.bmm),
        ("column_scale", ops.column_scale),
    ]
    for digits, (name, host) in enumerate(hosts, start=1):
        yield mutant(
            f"{name}_1e-{digits}", "factors", host, scaled(host.backward, 1 + 10.0**-digits), "constant factor"
        )
    yield mutant("cube_two_thirds", "factors", ops.cube, lambda g, x: 2 * g * x**2, "constant factor")
    yield mutant("sum_of_squares_half", "factors", ops.sum_of_squares, lambda g, x: g * x, "constant factor")
    yield mutant("square_root_twice", "factors", ops.square_root, lambda g, x: g / torch.sqrt(x), "constant factor")
    yield mutant(
        "attention_unscaled_keys",
        "factors",
        ops.attention,
        lambda g, q, k, v: tuple(
            part * (2 if i == 1 else 1) for i, part in enumerate(ops.attention_backward(g, q, k, v))
        ),
        "constant factor",
    )


def _twice(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The same for both arguments."""
    return gradient, gradient


def signs() -> Iterator[Mutant]:
    """A minus that was lost, or is one too many."""
    yield mutant("reciprocal", "signs", ops.reciprocal, lambda g, x: g / x**2, "sign")
    yield mutant(
        "gaussian_mean",
        "signs",
        ops.gaussian,
        lambda g, x, mu: _twice(-g * (x - mu) * torch.exp(-0.5 * (x - mu) ** 2)),
        "sign",
    )
    yield mutant("quotient_denominator", "signs", ops.quotient, lambda g, a, b: (g / b, g * a / b**2), "sign")
    yield mutant("difference", "signs", ops.difference, lambda g, x: -ops.difference.backward(g, x), "sign")
    yield mutant(
        "mean_square_target",
        "signs",
        ops.mean_square,
        lambda g, x, t: _twice(2 * g * (x - t) / x.numel()),
        "sign",
    )
    yield mutant("cosine", "signs", Operation({"x": VECTOR_8}, torch.cos, lambda g, x: -g * torch.sin(x)),
                 lambda g, x: g * torch.sin(x), "sign")  # fmt: skip
    # What slips past a tolerance of 1e-5: the wrong sign of something small.
    tiny = Operation({"x": VECTOR_8}, lambda x: 1e-6 * torch.sin(x), lambda g, x: 1e-6 * g * torch.cos(x))
    yield mutant("tiny_sine", "signs", tiny, lambda g, x: -1e-6 * g * torch.cos(x), "sign")


def _layer_norm_without(what: str) -> Any:
    def backward(g: Tensor, x: Tensor, weight: Tensor, _: Tensor) -> Any:
        centred = x - x.mean(-1, keepdim=True)
        scale = torch.rsqrt((centred**2).mean(-1, keepdim=True) + 0.1)
        normed = centred * scale
        gw = g * weight
        gx = gw
        if what != "mean":
            gx = gx - gw.mean(-1, keepdim=True)
        if what != "projection":
            gx = gx - normed * (gw * normed).mean(-1, keepdim=True)
        return scale * gx, (g * normed).sum(0), g.sum(0)

    return backward


def terms() -> Iterator[Mutant]:
    """A term of a product or of a chain that was dropped."""
    yield mutant(
        "sine_of_square_chain", "dropped terms", ops.sine_of_square, lambda g, x: g * torch.cos(x**2), "missing factor"
    )
    yield mutant("sine_of_square_outer", "dropped terms", ops.sine_of_square, lambda g, x: g * 2 * x, "missing factor")
    yield mutant(
        "damped_product_rule",
        "dropped terms",
        ops.damped,
        lambda g, x: g * torch.exp(-x) * torch.cos(x),
        "missing term",
    )
    yield mutant("silu_gate", "dropped terms", ops.silu, lambda g, x: g * torch.sigmoid(x), "missing term")
    yield mutant("sigmoid_square", "dropped terms", ops.sigmoid, lambda g, x: g * torch.sigmoid(x), "missing factor")
    yield mutant(
        "gelu_density",
        "dropped terms",
        ops.gelu,
        lambda g, x: g * 0.5 * (1 + torch.erf(x / ops.ROOT_TWO)),
        "missing term",
    )
    yield mutant("product_one_side", "dropped terms", ops.product, lambda g, a, b: (g * b, g), "missing factor")
    yield mutant(
        "power_logarithm",
        "dropped terms",
        ops.power,
        lambda g, x, y: (g * y * x ** (y - 1), g * x**y),
        "missing factor",
    )
    yield mutant("power_exponent", "dropped terms", ops.cube, lambda g, x: 3 * g * x, "missing factor")
    yield mutant("cube_forgot_to_lower", "dropped terms", ops.cube, lambda g, x: 3 * g * x**3, "extra factor")
    yield mutant(
        "quadratic_form_one_side",
        "dropped terms",
        ops.quadratic_form,
        lambda g, a, x: (g * torch.outer(x, x), g * (a @ x)),
        "missing term",
    )
    yield mutant(
        "divergence_one", "dropped terms", ops.divergence,
        lambda g, p, q: (g * (torch.log(p) - torch.log(q)), -g * p / q), "missing term",
    )  # fmt: skip
    yield mutant(
        "cross_entropy_target", "dropped terms", ops.cross_entropy,
        lambda g, x, t: (g * torch.softmax(x, 1) / x.shape[0], None), "missing term",
    )  # fmt: skip
    yield mutant("log_softmax_as_identity", "dropped terms", ops.log_softmax, lambda g, x: g * 1, "treated as constant")
    yield mutant("left_over", "dropped terms", ops.cube, lambda g, x: 3 * g * x**2 + g * x, "extra term")
    # The two sides are both right for a derivative: of sinh and of cosh. Nothing says which one was meant.
    yield mutant(
        "tanh_of_sine", "dropped terms", Operation({"x": VECTOR_8}, torch.sin, lambda g, x: g * torch.cos(x)),
        lambda g, x: g * torch.sin(x), "",
    )  # fmt: skip


def constants() -> Iterator[Mutant]:
    """What is treated as a constant and is none, and the other way round."""
    yield mutant(
        "softmax_denominator",
        "constants",
        ops.softmax,
        lambda g, x: torch.softmax(x, -1) * g,
        "treated as constant",
    )
    yield mutant("layer_norm_mean", "constants", ops.layer_norm, _layer_norm_without("mean"), "treated as constant")
    yield mutant(
        "layer_norm_variance", "constants", ops.layer_norm, _layer_norm_without("projection"), "treated as constant"
    )
    yield mutant(
        "batch_norm_variance",
        "constants",
        ops.batch_norm,
        lambda g, x: (g - g.mean(0)) * torch.rsqrt(x.var(0, unbiased=False) + 0.1),
        "treated as constant",
    )
    yield mutant(
        "rms_norm_scale",
        "constants",
        ops.rms_norm,
        lambda g, x: g * torch.rsqrt((x**2).mean(-1, keepdim=True) + 0.1),
        "treated as constant",
    )
    yield mutant("unit_vector_norm", "constants", ops.unit_vector, lambda g, x: g / x.norm(), "treated as constant")
    yield mutant(
        "attention_weights",
        "constants",
        ops.attention,
        lambda g, q, k, v: (torch.zeros_like(q), torch.zeros_like(k), torch.softmax(q @ k.T / 2, -1).T @ g),
        "no gradient",
    )
    yield mutant("quotient_denominator", "constants", ops.quotient, lambda g, a, b: (g / b, None), "no gradient")

    # Plain PyTorch: what autograd does is what was written, and not what was meant.
    def normalised(x: Tensor) -> Tensor:
        return x / x.norm().detach()

    yield Mutant(
        "detached_norm", "constants", normalised, lambda x: x / x.norm(), {"x": POSITIVE}, "treated as constant",
        textbook=lambda x: 1 / x.norm() - x * x.sum() / x.norm() ** 3,
    )  # fmt: skip

    def through_data(x: Tensor) -> Tensor:
        return x * x.data.exp()

    small = Annotated[VECTOR, ops.NARROW]
    yield Mutant(
        "data_of_a_factor", "constants", through_data, lambda x: x * x.exp(), {"x": small}, "treated as constant",
        textbook=lambda x: (1 + x) * x.exp(),
    )  # fmt: skip

    def without_grad(x: Tensor) -> Tensor:
        with torch.no_grad():
            gate = torch.sigmoid(x)
        return x * gate

    yield Mutant(
        "no_grad_gate", "constants", without_grad, lambda x: x * torch.sigmoid(x), {"x": VECTOR_8},
        "treated as constant", textbook=lambda x: torch.sigmoid(x) * (1 + x * torch.sigmoid(-x)),
    )  # fmt: skip

    # A stop-gradient that the hand-written backward does not respect.
    def stopped(x: Tensor) -> Tensor:
        return x * torch.tanh(x).detach()

    def forward(x: Tensor) -> Tensor:
        return x * torch.tanh(x)

    through = differentiable(forward, lambda g, x: g * (torch.tanh(x) + x / torch.cosh(x) ** 2))
    yield Mutant(
        "stop_gradient_ignored", "constants",
        lambda x: through(x), stopped, {"x": VECTOR_8}, "not treated as constant", textbook=lambda x: torch.tanh(x),
    )  # fmt: skip
