"""Results in a notebook: HTML for what shows it, LaTeX for what is printed.

Formulas are MathML, which browsers show without a library, with their LaTeX inside. Everything that comes from people
is escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from diffcheck.report.findings import facts
from diffcheck.report.mathematics import latex, mathml
from diffcheck.report.summary import fails
from diffcheck.report.table import tally
from diffcheck.report.text import duration, number, parameters
from diffcheck.verdict import Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from diffcheck.verdict import Finding

_COLOURS: Final = {
    Verdict.PROVED: "#1a7f37",
    Verdict.AGREES: "#0a7ea4",
    Verdict.INACCURATE: "#b08800",
    Verdict.WRONG: "#d1242f",
    Verdict.ERROR: "#d1242f",
}
_OTHER: Final = "#8250df"
_FORMULAS: Final = frozenset({"autograd ran", "gradient= says", "reference"})
_CODE: Final = frozenset({"input", "cotangent", "tangent", "PyTorch", "gradient=", "certified", "replay"})
_LEFT: Final = "text-align: left; vertical-align: top; padding: 0.2em 0.7em"
_RIGHT: Final = "text-align: right; vertical-align: top; padding: 0.2em 0.7em"
_LONGEST: Final = 160
"""Characters of a formula that are read at a glance; more of them fill a table."""


def results_html(results: Sequence[Result]) -> str:
    """A table with a row per result, and below it why some do not pass."""
    if not results:
        return "<p>no results</p>"
    names = [("verdict", _LEFT), ("case", _LEFT), ("mode", _LEFT), ("dtype", _LEFT), ("gradient", _LEFT)]
    names += [(name, _RIGHT) for name in ("inputs", "paths", "kinks", "ulps", "bounds", "time")]
    head = "".join(f'<th style="{style}">{name}</th>' for name, style in names)
    body = "".join(f"<tr>{''.join(_cells(result))}</tr>" for result in results)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div>{table}<p>{escape(tally(results))}</p>{''.join(map(_below, results))}</div>"


def result_html(result: Result) -> str:
    """One result, as a table with one row."""
    return results_html([result])


def finding_html(finding: Finding, result: Result | None = None) -> str:
    """What is wrong, and a row for each thing that is known about it."""
    # Alone, a finding does not say in which mode and dtype it was met.
    known = [value.dtype for value in finding.inputs if value.dtype.startswith("float")]
    told = result or Result("", "", next(iter(known), "the dtype"), Verdict.WRONG)
    rows = [
        (label, _formula(text) if label in _FORMULAS else _code(text) if label in _CODE else escape(text))
        for label, text in [*facts(told, finding), ("replay", finding.replay)]
        if text and (result is not None or label not in {"at", "cotangent"})
    ]
    body = "".join(
        f'<tr><td style="{_LEFT}; opacity: 0.7">{escape(label)}</td><td style="{_LEFT}">{text}</td></tr>'
        for label, text in rows
    )
    return f"<div><p><b>{escape(finding.headline)}</b></p><table><tbody>{body}</tbody></table></div>"


def result_latex(result: Result) -> str:
    """The gradient of the sum of the outputs, as a displayed formula; empty if it has no such form."""
    left, right = _sides(result.gradient)
    written = latex(right)
    return rf"$\displaystyle {left} = {written}$" if written else ""


def _cells(result: Result) -> Iterator[str]:
    case = escape(result.id.rpartition("::")[2])
    for text in (_verdict(result), case, escape(result.mode), escape(result.dtype), _gradient(result.gradient)):
        yield f'<td style="{_LEFT}">{text}</td>'
    compared = result.inputs > 0 or result.finding is not None
    errors = [number(result.max_error_ulps), number(result.max_error_bounds)] if compared else ["-", "-"]
    for text in (str(result.inputs), str(result.paths), str(result.kinks), *errors, duration(result.seconds)):
        yield f'<td style="{_RIGHT}">{text}</td>'


def _below(result: Result) -> str:
    if result.finding is None and (not result.reason or (result.verdict is Verdict.PROVED and not result.refused)):
        return ""
    where = ", ".join([result.id, *parameters(result)])
    reason = f"<p>{escape(result.reason)}</p>" if result.reason else ""
    if result.verdict is Verdict.UNSUPPORTED and result.details:
        reason += f"<pre>{escape(chr(10).join(result.details))}</pre>"
    finding = finding_html(result.finding, result) if result.finding else ""
    # What passes may have something to say, and does not push itself forward.
    opened = " open" if fails(result, strict=False) else ""
    return f"<details{opened}><summary>{_verdict(result)}: {escape(where)}</summary>{reason}{finding}</details>"


def _verdict(result: Result) -> str:
    return f'<b style="color: {_COLOURS.get(result.verdict, _OTHER)}">{result.verdict.value}</b>'


def _gradient(text: str) -> str:
    """The gradient in a table: long ones as they are, cut."""
    if len(text) > _LONGEST:
        return _code(f"{text[:_LONGEST]}…")
    _left, right = _sides(text)
    written = mathml(right)
    if not written:
        return _code(text)
    variable = text.partition(" = ")[0].removeprefix("∂/∂") if text.startswith("∂/∂") else ""
    return f"∂/∂{mathml(variable) or escape(variable)} = {written}" if variable else written


def _sides(gradient: str) -> tuple[str, str]:
    """The left side of a gradient's equation in LaTeX, and its right side: `∂/∂x[0] = f`, or `f` for all elements."""
    left, equals, right = gradient.partition(" = ")
    if equals and left.startswith("∂/∂"):
        return rf"\frac{{\partial}}{{\partial {latex(left.removeprefix('∂/∂'))}}} \sum y", right
    return r"\nabla \sum y", gradient


def _formula(text: str) -> str:
    return mathml(text) if len(text) <= _LONGEST and mathml(text) else _code(text)


def _code(text: str) -> str:
    return f'<code style="white-space: pre-wrap">{escape(text)}</code>'
