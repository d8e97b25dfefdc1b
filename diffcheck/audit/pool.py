"""A process for each entry: one that crashes, hangs or takes too much memory costs that entry only.

Each process is forked from this one, where PyTorch, SymPy and the database stand in memory already, and sends back a
result per mode as soon as it is there. Where the driver of a device does not outlive a fork, a process is started anew.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, Literal

from diffcheck.report.summary import INTERNAL
from diffcheck.verdict import Result, Verdict

_MEMORY: Final = Path("/proc/self/statm")
_STARTUP: Final = 60.0
"""Seconds that a process may take to import PyTorch, SymPy and the database."""

Fault = tuple[Verdict, str]
"""What is said of the modes that a process did not get to, and why."""

Work = Callable[[int], Iterator[Result]]
"""From an item's position to its results, one after the other."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one item may take."""

    seconds: float
    memory: int | None
    """In bytes, beyond what this process has already; None where addresses say nothing about memory, as with CUDA."""


@dataclass(slots=True)
class _Running:
    position: int
    process: Any
    results: Connection
    deadline: float
    got: list[Result] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one item."""

    position: int
    results: tuple[Result, ...]
    """Those that were finished."""
    fault: Fault | None = None
    """Why there are no more."""


def each(
    positions: Sequence[int], work: Work, limits: Limits, jobs: int, *, method: Literal["fork", "spawn"] = "fork"
) -> Iterator[Done]:
    """Does the work for every position, so many at once, each in a process of its own; gives them as they finish.

    With `spawn` the work is sent to processes that begin with nothing.
    """
    context = multiprocessing.get_context(method)
    if method == "spawn":
        limits = replace(limits, seconds=limits.seconds + _STARTUP)
    waiting = list(reversed(positions))
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(context, waiting.pop(), work, limits))
            left = min(one.deadline for one in running) - time.monotonic()
            ready = wait([one.results for one in running], max(left, 0.0))
            for one in list(running):
                done = _progress(one, limits, is_ready=one.results in ready)
                if done is not None:
                    running.remove(one)
                    yield done
    finally:
        for one in running:
            _end(one)


def _start(context: Any, position: int, work: Work, limits: Limits) -> _Running:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(position, work, limits, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Running(position, process, ours, time.monotonic() + limits.seconds)


def _progress(one: _Running, limits: Limits, *, is_ready: bool) -> Done | None:
    """Takes what a process has sent; says if that was all, or if it is at an end."""
    if is_ready:
        try:
            sent = one.results.recv()
        except (EOFError, OSError):
            _end(one)
            return Done(one.position, tuple(one.got), (Verdict.ERROR, _how_it_died(one.process.exitcode)))
        if not isinstance(sent, Result):
            _end(one)
            return Done(one.position, tuple(one.got), sent)
        one.got.append(sent)
    if time.monotonic() > one.deadline:
        _end(one)
        why = f"its process was ended after {limits.seconds:g} seconds: it hung in a kernel, or is far too slow"
        return Done(one.position, tuple(one.got), (Verdict.UNDECIDED, why))
    return None


def _end(one: _Running) -> None:
    one.process.join(0.2)
    if one.process.is_alive():
        one.process.kill()
    one.process.join()
    one.results.close()


def _how_it_died(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its process died of {signal.Signals(-code).name}: it crashed in a kernel, or was killed"
    return f"its process ended with exit code {code}"


def _child(position: int, work: Work, limits: Limits, results: Connection) -> None:
    # Ctrl-C reaches every process of the terminal; the one that started this decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit(limits)
    # What operators print belongs to no report.
    fault: Fault | None = None
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            for result in work(position):
                results.send(result)
        except MemoryError:
            fault = (Verdict.UNDECIDED, f"it needs more {_most(limits)}")
        except Exception as error:  # noqa: BLE001 - one entry's trouble is no other's
            fault = (Verdict.ERROR, f"{INTERNAL}: {type(error).__name__}: {error}")
    results.send(fault)
    results.close()


def _most(limits: Limits) -> str:
    return "memory than there is" if limits.memory is None else f"than {limits.memory / 2**30:.3g} GiB of memory"


def _limit(limits: Limits) -> None:
    """An allocation beyond the limit fails; an orphan that hangs ends."""
    import resource

    if limits.memory is not None and _MEMORY.exists():
        mapped = int(_MEMORY.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + limits.memory, resource.RLIM_INFINITY))
    seconds = int(limits.seconds) + 5
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
