"""The record of docs/formulas.md: what is said of the Feynman formulas and of FPBench's straight-line cores.

    python tests/formulas/run.py --output docs/formulas.md [-j 2] [--kept FILE]

With `--kept`, what was found before is kept in a file, one line per formula, and a later call goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import mpmath
import torch

from diffcheck.settings import Settings
from diffcheck.verdict import Result, Verdict
from tests.formulas.measure import DOUBTFUL, Loss, at_kink, is_off, result_at, results, sides_of, true_value, worst_loss
from tests.formulas.rows import Formula, formulas

SEED = 1
POINTS = 20
"""Random inputs of each formula at which its gradient is held to mpmath's."""
TOLD = math.log10(DOUBTFUL)
"""So many lost digits are told."""
DIGITS = 15.95
"""What float64 has."""


@dataclass(frozen=True)
class Row:
    """One verdict, and what was found where it is no `proved`."""

    mode: str
    dtype: str
    verdict: str
    inputs: int
    undefined: int
    out_of_range: int
    bounds: float
    reason: str = ""
    at: str = ""
    computed: str = ""
    certified: str = ""
    truth: str = ""


@dataclass(frozen=True)
class Answer:
    """All that was found of one formula."""

    name: str
    rows: tuple[Row, ...]
    loss: Loss | None
    loss_in_bounds: float = 0.0
    """The error of what has lost most digits, in units of the derived bound."""
    alone: str = ""
    """The verdict where nothing but that input is looked at."""


def main() -> None:
    """Judges what is not yet known, and writes the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("-j", type=int, default=1)
    parser.add_argument("--kept", type=Path)
    options = parser.parse_args()
    known = _read(options.kept)
    left = [position for position, formula in enumerate(formulas()) if formula.name not in known]
    with ProcessPoolExecutor(options.j, get_context("fork"), initializer=_start) as pool:
        for answer in pool.map(_answer, left):
            known[answer.name] = answer
            if options.kept is not None:
                with options.kept.open("a") as file:
                    file.write(json.dumps(asdict(answer)) + "\n")
    options.output.write_text("\n".join(_document([known[formula.name] for formula in formulas()])) + "\n")


def _start() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)


def _answer(position: int) -> Answer:
    formula = formulas()[position]
    found = results(formula, examples=Settings().examples, seed=SEED)
    rows = tuple(_row(formula, result) for result in found)
    loss = worst_loss(formula, POINTS)
    if loss is None or loss.digits < TOLD:
        return Answer(formula.name, rows, None)
    there = result_at(formula, loss.point, "reverse", "float64")
    if there.verdict not in (Verdict.PROVED, Verdict.UNDECIDED, Verdict.INACCURATE):
        raise AssertionError(f"{formula.name} is {there.verdict} at {loss.point}")
    return Answer(formula.name, rows, loss, there.max_error_bounds, str(there.verdict))


def _row(formula: Formula, result: Result) -> Row:
    row = Row(
        result.mode,
        result.dtype,
        str(result.verdict),
        result.inputs,
        result.undefined,
        result.out_of_range,
        result.max_error_bounds,
        result.reason,
    )
    finding = result.finding
    if finding is None:
        return row
    truth = None if at_kink(finding) else true_value(formula, finding)
    if truth is not None and not is_off(finding.autograd, truth, result.dtype):
        raise AssertionError(f"{formula.name} is {result.verdict} at {finding.inputs}, and mpmath has {truth}")
    sides = sides_of(formula, finding) if at_kink(finding) else None
    if truth is not None:
        told = mpmath.nstr(truth, 12)
    else:
        told = "not settled" if sides is None else " and ".join(mpmath.nstr(side, 12) for side in sides)
    said = "" if finding.diagnosis is None else f"{finding.diagnosis.name}: {finding.diagnosis.explanation}"
    seeds = [f"{v.name} = {v.entries[0]!r}" for v in (*finding.inputs, *finding.cotangents)]
    return Row(
        *(row.mode, row.dtype, row.verdict, row.inputs, row.undefined, row.out_of_range, row.bounds),
        reason=said or row.reason or "; ".join(finding.notes),
        at=", ".join(seeds),
        computed=repr(finding.autograd),
        certified=f"{finding.certified_float:g} ± {finding.radius:.3g}" if at_kink(finding) else finding.certified,
        truth=told,
    )


def _read(file: Path | None) -> dict[str, Answer]:
    known = {}
    for line in file.read_text().splitlines() if file is not None and file.exists() else []:
        answer = json.loads(line)
        loss = None if answer["loss"] is None else Loss(**answer["loss"])
        rows = tuple(Row(**row) for row in answer["rows"])
        known[answer["name"]] = Answer(answer["name"], rows, loss, answer["loss_in_bounds"], answer["alone"])
    return known


# ---------------------------------------------------------------------------------------------------------------------
# The document
# ---------------------------------------------------------------------------------------------------------------------


_INTRODUCTION = """\
# Formulas of others

The hundred formulas of the AI Feynman database, over the ranges that it states, and the 110 straight-line cores of
FPBench, chosen because they are hard on floating point, over their preconditions; where these say nothing, inputs are
signed and reach from 2⁻²⁰ to 2²⁰. `tests/formulas` reads them (`tests/data`) as PyTorch functions of scalars. Each was
judged in reverse and in forward mode, in float64 and in float32, at the default settings with seed {seed}, by torch
{torch}.

    python tests/formulas/run.py --output docs/formulas.md -j 2

The suite holds the verdicts in float64, with fewer inputs and in one of the two modes, and what is established of the
findings.
"""

_NOT_PROVED = """\
## What is not proved

The formula that autograd executed is proved to be the derivative in all of these too. At the input that is told,

- it is `wrong` where it has no value itself, read in exact arithmetic, and the function has a derivative or is at a
  kink, with one-sided derivatives that are finite: the root of a sum of squares that is 0;
- it is `inaccurate` where it has one and rounding, or the range of the format, leaves nothing of it: an intermediate
  overflows, or becomes a 0 that is divided by, while the value of the function is finite.

Where the value itself is infinite or NaN in the format nothing is asked of the derivative: such inputs are left out.
mpmath has the derivative by differences of the formula itself, at up to 2000 digits; 0 is what is smaller. At a kink it
has the differences on both sides along the variable, or the tangent, that is told; what is certified is the hull of
what all directions give.

| formula | mode | dtype | verdict | why | at | PyTorch | certified | mpmath |
|---|---|---|---|---|---|---|---|---|"""

_LOSSES = """\
## Digits that a formula itself loses

`inaccurate` says that PyTorch loses digits which the derivative of the formula, evaluated as it stands, keeps. What the
formula itself loses, by subtracting what is nearly equal, is within the derived bound and no mistake in
differentiation: such a gradient is `proved` where others of its numbers were compared, and may have no digit that is
right. PyTorch's float64 gradient was held to mpmath's at {points} random inputs of each formula. More than {told:.0f}
of sixteen digits were lost in these. `bounds` is the largest error at this input in units of the derived bound, and
`alone` the verdict where no other input is looked at: `undecided` where the bound of some derivative is wider than it
is (and than rounding of what is as large as its neighbours), so that nothing was compared of it; `inaccurate` where
rounding has no finite bound at all, and some derivative no digit that is right.

| formula | digits lost | bounds | alone | gradient of | at | PyTorch | mpmath |
|---|---|---|---|---|---|---|---|"""

_EVERY = """\
## Every formula

`inputs` were looked at in each row, `undefined` of them had no derivative, at `beyond` the value itself is infinite or
NaN; `bounds` is the largest error of the rows that are proved, in units of the derived bound (up to 4 is rounding).
What is `wrong` ends its row: no more inputs are looked at.
"""


def _document(answers: Sequence[Answer]) -> Iterator[str]:
    yield _INTRODUCTION.format(seed=SEED, torch=version("torch"))
    yield from _summary(answers)
    yield _NOT_PROVED
    yield from _not_proved(answers)
    yield _LOSSES.format(points=POINTS, told=TOLD)
    yield from _losses(answers)
    yield _EVERY
    yield from _every(answers)


def _summary(answers: Sequence[Answer]) -> Iterator[str]:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for answer in answers:
        for row in answer.rows:
            counts.setdefault((row.mode, row.dtype), Counter())[row.verdict] += 1
    verdicts = sorted({verdict for count in counts.values() for verdict in count})
    yield f"| mode | dtype | {' | '.join(verdicts)} |"
    yield f"|---|---|{'---|' * len(verdicts)}"
    for (mode, dtype), count in counts.items():
        yield f"| {mode} | {dtype} | {' | '.join(str(count[v]) for v in verdicts)} |"
    yield ""


def _not_proved(answers: Sequence[Answer]) -> Iterator[str]:
    for answer in answers:
        for row in answer.rows:
            if row.verdict != "proved":
                yield (
                    f"| {answer.name} | {row.mode} | {row.dtype} | {row.verdict} | {row.reason} | {row.at} "
                    f"| {row.computed} | {row.certified} | {row.truth} |"
                )
    yield ""


def _losses(answers: Sequence[Answer]) -> Iterator[str]:
    lost = [(answer, answer.loss) for answer in answers if answer.loss is not None]
    for answer, loss in sorted(lost, key=lambda pair: -pair[1].digits):
        digits = "all" if loss.digits >= DIGITS else f"{loss.digits:.1f}"
        point = ", ".join(f"{n} = {v!r}" for n, v in loss.point.items())
        yield (
            f"| {answer.name} | {digits} | {answer.loss_in_bounds:.2g} | {answer.alone} | {loss.variable} | {point} "
            f"| {loss.computed!r} | {loss.truth} |"
        )
    yield ""


def _every(answers: Sequence[Answer]) -> Iterator[str]:
    columns = [f"{row.mode} {row.dtype}" for row in answers[0].rows]
    yield f"| formula | {' | '.join(columns)} | inputs | undefined | beyond | bounds |"
    yield f"|---|{'---|' * len(columns)}---|---|---|---|"
    for answer in answers:
        verdicts = " | ".join(row.verdict for row in answer.rows)
        largest = max((row.bounds for row in answer.rows if row.verdict == "proved"), default=None)
        counted = zip(*((r.inputs, r.undefined, r.out_of_range) for r in answer.rows), strict=True)
        counts = " | ".join(str(max(counts)) for counts in counted)
        yield f"| {answer.name} | {verdicts} | {counts} | {'' if largest is None else f'{largest:.2g}'} |"


if __name__ == "__main__":
    main()
