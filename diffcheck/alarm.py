"""Interrupts what runs too long, on every system and beside the alarms of others.

Seconds are of processor time, of the thread that works: a busy machine changes no verdict. What waits for something
else uses none, and ends after ten times as many of the clock.
"""

from __future__ import annotations

import ctypes
import inspect
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
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


class alarm:  # noqa: N801 - it is called as a function is
    """Raises an error inside of what takes longer, loops without an operation of PyTorch's included.

    By the system's timer, which also ends a wait, in the main thread where there is one that nobody else has set; else
    by a second thread, which a loop in Python notices. What hangs outside of Python ends with its process only, which
    whoever started it sees to (`workers`, `audit.pool`). Inside another alarm of ours the outer one counts.

    Work that ends by itself in the same instant (a deadline of the same length does) is not interrupted on its way
    out: an error raised in `__exit__` before its first line would leave the timer set, to ring in whatever comes next.
    """

    def __init__(self, seconds: float, error: Callable[[], BaseException]) -> None:
        self._seconds, self._error = seconds, error
        self._bell: _Timer | _Watchdog | None = None

    def __enter__(self) -> None:
        if not getattr(_inside, "alarm", False):
            self._bell = (_Timer if _timer_is_free() else _Watchdog)(self._seconds, self._error)
            _inside.alarm = True
            self._bell.start()

    def __exit__(self, *_: object) -> None:
        if self._bell is not None:
            self._bell.stop()
            _inside.alarm = False


def _between(frame: FrameType | None) -> bool:
    """Whether an alarm is being set or switched off in these frames, and not the work done that it watches."""
    while frame is not None:
        if frame.f_code in (alarm.__enter__.__code__, alarm.__exit__.__code__):
            return True
        frame = frame.f_back
    return False


def _timer_is_free() -> bool:
    return (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getitimer(signal.ITIMER_REAL)[0] == 0
    )


class _Timer:
    """By the system's timer. Python runs the handler between two steps of the main thread, and says between which."""

    def __init__(self, seconds: float, error: Callable[[], BaseException]) -> None:
        self._seconds, self._error = seconds, error
        self._left = _Left(seconds, time.thread_time)
        self._raised: list[BaseException] = []
        self._quiet = _Quiet(self._raised)

    def start(self) -> None:
        self._before = signal.signal(signal.SIGALRM, self._ring)
        self._quiet.start()
        signal.setitimer(signal.ITIMER_REAL, self._seconds, _AGAIN)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._quiet.stop()
        signal.signal(signal.SIGALRM, self._before)

    def _ring(self, _: int, frame: FrameType | None) -> None:
        if _between(frame):
            return
        if not self._raised and (more := self._left()) > 0:
            signal.setitimer(signal.ITIMER_REAL, more, _AGAIN)
            return
        self._raised.append(self._error())
        raise self._raised[-1]


class _Watchdog:
    """By a thread and `PyThreadState_SetAsyncExc`, which takes a class: one whose instance is the error itself."""

    def __init__(self, seconds: float, error: Callable[[], BaseException]) -> None:
        self._seconds = seconds
        self._thread = threading.get_ident()
        self._left = _Left(seconds, _clock_of(self._thread))
        self._over = threading.Event()
        self._ringing = threading.Lock()
        raised: list[BaseException] = []
        self._quiet = _Quiet(raised)

        class Ring(BaseException):
            def __new__(cls) -> Any:
                """Python asks for it where it is about to raise: if that is on the way out, nobody else stops this."""
                raised.append(error())
                if _between(inspect.currentframe()):
                    self._end()
                return raised[-1]

        self._ring = Ring

    def start(self) -> None:
        self._quiet.start()
        threading.Thread(target=self._watch, name="diffcheck-alarm", daemon=True).start()

    def stop(self) -> None:
        """Takes here what was set and not noticed yet: cleared by `None`, it leaves Python 3.11 looking for it.

        Every later step would then ask for what is pending, and under `sys.settrace` (a debugger, coverage) for ever.
        """
        try:
            with self._ringing:
                self._over.set()
            for _ in range(2):  # on its way back a loop raises what is pending
                pass
        except BaseException as error:
            if not self._quiet.is_ours(error):
                raise
        finally:
            self._end()

    def _end(self) -> None:
        self._over.set()
        self._quiet.stop()
        _inside.alarm = False

    def _watch(self) -> None:
        wait = self._seconds
        while not self._over.wait(wait):
            wait = self._left()
            if wait <= 0:
                with self._ringing:
                    if not self._over.is_set():
                        _raise_in(self._thread, self._ring)
                wait = _AGAIN


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


def _raise_in(thread: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


class _Quiet:
    """Says nothing of an alarm that rang in a finaliser, where Python ignores and reports it: it rings again."""

    def __init__(self, raised: Sequence[BaseException]) -> None:
        self._raised = raised

    def is_ours(self, error: BaseException | None) -> bool:
        """Whether it is what the alarm raised."""
        return any(error is one for one in self._raised)

    def start(self) -> None:
        self._before = sys.unraisablehook
        sys.unraisablehook = self._hook

    def stop(self) -> None:
        if sys.unraisablehook == self._hook:
            sys.unraisablehook = self._before

    def _hook(self, ignored: sys.UnraisableHookArgs) -> None:
        if not self.is_ours(ignored.exc_value):
            self._before(ignored)
