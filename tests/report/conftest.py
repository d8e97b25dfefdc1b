"""Results of every kind, as a run could give them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from diffcheck.report.summary import INTERNAL, Run
from diffcheck.verdict import Certainty, Diagnosis, Finding, Mistake, Result, Value, Verdict

PROVED = Result(
    id="cases/autograd.py::quadratic",
    mode="reverse",
    dtype="float64",
    verdict=Verdict.PROVED,
    inputs=100,
    paths=1,
    max_error_ulps=0.5,
    max_error_bounds=0.25,
    seconds=0.12,
    gradient="4*x",
)
FINDING = Finding(
    headline="the gradient of x[1] is 1.00000003 times what it should be",
    argument="x",
    index=(1,),
    inputs=(Value("x", (2,), "float64", (0.0, 1.5)),),
    cotangents=(Value("y", (), "float64", (1.0,)),),
    autograd=6.00000015,
    certified="6.000000000000000000000000000000000000000",
    certified_float=6.0,
    radius=1.2e-38,
    ulps=168884986.0,
    bounds=8.4e7,
    autograd_formula="4.0000001*x[1]",
    reference_formula="4*x[1]",
    replay="diffcheck run cases/autograd.py::quadratic --mode reverse --dtype float64 --seed 1234",
    notes=("the formulas differ on every path", "the same at 12 other inputs"),
)
LONG = "softmax(q @ k.T / sqrt(d)) @ v * (upstream - sum(upstream * softmax(q @ k.T / sqrt(d)) @ v))"


def both(result: Result) -> list[Result]:
    """The same outcome in both dtypes."""
    return [result, replace(result, dtype="float32", max_error_ulps=0.498)]


def run(*results: Result, **changes: object) -> Run:
    """A run with these results."""
    return replace(Run(results, seed=1234, seconds=1.5), **changes)  # type: ignore[arg-type]


def unjudged(verdict: Verdict, reason: str, **changes: object) -> Result:
    """A result without any comparison."""
    empty = Result(PROVED.id, "reverse", "float64", verdict, seconds=0.03, reason=reason)
    return replace(empty, **changes)  # type: ignore[arg-type]


def wrong(**changes: object) -> Result:
    """A result with a finding."""
    result = replace(PROVED, verdict=Verdict.WRONG, max_error_ulps=168884986.0, max_error_bounds=8.4e7, finding=FINDING)
    return replace(result, **changes)  # type: ignore[arg-type]


def _passing() -> Run:
    attention = replace(PROVED, id="cases/gallery.py::scaled_dot_product_attention", gradient=LONG, paths=3, kinks=12)
    reason = "the identity for q[0] was not decided by algebra"
    return run(
        *both(PROVED),
        *both(replace(PROVED, mode="forward")),
        replace(PROVED, mode="gradient"),
        *both(replace(attention, verdict=Verdict.AGREES, reason=reason, seconds=12.34)),
        *both(replace(attention, mode="forward")),
    )


def _wrong() -> Run:
    tangent = Value("x", (2,), "float32", (1.0, -0.0))
    forward = replace(
        FINDING,
        headline="the tangent of y is not a number",
        argument="y",
        index=(),
        cotangents=(tangent,),
        autograd=math.nan,
        ulps=math.inf,
        bounds=math.inf,
    )
    named = replace(
        FINDING,
        diagnosis=Diagnosis(
            Mistake.FACTOR, Certainty.CERTAIN, "the executed formula is 1.000000025 times the derivative"
        ),
        line="cases/autograd.py:12 in backward",
        repro='# quadratic, reverse\nimport torch\nprint("certified", "6.0")\n',
    )
    textbook = replace(FINDING, headline="gradient= of case 'quadratic' is not the gradient, at x[1]", notes=())
    return run(
        wrong(finding=named),
        replace(PROVED, dtype="float32"),
        wrong(mode="forward", dtype="float32", finding=forward),
        wrong(mode="gradient", finding=textbook),
    )


def _inaccurate() -> Run:
    matrix = Value("weight", (2, 3), "float64", (1.0, -2.0, 3.0, 0.1, 1e300, 5e-324))
    large = Value("t", (10, 10), "int64", tuple(range(100)))
    finding = replace(
        FINDING, headline="7 digits are lost", inputs=(matrix, large), radius=0.0, autograd_formula="s*(1 - s) + " * 400
    )
    return run(wrong(verdict=Verdict.INACCURATE, finding=finding, id="cases/gallery.py::sigmoid"))


def _regression() -> Run:
    details = ("epoch  loss", "    1  1.2e-3", "    2  9.8e-5")
    result = replace(PROVED, id="cases/regression.py::linear_regression", mode="trajectory", details=details)
    return run(replace(result, mode="closed form", dtype="", paths=0), result)


@pytest.fixture
def scenes() -> dict[str, Run]:
    """Runs by name."""
    never = "the loop in line 3 goes on for more than 20000 operations [smallest input: a = 0.0]"
    broken = Result("cases/bad.py", "", "", Verdict.ERROR, reason="cases/bad.py:3: NameError: name 'x' is not defined")
    traceback = ("Traceback (most recent call last):", '  File "check.py", line 1, in check', "KeyError: 'x'")
    internal = replace(broken, id=PROVED.id, reason=f"{INTERNAL}: KeyError: 'x'", details=traceback)
    lacking = "forward mode: Trying to use forward AD with Cube that does not support it"
    raising = "the function raised ValueError: shapes [2] and [3]\n\x1b[31mdo not\x07 match"
    return {
        "passing": _passing(),
        "wrong": _wrong(),
        "inaccurate": _inaccurate(),
        "regression": _regression(),
        "unsupported": run(*both(unjudged(Verdict.UNSUPPORTED, "aten.airy_ai has no rule and no decomposition"))),
        "not_available": run(PROVED, unjudged(Verdict.NOT_AVAILABLE, lacking, mode="forward")),
        "asked_for": run(
            PROVED, unjudged(Verdict.NOT_AVAILABLE, f"{lacking} (asked for by name)", mode="forward", by_name=True)
        ),
        "undecided": run(unjudged(Verdict.UNDECIDED, never)),
        "undefined": run(unjudged(Verdict.UNDEFINED, "every input drawn was a kink", inputs=100, kinks=100)),
        "error": run(unjudged(Verdict.ERROR, raising), PROVED),
        "import_error": run(broken, PROVED),
        "internal": run(internal, replace(PROVED, id="cases/other.py::total")),
        "strict": run(replace(PROVED, verdict=Verdict.AGREES), strict=True),
        "interrupted": run(PROVED, stopped="interrupted", not_run=("cases/autograd.py::total", "cases/z.py::last")),
        "stopped": run(wrong(), stopped="first failure", not_run=("cases/z.py::last",), deselected=3),
    }
