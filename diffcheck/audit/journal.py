"""What is known so far of an audit, one line per entry: whatever ends the process, what was finished stays."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from diffcheck.errors import LoadError
from diffcheck.modes import CPU
from diffcheck.report.json_ import as_data, from_data
from diffcheck.verdict import Result


@dataclass(frozen=True, slots=True)
class Journal:
    """A file of JSON lines: first what the audit was asked to do, then the results of an entry per line."""

    path: Path
    plan: dict[str, Any]
    """What must be the same for results to belong together."""

    def read(self) -> dict[str, tuple[Result, ...]]:
        """The results by entry; a last line that was being written is left out, and cut off.

        Raises:
            LoadError: The file is none of ours, or stands for another audit.
        """
        if not self.path.exists() or not self.path.stat().st_size:
            return {}
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) < len(raw):
            os.truncate(self.path, len(whole))
        lines = whole.splitlines()
        try:
            plan, *entries = map(json.loads, lines) if lines else ({"audit": self.plan},)
            found = {entry["entry"]: tuple(map(from_data, entry["results"])) for entry in entries}
            begun = {"device": CPU, **plan["audit"]}  # older journals do not say
        except (ValueError, KeyError, TypeError) as error:
            raise LoadError(f"{self.path} is no journal of an audit; --resume takes a file that an audit wrote") from (
                error
            )
        differing = [k for k in self.plan.keys() | begun.keys() if self.plan.get(k) != begun.get(k)]
        if differing:
            was = ", ".join(f"{k} {begun.get(k)} instead of {self.plan.get(k)}" for k in sorted(differing))
            raise LoadError(f"{self.path} stands for another audit: {was}; give --resume another file")
        return found

    def append(self, entry: str, results: Sequence[Result]) -> None:
        """Adds an entry's results, in one write."""
        self._write({"entry": entry, "results": list(map(as_data, results))})

    def begin(self) -> None:
        """Writes the first line, if there is none yet."""
        if not self.path.exists() or not self.path.stat().st_size:
            self._write({"audit": self.plan})

    def _write(self, data: dict[str, Any]) -> None:
        file: IO[bytes]
        with self.path.open("ab") as file:
            file.write(json.dumps(data, allow_nan=False).encode() + b"\n")
