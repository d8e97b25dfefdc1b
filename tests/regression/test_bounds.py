"""Affine maps and bounds against exact fractions and mpmath."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import TYPE_CHECKING, Any

import mpmath
import pytest
import torch
from flint import arb, arb_mat

from diffcheck.certify.formats import RADII
from diffcheck.certify.linear import identity, precision
from diffcheck.regression import Regression, bounds, pipeline

if TYPE_CHECKING:
    from collections.abc import Callable


def worked_out(declare: Callable[..., Regression], dtype: Any = torch.float64, **changes) -> pipeline.Training:
    declared = declare(**changes)
    return pipeline.work_out(declared, pipeline.prepare(declared, dtype))


def exact_step(theta: Any, step: Any, rate: Any) -> Any:
    """One step of gradient descent on the mean squared error of a batch, in fractions, written by hand."""
    width = len(step.features) // step.rows
    rows = [[*map(Fraction, step.features[i * width : (i + 1) * width]), Fraction(1)] for i in range(step.rows)]
    residuals = [
        sum(a * t for a, t in zip(row, theta, strict=True)) - Fraction(y)
        for row, y in zip(rows, step.labels, strict=True)
    ]
    return [
        t - rate * 2 / step.rows * sum(r * row[j] for r, row in zip(residuals, rows, strict=True))
        for j, t in enumerate(theta)
    ]


def test_the_maps_are_those_of_gradient_descent_in_fractions(declare: Callable[..., Regression]) -> None:
    judged = worked_out(declare)
    theta = [Fraction(v) for v in judged.record.start]
    rate = Fraction(judged.declared.learning_rate)
    followed = bounds.follow(judged.record.start, judged.updates)
    for step, known in zip(judged.record.steps, followed, strict=True):
        theta = exact_step(theta, step, rate)
        for ball, value, bound, computed in zip(known[0], theta, known[1], step.after, strict=True):
            difference = ball - arb(value.numerator) / arb(value.denominator)
            assert float(abs(difference).upper()) < 1e-15
            # The bound holds for the true distance, by the fractions alone.
            assert abs(Fraction(computed) - value) <= Fraction(bound)
    product = bounds.multiply_out(judged.record.start, judged.updates)
    last = zip(product.end[0], theta, product.end[1], judged.record.steps[-1].after, strict=True)
    for ball, value, bound, computed in last:
        with precision(256):
            difference = ball - arb(value.numerator) / arb(value.denominator)
        assert float(abs(difference).upper()) < 1e-60
        assert abs(Fraction(computed) - value) <= Fraction(bound)


def test_each_step_is_held_to_its_own_rounding(declare: Callable[..., Regression]) -> None:
    judged = worked_out(declare)
    rate = Fraction(judged.declared.learning_rate)
    for step, update in zip(judged.record.steps, judged.updates.maps, strict=True):
        exactly = exact_step([Fraction(v) for v in step.before], step, rate)
        for value, computed, bound in zip(exactly, step.after, map(float, update.rounding.entries()), strict=True):
            assert abs(Fraction(computed) - value) <= Fraction(bound)
            assert bound <= 1e-13, "the bound is rounding, not a tolerance"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", range(12))
def test_right_runs_raise_no_alarm(declare: Callable[..., Regression], seed: Any, dtype: Any) -> None:
    random = Random(seed)
    changes = {"seed": seed, "batch_size": random.randint(1, 12), "learning_rate": random.choice((0.001, 0.03, 0.2))}
    judged = worked_out(declare, dtype, **changes)
    assert judged.failed is None
    assert judged.pipeline.unproved() == ""
    assert max(j.max_bounds for j in judged.judgements) <= RADII


@pytest.mark.parametrize("seed", range(6))
def test_the_end_point_is_within_its_bounds_and_they_grow_coarser(
    declare: Callable[..., Regression], seed: Any
) -> None:
    judged = worked_out(declare, seed=seed, epochs=2)
    solution = judged.solution
    product = bounds.multiply_out(judged.record.start, judged.updates)
    end = judged.record.steps[-1].after
    found = bounds.end_point(judged.record.start, end, solution.balls, judged.updates, product)
    with mpmath.workdps(50):
        distance = mpmath.sqrt(
            sum(
                (mpmath.mpf(e) - mpmath.mpf(int(s.p)) / int(s.q)) ** 2 for e, s in zip(end, solution.exact, strict=True)
            )
        )
    assert found.distance == pytest.approx(float(distance), rel=1e-12)
    assert distance <= found.from_batches <= found.from_norms <= found.from_spectrum
    assert found.from_batches <= 1.001 * float(distance), "the sharp form loses nothing but rounding"


def test_a_run_that_blows_up_is_followed_with_enough_precision(declare: Callable[..., Regression]) -> None:
    judged = worked_out(declare, learning_rate=1.7, epochs=30)
    assert judged.failed is None
    assert judged.updates.bits > 512
    theta = [Fraction(v) for v in judged.record.start]
    for step in judged.record.steps[:30]:
        theta = exact_step(theta, step, Fraction(judged.declared.learning_rate))
    product = bounds.multiply_out(judged.record.start, judged.updates)
    end = judged.record.steps[-1].after
    assert max(map(abs, end)) > 1e20
    for ball, bound, computed in zip(product.end[0], product.end[1], end, strict=True):
        assert float(ball.rad()) < 1e-6 * bound
        assert float(abs(ball - computed).upper()) <= bound
    begun = bounds.multiply_out(judged.record.start, judged.updates.first(30))
    for ball, value in zip(begun.end[0], theta, strict=True):
        with precision(400):
            assert float(abs(ball - arb(value.numerator) / arb(value.denominator)).upper()) < 1e-40


def test_the_bounds_notice_an_end_that_is_too_far(declare: Callable[..., Regression]) -> None:
    judged = worked_out(declare)
    solution = judged.solution
    product = bounds.multiply_out(judged.record.start, judged.updates)
    end = [v + 10.0 for v in judged.record.steps[-1].after]
    found = bounds.end_point(judged.record.start, end, solution.balls, judged.updates, product)
    assert found.distance > found.from_batches


@pytest.mark.parametrize(("rate", "diverges"), [(0.99, False), (1.01, True), (1.0, None)])
def test_the_limit_of_full_batches_is_two_over_the_largest_eigenvalue(rate: Any, diverges: Any) -> None:
    hessian = arb_mat([[2, 0], [0, 1]])
    update = bounds.Update(
        hessian, arb_mat([[0], [0]]), identity(2) - hessian * arb(rate), arb_mat([[0], [0]]), arb_mat([[0], [0]])
    )
    found = bounds.stability(hessian, bounds.Updates((update,), rate))
    assert found.diverges is diverges
    assert float(found.limit) == 1.0
    words = {
        False: "is below the limit 2/λ_max = 1",
        True: "is past the limit 2/λ_max = 1",
        None: "too near to the limit",
    }
    assert words[diverges] in str(found)
