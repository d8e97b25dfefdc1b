"""The table of a run: one line per case and mode, in aligned columns for any width."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.text import Text

from diffcheck.report.text import duration, number, printable, short_dtype, shorten
from diffcheck.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console

    from diffcheck.verdict import Result

STYLES: Final = {
    Verdict.PROVED: "green",
    Verdict.AGREES: "cyan",
    Verdict.INACCURATE: "yellow",
    Verdict.WRONG: "bold red",
    Verdict.UNDEFINED: "magenta",
    Verdict.UNDECIDED: "magenta",
    Verdict.UNSUPPORTED: "magenta",
    Verdict.NOT_AVAILABLE: "dim",
    Verdict.ERROR: "bold red",
}

_INDENT: Final = 2
_LEAST_FORMULA: Final = 14
"""Narrower than this a formula says nothing, and gets a line of its own."""


@dataclass(frozen=True, slots=True)
class Row:
    """The results of one case and mode that say the same, in one dtype or several."""

    results: tuple[Result, ...]

    @property
    def first(self) -> Result:
        """The result that stands for what they share."""
        return self.results[0]

    @property
    def dtypes(self) -> str:
        """The dtypes, abbreviated."""
        return " ".join(short_dtype(result.dtype) for result in self.results)


def rows_of(results: Iterable[Result]) -> list[Row]:
    """Merge neighbouring results that differ in their dtype only."""
    grouped = groupby(results, key=lambda r: (r.id, r.mode, r.verdict, r.gradient))
    return [Row(tuple(group)) for _key, group in grouped]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, its width, and what stands in it."""

    heading: str
    width: int
    cell: Callable[[Row], str]
    right: bool = True


def _greatest(values: Iterable[float]) -> float:
    """Take the greatest, a NaN being greater than anything: it must not hide."""
    return max(values, key=lambda value: math.inf if math.isnan(value) else value, default=0.0)


_VERDICT: Final = Column("verdict", 13, lambda row: row.first.verdict.value, right=False)
_MODE: Final = Column("mode", 10, lambda row: row.first.mode, right=False)
_DTYPE: Final = Column("dtype", 7, lambda row: row.dtypes, right=False)
_NUMBERS: Final = (
    Column("inputs", 6, lambda row: str(min(r.inputs for r in row.results))),
    Column("paths", 5, lambda row: str(max(r.paths for r in row.results))),
    Column("kinks", 5, lambda row: str(max(r.kinks for r in row.results))),
    Column("ulps", 7, lambda row: number(_greatest(r.max_error_ulps for r in row.results))),
    Column("bounds", 7, lambda row: number(_greatest(r.max_error_bounds for r in row.results))),
)
_TIME: Final = Column("time", 6, lambda row: duration(sum(r.seconds for r in row.results)))
_DROPPED_FIRST: Final = ("time", "kinks", "paths", "inputs", "ulps", "bounds", "dtype", "mode")
"""What a very narrow terminal goes without; the verdict always stays."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a run, and whether the name and the formula stand in the line or above it."""

    columns: tuple[Column, ...]
    in_line: bool

    @property
    def indent(self) -> int:
        """Where a line begins."""
        return _INDENT if self.in_line else 2 * _INDENT


def layout(console: Console, ids: Sequence[str]) -> Layout:
    """Fit the columns into the width; a formula without room in the line stands above the lines of its case."""
    name_width = max((cell_len(case_name(case)) for case in ids), default=0)
    name = Column("case", name_width, lambda row: case_name(row.first.id), right=False)
    rest = (_VERDICT, name, _MODE, _DTYPE, *_NUMBERS, _TIME)
    room = console.width - _INDENT - sum(column.width + 1 for column in rest)
    if room >= _LEAST_FORMULA:
        formula = Column("gradient", room, lambda row: shorten(row.first.gradient, room, console), right=False)
        return Layout((_VERDICT, name, _MODE, _DTYPE, formula, *_NUMBERS, _TIME), in_line=True)
    columns = [_VERDICT, _MODE, _DTYPE, *_NUMBERS, _TIME]
    for heading in _DROPPED_FIRST:
        if 2 * _INDENT + sum(column.width + 1 for column in columns) - 1 > console.width:
            columns = [column for column in columns if column.heading != heading]
    return Layout(tuple(columns), in_line=False)


def case_name(case: str) -> str:
    """Take the name of a case from its id; a file that could not be imported has none."""
    return case.partition("::")[2]


def heading(layout: Layout) -> Text:
    """Write the headings of the columns."""
    cells = [(column.heading, column) for column in layout.columns]
    return Text(" " * layout.indent + _line(cells), style="dim")


def row_line(row: Row, layout: Layout, console: Console) -> Text:
    """Write one row, its verdict coloured; what was never compared has no numbers."""
    cells = [(_cell(row, column, console), column) for column in layout.columns]
    text = Text(" " * layout.indent + _line(cells))
    text.stylize(STYLES[row.first.verdict], layout.indent, layout.indent + len(row.first.verdict.value))
    return text


def _cell(row: Row, column: Column, console: Console) -> str:
    """Write one cell; a file that could not be imported has a verdict and nothing else."""
    if column.right and not row.first.mode:
        return ""
    if column in _NUMBERS and row.first.inputs == 0 and row.first.finding is None:
        return "-"
    return printable(column.cell(row), console)


def _line(cells: Sequence[tuple[str, Column]]) -> str:
    """Pad the cells to their columns; a longer one borrows from the padding of the next."""
    parts: list[str] = []
    excess = 0
    for text, column in cells:
        width = max(column.width - excess, 0)
        gap = " " * max(width - cell_len(text), 0)
        parts.append(gap + text if column.right else text + gap)
        excess = max(cell_len(text) - width, 0)
    return " ".join(parts).rstrip()
