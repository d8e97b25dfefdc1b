"""The details of a finding: where, at which input, what PyTorch says, what is certified, and how to see it again."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from diffcheck.modes import plain
from diffcheck.report.advice import advice
from diffcheck.report.rows import STYLES
from diffcheck.report.text import bracketed, count, ellipsis, few_lines, number, parameters, print_hanging, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.align import AlignMethod

    from diffcheck.verdict import Finding, Result, Value

_ENTRIES: Final = 64
"""How many entries of a tensor are written out; shrunk inputs are mostly smaller."""
_FORMULA: Final = 2_000
"""How many characters of a formula are written out."""
_SCRIPT: Final = 4_000
"""How many characters of a script are written out."""


def print_finding(console: Console, result: Result, finding: Finding) -> None:
    """Print one finding."""
    title = Text(f"{result.verdict.value}: {printable(result.id, console)}, {', '.join(parameters(result))}")
    title.stylize(STYLES[result.verdict], 0, len(result.verdict.value))
    banner(console, title, "-" if console.options.ascii_only else "─", align="left")
    print_hanging(console, Text("  "), Text(printable(finding.headline, console), style="bold"))
    console.print()
    lines = list(_lines(console, result, finding))
    width = max(len(label) for label, _text in lines)
    for label, text in lines:
        print_hanging(console, Text(f"  {label:<{width}}  ", style="dim"), text)
    # Not wrapped, whatever the width: it is there to be copied.
    console.print(
        Text.assemble((f"  {'replay':<{width}}  ", "dim"), printable(finding.replay, console)), soft_wrap=True
    )
    if finding.repro:
        _print_repro(console, finding.repro)
    console.print()


def _print_repro(console: Console, script: str) -> None:
    """Print a script from the margin on, as it is: it is there to be pasted."""
    if len(script) > _SCRIPT:
        console.print(Text("  repro: a script that shows it without diffcheck is in the JSON report", style="dim"))
        return
    console.print()
    console.print(Text("  repro: paste this into Python", style="dim"))
    console.print()
    console.print(Text(printable(script.rstrip(), console)), soft_wrap=True)


def facts(result: Result, finding: Finding) -> list[tuple[str, str]]:
    """Give what a finding says, by label, for what is no terminal."""
    return list(_lines(Console(file=io.StringIO(), width=_FORMULA), result, finding))


def banner(console: Console, title: Text, characters: str, *, align: AlignMethod) -> None:
    """Print a title within a line, or alone if it fills the width: it must not be cut."""
    if title.cell_len + 6 <= console.width:
        console.print(Rule(title, align=align, characters=characters, style="dim"))
    else:
        console.print(title)


def _lines(console: Console, result: Result, finding: Finding) -> Iterator[tuple[str, str]]:
    """Give the labelled lines of a finding."""
    theirs, formula = ("gradient=", "gradient= says") if result.mode == "gradient" else ("PyTorch", "autograd ran")
    propagated = "tangent" if plain(result.mode).startswith("forward") else "cotangent"
    if finding.diagnosis is not None:
        yield ("mistake", f"{finding.diagnosis.name}, {finding.diagnosis.certainty}: {finding.diagnosis.explanation}")
    if finding.line:
        yield ("line", finding.line)
    yield ("at", _place(result, finding))
    for value in finding.inputs:
        yield ("input", _value(value, console))
    for value in finding.cotangents:
        yield (propagated, _value(value, console))
    yield (theirs, repr(finding.autograd))
    yield ("certified", _certified(finding))
    yield ("gap", _gap(result, finding))
    yield from _formula(formula, finding.autograd_formula, console)
    yield from _formula("reference", finding.reference_formula, console)
    for note in finding.notes:
        yield ("note", note)
    what = advice(result, finding)
    if what:
        yield ("to do", what)


def _place(result: Result, finding: Finding) -> str:
    """Name the entry that disagrees, as Python would index it."""
    entry = finding.argument + (f"[{', '.join(map(str, finding.index))}]" if finding.index else "")
    return f"the tangent of {entry}" if plain(result.mode).startswith("forward") else f"the gradient of {entry}"


def _certified(finding: Finding) -> str:
    """Write an enclosure: its middle and its radius."""
    if finding.radius == 0:
        plain = "." in finding.certified and "e" not in finding.certified.lower()
        digits = finding.certified.rstrip("0").rstrip(".") if plain else finding.certified
        return f"{digits}, exactly"
    return finding.certified + (f" ± {finding.radius:.1e}" if math.isfinite(finding.radius) else "")


def _gap(result: Result, finding: Finding) -> str:
    """Write how far apart the two values are."""
    if not (math.isfinite(finding.ulps) and math.isfinite(finding.bounds)):
        return "infinite"
    return f"{number(finding.ulps)} ulps of {result.dtype}, {number(finding.bounds)} times the derived bound"


def _value(value: Value, console: Console) -> str:
    """Write a tensor as an assignment that Python reads back exactly: `x = [1.0, 2.0]  (float64)`."""
    entries = [repr(entry) for entry in value.entries]
    if not value.shape or len(entries) <= _ENTRIES:
        text = bracketed(entries, value.shape)
    else:
        text = f"[{', '.join(entries[:_ENTRIES])}, {ellipsis(console)}] and {len(entries) - _ENTRIES} more, see JSON"
    shape = f", {'×'.join(map(str, value.shape))}" if len(value.shape) > 1 or not value.entries else ""
    return f"{value.name} = {text}  ({value.dtype}{shape})"


def _formula(label: str, formula: str, console: Console) -> Iterator[tuple[str, str]]:
    """Write a formula, and below it the parts that it names, as far as somebody would read."""
    if not formula:
        return
    first, *below = few_lines(formula)
    for name, line in ((label, first), *(("", line) for line in below)):
        rest = f"{ellipsis(console)} and {count(len(line) - _FORMULA, 'more character')}, see JSON"
        yield (name, line if len(line) <= _FORMULA else line[:_FORMULA] + rest)
