"""Results as JUnit XML, which every CI service reads."""

from __future__ import annotations

import math
import re
from importlib.metadata import version as version_of
from itertools import groupby
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from diffcheck import versions
from diffcheck.report.summary import Run, passes
from diffcheck.report.text import parameters
from diffcheck.verdict import Verdict, left_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffcheck.verdict import Finding, Result

_FAILURES: Final = frozenset({Verdict.WRONG, Verdict.INACCURATE, Verdict.AGREES})
"""What is a failure when it does not pass; the other verdicts are errors: nothing was found out."""

_INVALID: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 can't hold, not even escaped."""


def dumps(run: Run) -> str:
    """Write a run as JUnit XML; the exit code fails exactly when a failure or an error stands here."""
    root = ET.Element("testsuites", name="diffcheck")
    skipped = [(_file(case), case) for case in run.not_run]
    for file, group in groupby(sorted(run.results, key=lambda result: _file(result.id)), key=lambda r: _file(r.id)):
        left = [case for where, case in skipped if where == file]
        _suite(root, file, list(group), left, run)
    seen = {_file(result.id) for result in run.results}
    for file in dict.fromkeys(where for where, _case in skipped if where not in seen):
        _suite(root, file, [], [case for where, case in skipped if where == file], run)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    root.set("time", _seconds(run.seconds))
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="us-ascii", xml_declaration=True)
    return text.decode() + "\n"


def _file(case: str) -> str:
    """Take the file of an id."""
    return case.partition("::")[0]


def _suite(root: ET.Element, file: str, results: Sequence[Result], left: Sequence[str], run: Run) -> None:
    """Add a file's results, and those of its cases that were not run."""
    suite = ET.SubElement(root, "testsuite", name=_valid(file))
    properties = ET.SubElement(suite, "properties")
    ET.SubElement(properties, "property", name="seed", value=str(run.seed))
    if note := versions.note(version_of("torch")):
        ET.SubElement(properties, "property", name="note", value=note)
    for result in results:
        _test(suite, result, strict=run.strict)
    for case in left:
        element = ET.SubElement(suite, "testcase", name=_valid(case.partition("::")[2]), classname=_class(case))
        ET.SubElement(element, "skipped", message=f"not run: {run.stopped or 'nothing to check in these modes'}")
    suite.set("tests", str(len(suite) - 1))
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("time", _seconds(sum(result.seconds for result in results)))


def _test(suite: ET.Element, result: Result, *, strict: bool) -> None:
    """Add one result."""
    name = result.id.partition("::")[2] or "import"
    told = "-".join(parameters(result))
    element = ET.SubElement(
        suite,
        "testcase",
        name=_valid(f"{name}[{told}]" if told else name),
        classname=_class(result.id),
        time=_seconds(result.seconds),
    )
    if left_out(result):
        ET.SubElement(element, "skipped", message=_valid(f"{result.verdict}: {result.reason}"))
    elif not passes(result, strict=strict):
        kind = "failure" if result.verdict in _FAILURES else "error"
        reason = result.reason or (result.finding.headline if result.finding else "")
        problem = ET.SubElement(
            element, kind, type=result.verdict.value, message=_valid(reason or result.verdict.value)
        )
        problem.text = _valid("\n".join([*_facts(result.finding), *result.details]))
    elif result.details:
        ET.SubElement(element, "system-out").text = _valid("\n".join(result.details))


def _facts(finding: Finding | None) -> list[str]:
    """Say in lines what a finding holds; every exact digit is in the JSON."""
    if finding is None:
        return []
    index = f"[{', '.join(map(str, finding.index))}]" if finding.index else ""
    return [
        finding.headline,
        f"at: {finding.argument}{index}",
        *(f"input {value.name}: {list(value.entries)} shape {list(value.shape)}" for value in finding.inputs),
        f"PyTorch: {finding.autograd!r}",
        f"certified: {finding.certified}",
        f"gap: {finding.ulps:g} ulps, {finding.bounds:g} bounds",
        f"autograd ran: {finding.autograd_formula}",
        f"reference: {finding.reference_formula}",
        *(f"note: {note}" for note in finding.notes),
        f"replay: {finding.replay}",
    ]


def _class(case: str) -> str:
    """Write a file as a dotted name, as pytest does: CI services make folders of it."""
    return _valid(_file(case).removesuffix(".py").replace("/", "."))


def _seconds(value: float) -> str:
    """Write a time as XML Schema's decimal."""
    return f"{value:.3f}" if math.isfinite(value) else "0"


def _valid(text: str) -> str:
    """Spell out what XML can't hold."""
    return _INVALID.sub(lambda match: match.group().encode("unicode_escape").decode(), text)
