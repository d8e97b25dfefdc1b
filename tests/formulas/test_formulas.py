"""The Feynman formulas and FPBench's cores over their stated ranges: what docs/formulas.md records stays so.

`python tests/formulas/run.py` takes more inputs, and float32 as well, and writes that record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import cycle, takewhile
from pathlib import Path
from random import Random
from typing import Final

import mpmath
import pytest
import torch

from diffcheck.compare.evaluate import DTYPES, Evaluation, Memory, evaluate
from diffcheck.draw import inputs as draw
from diffcheck.prove.identity import Status
from diffcheck.verdict import Mistake, Verdict
from tests.formulas.measure import is_off, loss_of, result_at, results, true_value
from tests.formulas.notation import FUNCTIONS, evaluated, formula, precondition
from tests.formulas.rows import TORCH, Formula, formulas
from tests.formulas.truth import drawn, one_sided

ROOT: Final = Path(__file__).parents[2]
BY_NAME: Final = {one.name: one for one in formulas()}
EXAMPLES: Final = 8


def recorded(column: str) -> dict[str, dict[str, str]]:
    """The table of docs/formulas.md that has such a column: its rows, by formula."""
    rows = [line[2:-2].split(" | ") for line in (ROOT / "docs" / "formulas.md").read_text().splitlines()]
    start = next(i for i, row in enumerate(rows) if row[0] == "formula" and column in row)
    table = takewhile(lambda row: len(row) > 1, rows[start + 2 :])
    return {row[0]: dict(zip(rows[start], row, strict=True)) for row in table}


RECORDED: Final = recorded("undefined")
LOST: Final = recorded("digits lost")


# ---------------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------------


def test_all_of_them_are_read_and_recorded():
    assert sum(name.startswith("feynman/") for name in BY_NAME) == 100
    assert len(BY_NAME) == len(formulas()) == 210
    assert list(RECORDED) == list(BY_NAME)


def test_a_formula_means_what_it_says():
    tree = formula("-a**2 - 1/2*b + pow(0.1, c)/pi")
    values = {"a": Fraction(3), "b": Fraction(5)}
    assert evaluated(tree, {**values, "c": 2}, TORCH) == pytest.approx(-9 - 2.5 + 0.01 / math.pi)
    assert formula("333.75 * b") == ("*", Fraction(1335, 4), "b")
    with pytest.raises(ValueError, match="a < b"):
        formula("a < b")
    with pytest.raises(ValueError, match="fmax"):
        formula("fmax(a, b)")


def test_a_precondition_becomes_ranges_and_relations():
    assert precondition("(and (<= -1/2 x 1e-5) (!= x 0))") == (
        "and", ("<=", Fraction(-1, 2), "x", Fraction(1, 100_000)), ("!=", "x", 0)
    )  # fmt: skip
    with pytest.raises(ValueError, match="not closed"):
        precondition("(and (<= 0 x)")
    triangle = BY_NAME["rosa/triangle1"]
    assert triangle.case().signature == ", ".join(f"{side}: real[] >= 1.0 and <= 9.0" for side in "abc")
    assert triangle.related({"a": 3.0, "b": 4.0, "c": 5.0})
    assert not triangle.related({"a": 1.0, "b": 2.0, "c": 3.0})
    poles = BY_NAME["hamming-ch3/NMSE problem 3.3.3"]
    assert [poles.related({"x": x}) for x in (0.0, 1.0, -1.0, 2.0)] == [False, False, False, True]
    assert (
        BY_NAME["fptaylor-tests/test03_nonlin2"].case().signature
        == "x: real[] > 0.0 and < 1.0, y: real[] > -1.0 and < -0.1"
    )


def test_formulas_mean_what_python_takes_them_for():
    """Python's own reading of the same text, on the same tensors: the same operations in the same order."""
    names = {name: partial(TORCH.function, name) for name in FUNCTIONS} | {"pi": math.pi, "pow": pow}
    for name, one in BY_NAME.items():
        point = {n: torch.tensor(v, dtype=torch.float64) for n, v in drawn(one, Random(name)).items()}
        ours, theirs = one.value(point, TORCH), eval(one.text, names, point)  # noqa: S307 - it is our own data
        assert torch.equal(ours.nan_to_num(), theirs.nan_to_num()), name


# ---------------------------------------------------------------------------------------------------------------------
# Verdicts
# ---------------------------------------------------------------------------------------------------------------------

FLOAT64: Final = ("reverse float64", "forward float64")
PROVED: Final = [name for name, row in RECORDED.items() if {row[column] for column in FLOAT64} == {"proved"}]
MODES: Final = ("reverse", "forward")
"""Each formula is judged in one of them here, by turns; the record holds both."""


@pytest.mark.parametrize(("name", "mode"), list(zip(PROVED, cycle(MODES), strict=False)))
def test_what_is_recorded_as_proved_is_proved(name: str, mode: str):
    (result,) = results(BY_NAME[name], examples=EXAMPLES, seed=1, modes=(mode,), dtypes=("float64",))
    assert result.verdict is Verdict.PROVED, (result.reason, result.finding)
    assert result.inputs >= EXAMPLES
    assert result.max_error_bounds <= 4


HAMMING, HERBIE = "hamming-ch3/NMSE", "herbie"
DISTANCE, LAW_OF_COSINES, EIGENVALUE = (
    "feynman/I.8.14",
    "feynman/I.29.16",
    "graphics/An eigenvalue calculation from TNG",
)
CLUSTERING = f"{HERBIE}/Probabilities in a clustering algorithm"


@dataclass(frozen=True)
class Known:
    """An input at which the value of a formula is finite, and PyTorch's derivative no number in some modes."""

    name: str
    dtype: str
    point: tuple[float, ...]
    mistake: Mistake
    explanation: str
    modes: tuple[str, ...] = MODES
    """In the others it is right."""


OVERFLOW, ZERO = Mistake.OVERFLOW, Mistake.ZERO
KNOWN: Final = [
    Known(LAW_OF_COSINES, "float64", (1.0, 1.0, 1.0, 1 + 2.0**-27), ZERO, "which rounding makes 0 in float64"),
    Known(LAW_OF_COSINES, "float32", (1.0, 1.0, 1.0, 1 + 2.0**-12), ZERO, "which rounding makes 0 in float32"),
    Known(f"{HERBIE}/Complex square root", "float32", (-1.0, 2.0**-20), ZERO, "which rounding makes 0 in float32"),
    Known(f"{HERBIE}/Complex sine and cosine", "float64", (0.5, 709.75), OVERFLOW, "is beyond the range of float64"),
    # exp(2·x) fits and 2·exp(2·x) does not, which only forward mode computes; and so on.
    Known(f"{HAMMING} problem 3.4.4", "float64", (354.75,), OVERFLOW, "2*dx*exp(2*x) is beyond", ("forward",)),
    Known(f"{HAMMING} problem 3.4.2", "float64", (-1.0, 354.75, 2.0), OVERFLOW, "*exp(eps*(a + b)) is", ("forward",)),
    Known(f"{HAMMING} section 3.11", "float64", (709.5,), OVERFLOW, "dx*exp(x) is beyond", ("forward",)),
    # The square of the quotient is on the way back.
    Known(CLUSTERING, "float64", (1.0, 10.0, 36.0, 0.0), OVERFLOW, "is beyond the range of float64", ("reverse",)),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("known", KNOWN, ids=lambda k: f"{k.name}-{k.dtype}")
def test_what_is_lost_on_the_way_is_inaccurate_and_named(known: Known, mode: str):
    """The formula that was executed is proved, its number is none, and mpmath has the derivative that is certified."""
    one = BY_NAME[known.name]
    point = dict(zip(one.ranges, known.point, strict=True))
    assert math.isfinite(value_of(one, point, known.dtype))
    assert evaluated_at(one, point, mode, known.dtype).path.proof.status is Status.PROVED
    result = result_at(one, point, mode, known.dtype)
    if mode not in known.modes:
        assert result.verdict in (Verdict.PROVED, Verdict.INACCURATE)
        assert result.finding is None or math.isfinite(result.finding.autograd)
        return
    assert result.verdict is Verdict.INACCURATE
    assert not math.isfinite(result.finding.autograd)
    assert result.finding.diagnosis.name is known.mistake
    assert known.explanation in result.finding.diagnosis.explanation
    truth = true_value(one, result.finding)
    assert is_off(result.finding.autograd, truth, known.dtype)
    assert abs(truth - mpmath.mpf(result.finding.certified)) <= mpmath.mpf(10) ** -8 * abs(truth)


BLUNT: Final = {f"{HAMMING} problem 3.4.5": ("float32", (2.0**-11,)), CLUSTERING: ("float64", (1.0, 1.0, 0.0, 64.0))}
"""Formulas that give a finite number of which no digit is right, where no bound on rounding is finite."""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BLUNT)
def test_a_number_without_a_right_digit_is_inaccurate(name: str, mode: str):
    one, (dtype, values) = BY_NAME[name], BLUNT[name]
    point = dict(zip(one.ranges, values, strict=True))
    assert evaluated_at(one, point, mode, dtype).path.proof.status is Status.PROVED
    result = result_at(one, point, mode, dtype)
    assert result.verdict is Verdict.INACCURATE
    truth = true_value(one, result.finding)
    assert abs(result.finding.autograd - truth) > abs(truth) / 2
    assert any("not one digit is right" in note for note in result.finding.notes)


KINKS: Final = {
    DISTANCE: (1.0,) * 4,
    LAW_OF_COSINES: (1.0,) * 4,
    EIGENVALUE: (0.0,) * 4,
    f"{HERBIE}/Complex square root": (-1.0, 0.0),
}
"""Roots of what is 0 there and a square around it."""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", KINKS)
def test_nan_at_a_kink_is_wrong_since_there_are_finite_slopes(name: str, mode: str):
    """By mpmath, along every variable and along all of them."""
    one = BY_NAME[name]
    point = dict(zip(one.ranges, KINKS[name], strict=True))
    for direction in [{n: 1.0} for n in point] + [dict.fromkeys(point, 1.0)]:
        before, after = one_sided(one, point, direction)
        assert max(abs(before), abs(after)) <= 4
    result = result_at(one, point, mode, "float64")
    assert result.verdict is Verdict.WRONG
    assert math.isnan(result.finding.autograd)
    assert result.finding.diagnosis.name is Mistake.ROOT
    assert "is 0 here, where the root has no slope" in result.finding.diagnosis.explanation


BEYOND: Final = [
    (f"{HAMMING} example 3.10", "float32", (-(2.0**-50),)),
    (f"{HAMMING} problem 3.4.2", "float64", (1.0, 2.0, 512.0)),
    (f"{HAMMING} problem 3.4.4", "float64", (512.0,)),
    (f"{HAMMING} problem 3.4.5", "float32", (2.0**-20,)),
    (f"{HAMMING} section 3.11", "float64", (1024.0,)),
    (f"{HERBIE}/Complex sine and cosine", "float64", (0.0, 1024.0)),
    (CLUSTERING, "float64", (1.0, 1.0, 64.0, 0.0)),
]
"""Inputs at which the formula itself overflows, or becomes 0/0, in the format."""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "dtype", "values"), BEYOND)
def test_where_the_value_is_no_number_nothing_is_asked(name: str, dtype: str, values: tuple[float, ...], mode: str):
    one = BY_NAME[name]
    point = dict(zip(one.ranges, values, strict=True))
    assert not math.isfinite(value_of(one, point, dtype))
    result = result_at(one, point, mode, dtype)
    assert result.verdict is Verdict.UNDEFINED
    assert result.out_of_range == result.inputs > 0
    assert "the function's own value" in result.reason


def value_of(one: Formula, point: Mapping[str, float], dtype: str) -> float:
    return one.value({n: torch.tensor(v, dtype=DTYPES[dtype]) for n, v in point.items()}, TORCH).item()


def evaluated_at(one: Formula, point: Mapping[str, float], mode: str, dtype: str) -> Evaluation:
    tensors = {name: torch.tensor(value, dtype=DTYPES[dtype]) for name, value in point.items()}
    evaluation = evaluate(one.case(), mode, dtype, draw.at(tensors, (1.0,)), Memory())
    assert isinstance(evaluation, Evaluation)
    return evaluation


def test_every_formula_that_is_not_proved_is_known():
    found = {n for n, verdicts in RECORDED.items() if {v for k, v in verdicts.items() if "float" in k} != {"proved"}}
    assert found <= {known.name for known in KNOWN} | KINKS.keys() | BLUNT.keys()


@pytest.mark.parametrize("name", LOST)
def test_the_digits_that_a_formula_loses_are_within_its_bound(name: str):
    row, one = LOST[name], BY_NAME[name]
    point = {n: float(v) for n, v in (pair.split(" = ") for pair in row["at"].split(", "))}
    loss = loss_of(one, point, row["gradient of"])
    assert loss is not None
    assert is_off(loss.computed, mpmath.mpf(loss.truth), "float64")
    assert mpmath.almosteq(mpmath.mpf(row["mpmath"]), mpmath.mpf(loss.truth), 1e-15)
    result = result_at(one, point, "reverse", "float64")
    assert result.verdict == row["alone"]
    assert result.max_error_bounds <= 4
    if result.verdict is Verdict.UNDECIDED:  # that nothing was compared is no budget's fault, nor the derivative's
        assert result.reason.startswith("nothing was compared of the derivative by ")
        assert "The executed formula is the derivative" in result.reason
    elif result.verdict is Verdict.INACCURATE:  # where no bound is finite, what has no right digit is told
        assert any("not one digit is right" in note for note in result.finding.notes)
    else:
        assert result.verdict is Verdict.PROVED
