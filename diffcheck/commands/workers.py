"""Several cases at once, each in a process forked from this one: PyTorch and SymPy are imported once.

A case that takes the process down with it costs that case only.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

from diffcheck.commands.run import error_result, results_of
from diffcheck.declare.load import Broken, Loaded
from diffcheck.modes import CPU

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from diffcheck.settings import Settings
    from diffcheck.verdict import Result

_MOST = 4
"""Processes at most, if nobody asks for more: each holds half a gigabyte, most of it shared."""

_MEMORY = Path("/proc/meminfo")
_SHARE = 0.8
"""Of the memory that is free when a run begins, what all of its processes may take together."""

_work: tuple[Sequence[Loaded | Broken], Settings] | None = None
"""What the forked processes find in their memory: functions can't be sent to them."""


def default_jobs(items: int) -> int:
    """As many processes as there are processors, if there is work for them."""
    if not hasattr(os, "fork"):
        return 1
    affinity = getattr(os, "sched_getaffinity", None)
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(processors, _MOST, items // 3))


@contextlib.contextmanager
def workers(
    items: Sequence[Loaded | Broken], settings: Settings, jobs: int
) -> Generator[Callable[[int], Iterator[Result]]]:
    """Begins to check all items in so many processes; gives a function from an item's position to its results.

    To be entered before anything starts a thread: the processes are forked here.
    """
    _prepare()
    with _limited_memory(jobs, settings.device):
        if jobs == 1 or not hasattr(os, "fork"):
            yield lambda position: results_of(items[position], settings)
            return
        yield from _forked(items, settings, jobs)


def _forked(
    items: Sequence[Loaded | Broken], settings: Settings, jobs: int
) -> Iterator[Callable[[int], Iterator[Result]]]:
    global _work  # noqa: PLW0603 - the one way to hand functions to a forked process
    _work = (items, settings)
    pool = _pool(jobs)
    # What takes longest begins first, so that no process is left alone with it at the end.
    order = sorted(range(len(items)), key=lambda i: -_cost(items[i]))
    futures = {position: pool.submit(_check, position) for position in order}
    try:
        yield lambda position: iter(_finished(futures[position], items[position], position))
    finally:
        if not all(future.done() for future in futures.values()):
            for process in multiprocessing.active_children():
                process.terminate()
        pool.shutdown(cancel_futures=True)
        _work = None


def _prepare() -> None:
    import torch

    from diffcheck.differentiate import dynamo
    from diffcheck.rules import table

    table()
    dynamo.not_imported()
    # On tensors of a few elements PyTorch's threads only wait for each other.
    torch.set_num_threads(1)
    # What is imported stays: the collector need not look at half a million of PyTorch's and SymPy's objects again.
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


@contextlib.contextmanager
def _limited_memory(jobs: int, device: str) -> Generator[None]:
    """Lets an allocation that the machine can't hold fail, and be reported, before the system kills the process.

    CUDA reserves more addresses than any machine has memory, and does not start within a limit.
    """
    if not _MEMORY.exists() or device != CPU:
        yield
        return
    import resource

    available = next(int(line.split()[1]) * 1024 for line in _MEMORY.read_text().splitlines() if "MemAvailable" in line)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = mapped + int(available * _SHARE / jobs)
    if soft == resource.RLIM_INFINITY or wanted < soft:
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Ctrl-C reaches every process of the terminal; this one decides what it means.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), initializer=signal.signal, initargs=ignore)


def _cost(item: Loaded | Broken) -> int:
    return int(getattr(item.case, "cost", 1)) if isinstance(item, Loaded) else 0


def _check(position: int) -> list[Result]:
    assert _work is not None
    items, settings = _work
    return list(results_of(items[position], settings))


def _finished(future: Future[list[Result]], item: Loaded | Broken, position: int) -> list[Result]:
    try:
        return future.result()
    except BrokenProcessPool:
        pass  # this item's process died, or another one's, which ends the whole pool
    with _pool(1) as alone:
        try:
            return alone.submit(_check, position).result()
        except BrokenProcessPool:
            return [error_result(item.id, "its process died: killed, out of memory, or crashed in a kernel")]
