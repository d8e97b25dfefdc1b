"""The text of a run, for people: in colour on a terminal, plain in a pipe or a file."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from importlib.metadata import version as version_of
from itertools import groupby
from typing import IO, TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from diffcheck import versions
from diffcheck.modes import CPU
from diffcheck.report.findings import banner, print_finding
from diffcheck.report.rows import STYLES, Layout, Row, case_name, heading, layout, row_line, rows_of
from diffcheck.report.summary import INTERNAL, Run, counts, fails, is_internal
from diffcheck.report.text import count, duration, print_hanging, printable, shorten
from diffcheck.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from diffcheck.verdict import Result

PIPE_WIDTH: Final = 120
"""The width where there is no terminal to ask; `COLUMNS` says otherwise."""

HOW_TO_REPORT: Final = (
    "This is a mistake in diffcheck, not in your case. Please report it, with the case and what -v prints."
)


def console_for(file: IO[str]) -> Console:
    """Make the console for a stream; without colours where they are unwanted, also bold and dim ones."""
    width = None if file.isatty() or os.environ.get("COLUMNS", "").isdigit() else PIPE_WIDTH
    plain = bool(os.environ.get("NO_COLOR"))
    return Console(
        file=file,
        width=width,
        color_system=None if plain else "auto",
        markup=False,
        highlight=False,
        emoji=False,
    )


def progress_on(console: Console) -> Progress:
    """Make the bar that shows while cases are checked, and leaves nothing behind."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal or console.is_dumb_terminal,
    )


def header(*, version: str, cases: int, examples: int, seed: int | None, device: str = CPU) -> str:
    """Write with what a run is made, and what is to be told of that PyTorch."""
    torch = version_of("torch")
    where = "" if device == CPU else f", on {device}"
    made = f"diffcheck {version}, torch {torch}: {count(cases, 'case')}, {count(examples, 'example')} each"
    return "\n".join(filter(None, [f"{made}, seed {seed}{where}", versions.note(torch)]))


def text_of(run: Run, header: str, verbosity: int) -> str:
    """Write a finished run as plain text, for a file."""
    file = io.StringIO()
    console = Console(file=file, width=PIPE_WIDTH, markup=False, highlight=False, emoji=False)
    names = [result.id for result in run.results]
    terminal = Terminal(console, layout(console, names), verbosity, run.strict)
    terminal.start(header)
    for _id, group in groupby(run.results, key=lambda result: result.id):
        terminal.case(list(group))
    terminal.finish(run)
    return file.getvalue()


@dataclass(slots=True)
class Terminal:
    """What is printed while a run goes on, and at its end; it remembers under which file it stands."""

    console: Console
    layout: Layout
    verbosity: int = 0
    """-1 with `-q`, 1 with `-v`."""
    strict: bool = False
    _file: str = field(default="", init=False)

    def start(self, header: str) -> None:
        """Print with what the run is made."""
        if self.verbosity >= 0:
            self.console.print(Text(header), soft_wrap=True)

    def case(self, results: Sequence[Result]) -> None:
        """Print the lines of one case: its rows, why they are no better, and its tables."""
        if self.verbosity < 0:
            results = [result for result in results if fails(result, strict=self.strict)]
        if not results:
            return
        self._enter(results[0])
        rows = rows_of(results)
        if not self.layout.in_line:
            self._name(results)
        for row in rows:
            self.console.print(row_line(row, self.layout, self.console), soft_wrap=True)
        margin = Text(" " * (self.layout.indent + 2))
        for text in self._remarks(rows):
            print_hanging(self.console, margin, text)
        for detail in self._details(results):
            line = margin + printable(detail, self.console)
            line.rstrip()
            self.console.print(line, soft_wrap=True)  # wrapped, no table is one

    def finish(self, run: Run) -> None:
        """Print the findings and the last line."""
        if self._file:
            self.console.print()
        for result in run.results:
            if result.finding is not None:
                print_finding(self.console, result, result.finding)
        if any(map(is_internal, run.results)):
            print_hanging(self.console, Text(), HOW_TO_REPORT)
            self.console.print()
        banner(self.console, summary_line(run), "=", align="center")

    def _enter(self, result: Result) -> None:
        """Print a file's name, once for all of its cases, and the headings unless it could not even be imported."""
        file = result.id.partition("::")[0]
        if file == self._file:
            return
        if self._file or self.verbosity >= 0:
            self.console.print()
        self._file = file
        self.console.print(Text(printable(file, self.console), style="bold"), soft_wrap=True)
        if case_name(result.id):
            self.console.print(heading(self.layout), soft_wrap=True)

    def _name(self, results: Sequence[Result]) -> None:
        """Print the name and the formula above the rows, where these have no room for them."""
        name = case_name(results[0].id)
        if not name:
            return
        formula = next((result.gradient for result in results if result.gradient), "")
        text = f"{name}: {formula}" if formula else name
        self.console.print(Text("  " + shorten(text, self.console.width - 2, self.console)), soft_wrap=True)

    def _remarks(self, rows: Sequence[Row]) -> Iterable[str]:
        """Say why the rows are no better, each reason once, and more with `-v`."""
        told = [row for row in rows if self.verbosity > 0 or _has_more_to_say(row)]
        for reason in dict.fromkeys(result.reason for row in told for result in row.results if result.reason):
            concerned = [Row(tuple(r for r in row.results if r.reason == reason)) for row in rows]
            where = ", ".join(f"{row.first.mode} {row.dtypes}" for row in concerned if row.results)
            yield reason if concerned == list(rows) else f"{where}: {reason}"
        yield from dict.fromkeys(filter(None, map(_left_out, rows)))
        if self.verbosity > 0 and rows[0].first.gradient:
            yield f"gradient: {rows[0].first.gradient}"

    def _details(self, results: Sequence[Result]) -> Iterable[str]:
        """Give the tables of a case, named by mode: of the first dtype that has one, of all with `-v`.

        Those of an error are a traceback, for `-v` too. What is unsupported has advice, which is the same for all.
        """
        if self.verbosity < 0:
            return
        unsupported = [result.details for result in results if result.verdict is Verdict.UNSUPPORTED]
        for advice in dict.fromkeys(unsupported):
            yield from advice
        results = [result for result in results if result.verdict is not Verdict.UNSUPPORTED]
        met: set[str] = set()
        for result in results:
            wanted = self.verbosity > 0 or (result.verdict is not Verdict.ERROR and result.mode not in met)
            if result.details and wanted:
                met.add(result.mode)
                if result.mode:
                    yield f"{result.mode} {result.dtype}".rstrip()
                yield from (f"  {detail}" for detail in result.details)


def _left_out(row: Row) -> str:
    """Say at how many inputs there was nothing to compare with, the most of what the row merges."""
    undefined = max(result.undefined for result in row.results)
    beyond = max(result.out_of_range for result in row.results)
    parts = [f"{undefined} without a derivative"] * (undefined > 0)
    parts += [f"{beyond} where the value itself is infinite, undefined or beyond the dtype"] * (beyond > 0)
    return f"left out, of {max(r.inputs for r in row.results)} inputs: {', '.join(parts)}" if parts else ""


def summary_line(run: Run) -> Text:
    """Write the last line: how it ended, how many of each verdict, and what repeats the run."""
    failed = [result for result in run.results if fails(result, strict=run.strict)]
    if run.stopped == "interrupted":
        word, style = "interrupted", "bold yellow"
    elif any(map(is_internal, run.results)):
        word, style = INTERNAL, "bold red"
    else:
        word, style = ("failed", "bold red") if failed else ("passed", "bold green")
    title = Text().append(word, style=style)
    tally = counts(run.results)
    for index, (verdict, amount) in enumerate(tally.items()):
        title.append(": " if index == 0 else ", ")
        title.append(f"{amount} {verdict}", style=STYLES[Verdict(verdict)])
    cases = len({result.id for result in run.results if case_name(result.id)})
    parts = [f"{count(cases, 'case')} in {duration(run.seconds)}", f"seed {run.seed}"]
    if run.strict:
        parts.append("--strict: only proved passes")
    if run.stopped == "first failure":
        parts.append("-x: stopped at the first failure")
    if run.not_run:
        parts.append(f"{count(len(run.not_run), 'case')} not run")
    if run.deselected:
        parts.append(f"{count(run.deselected, 'case')} deselected by -k")
    title.append(f" ({', '.join(parts)})")
    return title


def _has_more_to_say(row: Row) -> bool:
    """Tell whether there is a reason to be read: what is proved has one only where inputs were refused."""
    return row.first.verdict is not Verdict.PROVED or any(result.refused for result in row.results)
