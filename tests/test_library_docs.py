"""The examples of docs/library.md are run, one section after the other, as they stand."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from diffcheck import gradcheck, gradgradcheck

PAGE = Path(__file__).parents[1] / "docs" / "library.md"
LINES = PAGE.read_text().splitlines()
SECTIONS = [i for i, line in enumerate(LINES) if line.startswith("#")]


def code_of(start: int, end: int) -> str:
    """The indented lines of a section, in the lines in which they stand on the page."""
    return "\n".join(line[4:] if i >= start and line.startswith("    ") else "" for i, line in enumerate(LINES[:end]))


def test_the_page_in_order():
    names: dict[str, Any] = {"__name__": "docs_library"}
    ran = []
    for start, end in zip(SECTIONS, [*SECTIONS[1:], len(LINES)], strict=True):
        code = code_of(start, end)
        exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 - the page is ours
        if code.strip():
            ran.append(LINES[start].strip("# "))
    assert ran == [
        "As a library", "A custom Function", "Given inputs, domains, or both", "Pytrees and keyword arguments",
        "Modules", "Kernels that can't be traced", "gradcheck", "Strategies", "Hypothesis' settings", "Notebooks",
    ]  # fmt: skip


OPTIONS = [p.name for f in (gradcheck, gradgradcheck) for p in inspect.signature(f).parameters.values()]


@pytest.mark.parametrize("option", sorted({*OPTIONS} - {"func"}))
def test_every_option_of_gradcheck_is_explained(option: str):
    assert f"`{option}`" in PAGE.read_text()
