"""Examples of what answers with whole numbers and truth values."""

from __future__ import annotations

from typing import Final

import torch

from tests.rules.arguments import Example, d, p, q, r

TABLE: Final = d(1, 3, 5, 7)
ENDS: Final = d(-1, 0, 0.5)

DISCRETE: Final[dict[str, Example]] = {
    "isclose": (lambda x, y: torch.isclose(x, y) * x + torch.isclose(x, x, rtol=0) * y, r(4), r(4)),
    "allclose": (lambda x, y: x * 2 if torch.allclose(x, y) else x * y, r(3), r(3)),
    "equal": (lambda x, y: x * 2 if torch.equal(x, y) or torch.equal(x, y[:2]) else x * y, r(3), r(3)),
    "all and any": (
        lambda x: x * torch._is_all_true(x > 0) + x * x * torch._is_any_true(x > 0),
        r(3),
    ),
    "searchsorted": (lambda x: TABLE[torch.searchsorted(ENDS, x.detach())] * x, r(4)),
    "searchsorted rows": (lambda x, y: torch.searchsorted(x.sort(-1)[0], y, side="right") * y, r(2, 3), r(2, 2)),
    "bucketize": (lambda x: TABLE[torch.bucketize(x, ENDS, right=True)] * x, r(4)),
    "histc": (lambda x: torch.histc(x.detach(), 4, -2, 2) * x[:4], r(5)),
    "histogram": (lambda x: torch.histogram(x.detach(), 4, range=(-2.0, 2.0))[0] * x[:4], r(5)),
    "bincount": (lambda x: torch.bincount((x * 3).long(), minlength=4)[:4] * x, q(4)),
    "unique": (lambda x: torch.unique(x.detach(), return_inverse=True, return_counts=True)[1] * x, r(4)),
    "_unique": (lambda x: torch._unique(x.detach(), return_inverse=True)[1] * x, r(4)),
    "unique_dim": (lambda x: torch.unique(x.detach(), dim=0, return_inverse=True)[1] * x[:, 0], r(3, 2)),
    "unique_consecutive": (lambda x: torch.unique_consecutive(x > 0, return_inverse=True)[1] * x, r(4)),
    "unique_consecutive rows": (
        lambda x: torch.unique_consecutive(x.detach(), dim=0, return_counts=True)[1].sum() * x, r(3, 2),
    ),
    "unique_dim_consecutive": (
        lambda x: torch.ops.aten.unique_dim_consecutive(x.detach(), 0, False, True)[2].sum() * x, r(3, 2),
    ),
    "signbit": (lambda x: torch.signbit(x) * x, r(4)),
    "nextafter": (lambda x, y: torch.nextafter(x.detach(), y) * y, r(3), r(3)),
    "rounded index": (lambda x: TABLE[(x * 3).round().long()] * x, q(4)),
    "one_hot": (lambda x: torch.nn.functional.one_hot((x * 3).long(), 5) * x[:, None], q(3)),
    "bits": (lambda x: ((x.long() & 1) + (x.long() | 2) + (x.long() ^ 3) + ~x.long() + (x.long() << 1)) * x, p(3)),
}  # fmt: skip
"""By name."""
