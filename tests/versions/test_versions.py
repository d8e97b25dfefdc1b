"""The versions that are named are those that were tried, and findings are in the versions that are told."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

from diffcheck import versions
from tests.versions.findings import FOUND, Found, installed, status
from tests.versions.packages import PACKAGES
from tests.versions.table import tables

ROOT: Final = Path(__file__).parents[2]
RECORD: Final = json.loads((Path(__file__).parent / "results.json").read_text())
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BOUNDS: Final[dict[str, str]] = {
    match[1]: match[2]
    for requirement in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    if (match := re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement))
}


@pytest.mark.parametrize("name", [package.name for package in PACKAGES])
def test_a_lower_bound_is_the_oldest_that_passed(name: str):
    bound = BOUNDS[name]
    oldest = RECORD[name]["oldest"]
    assert oldest == bound or re.fullmatch(re.escape(bound) + r"(\.0)+", oldest), (oldest, bound)


def test_the_bound_of_pytorch_is_the_one_that_is_told():
    oldest = ".".join(map(str, versions.OLDEST))
    assert BOUNDS["torch"] == oldest
    passed = [version for version, why in RECORD["torch"]["tried"].items() if not why]
    tried = [tuple(map(int, version.split(".")[:2])) for version in passed]
    assert tried == [(2, minor) for minor in range(versions.OLDEST[1], versions.NEWEST[1] + 1)]


def test_all_lower_bounds_were_tried_at_once():
    assert RECORD["together"]["why"] == ""
    asked = dict(requirement.split("==") for requirement in RECORD["together"]["requirements"])
    assert asked == {name: BOUNDS[name] for name in asked}
    assert asked.keys() >= {requirement.partition(">")[0] for requirement in PROJECT["dependencies"]}


def test_the_page_shows_the_record():
    assert "\n".join(tables(RECORD)) in (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")


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
