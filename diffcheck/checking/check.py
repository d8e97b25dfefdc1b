"""One case → Results: draw, trace, prove, compare, shrink."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from diffcheck.alarm import processor_time
from diffcheck.checking.conclude import conclude, result_of, wrong_rule_of
from diffcheck.checking.visit import (
    Check,
    Row,
    blocks,
    compare_at_scale,
    drawn_for,
    hunt,
    replay_known,
    special_values,
    visit,
)
from diffcheck.compare.evaluate import Memory
from diffcheck.declare.case import Case
from diffcheck.declare.domain import size_assignments
from diffcheck.differentiate.autodiff import import_forward_mode
from diffcheck.differentiate.device import computing_on
from diffcheck.differentiate.dynamo import quietly
from diffcheck.draw.inputs import Drawn
from diffcheck.draw.search import inputs_of
from diffcheck.modes import TEXTBOOK, VALUE, dtypes_for
from diffcheck.settings import Settings
from diffcheck.verdict import Result, Verdict


def check(case: Case, settings: Settings, *, case_id: str, location: str) -> Iterator[Result]:
    """Checks a case in every mode and dtype asked for.

    Args:
        case: The case.
        settings: How.
        case_id: `cases/autograd.py::quadratic`, for the results.
        location: What names the case on the command line, for replay commands.

    Yields:
        A result per mode and dtype, then one for the case's own `gradient=`. A case's own faults are results too.
    """
    asked = rows_of(case, settings)
    # A rule that somebody gave is held to its operation before any derivative is judged by it, asked for or not.
    vouching = dict.fromkeys((VALUE, dtype) for _, dtype in asked) if case.rules else {}
    rows = [Row(mode, dtype) for mode, dtype in dict.fromkeys([*vouching, *asked])]
    if any("forward" in row.mode for row in rows):
        import_forward_mode()
    with computing_on(settings.device), quietly():
        for result in _checked(case, settings, rows, case_id, location):
            if (result.mode, result.dtype) in asked:
                yield replace(result, device=settings.device)


def _checked(case: Case, settings: Settings, rows: Sequence[Row], case_id: str, location: str) -> Iterator[Result]:
    started = processor_time()
    memory = Memory()
    assignments = size_assignments(case.arguments) if case.draws else []
    inputs = inputs_of(case, assignments, special_values(case, rows, assignments, settings, memory))
    check = Check(case, settings, memory, inputs, case_id, location, started + settings.seconds)
    if case.draws and not assignments:
        for row in rows:
            yield result_of(check, row, Verdict.ERROR, "no sizes of the axes give every argument a shape")
        return
    _visited(check, rows, started + settings.seconds / 2)
    wrong_rule = wrong_rule_of(check, rows)
    for row in rows:
        yield result_of(check, row, Verdict.ERROR, wrong_rule) if wrong_rule else conclude(check, row)


def _visited(check: Check, rows: Sequence[Row], halfway: float) -> None:
    """Takes the rows to every input: drawn until halfway through the time."""
    for row in rows:
        replay_known(check, row)
    drawn: list[Drawn] = []
    for source in check.inputs.sources:
        drawn += drawn_for(check, rows, source, halfway)
    drawn += check.inputs.swept
    for row in rows:
        row.late = processor_time() > halfway
    for block in blocks(drawn):
        for row in rows:
            visit(check, row, block)
    for row in rows:
        if row.broken is None:
            compare_at_scale(check, row)
        if row.refuted and row.broken is None:
            hunt(check, row)


def rows_of(case: Case, settings: Settings) -> tuple[tuple[str, str], ...]:
    """The mode and dtype of each result that a check gives, without checking anything."""
    modes = (VALUE, *modes_of(case, settings)) if case.kernel or case.rules else modes_of(case, settings)
    dtypes = dtypes_for(settings.dtypes, complex_inputs=case.is_complex)
    rows = [(mode, dtype) for mode in modes for dtype in dtypes]
    if case.gradient is not None and dtypes:
        rows.append((TEXTBOOK, "complex128" if case.is_complex else "float64"))
    return tuple(row for row in rows if settings.only is None or row in settings.only)


def modes_of(case: Case, settings: Settings) -> tuple[str, ...]:
    """The modes that a case is checked in, of those that are asked for."""
    if case.preceded_by is not None:
        return ("accumulate",) if "reverse" in settings.modes else ()
    if case.surrogate is not None:
        return ("reverse",) if "reverse" in settings.modes else ()
    return settings.modes
