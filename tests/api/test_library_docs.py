"""The examples of docs/library.md and docs/rules.md are run, one section after the other, as they stand."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from diffcheck import gradcheck, gradgradcheck

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "library.md"
SECTIONS = {
    "library.md": [
        "As a library", "A custom Function", "Given inputs, domains, or both", "Pytrees and keyword arguments",
        "Modules", "Kernels that can't be traced", "gradcheck", "Strategies", "Hypothesis' settings", "Notebooks",
    ],
    "rules.md": [
        "Rules for your own operations", "What is checked", "What a rule is", "When one is missing", "Forward mode",
    ],
}  # fmt: skip
"""Those that hold code."""
OUTPUT = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code_of(lines: list[str], start: int, end: int) -> str:
    """The indented lines of a section, in the lines in which they stand on the page."""
    return "\n".join(line[4:] if i >= start and line.startswith("    ") else "" for i, line in enumerate(lines[:end]))


@pytest.mark.parametrize("page", SECTIONS)
def test_the_page_in_order(page: str, capsys: pytest.CaptureFixture[str]):
    file = DOCS / page
    text = file.read_text()
    # What is printed stands between fences, and is no code.
    lines = OUTPUT.sub(lambda block: "\n" * (block.group().count("\n")), text).splitlines()
    headings = [i for i, line in enumerate(lines) if line.startswith("#")]
    names: dict[str, Any] = {"__name__": f"docs_{file.stem}"}
    ran = []
    for start, end in zip(headings, [*headings[1:], len(lines)], strict=True):
        code = code_of(lines, start, end)
        exec(compile(code, str(file), "exec"), names)  # noqa: S102 - the page is ours
        if code.strip():
            ran.append(lines[start].strip("# "))
    assert ran == SECTIONS[page]
    printed = capsys.readouterr().out
    assert all(output in printed for output in OUTPUT.findall(text))


OPTIONS = [p.name for f in (gradcheck, gradgradcheck) for p in inspect.signature(f).parameters.values()]


@pytest.mark.parametrize("option", sorted({*OPTIONS} - {"func"}))
def test_every_option_of_gradcheck_is_explained(option: str):
    assert f"`{option}`" in PAGE.read_text()
