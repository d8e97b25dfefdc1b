"""A result that does not pass, as text on its own: what a failed test shows."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from diffcheck.report.findings import print_finding
from diffcheck.report.summary import is_internal, passes
from diffcheck.report.terminal import HOW_TO_REPORT
from diffcheck.report.text import print_hanging, printable
from diffcheck.verdict import Verdict

if TYPE_CHECKING:
    from diffcheck.verdict import Result

_NARROWEST: Final = 60


def headline(result: Result) -> str:
    """Write a result that does not pass in one line."""
    text = result.finding.headline if result.finding else result.reason
    return f"{result.verdict.value}: {text}" if text else result.verdict.value


def failure(result: Result, replay: str, *, strict: bool, width: int) -> str:
    """Write all that is known about a result that does not pass, and the command that checks it again."""
    file = io.StringIO()
    console = Console(file=file, width=max(width, _NARROWEST), markup=False, highlight=False, emoji=False)
    if result.finding is not None:
        print_finding(console, result, replace(result.finding, replay=replay, repro=""))  # it would bury a failure
        if result.reason:
            print_hanging(console, Text("  "), result.reason)
        return file.getvalue()
    print_hanging(console, Text(), headline(result))
    if strict and passes(result, strict=False):
        print_hanging(console, Text("  "), "strict: only proved passes")
    if is_internal(result):
        print_hanging(console, Text("  "), HOW_TO_REPORT)
        print_hanging(console, Text("  "), "\n".join(result.details))
    if result.verdict is Verdict.UNSUPPORTED:
        for line in result.details:  # not wrapped: it is there to be copied
            console.print(Text(f"  {printable(line, console)}".rstrip()), soft_wrap=True)
    console.print(Text(f"  replay  {replay}"), soft_wrap=True)
    return file.getvalue()
