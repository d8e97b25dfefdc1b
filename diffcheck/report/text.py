"""Pieces of text: numbers, times, names and formulas as the terminal shows them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from diffcheck.modes import CPU
from diffcheck.report.encoding import LEGIBLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from diffcheck.verdict import Result

_PARTS: Final = 5
"""Parts of a formula that are shown below it."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str, console: Console) -> str:
    """Spell out what would move the cursor or can't be encoded: a message may hold anything."""
    text = _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text.expandtabs(4))
    return text.encode(console.encoding, LEGIBLE).decode(console.encoding)


def shorten(text: str, width: int, console: Console) -> str:
    """Cut a text to a width, and show that it was cut."""
    text = " ".join(printable(text, console).split())
    if cell_len(text) <= width:
        return text
    mark = ellipsis(console)
    if width <= len(mark):
        return mark[: max(width, 0)]
    return set_cell_size(text, width - len(mark)).rstrip() + mark


def ellipsis(console: Console) -> str:
    """Give the sign for what was left out, in the console's encoding."""
    return "..." if console.options.ascii_only else "…"


def number(value: float) -> str:
    """Write a count of ulps or bounds with two significant digits, in at most seven characters."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if 0.01 <= abs(value) < 10:
        return f"{value:.2g}"
    if 10 <= abs(value) < 9999.5:
        return f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def count(amount: int, singular: str, plural: str = "") -> str:
    """Write an amount with its noun: `1 case`, `2 cases`."""
    return f"{amount} {singular if amount == 1 else plural or singular + 's'}"


def duration(seconds: float) -> str:
    """Write a time in at most six characters."""
    if seconds < 9.995:
        return f"{seconds:.2f}s"
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 100 else f"{minutes // 60}h{minutes % 60:02}m"


def short_dtype(dtype: str) -> str:
    """Abbreviate a dtype: `f64`, `bf16`, `c128`."""
    return dtype.replace("float", "f").replace("complex", "c")


def parameters(result: Result) -> list[str]:
    """List what a result of a case is for: mode, dtype, and the device where it is not the usual one."""
    return [part for part in (result.mode, result.dtype, result.device if result.device != CPU else "") if part]


def nested(entries: Sequence[object], shape: Sequence[int]) -> object:
    """Nest entries in row-major order by their shape; a scalar is itself."""
    if not shape:
        return entries[0]
    step = math.prod(shape[1:])
    return [nested(entries[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def bracketed(entries: Sequence[str], shape: Sequence[int]) -> str:
    """Write entries as nested brackets: `[[1.0, 2.0], [3.0, 4.0]]`."""
    if not shape:
        return entries[0]
    step = math.prod(shape[1:])
    return f"[{', '.join(bracketed(entries[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0]))}]"


def print_hanging(console: Console, label: Text, body: str | Text) -> None:
    """Print a label and a text beside it, wrapped to the width with all of its lines under the first."""
    width = label.cell_len
    text = Text(printable(body, console)) if isinstance(body, str) else body
    for index, row in enumerate(text.wrap(console, max(console.width - width, 20))):
        row.rstrip()
        console.print(Text.assemble(label if index == 0 else " " * width, row), soft_wrap=True)


def few_lines(formula: str) -> list[str]:
    """The first lines of what `text` gives, and how many were left out."""
    lines = formula.split("\n")
    left = len(lines) - 1 - _PARTS
    if left <= 1:
        return lines
    names = [line.partition(" = ")[0] for line in lines[1 + _PARTS :]]
    shown = ", ".join(names[:_PARTS]) + (", …" if left > _PARTS else "")
    return [*lines[: 1 + _PARTS], f"and {left} more parts ({shown}), see JSON"]
