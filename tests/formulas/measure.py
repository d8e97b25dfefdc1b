"""What diffcheck says of a formula, and what a third method says of that."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

import mpmath
import torch

from diffcheck.check import Settings, check
from diffcheck.config import DTYPES
from diffcheck.verdict import Finding, Result
from tests.formulas.rows import TORCH, Formula
from tests.formulas.truth import derivative, drawn

DOUBTFUL: Final = 2.0**10
"""So many units of rounding are three digits, as where diffcheck begins to say `inaccurate`."""


def results(formula: Formula, *, examples: int, seed: int, dtypes: tuple[str, ...] = DTYPES) -> list[Result]:
    """diffcheck's verdicts in both modes."""
    settings = Settings(examples=examples, seed=seed, dtypes=dtypes, database=False)
    return list(check(formula.case(), settings, case_id=formula.name, location=formula.name))


def true_value(formula: Formula, finding: Finding) -> mpmath.mpf | None:
    """What the number of a finding should be, by mpmath; None where that can't settle it."""
    point = {value.name: float(value.entries[0]) for value in finding.inputs}
    seeds = [float(value.entries[0]) for value in finding.cotangents]
    of = [finding.argument] if finding.argument in point else list(formula.ranges)
    slopes = [derivative(formula, point, name) for name in of]
    return None if None in slopes else sum(map(operator.mul, slopes, seeds), mpmath.mpf(0))


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
    """The gradient of a formula that has lost most of its digits, of those that were looked at."""

    point: Mapping[str, float]
    variable: str
    computed: float
    truth: str
    digits: float
    """How many decimal digits are lost, of sixteen; infinitely many where not even a number is left."""


def worst_loss(formula: Formula, count: int) -> Loss | None:
    """PyTorch's float64 gradient beside mpmath's at random inputs; None if no digit is lost anywhere."""
    random = Random(formula.name)
    limits = torch.finfo(torch.float64)
    unit = limits.eps / 2
    worst: Loss | None = None
    for _ in range(count):
        point = drawn(formula, random)
        leaves = {n: torch.tensor(v, dtype=torch.float64, requires_grad=True) for n, v in point.items()}
        formula.value(leaves, TORCH).backward()
        for name, leaf in leaves.items():
            computed = 0.0 if leaf.grad is None else leaf.grad.item()
            truth = derivative(formula, point, name)
            if (
                truth is None
                or not torch.finfo(torch.float64).smallest_normal < abs(truth) < torch.finfo(torch.float64).max
            ):
                continue
            error = abs(computed - truth) / abs(truth) / unit if math.isfinite(computed) else mpmath.inf
            digits = float(mpmath.log10(error)) if error else -math.inf
            if digits > (worst.digits if worst is not None else 0.0):
                worst = Loss(point, name, computed, mpmath.nstr(truth, 17), digits)
    return worst
