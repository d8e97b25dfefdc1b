"""What a system has for processes and their limits, said once: the rest of the code asks here and works without."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, Literal

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_PROC: Final = Path("/proc")


def start_method() -> Literal["fork", "spawn"]:
    """How a process is started: forked where that is safe, since what is imported need not be imported again.

    Apple's frameworks, PyTorch's linear algebra among them, do not outlive a fork.
    """
    return "fork" if hasattr(os, "fork") and sys.platform != "darwin" else "spawn"


def typed(*words: str) -> str:
    """Words as one types them into this system's shell."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def processors() -> int:
    """How many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def ignore_interrupts() -> None:
    """Ctrl-C reaches every process of the terminal: the one that started this decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def free_memory() -> int | None:
    """What the machine has left, in bytes; None where the system does not say."""
    try:
        lines = (_PROC / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line), None)


def worked(process: int) -> float | None:
    """Seconds of processor time that a process has used; None where the system does not say."""
    try:
        fields = (_PROC / str(process) / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime, proc(5)


def limit_memory(more: int) -> tuple[int, int] | None:
    """Lets an allocation of so many bytes beyond what this process has fail, before the system kills somebody.

    Gives the limits that were in force, for `unlimit_memory`; None where the system has no such limit, or does not say
    what this process has.
    """
    if resource is None:
        return None
    try:
        pages = int((_PROC / "self" / "statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return None
    before = soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + more
    if soft == resource.RLIM_INFINITY or wanted < soft:
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    return before


def unlimit_memory(before: tuple[int, int] | None) -> None:
    """Puts the limits back."""
    if before is not None:
        resource.setrlimit(resource.RLIMIT_AS, before)


def limit_processor(seconds: int) -> None:
    """Ends this process after so many more seconds of processor time, where the system can: an orphan that hangs."""
    if resource is None:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + 1 + seconds
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (most, hard))
