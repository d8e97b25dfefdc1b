"""The proven bounds of elementary functions in extended precision, held to mpmath; wrong tables, which are seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest

from diffcheck.certify import elementary
from diffcheck.certify.elementary import FUNCTIONS, UNIT, Extended
from tests.support.reference import DIGITS

pytestmark = pytest.mark.skipif(not elementary.available(), reason="needs x87's format, which this machine lacks")

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
WORST = {"exp": 2.1, "expm1": 8, "tanh": 11, "sigmoid": 4.2, "log": 8, "log1p": 9.5, "erf": 10, "sqrt": 1}
"""What the proofs say, in units of roundoff."""


def as_mpmath(x: Any) -> Any:
    head = float(x)
    return mpmath.mpf(head) + mpmath.mpf(float(x - np.longdouble(head)))


def drawn(name: str, seed: int = 0) -> Extended:
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
    found = x.astype(np.longdouble) + (x * generator.uniform(-1, 1, x.shape) * 2.0**-54).astype(np.longdouble)
    if name in {"log", "sqrt"}:
        return np.abs(found)
    return found[found > -1] if name == "log1p" else found


def beyond(name: str, x: Extended, digits: int = 40) -> tuple[list[tuple[Any, float]], float]:
    """Where the error exceeds its bound, and the largest part of the bound that an error takes."""
    mpmath.mp.dps = digits
    with np.errstate(all="ignore"):
        found = FUNCTIONS[name](x)
    failures, largest = [], 0.0
    for argument, value, error in zip(x, found.value, found.error, strict=True):
        if not math.isfinite(error):
            continue
        gap = abs(as_mpmath(value) - TRUE[name](as_mpmath(argument)))
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
    assert largest > 0.2  # it is no loose bound either
    with np.errstate(all="ignore"):
        found = FUNCTIONS[name](x)
        relative = found.error / elementary.size(found.value) / UNIT
    known = np.isfinite(found.error)
    assert known.mean() > 0.9
    assert np.nanquantile(relative[known], 0.9) == pytest.approx(WORST[name])


def test_tens_of_thousands_of_points_were_looked_at():
    assert sum(len(drawn(name)) for name in FUNCTIONS) > 30_000


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_slope_is_a_bound_within_reach(name: str):
    mpmath.mp.dps = 40
    x = drawn(name, seed=1)[::7]
    with np.errstate(all="ignore"):
        found = FUNCTIONS[name](x)
    reaches = np.broadcast_to(found.reach, x.shape)
    looked_at = 0
    for argument, slope, reach, error in zip(x, found.slope, reaches, found.error, strict=True):
        if math.isfinite(error) and reach > 0:
            looked_at += 1
            for side in (-1, 0, 1):
                true = SLOPES[name](as_mpmath(argument) + side * mpmath.mpf(float(reach)))
                assert true <= slope, (argument, side)
    assert looked_at > 400


@pytest.mark.parametrize("name", FUNCTIONS)
def test_where_it_is_not_computed_nothing_is_known(name: str):
    x = np.array([math.nan, math.inf, -math.inf, 1e300, -1e300, 0.0, -2.0], dtype=np.longdouble)
    mpmath.mp.dps = 40
    with np.errstate(all="ignore"):
        found = FUNCTIONS[name](x)
    assert not math.isfinite(found.error[0])
    for argument, value, error in zip(x[3:], found.value[3:], found.error[3:], strict=True):
        if name in {"log", "log1p", "sqrt"} and argument < 0:
            assert not math.isfinite(error)
        elif math.isfinite(error):
            assert abs(as_mpmath(value) - TRUE[name](as_mpmath(argument))) <= error


# ---------------------------------------------------------------------------------------------------------------------
# Wrong on purpose
# ---------------------------------------------------------------------------------------------------------------------


def _moved(table: Any, place: Any, by: float) -> Any:
    changed = table.copy()
    changed[place] += np.longdouble(by)
    return changed


def _powers(entry: int, less_one: int, by: float) -> Callable[[], Any]:
    powers, others = elementary._powers()
    places = np.arange(len(powers)) % 64 == entry
    return lambda: (
        np.where(places, powers * np.longdouble(1 + by), powers) if less_one < 0 else powers,
        _moved(others, elementary._MOST_STEPS + less_one - 64, by) if less_one >= 0 else others,
    )


def _logarithms(entry: int, by: float) -> Callable[[], Any]:
    reciprocals, logarithms = elementary._reciprocals()
    return lambda: (reciprocals, _moved(logarithms, entry, by))


def _series(part: int, place: Any, by: float) -> Callable[[], Any]:
    parts = list(elementary._erf_series())
    parts[part] = _moved(parts[part], place, by)
    return lambda: tuple(parts)


def _step(head: float, tail: float) -> Callable[[], Any]:
    known = elementary._step()
    return lambda: (known[0] + np.longdouble(head), known[1] + tail)


MISTAKES: dict[str, tuple[str, str, Callable[[], Callable[[], Any]]]] = {
    "an entry of the powers": ("exp", "_powers", lambda: _powers(17, -1, 2.0**-52)),
    "its last bits": ("exp", "_powers", lambda: _powers(63, -1, 2.0**-52)),
    "an entry less 1": ("expm1", "_powers", lambda: _powers(0, 65, 2.0**-66)),
    "the entry at 0": ("tanh", "_powers", lambda: _powers(0, 64, 1e-25)),
    "no tail of ln 2/64": ("exp", "_step", lambda: _step(0.0, -elementary._step()[1])),
    "a head that is off": ("sigmoid", "_step", lambda: _step(2.0**-62, 0.0)),
    "a logarithm": ("log", "_reciprocals", lambda: _logarithms(140, 2.0**-61)),
    "the logarithm of 1": ("log1p", "_reciprocals", lambda: _logarithms(128, 1e-25)),
    "ln 2": ("log", "_log_two", lambda: lambda: (np.longdouble(math.log(2)), 0.0)),
    "a value of erf": ("erf", "_erf_series", lambda: _series(0, 428 + 200, 2.0**-60)),
    "erf at 0": ("erf", "_erf_series", lambda: _series(0, 428, 1e-25)),
    "a slope of erf": ("erf", "_erf_series", lambda: _series(1, 428 - 3, 2.0**-53)),
    "a coefficient of erf": ("erf", "_erf_series", lambda: _series(2, (0, 428 + 90), 2.0**-44)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_table_is_seen(mistake: str, monkeypatch: pytest.MonkeyPatch):
    name, table, made = MISTAKES[mistake]
    monkeypatch.setattr(elementary, table, made())
    assert beyond(name, drawn(name))[0]


def test_a_low_word_that_is_left_out_is_seen(monkeypatch: pytest.MonkeyPatch):
    """Logarithms with the table's entries as floats."""
    reciprocals, logarithms = elementary._reciprocals()
    rounded = logarithms.astype(np.float64).astype(np.longdouble)
    monkeypatch.setattr(elementary, "_reciprocals", lambda: (reciprocals, rounded))
    assert len(beyond("log", drawn("log"))[0]) > 20


def test_a_series_that_is_too_short_is_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(elementary, "_SERIES", elementary._SERIES[:-2])
    assert beyond("log", drawn("log"))[0]


def test_another_format_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch):
    """Where `longdouble` is a float, nothing is certified by it."""
    monkeypatch.setattr(np, "longdouble", np.float64)
    assert not elementary.available()
