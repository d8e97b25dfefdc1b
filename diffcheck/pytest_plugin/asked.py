"""What a session of pytest was asked to do with cases."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version as version_of
from typing import Final

import pytest

from diffcheck import versions
from diffcheck.commands.config import Config
from diffcheck.modes import CPU


@dataclass(slots=True)
class Asked:
    """What options and the project say, and whether there was a case to do it with."""

    examples: int
    seed: int
    chosen: bool
    """Whether somebody chose the seed."""
    modes: tuple[str, ...]
    dtypes: tuple[str, ...]
    strict: bool
    seconds: float
    device: str
    by_name: frozenset[str]
    """The modes and dtypes that options or the project name."""
    project: Config
    """What the project says, before options."""
    met: bool = False
    """Whether some case was checked, here or by a worker."""
    announced: bool = False

    @property
    def line(self) -> str:
        """With what the cases are checked, how the same inputs are drawn again, and what is to be told of PyTorch."""
        examples = f"{self.examples} example{'' if self.examples == 1 else 's'}"
        where = "" if self.device == CPU else f", on {self.device}"
        made = f"diffcheck: {examples} each, seed {self.seed}{where}; the same again: --diffcheck-seed={self.seed}"
        note = versions.note(version_of("torch"))
        return f"{made}\ndiffcheck: {note}" if note else made


ASKED: Final = pytest.StashKey[Asked]()
VERDICT: Final = "diffcheck"
"""Under which name a report has its verdict."""
