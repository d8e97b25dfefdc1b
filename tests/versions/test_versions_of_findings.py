"""Findings are in the versions of PyTorch that are told."""

from __future__ import annotations

import pytest

from tests.versions.findings import FOUND, Found, installed, status


@pytest.mark.parametrize("found", FOUND, ids=lambda found: found.name)
def test_a_finding_is_in_the_versions_that_are_told(found: Found):
    assert (status(found) == "has it") == (found.since <= installed() < found.until), status(found)


def refused() -> float:
    raise RuntimeError("no")


def test_what_was_mended_is_told_from_what_was_not():
    """The script that says so is wrong on purpose here."""
    right = Found("exp", lambda: 2.0, 3.0, 2.0)
    assert [status(right), status(Found("exp", lambda: 3.0, 3.0, 2.0))] == ["right", "has it"]
    assert status(Found("exp", lambda: 2.4, 3.0, 2.0)) == "gives [2.4]"
    assert status(Found("exp", lambda: None, float("nan"), 2.0)) == "has it"
    assert status(Found("exp", refused, "RuntimeError", 2.0)) == "has it"
    assert status(Found("exp", refused, 3.0, 2.0)) == "RuntimeError: no"
