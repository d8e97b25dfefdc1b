"""Interrupts what runs too long, on every system and beside the alarms of others.

Seconds are of processor time, of the thread that works: a busy machine changes no verdict. What waits for something
else uses none, and ends after ten times as many of the clock.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

_AGAIN: Final = 1.0
"""Seconds until it rings again: a bare `except` may swallow the first, and Python ignores what a finaliser raises."""
_SHORTEST: Final = 0.01
WAITED: Final = 10.0
"""So many times as long may something last that does nothing."""
_inside = threading.local()
"""Whether an alarm is set in this thread already."""


def processor_time() -> float:
    """Seconds that this thread has worked: what deadlines are told by."""
    return time.thread_time()


@contextlib.contextmanager
def alarm(seconds: float, error: Callable[[], BaseException]) -> Iterator[None]:
    """Raises an error inside of what takes longer, loops without an operation of PyTorch's included.

    By the system's timer, which also ends a wait, in the main thread where there is one that nobody else has set; else
    by a second thread, which a loop in Python notices. What hangs outside of Python ends with its process only, which
    whoever started it sees to (`workers`, `audit.pool`). Inside another alarm of ours the outer one counts.
    """
    if getattr(_inside, "alarm", False):
        yield
        return
    _inside.alarm = True
    try:
        with _timer(seconds, error) if _timer_is_free() else _watchdog(seconds, error):
            yield
    finally:
        _inside.alarm = False


def _timer_is_free() -> bool:
    return (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getitimer(signal.ITIMER_REAL)[0] == 0
    )


@contextlib.contextmanager
def _timer(seconds: float, error: Callable[[], BaseException]) -> Iterator[None]:
    raised: list[BaseException] = []
    left = _Left(seconds, time.thread_time)
    over = threading.Event()

    def ring(*_: Any) -> None:
        if over.is_set():
            return  # it was on its way while it was switched off
        if not raised and (more := left()) > 0:
            signal.setitimer(signal.ITIMER_REAL, more, _AGAIN)
            return
        raised.append(error())
        raise raised[-1]

    before = signal.signal(signal.SIGALRM, ring)
    with _quiet(lambda ignored: any(ignored is one for one in raised)):
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
        try:
            yield
        finally:
            try:
                over.set()
            finally:  # it may ring in between, and must be switched off all the same
                over.set()
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _watchdog(seconds: float, error: Callable[[], BaseException]) -> Iterator[None]:
    """By `PyThreadState_SetAsyncExc`, which takes a class: one of this alarm's own, which becomes the error outside."""

    class Ring(BaseException):
        """The time is up; not an `Exception`, so that who catches those can't swallow it."""

    thread = threading.get_ident()
    left = _Left(seconds, _clock_of(thread))
    over = threading.Event()
    ringing = threading.Lock()

    def watch() -> None:
        wait = seconds
        while not over.wait(wait):
            wait = left()
            if wait <= 0:
                with ringing:
                    if not over.is_set():
                        _raise_in(thread, Ring)
                wait = _AGAIN

    def stop() -> None:
        with ringing:
            over.set()
        _raise_in(thread, None)  # what it has not noticed yet

    try:
        with _quiet(lambda ignored: isinstance(ignored, Ring)):
            try:
                threading.Thread(target=watch, name="diffcheck-alarm", daemon=True).start()
                yield
            finally:
                stop()
    except Ring:
        raise error() from None
    finally:
        stop()  # again: it may have rung while it was stopped


class _Left:
    """How long until an alarm should ring: the work that is left, or the rest of what may be waited."""

    def __init__(self, seconds: float, worked: Callable[[], float]) -> None:
        self._worked, self._until = worked, worked() + seconds
        self._end = time.monotonic() + WAITED * seconds

    def __call__(self) -> float:
        left = min(self._until - self._worked(), self._end - time.monotonic())
        return max(left, _SHORTEST) if left > 0 else 0.0


def _clock_of(thread: int) -> Callable[[], float]:
    """The processor time of a thread, told from another one; the wall clock where the system does not say."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic
    clock = time.pthread_getcpuclockid(thread)
    return lambda: time.clock_gettime(clock)


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    raising = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raising)


@contextlib.contextmanager
def _quiet(ours: Callable[[BaseException | None], bool]) -> Iterator[None]:
    """Says nothing of an alarm that rang in a finaliser, where Python ignores and reports it: it rings again."""
    before = sys.unraisablehook

    def hook(ignored: sys.UnraisableHookArgs) -> None:
        if not ours(ignored.exc_value):
            before(ignored)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
