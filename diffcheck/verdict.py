"""Verdict, Finding, Result: what a check says. Frozen data, without behaviour but for how a notebook shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class Verdict(StrEnum):
    """The outcome for one case, mode and dtype. Only `proved` and `agrees` pass."""

    PROVED = "proved"
    """The identity holds on every path met, and every drawn input agreed."""
    AGREES = "agrees"
    """Every drawn input agreed; the identity was not decided."""
    INACCURATE = "inaccurate"
    """The formula is right, and digits are lost beyond the bound."""
    WRONG = "wrong"
    """There is an input where the derivative is another one."""
    UNDEFINED = "undefined"
    """Nothing but kinks or points without a derivative could be drawn."""
    UNDECIDED = "undecided"
    """A budget of time, operations, memory or precision ran out, or rounding could do anything at every input."""
    UNSUPPORTED = "unsupported"
    """An operation has no rule."""
    NOT_AVAILABLE = "not available"
    """PyTorch, or the Function under test, has no such mode or dtype: neither right nor wrong."""
    ERROR = "error"
    """The case itself misbehaved: it raised, returned no tensor, is random, changed its inputs, has a wrong rule."""

    @property
    def severity(self) -> int:
        """How much it says of a whole that a part of it came to this: the worst of the parts is the whole's.

        What was not decided weighs more than lost digits, which may be no more than a warning, and less than a mistake.
        """
        return _BY_SEVERITY.index(self)


_BY_SEVERITY: Final = (
    Verdict.UNDEFINED, Verdict.PROVED, Verdict.AGREES, Verdict.NOT_AVAILABLE, Verdict.INACCURATE, Verdict.UNSUPPORTED,
    Verdict.UNDECIDED, Verdict.ERROR, Verdict.WRONG,
)  # fmt: skip
"""Parts without a derivative say nothing of the whole."""
PASSING: Final = frozenset({Verdict.PROVED, Verdict.AGREES})


class Mistake(StrEnum):
    """What people do wrong: the names that a diagnosis can give. `docs/messages.md` says what each one means."""

    SIGN = "sign"
    FACTOR = "constant factor"
    SIZE = "factor that follows a size"
    SUM_FOR_MEAN = "sum for mean"
    MEAN_FOR_SUM = "mean for sum"
    TRANSPOSED = "transposed Jacobian"
    EXCHANGED = "arguments exchanged"
    IGNORED = "incoming gradient ignored"
    ABSOLUTE = "incoming gradient made absolute"
    CLIPPED = "incoming gradient clipped"
    SQUARED = "incoming gradient squared"
    NONLINEAR = "not linear in the incoming gradient"
    MODIFIED = "incoming gradient modified in place"
    BROADCAST = "wrong reduction after broadcasting"
    COLUMN = "(n, 1) against (n,)"
    MISSING_FACTOR = "missing factor"
    EXTRA_FACTOR = "extra factor"
    MISSING_TERM = "missing term"
    EXTRA_TERM = "extra term"
    CONSTANT = "treated as constant"
    NOT_CONSTANT = "not treated as constant"
    NO_GRADIENT = "no gradient"
    ACCUMULATED = "accumulated between calls"
    ELEMENT = "one element only"
    AXIS = "axis mixed up"
    ORDER = "elements in another order"
    WHERE_BROADCAST = "only where broadcast"
    LAYOUT = "only for one layout"
    BEYOND = "only beyond a size"
    AT_SIZE = "only at a size"
    REGION = "only in a region"
    TIE = "tie"
    TIES = "only at ties and kinks"
    PRECISION = "computed in lower precision"
    ROUNDED = "rounded constant"
    FINITE_DIFFERENCES = "finite differences"
    EPSILON = "epsilon in the formula"
    PYTORCHS_EPSILON = "epsilon in PyTorch's formula"
    NOT_TAKEN = "NaN from the branch not taken"
    MASKED = "0/0 under a mask"
    ROOT = "root of zero"
    ZERO = "division by zero"
    INFINITE = "infinity on the way"
    OVERFLOW = "overflow of an intermediate"
    UNDERFLOW = "underflow of an intermediate"
    WAY = "only in one way of asking"
    NONDETERMINISTIC = "nondeterministic"


class Certainty(StrEnum):
    """How sure a diagnosis is."""

    CERTAIN = "certain"
    """By algebra, for every input on the path; or seen, as that two runs differ."""
    LIKELY = "likely"
    """From numbers."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the mistake is. What can't be known is not named."""

    name: Mistake
    certainty: Certainty
    explanation: str
    """One sentence, without the name: `the executed formula is 2/3 of the derivative`."""


@dataclass(frozen=True, slots=True)
class Value:
    """One tensor, exactly: its shape and its entries in row-major order."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """Without `torch.`: `float64`, `int64`, …"""
    entries: tuple[Any, ...]
    """Floats, complex numbers, integers or truth values."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement at one input, with everything needed to replay it."""

    headline: str
    """What is wrong, in one sentence."""
    argument: str
    """The input whose derivative disagrees; in forward mode, the output."""
    index: tuple[int, ...]
    inputs: tuple[Value, ...]
    cotangents: tuple[Value, ...]
    """What was propagated: cotangents of the outputs, in forward mode tangents of the inputs."""
    autograd: float
    """PyTorch's value (of `gradient=`, in mode `gradient`)."""
    certified: str
    """The certified value, in decimal, to every digit that its enclosure proves (at most 40)."""
    certified_float: float
    """The certified value rounded to the nearest float64."""
    radius: float
    """The radius of the certified enclosure."""
    ulps: float
    """The gap, in units in the last place of the dtype at the certified value."""
    bounds: float
    """The gap, in units of the derived bound."""
    autograd_formula: str
    """The formula that autograd executed, from the trace."""
    reference_formula: str
    """SymPy's derivative."""
    replay: str
    """The command that reproduces the finding."""
    notes: tuple[str, ...] = ()
    """What else is known: digits lost, the path, the other side of a kink."""
    diagnosis: Diagnosis | None = None
    """What the mistake is, where it can be known."""
    line: str = ""
    """Where the difference enters, if it can be told: `cases/cube.py:12 in backward`."""
    repro: str = ""
    """A script that shows the finding without diffcheck; empty where the function can't be imported."""

    def _repr_html_(self) -> str:
        from diffcheck.report.notebook import finding_html

        return finding_html(self)


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome for one case, mode and dtype."""

    id: str
    """`cases/autograd.py::quadratic`."""
    mode: str
    """One of `diffcheck.modes.MODES`, `accumulate`, or `gradient` for the case's own `gradient=`."""
    dtype: str
    """`float64`, `float32`, `float16`, `bfloat16`, `complex128` or `complex64`."""
    verdict: Verdict
    inputs: int = 0
    """How many drawn inputs were compared."""
    paths: int = 0
    """How many different paths they took through the function."""
    kinks: int = 0
    """How many inputs were kinks, and judged by the adjacent branches."""
    undefined: int = 0
    """How many inputs had no derivative, and were left out."""
    refused: int = 0
    """How many inputs the function itself refuses: it raises there."""
    out_of_range: int = 0
    """How many were left out since the function's own value is infinite there, undefined, or beyond the dtype."""
    max_error_ulps: float = 0.0
    max_error_bounds: float = 0.0
    seconds: float = 0.0
    gradient: str = ""
    """The reference, in one line: the derivative of the sum of the outputs."""
    finding: Finding | None = None
    reason: str = ""
    """Why there is no better verdict, in one sentence; empty if there is nothing to say."""
    details: tuple[str, ...] = field(default=())
    """Further lines of a report: a table, a loss per epoch."""
    device: str = "cpu"
    """Where PyTorch computed: `cpu`, `cuda`, `cuda:1`, …"""
    by_name: bool = False
    """Whether the mode or dtype that is not available was asked for by name: then that fails."""

    def _repr_html_(self) -> str:
        from diffcheck.report.notebook import result_html

        return result_html(self)

    def _repr_latex_(self) -> str | None:
        from diffcheck.report.notebook import result_latex

        return result_latex(self) or None


def left_out(result: Result) -> bool:
    """Whether a result neither passes nor fails: there is no such derivative, and nobody asked for it by name."""
    return result.verdict is Verdict.NOT_AVAILABLE and not result.by_name
