"""Examples of reductions over parts of an axis."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F

from tests.rules.arguments import Example, i, p, r

SEGMENTS: Final[dict[str, Example]] = {
    "index_reduce": (
        lambda x, y: torch.stack([x.index_reduce(0, i(1, 1), y, how) for how in ("prod", "mean", "amax")]),
        r(2, 3), p(2, 3),
    ),
    "index_reduce alone": (
        lambda x, y: torch.stack([x.index_reduce(1, i(1, 1), y, h, include_self=False) for h in ("mean", "amin")]),
        r(2, 3), r(2, 2),
    ),
    "segment_reduce": (
        lambda x: [
            torch.segment_reduce(x, how, lengths=i(2, 0, 3), initial=1.5, axis=0)
            for how in ("sum", "mean", "prod", "max", "min")
        ],
        r(5, 2),
    ),
    "segment_reduce offsets": (
        lambda x: [torch.segment_reduce(x, how, offsets=i(0, 2, 5), axis=0) for how in ("sum", "prod", "max")], r(5),
    ),
    "segment_reduce rows": (lambda x: torch.segment_reduce(x, "mean", lengths=i([1, 2], [2, 1]), axis=1), r(2, 3)),
    "embedding_bag": (
        lambda w: torch.cat([F.embedding_bag(i(0, 2, 1, 1), w, i(0, 3), mode=how) for how in ("sum", "mean", "max")]),
        r(3, 2),
    ),
    "embedding_bag weighted": (
        lambda w, f: F.embedding_bag(i([0, 2], [1, 1]), w, mode="sum", per_sample_weights=f, padding_idx=1),
        r(3, 2), r(2, 2),
    ),
    "embedding_bag by frequency": (
        lambda w: F.embedding_bag(i(0, 2, 2), w, i(0, 1, 3), scale_grad_by_freq=True, include_last_offset=True),
        r(3, 2),
    ),
    "embedding_bag forward only": (
        lambda w: torch.ops.aten._embedding_bag_forward_only(w.detach(), i(0, 2, 1, 1), i(0, 3))[0] * w.sum(), r(3, 2),
    ),
    "embedding_bag dense": (
        lambda g: torch.ops.aten._embedding_bag_dense_backward(
            g.detach(), i(0, 2, 2), i(0, 1, 1), i(1, 2), i(1), 3, False, 1, None
        )
        * g.sum(),
        r(2, 2),
    ),
    "convert_element_type": (
        lambda x: torch.ops.prims.convert_element_type(x.detach(), torch.float64) * x.sum(), r(3),
    ),
    "as_strided_scatter": (lambda x, y: torch.as_strided_scatter(x, y, (2,), (2,), 1), r(2, 3), r(2)),
}  # fmt: skip


PARTS: Final[dict[str, Example]] = SEGMENTS
