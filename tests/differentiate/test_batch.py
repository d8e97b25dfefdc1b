"""Several inputs at once are what each is alone: numbers, cotangents, and how those lie in memory."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from diffcheck.checking import visit
from diffcheck.declare.case import Case, case
from diffcheck.differentiate.batch import Input, flat, numbers_at, numbers_at_each
from diffcheck.draw.inputs import Drawn, Layout, laid_out

LAYOUTS = (Layout.CONTIGUOUS, Layout.STRIDED, Layout.CONTIGUOUS, Layout.TRANSPOSED, Layout.EXPANDED, Layout.CONTIGUOUS)
SEEDS = ((1.5, -2.0, 0.3), (0.0, 1.0, -1.0), (0.7, -1.1, 2.5, 0.1), (0.25, 3.0, -1.0))


class Cube(torch.autograd.Function):
    """x³, which writes down what its backward pass is given."""

    given: ClassVar[list[tuple[tuple[int, ...], tuple[int, ...]]]] = []

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (x,), (grad,) = ctx.saved_tensors, grads
        Cube.given.append((tuple(grad.shape), grad.stride()))
        return 3 * x**2 * grad


def untouched(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """An output that depends on no input, one that is an input, and no derivative for the second."""
    return torch.ones(2, dtype=x.dtype), x, (x * 2).sum()


# By name: the case, and the shapes of its arguments.
CASES: dict[str, tuple[Case, dict[str, tuple[int, ...]]]] = {
    "square": (case(lambda x: x * x, name="square", inputs={"x": Float[Tensor, "n m"]}), {"x": (3, 2)}),
    "scalar": (case(lambda x: (x * x).sum(), name="scalar", inputs={"x": Float[Tensor, "n m"]}), {"x": (3, 2)}),
    "two": (
        case(lambda x, y: (x @ y, y.sin()), name="two", inputs={"x": Float[Tensor, "n m"], "y": Float[Tensor, "m k"]}),
        {"x": (3, 2), "y": (2, 4)},
    ),
    "untouched": (
        case(untouched, name="untouched", inputs={"x": Float[Tensor, "n"], "y": Float[Tensor, "n"]}),
        {"x": (3,), "y": (3,)},
    ),
    "cube": (case(lambda x: Cube.apply(x), name="cube", inputs={"x": Float[Tensor, "n m"]}), {"x": (3, 2)}),
    "complex": (case(lambda z: z * z, name="complex", inputs={"z": Complex[Tensor, "n"]}), {"z": (3,)}),
    "textbook": (
        case(lambda x: x * x, name="textbook", inputs={"x": Float[Tensor, "n"]}, gradient=lambda x: 2 * x), {"x": (3,)}
    ),
    "nothing": (case(lambda x: x * x, name="nothing", inputs={"x": Float[Tensor, "n"]}), {"x": (0,)}),
}  # fmt: skip


def inputs_for(name: str, dtype: torch.dtype, layouts: tuple[Layout, ...] = LAYOUTS) -> list[Input]:
    _, shapes = CASES[name]
    generator = torch.Generator().manual_seed(0)
    dtype = dtype.to_complex() if name == "complex" else dtype
    found = []
    for i, layout in enumerate(layouts):
        values = {k: laid_out(torch.randn(s, dtype=dtype, generator=generator), layout) for k, s in shapes.items()}
        found.append(Input(Drawn(shapes, {}, SEEDS[i % len(SEEDS)], layout), values, flat(list(values.values()))))
    return found


@pytest.mark.parametrize("layouts", [LAYOUTS, LAYOUTS[:1], (Layout.CONTIGUOUS,) * 3, (Layout.STRIDED,) * 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, mode) for name in CASES for mode in ("reverse", "forward") if (name, mode) != ("cube", "forward")),
        ("square", "reverse-over-reverse"),
        ("textbook", "gradient"),
    ],
)
def test_each_of_several_inputs_is_as_it_is_alone(
    name: str, mode: str, dtype: torch.dtype, layouts: tuple[Layout, ...]
):
    if name == "complex" and dtype is torch.bfloat16:
        return  # there is no complex number of half precision
    if "over" in mode:
        layouts = tuple(own for own in layouts if own is not Layout.EXPANDED)  # it has no second derivative
    declared, _ = CASES[name]
    inputs = inputs_for(name, dtype, layouts)
    alone = [numbers_at(declared, mode, given) for given in inputs]
    forms = tuple((tuple(seed.shape), seed.dtype) for seed in alone[0].seeds)
    block = numbers_at_each(declared, mode, inputs, forms)
    assert block.points.dtype == block.computed.dtype == np.float64
    for one, point, computed, seeds in zip(
        alone, block.points, block.computed, block.seeds.each(len(inputs)), strict=True
    ):
        assert point.tolist() == one.point
        assert computed.tolist() == one.computed
        assert [s.tolist() for s in seeds] == [s.tolist() for s in one.seeds]


def test_backward_passes_are_given_cotangents_as_they_are_alone():
    """In blocks they are rows of one tensor, and lie in memory in the same way."""
    declared, _ = CASES["cube"]
    inputs = inputs_for("cube", torch.float64)
    Cube.given.clear()
    for given in inputs:
        numbers_at(declared, "reverse", given)
    alone = Cube.given.copy()
    Cube.given.clear()
    numbers_at_each(declared, "reverse", inputs, (((3, 2), torch.float64),))
    assert sorted(Cube.given) == sorted(alone)
    assert len(set(alone)) == 4  # one for each layout


def test_inputs_are_left_as_they_are():
    def spoiled(x: Tensor) -> Tensor:
        with torch.no_grad():
            x.mul_(2)
        return x * x

    declared = case(spoiled, name="spoiled", inputs={"x": Float[Tensor, "n m"]})
    inputs = inputs_for("square", torch.float64)
    before = [given.values["x"].clone() for given in inputs]
    numbers_at_each(declared, "reverse", inputs, (((3, 2), torch.float64),))
    for given, kept in zip(inputs, before, strict=True):
        assert given.values["x"].equal(kept)
        assert not given.values["x"].requires_grad


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_what_is_of_another_shape_now_and_then_is_refused(mode: str):
    calls = []

    def changing(x: Tensor) -> Any:
        calls.append(1)
        return (x * x, x) if len(calls) == 3 else x * x

    declared = case(changing, name="changing", inputs={"x": Float[Tensor, "n m"]})
    inputs = inputs_for("square", torch.float64, (Layout.CONTIGUOUS,) * 4)
    with pytest.raises((ValueError, RuntimeError)):
        numbers_at_each(declared, mode, inputs, (((3, 2), torch.float64),))


def sizes_of_blocks(drawn: list[Drawn], monkeypatch: pytest.MonkeyPatch, first_takes: float) -> list[int]:
    clock = iter((0.0, first_takes))
    monkeypatch.setattr("diffcheck.checking.visit.processor_time", lambda: next(clock))
    found = list(visit.blocks(drawn))
    assert [one for block in found for one in block] == drawn
    return [len(block) for block in found]


def test_fewer_at_once_where_one_takes_long_or_is_large(monkeypatch: pytest.MonkeyPatch):
    small = [Drawn({"x": ()}, {"x": (float(i),)}, SEEDS[0]) for i in range(100)]
    large = [Drawn({"x": (67,)}, {"x": (float(i),) * 67}, SEEDS[0], large=True) for i in range(40)]
    assert sizes_of_blocks(small, monkeypatch, 0.01) == [1, 99]
    assert sizes_of_blocks(small, monkeypatch, 5.0) == [1, 32, 32, 32, 3]
    assert sizes_of_blocks(small + large, monkeypatch, 0.01) == [1, 99, 32, 8]
    assert sizes_of_blocks(small[:1], monkeypatch, 0.01) == [1]
