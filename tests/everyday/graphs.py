"""Graphs, segments, sets."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval, Lt
from jaxtyping import Float, Int
from torch import Tensor

from tests.everyday.corpus import NATURAL, SMALL, Vector, by_hand, right, wrong

Edges = Annotated[Int[Tensor, "e"], Ge(0), Lt("n")]
Nodes = Annotated[Float[Tensor, "n d"], NATURAL]
Segments = Annotated[Int[Tensor, "n"], Ge(0), Lt(3)]


@right
def message_passing(x: Nodes, source: Edges, target: Edges):
    return torch.zeros_like(x).index_add(0, target, x[source])


gather_rule = by_hand(
    lambda x, i: x[i], lambda g, x, i: (torch.zeros_like(x).index_put((i,), g, accumulate=True), None)
)
gather_slip = by_hand(lambda x, i: x[i], lambda g, x, i: (torch.zeros_like(x).index_put((i,), g), None))


@right
def gather(x: Nodes, i: Edges):
    return gather_rule(x, i)


@wrong
def gather_overwritten(x: Nodes, i: Edges):
    return gather_slip(x, i)


@right
def segment_mean(x: Annotated[Vector, NATURAL], s: Segments):
    total = torch.zeros(3, dtype=x.dtype).scatter_add(0, s, x)
    count = torch.zeros(3, dtype=x.dtype).scatter_add(0, s, torch.ones_like(x))
    return total / count.clamp(min=1)


@wrong
def segment_deviation(x: Annotated[Vector, NATURAL], s: Segments):
    """A segment of one element has variance 0, whatever the element: the root's infinity times 0 is NaN."""
    count = torch.zeros(3, dtype=x.dtype).scatter_add(0, s, torch.ones_like(x)).clamp(min=1)
    mean = torch.zeros(3, dtype=x.dtype).scatter_add(0, s, x) / count
    return (torch.zeros(3, dtype=x.dtype).scatter_add(0, s, (x - mean[s]) ** 2) / count).sqrt()


@right
def segment_softmax(x: Annotated[Vector, NATURAL], s: Segments):
    e = x.exp()
    return e / torch.zeros(3, dtype=x.dtype).scatter_add(0, s, e)[s]


@right
def segment_max(x: Annotated[Vector, NATURAL], s: Segments):
    return torch.full((3,), -9.0, dtype=x.dtype).scatter_reduce(0, s, x, "amax")


@right
def graph_convolution(x: Nodes, w: Annotated[Float[Tensor, "d h"], SMALL], source: Edges, target: Edges):
    n = x.shape[0]
    a = torch.eye(n, dtype=x.dtype).index_put((target, source), torch.ones(len(source), dtype=x.dtype), accumulate=True)
    d = a.sum(1).rsqrt()
    return F.relu(d[:, None] * a * d @ x @ w)


@right
def graph_attention(x: Nodes, a: Annotated[Float[Tensor, "d"], SMALL], b: Annotated[Float[Tensor, "d"], SMALL]):
    scores = F.leaky_relu((x @ a)[:, None] + x @ b, 0.2)
    return scores.softmax(-1) @ x


@right
def laplacian_energy(x: Nodes, source: Edges, target: Edges):
    return (x[source] - x[target]).square().sum()


@right
def page_rank(w: Annotated[Float[Tensor, "3 3"], Interval(ge=0.1, le=1)]):
    p = w / w.sum(0)
    r = torch.full((3,), 1 / 3, dtype=w.dtype)
    for _ in range(3):
        r = 0.85 * p @ r + 0.05
    return r


@right
def set_pooling(x: Nodes):
    return torch.cat([x.sum(0), x.mean(0), x.max(0).values])


@right
def link_score(x: Nodes, source: Edges, target: Edges):
    return F.logsigmoid((x[source] * x[target]).sum(-1)).sum()


@right
def soft_adjacency(x: Annotated[Float[Tensor, "3 2"], NATURAL]):
    d = (x[:, None] - x).square().sum(-1)
    return torch.exp(-d) * (1 - torch.eye(3, dtype=x.dtype))


@wrong(verdict="error")
def soft_adjacency_in_place(x: Annotated[Float[Tensor, "3 2"], NATURAL]):
    """The exponential has kept what is overwritten."""
    d = (x[:, None] - x).square().sum(-1)
    return torch.exp(-d).fill_diagonal_(0)


@right
def shortest_of_paths(w: Annotated[Float[Tensor, "3 3"], Interval(ge=0.1, le=4)]):
    return (w[:, :, None] + w[None]).min(1).values


@right
def ragged_sum(x: Annotated[Float[Tensor, "6"], NATURAL]):
    ends = torch.tensor([1, 3, 6])
    c = torch.cat([x.new_zeros(1), x.cumsum(0)])
    return c[ends] - c[torch.tensor([0, 1, 3])]


@right
def top_two(x: Annotated[Float[Tensor, "n 4"], NATURAL]):
    values, indices = x.topk(2, -1)
    return torch.zeros_like(x).scatter(-1, indices, values.softmax(-1))


@right
def modularity(x: Annotated[Float[Tensor, "3 2"], NATURAL]):
    a = torch.tensor([[0.0, 1, 1], [1, 0, 0], [1, 0, 0]], dtype=x.dtype)
    s = x.softmax(1)
    k = a.sum(1)
    return torch.trace(s.T @ (a - torch.outer(k, k) / k.sum()) @ s) / k.sum()
