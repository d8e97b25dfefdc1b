"""`-k` reads as pytest's does."""

from __future__ import annotations

import pytest

from diffcheck.declare.select import matcher
from diffcheck.errors import LoadError

ID = "cases/autograd.py::quadratic"


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ("", True),
        ("quad", True),
        ("QUAD", True),
        ("autograd", True),
        ("autograd.py::quad", True),
        ("total", False),
        ("not total", True),
        ("quad and total", False),
        ("quad or total", True),
        ("total or quad and not autograd", False),
        ("(total or quad) and autograd", True),
        ("not (quad or total)", False),
        ("notquad", False),
    ],
)
def test_matches(expression: str, selected: bool) -> None:
    assert matcher(expression)(ID) is selected


@pytest.mark.parametrize("expression", ["and", "quad total", "(quad", "quad)", "not", "()", "quad (total)", "quad or"])
def test_refuses(expression: str) -> None:
    with pytest.raises(LoadError, match="no expression of names"):
        matcher(expression)
