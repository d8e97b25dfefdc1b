"""A comparison of two audits in words: as text, as a page of the documents, and as JSON's types."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from diffcheck.audit.comparison import Change, Changed, Comparison
from diffcheck.audit.report import (
    Audit,
    counts,
    lacks_mode,
    made_by,
    markdown_table,
    print_result,
    print_table,
    short,
)
from diffcheck.report.rows import STYLES
from diffcheck.report.terminal import PIPE_WIDTH
from diffcheck.report.text import count, print_hanging, printable
from diffcheck.verdict import PASSING, Result, Verdict

_TITLES: Final = {
    Change.WRONG: "Wrong now",
    Change.WORSE: "Worse",
    Change.MENDED: "Mended",
    Change.BETTER: "Passes now",
    Change.OTHER: "Another verdict",
}
_STYLES: Final = {
    Change.WRONG: STYLES[Verdict.WRONG],
    Change.WORSE: STYLES[Verdict.WRONG],
    Change.MENDED: STYLES[Verdict.PROVED],
    Change.BETTER: STYLES[Verdict.PROVED],
    Change.OTHER: "bold",
}


def sections(comparison: Comparison) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """The parts of a report that have something to say: title, style, and (entry with its modes, what is said)."""
    for change, title in _TITLES.items():
        if found := comparison.changes[change]:
            yield title, _STYLES[change], _grouped([(pair.now, _said(pair)) for pair in found])
    if comparison.still_wrong:
        yield "Wrong as before", "bold", _grouped([(result, short(result.reason)) for result in comparison.still_wrong])
    for title, results in (
        ("Only in this audit", comparison.appeared),
        ("Only in the earlier audit", comparison.disappeared),
    ):
        if results:
            yield title, "bold", _grouped([(result, _stands(result)) for result in results])


def _grouped(rows: Sequence[tuple[Result, str]]) -> list[tuple[str, str]]:
    """One row for what is the same in several modes of an entry."""
    modes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for result, said in rows:
        modes[result.id, said].append(result.mode)
    return [(f"{name} ({', '.join(found)})", said) for (name, said), found in modes.items()]


def _said(pair: Changed) -> str:
    before = pair.earlier
    was = "not in the earlier audit" if before is None else f"was {before.verdict.value}"
    if before is not None and pair.now.verdict in PASSING and before.reason and not lacks_mode(before):
        was += f" ({short(before.reason)})"  # what is gone
    return f"{was}, is {_stands(pair.now)}"


def _stands(result: Result) -> str:
    """The verdict with its reason; that of what is not available is long, and always the same."""
    if not result.reason or lacks_mode(result):
        return result.verdict.value
    return f"{result.verdict.value}: {short(result.reason)}"


def heading(comparison: Comparison) -> list[str]:
    """What was put beside what, and what else may be the cause of a change."""
    earlier = comparison.earlier
    lines = [f"torch {comparison.torch} beside torch {earlier.torch} (of {earlier.path.name})"]
    if comparison.torch == earlier.torch:
        lines.append("both audits judged the same PyTorch: what differs comes from elsewhere")
    if comparison.diffcheck != earlier.diffcheck:
        lines.append(
            f"that one is by diffcheck {earlier.diffcheck}, this by {comparison.diffcheck}: a change may be its own"
        )
    if earlier.interrupted:
        lines.append("the earlier audit was interrupted: what it did not get to is only in this one")
    if comparison.not_asked:
        amount = count(len({result.id for result in comparison.not_asked}), "entry", "entries")
        lines.append(f"{amount} not compared: the earlier audit was asked for {' '.join(earlier.patterns or ())}")
    return lines


def closing(comparison: Comparison) -> str:
    """How many results there are of each kind, in one line."""
    parts = [(len(found), _TITLES[change].lower()) for change, found in comparison.changes.items()]
    parts += [
        (len(comparison.appeared), "only in this audit"),
        (len(comparison.disappeared), "only in the earlier one"),
    ]
    differing = [f"{amount} {title}" for amount, title in parts if amount]
    same = f"{count(len(comparison.same), 'verdict')} as before"
    return f"{'; '.join(differing) or 'nothing changed'}; {same}, {len(comparison.still_wrong)} of them wrong"


def print_comparison(console: Console, audit: Audit, comparison: Comparison) -> None:
    """Prints what is wrong or worse with its samples, what else changed, and the table of this audit."""
    for change in (Change.WRONG, Change.WORSE):
        for pair in comparison.changes[change]:
            print_result(console, pair.now)
    for line in heading(comparison):
        console.print(printable(line, console))
    for title, style, rows in sections(comparison):
        console.print()
        console.print(Text(title, style=style))
        for name, said in rows:
            print_hanging(console, Text("  "), printable(f"{name}: {said}", console))
    console.print()
    print_hanging(console, Text(""), closing(comparison))
    console.print()
    print_table(console, audit)


def text_of(audit: Audit, comparison: Comparison) -> str:
    """The report as plain text, for a file."""
    file = io.StringIO()
    console = Console(file=file, width=PIPE_WIDTH, markup=False, highlight=False, emoji=False)
    print_comparison(console, audit, comparison)
    return file.getvalue()


def markdown_of(audit: Audit, comparison: Comparison) -> str:
    """The report as a page of the documents: counts of both audits, and every entry whose verdict is another one."""
    first, *notes = heading(comparison)
    modes = {result.mode for result in audit.results}
    tallies = {}
    before = counts(result for result in comparison.earlier.results if result.mode in modes)
    for mode, tally in counts(audit.results).items():
        tallies[f"{mode}, {comparison.earlier.torch}"] = before[mode]
        tallies[f"{mode}, {comparison.torch}"] = tally
    lines = [
        f"# Audit: {first}",
        "",
        made_by(audit),
        *(f"{note[0].upper()}{note[1:]}." for note in notes),
        "",
        *markdown_table(tallies),
        "",
        f"{closing(comparison).capitalize()}.",
    ]
    for title, _style, rows in sections(comparison):
        lines += ["", f"## {title}", ""]
        lines += [f"- `{name.replace(' (', '` (', 1)}: {said}" for name, said in rows]
    return "\n".join(lines) + "\n"


def as_data(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON's types: each change with the verdict that was and the one that is."""
    earlier = comparison.earlier
    return {
        "file": str(earlier.path),
        "torch": earlier.torch,
        "diffcheck": earlier.diffcheck,
        "interrupted": earlier.interrupted,
        **{change.value: [_pair(pair) for pair in found] for change, found in comparison.changes.items()},
        "still_wrong": [_entry(result) for result in comparison.still_wrong],
        "only_now": [_entry(result) for result in comparison.appeared],
        "only_earlier": [_entry(result) for result in comparison.disappeared],
        "not_compared": [_entry(result) for result in comparison.not_asked],
        "same": len(comparison.same),
    }


def _entry(result: Result) -> dict[str, str]:
    return {"id": result.id, "mode": result.mode, "verdict": result.verdict.value, "reason": result.reason}


def _pair(pair: Changed) -> dict[str, Any]:
    was = None if pair.earlier is None else {"verdict": pair.earlier.verdict.value, "reason": pair.earlier.reason}
    return {**_entry(pair.now), "earlier": was}
