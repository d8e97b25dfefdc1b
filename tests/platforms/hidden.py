"""Hides from Python what some systems lack: in a process, and in all that it starts, by their `sitecustomize`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORDS = ("fork", "setitimer", "resource", "proc", "longdouble")


def hide(words: Sequence[str]) -> None:
    """Takes them away from this process."""
    for word in words:
        {"fork": _fork, "setitimer": _setitimer, "resource": _resource, "proc": _proc, "longdouble": _longdouble}[
            word
        ]()


def _fork() -> None:
    del os.fork
    del os.sched_getaffinity
    if hasattr(os, "forkpty"):
        del os.forkpty


def _setitimer() -> None:
    for name in (
        "setitimer",
        "getitimer",
        "SIGALRM",
        "alarm",
        "ITIMER_REAL",
        "ITIMER_VIRTUAL",
        "ITIMER_PROF",
    ):
        delattr(signal, name)


def _resource() -> None:
    sys.modules["resource"] = None


def _proc() -> None:
    """Files of `/proc` can't be opened by their paths."""
    plain = Path.open

    def refused(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.parts[:2] == ("/", "proc"):
            raise FileNotFoundError(2, "No such file or directory", str(self))
        return plain(self, *arguments, **options)

    Path.open = refused  # type: ignore[method-assign]


def _longdouble() -> None:
    """As on ARM, Apple's machines and Windows: it is a float64."""
    import numpy as np

    np.longdouble = np.float64  # type: ignore[assignment]
    np.clongdouble = np.complex128  # type: ignore[assignment]
    for name in ("float128", "float96", "complex256"):
        if hasattr(np, name):
            delattr(np, name)


def environment(folder: Path, words: Sequence[str]) -> dict[str, str]:
    """The environment of a process that lacks these from its first step on, and of its children."""
    (folder / "sitecustomize.py").write_text(f"import hidden\n\nhidden.hide({list(words)!r})\n", encoding="utf-8")
    path = os.pathsep.join([str(folder), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}
