"""JSON is strict, complete, and exact to the last bit."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcheck import versions
from diffcheck.report.json_ import dumps, loads
from diffcheck.report.summary import Run
from diffcheck.verdict import Finding, Result, Value, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

TEXT = st.text(max_size=8)
ANY_FLOAT = st.floats() | st.sampled_from(
    [0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, math.inf, -math.inf, math.nan]
)
COUNT = st.integers(0, 10**6)


@st.composite
def values(draw: Callable[..., Any]) -> Value:
    """Tensors of up to three axes, empty ones too."""
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    kind, dtype = draw(st.sampled_from([(ANY_FLOAT, "float64"), (st.integers(), "int64"), (st.booleans(), "bool")]))
    size = math.prod(shape)
    return Value(draw(TEXT), shape, dtype, tuple(draw(st.lists(kind, min_size=size, max_size=size))))


FINDINGS = st.builds(
    Finding,
    headline=TEXT,
    argument=TEXT,
    index=st.lists(COUNT, max_size=3).map(tuple),
    inputs=st.lists(values(), max_size=2).map(tuple),
    cotangents=st.lists(values(), max_size=2).map(tuple),
    autograd=ANY_FLOAT,
    certified=TEXT,
    certified_float=ANY_FLOAT,
    radius=ANY_FLOAT,
    ulps=ANY_FLOAT,
    bounds=ANY_FLOAT,
    autograd_formula=TEXT,
    reference_formula=TEXT,
    replay=TEXT,
    notes=st.lists(TEXT, max_size=2).map(tuple),
)
RESULTS = st.builds(
    Result,
    id=TEXT,
    mode=TEXT,
    dtype=TEXT,
    verdict=st.sampled_from(Verdict),
    inputs=COUNT,
    paths=COUNT,
    kinks=COUNT,
    undefined=COUNT,
    max_error_ulps=ANY_FLOAT,
    max_error_bounds=ANY_FLOAT,
    seconds=ANY_FLOAT,
    gradient=TEXT,
    finding=st.none() | FINDINGS,
    reason=TEXT,
    details=st.lists(TEXT, max_size=2).map(tuple),
)


def refuse(constant: str) -> float:
    """Strict JSON has no NaN and no infinity."""
    raise AssertionError(constant)


@settings(max_examples=300, deadline=None)
@given(st.lists(RESULTS, max_size=3))
def test_round_trip(results: list[Result]) -> None:
    """Every float comes back with its sign and its last bit: `repr` tells -0.0 and NaN apart, `==` does not."""
    text = dumps(Run(tuple(results), seed=1, seconds=0.5))
    json.loads(text, parse_constant=refuse)
    assert repr(loads(text)) == repr(results)


@pytest.mark.parametrize("name", ["passing", "wrong", "inaccurate", "import_error", "interrupted"])
def test_json(name: str, scenes: dict[str, Run], snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "installed", lambda: {"python": "3.11.7", "torch": "2.13.0"})
    assert dumps(scenes[name]) == snapshot


def test_agreed_keys(scenes: dict[str, Run]) -> None:
    """What the format promises; more keys may come."""
    document = json.loads(dumps(scenes["wrong"]))
    assert document["version"] == 1
    assert document["summary"] == {"wrong": 3, "proved": 1}
    promised = {"id", "mode", "dtype", "verdict", "inputs", "paths", "kinks", "seconds", "gradient", "finding"}
    promised |= {"max_error_ulps", "max_error_bounds"}
    assert promised <= set(document["results"][0])
    finding = document["results"][0]["finding"]
    assert finding["inputs"] == [
        {"name": "x", "shape": [2], "dtype": "float64", "entries": ["0x0.0p+0", "0x1.8000000000000p+0"]}
    ]
    assert finding["autograd"] == {"decimal": "6.00000015", "hex": (6.00000015).hex()}
    assert set(finding["certified"]) == {"decimal", "hex", "radius"}


@pytest.mark.parametrize("text", ["[]", "{}", '{"version": 2, "results": []}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no report of diffcheck"):
        loads(text)
