"""The proven bounds of elementary functions in double-word arithmetic, held to mpmath; wrong tables, which are seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest

from diffcheck.certify import elementary
from diffcheck.certify.double_word import DoubleWord
from diffcheck.certify.elementary import FUNCTIONS, UNIT, Found
from tests.support.reference import DIGITS

TRUE: dict[str, Callable[[Any], Any]] = {
    "exp": mpmath.exp, "expm1": mpmath.expm1, "tanh": mpmath.tanh, "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "log": mpmath.log, "log1p": mpmath.log1p, "erf": mpmath.erf, "sqrt": mpmath.sqrt,
}  # fmt: skip
SLOPES: dict[str, Callable[[Any], Any]] = {
    "exp": mpmath.exp, "expm1": mpmath.exp, "tanh": lambda x: mpmath.sech(x) ** 2,
    "sigmoid": lambda x: mpmath.exp(-x) / (1 + mpmath.exp(-x)) ** 2, "log": lambda x: 1 / x,
    "log1p": lambda x: 1 / (1 + x), "erf": lambda x: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x),
    "sqrt": lambda x: 1 / (2 * mpmath.sqrt(x)),
}  # fmt: skip
WORST = {
    "exp": 2.0**-8, "expm1": 0.5, "tanh": 0.55, "sigmoid": 1.1 * 2.0**-8, "log": 0.5, "log1p": 0.5, "erf": 4,
    "sqrt": 2.0**-38,
}  # fmt: skip
"""What the proofs say, in units of 2⁻⁶⁴."""
PART = {"erf": 0.1, "sqrt": 0.1, "tanh": 0.1, "expm1": 0.1, "log": 0.05, "log1p": 0.05, "exp": 0.1, "sigmoid": 0.1}
"""Of their bounds, what errors take at least'."""


def as_mpmath(high: float, low: float) -> Any:
    return mpmath.mpf(float(high)) + mpmath.mpf(float(low))


def numbers(x: DoubleWord) -> list[Any]:
    return [as_mpmath(*both) for both in zip(x.hi, np.zeros_like(x.hi) if x.lo is None else x.lo, strict=True)]


def computed(name: str, x: DoubleWord) -> Found:
    with np.errstate(all="ignore"):
        return FUNCTIONS[name](x)


def drawn(name: str, seed: int = 0) -> DoubleWord:
    """Every cell of the tables, at its ends and inside; near 0, 1 and -1; large and small."""
    generator = np.random.default_rng(seed)

    def signs(count: int) -> npt.NDArray[Any]:
        return generator.choice([-1.0, 1.0], count)

    def ends(centres: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Of the cells around these: a hair inside and outside, and anywhere."""
        hair = generator.uniform(-1, 1, centres.shape) * 1e-13
        return np.concatenate([centres + 0.5 + hair, centres - 0.5 + hair, centres + generator.uniform(-0.5, 0.5)])

    powers = 64 * generator.integers(-400, 400, 64) + np.arange(64.0)
    near_one = np.arange(-100.0, 101.0)
    parts = [
        ends(powers) * (math.log(2) / 64),
        ends(near_one) * (math.log(2) / 64), ends(near_one) * (math.log(2) / 128),
        ends(np.arange(91.0, 182.0)) / 128 * 2.0 ** generator.integers(-3, 4, 3 * 91),
        ends(np.arange(91.0, 182.0)) / 128, ends(np.arange(91.0, 182.0)) / 128 - 1,
        ends(np.arange(-428.0, 429.0)) / 64,
        generator.uniform(-340, 340, 300), generator.standard_normal(300),
        1 + signs(300) * 2.0 ** generator.uniform(-53, 0, 300), -1 + 2.0 ** generator.uniform(-53, 1, 300),
        signs(400) * 2.0 ** generator.uniform(-300, 300, 400), signs(300) * 2.0 ** generator.uniform(-60, 8, 300),
        np.array([0.0, 1.0, -1.0, 340.0, -340.0, 6.68, -6.68, 100.0, 0.5, 2.0, 1e-290, 1.5e308]),
    ]  # fmt: skip
    x = np.concatenate(parts)
    if name in {"log", "sqrt"}:
        x = np.abs(x)
    x = x[x > -1] if name == "log1p" else x
    return DoubleWord(x, np.spacing(np.abs(x)) * generator.uniform(-0.5, 0.5, x.shape) * (x != 0))


def beyond(name: str, x: DoubleWord, digits: int = 50) -> tuple[list[tuple[Any, float]], float]:
    """Where the error exceeds its bound, and the largest part of the bound that an error takes."""
    mpmath.mp.dps = digits
    found = computed(name, x)
    failures, largest = [], 0.0
    for argument, value, error in zip(numbers(x), numbers(found.value), found.error, strict=True):
        if not math.isfinite(error):
            continue
        gap = abs(value - TRUE[name](argument))
        if gap > error:
            failures.append((argument, float(gap / error) if error else math.inf))
        elif error:
            largest = max(largest, float(gap / error))
    return failures, largest


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_true_value_is_within_the_bound(name: str):
    x = drawn(name)
    failures, largest = beyond(name, x, DIGITS)
    assert not failures
    assert largest > PART[name]  # it is no loose bound either
    found = computed(name, x)
    with np.errstate(all="ignore"):
        relative = found.error / elementary.size(found.value) / UNIT
    known = np.isfinite(found.error)
    assert known.mean() > 0.9
    assert np.nanquantile(relative[known], 0.9) == pytest.approx(WORST[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_floats_are_arguments_too(name: str):
    assert not beyond(name, DoubleWord(drawn(name, seed=2).hi[::3]))[0]


def test_tens_of_thousands_of_points_were_looked_at():
    assert sum(len(drawn(name).hi) for name in FUNCTIONS) > 30_000


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_slope_is_a_bound_within_reach(name: str):
    mpmath.mp.dps = 40
    x = DoubleWord(*(part[::7] for part in drawn(name, seed=1)))
    found = computed(name, x)
    reaches = np.broadcast_to(found.reach, x.hi.shape)
    looked_at = 0
    for argument, slope, reach, error in zip(numbers(x), found.slope, reaches, found.error, strict=True):
        if math.isfinite(error) and reach > 0:
            looked_at += 1
            for side in (-1, 0, 1):
                true = SLOPES[name](argument + side * mpmath.mpf(float(reach)))
                assert true <= slope, (argument, side)
    assert looked_at > 400


@pytest.mark.parametrize("name", FUNCTIONS)
def test_where_it_is_not_computed_nothing_is_known(name: str):
    x = DoubleWord(np.array([math.nan, math.inf, -math.inf, 1e300, -1e300, 0.0, -2.0]))
    mpmath.mp.dps = 40
    found = computed(name, x)
    assert not math.isfinite(found.error[0])
    finite = DoubleWord(*(part[3:] for part in (found.value.hi, found.value.lo)))
    for argument, value, error in zip(numbers(DoubleWord(x.hi[3:])), numbers(finite), found.error[3:], strict=True):
        if name in {"log", "log1p", "sqrt"} and argument < 0:
            assert not math.isfinite(error)
        elif math.isfinite(error):
            assert abs(value - TRUE[name](argument)) <= error


# ---------------------------------------------------------------------------------------------------------------------
# Wrong on purpose
# ---------------------------------------------------------------------------------------------------------------------


def _off(table: str, part: int, place: Any, by: float) -> Callable[[], Any]:
    """A table of several parts, one entry of which is off."""
    parts = [np.array(p) for p in getattr(elementary, table)()]
    parts[part][place] += by
    return lambda: tuple(parts)


_AT_0 = elementary._MOST_STEPS
MISTAKES: dict[str, tuple[str, str, int, Any, float]] = {
    "an entry of the powers": ("exp", "_powers", 0, slice(17, None, 64), 2.0**-26),
    "its low word": ("exp", "_powers", 1, _AT_0 + 63, 2.0**-70),
    "an entry less 1": ("expm1", "_powers_less_one", 1, _AT_0 + 1, 2.0**-71),
    "the entry at 0": ("tanh", "_powers_less_one", 1, _AT_0, 1e-25),
    "the tail of ln 2/64": ("exp", "_step", 1, (), 2.0**-75),
    "its head": ("sigmoid", "_step", 0, (), 2.0**-44),
    "a logarithm": ("log", "_reciprocals", 1, 140, 2.0**-42),
    "its low word ": ("log", "_reciprocals", 2, 130, 2.0**-69),
    "the logarithm of 1": ("log1p", "_reciprocals", 2, 128, 1e-25),
    "ln 2": ("log", "_log_two", 1, (), 2.0**-62),
    "a value of erf": ("erf", "_erf_series", 1, 428 + 200, 2.0**-60),
    "erf at 0": ("erf", "_erf_series", 1, 428, 1e-25),
    "a slope of erf": ("erf", "_erf_series", 3, 428 - 3, 2.0**-53),
    "a coefficient of erf": ("erf", "_erf_series", 4, (0, 428 + 90), 2.0**-44),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_table_is_seen(mistake: str, monkeypatch: pytest.MonkeyPatch):
    name, table, part, place, by = MISTAKES[mistake]
    monkeypatch.setattr(elementary, table, _off(table, part, place, by))
    assert beyond(name, drawn(name))[0]


@pytest.mark.parametrize(("name", "table", "part"), [
    ("exp", "_powers", 1), ("expm1", "_powers_less_one", 1), ("log", "_reciprocals", 2), ("erf", "_erf_series", 1),
    ("erf", "_erf_series", 3),
])  # fmt: skip
def test_low_words_that_are_left_out_are_seen(name: str, table: str, part: int, monkeypatch: pytest.MonkeyPatch):
    parts = list(getattr(elementary, table)())
    parts[part] = np.zeros_like(parts[part])
    monkeypatch.setattr(elementary, table, lambda: tuple(parts))
    assert len(beyond(name, drawn(name))[0]) > 20


def test_a_series_that_is_too_short_is_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(elementary, "_SERIES", elementary._SERIES[:-2])
    assert beyond("log", drawn("log"))[0]
