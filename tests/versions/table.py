"""The record of what was tried, as the tables of docs/versions.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

_MARK: Final = "<!-- tests/versions/run.py --table writes what follows -->"


def write_table(page: Path, record: dict[str, Any]) -> None:
    """Replaces what stands below the mark."""
    above = page.read_text(encoding="utf-8").partition(_MARK)[0].rstrip()
    page.write_text("\n".join([above, "", _MARK, "", *tables(record), ""]), encoding="utf-8")


def tables(record: dict[str, Any]) -> list[str]:
    """The lines of the tables."""
    lines = ["| package | oldest that passes | newest tried | what the one before says |", "|---|---|---|---|"]
    for name, found in record.items():
        if "oldest" in found:
            lines.append(f"| {name} | {found['oldest']} | {found['newest']} | {_before(found)} |")
    lines += ["", "| PyTorch, Python | |", "|---|---|"]
    lines += [f"| torch {version} | {why or 'passes'} |" for version, why in record["torch"]["tried"].items()]
    for version, found in record.get("python", {}).items():
        lines.append(f"| Python {version}, torch {found['torch']} | {found['why'] or 'passes'} |")
    together = record.get("together")
    if together:
        named = ", ".join(requirement.replace("==", " ") for requirement in together["requirements"])
        lines += ["", f"All lower bounds at once ({named}): {together['why'] or 'passes'}."]
    return lines


def _before(found: dict[str, Any]) -> str:
    """The newest version that does not pass, and why."""
    if not found["fail"]:
        return "none that is looked at"
    version = list(found["fail"])[-1]
    return f"{version}: `{found['fail'][version]}`"
