"""Results as JSON, and back: strict JSON, with every float to its last bit."""

from __future__ import annotations

import json
import math
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any, Final

from diffcheck import versions
from diffcheck.modes import CPU
from diffcheck.report.summary import counts
from diffcheck.report.text import nested
from diffcheck.verdict import Certainty, Diagnosis, Finding, Mistake, Result, Value, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffcheck.report.summary import Run

VERSION: Final = 1
"""Of the format; new keys may come without a new version."""


def dumps(run: Run, about: Mapping[str, Any] | None = None) -> str:
    """Write a run as JSON, with the versions of what it was made with, and what else is known under further keys."""
    document = {
        "version": VERSION,
        "made_with": dict(versions.installed()),
        "note": versions.note(version_of("torch")),
        "results": [as_data(result) for result in run.results],
        "summary": counts(run.results),
        "seed": run.seed,
        "seconds": _number(run.seconds),
        "strict": run.strict,
        "stopped": run.stopped,
        "not_run": list(run.not_run),
        "deselected": run.deselected,
        **(about or {}),
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def loads(text: str) -> list[Result]:
    """Read the results back, equal to those that were written."""
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError(f"this is no report of diffcheck in version {VERSION} of the format")
    return [from_data(result) for result in document["results"]]


def _number(value: float) -> float | str:
    """Write a float that needn't be finite: JSON knows no NaN and no infinity."""
    return value if math.isfinite(value) else str(value)


def _entry(value: Any) -> Any:
    """Write a tensor's entry: a float in hexadecimal, exactly, or two; integers and booleans as they are."""
    if isinstance(value, complex):
        return f"{value.real.hex()} {value.imag.hex()}"
    return value.hex() if isinstance(value, float) else value


def _to_entry(value: Any) -> Any:
    """Read an entry back."""
    if not isinstance(value, str):
        return value
    parts = [float.fromhex(part) for part in value.split()]
    return parts[0] if len(parts) == 1 else complex(*parts)


def _value(value: Value) -> dict[str, Any]:
    entries = [_entry(entry) for entry in value.entries]
    return {
        "name": value.name,
        "shape": list(value.shape),
        "dtype": value.dtype,
        "entries": nested(entries, value.shape),
    }


def _to_value(data: dict[str, Any]) -> Value:
    shape = tuple(data["shape"])
    entries = [data["entries"]]
    for _axis in shape:
        entries = [entry for row in entries for entry in row]
    return Value(data["name"], shape, data["dtype"], tuple(map(_to_entry, entries)))


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "headline": finding.headline,
        "argument": finding.argument,
        "index": list(finding.index),
        "inputs": [_value(value) for value in finding.inputs],
        "cotangents": [_value(value) for value in finding.cotangents],
        "autograd": {"decimal": repr(finding.autograd), "hex": finding.autograd.hex()},
        "certified": {
            "decimal": finding.certified,
            "hex": finding.certified_float.hex(),
            "radius": _number(finding.radius),
        },
        "ulps": _number(finding.ulps),
        "bounds": _number(finding.bounds),
        "autograd_formula": finding.autograd_formula,
        "reference_formula": finding.reference_formula,
        "replay": finding.replay,
        "notes": list(finding.notes),
        "diagnosis": None if finding.diagnosis is None else _diagnosis(finding.diagnosis),
        "line": finding.line,
        "repro": finding.repro,
    }


def _diagnosis(diagnosis: Diagnosis) -> dict[str, str]:
    return {
        "name": diagnosis.name.value,
        "certainty": diagnosis.certainty.value,
        "explanation": diagnosis.explanation,
    }


def _to_diagnosis(data: dict[str, str]) -> Diagnosis:
    return Diagnosis(Mistake(data["name"]), Certainty(data["certainty"]), data["explanation"])


def _to_finding(data: dict[str, Any]) -> Finding:
    return Finding(
        headline=data["headline"],
        argument=data["argument"],
        index=tuple(data["index"]),
        inputs=tuple(map(_to_value, data["inputs"])),
        cotangents=tuple(map(_to_value, data["cotangents"])),
        autograd=float.fromhex(data["autograd"]["hex"]),
        certified=data["certified"]["decimal"],
        certified_float=float.fromhex(data["certified"]["hex"]),
        radius=float(data["certified"]["radius"]),
        ulps=float(data["ulps"]),
        bounds=float(data["bounds"]),
        autograd_formula=data["autograd_formula"],
        reference_formula=data["reference_formula"],
        replay=data["replay"],
        notes=tuple(data["notes"]),
        diagnosis=None if data["diagnosis"] is None else _to_diagnosis(data["diagnosis"]),
        line=data["line"],
        repro=data["repro"],
    )


def as_data(result: Result) -> dict[str, Any]:
    """Write one result as JSON's types."""
    return {
        "id": result.id,
        "mode": result.mode,
        "dtype": result.dtype,
        "device": result.device,
        "verdict": result.verdict.value,
        "inputs": result.inputs,
        "paths": result.paths,
        "kinks": result.kinks,
        "undefined": result.undefined,
        "refused": result.refused,
        "out_of_range": result.out_of_range,
        "max_error_ulps": _number(result.max_error_ulps),
        "max_error_bounds": _number(result.max_error_bounds),
        "seconds": _number(result.seconds),
        "gradient": result.gradient,
        "reason": result.reason,
        "by_name": result.by_name,
        "details": list(result.details),
        "finding": None if result.finding is None else _finding(result.finding),
    }


def from_data(data: dict[str, Any]) -> Result:
    """Read it back."""
    return Result(
        id=data["id"],
        mode=data["mode"],
        dtype=data["dtype"],
        device=data.get("device", CPU),  # older reports do not say
        verdict=Verdict(data["verdict"]),
        inputs=data["inputs"],
        paths=data["paths"],
        kinks=data["kinks"],
        undefined=data["undefined"],
        refused=data.get("refused", 0),  # older reports do not say
        out_of_range=data.get("out_of_range", 0),  # older reports do not say
        max_error_ulps=float(data["max_error_ulps"]),
        max_error_bounds=float(data["max_error_bounds"]),
        seconds=float(data["seconds"]),
        gradient=data["gradient"],
        reason=data["reason"],
        by_name=data.get("by_name", False),  # older reports do not say
        details=tuple(data["details"]),
        finding=None if data["finding"] is None else _to_finding(data["finding"]),
    )
