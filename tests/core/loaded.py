"""The project's own cases, and a few more functions that PyTorch surely differentiates rightly."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from diffcheck.case import Case

FOLDER = Path(__file__).parents[2] / "cases"


def _module(path: Path) -> ModuleType:
    name = f"diffcheck_cases_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@cache
def cases() -> dict[str, Case]:
    """Every case of `cases/`, by name."""
    found: dict[str, Case] = {}
    for path in sorted(FOLDER.glob("*.py")):
        for value in vars(_module(path)).values():
            if isinstance(value, Case):
                found[value.name] = value
    return found
