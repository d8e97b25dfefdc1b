"""Results as a table of text, with what was found below it: what Python prints of them."""

from __future__ import annotations

import io
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console

from diffcheck.report.findings import print_finding
from diffcheck.report.rows import layout
from diffcheck.report.summary import counts, fails, passes
from diffcheck.report.terminal import PIPE_WIDTH, Terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffcheck.verdict import Result


def table(results: Sequence[Result]) -> str:
    """Write results as `diffcheck run` does, without its first and last lines."""
    if not results:
        return "no results"
    file = io.StringIO()
    console = Console(file=file, width=PIPE_WIDTH, markup=False, highlight=False, emoji=False)
    terminal = Terminal(console, layout(console, [result.id for result in results]))
    for _id, group in groupby(results, key=lambda result: result.id):
        terminal.case(list(group))
    console.print()
    for result in results:
        if result.finding is not None:
            print_finding(console, result, result.finding)
    return file.getvalue().strip("\n") + f"\n\n{tally(results)}"


def tally(results: Sequence[Result]) -> str:
    """Write how results ended: `failed: 1 wrong, 4 proved`."""
    failed = any(fails(result, strict=False) for result in results)
    word = "failed" if failed else "passed" if any(passes(r, strict=False) for r in results) else "nothing judged"
    return f"{word}: {', '.join(f'{amount} {verdict}' for verdict, amount in counts(results).items())}"
