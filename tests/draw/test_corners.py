"""Zeros in every combination that matters, one sign for all, nothing selected: never left to chance."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffcheck import case
from diffcheck.declare.domain import size_assignments
from diffcheck.draw.corners import corners
from diffcheck.draw.inputs import Drawn


def drawn(**inputs: object) -> list[Drawn]:
    it = case(lambda *values: values[0], name="it", inputs=inputs)
    return corners(it.arguments, size_assignments(it.arguments)[-1])


def test_zeros_stand_alone_and_together():
    found = [d.entries for d in drawn(x=Float[Tensor, "n"], y=Float[Tensor, "n"])]
    zero = [(not any(e["x"]), not any(e["y"])) for e in found]
    assert {(True, True), (True, False), (False, True), (False, False)} <= set(zero)
    assert any(e["x"][0] == 0 and all(e["x"][1:]) for e in found)
    assert any(e["x"][0] != 0 and not any(e["x"][1:]) for e in found)
    for sign in (1, -1):
        assert any(all(v * sign > 0 for v in (*e["x"], *e["y"])) for e in found)


def test_nothing_and_everything_is_selected():
    masks = {d.entries["m"] for d in drawn(x=Float[Tensor, "n"], m=Bool[Tensor, "n"])}
    assert {True, False} <= {mask[0] for mask in masks if len(set(mask)) == 1}
    counts = {d.entries["k"] for d in drawn(x=Float[Tensor, "n"], k=Annotated[Int[Tensor, "n"], Ge(0)])}
    assert any(not any(k) for k in counts)


def test_bounds_hold():
    assert all(v > 0 for d in drawn(x=Annotated[Float[Tensor, "n"], Gt(0)]) for v in d.entries["x"])


def test_some_are_so_small_that_squares_are_no_normal_float16():
    assert any(all(0 < v * v < 2.0**-14 for v in d.entries["x"]) for d in drawn(x=Float[Tensor, "n"]))
