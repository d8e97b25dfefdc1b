"""Right functions that do not pass, and why: what is told of them is true of PyTorch, or is a limit of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Gap:
    """What is said of a function, in some mode and dtype, instead of that it passes."""

    verdicts: frozenset[str]
    modes: frozenset[str]
    reason: str


def _gap(verdict: str, modes: str, reason: str) -> Gap:
    return Gap(frozenset(verdict.split()), frozenset(modes.split()), reason)


GAPS: Final = {
    "statistics/cox": _gap(
        "wrong", "forward", "PyTorch's forward mode of logcumsumexp adds 1e-13 (docs/pytorch-findings.md, logcumsumexp)"
    ),
    "distributions/kl_beta": _gap(
        "inaccurate",
        "reverse forward",
        "PyTorch's trigamma has 9 digits in float64 (docs/pytorch-findings.md, digamma)",
    ),
    "matrices/determinant": _gap(
        "wrong",
        "reverse forward",
        "PyTorch's gradient of the determinant of a singular matrix is 0 (docs/pytorch-findings.md, det)",
    ),
    "geometry/exponential_map": _gap(
        "unsupported", "reverse forward", "the exponential of a matrix has no closed form, and diffcheck no rule for it"
    ),
    "matrices/vandermonde": _gap(
        "error", "reverse", "PyTorch can't differentiate torch.vander backwards: it changes in place what it has saved"
    ),
    "signals/sample_image": _gap(
        "error",
        "reverse",
        "a place within rounding of a pixel's middle: the kernel rounds it to one side, the rule takes the other",
    ),
    "geometry/cdist_by_products": _gap(
        "inaccurate",
        "reverse",
        "beyond 25 rows PyTorch's cdist is √(a² - 2ab + b²), which cancels where points are close",
    ),
}
