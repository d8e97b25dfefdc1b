"""Mistakes at some places: narrow regions, single elements, ties and kinks, zeros, branches, overflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from annotated_types import Ge, Interval
from torch.nn import functional

from tests.detection import operations as ops
from tests.detection.mutant import (
    SCALAR,
    VECTOR,
    VECTOR_8,
    Annotated,
    Float,
    Mutant,
    Operation,
    Tensor,
    mutant,
    torch,
)  # fmt: skip


def regions() -> Iterator[Mutant]:
    """Wrong for some inputs only."""
    family = "regions"
    name = "only in a region"

    def narrow(g: Tensor, x: Tensor) -> Tensor:
        right = 3 * g * x**2
        return torch.where((x > 1.23) & (x < 1.24), 1.1 * right, right)

    yield mutant("cube_a_hundredth", family, ops.cube, narrow, name)
    yield mutant("elu_negative", family, ops.elu, lambda g, x: torch.where(x > 0, g, g * torch.exp(x) * 0.9), name)
    yield mutant("leaky_slope", family, ops.leaky_relu, lambda g, x: torch.where(x > 0, g, 0.1 * g), name)
    yield mutant("huber_not_clipped", family, ops.huber, lambda g, x, t: (g * (x - t), g * (t - x)), name)
    yield mutant("hard_tanh_one_side", family, ops.hard_tanh, lambda g, x: g * (x > -1), name)

    def saturated(g: Tensor, x: Tensor) -> Tensor:
        return torch.where(x.abs() > 7.5, torch.zeros_like(g), g / torch.cosh(x) ** 2)

    yield mutant("tanh_saturated", family, ops.tanh, saturated, name)
    gelu_far = Operation(ops.gelu.inputs, ops.gelu_forward, ops.gelu_backward)
    yield mutant(
        "gelu_far_out", family, gelu_far,
        lambda g, x: torch.where(x > 5, 0.999 * g, ops.gelu_backward(g, x)), name,
    )  # fmt: skip

    def taylor(g: Tensor, x: Tensor) -> Tensor:
        """cos near 0 by the first terms of its series, for speed."""
        return g * torch.where(x.abs() < 0.01, 1 - x**2 / 3, torch.cos(x))

    sine = Operation({"x": VECTOR_8}, torch.sin, lambda g, x: g * torch.cos(x))
    yield mutant("cosine_series", family, sine, taylor, name)
    yield mutant("cube_clipped_input", family, ops.cube, lambda g, x: 3 * g * x.clamp(-100, 100) ** 2, name)

    def branch(g: Tensor, x: Tensor) -> Tensor:
        return 2 * g * x if x.sum() < 10 else g * x

    yield mutant("sum_of_squares_branch", family, ops.sum_of_squares, branch, name)


def elements() -> Iterator[Mutant]:
    """Wrong for one element only."""
    family = "single elements"
    name = "one element only"

    def first(g: Tensor, x: Tensor) -> Tensor:
        found = 3 * g * x**2
        found[0] *= 1.001
        return found

    yield mutant("cube_first", family, ops.cube, first, name)

    def last(g: Tensor, x: Tensor) -> Tensor:
        found = g.flip(0).cumsum(0).flip(0)
        found[-1] = 0
        return found

    yield mutant("cumulative_sum_last", family, ops.cumulative_sum, last, name)

    def corner(g: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        weight = a.T @ g
        weight[-1, -1] = -weight[-1, -1]
        return g @ b.T, weight

    yield mutant("matmul_corner", family, ops.matmul, corner, name)

    def boundary(g: Tensor, x: Tensor) -> Tensor:
        inner = g[:-1] - g[1:]
        return torch.cat([torch.zeros_like(g[:1]), inner, g[-1:]])

    yield mutant("difference_boundary", family, ops.difference, boundary, name)

    def padding_row(g: Tensor, table: Tensor, index: Tensor) -> tuple[Tensor, None]:
        found = torch.zeros_like(table).index_add(0, index, g)
        found[0, 0] = 0
        return found, None

    yield mutant("embedding_cell", family, ops.embedding, padding_row, name)

    def assigned(g: Tensor, table: Tensor, index: Tensor) -> tuple[Tensor, None]:
        found = torch.zeros_like(table)
        found[index] = g  # where an index is met twice, only one of them counts
        return found, None

    yield mutant("embedding_assigned", family, ops.embedding, assigned, "missing term")


def ties() -> Iterator[Mutant]:
    """At kinks, and where elements are equal."""
    family = "ties and kinks"
    name = "only at ties and kinks"
    absolute = Operation({"x": VECTOR}, torch.abs, lambda g, x: g * torch.sign(x))
    yield mutant("absolute_at_zero", family, absolute, lambda g, x: g * torch.where(x == 0, 2.0, torch.sign(x)), name)
    yield mutant(
        "relu_at_zero", family, ops.relu, lambda g, x: g * torch.where(x == 0, -1.0, (x > 0).to(x.dtype)), name
    )

    def every(g: Tensor, x: Tensor) -> Tensor:
        """Every maximum gets all of the gradient."""
        return 2 * g.unsqueeze(1) * (x == x.amax(1, keepdim=True))

    def twice(g: Tensor, x: Tensor) -> Tensor:
        hit = (x == x.amax(1, keepdim=True)).to(x.dtype)
        return g.unsqueeze(1) * hit * hit.sum(1, keepdim=True)

    yield mutant("maximum_ties_multiplied", family, ops.maximum, twice, "tie")
    yield mutant("maximum_twice", family, ops.maximum, every, "constant factor")

    def both_lost(g: Tensor, x: Tensor) -> Tensor:
        pairs = x.reshape(-1, 2)
        first = (pairs[:, 0] > pairs[:, 1]).to(x.dtype)
        second = (pairs[:, 0] < pairs[:, 1]).to(x.dtype)
        tied = (pairs[:, 0] == pairs[:, 1]).to(x.dtype) * 3
        return torch.stack([g * (first + tied), g * (second + tied)], 1).reshape(-1)

    yield mutant("pool_ties", family, ops.pool, both_lost, "tie")
    yield mutant(
        "clamp_at_bound", family, ops.hard_tanh,
        lambda g, x: g * torch.where(x == 1, 5.0, ((x > -1) & (x < 1)).to(x.dtype)), name,
    )  # fmt: skip


def zeros() -> Iterator[Mutant]:
    """0·∞, 0**0, roots at 0."""
    family = "zeros"
    wide = Interval(ge=-8, le=8)
    product = Operation(
        {"a": Annotated[SCALAR, wide], "b": Annotated[SCALAR, wide]},
        lambda a, b: a * b,
        lambda g, a, b: (g * b, g * a),
    )
    yield mutant(
        "product_by_division", family, product, lambda g, a, b: (g * (a * b) / a, g * (a * b) / b), "division by zero"
    )
    total = Operation(
        {"x": Annotated[Float[Tensor, "3"], Interval(ge=-4, le=4)]},
        lambda x: x[0] * x[1] * x[2],
        lambda g, x: g * torch.stack([x[1] * x[2], x[0] * x[2], x[0] * x[1]]),
    )
    yield mutant("prod_by_division", family, total, lambda g, x: g * x.prod() / x, "division by zero")
    square = Operation({"x": VECTOR}, lambda x: x**2, lambda g, x: 2 * g * x)
    yield mutant("square_by_division", family, square, lambda g, x: 2 * g * x**2 / x, "division by zero")
    x_log_x = Operation(
        {"x": Annotated[VECTOR, Interval(ge=0, le=8)], "y": Annotated[VECTOR, Interval(ge=0.5, le=8)]},
        lambda x, y: x * torch.log(y),
        lambda g, x, y: (g * torch.log(y), g * x / y),
    )
    yield mutant(
        "x_log_y_by_division", family, x_log_x, lambda g, x, y: (g * (x * torch.log(y)) / x, g * x / y),
        "division by zero",
    )  # fmt: skip
    fourth = Operation({"x": Annotated[VECTOR, Ge(0)]}, lambda x: x**1.5, lambda g, x: 1.5 * g * torch.sqrt(x))
    yield mutant("power_by_division", family, fourth, lambda g, x: 1.5 * g * x**1.5 / x, "division by zero")
    yield Mutant(
        "length_by_root", family, lambda x: torch.sqrt((x * x).sum()), torch.linalg.vector_norm, {"x": VECTOR_8},
        "root of zero",
    )  # fmt: skip
    tiny = Annotated[VECTOR, Interval(ge=1e-15, le=1e-12)]
    yield Mutant(
        "cross_entropy_of_the_certain", family,
        lambda p: functional.binary_cross_entropy(p, torch.zeros_like(p), reduction="sum"),
        lambda p: -torch.log1p(-p).sum(), {"p": tiny}, "epsilon in PyTorch's formula",
    )  # fmt: skip
    quotient = Operation({"x": Annotated[VECTOR, Interval(ge=1e-6, le=8)]}, torch.log, lambda g, x: g / x)
    yield mutant("logarithm_with_epsilon", family, quotient, lambda g, x: g / (x + 1e-8), "epsilon in the formula")


def branches() -> Iterator[Mutant]:
    """NaN from the branch that was not taken, in plain PyTorch and by hand."""
    family = "branches"
    name = "NaN from the branch not taken"
    small = {"x": VECTOR_8}
    yield Mutant(
        "safe_root", family,
        lambda x: torch.where(x > 0, torch.sqrt(x), -x),
        lambda x: torch.where(x > 0, torch.sqrt(torch.where(x > 0, x, 1.0)), -x), small, name,
    )  # fmt: skip
    yield Mutant(
        "safe_arcsine", family,
        lambda x: torch.where(x.abs() < 1, torch.asin(x), x),
        lambda x: torch.where(x.abs() < 1, torch.asin(torch.where(x.abs() < 1, x, 0.0)), x), small, name,
    )  # fmt: skip
    yield Mutant(
        "safe_power", family,
        lambda x: torch.where(x > 1, (x - 1) ** 1.5, torch.zeros_like(x)),
        lambda x: torch.where(x > 1, torch.where(x > 1, x - 1, 1.0) ** 1.5, torch.zeros_like(x)), small, name,
    )  # fmt: skip
    yield Mutant(
        "safe_exponential", family,
        lambda x: torch.where(x < 20, torch.log1p(torch.exp(x)), x),
        lambda x: torch.where(x < 20, torch.log1p(torch.exp(x.clamp(max=20))), x),
        {"x": Annotated[VECTOR, Interval(ge=-20, le=2000)]}, name,
    )  # fmt: skip

    def masked(g: Tensor, x: Tensor) -> Tensor:
        return g * (x > 0) * torch.rsqrt(x) / 2

    root = Operation(
        small, lambda x: torch.sqrt(x.clamp(min=0)),
        lambda g, x: torch.where(x > 0, g / (2 * torch.sqrt(torch.where(x > 0, x, 1.0))), torch.zeros_like(g)),
    )  # fmt: skip
    yield mutant("masked_root", family, root, masked, name)

    def mean_of_positive(x: Tensor, count: Callable[[Tensor], Tensor]) -> Tensor:
        keep = (x > 0).to(x.dtype)
        return torch.where(keep.sum() > 0, (x * keep).sum() / count(keep), 0.0)

    yield Mutant(
        "masked_mean", family, lambda x: mean_of_positive(x, torch.sum),
        lambda x: mean_of_positive(x, lambda keep: keep.sum().clamp(min=1)), small, "0/0 under a mask",
    )  # fmt: skip


def _started_at_infinity(x: Tensor) -> Tensor:
    top = x.new_full((2,), float("-inf")).scatter_reduce(0, torch.zeros(len(x), dtype=torch.long), x, "amax")
    mass = x.new_zeros(2).scatter_add(0, torch.zeros(len(x), dtype=torch.long), (x - top[:1]).exp())
    return torch.nan_to_num(mass.log() + top, neginf=0.0)


def overflows() -> Iterator[Mutant]:
    """An intermediate that leaves the range of numbers."""
    family = "overflow"
    name = "overflow of an intermediate"
    wide = {"x": Annotated[VECTOR, Interval(ge=0, le=2000)]}
    soft = Operation(wide, lambda x: torch.logaddexp(x, torch.zeros_like(x)), lambda g, x: g * torch.sigmoid(x))
    yield mutant("softplus", family, soft, lambda g, x: g * torch.exp(x) / (1 + torch.exp(x)), name)
    gate = Operation(wide, torch.tanh, lambda g, x: g / torch.cosh(x.clamp(max=40)) ** 2)
    yield mutant(
        "tanh_by_exponentials", family, gate,
        lambda g, x: g * 4 * torch.exp(2 * x) / (1 + torch.exp(2 * x)) ** 2, name,
    )  # fmt: skip

    def naive(g: Tensor, x: Tensor) -> Tensor:
        return g * torch.exp(x) / torch.exp(x).sum()

    total = Operation(wide, ops.logsumexp.forward, ops.logsumexp.backward)
    yield mutant("logsumexp", family, total, naive, name)
    soft_minimum = Operation(
        {"x": Annotated[VECTOR, Interval(ge=800, le=2000)]},
        lambda x: -torch.logsumexp(-x, 0),
        lambda g, x: g * torch.exp(-x - torch.logsumexp(-x, 0)),
    )
    yield mutant(
        "soft_minimum",
        family,
        soft_minimum,
        lambda g, x: g * torch.exp(-x) / torch.exp(-x).sum(),
        "underflow of an intermediate",
    )
    yield Mutant(
        "maximum_from_infinity", family, _started_at_infinity,
        lambda x: torch.stack([torch.logsumexp(x, 0), torch.zeros_like(x[0])]), {"x": VECTOR_8}, "infinity on the way",
        modes=("forward",),
    )  # fmt: skip
    large = Annotated[VECTOR, Interval(ge=1, le=1e30)]
    length = Operation(
        {"a": large, "b": large},
        torch.hypot,
        lambda g, a, b: (g * (a / torch.hypot(a, b)), g * (b / torch.hypot(a, b))),
    )

    def squared(g: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        scale = torch.rsqrt(a**2 + b**2)
        return g * a * scale, g * b * scale

    yield mutant("hypotenuse", family, length, squared, name)
