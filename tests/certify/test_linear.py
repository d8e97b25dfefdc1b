"""Linear algebra in balls against NumPy and mpmath."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
from flint import arb_mat

from diffcheck.certify import linear
from diffcheck.certify.linear import precision


def random_matrix(seed: Any, size: Any, *, symmetric: Any = False) -> Any:
    entries = np.random.default_rng(seed).normal(size=(size, size))
    return entries + entries.T if symmetric else entries


@pytest.mark.parametrize("seed", range(30))
def test_the_norm_bound_is_one_and_is_tight(seed: Any) -> None:
    entries = random_matrix(seed, 1 + seed % 4)
    true = np.linalg.norm(entries, 2)
    with precision(128):
        bound = float(linear.norm_bound(arb_mat(entries.tolist())))
    assert true * (1 - 1e-12) <= bound <= true * 1.1


def test_the_norm_of_nothing_is_zero() -> None:
    assert linear.norm_bound(arb_mat([[0, 0], [0, 0]])) == 0
    assert linear.length(arb_mat([[0], [0]])).contains(0)


@pytest.mark.parametrize("seed", range(20))
def test_extreme_eigenvalues_are_enclosed(seed: Any) -> None:
    size = 1 + seed % 5
    entries = random_matrix(seed, size, symmetric=True)
    if seed % 3 == 0:
        entries = np.eye(size) * 0.7  # an eigenvalue several times
    with precision(200):
        low, high = linear.extreme_eigenvalues([arb_mat(entries.tolist())])
    with mpmath.workdps(50):
        values = sorted(mpmath.eigsy(mpmath.matrix(entries.tolist()), eigvals_only=True))
    for ball, value in ((low, values[0]), (high, values[-1])):
        assert abs(mpmath.mpf(ball.mid().str(60, radius=False)) - value) <= float(ball.rad()) * (1 + 1e-9) + 1e-40
        assert float(ball.rad()) < 1e-12


@pytest.mark.parametrize(
    ("entries", "exceeds"),
    [
        ([[0.5, 0.0], [0.0, -0.999]], False),
        ([[0.5, 0.0], [0.0, -1.001]], True),
        ([[0.9, 1000.0], [0.0, 0.9]], False),
        ([[1.0, 0.0], [0.0, 0.5]], None),
        ([[1.01]], True),
        ([[0.0]], False),
    ],
)
def test_the_spectral_radius_is_told_from_one(entries: Any, exceeds: Any) -> None:
    with precision(128):
        assert linear.spectral_radius_exceeds_one(arb_mat(entries)) is exceeds
