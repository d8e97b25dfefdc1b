"""Wrong twins by one slip each: a Function that computes what the right one does, and errs where its backward ends."""

from collections.abc import Callable, Sequence
from typing import Any, Final, get_type_hints

import torch
from torch import Tensor

from tests.everyday import (
    activations,
    bookkeeping,
    distributions,
    finance,
    geometry,
    graphs,
    layers,
    losses,
    matrices,
    physics,
    robotics,
    signals,
    statistics,
)  # fmt: skip
from tests.everyday.corpus import wrong

Gradients = Sequence[Tensor | None]


def doubled(_incoming: Tensor, found: Gradients) -> Gradients:
    """A ½ of the formula was forgotten."""
    return [None if g is None else 2 * g for g in found]


def negated(_incoming: Tensor, found: Gradients) -> Gradients:
    """The sign of the last input's, as happens in differences."""
    return [*found[:-1], None if found[-1] is None else -found[-1]]


def first_forgotten(_incoming: Tensor, found: Gradients) -> Gradients:
    """The first input is taken for data."""
    return [None if found[0] is None else torch.zeros_like(found[0]), *found[1:]]


def last_forgotten(_incoming: Tensor, found: Gradients) -> Gradients:
    """The last input is taken for a constant."""
    return [*found[:-1], None]


def one_row(_incoming: Tensor, found: Gradients) -> Gradients:
    """What should be summed over a batch is taken from its first row."""
    return [None if g is None else g[:1].expand_as(g) if g.dim() else g for g in found]


def clipped(_incoming: Tensor, found: Gradients) -> Gradients:
    """Gradient clipping where it does not belong."""
    return [None if g is None else g.clamp(-0.1, 0.1) for g in found]


def rounded(_incoming: Tensor, found: Gradients) -> Gradients:
    """Computed in half precision."""
    return [None if g is None else g.to(torch.bfloat16).to(g.dtype) for g in found]


def _slipping(function: Callable[..., Tensor], slip: Callable[[Tensor, Gradients], Gradients]) -> Callable[..., Any]:
    class Slipping(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Tensor:
            ctx.save_for_backward(*inputs)
            with torch.no_grad():
                return function(*inputs)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            with torch.enable_grad():
                inputs = [x.detach().requires_grad_(x.is_floating_point()) for x in ctx.saved_tensors]
                asked = [x for x in inputs if x.requires_grad]
                found = iter(torch.autograd.grad(function(*inputs), asked, grad, allow_unused=True))
            return tuple(slip(grad, [next(found) if x.requires_grad else None for x in inputs]))

    return Slipping.apply


SLIPS: Final[dict[Callable[[Tensor, Gradients], Gradients], tuple[Callable[..., Any], ...]]] = {
    doubled: (
        losses.gaussian_nll, losses.log_cosh, losses.bpr, activations.mish, activations.gelu_tanh, layers.alibi,
        physics.oscillator_energy, distributions.laplace, statistics.skewness, signals.low_pass,
        matrices.log_determinant, robotics.smoothness,
    ),
    negated: (
        losses.pinball, losses.dpo, geometry.pairwise_squared, geometry.smooth_union, distributions.kl_bernoulli,
        finance.payoff, statistics.concordance, signals.snr, physics.van_der_waals, robotics.extended_kalman,
        matrices.schur_complement, bookkeeping.outer_difference,
    ),
    first_forgotten: (
        losses.dice, losses.distillation, layers.weight_norm, layers.attention, distributions.beta, physics.fermi,
        finance.crra, statistics.rbf_kernel, graphs.graph_attention, geometry.pinhole, signals.circular_convolution,
        matrices.rayleigh,
    ),
    last_forgotten: (
        activations.snake, activations.prelu, layers.linear_attention, distributions.logistic, physics.morse,
        finance.bond, statistics.power_mean, statistics.kalman_gain, robotics.bearing_angle, geometry.volume_rendering,
        signals.gamma_correction, matrices.woodbury,
    ),
    one_row: (
        losses.charbonnier, layers.rms_norm, layers.group_norm, geometry.normalize_with_epsilon, graphs.set_pooling,
        statistics.z_scores, signals.pre_emphasis, bookkeeping.permuted, matrices.einsum_bilinear, finance.wealth,
    ),
    clipped: (
        losses.wing, activations.rational, distributions.gumbel, physics.lorenz, robotics.barrier, finance.annuity,
    ),
    rounded: (losses.js_divergence, activations.softsign, matrices.inverse, physics.planck, statistics.harmonic_mean),
}  # fmt: skip

for _slip, _functions in SLIPS.items():
    for _function in _functions:
        _hints = {n: h for n, h in get_type_hints(_function, include_extras=True).items() if n != "return"}
        wrong(
            _slipping(_function, _slip),
            verdict="inaccurate" if _slip is rounded else "wrong",
            inputs=_hints,
            name=f"{_function.__name__}_{_slip.__name__}",
        )
