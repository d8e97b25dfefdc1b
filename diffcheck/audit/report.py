"""A finished audit in words: a table by verdict and mode, then every entry that did not pass, with its sample."""

from __future__ import annotations

import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version as version_of
from typing import Final

from rich.console import Console
from rich.text import Text

from diffcheck import versions
from diffcheck.report.findings import banner, print_finding
from diffcheck.report.rows import STYLES
from diffcheck.report.terminal import PIPE_WIDTH
from diffcheck.report.text import count, duration, parameters, print_hanging, printable
from diffcheck.verdict import PASSING, Result, Verdict

_NAMED: Final = (Verdict.WRONG, Verdict.INACCURATE, Verdict.ERROR, Verdict.UNSUPPORTED, Verdict.UNDECIDED)
"""The verdicts whose entries are listed one by one, in this order."""
NO_MODE: Final = "not in PyTorch"
_JUDGED: Final = frozenset({*PASSING, Verdict.WRONG, Verdict.INACCURATE, Verdict.UNDEFINED})


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything that a report is made of."""

    results: tuple[Result, ...]
    command: str
    """What reproduces it."""
    seconds: float
    interrupted: bool = False


def lacks_mode(result: Result) -> bool:
    """Whether PyTorch does not implement the mode, or the dtype, for this operator: there is nothing to judge."""
    return result.verdict is Verdict.NOT_AVAILABLE


def counts(results: Iterable[Result]) -> dict[str, Counter[str]]:
    """By mode, how many entries have each verdict; what PyTorch has no mode for is counted apart."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        found[result.mode][NO_MODE if lacks_mode(result) else result.verdict.value] += 1
    return found


def columns(tallies: dict[str, Counter[str]]) -> list[str]:
    """The verdicts that occur, what passes first."""
    order = [v.value for v in (Verdict.PROVED, Verdict.AGREES)] + [v.value for v in Verdict if v not in PASSING]
    return [name for name in [*order, NO_MODE] if any(tally[name] for tally in tallies.values())]


def judged(tally: Counter[str]) -> int:
    """How many entries of a mode have been judged, whatever came of it."""
    return sum(tally[verdict.value] for verdict in _JUDGED)


def print_audit(console: Console, audit: Audit) -> None:
    """Prints what did not pass, and the table."""
    for verdict in _NAMED:
        for result in audit.results:
            if result.verdict is verdict and not lacks_mode(result):
                print_result(console, result)
    print_table(console, audit)


def print_table(console: Console, audit: Audit) -> None:
    """Prints how many entries have each verdict."""
    tallies = counts(audit.results)
    names = columns(tallies)
    width = max([len(mode) for mode in tallies] + [4])
    heading = Text(f"{'mode':<{width}}  entries  judged", style="dim")
    for name in names:
        heading.append(f"  {name:>{max(len(name), 5)}}")
    console.print(heading)
    for mode, tally in tallies.items():
        line = Text(f"{mode:<{width}}  {tally.total():>7}  {judged(tally):>6}")
        for name in names:
            style = "dim" if name == NO_MODE else STYLES[Verdict(name)]
            line.append(f"  {tally[name] or '-':>{max(len(name), 5)}}", style if tally[name] else "dim")
        console.print(line)
    console.print()
    console.print(
        f"{count(len({r.id for r in audit.results}), 'entry', 'entries')} in {duration(audit.seconds)}"
        + (", interrupted" if audit.interrupted else "")
    )
    if note := _noted():
        console.print(note)


def print_result(console: Console, result: Result) -> None:
    """Prints one result that did not pass: what is known of it, and the sample."""
    if result.finding is not None:
        print_finding(console, result, result.finding)
    else:
        title = Text(f"{result.verdict.value}: {printable(result.id, console)}, {', '.join(parameters(result))}")
        title.stylize(STYLES[result.verdict], 0, len(result.verdict.value))
        banner(console, title, "-" if console.options.ascii_only else "─", align="left")
        print_hanging(console, Text("  "), printable(result.reason, console))
    for line in result.details:
        console.print(Text(f"    {printable(line, console)}", style="dim"), soft_wrap=True)
    console.print()


def text_of(audit: Audit) -> str:
    """The report as plain text, for a file."""
    file = io.StringIO()
    print_audit(Console(file=file, width=PIPE_WIDTH, markup=False, highlight=False, emoji=False), audit)
    return file.getvalue()


# ---------------------------------------------------------------------------------------------------------------------
# For the documents
# ---------------------------------------------------------------------------------------------------------------------


def markdown_of(audit: Audit) -> str:
    """The report as a page of the documents: counts, and every entry that was not proved, with its reason."""
    lines = [
        "# Audit of PyTorch's operators",
        "",
        made_by(audit),
        "",
        *markdown_table(counts(audit.results)),
    ]
    for verdict, title in _SECTIONS.items():
        rows = [r for r in audit.results if r.verdict is verdict and not lacks_mode(r)]
        if rows:
            lines += ["", f"## {title}", "", *_bullets(rows)]
    missing = [r for r in audit.results if lacks_mode(r)]
    if missing:
        lines += ["", "## PyTorch has no such mode", "", *_bullets(missing)]
    return "\n".join(lines) + "\n"


def made_by(audit: Audit) -> str:
    """The sentence that says where a page comes from."""
    today = date.today().isoformat()  # noqa: DTZ011 - the day of who runs it
    torch = version_of("torch")
    made = f"Written by `{audit.command}` on {today}, torch {torch}, in {duration(audit.seconds)}."
    return " ".join(filter(None, [made, _noted()]))


def _noted() -> str:
    """What is to be told of this PyTorch, as a sentence."""
    note = versions.note(version_of("torch"))
    return f"{note[0].upper()}{note[1:]}." if note else ""


def markdown_table(tallies: dict[str, Counter[str]]) -> list[str]:
    """The lines of the table of counts."""
    names = columns(tallies)
    lines = [f"| mode | entries | judged | {' | '.join(names)} |", f"|---|{'---:|' * (len(names) + 2)}"]
    for mode, tally in tallies.items():
        cells = [str(tally.total()), str(judged(tally)), *(str(tally[name]) for name in names)]
        lines.append(f"| {mode} | {' | '.join(cells)} |")
    return lines


_SECTIONS: Final = {
    Verdict.WRONG: "Wrong",
    Verdict.INACCURATE: "Inaccurate",
    Verdict.ERROR: "Errors",
    Verdict.UNSUPPORTED: "Unsupported",
    Verdict.UNDECIDED: "Undecided",
    Verdict.UNDEFINED: "No derivative at any sample",
    Verdict.AGREES: "Agrees, but is not proved",
}


def _bullets(rows: Sequence[Result]) -> list[str]:
    """One line for each reason of an entry; what differs between samples and addresses is left out."""
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        reasons[row.id, short(row.reason)].append(row.mode)
    return [f"- `{name}` ({', '.join(modes)}): {reason}" for (name, reason), modes in reasons.items()]


def short(reason: str) -> str:
    """A reason in a line; which sample it was is left out."""
    text = re.sub(r" \[sample \d+\]$", "", " ".join(reason.split()))
    return text if len(text) <= 200 else text[:197] + "..."
