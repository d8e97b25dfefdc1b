"""What diffcheck says of a formula, and what a third method says of that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import mpmath
import torch

from diffcheck.checking.check import check
from diffcheck.modes import USUAL_DTYPES
from diffcheck.settings import Settings
from diffcheck.verdict import Finding, Result
from tests.formulas.rows import TORCH, Formula
from tests.formulas.truth import derivative, drawn, one_sided

DOUBTFUL: Final = 2.0**10
"""So many units of rounding are three digits, as where diffcheck begins to say `inaccurate`."""


def results(
    formula: Formula,
    *,
    examples: int,
    seed: int,
    modes: tuple[str, ...] = ("reverse", "forward"),
    dtypes: tuple[str, ...] = USUAL_DTYPES,
) -> list[Result]:
    """diffcheck's verdicts."""
    settings = Settings(examples=examples, seed=seed, modes=modes, dtypes=dtypes, database=False)
    return list(check(formula.case(), settings, case_id=formula.name, location=formula.name))


def true_value(formula: Formula, finding: Finding) -> mpmath.mpf | None:
    """What the number of a finding should be, by mpmath; None where that can't settle it."""
    return derivative(formula, *_asked(formula, finding))


def sides_of(formula: Formula, finding: Finding) -> tuple[mpmath.mpf, mpmath.mpf] | None:
    """What the number of a finding would be on either side of a kink, by mpmath."""
    return one_sided(formula, *_asked(formula, finding))


def _asked(formula: Formula, finding: Finding) -> tuple[dict[str, float], dict[str, float]]:
    """The input of a finding, and the direction of which it has the slope."""
    point = {value.name: float(value.entries[0]) for value in finding.inputs}
    seeds = [float(value.entries[0]) for value in finding.cotangents]
    of = [finding.argument] if finding.argument in point else list(formula.ranges)
    return point, dict(zip(of, seeds, strict=True))


def is_off(computed: float, truth: mpmath.mpf, dtype: str) -> bool:
    """Whether PyTorch's number has lost three digits, or is none where there is one."""
    info = torch.finfo(getattr(torch, dtype))
    if math.isinf(computed):
        return not (abs(truth) >= info.max and (truth > 0) == (computed > 0))
    if math.isnan(computed):
        return True
    return bool(abs(computed - truth) > DOUBTFUL * info.eps / 2 * max(abs(truth), info.smallest_normal))


@dataclass(frozen=True)
class Loss:
    """The entry of a formula's gradient that has lost most of its digits, of those that were looked at."""

    point: Mapping[str, float]
    variable: str
    computed: float
    truth: str
    digits: float
    """How many decimal digits are lost, of sixteen; more, where the number is too large by as much."""


def at_kink(finding: Finding) -> bool:
    """Whether a number was held to several one-sided derivatives."""
    return any(note.startswith("the input is a kink") for note in finding.notes)


def worst_loss(formula: Formula, count: int) -> Loss | None:
    """PyTorch's float64 gradient beside mpmath's at random inputs; None if no digit is lost anywhere."""
    random = Random(formula.name)
    points = [drawn(formula, random) for _ in range(count)]
    losses = [loss_of(formula, point, name) for point in points for name in point]
    return max((loss for loss in losses if loss is not None), key=lambda loss: loss.digits, default=None)


def loss_of(formula: Formula, point: Mapping[str, float], name: str) -> Loss | None:
    """What one entry of the gradient has lost; None if that is nothing, or if it is no number, or none is due."""
    limits = torch.finfo(torch.float64)
    leaves = {n: torch.tensor(v, dtype=torch.float64, requires_grad=n == name) for n, v in point.items()}
    formula.value(leaves, TORCH).backward()
    gradient = leaves[name].grad
    assert gradient is not None
    truth = derivative(formula, point, {name: 1.0})
    if truth is None or not limits.smallest_normal < abs(truth) < limits.max or not gradient.isfinite():
        return None
    error = abs(gradient.item() - truth) / abs(truth) / (limits.eps / 2)
    if error <= 1:
        return None
    return Loss(point, name, gradient.item(), mpmath.nstr(truth, 17), float(mpmath.log10(error)))


def result_at(formula: Formula, point: Mapping[str, float], mode: str, dtype: str) -> Result:
    """diffcheck's verdict at one input."""
    values = {name: torch.tensor(value, dtype=getattr(torch, dtype)) for name, value in point.items()}
    given = replace(formula.case(), given=(values,), draws=False)
    settings = Settings(modes=(mode,), dtypes=(dtype,), seed=1, database=False)
    (result,) = check(given, settings, case_id=formula.name, location=formula.name)
    return result
