"""Alarms: of work, not of the clock; on every system, and beside the alarms of others."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable

import pytest

from diffcheck import alarm as module
from diffcheck.alarm import alarm


class TooLongError(Exception):
    """What rings."""


def work(seconds: float) -> int:
    end, turns = time.thread_time() + seconds, 0
    while time.thread_time() < end:
        turns += 1
    return turns


def raised(function: Callable[[], object]) -> bool:
    try:
        function()
    except TooLongError:
        return True
    return False


@pytest.fixture(params=["by the system's timer", "by a thread"])
def _either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by a thread":
        monkeypatch.setattr(module, "_timer_is_free", lambda: False)


@pytest.mark.usefixtures("_either")
def test_a_loop_is_interrupted_and_what_ends_in_time_is_not():
    with pytest.raises(TooLongError), alarm(0.05, TooLongError):
        work(math.inf)
    with alarm(5, TooLongError):
        assert work(0.02) > 0


@pytest.mark.usefixtures("_either")
def test_time_in_which_others_work_does_not_count():
    """Half a second passes by the clock; a hundredth of one is worked."""
    with alarm(0.2, TooLongError):
        time.sleep(0.5)
        work(0.01)


@pytest.mark.usefixtures("_either")
def test_what_only_waits_ends_as_well(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "WAITED", 2.0)
    waited = threading.Event()

    def wait() -> None:
        with alarm(0.1, TooLongError):
            for _ in range(1000):
                waited.wait(0.01)

    assert raised(wait)


def test_the_alarm_of_another_stays_set():
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(TooLongError), alarm(0.05, TooLongError):
            work(math.inf)
        time.sleep(0.5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rung == [1]


def test_what_swallows_the_error_is_rung_again():
    def stubborn() -> None:
        try:
            work(math.inf)
        except TooLongError:
            work(math.inf)

    with pytest.raises(TooLongError), alarm(0.05, TooLongError):
        stubborn()


def test_in_a_thread_of_its_own():
    found: list[bool] = []

    def inside() -> None:
        with alarm(0.05, TooLongError):
            work(math.inf)

    thread = threading.Thread(target=lambda: found.append(raised(inside)))
    thread.start()
    thread.join(20)
    assert found == [True]
