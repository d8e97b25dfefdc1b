"""What a check is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffcheck.modes import CPU, FIRST_ORDER, USUAL_DTYPES

if TYPE_CHECKING:
    import hypothesis


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is asked to do."""

    examples: int = 100
    """Inputs drawn per case."""
    seed: int | None = None
    """Of Hypothesis; the same seed draws the same inputs."""
    modes: tuple[str, ...] = FIRST_ORDER
    dtypes: tuple[str, ...] = USUAL_DTYPES
    seconds: float = 60.0
    """Per case; what is not done by then is undecided."""
    database: bool = True
    """Whether disagreements are kept in Hypothesis' example database."""
    profile: hypothesis.settings | None = None
    """Hypothesis' settings for everything else; by default those in force."""
    reuse: bool = True
    """Whether what is kept there is tried first; without it, a seed gives the same run whatever came before."""
    device: str = CPU
    """Where PyTorch computes: `cpu`, `cuda`, `cuda:1`, …"""
    undefined: bool = True
    """Whether derivatives are also asked for where some gradient, or tangent, is not given at all."""
    by_name: frozenset[str] = frozenset()
    """The modes and dtypes that somebody asked for by name: that one is not available is a failure then."""
    only: frozenset[tuple[str, str]] | None = None
    """Of the rows that modes and dtypes give, only these: pairs of mode and dtype."""
