"""At least one call for every rule; the calls go through PyTorch's public functions wherever one leads there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F

from tests.rules.arguments import Example, a, d, i, p, q, r, u
from tests.rules.complexes import COMPLEXES
from tests.rules.discrete import DISCRETE
from tests.rules.factorizations import FACTORIZATIONS
from tests.rules.grids import GRIDS
from tests.rules.parts import PARTS
from tests.rules.special import SPECIAL
from tests.rules.tracing import Draw

aten = torch.ops.aten


MASK: Final = torch.tensor([[True, False, True], [False, False, True]])


def unary(*functions: Callable[..., Any], draw: Draw) -> dict[str, Example]:
    """Examples of functions of one tensor."""
    return {f.__name__: (f, draw) for f in functions}


ARITHMETIC: Final[dict[str, Example]] = {
    "add": (lambda x, y: torch.add(x, y, alpha=3) + 0.1, r(2, 3), r(3)),
    "sub": (lambda x, y: torch.sub(x, y, alpha=2) - 1, r(2, 3), r(2, 1)),
    "rsub": (lambda x, y: torch.rsub(x, y, alpha=2) + (1 - x), r(3), r(3)),
    "rsub alpha": (lambda x: torch.rsub(x, 3, alpha=2), r(3)),
    "mul": (lambda x, y: 3 * x * y, r(2, 3), r()),
    "div": (lambda x, y: x / y + x / 3, r(2, 3), p(3)),
    "div floor": (lambda x, y: torch.div(x, y, rounding_mode="floor"), r(4), p(4)),
    "div trunc": (lambda x: torch.div(x, 0.3, rounding_mode="trunc"), r(4)),
    "floor_divide": (lambda x: (x.detach() // 0.3) * x, r(4)),
    "remainder": (lambda x, y: x % y, r(4), p(4)),
    "fmod": (torch.fmod, r(4), p(4)),
    "neg": (lambda x: -x, r(3)),
    "reciprocal": (lambda x: 1 / x + torch.reciprocal(x), p(3)),
    "addcmul": (lambda x, y, z: torch.addcmul(x, y, z, value=0.5), r(2, 3), r(3), r(2, 1)),
    "addcdiv": (lambda x, y, z: torch.addcdiv(x, y, z, value=0.5), r(2, 3), r(3), p(2, 1)),
    "lerp": (lambda x, y, w: torch.lerp(x, y, w) + torch.lerp(x, y, 0.7), r(3), r(3), r(3)),
    "pow": (lambda x: x**2 + x**3 + x**-1 + x**-2, p(3)),
    "pow negative base": (lambda x: x**3, r(3)),
    "pow roots": (lambda x: x**0.5 + x**1.5 + x**0.3, p(3)),
    "pow tensors": (lambda x, y: x**y + 2**y, p(3), r(3)),
    "hypot": (torch.hypot, r(3), r(3)),
    "logaddexp": (lambda x, y: torch.logaddexp(x, y) + torch.logaddexp2(x, y), r(3), r(3)),
    "xlogy": (lambda x, y: torch.xlogy(x, y) + torch.xlogy(2, y), p(4), p(4)),
    "xlogy 0": (lambda y: torch.xlogy(d(0, 1, 2), y), p(3)),
    "xlog1py": (torch.special.xlog1py, p(4), p(4)),
    "logit": (lambda x: torch.logit(x) + torch.logit(x, 0.1), q(4)),
    "logit, bounds that cross": (lambda x: torch.logit(x, 0.6) * x, q(4)),
    "atan2": (torch.atan2, r(4), r(4)),
    "polygamma": (lambda x: torch.polygamma(1, x) + torch.polygamma(2, x), p(3)),
    **unary(torch.sqrt, torch.rsqrt, torch.log, torch.log2, torch.log10, torch.special.entr, draw=p(3)),
    **unary(torch.exp, torch.exp2, torch.expm1, torch.sin, torch.cos, torch.tan, torch.atan, draw=r(3)),
    **unary(torch.sinh, torch.cosh, torch.tanh, torch.asinh, torch.sinc, torch.erf, torch.erfc, draw=r(3)),
    **unary(torch.log1p, torch.lgamma, torch.digamma, draw=p(3)),
    **unary(torch.asin, torch.acos, torch.atanh, torch.erfinv, draw=u(3)),
    **unary(torch.acosh, draw=a(3)),
}

PIECES: Final[dict[str, Example]] = {
    **unary(torch.abs, torch.sign, torch.sgn, torch.floor, torch.ceil, torch.trunc, torch.frac, torch.round, draw=r(5)),
    "round decimals": (lambda x: torch.round(x, decimals=1) + torch.round(x, decimals=-1), r(4)),
    "maximum": (lambda x, y: torch.maximum(x, y) + torch.fmax(x, y), r(3, 2), r(2)),
    "minimum": (lambda x, y: torch.minimum(x, y) + torch.fmin(x, y), r(3, 2), r(2)),
    "clamp": (lambda x: x.clamp(-1, 1) + x.clamp(min=0.5) + x.clamp(max=0.5), r(5)),
    "clamp tensors": (lambda x, y: torch.clamp(x, y, y + 1) + torch.clamp(x, max=y), r(4), r(4)),
    "clamp_min": (lambda x, y: torch.clamp_min(x, 0.0) + torch.clamp_max(x, y), r(4), r(4)),
    "where": (lambda x, y: torch.where(x > y, x, y * y) + torch.where(MASK, x, 0.0), r(2, 3), r(2, 3)),
    "masked_fill": (lambda x, y: x.masked_fill(MASK, 2.0) + x.masked_fill(x > 0, y), r(2, 3), r()),
    "heaviside": (lambda x: x * torch.heaviside(x.detach(), d(0.5)), r(4)),
    "copysign": (torch.copysign, r(4), p(4)),
    "frexp": (lambda x: torch.frexp(x)[0] * x, r(5)),
    "nan_to_num": (lambda x: torch.nan_to_num(x) + (x.isnan() | x.isinf()).double(), r(3)),
    "eq": (lambda x, y: (x == y).double() + (x != y) * x, r(4), r(4)),
    "gt": (lambda x, y: (x > y) * x + (x >= y) * y + (x < 1) * x + (x <= 1) * y, r(4), r(4)),
    "logical": (lambda x, y: (x.logical_and(y) | x.logical_xor(y)) * x + torch.logical_or(x, y), r(4), r(4)),
    "logical_not": (lambda x: torch.logical_not(x) * 2.0 + torch.logical_not(x > 0) * x, r(4)),
    "bitwise": (lambda x, y: ((x > 0) & ~(y > 0)) * x + ((x > 0) ^ (y > 0)) * y + ((x > 0) & True), r(4), r(4)),
}

ACTIVATIONS: Final[dict[str, Example]] = {
    **unary(F.relu, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus, F.logsigmoid, draw=r(5)),
    **unary(F.hardtanh, F.hardsigmoid, F.hardswish, F.hardshrink, F.softshrink, F.softsign, F.tanhshrink, draw=r(5)),
    **unary(F.relu6, torch.sigmoid, draw=r(4)),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), r(4)),
    "softplus threshold": (lambda x: F.softplus(x, beta=2, threshold=1), r(5)),
    "threshold": (lambda x: F.threshold(x, 0.5, 7.0), r(5)),
    "elu in place": (lambda x: F.elu(x * 1, alpha=0.5, inplace=True), r(5)),
    "leaky_relu in place": (lambda x: F.leaky_relu(x * 1, 0.3, inplace=True), r(5)),
    "prelu": (F.prelu, r(2, 3), r(3)),
    "glu": (F.glu, r(2, 4)),
}

REDUCTIONS: Final[dict[str, Example]] = {
    "sum": (lambda x: x.sum() + x.sum(1, keepdim=True) + x.sum((0, 1)), r(2, 3)),
    "mean": (lambda x: x.mean() + x.mean(0) + x.mean((0, 1), keepdim=True), r(2, 3)),
    "sum of a number": (lambda x: x.sum() + x.sum(0) + x.mean() + x.prod(), r()),
    "prod": (lambda x: x.prod() + x.prod(1, keepdim=True), r(2, 3)),
    "var": (lambda x: x.var() + x.var(1) + x.var(1, correction=0, keepdim=True), r(2, 2)),
    "std": (lambda x: x.std() + x.std(1, unbiased=False), r(2, 2)),
    "var_mean": (lambda x: (*torch.var_mean(x), *torch.std_mean(x, 0, correction=0)), r(2, 3)),
    "logsumexp": (lambda x: x.logsumexp(1) + x.logsumexp((0, 1)), r(2, 3)),
    "amax": (lambda x: x.amax() + x.amax(1) - x.amin((0, 1)), r(2, 3)),
    "aminmax": (lambda x: (*torch.aminmax(x), *torch.aminmax(x, dim=1, keepdim=True)), r(2, 3)),
    "norm": (lambda x: x.norm() + torch.linalg.vector_norm(x, dim=1), r(2, 3)),
    "norm 1 and inf": (lambda x: x.norm(1) + x.norm(float("inf"), dim=1) + x.norm(-float("inf"), dim=1), r(2, 3)),
    "norm 3 and 4": (lambda x: x.norm(3) + x.norm(4, dim=1) + x.norm(0.5), r(2, 3)),
    "norm 0": (lambda x: torch.linalg.vector_norm(x, 0) * x, r(3)),
    "norm as in ATen": (lambda x: aten.norm.ScalarOpt_dim(x, 2, [1]) + aten.norm.ScalarOpt_dim(x, 3, [0, 1]), r(2, 3)),
    "any": (lambda x: (x > 0).any() * x + (x > 0).all(0) * x + x.any(1, keepdim=True), r(2, 3)),
    "cumsum": (lambda x: x.cumsum(0) + x.cumsum(-1), r(2, 3)),
    "cumprod": (lambda x: x.cumprod(-1), r(2, 3)),
    "logcumsumexp": (lambda x: x.logcumsumexp(1), r(2, 3)),
    "mode": (lambda x: (*x.mode(1), *x.mode(0, keepdim=True)), r(2, 3)),
    "nanmedian": (
        lambda x: (*x.nanmedian(1), x.nanmedian(), torch.where(d(1, 0, 1) > 0, x, torch.nan).nanmedian()),
        r(2, 3),
    ),
    "max": (lambda x: (x.max() + x.min(), *x.max(1), *x.min(0, keepdim=True)), r(2, 3)),
    "argmax": (lambda x: x.reshape(-1)[x.argmax()] * x[0, x.argmin(1, keepdim=True)], r(2, 3)),
    "cummax": (lambda x: (*x.cummax(1), *x.cummin(0)), r(2, 3)),
    "sort": (lambda x: (*x.sort(1), *x.sort(0, descending=True), x.argsort()), r(2, 3)),
    "sort stable": (lambda x: x.sort(dim=1, stable=True), r(2, 3)),
    "topk": (lambda x: (*x.topk(2, 1), *x.topk(1, 0, largest=False)), r(2, 4)),
    "kthvalue": (lambda x: (*x.kthvalue(2), *x.kthvalue(1, 0, keepdim=True)), r(2, 3)),
    "median": (lambda x: (x.median(), *x.median(1)), r(2, 4)),
    "number": (lambda x: (*x.max(0), *x.sort(), *x.topk(1), x.cumsum(0), x.logsumexp(0)), r()),
}

LAYOUTS: Final[dict[str, Example]] = {
    "clone": (lambda x: x.t().contiguous() * x.t().clone(), r(2, 3)),
    "to": (lambda x: (x > 0).to(torch.float64) * x + x.to(torch.int64) + x.bool() + x.double(), r(4)),
    "copy": (lambda x, y: (x * 1).copy_(y) * x, r(2, 3), r(3)),
    "fill": (lambda x, y: (x * 1).fill_(0.1) * x + (x * 1).fill_(y) + (x * 1).zero_(), r(3), r()),
    "cat": (lambda x, y: torch.cat([x, y, x], 1), r(2, 3), r(2, 1)),
    "stack": (lambda x, y: torch.stack([x, y], 1), r(3), r(3)),
    "flip": (lambda x: x.flip(0, 1) * x.flip(-1), r(2, 3)),
    "roll": (lambda x: x.roll(1, 0) + x.roll((1, -1), (0, 1)) * x.roll(2), r(2, 3)),
    "repeat": (lambda x: x.repeat(2, 1, 2) + x.tile(2, 1, 2), r(2, 3)),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 1), r(2, 3)),
    "pad": (lambda x: F.pad(x, (1, 2), value=0.1) + F.pad(x, (-1, 4, 0, 0)), r(2, 3)),
    "tril": (lambda x: x.tril() + x.triu(1) * x.tril(-1) + x.triu(-1), r(3, 3)),
    "diag": (lambda x: (torch.diag_embed(x, 1), torch.diag_embed(x, -1, 0, 2)), r(2, 3)),
    "trace": (lambda x: x.trace(), r(3, 3)),
    "scatter views": (
        lambda x, y: torch.slice_scatter(x, y, 1, 1, 3) * torch.select_scatter(x, y[:, 0], 1, -1)
        + torch.diagonal_scatter(x, y[0], 1),
        r(2, 3), r(2, 2),
    ),
    "views": (lambda x: x[:, 1:3].sum() * x[0] + x.select(1, 2).prod() + x.diagonal(1).sum(), r(2, 4)),
    "unfold": (lambda x: x.unfold(1, 2, 1), r(2, 4)),
    "expand": (lambda x: x.expand(2, 3) * x.expand(4, 2, 3).sum(0), r(3)),
    "as_strided": (lambda x: x.as_strided((2, 2), (1, 2)), r(5)),
    "factories": (
        lambda x: x * torch.ones(3) + torch.zeros(3) + torch.full((3,), 0.1, dtype=torch.float64)
        + torch.scalar_tensor(0.3, dtype=torch.float64) * torch.eye(3, dtype=torch.float64)[0],
        r(3),
    ),
    "like": (lambda x: x * torch.ones_like(x) + torch.zeros_like(x) + torch.full_like(x, 0.1), r(3)),
    "new": (lambda x: x * x.new_ones(3) + x.new_zeros(3) + x.new_full((3,), 0.1), r(3)),
    "empty": (
        lambda x: torch.empty(3, dtype=torch.float64).copy_(x) + torch.empty_like(x).copy_(x) + x.new_empty(3).copy_(x)
        + x.new_empty_strided((3,), (1,)).copy_(x) + torch.empty_strided((3,), (2,), dtype=torch.float64).copy_(x)
        + torch.empty_permuted((3,), (0,), dtype=torch.float64).copy_(x),
        r(3),
    ),
}  # fmt: skip

INDEXINGS: Final[dict[str, Example]] = {
    "gather": (lambda x: x.gather(1, i([0, 2], [1, 1])), r(2, 3)),
    "scatter": (lambda x, y: x.scatter(1, i([0, 2], [1, 0]), y) + x.scatter(0, i([0, 1, 0]), 0.1), r(2, 3), r(2, 2)),
    "scatter combining": (
        lambda x, y: torch.scatter(x.detach(), 0, i([0, 0], [0, 1]), y.detach(), reduce="add")
        + torch.scatter(x.detach(), 0, i([0, 0], [1, 1]), 3.0, reduce="multiply") * x,
        r(2, 3), r(2, 2),
    ),
    "scatter_add": (lambda x, y: x.scatter_add(0, i([0, 0], [0, 1]), y), r(2, 3), r(2, 2)),
    "scatter_reduce": (
        lambda x, y: torch.stack([x.scatter_reduce(0, i(0, 0, 1), y, how) for how in ("sum", "prod", "mean", "amax")]),
        r(3), r(3),
    ),
    "scatter_reduce alone": (
        lambda x, y: torch.stack(
            [x.scatter_reduce(0, i(0, 0, 1), y, how, include_self=False) for how in ("sum", "mean", "amin")]
        ),
        r(3), r(3),
    ),
    "index": (lambda x: x[i(1, 0, 1)] * x[:, i(0, 1)].sum() + x[i(0), i(2, 1, 0)], r(2, 3)),
    "index apart": (lambda x: x[i(0, 1), :, i(1, 0)] + x[:, None, i(1, 1)].sum(), r(2, 3, 2)),
    "mask": (lambda x: (x[x > 0].sum() * x[MASK], x.masked_select(x < 1)), r(2, 3)),
    "unsafe index": (lambda x: aten._unsafe_index(x, [i(1, 1)]) + aten._unsafe_index_put(x, [i(1)], x[0]), r(2, 3)),
    "index_put": (lambda x, y: x.index_put((i(0, 1, 0), i(1, 1, 1)), y, accumulate=True), r(2, 3), r(3)),
    "index_put once": (lambda x, y: x.index_put((i(0, 1), i(1, 1)), y), r(2, 3), r(2)),
    "index_put impl": (lambda x, y: aten._index_put_impl_(x * 1, [i(0, 1)], y, True), r(2), r(2)),
    "assign": (lambda x, y: _assign(x * 1, y), r(2, 3), r(3)),
    "index_select": (lambda x: x.index_select(1, i(2, 0, 2)), r(2, 3)),
    "index_add": (lambda x, y: x.index_add(0, i(1, 1), y, alpha=2), r(2, 3), r(2, 3)),
    "index_copy": (lambda x, y: x.index_copy(1, i(2, 0), y), r(2, 3), r(2, 2)),
    "index_fill": (lambda x, y: x.index_fill(0, i(1), 0.1) + x.index_fill(1, i(0, 2), y), r(2, 3), r()),
    "take": (lambda x: x.take(i([0, 5], [-1, 2])) * torch.take_along_dim(x, i([1, 0]), 1), r(2, 3)),
    "put": (lambda x, y: x.put(i(1, 4), y) + x.put(i(1, 1), y, accumulate=True), r(2, 3), r(2)),
    "embedding": (lambda w: F.embedding(i([0, 2], [2, 1]), w), r(3, 2)),
    "embedding by frequency": (lambda w: F.embedding(i(0, 2, 2, 1), w, 1, scale_grad_by_freq=True), r(3, 2)),
    "masked_scatter": (lambda x, y: x.masked_scatter(MASK, y) + x.masked_scatter(x > 0, y), r(2, 3), r(6)),
    "nonzero": (lambda x: x[x.nonzero(as_tuple=True)], r(2, 3)),
}  # fmt: skip


def _assign(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x[0] = y
    x[:, 1] *= 2
    x[x > 1] = 0.5
    return x


MATRICES: Final[dict[str, Example]] = {
    "dot": (lambda x, y: torch.dot(x, y) * torch.vdot(x, y), r(3), r(3)),
    "mv": (lambda m, v: m @ v, r(2, 3), r(3)),
    "mm": (lambda m, n: m @ n, r(2, 3), r(3, 4)),
    "bmm": (lambda m, n: m @ n, r(2, 2, 3), r(2, 3, 1)),
    "matmul": (lambda m, n: m @ n, r(2, 1, 2, 3), r(3, 2)),
    "einsum": (lambda m, n: torch.einsum("ij,kj->ik", m, n), r(2, 3), r(4, 3)),
    "linear": (F.linear, r(2, 3), r(4, 3), r(4)),
    "addmm": (lambda x, m, n: torch.addmm(x, m, n, beta=0.5, alpha=2), r(4), r(2, 3), r(3, 4)),
    "addmm without": (lambda x, m, n: torch.addmm(x, m, n, beta=0), r(4), r(2, 3), r(3, 4)),
    "addmv": (lambda x, m, v: torch.addmv(x, m, v, alpha=2), r(2), r(2, 3), r(3)),
    "addr": (lambda x, v, w: torch.addr(x, v, w, beta=2) + torch.outer(v, w), r(2, 3), r(2), r(3)),
    "baddbmm": (lambda x, m, n: torch.baddbmm(x, m, n, alpha=2), r(2, 2, 1), r(2, 2, 3), r(2, 3, 1)),
    "addbmm": (lambda x, m, n: torch.addbmm(x, m, n, beta=0.5), r(2, 1), r(2, 2, 3), r(2, 3, 1)),
}

SYSTEMS: Final[dict[str, Example]] = {
    "inv": (torch.linalg.inv, r(3, 3)),
    "solve": (torch.linalg.solve, r(2, 2, 2), r(2, 2, 1)),
    "solve right": (lambda a, b: torch.linalg.solve(a, b, left=False), r(3, 3), r(2, 3)),
    "solve vector": (torch.linalg.solve, r(2, 2), r(2)),
    "det": (lambda a: torch.linalg.det(a) * torch.linalg.det(a.mT), r(2, 3, 3)),
    "det 5": (torch.linalg.det, r(5, 5)),
    "slogdet": (torch.linalg.slogdet, r(3, 3)),
    "lu": (lambda a: torch.linalg.lu(a)[1:], r(3, 3)),
    "lu_factor": (lambda a: torch.lu_unpack(*torch.linalg.lu_factor(a))[1:], r(2, 3)),
    "lu_solve": (lambda a, b: torch.linalg.lu_solve(*torch.linalg.lu_factor(a), b), r(2, 2), r(2, 2)),
    "cholesky": (lambda a: _definite_factor(a, torch.linalg.cholesky), r(2, 2, 2)),
    "cholesky upper": (lambda a: _definite_factor(a, lambda m: torch.linalg.cholesky(m, upper=True)), r(2, 2)),
    "solve_triangular": (lambda a, b: torch.linalg.solve_triangular(a, b, upper=False), r(3, 3), r(3, 2)),
    "solve_triangular right": (
        lambda a, b: torch.linalg.solve_triangular(a, b, upper=True, left=False, unitriangular=True), r(3, 3), r(2, 3),
    ),
    "cdist": (lambda x, y: torch.cdist(x, y) + torch.cdist(x, y, 1) * torch.cdist(x, y, torch.inf), r(2, 3), r(2, 3)),
    "cdist 3": (lambda x, y: torch.cdist(x, y, 3) + torch.cdist(x, y, 1.5) + torch.cdist(x, y, 0), r(2, 3), r(1, 3)),
    "pdist": (lambda x: F.pdist(x) + F.pdist(x, 1) + F.pdist(x, torch.inf) + F.pdist(x, 0), r(3, 2)),
    "pdist 3": (lambda x: F.pdist(x, 3) + F.pdist(x, 1.5), r(3, 2)),
    "bilinear": (F.bilinear, r(2, 2), r(2, 3), r(1, 2, 3), r(1)),
}  # fmt: skip


def _definite_factor(a: torch.Tensor, factor: Callable[..., torch.Tensor]) -> torch.Tensor:
    return factor(a @ a.mT + torch.eye(2, dtype=torch.float64))


WINDOWS: Final[dict[str, Example]] = {
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=1, dilation=2), r(2, 2, 7), r(3, 2, 3), r(3)),
    "conv2d grouped": (lambda x, w: F.conv2d(x, w, groups=2, padding=(1, 0)), r(1, 2, 3, 3), r(4, 1, 2, 2)),
    "conv transposed": (
        lambda x, w, b: F.conv_transpose1d(x, w, b, stride=2, padding=1, output_padding=1, groups=2),
        r(1, 4, 3), r(4, 1, 3), r(2),
    ),
    "avg_pool": (lambda x: F.avg_pool2d(x, 2, padding=1, ceil_mode=True), r(1, 4, 5)),
    "avg_pool inside": (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), r(1, 4, 5)),
    "avg_pool divisor": (lambda x: F.avg_pool2d(x, (2, 1), divisor_override=3), r(1, 4, 5)),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 2, padding=1, ceil_mode=True), r(1, 5)),
    "avg_pool3d": (lambda x: F.avg_pool3d(x, 2, stride=1), r(1, 2, 2, 3)),
    "max_pool": (lambda x: F.max_pool2d(x, 2, 1, 1, dilation=2, ceil_mode=True), r(1, 4, 5)),
    "max_pool1d": (lambda x: F.max_pool1d(x, 2), r(2, 5)),
    "max_pool3d": (lambda x: F.max_pool3d(x, 2, return_indices=True), r(1, 2, 2, 4)),
}  # fmt: skip

NORMALIZATIONS: Final[dict[str, Example]] = {
    "softmax": (lambda x: F.softmax(x, 0) + F.softmax(x, 1), r(2, 3)),
    "softmax masked": (lambda x: F.softmax(x.masked_fill(MASK, -torch.inf), 1), r(2, 3)),
    "log_softmax": (lambda x: F.log_softmax(x, 1) * F.log_softmax(x, 0), r(2, 3)),
    "safe softmax": (lambda x: torch._safe_softmax(x.masked_fill(d([1, 1], [1, 0]) > 0, -torch.inf), 1), r(2, 2)),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (3,), w, b), r(2, 3), r(3), r(3)),
    "layer_norm plain": (lambda x: F.layer_norm(x, (2, 2), eps=0.1), r(2, 2, 2)),
    "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), r(2, 4, 2), r(4), r(4)),
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), r(3, 2, 2), r(2), r(2)),
    "batch_norm running": (lambda x, w: F.batch_norm(x, d(1, 2), d(3, 4), w), r(3, 2), r(2)),
    "instance_norm": (lambda x: F.instance_norm(x, eps=0.1), r(2, 2, 3)),
    "batch_norm updating": (
        lambda x, w: torch.ops.aten._batch_norm_with_update(x, w, None, d(1, 2), d(3, 4), 0.1, 0.1)[0], r(3, 2), r(2),
    ),
    "group_norm of nothing": (lambda w: F.group_norm(d().reshape(0, 2, 2), 2, w), r(2)),
    "rms_norm": (lambda x, w: F.rms_norm(x, (3,), w, eps=0.1), r(2, 3), r(3)),
    "normalize": (lambda x: F.normalize(x, dim=1), r(2, 3)),
    "attention": (F.scaled_dot_product_attention, r(1, 1, 2, 3), r(1, 1, 4, 3), r(1, 1, 4, 3)),
    "attention causal": (
        lambda x, k, v: F.scaled_dot_product_attention(x, k, v, is_causal=True, scale=0.3),
        r(1, 2, 3, 2), r(1, 2, 3, 2), r(1, 2, 3, 2),
    ),
    "attention masked": (
        lambda x, k, v: F.scaled_dot_product_attention(x, k, v, attn_mask=MASK, enable_gqa=True),
        r(1, 2, 2, 2), r(1, 1, 3, 2), r(1, 1, 3, 2),
    ),
    "attention of matrices": (F.scaled_dot_product_attention, r(2, 3), r(2, 3), r(2, 3)),
}  # fmt: skip


def _ways(loss: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    def every_reduction(*args: Any) -> list[Any]:
        return [loss(*args, reduction=way, **options) for way in ("none", "mean", "sum")]

    return every_reduction


LOSSES: Final[dict[str, Example]] = {
    "mse": (_ways(F.mse_loss), r(2, 3), r(2, 3)),
    "l1": (_ways(F.l1_loss), r(2, 3), r(2, 3)),
    "huber": (_ways(F.huber_loss, delta=0.7), r(4), r(4)),
    "smooth_l1": (_ways(F.smooth_l1_loss, beta=0.7), r(4), r(4)),
    "nll": (_ways(F.nll_loss), r(2, 3), i(1, 2)),
    "nll weighted": (_ways(F.nll_loss, ignore_index=2), r(3, 3), i(1, 2, 0), d(1, 2, 3)),
    "nll of one": (_ways(F.nll_loss), r(3), torch.tensor(1)),
    "nll2d": (_ways(F.nll_loss), r(2, 3, 1, 2), i([[0, 1]], [[2, 0]])),
    "cross_entropy": (_ways(F.cross_entropy, label_smoothing=0.1), r(2, 3), i(1, 2)),
    "cross_entropy soft": (_ways(F.cross_entropy), r(2, 3), q(2, 3)),
    "bce": (_ways(F.binary_cross_entropy), q(4), q(4)),
    "bce weighted": (lambda x, t: F.binary_cross_entropy(x, t, d(1, 2, 3)), q(3), q(3)),
    "bce logits": (_ways(F.binary_cross_entropy_with_logits), r(4), q(4)),
    "bce logits weighted": (
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, d(1, 2, 3), pos_weight=d(3, 1, 2)), r(3), q(3),
    ),
    "kl_div": (_ways(F.kl_div), r(2, 3), q(2, 3)),
    "soft_margin": (_ways(F.soft_margin_loss), r(3), d(1, -1, 1)),
    "gaussian_nll": (F.gaussian_nll_loss, r(3), r(3), p(3)),
    "poisson_nll": (F.poisson_nll_loss, r(3), p(3)),
    "cosine_similarity": (F.cosine_similarity, r(2, 3), r(2, 3)),
    "triplet_margin": (F.triplet_margin_loss, r(2, 3), r(2, 3), r(2, 3)),
    "hinge_embedding": (F.hinge_embedding_loss, r(3), d(1, -1, 1)),
    "multi_margin": (_ways(F.multi_margin_loss, margin=0.5, p=2), r(2, 3), i(1, 2)),
    "multi_margin weighted": (lambda x, t: F.multi_margin_loss(x, t, weight=d(1, 2, 3)), r(3), torch.tensor(1)),
    "multilabel_margin": (_ways(F.multilabel_margin_loss), r(2, 3), i([2, 0, -1], [1, -1, 0])),
    "multilabel_margin of one": (F.multilabel_margin_loss, r(3), i(2, -1, 0)),
}  # fmt: skip

_FAMILIES: Final = (
    ARITHMETIC, PIECES, ACTIVATIONS, REDUCTIONS, LAYOUTS, INDEXINGS, MATRICES, SYSTEMS, WINDOWS, NORMALIZATIONS, LOSSES,
    GRIDS, SPECIAL, PARTS, FACTORIZATIONS, COMPLEXES, DISCRETE,
)  # fmt: skip
EXAMPLES: Final[dict[str, Example]] = {name: example for family in _FAMILIES for name, example in family.items()}
assert len(EXAMPLES) == sum(map(len, _FAMILIES)), "two examples have the same name"
