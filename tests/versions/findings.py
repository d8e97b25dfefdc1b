"""Which findings of docs/pytorch-findings.md a PyTorch has: by PyTorch alone, each at its smallest input.

python tests/versions/findings.py     # one line of JSON: the version, and what each function gives
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, jvp

Numbers = Sequence[float]


@dataclass(frozen=True)
class Found:
    """A function at one input: what PyTorch was found to give, and what is right."""

    name: str
    compute: Callable[[], Tensor | Numbers | float | None]
    wrong: Numbers | float | str
    """Numbers, or the name of the error; NaN stands for a derivative that is lost."""
    right: Numbers | float
    since: tuple[int, int] = (2, 9)
    """The first version that has it, of those that were looked at."""
    until: tuple[int, int] = (9, 0)
    """The first that has it no more."""


def status(found: Found) -> str:
    """`has it`, `right`, or what PyTorch gives otherwise."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = found.compute()
    except (RuntimeError, AttributeError, TypeError, ImportError, NotImplementedError) as error:
        said = type(error).__name__
        return "has it" if said == found.wrong else f"{said}: {str(error).splitlines()[0][:100]}"
    numbers, right = _flat(value), _flat(found.right)
    wrong = [] if isinstance(found.wrong, str) else _flat(found.wrong)
    if wrong and _near(numbers, wrong, right):
        return "has it"
    return "right" if _near(numbers, right, wrong or [2 * r + 1 for r in right]) else f"gives {numbers}"


def installed() -> tuple[int, ...]:
    """The version of PyTorch, major and minor."""
    return tuple(map(int, torch.__version__.split(".")[:2]))


def _flat(value: Tensor | Numbers | float | None) -> list[float]:
    if value is None:
        return [math.nan]
    if isinstance(value, Tensor):
        return [float(entry) for entry in value.detach().flatten()]
    return [float(entry) for entry in value] if isinstance(value, Sequence) else [float(value)]


def _near(numbers: list[float], wanted: list[float], other: list[float]) -> bool:
    """Ten times nearer than what it is told from."""
    if len(numbers) != len(wanted):
        return False
    for number, want, not_want in zip(numbers, wanted, other, strict=True):
        same = number == want or (math.isnan(number) and math.isnan(want))
        if not (same or abs(number - want) <= abs(not_want - want) / 10):
            return False
    return True


def at(*entries: float) -> Tensor:
    return torch.tensor(entries, dtype=torch.float64, requires_grad=True)


def matrix(*rows: Numbers) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def gradient(function: Callable[[Tensor], Tensor], x: Tensor, dy: Tensor | None = None) -> Tensor:
    x = x.detach().requires_grad_()
    y = function(x)
    return torch.autograd.grad(y, x, torch.ones_like(y) if dy is None else dy, allow_unused=True)[0]


def tangent(function: Callable[..., Tensor], *pairs: tuple[Tensor, Tensor]) -> Tensor | None:
    """By dual numbers; None where it is lost."""
    with forward_ad.dual_level():
        y = function(*(forward_ad.make_dual(x.detach(), dx) for x, dx in pairs))
        return forward_ad.unpack_dual(y).tangent


def over(
    function: Callable[[Tensor], Tensor], *ways: Callable[..., Callable[[Tensor], Tensor]], s: float = 0.0
) -> Tensor:
    """A derivative of higher order along s, the innermost way last."""
    for way in reversed(ways):
        function = way(function)
    return function(at(s).detach()[0])


def forward(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda s: jvp(function, (s,), (torch.ones_like(s),))[1]


def dual_over_backward(function: Callable[[Tensor], Tensor], s: float = 0.0) -> Tensor | None:
    with forward_ad.dual_level():
        moving = forward_ad.make_dual(at(s)[0], ONES[0])
        (first,) = torch.autograd.grad(function(moving), moving)
        return forward_ad.unpack_dual(first).tangent


A, EYE, DIRECTION, B = matrix([2, 1], [1, 3]), matrix([1, 0], [0, 1]), matrix([1, 0.5], [0, 2]), matrix([1, 1], [1, 2])
LOWER, FIRST = matrix([1, 0], [1, 1]), matrix([1, 0], [0, 0])
ONES = at(1.0).detach()


def det(s: Tensor) -> Tensor:
    return torch.det(A + s * EYE)


def slogdet(s: Tensor) -> Tensor:
    return torch.linalg.slogdet(A + s * EYE)[1]


def entropy(s: Tensor) -> Tensor:
    return F.binary_cross_entropy(s + 1e-3, torch.ones_like(s))


def solution(s: Tensor) -> Tensor:
    return torch.linalg.solve(A + s * DIRECTION, B).sum()


def inverse(s: Tensor) -> Tensor:
    return torch.cholesky_inverse(LOWER + s * FIRST)[0, 0]


def reflection(s: Tensor) -> Tensor:
    return torch.linalg.householder_product(torch.stack([torch.ones_like(s), 0.5 + s])[:, None], at(0.3).detach())[1, 0]


def triangular(s: Tensor) -> Tensor:
    return torch.triangular_solve(B, matrix([2, 1], [0, 3]) + s * DIRECTION)[0].sum()


def layer_norm(s: Tensor) -> Tensor:
    return F.layer_norm(torch.stack([s, torch.ones_like(s)]), (2,))[0]


def batch_norm(s: Tensor) -> Tensor:
    return F.batch_norm(torch.stack([s, torch.ones_like(s)])[:, None], None, None, training=True)[0, 0]


def three(s: Tensor) -> Tensor:
    return torch.stack([s, torch.ones_like(s), torch.full_like(s, 3.0)])


def thrice(function: Callable[[Tensor], Tensor]) -> Tensor:
    s = at(0.3)[0]
    value = function(s)
    for _ in range(3):
        (value,) = torch.autograd.grad(value, s, create_graph=True)
    return value


def amax(x: Tensor, source: Tensor) -> Tensor:
    return torch.scatter_reduce(x, 0, torch.tensor([0, 0]), source, "amax", include_self=False)


def prod(x: Tensor, source: Tensor) -> Tensor:
    return torch.scatter_reduce(x, 0, torch.tensor([0]), source, "prod", include_self=False)


def weight_gradient() -> Tensor:
    a = 32.000004
    x = torch.tensor([[a, a], [a, a], [a, a], [a, 0.0]], dtype=torch.float32)
    weight = torch.ones(2, dtype=torch.float32, requires_grad=True)
    return torch.autograd.grad(F.layer_norm(x, (2,), weight).sum(), weight)[0][0]


def own_square() -> Tensor | None:
    @torch.library.custom_op("versions::square", mutates_args=())
    def square(x: Tensor) -> Tensor:
        return x * x

    return tangent(square, (at(3.0), ONES))


class Cube(torch.autograd.Function):
    """x³ with its jvp, for nested forward mode."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_forward(*inputs)  # type: ignore[attr-defined]
        ctx.save_for_backward(*inputs)  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0] ** 2 * dy  # type: ignore[attr-defined]

    @staticmethod
    def jvp(ctx: object, dx: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0] ** 2 * dx  # type: ignore[attr-defined]


def chunked(x: Tensor) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=1)
    w = matrix([1, 2, 3], [2, 0, 1], [0, 1, 1], [1, 1, 0])
    return F.linear_cross_entropy(x, w, torch.tensor([0, 3]), options=options)


X23, EYE3 = matrix([0.5, 1, 2], [1, -1, 0]), matrix([1, 0, 0], [0, 1, 0])


def pinv_gradient() -> Tensor:
    a = matrix([0, 2.0**-20], [-(2.0**-11), 0], [4, 0])
    return gradient(torch.linalg.pinv, a, matrix([-1, 3, 1], [1, 1, -1]))[0, 0]


def saved_statistics() -> Tensor | None:
    x = matrix([1, 3]).requires_grad_()
    mean = torch.native_layer_norm(x, (2,), None, None, 1e-5)[1]
    return torch.autograd.grad(mean.sum(), x)[0][0] if mean.requires_grad else None


def attention_statistics() -> Tensor | None:
    q, k = matrix([1, 2])[None, None].requires_grad_(), matrix([3, 4])[None, None]
    log_mass = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, k)[1]
    return torch.autograd.grad(log_mass.sum(), q)[0][..., 0] if log_mass.requires_grad else None


def group_statistics() -> Tensor | None:
    x = matrix([1, 3])[None].requires_grad_()
    mean = torch.native_group_norm(x, None, None, 1, 1, 2, 1, 1e-5)[1]
    found = torch.autograd.grad(mean.sum(), x, allow_unused=True)[0] if mean.requires_grad else None
    return None if found is None else found.flatten()[0]


def narrow_tangent(function: Callable[[Tensor], Tensor]) -> float:
    x = torch.tensor([[3.0, 4.0]], dtype=torch.float16)
    found = tangent(function, (x, torch.ones_like(x)))
    assert found is not None
    return 32.0 if found.dtype == torch.float32 else 16.0


def chosen() -> Tensor:
    z, y = torch.tensor([1 + 2j, 3j], requires_grad=True), at(1.0, 2.0)
    return torch.autograd.grad(torch.where(torch.tensor([True, False]), z, y).real.sum(), y)[0]


def unpooled(x: Tensor) -> Tensor:
    return F.max_unpool1d(x[None, None], torch.tensor([[[0, 0]]]), [2], [2], output_size=[4])


def segments(x: Tensor) -> Tensor:
    return torch.segment_reduce(x, "max", lengths=torch.tensor([2]))


def noise(mean: Tensor) -> Tensor:
    return torch.normal(mean, at(1.0, 1.0).detach())


def logaddexp_hessian() -> Tensor:
    x, y = at(1.0), at(-math.inf)
    first = torch.autograd.grad(torch.logaddexp(x, y), (x, y), create_graph=True)
    return torch.cat(torch.autograd.grad(first[0] + first[1], (x, y)))


def logsumexp_over_forward() -> Tensor:
    x = at(0.0, 0.0)
    with forward_ad.dual_level():
        moving = forward_ad.make_dual(x, at(1.0, 0.0))
        along = forward_ad.unpack_dual(moving.logsumexp(0)).tangent
        assert along is not None
        return torch.autograd.grad(along, x)[0]


NAN = math.nan
FOUND: Final = (
    Found("hardsigmoid", lambda: gradient(F.hardsigmoid, at(0.0)), 0.1666666716337204, 1 / 6),
    Found("binary_cross_entropy", lambda: gradient(lambda p: F.binary_cross_entropy(p, at(0.0).detach()), at(2.2e-308)),
          2.2e-296, 1.0),
    Found("digamma", lambda: gradient(torch.digamma, at(1.0)), 1.6449340676383375, 1.6449340668482264),
    Found("layer_norm, weight", weight_gradient, 1.0006893, 0.99999998),
    Found("logsumexp", lambda: gradient(lambda x: x.logsumexp(0), at(524288.0, 524287.3))[0], 0.6681877721940691,
          0.66818777217074718),
    Found("sigmoid", lambda: gradient(torch.sigmoid, at(16.0)), 1.1253514941371313e-7, 1.1253514939093229e-7),
    Found("expm1", lambda: gradient(torch.expm1, at(-40.0)), 0.0, math.exp(-40)),
    Found("frexp", lambda: gradient(lambda x: torch.frexp(x)[0], at(2.0**200)), 0.0, 2.0**-201),
    Found("frexp, half precision", lambda: narrow_tangent(lambda x: torch.frexp(x)[0]), 32.0, 16.0),
    Found("renorm, half precision", lambda: narrow_tangent(lambda x: torch.renorm(x, 2, 0, 1.0)), 32.0, 16.0),
    Found("where, complex and real", chosen, "RuntimeError", (0.0, 1.0)),
    Found("cholesky_inverse, forward", lambda: tangent(torch.cholesky_inverse, (LOWER, FIRST)), (-8, 0, 0, 2),
          (-4, 1, 1, 0)),
    Found("as_strided_scatter", lambda: gradient(lambda x: torch.as_strided_scatter(x, at(5.0).detach(), (1,), (1,)),
                                                 at(2.0, 3.0)), (1, 0), (0, 1)),
    Found("scatter_reduce prod, forward", lambda: tangent(prod, (at(3.0), ONES), (at(2.0), ONES)), NAN, 1.0),
    Found("scatter_reduce amax", lambda: gradient(lambda s: amax(ONES, s), at(1.0, 0.0)), (0.5, 0), (1, 0)),
    Found("cholesky_inverse, unread triangle", lambda: gradient(torch.cholesky_inverse, matrix([2, 7], [1, 3]))[0, 1],
          -62 / 81, 0.0),
    Found("cholesky_solve, unread triangle", lambda: gradient(lambda a: torch.cholesky_solve(EYE, a),
                                                              matrix([2, 7], [1, 3]))[0, 1], -62 / 81, 0.0),
    Found("eigvalsh, unread triangle", lambda: gradient(torch.linalg.eigvalsh, matrix([1, 1], [1, 1]),
                                                        at(1.0, -1.0).detach())[0, 1], -1.0, 0.0),
    Found("custom_op, forward", own_square, NAN, 6.0),
    Found("linear_cross_entropy, forward", lambda: tangent(chunked, (X23, EYE3)), NAN, -0.3847298094355045,
          since=(2, 13)),
    Found("polar", lambda: gradient(lambda r: torch.view_as_real(torch.polar(r, at(0.0).detach()))[..., 0], at(-1.0)),
          -1.0, 1.0),
    Found("logcumsumexp, forward", lambda: tangent(lambda x: x.logcumsumexp(0), (at(1.0), ONES)), 1 - 1e-13, 1.0),
    Found("logcumsumexp", lambda: gradient(lambda x: x.logcumsumexp(0), at(700.0, 0.0))[0], 1.99999999999989, 2.0),
    Found("native_layer_norm, saved statistics", saved_statistics, NAN, 0.5),
    Found("native_group_norm, saved statistics", group_statistics, NAN, 0.5, until=(2, 14)),
    Found("flash attention, log-sum-exp", attention_statistics, NAN, 3 / math.sqrt(2)),
    Found("max_unpool", lambda: gradient(unpooled, at(5.0, 5.0)), (1, 1), (0, 1)),
    Found("segment_reduce", lambda: gradient(segments, at(1.0, 1.0), -ONES), (-1, -1), (-0.5, -0.5)),
    Found("normal, forward", lambda: tangent(noise, (ONES, ONES)), "RuntimeError", (0, 0)),
    Found("layer_norm, second order", lambda: over(layer_norm, grad, forward), 2.9998200089993925, 0.00011998800090001),
    Found("batch_norm, second order", lambda: over(batch_norm, grad, forward), 2.9998200089993925, 0.00011998800090001),
    Found("pinv", pinv_gradient, 263199.996, 262175.9960932732),
    Found("det, singular", lambda: gradient(torch.det, matrix([1, 2], [2, 4])), (0, 0, 0, 0), (4, -2, -2, 1)),
    Found("det, second order", lambda: over(det, grad, forward), 5.0, 2.0),
    Found("slogdet, second order", lambda: over(slogdet, grad, forward), 0.0, -0.6),
    Found("solve, second order", lambda: over(solution, grad, forward), 0.376, 0.752),
    Found("logaddexp with -inf, second order", logaddexp_hessian, (NAN, NAN), (0, 0)),
    Found("householder_product, singular", lambda: gradient(lambda v: torch.linalg.householder_product(v, ONES),
                                                            matrix([1], [0]))[1, 0], NAN, -1.0),
    Found("householder_product, second order", lambda: over(reflection, grad, forward), -0.1224, 0.0),
    Found("triangular_solve, second order", lambda: dual_over_backward(triangular), 19 / 24, 17 / 18),
    Found("cholesky_inverse, second order", lambda: over(inverse, grad, forward), 24.0, 12.0),
    Found("binary_cross_entropy, second order", lambda: over(entropy, grad, grad), 999999.997997998, 1e6),
    Found("a custom Function, forward over forward", lambda: over(Cube.apply, forward, forward, s=2.0), 0.0, 12.0),
    Found("layer_norm, third order", lambda: thrice(lambda s: F.layer_norm(three(s), (3,))[0]), 0.2101206547807966,
          0.21969509377325656),
    Found("batch_norm, third order", lambda: thrice(lambda s: F.batch_norm(three(s)[:, None], None, None,
                                                                           training=True)[0, 0]), 0.2101206547807966,
          0.21969509377325656, until=(2, 14)),
    Found("det, third order", lambda: over(det, forward, forward, forward), 5.0, 0.0),
    Found("solve, third order", lambda: over(solution, forward, forward, forward), -0.2008, -1.2048),
    Found("logsumexp, reverse over forward", logsumexp_over_forward, "RuntimeError", (-0.25, 0.25)),
)  # fmt: skip
"""One for each kind of finding in the table, in its order."""


if __name__ == "__main__":
    print(json.dumps({torch.__version__: {found.name: status(found) for found in FOUND}}))
