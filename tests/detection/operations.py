"""Functions with hand-written backward passes, as people write them; all of these are right."""

from __future__ import annotations

from annotated_types import Ge, Interval, Lt

from tests.detection.mutant import (
    MATRIX,
    POSITIVE,
    SCALAR,
    SQUARE,
    VECTOR,
    VECTOR_8,
    Annotated,
    Float,
    Int,
    Operation,
    Tensor,
    torch,
)  # fmt: skip

EPS = 1e-5
ROOT_TWO = 2**0.5
NORMAL = (2 * torch.pi) ** -0.5

# ---------------------------------------------------------------------------------------------------------------------
# Elementwise
# ---------------------------------------------------------------------------------------------------------------------

cube = Operation({"x": VECTOR}, lambda x: x**3, lambda g, x: 3 * g * x**2)
sine_of_square = Operation({"x": VECTOR_8}, lambda x: torch.sin(x**2), lambda g, x: g * torch.cos(x**2) * 2 * x)
damped = Operation(
    {"x": VECTOR_8},
    lambda x: torch.exp(-x) * torch.sin(x),
    lambda g, x: g * torch.exp(-x) * (torch.cos(x) - torch.sin(x)),
)
sigmoid = Operation({"x": VECTOR_8}, torch.sigmoid, lambda g, x: g * torch.sigmoid(x) * torch.sigmoid(-x))
tanh = Operation({"x": VECTOR_8}, torch.tanh, lambda g, x: g / torch.cosh(x) ** 2)
softplus = Operation({"x": VECTOR_8}, lambda x: torch.log1p(torch.exp(x)), lambda g, x: g * torch.sigmoid(x))
silu = Operation(
    {"x": VECTOR_8},
    lambda x: x * torch.sigmoid(x),
    lambda g, x: g * torch.sigmoid(x) * (1 + x * torch.sigmoid(-x)),
)


def gelu_forward(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / ROOT_TWO))


def gelu_backward(g: Tensor, x: Tensor) -> Tensor:
    density = NORMAL * torch.exp(-0.5 * x**2)
    return g * (0.5 * (1 + torch.erf(x / ROOT_TWO)) + x * density)


gelu = Operation({"x": Annotated[VECTOR, Interval(ge=-3, le=8)]}, gelu_forward, gelu_backward)
elu = Operation(
    {"x": VECTOR_8},
    lambda x: torch.where(x > 0, x, torch.expm1(x)),
    lambda g, x: torch.where(x > 0, g, g * torch.exp(x)),
)
relu = Operation({"x": VECTOR}, torch.relu, lambda g, x: g * (x > 0))
leaky_relu = Operation(
    {"x": VECTOR}, lambda x: torch.where(x > 0, x, 0.01 * x), lambda g, x: torch.where(x > 0, g, 0.01 * g)
)
hard_tanh = Operation({"x": VECTOR}, lambda x: x.clamp(-1, 1), lambda g, x: g * ((x > -1) & (x < 1)))
logarithm = Operation({"x": POSITIVE}, torch.log, lambda g, x: g / x)
reciprocal = Operation({"x": POSITIVE}, torch.reciprocal, lambda g, x: -g / x**2)
square_root = Operation({"x": POSITIVE}, torch.sqrt, lambda g, x: g / (2 * torch.sqrt(x)))
power = Operation(
    {"x": POSITIVE, "y": Annotated[VECTOR, Interval(ge=-3, le=3)]},
    lambda x, y: x**y,
    lambda g, x, y: (g * y * x ** (y - 1), g * x**y * torch.log(x)),
)
product = Operation({"a": VECTOR, "b": VECTOR}, lambda a, b: a * b, lambda g, a, b: (g * b, g * a))
quotient = Operation({"a": VECTOR, "b": POSITIVE}, lambda a, b: a / b, lambda g, a, b: (g / b, -g * a / b**2))
hypotenuse = Operation(
    {"a": POSITIVE, "b": POSITIVE},
    lambda a, b: torch.sqrt(a**2 + b**2),
    lambda g, a, b: (g * a / torch.sqrt(a**2 + b**2), g * b / torch.sqrt(a**2 + b**2)),
)
gaussian = Operation(
    {"x": Annotated[VECTOR, Interval(ge=-3, le=3)], "mu": Annotated[VECTOR, Interval(ge=-3, le=3)]},
    lambda x, mu: torch.exp(-0.5 * (x - mu) ** 2),
    lambda g, x, mu: (
        -g * (x - mu) * torch.exp(-0.5 * (x - mu) ** 2),
        g * (x - mu) * torch.exp(-0.5 * (x - mu) ** 2),
    ),
)

# ---------------------------------------------------------------------------------------------------------------------
# Reductions, norms and scans
# ---------------------------------------------------------------------------------------------------------------------

mean_square = Operation(
    {"x": VECTOR, "t": VECTOR},
    lambda x, t: ((x - t) ** 2).mean(),
    lambda g, x, t: (2 * g * (x - t) / x.numel(), -2 * g * (x - t) / x.numel()),
)
mean = Operation({"x": MATRIX}, lambda x: x.mean(), lambda g, x: (g / x.numel()).expand(x.shape))
column_sums = Operation({"x": MATRIX}, lambda x: x.sum(0), lambda g, x: g.expand(x.shape))
row_means = Operation({"x": MATRIX}, lambda x: x.mean(1), lambda g, x: (g / x.shape[1]).unsqueeze(1).expand(x.shape))
sum_of_squares = Operation({"x": VECTOR}, lambda x: (x**2).sum(), lambda g, x: 2 * g * x)
logsumexp = Operation(
    {"x": VECTOR_8}, lambda x: torch.logsumexp(x, 0), lambda g, x: g * torch.exp(x - torch.logsumexp(x, 0))
)
cumulative_sum = Operation({"x": VECTOR}, lambda x: x.cumsum(0), lambda g, x: g.flip(0).cumsum(0).flip(0))
difference = Operation(
    {"x": Float[Tensor, "n+1"]},
    lambda x: x[1:] - x[:-1],
    lambda g, x: torch.cat([-g[:1], g[:-1] - g[1:], g[-1:]]),
)
variance = Operation(
    {"x": Float[Tensor, "n+1"]},
    lambda x: x.var(0, unbiased=True),
    lambda g, x: g * 2 * (x - x.mean(0)) / (x.shape[0] - 1),
)
unit_vector = Operation(
    {"x": POSITIVE},
    lambda x: x / x.norm(),
    lambda g, x: g / x.norm() - x * (g * x).sum() / x.norm() ** 3,
)
norm = Operation({"x": POSITIVE}, lambda x: torch.sqrt((x**2).sum()), lambda g, x: g * x / torch.sqrt((x**2).sum()))


def softmax_forward(x: Tensor) -> Tensor:
    return torch.softmax(x, -1)


def softmax_backward(g: Tensor, x: Tensor) -> Tensor:
    y = torch.softmax(x, -1)
    return y * (g - (g * y).sum(-1, keepdim=True))


softmax = Operation({"x": Annotated[MATRIX, Interval(ge=-2, le=2)]}, softmax_forward, softmax_backward)


def log_softmax_backward(g: Tensor, x: Tensor) -> Tensor:
    return g - torch.softmax(x, -1) * g.sum(-1, keepdim=True)


log_softmax = Operation(
    {"x": Annotated[MATRIX, Interval(ge=-2, le=2)]}, lambda x: torch.log_softmax(x, -1), log_softmax_backward
)


def maximum_backward(g: Tensor, x: Tensor) -> Tensor:
    hit = (x == x.amax(1, keepdim=True)).to(x.dtype)
    return g.unsqueeze(1) * hit / hit.sum(1, keepdim=True)


maximum = Operation({"x": MATRIX}, lambda x: x.amax(1), maximum_backward)


def pool_forward(x: Tensor) -> Tensor:
    return x.reshape(-1, 2).amax(1)


def pool_backward(g: Tensor, x: Tensor) -> Tensor:
    pairs = x.reshape(-1, 2)
    first = (pairs[:, 0] >= pairs[:, 1]).to(x.dtype)
    return torch.stack([g * first, g * (1 - first)], 1).reshape(-1)


pool = Operation({"x": Float[Tensor, "2*n"]}, pool_forward, pool_backward)

# ---------------------------------------------------------------------------------------------------------------------
# Normalisation
# ---------------------------------------------------------------------------------------------------------------------

NARROW = Interval(ge=-4, le=4)


def layer_norm_forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 0.1) * weight + bias


def layer_norm_backward(g: Tensor, x: Tensor, weight: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    centred = x - x.mean(-1, keepdim=True)
    scale = torch.rsqrt((centred**2).mean(-1, keepdim=True) + 0.1)
    normed = centred * scale
    gw = g * weight
    gx = scale * (gw - gw.mean(-1, keepdim=True) - normed * (gw * normed).mean(-1, keepdim=True))
    return gx, (g * normed).sum(0), g.sum(0)


layer_norm = Operation(
    {
        "x": Annotated[MATRIX, NARROW],
        "weight": Annotated[Float[Tensor, "m"], NARROW],
        "bias": Annotated[Float[Tensor, "m"], NARROW],
    },
    layer_norm_forward,
    layer_norm_backward,
)


def rms_norm_backward(g: Tensor, x: Tensor) -> Tensor:
    scale = torch.rsqrt((x**2).mean(-1, keepdim=True) + 0.1)
    return scale * g - x * scale**3 * (g * x).mean(-1, keepdim=True)


rms_norm = Operation(
    {"x": Annotated[MATRIX, NARROW]},
    lambda x: x * torch.rsqrt((x**2).mean(-1, keepdim=True) + 0.1),
    rms_norm_backward,
)


def batch_norm_forward(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return centred / torch.sqrt((centred**2).mean(0) + 0.1)


def batch_norm_backward(g: Tensor, x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    scale = torch.rsqrt((centred**2).mean(0) + 0.1)
    normed = centred * scale
    return scale * (g - g.mean(0) - normed * (g * normed).mean(0))


batch_norm = Operation({"x": Annotated[MATRIX, NARROW]}, batch_norm_forward, batch_norm_backward)

# ---------------------------------------------------------------------------------------------------------------------
# Linear algebra and convolution
# ---------------------------------------------------------------------------------------------------------------------

matmul = Operation({"a": MATRIX, "b": Float[Tensor, "m k"]}, lambda a, b: a @ b, lambda g, a, b: (g @ b.T, a.T @ g))
square_matmul = Operation({"a": SQUARE, "b": SQUARE}, lambda a, b: a @ b, lambda g, a, b: (g @ b.T, a.T @ g))
linear = Operation(
    {"x": MATRIX, "w": Float[Tensor, "k m"], "b": Float[Tensor, "k"]},
    lambda x, w, b: x @ w.T + b,
    lambda g, x, w, b: (g @ w, g.T @ x, g.sum(0)),
)
bmm = Operation(
    {"a": Float[Tensor, "b n m"], "c": Float[Tensor, "b m k"]},
    torch.bmm,
    lambda g, a, c: (torch.bmm(g, c.transpose(1, 2)), torch.bmm(a.transpose(1, 2), g)),
)
matrix_vector = Operation({"a": SQUARE, "x": VECTOR}, lambda a, x: a @ x, lambda g, a, x: (torch.outer(g, x), a.T @ g))
quadratic_form = Operation(
    {"a": SQUARE, "x": VECTOR},
    lambda a, x: x @ a @ x,
    lambda g, a, x: (g * torch.outer(x, x), g * (a @ x + a.T @ x)),
)
outer = Operation({"a": VECTOR, "b": Float[Tensor, "m"]}, torch.outer, lambda g, a, b: (g @ b, g.T @ a))
transpose = Operation({"x": MATRIX}, lambda x: x.T.contiguous(), lambda g, x: g.T)


def convolution_forward(x: Tensor, w: Tensor) -> Tensor:
    return x.unfold(0, w.shape[0], 1) @ w


def convolution_backward(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    taps = w.shape[0]
    padded = torch.nn.functional.pad(g, (taps - 1, taps - 1))
    return padded.unfold(0, taps, 1) @ w.flip(0), x.unfold(0, taps, 1).T @ g


convolution = Operation({"x": Float[Tensor, "n+2"], "w": Float[Tensor, "3"]}, convolution_forward, convolution_backward)


def attention_forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.T / 2, -1) @ v


def attention_backward(g: Tensor, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    p = torch.softmax(q @ k.T / 2, -1)
    gp = g @ v.T
    gs = p * (gp - (gp * p).sum(-1, keepdim=True))
    return gs @ k / 2, gs.T @ q / 2, p.T @ g


UNIT = Interval(ge=-1, le=1)
attention = Operation(
    {
        "q": Annotated[Float[Tensor, "n 4"], UNIT],
        "k": Annotated[Float[Tensor, "m 4"], UNIT],
        "v": Annotated[Float[Tensor, "m d"], UNIT],
    },
    attention_forward,
    attention_backward,
)

# ---------------------------------------------------------------------------------------------------------------------
# Broadcasting and indexing
# ---------------------------------------------------------------------------------------------------------------------

bias = Operation({"x": MATRIX, "b": Float[Tensor, "m"]}, lambda x, b: x + b, lambda g, x, b: (g, g.sum(0)))
column_scale = Operation(
    {"x": MATRIX, "s": Float[Tensor, "m"]}, lambda x, s: x * s, lambda g, x, s: (g * s, (g * x).sum(0))
)
row_scale = Operation(
    {"x": MATRIX, "s": Float[Tensor, "n 1"]}, lambda x, s: x * s, lambda g, x, s: (g * s, (g * x).sum(1, keepdim=True))
)
temperature = Operation({"x": MATRIX, "s": SCALAR}, lambda x, s: x * s, lambda g, x, s: (g * s, (g * x).sum()))
optional_scale = Operation(
    {"x": MATRIX, "s": Float[Tensor, "n #m"]},
    lambda x, s: x * s,
    lambda g, x, s: (g * s, (g * x).sum_to_size(s.shape)),
)
column_loss = Operation(
    {"x": Float[Tensor, "n 1"], "t": VECTOR},
    lambda x, t: ((x.squeeze(1) - t) ** 2).mean(),
    lambda g, x, t: (2 * g * (x - t.unsqueeze(1)) / t.numel(), 2 * g * (t - x.squeeze(1)) / t.numel()),
)
INDEX = Annotated[Int[Tensor, "k"], Ge(0), Lt("n")]


def embedding_backward(g: Tensor, table: Tensor, index: Tensor) -> tuple[Tensor, None]:
    return torch.zeros_like(table).index_add(0, index, g), None


embedding = Operation({"table": MATRIX, "index": INDEX}, lambda table, index: table[index], embedding_backward)


def cross_entropy_forward(x: Tensor, t: Tensor) -> Tensor:
    return -torch.log_softmax(x, 1).gather(1, t.unsqueeze(1)).mean()


def cross_entropy_backward(g: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, None]:
    p = torch.softmax(x, 1)
    hot = torch.nn.functional.one_hot(t, x.shape[1]).to(x.dtype)
    return g * (p - hot) / x.shape[0], None


cross_entropy = Operation(
    {"x": Annotated[MATRIX, Interval(ge=-2, le=2)], "t": Annotated[Int[Tensor, "n"], Ge(0), Lt("m")]},
    cross_entropy_forward,
    cross_entropy_backward,
)


def huber_forward(x: Tensor, t: Tensor) -> Tensor:
    r = x - t
    return torch.where(r.abs() <= 1, 0.5 * r**2, r.abs() - 0.5).sum()


def huber_backward(g: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    gradient = g * (x - t).clamp(-1, 1)
    return gradient, -gradient


huber = Operation({"x": VECTOR, "t": VECTOR}, huber_forward, huber_backward)
divergence = Operation(
    {"p": POSITIVE, "q": POSITIVE},
    lambda p, q: (p * (torch.log(p) - torch.log(q))).sum(),
    lambda g, p, q: (g * (torch.log(p) - torch.log(q) + 1), -g * p / q),
)
binary_entropy = Operation(
    {"x": VECTOR_8, "t": Annotated[VECTOR, Interval(ge=0, le=1)]},
    lambda x, t: (torch.nn.functional.softplus(x) - x * t).sum(),
    lambda g, x, t: (g * (torch.sigmoid(x) - t), -g * x),
)
