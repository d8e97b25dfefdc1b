"""The closed form against references that share nothing with it: fractions and mpmath."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import mpmath
import pytest
import sympy
import torch
from flint import fmpq, fmpq_mat
from torch import nn

from diffcheck.certify.linear import precision
from diffcheck.derive.symbolic import to_sympy
from diffcheck.regression import Regression, closed_form, formulas, nist, pipeline, training
from diffcheck.regression.closed_form import digits_of, exact, over_rationals

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parents[1] / "data" / "nist_strd_linear.json"


def solve_by_fractions(design: Any, target: Any) -> Any:
    """The normal equations by Gauss-Jordan elimination on fractions; None if they are singular."""
    size = len(design[0])
    rows = [
        [sum(r[i] * r[j] for r in design) for j in range(size)]
        + [sum(r[i] * t for r, t in zip(design, target, strict=True))]
        for i in range(size)
    ]
    for i in range(size):
        pivot = next((k for k in range(i, size) if rows[k][i]), None)
        if pivot is None:
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for k in range(size):
            if k != i and rows[k][i]:
                rows[k] = [a - rows[k][i] * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [row[-1] for row in rows]


def solved(declared: Regression, dtype: Any = torch.float64) -> closed_form.Solution:
    return pipeline.work_out(declared, pipeline.prepare(declared, dtype)).solution


def four_rows(declared: Regression) -> formulas.BatchFormulas:
    return formulas.batch_formulas(formulas.loss_case(declared, outputs=True), 4, torch.float64)


def fraction(value: fmpq) -> Fraction:
    return Fraction(int(value.p), int(value.q))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_solution_on_data_is_the_one_that_fractions_give(declare: Callable[..., Regression], dtype: Any) -> None:
    declared = declare()
    features, labels = training.make_data(declared, dtype)
    solution = solved(declared, dtype)
    design = [[*map(Fraction, row), Fraction(1)] for row in features.tolist()]
    target = [Fraction(y) for (y,) in labels.tolist()]
    assert [fraction(v) for v in solution.exact] == solve_by_fractions(design, target)
    assert solution.rank == 3
    with precision(1000):
        for ball, value in zip(solution.balls, solution.exact, strict=True):
            assert ball.contains(value)


def test_balls_enclose_the_exact_solution(declare: Callable[..., Regression], monkeypatch: Any) -> None:
    declared = declare()
    exactly = solved(declared)
    monkeypatch.setattr(closed_form, "_EXACT_ENTRIES", 0)
    enclosed = solved(declared)
    assert enclosed.exact is None
    with precision(1000):
        for ball, value in zip(enclosed.balls, exactly.exact, strict=True):
            assert ball.contains(value)
            assert float(ball.rad()) < 1e-100


def test_balls_do_not_claim_a_rank_that_they_cannot_know(monkeypatch: Any, declare: Callable[..., Regression]) -> None:
    def data() -> Any:
        return torch.tensor([[1.0, 2.0], [2.0, 4.0], [0.1, 0.2]]), torch.ones(3, 1)

    declared = declare(data=data)
    assert solved(declared).rank == 2
    monkeypatch.setattr(closed_form, "_EXACT_ENTRIES", 0)
    enclosed = solved(declared)
    assert (enclosed.rank, enclosed.balls) == (None, None)


def test_features_that_are_no_rational_numbers_are_solved_in_balls(declare: Callable[..., Regression]) -> None:
    class Waves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 1)

        def forward(self, x: Any) -> Any:
            return self.linear(torch.cat([torch.sin(x), torch.exp(x)], dim=1))

    declared = declare(model=Waves, data=lambda: (torch.randn(9, 1), torch.randn(9, 1)))
    features, labels = training.make_data(declared, torch.float64)
    solution = solved(declared)
    assert solution.exact is None
    with mpmath.workdps(60):
        design = mpmath.matrix([[mpmath.sin(x), mpmath.exp(x), 1] for (x,) in features.tolist()])
        target = mpmath.matrix([y for (y,) in labels.tolist()])
        found = mpmath.lu_solve(design.T * design, design.T * target)
        for ball, value in zip(solution.balls, found, strict=True):
            assert abs(mpmath.mpf(ball.str(50, radius=False)) - value) < mpmath.mpf(10) ** -45


@pytest.mark.parametrize("seed", range(20))
def test_rank_is_found_exactly(seed: Any) -> None:
    random = Random(seed)
    basis = [[Fraction(random.randint(-4, 4)) for _ in range(3)] for _ in range(random.randint(1, 3))]
    design = [[sum(random.randint(-2, 2) * b[j] for b in basis) for j in range(3)] for _ in range(6)]
    target = [Fraction(random.randint(-9, 9)) for _ in range(6)]
    solution = closed_form.least_squares(
        [[fmpq(int(v)) for v in row] for row in design], [fmpq(int(v)) for v in target]
    )
    assert solution.rank == sympy.Matrix(6, 3, [int(v) for row in design for v in row]).rank()
    by_hand = solve_by_fractions(design, target)
    assert (solution.exact is None) == (by_hand is None)
    if by_hand is not None:
        assert [fraction(v) for v in solution.exact] == by_hand


def test_the_normal_equations_are_a_result(declare: Callable[..., Regression]) -> None:
    declared = declare()
    batch = four_rows(declared)
    known = closed_form.normal_equations(batch)
    assert known.scale == sympy.Rational(1, 2)
    assert [str(c) for c in to_sympy(batch.design[1])] == ["X[1,0]", "X[1,1]", "1"]
    # SymPy's solution in symbols, at random rational data, is what fractions give.
    random = Random(5)
    data = {
        str(s.payload): Fraction(random.randint(-9, 9), random.randint(1, 7)) for s in (*batch.features, *batch.labels)
    }
    design = [[data[f"X[{i},0]"], data[f"X[{i},1]"], Fraction(1)] for i in range(4)]
    expected = solve_by_fractions(design, [data[f"y[{i},0]"] for i in range(4)])
    values = {sympy.Symbol(n, real=True): sympy.Rational(v.numerator, v.denominator) for n, v in data.items()}
    denominator = known.denominator.subs(values)
    for numerator, value in zip(known.numerators, expected, strict=True):
        assert numerator.subs(values) / denominator == sympy.Rational(value.numerator, value.denominator)


def test_a_weighted_loss_has_its_own_system(declare: Callable[..., Regression]) -> None:
    def weighted(output: Any, labels: Any) -> Any:
        return ((output - labels) ** 2 * torch.tensor([[1.0], [2.0], [3.0], [4.0]], dtype=output.dtype)).mean()

    declared = declare(loss=weighted)
    batch = four_rows(declared)
    known = closed_form.normal_equations(batch)
    assert known.scale is None, "it is not XᵀX·θ = Xᵀy, and is not said to be"
    assert len(known.numerators) == 3


def test_a_function_over_the_rationals_is_exact() -> None:
    x, y = sympy.symbols("x y")
    function = over_rationals([x * y + 1, (x - y) / 3, x**3, -y, 2 / (3 * x), sympy.Rational(1, 3)], [x, y])
    a, b = 0.1, -7.25
    fa, fb = Fraction(a), Fraction(b)
    expected = [fa * fb + 1, (fa - fb) / 3, fa**3, -fb, 2 / (3 * fa), Fraction(1, 3)]
    assert [fraction(v) for v in function([exact(a), exact(b)])] == expected
    assert over_rationals([x, sympy.sin(x)], [x]) is None


# ---------------------------------------------------------------------------------------------------------------------
# NIST
# ---------------------------------------------------------------------------------------------------------------------

SETS = nist.load(DATA)


@pytest.mark.parametrize("data", SETS, ids=lambda d: d.name)
def test_the_exact_solution_has_all_certified_digits(data: Any) -> None:
    entry = next(e for e in json.loads(DATA.read_text()) if e["name"] == data.name)
    solution = closed_form.least_squares(data.design, data.target)
    assert [str(v) for v in solution.exact] == entry["exact_rational"]
    for value, text in zip(solution.exact, data.certified, strict=True):
        certified = sympy.Rational(text)
        assert nist.agreeing_digits(value, text) >= 15
        relative = abs(sympy.Rational(int(value.p), int(value.q)) - certified) / abs(certified)
        assert relative <= sympy.Rational(1, 10**14) / 2


@pytest.mark.parametrize(
    ("value", "printed", "digits"),
    [
        (fmpq(1, 3), "0.333333333333333", 15),
        (fmpq(1, 3), "0.333333333333334", 14),
        (fmpq(2, 3), "0.667", 3),
        (fmpq(1), "1.00000000000000", 15),
        (fmpq(1001, 1000), "1.00000000000000", 3),
        (fmpq(2), "1.0", 0),
    ],
)
def test_agreeing_digits(value: Any, printed: Any, digits: Any) -> None:
    assert nist.agreeing_digits(value, printed) == digits


def test_digits_are_those_of_the_worst_coefficient() -> None:
    solution = closed_form.solve(fmpq_mat([[1, 0], [0, 1]]), fmpq_mat([[1], [3]])).balls
    assert digits_of([1.0, 3.0], solution) == 16.0
    assert digits_of([1.0, 3.0003], solution) == pytest.approx(4.0)
    assert digits_of([1.0, float("nan")], solution) == 0.0
    assert digits_of([100.0, 3.0], solution) == 0.0


def test_the_table_in_the_docs(capsys: Any) -> None:
    nist.main([str(DATA)])
    printed = capsys.readouterr().out.splitlines()
    docs = (Path(__file__).parents[2] / "docs" / "regression.md").read_text(encoding="utf-8")
    start = docs.index("set         n × p")
    written = docs[start : docs.index("```", start)].splitlines()
    assert printed[0] == written[0]
    assert len(printed) == len(written) == 12
    for now, then in zip(printed[1:], written[1:], strict=True):
        # LAPACK's last digits are the machine's.
        assert now.split()[:5] == then.split()[:5]
        for a, b in zip(now.split()[5:], then.split()[5:], strict=True):
            assert float(a) == pytest.approx(float(b), abs=1.5)
