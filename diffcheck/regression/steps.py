"""Every step that was executed against its closed-form update, from the same parameters and the same batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flint import arb, arb_mat

from diffcheck.certify.balls import BOUNDED, EXACT, Selections
from diffcheck.certify.certifier import Certifier
from diffcheck.certify.compiler import Program
from diffcheck.certify.formats import Format, format_of
from diffcheck.certify.judgement import RADII, Judgement, Outcome
from diffcheck.regression.affine import identity, precision
from diffcheck.trace.shadow import MANTISSA_BITS
from diffcheck.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from diffcheck.regression.formulas import BatchFormulas, StepFormulas
    from diffcheck.regression.training import Step

_EXACT_BITS = 160
MAP_BITS = 256
"""The precision of affine maps that do not grow what they are applied to."""
_MOST_ACCUMULATED = 8
"""How many batches back a missing `zero_grad()` is looked for."""


@dataclass(frozen=True, slots=True)
class StepJudgement:
    """One step, judged."""

    rounding: list[float]
    """Per parameter, how far what was computed may be from the closed form: what the step was held to."""
    numbers: Judgement = field(default_factory=Judgement)
    """By parameter: what is wrong, inaccurate or undecided."""

    @property
    def verdict(self) -> Verdict:
        """What is worst of its numbers."""
        worst = self.numbers.worst or Outcome.WITHIN
        return worst.verdict


class StepChecker:
    """The closed-form update for batches of one size, compiled once.

    Args:
        formulas: The traced step.
        dtype: In which PyTorch computes.
    """

    def __init__(self, formulas: StepFormulas, dtype: torch.dtype) -> None:
        self.formulas = formulas
        self._format = format_of(dtype, MANTISSA_BITS[dtype])
        self._count = len(formulas.reference)
        self._exact = Program(formulas.reference, formulas.variables, EXACT)
        self._bounded = Program(formulas.reference, formulas.variables, BOUNDED)
        self._gradient: tuple[Program, Program] | None = None
        self._certifier: Certifier | None = None
        self._maps = AffineMaps(formulas.batch)

    def values(self, step: Step, learning_rate: float) -> list[float]:
        """A step as values of the formulas' variables."""
        return [*step.before, *step.features, *step.labels, learning_rate, *step.stale]

    def judge(self, step: Step, learning_rate: float) -> StepJudgement:
        """Judges what the step wrote.

        The quick bound is `RADII` radii of the closed form's ball at the dtype's precision; what exceeds it is settled
        by the rounding of the formula that was executed, as everywhere.
        """
        values = self.values(step, learning_rate)
        point = [arb(v) for v in values]
        true = self._exact(point, _EXACT_BITS, Selections())
        narrow = self._bounded(point, self._format.bits, Selections())
        judgement = StepJudgement([])
        for computed, exact, ball in zip(step.after, true, narrow, strict=True):
            radius = float(ball.rad())
            error = float((arb(computed) - exact).abs_upper())
            bound = RADII * radius + self._format.smallest
            judgement.rounding.append(bound)
            if not error <= bound:
                return self._settled(values, step, true)
            if error:
                numbers = judgement.numbers
                numbers.max_bounds = max(numbers.max_bounds, RADII * error / bound)
                numbers.max_ulps = max(numbers.max_ulps, error / self._format.ulp(computed))
        return judgement

    def _settled(self, values: list[float], step: Step, true: list[arb]) -> StepJudgement:
        if self._certifier is None:
            formulas = self.formulas
            self._certifier = Certifier(formulas.variables, formulas.reference, formulas.executed, self._format)
        found = self._certifier.judge(values, step.after)
        narrow = self._bounded([arb(v) for v in values], self._format.bits, Selections())
        rounding = []
        for i, (computed, exact, ball) in enumerate(zip(step.after, true, narrow, strict=True)):
            bound = RADII * float(ball.rad()) + self._format.smallest
            # What the executed formula's own rounding explains counts as rounding; what nothing explains does not.
            settled = 0.0 if i in found.failures else float((arb(computed) - exact).abs_upper())
            rounding.append(max(bound, settled))
        return StepJudgement(rounding, found)

    def gradient(self, step: Step) -> tuple[list[arb], list[float]]:
        """∇L at the step's parameters and batch, enclosed; and how far rounding can take autograd from it."""
        if self._gradient is None:
            gradient, names = self.formulas.batch.gradient, self.formulas.variables
            self._gradient = Program(gradient, names, EXACT), Program(gradient, names, BOUNDED)
        exact, bounded = self._gradient
        point = [arb(v) for v in self.values(step, 0.0)]
        narrow = bounded(point, self._format.bits, Selections())
        true = exact(point, _EXACT_BITS, Selections())
        return true, [RADII * float(ball.rad()) + self._format.smallest for ball in narrow]

    def map(self, step: Step, bits: int) -> tuple[arb_mat, arb_mat]:
        """H and b of the step's batch, enclosed with so many bits."""
        return self._maps(step.features, step.labels, bits)

    @property
    def format(self) -> Format:
        """Of the dtype."""
        return self._format


class AffineMaps:
    """∇L = Hθ - b of a batch, compiled once: H and b from the data."""

    def __init__(self, batch: BatchFormulas) -> None:
        self._size = size = len(batch.theta)
        self._upper = [(i, j) for i in range(size) for j in range(i, size)]
        self._program = Program([batch.hessian[i][j] for i, j in self._upper] + list(batch.right), batch.data)

    def __call__(self, features: Sequence[float], labels: Sequence[float], bits: int) -> tuple[arb_mat, arb_mat]:
        """H and b, enclosed with so many bits."""
        found = self._program([arb(v) for v in (*features, *labels)], bits, Selections())
        hessian = [[arb(0)] * self._size for _ in range(self._size)]
        for (i, j), value in zip(self._upper, found, strict=False):
            hessian[i][j] = hessian[j][i] = value
        return arb_mat(hessian), arb_mat([[v] for v in found[len(self._upper) :]])


def update_map(hessian: arb_mat, right: arb_mat, learning_rate: float, bits: int) -> tuple[arb_mat, arb_mat]:
    """M = I - lr·H and v = lr·b of the update θ ← Mθ + v."""
    with precision(bits):
        rate = arb(learning_rate)
        return identity(hessian.nrows()) - hessian * rate, right * rate


# ---------------------------------------------------------------------------------------------------------------------
# What is off
# ---------------------------------------------------------------------------------------------------------------------


def diagnose(
    checker: StepChecker,
    steps: Sequence[Step],
    position: int,
    learning_rate: float,
    checker_of: Callable[[int], StepChecker],
) -> tuple[str, list[str]]:
    """What a step that fails did instead: a headline, and notes.

    Args:
        checker: Of the step's batch size.
        steps: The whole run.
        position: Which step.
        learning_rate: The declared one.
        checker_of: A checker per batch size.
    """
    step = steps[position]
    true, slack = checker.gradient(step)
    where = f"step {position + 1}"
    used = step.gradient
    if used is None:
        return f"{where}: a parameter has no gradient", []
    shown = [_list(".grad", used), _list("∇L of this batch", true)]
    if _close(used, true, slack):
        return _diagnose_update(where, step, used, learning_rate, checker.format)
    summed, allowed = list(true), list(slack)
    fmt = checker.format
    for count, earlier in enumerate(reversed(steps[max(0, position - _MOST_ACCUMULATED) : position]), start=2):
        more, further = checker_of(earlier.rows).gradient(earlier)
        summed = [a + b for a, b in zip(summed, more, strict=True)]
        # Each addition into .grad rounds once more.
        allowed = [a + b + fmt.ulp(float(s.mid())) for a, b, s in zip(allowed, further, summed, strict=True)]
        if _close(used, summed, allowed):
            held = f".grad holds the sum of the last {count} batches' gradients"
            return f"{where}: gradients accumulate: {held}; zero_grad() is missing", shown
    rows = checker.formulas.batch.rows
    # A factor makes the rounding larger too.
    grown = [s * max(1.0, abs(u) / max(float(abs(t).lower()), s)) for s, u, t in zip(slack, used, true, strict=True)]
    factor = _ratio(used, true, grown)
    if factor is not None:
        why = ""
        if math.isclose(factor, rows, rel_tol=1e-6):
            why = f": the loss is a sum over the batch's {rows} rows where a mean is declared"
        elif math.isclose(factor * rows, 1, rel_tol=1e-6):
            why = f": the loss is a mean over the batch's {rows} rows where a sum is declared"
        return f"{where}: the gradient is {_digits(factor)} times that of the declared loss{why}", shown
    names = checker.formulas.variables
    worst = max(range(len(used)), key=lambda i: float((arb(used[i]) - true[i]).abs_upper()) / slack[i])
    if not true[worst].contains(0):
        times = float((arb(used[worst]) / true[worst]).mid())
        shown.append(f"the gradient of {names[worst]} is {times:.15g} times the right one")
    return f"{where}: the gradient of {names[worst]} is wrong", shown


def _diagnose_update(
    where: str, step: Step, used: Sequence[float], learning_rate: float, fmt: Format
) -> tuple[str, list[str]]:
    moved = [b - a for b, a in zip(step.before, step.after, strict=True)]
    # The parameters were rounded when they were written.
    lost = [4 * max(fmt.ulp(b), fmt.ulp(a)) for b, a in zip(step.before, step.after, strict=True)]
    rate = _ratio(moved, [arb(g) for g in used], lost)
    if rate is None:
        return f"{where}: the gradient is right, the update is not θ - lr·∇L", [
            _list("∇L", used),
            _list("moved by", moved),
        ]
    used_instead = f"the update used {_digits(rate)} where {learning_rate!r} is declared"
    return f"{where}: the gradient is right, the learning rate is not: {used_instead}", [
        f"the update's learning rate is {_digits(rate / learning_rate)} times the declared one"
    ]


def _close(used: Sequence[float], true: Sequence[arb], slack: Sequence[float]) -> bool:
    """Whether numbers are the true ones up to rounding."""
    return all(float((arb(u) - t).abs_upper()) <= s for u, t, s in zip(used, true, slack, strict=True))


def _ratio(numbers: Sequence[float], true: Sequence[arb], slack: Sequence[float]) -> float | None:
    """The common factor between two vectors, if there is one up to the errors that the numbers may have."""
    leading = max(range(len(true)), key=lambda i: float(abs(true[i]).lower()))
    if true[leading].contains(0):
        return None
    factor = arb(numbers[leading]) / true[leading]
    for number, entry, allowed in zip(numbers, true, slack, strict=True):
        # The factor is off by the leading number's own error.
        inherited = float(abs(entry / true[leading]).upper()) * slack[leading]
        if not float((arb(number) - factor * entry).abs_upper()) <= 2 * (allowed + inherited):
            return None
    return float(factor.mid())


def _digits(value: float) -> str:
    return f"{value:.10g}"


def _list(what: str, numbers: Sequence[float | arb]) -> str:
    return f"{what}: {', '.join(f'{float(n.mid()) if isinstance(n, arb) else n:.12g}' for n in numbers)}"
