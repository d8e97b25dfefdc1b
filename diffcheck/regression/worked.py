"""What has been worked out of a pipeline, and what a mode found out in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from diffcheck.checking.conclude import command_line
from diffcheck.regression.bounds import Product, Stability, multiply_out
from diffcheck.regression.closed_form import NormalEquations, Solution
from diffcheck.regression.pipeline import Judged, Pipeline
from diffcheck.verdict import Finding, Verdict

if TYPE_CHECKING:
    from diffcheck.regression.declare import Regression
    from diffcheck.settings import Settings


@dataclass(slots=True)
class Worked:
    """What has been worked out for one dtype; each mode adds to it."""

    declared: Regression
    dtype: str
    case_id: str
    location: str
    settings: Settings
    pipeline: Pipeline
    features: Tensor
    labels: Tensor
    judged: Judged
    solution: Solution
    stability: Stability
    judging: float
    """Seconds spent on judging the steps."""
    _product: Product | None = None
    equations: NormalEquations | None = None

    @property
    def product(self) -> Product:
        """Of the maps of all steps."""
        if self._product is None:
            self._product = multiply_out(self.judged.record.start, self.judged.updates)
        return self._product

    @property
    def replay(self) -> str:
        """The command that does it again."""
        return command_line(self.location, "reverse", self.dtype, self.settings)


@dataclass(slots=True)
class Outcome:
    """What a mode found out; a Result without the names."""

    verdict: Verdict
    gradient: str
    inputs: int = 0
    reason: str = ""
    finding: Finding | None = None
    details: tuple[str, ...] = ()
    undefined: int = 0
    max_ulps: float = 0.0
    max_bounds: float = 0.0
