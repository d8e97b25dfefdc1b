"""Lets these tests import each other's helpers, however pytest was started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypothesis keeps its examples in the working folder: every test has its own."""
    monkeypatch.chdir(tmp_path)
