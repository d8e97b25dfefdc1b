"""Rules that move elements or make new tensors: copies, concatenation, padding, factories."""

from __future__ import annotations

from typing import Final

from diffcheck.constants import scalar
from diffcheck.expr import ONE, ZERO
from diffcheck.rules.registry import Rule, array, filled

RULES: Final[dict[str, Rule]] = {
    "aten.ones_like": array(lambda x, **_: filled(x.shape, ONE)),
    "aten.zeros_like": array(lambda x, **_: filled(x.shape, ZERO)),
    "aten.full_like": array(lambda x, value, **_: filled(x.shape, scalar(value))),
    "aten.clone": array(lambda x, **_: x),
}
