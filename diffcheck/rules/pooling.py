"""Rules of maxima over windows that the kernels lay out by themselves: adaptive and fractional pooling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as every
from typing import Any, Final

import numpy as np

from diffcheck.algebra.expr import ZERO
from diffcheck.rules.reduction import exact
from diffcheck.rules.registry import Array, Decisions, Rule, filled, guarded
from diffcheck.rules.resampling import adaptive
from diffcheck.rules.windows import Index, max_pool_backward, unravelled


def largest_in(decisions: Decisions, x: Array, windows: dict[Index, Sequence[range]], axes: int) -> tuple[Array, Array]:
    """The element that the kernel chose in every window, and its place; relies on no other one being larger."""
    chosen = exact(decisions.result[1])
    result = filled(chosen.shape, ZERO)
    for (window, ranges), outer in every(windows.items(), np.ndindex(*x.shape[:-axes])):
        best = outer + unravelled(chosen.item(*outer, *window), x.shape[-axes:])
        result[outer + window] = x[best]
        for place in every(*ranges):
            if outer + place != best:
                decisions.ordered([x.item(*outer, *place), x.item(*best)])
    return result, chosen


def _laid_out(axes: Sequence[Sequence[range]]) -> dict[Index, Sequence[range]]:
    return {window: [axis[i] for axis, i in zip(axes, window, strict=True)] for window in np.ndindex(*map(len, axes))}


def _adaptive_max(axes: int) -> Rule:
    def apply(decisions: Decisions, x: Array, sizes: Sequence[int]) -> tuple[Array, Array]:
        sizes = [sizes] * axes if isinstance(sizes, int) else list(sizes) * (axes if len(sizes) == 1 else 1)
        windows = _laid_out([adaptive(n, m) for n, m in zip(x.shape[-axes:], sizes, strict=True)])
        return largest_in(decisions, x, windows, axes)

    return guarded(apply)


def _starts(inputs: int, outputs: int, width: int, sample: float) -> list[int]:
    """Where the windows of fractional pooling begin on one axis."""
    step = (inputs - width) / (outputs - 1) if outputs > 1 else 0.0
    return [int((i + sample) * step) - int(sample * step) for i in range(outputs - 1)] + [inputs - width]


def _fractional_max(axes: int) -> Rule:
    def apply(
        decisions: Decisions, x: Array, width: Sequence[int], sizes: Sequence[int], _samples: Any
    ) -> tuple[Array, Array]:
        # Each channel has windows of its own; the samples' order of axes is the reverse of the array's in two
        # dimensions, and the same in three.
        samples = decisions.arguments[3].tolist()
        values, chosen = filled(decisions.result[1].shape, ZERO), exact(decisions.result[1])
        batched = x.ndim == axes + 2
        for outer in np.ndindex(*x.shape[:-axes]):
            row = samples[outer[0] if batched else 0][outer[-1]]
            windows = _laid_out(
                [
                    [range(s, s + k) for s in _starts(n, m, k, sample)]
                    for n, m, k, sample in zip(
                        x.shape[-axes:], sizes, width, row[::-1] if axes == 2 else row, strict=True
                    )
                ]
            )
            part = Decisions(decisions.arguments, (None, decisions.result[1][outer]), decisions.record)
            values[outer] = largest_in(part, x[outer], windows, axes)[0]
        return values, chosen

    return guarded(apply)


RULES: Final[dict[str, Rule]] = {
    "aten.adaptive_max_pool2d": _adaptive_max(2),
    "aten.adaptive_max_pool2d_backward": max_pool_backward(2),
    "aten.adaptive_max_pool3d": _adaptive_max(3),
    "aten.adaptive_max_pool3d_backward": max_pool_backward(3),
    "aten.fractional_max_pool2d": _fractional_max(2),
    "aten.fractional_max_pool2d_backward": max_pool_backward(2),
    "aten.fractional_max_pool3d": _fractional_max(3),
    "aten.fractional_max_pool3d_backward": max_pool_backward(3),
}
