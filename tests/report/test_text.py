"""Numbers and names keep to their columns."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from diffcheck.report.text import bracketed, duration, number, printable, shorten

CONSOLE = Console(file=io.StringIO())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.5, "0.5"),
        (0.01, "0.01"),
        (9.96, "10"),
        (123.4, "123"),
        (9999.4, "9999"),
        (12345.0, "1.2e4"),
        (1e-5, "1.0e-5"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(min_value=0))
def test_number_fits(value: float) -> None:
    assert len(number(value)) <= 8


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.00s"), (9.994, "9.99s"), (9.996, "10.0s"), (99.96, "1m40s"), (125.0, "2m05s"), (7200.0, "2h00m")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.text(), st.integers(0, 30))
def test_shorten_fits(text: str, width: int) -> None:
    assert cell_len(shorten(text, width, CONSOLE)) <= width


def test_printable_spells_out_controls() -> None:
    assert printable("a\x1b[0m\r\n\udcff", CONSOLE) == "a\\x1b[0m\\r\n\\udcff"


def test_bracketed() -> None:
    assert bracketed(["1", "2", "3", "4", "5", "6"], (2, 3)) == "[[1, 2, 3], [4, 5, 6]]"
    assert bracketed(["1"], ()) == "1"
    assert bracketed([], (2, 0)) == "[[], []]"
