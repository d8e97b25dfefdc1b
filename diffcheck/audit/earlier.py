"""An audit that ran before, perhaps on another PyTorch: what it was asked, and its results, read from its file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from diffcheck.audit.database import matches
from diffcheck.audit.judge import Plan
from diffcheck.errors import LoadError
from diffcheck.modes import CPU
from diffcheck.report.json_ import from_data
from diffcheck.verdict import Result

_WRITES: Final = "`diffcheck audit --format json --output FILE` and `diffcheck audit --resume FILE` write one"


@dataclass(frozen=True, slots=True)
class Earlier:
    """An audit that ended some time ago."""

    path: Path
    torch: str
    """The version of PyTorch that it judged."""
    diffcheck: str
    """The version of diffcheck that judged."""
    plan: Plan
    results: tuple[Result, ...]
    patterns: tuple[str, ...] | None = ()
    """The operators it was asked for, by pattern; empty for all, None if the file does not say."""
    interrupted: bool = False

    def asked_for(self, entry: str) -> bool:
        """Whether it would have judged an entry, as far as the file says."""
        return matches(entry, self.patterns or ())


def read(path: Path) -> Earlier:
    """Reads the JSON report of an audit, or its journal.

    Raises:
        LoadError: The file can't be read, or is none of both.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise LoadError(f"--against {path}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise LoadError(f"--against {path}: this is no audit, and no text either; {_WRITES}") from error
    except OSError as error:
        raise LoadError(f"--against {path}: it can't be read: {error.strerror or error}") from error
    try:
        found = _report(path, json.loads(text))
    except json.JSONDecodeError:
        found = _journal(path, text)
    if not found.results:
        raise LoadError(f"--against {path}: the audit has no results; {_WRITES}")
    return found


def _report(path: Path, document: Any) -> Earlier:
    """What `--format json` wrote; a journal of one line is JSON as well."""
    if not isinstance(document, dict) or not ({"results", "audit"} & document.keys()):
        raise LoadError(f"--against {path}: this is JSON, and no audit; {_WRITES}")
    if "audit" not in document:
        raise LoadError(f"--against {path}: this is the report of a run of cases, and no audit; {_WRITES}")
    return _made(path, document["audit"], document.get("results", []), document.get("stopped") == "interrupted")


def _journal(path: Path, text: str) -> Earlier:
    """What `--resume` wrote: a last line that was being written is left out."""
    whole = text[: text.rfind("\n") + 1].splitlines()
    try:
        first, *entries = map(json.loads, whole)
        asked, results = first["audit"], [result for entry in entries for result in entry["results"]]
    except (ValueError, KeyError, TypeError) as error:
        raise LoadError(f"--against {path}: this is no audit; {_WRITES}") from error
    return _made(path, asked, results, interrupted=len(whole) < len(text.splitlines()))


def _made(path: Path, asked: Any, results: Sequence[Any], interrupted: bool) -> Earlier:  # noqa: FBT001 - read from a file
    try:
        patterns = asked.get("ops")
        return Earlier(
            path,
            torch=str(asked["torch"]),
            diffcheck=str(asked["diffcheck"]),
            plan=Plan(tuple(asked["modes"]), asked["dtype"], asked["samples"], device=asked.get("device", CPU)),
            results=tuple(map(from_data, results)),
            patterns=None if patterns is None else tuple(patterns),
            interrupted=interrupted,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise LoadError(f"--against {path}: an audit in a form that this diffcheck does not read ({said})") from error


def refuse_other(earlier: Earlier, plan: Plan) -> None:
    """Two audits are compared that judged the same derivatives of the same samples.

    Raises:
        LoadError: They did not.
    """
    missing = [mode for mode in plan.modes if mode not in earlier.plan.modes]
    if missing:
        had = ",".join(earlier.plan.modes)
        raise LoadError(f"--against {earlier.path}: that audit did not judge {','.join(missing)}: it has --mode {had}")
    for option in ("dtype", "device", "samples"):
        was, now = getattr(earlier.plan, option), getattr(plan, option)
        if was != now:
            raise LoadError(
                f"--against {earlier.path}: that audit has --{option} {was}, this one {now}, and they judge different "
                f"things; leave --{option} away, and it is the same"
            )
