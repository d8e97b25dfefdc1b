"""The record of what was tried, as the table of docs/versions.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_table(page: Path, record: dict[str, Any]) -> None:
    """Replaces what stands below the mark."""
