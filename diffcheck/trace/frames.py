"""The user's code on Python's stack: which line of it runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import torch


@dataclass(frozen=True, slots=True)
class Source:
    """The line of the user's code that computed an expression."""

    file: str
    line: int
    function: str
    phase: str
    """`forward` or `backward`."""


_PACKAGE: Final = Path(__file__).parents[1]
_OURS: Final = str(_PACKAGE)
_CALLERS: Final = frozenset(str(_PACKAGE / file) for file in ("differentiate/autodiff.py", "trace/tracer.py"))
"""What calls the user's function: above it there are users of ours."""
_TORCHS: Final = str(Path(torch.__file__).parent)


def users_line(phase: str) -> Source | None:
    """The innermost line that is neither PyTorch's nor ours, below the call that differentiates."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file in _CALLERS:
            return None
        if not file.startswith((_OURS, _TORCHS, "<")):
            return Source(file, frame.f_lineno, frame.f_code.co_name, phase)
        frame = frame.f_back
    return None
