"""One case → Results: draw, trace, prove, compare, shrink."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from diffcheck.checking.conclude import conclude, result_of, wrong_rule_of
from diffcheck.checking.visit import Row, blocks, compare_at_scale, drawn_for, hunt, replay_known, special_values, visit
from diffcheck.compare.evaluate import Memory
from diffcheck.declare.case import Case
from diffcheck.declare.domain import size_assignments
from diffcheck.differentiate.autodiff import import_forward_mode
from diffcheck.differentiate.device import computing_on
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
    with computing_on(settings.device):
        for result in _checked(case, settings, case_id, location):
            yield replace(result, device=settings.device)


def _checked(case: Case, settings: Settings, case_id: str, location: str) -> Iterator[Result]:
    asked = rows_of(case, settings)
    # A rule that somebody gave is held to its operation before any derivative is judged by it, asked for or not.
    vouching = dict.fromkeys((VALUE, dtype) for _, dtype in asked) if case.rules else {}
    rows = [Row(mode, dtype) for mode, dtype in dict.fromkeys([*vouching, *asked])]
    if any("forward" in row.mode for row in rows):
        import_forward_mode()
    started = time.perf_counter()
    memory = Memory()
    assignments = size_assignments(case.arguments) if case.draws else []
    if case.draws and not assignments:
        for row in rows:
            yield result_of(case_id, row, Verdict.ERROR, "no sizes of the axes give every argument a shape")
        return
    inputs = inputs_of(case, assignments, special_values(case, rows, assignments, settings, memory))
    deadline, halfway = started + settings.seconds, started + settings.seconds / 2
    for row in rows:
        replay_known(case, row, inputs, settings, memory, case_id)
    drawn: list[Drawn] = []
    for source in inputs.sources:
        drawn += drawn_for(case, rows, source, settings, halfway, memory)
    drawn += inputs.swept
    for row in rows:
        row.late = time.perf_counter() > halfway
    for block in blocks(drawn):
        for row in rows:
            visit(case, row, block, memory, deadline)
    for row in rows:
        if row.broken is None:
            compare_at_scale(case, row, settings, deadline)
        if row.refuted and row.broken is None:
            hunt(case, row, inputs, settings, memory, deadline)
    wrong_rule = wrong_rule_of(case, rows, inputs, settings, memory, case_id, deadline)
    for row in rows:
        if (row.mode, row.dtype) not in asked:
            continue
        if wrong_rule:
            yield result_of(case_id, row, Verdict.ERROR, wrong_rule)
        else:
            yield conclude(case, row, inputs, settings, memory, case_id, location, deadline)


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
    return settings.modes


__all__ = ["Settings", "check", "modes_of", "rows_of"]
