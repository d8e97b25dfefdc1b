"""Loaded cases → a finished run; nothing that a case does ends it before its end."""

from __future__ import annotations

import contextlib
import time
import traceback
from typing import TYPE_CHECKING

from diffcheck.checking import declared
from diffcheck.declare.load import Broken, Loaded, importable
from diffcheck.report.summary import INTERNAL, Run, fails
from diffcheck.verdict import Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from diffcheck.settings import Settings


def run_all(
    items: Sequence[Loaded | Broken],
    settings: Settings,
    *,
    strict: bool,
    exit_first: bool,
    deselected: int,
    begin: Callable[[Loaded | Broken], None],
    end: Callable[[Sequence[Result]], None],
    check: Callable[[int], Iterator[Result]] | None = None,
) -> Run:
    """Gather the results case by case; Ctrl-C ends the run and keeps what was found out until then.

    `begin` is called before each case, `end` after it with its results; `check` gives the results of the n-th item,
    which is otherwise checked here and now.
    """
    start = time.perf_counter()
    results: list[Result] = []
    stopped = ""
    ended = 0
    try:
        for position, item in enumerate(items):
            begin(item)
            stream = results_of(item, settings) if check is None else check(position)
            for result in stream:
                results.append(result)
                if exit_first and fails(result, strict=strict):
                    stopped = "first failure"
                    break
            end(results[ended:])
            ended = len(results)
            if stopped:
                break
    except KeyboardInterrupt:
        stopped = "interrupted"
        end(results[ended:])
    met = {result.id for result in results}
    not_run = tuple(item.id for item in items if item.id not in met)
    return Run(tuple(results), settings.seed or 0, time.perf_counter() - start, strict, stopped, not_run, deselected)


def results_of(item: Loaded | Broken, settings: Settings) -> Generator[Result]:
    """Check one case; a file that can't be imported and a mistake of diffcheck are results too."""
    if isinstance(item, Broken):
        yield error_result(item.id, item.reason, item.details)
        return
    try:
        with importable(item.file.parent) if item.private else contextlib.nullcontext():
            yield from declared.run(item.case, settings, case_id=item.id, location=item.location)
    except SystemExit as error:
        yield error_result(item.id, f"it called sys.exit({error.code!r})")
    except Exception as error:  # noqa: BLE001 - a check reports a case's faults itself: this is ours
        lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
        yield error_result(item.id, f"{INTERNAL}: {type(error).__name__}: {error}", tuple(lines))


def error_result(case_id: str, reason: str, details: tuple[str, ...] = ()) -> Result:
    """The result of a case whose check itself failed."""
    return Result(id=case_id, mode="", dtype="", verdict=Verdict.ERROR, reason=reason, details=details)
