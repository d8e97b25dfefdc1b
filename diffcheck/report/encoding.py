"""Text on consoles that can't show all of it: cp1252, cp936, ASCII."""

from __future__ import annotations

import codecs
import contextlib
import io
import sys
from typing import Final

LEGIBLE: Final = "diffcheck.legible"
"""How errors of encodings are handled: what has a usual spelling in ASCII is spelled so, the rest by its code."""
_SPELLED: Final = {
    "…": "...", "→": "->", "←": "<-", "−": "-", "–": "-", "—": "-", "─": "-", "│": "|", "·": "*", "×": "x", "÷": "/",
    "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "±": "+-", "√": "sqrt", "∑": "sum", "∂": "d", "∞": "inf", "π": "pi",
    "ᵀ": "^T", "⁻": "^-", "²": "^2", "³": "^3", "⊙": "*", "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*", "✓": "ok",
}  # fmt: skip


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_SPELLED.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error(LEGIBLE, _spell)


def make_legible() -> None:
    """Has standard output and standard error show whatever is written to them, in the encoding that they have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):  # it is closed
                stream.reconfigure(errors=LEGIBLE)
