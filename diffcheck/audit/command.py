"""`diffcheck audit`: what the command line asks for, its progress bar, and where its report goes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from rich.console import Console

from diffcheck.audit import comparison_report, report
from diffcheck.audit.comparison import Comparison, compare
from diffcheck.audit.database import entries
from diffcheck.audit.earlier import Earlier, refuse_other
from diffcheck.audit.judge import Plan
from diffcheck.audit.run import asked, audit
from diffcheck.compare.evaluate import DTYPES
from diffcheck.modes import CPU
from diffcheck.processes import typed
from diffcheck.report import files, json_
from diffcheck.report.summary import Exit, Run, exit_code
from diffcheck.report.terminal import console_for, progress_on
from diffcheck.verdict import Result
from diffcheck.versions import __version__


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the command."""

    patterns: tuple[str, ...]
    plan: Plan
    jobs: int
    form: str
    output: Path | None
    journal: Path | None
    earlier: Earlier | None = None
    """The audit that this one is put beside."""

    @property
    def command(self) -> str:
        """What to type for the same audit."""
        parts = ["diffcheck", "audit"]
        for pattern in self.patterns:
            parts += ["--ops", pattern]
        parts += ["--mode", ",".join(self.plan.modes), "--dtype", self.plan.dtype]
        if self.plan.device != CPU:
            parts += ["--device", self.plan.device]
        parts += ["--samples", str(self.plan.samples)]
        if self.earlier is not None:
            parts += ["--against", self.earlier.path.name]
        return typed(*parts)


def run_audit(request: Request) -> int:
    """Runs an audit and delivers its report.

    Raises:
        LoadError: The database or the journal can't be read, or the earlier audit judged other things.
    """
    plan = request.plan
    if request.earlier is not None:
        refuse_other(request.earlier, plan)
    with contextlib.redirect_stdout(sys.stderr):
        chosen = entries(request.patterns, DTYPES[plan.dtype], plan.device)
    console = console_for(sys.stdout)
    bar = progress_on(console if console.is_terminal else console_for(sys.stderr))
    bar.live.auto_refresh = False  # no thread beside the one that forks
    task = bar.add_task("", total=len(chosen))
    started = time.perf_counter()
    found: dict[str, tuple[Result, ...]] = {}
    interrupted = False
    with bar:
        try:
            for done in audit(chosen, plan, jobs=request.jobs, journal=request.journal):
                found[done.name] = done.results
                bar.update(task, advance=1, description=done.name, refresh=True)
        except KeyboardInterrupt:
            interrupted = True
    results = tuple(result for entry in chosen for result in found.get(entry.name, ()))
    run = Run(results, 0, time.perf_counter() - started, stopped="interrupted" if interrupted else "")
    compared = _compared(request, run)
    _deliver(console, request, run, compared)
    if compared is None:
        return exit_code(_without_missing_modes(run))
    return _exit_code_beside(run, compared)


def _compared(request: Request, run: Run) -> Comparison | None:
    if request.earlier is None:
        return None
    return compare(
        request.earlier,
        run.results,
        torch=version_of("torch"),
        diffcheck=__version__,
        patterns=request.patterns,
        interrupted=bool(run.stopped),
    )


def _deliver(console: Console, request: Request, run: Run, compared: Comparison | None) -> None:
    """Writes the report in the form and to the place that was asked for."""
    finished = report.Audit(run.results, request.command, sum(r.seconds for r in run.results), bool(run.stopped))
    written: dict[str, Callable[[], str]]
    if compared is None:
        written = {"text": lambda: report.text_of(finished), "markdown": lambda: report.markdown_of(finished)}
    else:
        written = {
            "text": lambda: comparison_report.text_of(finished, compared),
            "markdown": lambda: comparison_report.markdown_of(finished, compared),
        }
    written["json"] = lambda: json_.dumps(run, _about(request, compared))
    if request.output is not None:
        files.write(request.output, written[request.form]())
        report.print_table(console, finished)
    elif request.form != "text":
        sys.stdout.write(written[request.form]())
    elif compared is None:
        report.print_audit(console, finished)
    else:
        comparison_report.print_comparison(console, finished, compared)


def _about(request: Request, compared: Comparison | None) -> dict[str, Any]:
    """What an audit's JSON says beside its results: what it was asked, and what changed."""
    about: dict[str, Any] = {"audit": {**asked(request.plan), "ops": list(request.patterns)}}
    if compared is not None:
        about["against"] = comparison_report.as_data(compared)
    return about


def _exit_code_beside(run: Run, compared: Comparison) -> Exit:
    """Beside an earlier audit, what was wrong before has not failed."""
    code = exit_code(run)
    if code in (Exit.PASSED, Exit.FAILED):
        return Exit.FAILED if compared.regressed else Exit.PASSED
    return code


def _without_missing_modes(run: Run) -> Run:
    """What PyTorch has no mode for has not failed."""
    kept = tuple(result for result in run.results if not report.lacks_mode(result))
    return Run(kept, run.seed, run.seconds, stopped=run.stopped)
