"""The line of the user's code at which the difference enters, where it can be told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr
from diffcheck.compare.evaluate import sources_of
from diffcheck.errors import DiffcheckError
from diffcheck.explain.diagnosis import numeric
from diffcheck.explain.diagnosis.subject import Subject
from diffcheck.modes import TEXTBOOK
from diffcheck.trace.frames import Source
from diffcheck.verdict import Diagnosis, Mistake

_ARITHMETIC = (
    Mistake.NOT_TAKEN, Mistake.MASKED, Mistake.ROOT, Mistake.ZERO, Mistake.OVERFLOW, Mistake.UNDERFLOW,
)  # fmt: skip


def line_of(subject: Subject, diagnosis: Diagnosis | None) -> str:
    """Where the executed formula parts from the reference: `cases/cube.py:12 in backward`; empty if that isn't known.

    What a backward pass computes and the reference does not contain is the user's own. If that is one line, or the
    lines of one function, the difference enters there.
    """
    if subject.mode == TEXTBOOK:
        return ""
    try:
        sources = sources_of(subject.case, subject.mode, subject.evaluation)
    except DiffcheckError:
        return ""
    here, position = subject.here, subject.position
    if diagnosis is not None and diagnosis.name in _ARITHMETIC:
        culprit = numeric.culprit(here, position, subject.dtype)
        return _shown([sources[culprit]]) if culprit in sources else ""
    executed = graph.postorder([here.trace.executed[position]])
    right = {*graph.postorder([here.trace.reference[position], *here.trace.outputs])}
    own = [node for node in executed if node not in right]
    return _shown(_of_backward(own or executed, sources))


def _of_backward(nodes: list[Expr], sources: Mapping[Expr, Source]) -> list[Source]:
    """Where nodes were computed, if that was in a backward pass."""
    return [sources[node] for node in nodes if node in sources and sources[node].phase == "backward"]


def _shown(sources: list[Source]) -> str:
    """One line, or the lines of one function."""
    if not sources or len({(s.file, s.function) for s in sources}) != 1:
        return ""
    lines = sorted({s.line for s in sources})
    first = sources[0]
    path = Path(first.file)
    file = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    span = f"{lines[0]}" if len(lines) == 1 else f"{lines[0]}-{lines[-1]}"
    return f"{file}:{span}" + ("" if first.function == "<lambda>" else f" in {first.function}")
