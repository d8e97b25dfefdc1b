"""JUnit XML is well-formed, whatever a message holds, and fails exactly when the exit code does."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcheck.report.junit import dumps
from diffcheck.report.summary import Exit, Run, exit_code
from diffcheck.verdict import Result, Verdict, left_out

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion


@pytest.mark.parametrize("name", ["passing", "wrong", "error", "regression", "stopped", "not_available"])
def test_junit(name: str, scenes: dict[str, Run], snapshot: SnapshotAssertion) -> None:
    assert dumps(scenes[name]) == snapshot


@given(st.text(), st.sampled_from(Verdict), st.booleans())
def test_any_text_is_well_formed(text: str, verdict: Verdict, strict: bool) -> None:
    result = Result(f"a.py::{text}", text, text, verdict, reason=text, details=(text,))
    ET.fromstring(dumps(Run((result,), seed=1, seconds=0.0, strict=strict, not_run=(text,))))  # noqa: S314 - our own


def test_lone_surrogates_are_spelled_out() -> None:
    """A file name needn't be Unicode."""
    ET.fromstring(dumps(Run((Result("\udcff.py::f", "reverse", "float64", Verdict.PROVED),), 1, 0.0)))  # noqa: S314 - our own


def test_counts_and_exit_code_agree(scenes: dict[str, Run]) -> None:
    for run in scenes.values():
        root = ET.fromstring(dumps(run))  # noqa: S314 - our own
        assert int(root.get("tests", "")) == len(run.results) + len(run.not_run)
        bad = int(root.get("failures", "")) + int(root.get("errors", ""))
        assert (bad == 0) == (exit_code(run) in {Exit.PASSED, Exit.INTERRUPTED})
        assert len(root.findall(".//failure")) == int(root.get("failures", ""))
        left = sum(map(left_out, run.results))
        assert len(root.findall(".//skipped")) == len(run.not_run) + left
