"""`diffcheck audit`: what the command line asks for, its progress bar, and where its report goes."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from diffcheck.audit import report
from diffcheck.audit.database import entries
from diffcheck.audit.judge import Plan
from diffcheck.audit.run import audit
from diffcheck.config import CPU
from diffcheck.evaluate import DTYPES
from diffcheck.processes import typed
from diffcheck.report import files, json_
from diffcheck.report.summary import Run, exit_code
from diffcheck.report.terminal import console_for, progress_on
from diffcheck.verdict import Result


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the command."""

    patterns: tuple[str, ...]
    modes: tuple[str, ...]
    dtype: str
    device: str
    samples: int
    jobs: int
    form: str
    output: Path | None
    journal: Path | None

    @property
    def command(self) -> str:
        """What to type for the same audit."""
        parts = ["diffcheck", "audit"]
        for pattern in self.patterns:
            parts += ["--ops", pattern]
        parts += ["--mode", ",".join(self.modes), "--dtype", self.dtype]
        if self.device != CPU:
            parts += ["--device", self.device]
        parts += ["--samples", str(self.samples)]
        return typed(*parts)


def run_audit(request: Request) -> int:
    """Runs an audit and delivers its report.

    Raises:
        LoadError: The database or the journal can't be read.
    """
    with contextlib.redirect_stdout(sys.stderr):
        chosen = entries(request.patterns, DTYPES[request.dtype], request.device)
    console = console_for(sys.stdout)
    bar = progress_on(console if console.is_terminal else console_for(sys.stderr))
    bar.live.auto_refresh = False  # no thread beside the one that forks
    task = bar.add_task("", total=len(chosen))
    started = time.perf_counter()
    found: dict[str, tuple[Result, ...]] = {}
    plan = Plan(request.modes, request.dtype, request.samples, device=request.device)
    interrupted = False
    with bar:
        try:
            for done in audit(chosen, plan, jobs=request.jobs, journal=request.journal):
                found[done.name] = done.results
                bar.update(task, advance=1, description=done.name, refresh=True)
        except KeyboardInterrupt:
            interrupted = True
    results = tuple(result for entry in chosen for result in found.get(entry.name, ()))
    finished = report.Audit(results, request.command, sum(r.seconds for r in results), interrupted)
    run = Run(results, 0, time.perf_counter() - started, stopped="interrupted" if interrupted else "")
    text = {"json": lambda: json_.dumps(run), "markdown": lambda: report.markdown_of(finished)}.get(request.form)
    if text is None and request.output is None:
        report.print_audit(console, finished)
    elif request.output is None:
        assert text is not None
        sys.stdout.write(text())
    else:
        files.write(request.output, report.text_of(finished) if text is None else text())
        report.print_table(console, finished)
    return exit_code(_without_missing_modes(run))


def _without_missing_modes(run: Run) -> Run:
    """What PyTorch has no mode for has not failed."""
    kept = tuple(result for result in run.results if not report.lacks_mode(result))
    return Run(kept, run.seed, run.seconds, stopped=run.stopped)
