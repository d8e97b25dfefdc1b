"""What our check and torch's gradcheck say of one entry of the catalogue."""

from __future__ import annotations

import math
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from diffcheck import case
from diffcheck.checking.check import check
from diffcheck.declare.case import Case
from diffcheck.declare.domain import Argument, resolved, size_assignments
from diffcheck.settings import Settings
from diffcheck.verdict import PASSING, Mistake, Result, Verdict
from tests.detection.gradients import FalseAlarm
from tests.detection.mutant import Annotated, Float, Mutant

FOUND: Final = frozenset({Verdict.WRONG, Verdict.INACCURATE, Verdict.ERROR})


@dataclass(frozen=True)
class Ours:
    """What our check said of an entry, with one seed."""

    found: bool
    names: tuple[str, ...]
    """Of the mistakes, one for each result that does not pass; empty where none was given."""
    accused: bool
    """Whether the correct twin failed."""
    seconds: float
    """For the wrong one."""

    def named(self, expected: str) -> bool:
        """Whether every name that was given is the expected one."""
        return self.found and set(self.names) <= {expected}

    def misnamed(self, expected: str) -> bool:
        """Whether a name was given that is another one."""
        return bool(set(self.names) - {expected, ""})


@dataclass(frozen=True)
class Theirs:
    """What gradcheck said: of the wrong one, of the twin, and how long the first took; None where it can't be asked."""

    found: bool
    accused: bool
    seconds: float


def ours(entry: Mutant, seed: int, *, twins_examples: int | None = None, **options: Any) -> Ours:
    """Our check of an entry and of its twin, at the default settings but for the modes that the entry names."""
    wrong, right = entry.cases()
    settings = replace(Settings(seed=seed, modes=entry.modes, database=False), **options)
    twins = settings if twins_examples is None else replace(settings, examples=twins_examples)
    started = time.perf_counter()
    results = checked(wrong, settings)
    seconds = time.perf_counter() - started
    failed = [result for result in results if result.verdict not in PASSING]
    return Ours(
        any(result.verdict in FOUND for result in failed),
        tuple(name_of(result) for result in failed),
        any(result.verdict not in PASSING for result in checked(right, twins)),
        seconds,
    )


def checked(case: Case, settings: Settings) -> list[Result]:
    """The results of one case."""
    return list(check(case, settings, case_id=case.name, location=case.name))


def name_of(result: Result) -> str:
    """The name that a result gives to the mistake; what is refused outright is named in the first words."""
    if result.finding is not None:
        return str(result.finding.diagnosis.name) if result.finding.diagnosis is not None else ""
    first = result.reason.partition(":")[0]
    return first if first in {str(mistake) for mistake in Mistake} else ""


def alarm_passes(alarm: FalseAlarm) -> bool:
    """Whether our check accepts a right function that gradcheck accuses, over a domain around the point."""
    it = case(alarm.function, inputs={"x": Annotated[Float[Tensor, "n"], alarm.domain]}, name=alarm.name)
    settings = Settings(examples=30, seed=1, modes=("reverse", "forward"), database=False)
    return all(result.verdict in PASSING for result in checked(it, settings))


def theirs(entry: Mutant, *, fast: bool) -> Theirs:
    """gradcheck as people call it: its defaults, on random float64 inputs of one small shape."""
    wrong, right = entry.cases()
    order = gradgradcheck if entry.modes[0].startswith("reverse-over") else gradcheck
    started = time.perf_counter()
    found = not accepts(order, entry.wrong, gradcheck_inputs(entry, wrong, fast=fast), fast=fast)
    seconds = time.perf_counter() - started
    accused = not accepts(order, entry.right, gradcheck_inputs(entry, right, fast=fast), fast=fast)
    return Theirs(found, accused, seconds)


def accepts(order: Callable[..., bool], function: Callable[..., Any], inputs: Sequence[Tensor], *, fast: bool) -> bool:
    """Whether it returns, and raises nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return order(function, tuple(inputs), fast_mode=fast)
        except Exception:  # noqa: BLE001 - it raises RuntimeError for a wrong gradient, and anything for a wrong shape
            return False


def gradcheck_inputs(entry: Mutant, case: Case, *, fast: bool) -> list[Tensor]:
    """Normally distributed inputs, uniform within bounds; the size that the entry asks for in fast mode only."""
    generator = torch.Generator().manual_seed(zlib.crc32(entry.name.encode()))
    shapes = dict(size_assignments(case.arguments)[-1])
    if entry.sizes is not None and fast:
        for argument in case.arguments:
            shapes[argument.name] = tuple(entry.sizes[axis.text] for axis in argument.axes)
    return [
        _random(resolved(argument, shapes, case.arguments), shapes[argument.name], generator)
        for argument in case.arguments
    ]


def _random(known: Argument, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    lower, upper = float(known.lower), float(known.upper)
    if known.kind == "integer":
        return torch.randint(math.ceil(lower), math.ceil(upper), shape, generator=generator)
    value = torch.randn(shape, dtype=torch.float64, generator=generator)
    if math.isfinite(lower) and math.isfinite(upper):
        value = lower + (min(upper, lower + 8) - lower) * torch.rand(shape, dtype=torch.float64, generator=generator)
    elif math.isfinite(lower):
        value = lower + value.abs()
    return value.requires_grad_()
