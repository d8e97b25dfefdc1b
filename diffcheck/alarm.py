"""The one alarm that a process has: what runs too long is interrupted, where the system can."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def alarm(seconds: float, error: Callable[[], BaseException]) -> Iterator[None]:
    """Raises an error inside of what takes longer, loops without an operation of PyTorch's included.

    Signals reach the main thread only, and Windows has no alarm: there nothing is interrupted. Inside another alarm the
    outer one counts.
    """
    usable = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    if not usable or signal.getitimer(signal.ITIMER_REAL)[0] > 0:
        yield
        return

    def ring(*_: Any) -> None:
        raise error()

    before = signal.signal(signal.SIGALRM, ring)
    # Again each second: a bare `except` may swallow the first, and Python ignores what is raised in a finaliser.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
