"""Rules: matrix."""

from __future__ import annotations

from typing import Final

from diffcheck.rules.registry import Rule

RULES: Final[dict[str, Rule]] = {}
