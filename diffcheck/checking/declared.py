"""What is asked of anything that is declared: which results a check gives, the results, how it is shown.

A kind of declaration that stands above this package registers itself here; what somebody else marked as a case has
methods of these names.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from typing import Any

from diffcheck.checking import check
from diffcheck.declare.case import Case
from diffcheck.settings import Settings
from diffcheck.verdict import Result


@singledispatch
def rows(declared: Any, settings: Settings) -> tuple[tuple[str, str], ...]:
    """The mode and dtype of each result, without checking anything."""
    found: tuple[tuple[str, str], ...] = declared.rows(settings)
    return found


@singledispatch
def run(declared: Any, settings: Settings, *, case_id: str, location: str) -> Iterator[Result]:
    """Checks it.

    Args:
        declared: A case, a training pipeline, …
        settings: How.
        case_id: `cases/autograd.py::quadratic`, for the results.
        location: What names it on the command line, for replay commands.

    Yields:
        A result per mode and dtype.
    """
    yield from declared.run(settings, case_id=case_id, location=location)


rows.register(Case, check.rows_of)
run.register(Case, check.check)
