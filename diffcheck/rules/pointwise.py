"""Rules of single elements: arithmetic, elementary functions, comparisons."""

from __future__ import annotations

from typing import Final

from diffcheck.constants import scalar
from diffcheck.expr import call, greater, where
from diffcheck.rules.registry import Rule, pointwise

RULES: Final[dict[str, Rule]] = {
    "aten.add": pointwise(lambda x, y, alpha=1: x + scalar(alpha) * y),
    "aten.mul": pointwise(lambda x, y: x * y),
    "aten.exp": pointwise(lambda x: call("exp", x)),
    "aten.threshold_backward": pointwise(lambda g, x, t: where(greater(x, t), g, 0)),
    "aten.relu": pointwise(lambda x: where(greater(x, 0), x, 0)),
}
