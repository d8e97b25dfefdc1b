"""Loaded cases → a finished run; nothing that a case does ends it before its end."""

from __future__ import annotations

import contextlib
import gc
import time
import traceback
from typing import TYPE_CHECKING

from diffcheck.load import Broken, Loaded, importable
from diffcheck.report.summary import INTERNAL, Run, passes
from diffcheck.verdict import Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from diffcheck.check import Settings


def run_all(
    items: Sequence[Loaded | Broken],
    settings: Settings,
    *,
    strict: bool,
    exit_first: bool,
    deselected: int,
    begin: Callable[[Loaded | Broken], None],
    end: Callable[[Sequence[Result]], None],
) -> Run:
    """Check one case after the other; Ctrl-C ends the run and keeps what was found out until then.

    `begin` is called before each case, `end` after it with its results.
    """
    start = time.perf_counter()
    # What is imported stays: the collector need not look at half a million of PyTorch's and SymPy's objects again.
    gc.freeze()
    _use_one_thread()
    results: list[Result] = []
    stopped = ""
    ended = 0
    try:
        for item in items:
            begin(item)
            with contextlib.closing(results_of(item, settings)) as stream:
                for result in stream:
                    results.append(result)
                    if exit_first and not passes(result, strict=strict):
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


def _use_one_thread() -> None:
    """On tensors of a few elements PyTorch's threads only wait for each other."""
    import torch

    torch.set_num_threads(1)


def results_of(item: Loaded | Broken, settings: Settings) -> Generator[Result]:
    """Check one case; a file that can't be imported and a mistake of diffcheck are results too."""
    if isinstance(item, Broken):
        yield _error(item.id, item.reason, item.details)
        return
    try:
        with importable(item.file.parent):
            yield from item.case.run(settings, case_id=item.id, location=item.location)
    except SystemExit as error:
        yield _error(item.id, f"it called sys.exit({error.code!r})")
    except Exception as error:  # noqa: BLE001 - a check reports a case's faults itself: this is ours
        lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
        yield _error(item.id, f"{INTERNAL}: {type(error).__name__}: {error}", tuple(lines))


def _error(case_id: str, reason: str, details: tuple[str, ...] = ()) -> Result:
    return Result(id=case_id, mode="", dtype="", verdict=Verdict.ERROR, reason=reason, details=details)
