"""Examples of what resamples, pools and pads grids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch.nn.functional as F

from tests.rules.arguments import Example, d, r, u


def _resized(mode: str, **options: Any) -> Callable[..., Any]:
    return lambda x: F.interpolate(x, mode=mode, **options)


INTERPOLATIONS: Final[dict[str, Example]] = {
    "resize nearest": (_resized("nearest", size=(5,)), r(1, 2, 3)),
    "resize nearest 2d": (_resized("nearest", scale_factor=(0.6, 1.7)), r(1, 1, 4, 3)),
    "resize nearest 3d": (_resized("nearest", size=(3, 2, 1)), r(1, 1, 2, 3, 2)),
    "resize nearest exact": (_resized("nearest-exact", size=(5,)), r(1, 2, 3)),
    "resize nearest exact 2d": (_resized("nearest-exact", scale_factor=1.6), r(1, 1, 4, 3)),
    "resize nearest exact 3d": (_resized("nearest-exact", size=(3, 2, 1)), r(1, 1, 2, 3, 2)),
    "resize linear": (_resized("linear", size=(5,)), r(1, 2, 3)),
    "resize linear to the corners": (_resized("linear", size=(4,), align_corners=True), r(1, 2, 3)),
    "resize bilinear": (_resized("bilinear", scale_factor=(0.7, 1.7)), r(1, 1, 4, 3)),
    "resize bilinear to the corners": (_resized("bilinear", size=(1, 5), align_corners=True), r(1, 1, 4, 3)),
    "resize bilinear smoothed": (_resized("bilinear", size=(2, 5), antialias=True), r(1, 1, 5, 3)),
    "resize bilinear smoothed to the corners": (
        _resized("bilinear", size=(2, 4), antialias=True, align_corners=True), r(1, 1, 5, 3),
    ),
    "resize bicubic": (_resized("bicubic", scale_factor=1.7), r(1, 1, 3, 2)),
    "resize bicubic to the corners": (_resized("bicubic", size=(4, 2), align_corners=True), r(1, 1, 3, 2)),
    "resize trilinear": (_resized("trilinear", size=(3, 2, 4)), r(1, 1, 2, 3, 2)),
    "adaptive average": (lambda x: F.adaptive_avg_pool2d(x, (2, 4)), r(1, 1, 3, 5)),
    "adaptive average 3d": (lambda x: F.adaptive_avg_pool3d(x, (2, 1, 3)), r(1, 1, 3, 2, 2)),
}  # fmt: skip

EDGES: Final[dict[str, Example]] = {
    f"{mode} {axes}d": (lambda x, mode=mode, axes=axes: F.pad(x, (1, 2, 0, 1, -1, 2)[: 2 * axes], mode=mode), r(*shape))
    for mode in ("reflect", "replicate")
    for axes, shape in ((1, (2, 4)), (2, (1, 2, 4)), (3, (1, 3, 2, 4)))
}

POOLS: Final[dict[str, Example]] = {
    "adaptive max": (lambda x: F.adaptive_max_pool2d(x, (2, 3), return_indices=True), r(1, 1, 3, 5)),
    "adaptive max 1d": (lambda x: F.adaptive_max_pool1d(x, 2), r(1, 2, 5)),
    "adaptive max 3d": (lambda x: F.adaptive_max_pool3d(x, (2, 1, 3)), r(1, 3, 2, 4)),
    "fractional max": (
        lambda x: F.fractional_max_pool2d(x, 2, (2, 3), _random_samples=d([[0.3, 0.8], [0.9, 0.1]])), r(2, 4, 5),
    ),
    "fractional max of a batch": (
        lambda x: F.fractional_max_pool2d(x, (2, 1), (2, 2), _random_samples=d([[0.3, 0.8]], [[0.6, 0.2]])),
        r(2, 1, 4, 3),
    ),
    "fractional max 3d": (
        lambda x: F.fractional_max_pool3d(x, 2, (2, 1, 2), _random_samples=d([[0.3, 0.8, 0.6]])), r(1, 4, 3, 4),
    ),
}  # fmt: skip

SAMPLES: Final[dict[str, Example]] = {
    f"grid sample {mode} {padding}{' to the corners' if corners else ''}": (
        lambda x, g, mode=mode, padding=padding, corners=corners: F.grid_sample(
            x, g, mode=mode, padding_mode=padding, align_corners=corners
        ),
        r(1, 2, 3, 2),
        r(1, 2, 2, 2),
    )
    for mode in ("bilinear", "nearest", "bicubic")
    for padding in ("zeros", "border", "reflection")
    for corners in (False, True)
} | {
    "grid sample 3d": (lambda x, g: F.grid_sample(x, g, align_corners=False), r(1, 1, 2, 3, 2), u(1, 2, 1, 1, 3)),
    "grid sample 3d nearest": (
        lambda x, g: F.grid_sample(x, g, mode="nearest", padding_mode="border", align_corners=True),
        r(1, 1, 2, 3, 2),
        u(1, 2, 1, 1, 3),
    ),
}

GRIDS: Final[dict[str, Example]] = {**INTERPOLATIONS, **EDGES, **POOLS, **SAMPLES}
