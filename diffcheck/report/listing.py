"""The text of `diffcheck list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from diffcheck.declare.load import Broken, Loaded
from diffcheck.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


def print_listing(console: Console, items: Sequence[Loaded | Broken]) -> None:
    """Print a line per case: its id, its inputs, and the first line of what its author says about it."""
    ids = [printable(item.id, console) for item in items]
    signatures = [printable(item.case.signature, console) if isinstance(item, Loaded) else "" for item in items]
    id_width, signature_width = max(map(cell_len, ids)), max(map(cell_len, signatures))
    for item, case_id, signature in zip(items, ids, signatures, strict=True):
        text = Text(case_id + " " * (id_width - cell_len(case_id)) + "  ")
        if isinstance(item, Broken):
            text.append(f"error: {printable(item.reason, console)}", style="bold red")
        else:
            summary = printable(item.case.doc.strip().partition("\n")[0], console)
            text.append(signature + " " * (signature_width - cell_len(signature)) + "  ")
            text.append(summary, style="dim")
        text.rstrip()
        console.print(text, soft_wrap=True)
