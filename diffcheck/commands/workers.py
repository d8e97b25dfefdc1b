"""Several cases at once, each in a process of its own: forked from this one where that is safe, else started anew.

A forked process has PyTorch, SymPy and the cases in memory; one that is started anew imports them, and loads the files
again by their paths, since functions can't be sent. A case that takes its process down with it, or hangs in it where no
alarm is heard, costs that case only.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from diffcheck import processes
from diffcheck.alarm import WAITED
from diffcheck.commands.run import error_result, results_of
from diffcheck.declare.load import Broken, Loaded, cases_of, load
from diffcheck.modes import CPU
from diffcheck.verdict import Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from diffcheck.settings import Settings

Item: TypeAlias = Loaded | Broken

_MOST: Final = 4
"""Processes at most, if nobody asks for more: each holds half a gigabyte, most of it shared where it is forked."""
_WORTH: Final = {"fork": 3, "spawn": 30}
"""Cases for each process, at least, if nobody asks for more: to import PyTorch takes as long as to check some."""
_SHARE: Final = 0.8
"""Of the memory that is free when a run begins, what all of its processes may take together."""
_GRACE: Final = 60.0
"""Seconds for what stands around a case: imports, and its diagnosis."""
_LOOK: Final = 0.5
"""Seconds between two looks at the clock."""


def default_jobs(items: int) -> int:
    """As many processes as there are processors, if there is work for them."""
    return max(1, min(processes.processors(), _MOST, items // _WORTH[processes.start_method()]))


@contextlib.contextmanager
def workers(items: Sequence[Item], settings: Settings, jobs: int) -> Generator[Callable[[int], Iterator[Result]]]:
    """Begins to check all items in so many processes; gives a function from an item's position to its results.

    To be entered before anything starts a thread: the processes are forked here.
    """
    _prepare()
    with _limited_memory(jobs, settings.device):
        if jobs == 1:
            yield lambda position: results_of(items[position], settings)
        else:
            yield from _at_once(items, settings, jobs)


def _at_once(items: Sequence[Item], settings: Settings, jobs: int) -> Iterator[Callable[[int], Iterator[Result]]]:
    pool = _Pool(items, settings, jobs)
    # What takes longest begins first, so that no process is left alone with it at the end.
    order = sorted(range(len(items)), key=lambda i: -_cost(items[i]))
    futures = {position: pool.begin(position) for position in order if isinstance(items[position], Loaded)}

    def finished(position: int) -> Iterator[Result]:
        item = items[position]
        return iter(_finished(pool, position)) if position in futures else results_of(item, settings)

    pool.futures.update(futures)
    try:
        yield finished
    finally:
        pool.end()


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
    free = processes.free_memory() if device == CPU else None
    before = None if free is None else processes.limit_memory(int(free * _SHARE / jobs))
    try:
        yield
    finally:
        processes.unlimit_memory(before)


def _cost(item: Item) -> int:
    return int(getattr(item.case, "cost", 1)) if isinstance(item, Loaded) else 0


# ---------------------------------------------------------------------------------------------------------------------
# In a process of its own
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Begun:
    """What a process says of itself, by an item's position: shared with the one that started it."""

    times: Any
    """When it began with the item, by the clock that all processes have; 0 before."""
    pids: Any
    worked: Any
    """The processor time that it had used then."""


@dataclass(frozen=True, slots=True)
class _Named:
    """A case by what can be sent."""

    id: str
    file: Path
    name: str

    def loaded(self) -> Item:
        """The case, its file loaded again."""
        found = _cases(self.file)
        if isinstance(found, Broken):
            return found
        return found.get(self.name) or Broken(
            self.id, self.file, f"{self.file} has no {self.name} when it is loaded again"
        )


@functools.cache
def _cases(file: Path) -> dict[str, Loaded] | Broken:
    module = load(file)
    return module if isinstance(module, Broken) else {loaded.name: loaded for loaded in cases_of(module, file)}


_work: tuple[Sequence[Item | _Named | None], Settings, _Begun] | None = None
"""What a process has to do."""


def _enter(items: Sequence[Item | _Named | None], settings: Settings, begun: _Begun) -> None:
    """Begins a process."""
    global _work  # noqa: PLW0603 - what an executor calls has no other place for it
    processes.ignore_interrupts()
    _work = (items, settings, begun)


def _enter_anew(items: Sequence[_Named | None], settings: Settings, begun: _Begun) -> None:
    sys.stdout = sys.stderr  # what cases print belongs to no report
    _prepare()
    _enter(items, settings, begun)


def _check(position: int) -> list[Result]:
    assert _work is not None
    items, settings, begun = _work
    begun.pids[position] = os.getpid()
    begun.times[position] = time.monotonic()
    begun.worked[position] = time.process_time()
    item = items[position]
    assert item is not None
    return list(results_of(item.loaded() if isinstance(item, _Named) else item, settings))


# ---------------------------------------------------------------------------------------------------------------------
# In the process that starts them
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Pool:
    """Processes, and what they are at."""

    items: Sequence[Item]
    settings: Settings
    jobs: int
    futures: dict[int, Future[list[Result]]] = field(default_factory=dict)
    overdue: set[int] = field(default_factory=set)
    """Items whose process was ended."""
    _executor: ProcessPoolExecutor = field(init=False)
    _begun: _Begun = field(init=False)

    def __post_init__(self) -> None:
        method = processes.start_method()
        context = multiprocessing.get_context(method)
        count = len(self.items)
        self._begun = _Begun(*(context.Array(kind, count, lock=False) for kind in "dqd"))
        if method == "fork":
            self._executor = ProcessPoolExecutor(
                self.jobs, context, initializer=_enter, initargs=(self.items, self.settings, self._begun)
            )
            return
        named = [_Named(i.id, i.file, i.name) if isinstance(i, Loaded) else None for i in self.items]
        self._executor = ProcessPoolExecutor(
            self.jobs, context, initializer=_enter_anew, initargs=(named, self.settings, self._begun)
        )

    @property
    def seconds(self) -> float:
        """What a process may take for an item, the steps that are no operation of PyTorch's included."""
        return _GRACE + 2 * self.settings.seconds

    def begin(self, position: int) -> Future[list[Result]]:
        """Has an item checked."""
        return self._executor.submit(_check, position)

    def end_overdue(self) -> None:
        """Ends the processes that are at an item for too long; the executor then takes down the others."""
        for position, started in enumerate(self._begun.times):
            future = self.futures.get(position)
            if started and future is not None and not future.done() and self._is_overdue(position):
                self.overdue.add(position)
                with contextlib.suppress(OSError):  # it has just ended
                    os.kill(self._begun.pids[position], getattr(signal, "SIGKILL", signal.SIGTERM))

    def _is_overdue(self, position: int) -> bool:
        """By the work of its process, so that a busy machine ends none; one that waits has longer."""
        passed: float = time.monotonic() - self._begun.times[position]
        used = processes.worked(self._begun.pids[position])
        worked: float = passed if used is None else used - self._begun.worked[position]
        return worked > self.seconds or passed > WAITED * self.seconds

    def end(self) -> None:
        """Ends the processes, at once if they are not done."""
        if not all(future.done() for future in self.futures.values()):
            for process in multiprocessing.active_children():
                process.terminate()
        self._executor.shutdown(cancel_futures=True)


def _finished(pool: _Pool, position: int) -> list[Result]:
    """An item's results, whatever becomes of its process."""
    try:
        return _awaited(pool, position)
    except BrokenProcessPool:
        pass  # this item's process died, or another one's, which ends the whole pool
    if position not in pool.overdue:
        alone = _Pool(pool.items, pool.settings, 1)
        alone.futures[position] = alone.begin(position)
        try:
            return _awaited(alone, position)
        except BrokenProcessPool:
            pass
        finally:
            alone.end()
        pool.overdue |= alone.overdue
    case_id = pool.items[position].id
    if position in pool.overdue:
        why = f"its process was ended after {pool.seconds:g} seconds: it hung in a kernel, or is far too slow"
        return [Result(id=case_id, mode="", dtype="", verdict=Verdict.UNDECIDED, reason=why)]
    return [error_result(case_id, "its process died: killed, out of memory, or crashed in a kernel")]


def _awaited(pool: _Pool, position: int) -> list[Result]:
    while True:
        try:
            return pool.futures[position].result(timeout=_LOOK)
        except NotYet:
            pool.end_overdue()
