"""Writing a report to a file: all of it, or nothing."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def problem(path: Path) -> str:
    """Say why a file can't be written, or nothing if it can; asked before a run, not after it."""
    folder = path.resolve().parent
    if path.is_dir():
        return f"{path} is a folder"
    if not folder.is_dir():
        return f"there is no folder {folder}"
    if not os.access(path if path.exists() else folder, os.W_OK):
        return f"{path} can't be written"
    return ""


def write(path: Path, text: str) -> None:
    """Write a text file whole; who reads it meanwhile sees the old one."""
    target = path.resolve()  # a link stays one
    if target.exists() and not target.is_file():
        target.write_text(text, encoding="utf-8")  # a device or a pipe can't be replaced
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
