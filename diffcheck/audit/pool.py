"""Entries in processes: one that crashes, hangs or takes too much memory costs that entry only.

A process is forked for each entry from this one, where PyTorch, SymPy and the database stand in memory already. Where
that is not safe, or a driver of a device does not outlive a fork, processes begin with nothing, and each does one entry
after the other for as long as none has gone wrong. Results are sent back one by one, as soon as they are there.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, Literal

from diffcheck import processes
from diffcheck.report.summary import INTERNAL
from diffcheck.verdict import Result, Verdict

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
    process: Any
    pipe: Connection
    position: int = -1
    deadline: float = 0.0
    got: list[Result] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one item."""

    position: int
    results: tuple[Result, ...]
    """Those that were finished."""
    fault: Fault | None = None
    """Why there are no more."""


@dataclass(frozen=True, slots=True)
class Processes:
    """How processes are started, and what they do before their first item."""

    method: Literal["fork", "spawn"] = "fork"
    """With `spawn` the work is sent to them."""
    prepare: Callable[[], object] | None = None

    @property
    def serve_on(self) -> bool:
        """Whether a process goes on with another item: what it begins with was not to be had for nothing."""
        return self.method == "spawn"


def each(
    positions: Sequence[int], work: Work, limits: Limits, jobs: int, started: Processes | None = None
) -> Iterator[Done]:
    """Does the work for every position, so many at once, each in a process; gives them as they finish."""
    started = started or Processes()
    waiting = list(reversed(positions))
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_given(_start(work, limits, started), waiting.pop(), limits, _startup(started)))
            left = min(one.deadline for one in running) - time.monotonic()
            ready = wait([one.pipe for one in running], max(left, 0.0))
            for one in list(running):
                done = _progress(one, limits, is_ready=one.pipe in ready)
                if done is None:
                    continue
                if started.serve_on and waiting and _is_well(done):
                    _given(one, waiting.pop(), limits, 0.0)
                else:
                    running.remove(one)
                    _end(one)
                yield done
    finally:
        for one in running:
            _end(one)


def _startup(started: Processes) -> float:
    return 0.0 if started.prepare is None else _STARTUP


def _is_well(done: Done) -> bool:
    """Whether a process may be given another item: an error on a device fails whatever comes after it."""
    return done.fault is None and not any(result.verdict is Verdict.ERROR for result in done.results)


def _start(work: Work, limits: Limits, started: Processes) -> _Running:
    context: Any = multiprocessing.get_context(started.method)
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(work, limits, started, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Running(process, ours)


def _given(one: _Running, position: int, limits: Limits, more: float) -> _Running:
    """Gives a process its next item, and the time for it."""
    one.position, one.deadline, one.got = position, time.monotonic() + limits.seconds + more, []
    with contextlib.suppress(OSError):  # it died at once: so says the end of its results
        one.pipe.send(position)
    return one


def _progress(one: _Running, limits: Limits, *, is_ready: bool) -> Done | None:
    """Takes what a process has sent; says if that was all, or if it is at an end."""
    if is_ready:
        try:
            sent = one.pipe.recv()
        except (EOFError, OSError):
            _stop(one)
            return Done(one.position, tuple(one.got), (Verdict.ERROR, _how_it_died(one.process.exitcode)))
        if not isinstance(sent, Result):
            return Done(one.position, tuple(one.got), sent)
        one.got.append(sent)
    if time.monotonic() > one.deadline:
        _stop(one)
        why = f"its process was ended after {limits.seconds:g} seconds: it hung in a kernel, or is far too slow"
        return Done(one.position, tuple(one.got), (Verdict.UNDECIDED, why))
    return None


def _stop(one: _Running) -> None:
    one.process.join(0.2)
    if one.process.is_alive():
        one.process.kill()
    one.process.join()


def _end(one: _Running) -> None:
    one.pipe.close()  # which ends one that waits for another item
    _stop(one)


def _how_it_died(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its process died of {signal.Signals(-code).name}: it crashed in a kernel, or was killed"
    return f"its process ended with exit code {code}"


def _child(work: Work, limits: Limits, started: Processes, pipe: Connection) -> None:
    processes.ignore_interrupts()
    # What operators print belongs to no report.
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        if started.prepare is not None:
            started.prepare()
        if limits.memory is not None:
            processes.limit_memory(limits.memory)
        with contextlib.suppress(EOFError, OSError):
            while True:
                position = pipe.recv()
                processes.limit_processor(int(limits.seconds) + 5)
                pipe.send(_done(position, work, limits, pipe))
                if not started.serve_on:
                    break
    pipe.close()


def _done(position: int, work: Work, limits: Limits, pipe: Connection) -> Fault | None:
    """Sends an item's results one by one; gives what is wrong with those that are missing."""
    try:
        for result in work(position):
            pipe.send(result)
    except MemoryError:
        return Verdict.UNDECIDED, f"it needs more {_most(limits)}"
    except Exception as error:  # noqa: BLE001 - one entry's trouble is no other's
        return Verdict.ERROR, f"{INTERNAL}: {type(error).__name__}: {error}"
    return None


def _most(limits: Limits) -> str:
    return "memory than there is" if limits.memory is None else f"than {limits.memory / 2**30:.3g} GiB of memory"
