"""What runs too long is interrupted: by the system's timer, or by a thread where there is none to be had."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from diffcheck.alarm import alarm


class OverError(Exception):
    pass


@pytest.fixture(params=["timer", "no timer", "another's timer"])
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The two ways, and the reasons for the second."""
    if request.param == "no timer":
        monkeypatch.delattr(signal, "setitimer")
    if request.param != "another's timer":
        yield
        return
    rung: list[Any] = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 60)
    yield
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    assert left > 30
    assert not rung


def forever() -> None:
    while True:
        pass


def interrupted(body: Any, seconds: float = 0.05) -> float:
    started = time.monotonic()
    with pytest.raises(OverError), alarm(seconds, OverError):
        body()
    return time.monotonic() - started


@pytest.mark.usefixtures("_system")
def test_a_loop_is_interrupted():
    assert interrupted(forever) < 20
    dogs = [thread for thread in threading.enumerate() if thread.name == "diffcheck-alarm"]
    for dog in dogs:
        dog.join(10)
    assert not any(dog.is_alive() for dog in dogs)


@pytest.mark.usefixtures("_system")
def test_what_is_done_in_time_is_not_interrupted():
    for _ in range(20):
        with alarm(0.05, OverError):
            pass
    time.sleep(0.1)
    with pytest.raises(ZeroDivisionError), alarm(60, OverError):
        _ = 1 / 0


@pytest.mark.usefixtures("_system")
def test_the_outer_alarm_counts():
    def inner() -> None:
        with alarm(0.01, ZeroDivisionError):
            forever()

    interrupted(inner)


def test_another_thread_is_interrupted_too():
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(interrupted(forever)))
    thread.start()
    thread.join(60)
    assert found


FINALISER = """
import signal, sys
from diffcheck.alarm import alarm

class Slow:
    def __del__(self):
        while True:
            pass

def swallowing():
    try:
        Slow()
        while True:
            pass
    except:
        pass
    while True:
        pass

if sys.argv[1] == "thread":
    del signal.setitimer
try:
    with alarm(0.05, RuntimeError):
        swallowing()
except RuntimeError:
    print("over")
"""


@pytest.mark.parametrize("way", ["timer", "thread"])
def test_what_python_ignores_is_raised_again_without_a_word(way: str):
    """The first is raised in a finaliser, where Python says `Exception ignored`; the second is swallowed."""
    done = subprocess.run(
        [sys.executable, "-c", FINALISER, way], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("over\n", "")


def test_what_others_do_wrong_in_finalisers_is_still_told(monkeypatch: pytest.MonkeyPatch):
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: told.append(ignored.exc_type))

    class Broken:
        def __del__(self) -> None:
            raise ZeroDivisionError

    with alarm(60, OverError):
        Broken()
    assert told == [ZeroDivisionError]


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.mark.usefixtures("_system")
def test_time_in_which_others_work_does_not_count():
    """Half a second passes by the clock; a hundredth of one is worked."""
    with alarm(0.2, OverError):
        time.sleep(0.5)
        work(0.01)


@pytest.mark.usefixtures("_system")
def test_what_only_waits_ends_as_well(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("diffcheck.alarm.WAITED", 2.0)

    def waits() -> None:
        for _ in range(1000):
            time.sleep(0.01)

    assert 0.15 < interrupted(waits, 0.1) < 8


ON_THE_WAY_OUT = """
import signal, sys, time
from diffcheck.alarm import alarm

if sys.argv[1] == "thread":
    del signal.setitimer
for _ in range(60):
    try:
        with alarm(0.02, RuntimeError):
            end = time.thread_time() + 0.02
            while time.thread_time() < end:
                pass
            raise RuntimeError  # as a deadline does, which is over in the same instant
    except RuntimeError:
        pass
time.sleep(1.5)
work = time.thread_time() + 0.5
while time.thread_time() < work:
    pass
print("nothing rang")
"""


@pytest.mark.parametrize("way", ["timer", "thread"])
def test_what_ends_as_the_alarm_rings_leaves_no_alarm_behind(way: str):
    done = subprocess.run(
        [sys.executable, "-c", ON_THE_WAY_OUT, way], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("nothing rang\n", "")


TRACED = """
import signal, sys, time
from diffcheck.alarm import alarm

def function():
    return 1

del signal.setitimer
for seconds in (60, 0.01):
    with alarm(seconds, RuntimeError):
        time.sleep(0.1)
sys.settrace(lambda *_: None)
print(function())
"""


def test_nothing_stays_pending():
    """A debugger, or Hypothesis where it explains, would wait for it for ever."""
    done = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("1\n", "")
