"""The audit beside gradcheck: the same samples of the same operators, each in a process of its own, on one core.

Run as `python tests/benchmarks/audit.py [--ops PATTERN] [--kept FILE] [--output docs/benchmarks.md]`, which puts the
section at the end of that page. With `--kept`, what was measured is kept, and a later call goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch.autograd import gradcheck

from diffcheck.audit.database import Entry, entries, samples
from diffcheck.audit.judge import Plan, judge
from diffcheck.audit.run import warm_up
from diffcheck.audit.sampled import sampled
from diffcheck.errors import DiffcheckError
from diffcheck.verdict import Verdict

HEADING = "## The audit beside gradcheck"
PLAN = Plan(modes=("reverse",), samples=5)
WHO = ("diffcheck", "gradcheck")
LIMIT = 600.0
"""Seconds after which a process is ended."""


@dataclass(frozen=True)
class Spent:
    """What one process took for an entry, beyond what it was forked with."""

    seconds: float
    """Of the processor."""
    mebibytes: float
    finished: bool
    judged: bool
    """Whether anything was said of the entry: it is not unsupported."""


def main() -> None:
    """Measures what is not yet known; prints the section, or writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ops", action="append", default=[])
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    chosen = entries(options.ops)
    warm_up()
    known = _read(options.kept)
    for entry in chosen:
        if entry.name not in known:
            ours = _spent(partial(_ours, entry))
            theirs = _spent(partial(_theirs, entry)) if ours.judged else Spent(0.0, 0.0, finished=True, judged=True)
            known[entry.name] = {"ours": ours, "theirs": theirs}
            if options.kept is not None:
                with options.kept.open("a") as file:
                    file.write(json.dumps([entry.name, {k: asdict(v) for k, v in known[entry.name].items()}]) + "\n")
    text = "\n".join(_section([(e.name, known[e.name]) for e in chosen])) + "\n"
    if options.output is None:
        print(text)
    else:
        before = options.output.read_text().partition(HEADING)[0]
        options.output.write_text(before.rstrip() + "\n\n" + text)


def _read(file: Path | None) -> dict[str, dict[str, Spent]]:
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    return {name: {k: Spent(**v) for k, v in found.items()} for name, found in map(json.loads, lines)}


def _ours(entry: Entry) -> bool:
    return all(result.verdict is not Verdict.UNSUPPORTED for result in judge(entry, PLAN))


def _theirs(entry: Entry) -> bool:
    for sample in samples(entry, torch.float64, PLAN.samples):
        try:
            item = sampled(entry, sample)
        except DiffcheckError:  # sparse tensors and the like: gradcheck is not asked either
            continue
        inputs = tuple(value.clone().requires_grad_() for value in item.values.values())
        with contextlib.suppress(Exception):  # for a wrong gradient, and for what it does not support
            gradcheck(item.case.function, inputs)
    return True


def _spent(work: Callable[[], bool]) -> Spent:
    """In a process of its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()
    spent = Spent(LIMIT, 0.0, finished=False, judged=True)
    if ours.poll(LIMIT):
        with contextlib.suppress(EOFError):
            spent = ours.recv()
    process.kill()
    process.join()
    return spent


def _child(work: Callable[[], bool], results: multiprocessing.connection.Connection) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    before = _peak()
    started = time.process_time()
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        judged = work()
    results.send(Spent(time.process_time() - started, _peak() - before, finished=True, judged=judged))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _section(measured: Sequence[tuple[str, dict[str, Spent]]]) -> Iterator[str]:
    rows = [(name, m["ours"], m["theirs"]) for name, m in measured]
    both = [row for row in rows if row[1].judged and row[1].finished and row[2].finished]
    ours, theirs = sum(o.seconds for _, o, _ in both), sum(t.seconds for *_, t in both)
    slower = sorted(both, key=lambda row: row[2].seconds - row[1].seconds)[:8]
    yield HEADING
    yield ""
    yield "Written by `python tests/benchmarks/audit.py --output docs/benchmarks.md`: every entry of `diffcheck audit`"
    yield f"in reverse mode and float64, up to {PLAN.samples} samples, traced, judged and proved, beside"
    yield "`torch.autograd.gradcheck` with its defaults on the same samples; seconds of processor time, and memory"
    yield "beyond what the process began with."
    yield ""
    yield "| | diffcheck | gradcheck | ratio |"
    yield "|---|---|---|---|"
    yield f"| all {len(both)} entries, seconds | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} |"
    for title, of in (("median entry", statistics.median), ("largest entry", max)):
        seconds = of([o.seconds for _, o, _ in both]), of([t.seconds for *_, t in both])
        memory = of([o.mebibytes for _, o, _ in both]), of([t.mebibytes for *_, t in both])
        yield f"| {title}, seconds | {seconds[0]:.2f} | {seconds[1]:.2f} | {seconds[0] / seconds[1]:.2f} |"
        yield f"| {title}, MiB | {memory[0]:.0f} | {memory[1]:.0f} | |"
    yield ""
    yield "At most 0.5 is asked. What takes most beyond gradcheck:"
    yield ", ".join(f"`{name}` ({o.seconds:.1f} s against {t.seconds:.1f})" for name, o, t in slower) + "."
    unsupported = [f"`{name}`" for name, o, _ in rows if not o.judged]
    if unsupported:
        yield f"Unsupported by diffcheck, and not counted: {', '.join(unsupported)}."
    unfinished = [
        f"`{name}` ({who})"
        for name, *spents in rows
        for who, spent in zip(WHO, spents, strict=True)
        if not spent.finished
    ]
    if unfinished:
        yield f"Ended after {LIMIT:g} seconds, or for want of memory, and not counted: {', '.join(unfinished)}."


if __name__ == "__main__":
    main()
