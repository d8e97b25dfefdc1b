"""Strategies for tensors in anybody's tests: what is drawn, how it shrinks, and what Hypothesis' users expect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import hypothesis
import pytest
import torch
from annotated_types import Ge, Gt, Interval, Le, Lt, Predicate
from hypothesis import example, find, given, settings
from hypothesis import strategies as st
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffcheck import DeclarationError, case, strategies
from diffcheck.strategies import Layout, arguments, tensors

FEW = settings(max_examples=60, database=None, derandomize=True, deadline=None)
VECTOR = Float[Tensor, "n"]
MATRIX = Float[Tensor, "n m"]
SEVERAL: Any = (VECTOR, MATRIX)


def linear(x: VECTOR, w: MATRIX, *, scale: float = 2.0) -> Float[Tensor, "m"]:
    return scale * (x @ w)


@case(assume=lambda x, y: bool((x != y).all()))
def ordered(x: Annotated[VECTOR, Gt(0)], y: VECTOR) -> VECTOR:
    return y - x


def found(strategy: st.SearchStrategy[Any], condition: Callable[[Any], bool] = lambda _: True) -> Any:
    return find(strategy, condition, settings=settings(FEW, max_examples=500))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_tensors_are_of_the_dtype_and_within_the_bounds(dtype: torch.dtype):
    @FEW
    @given(tensors(Annotated[MATRIX, Interval(gt=0.1, le=3)], dtype=dtype))
    def check(x: Tensor) -> None:
        assert x.dtype == dtype
        assert x.dim() == 2
        assert ((x.double() > 0.1) & (x.double() <= 3)).all()
        assert not x.requires_grad

    check()


@FEW
@given(tensors(VECTOR, dtype=torch.float16))
def test_numbers_that_overflow_a_narrow_dtype_are_not_drawn(x: Tensor):
    assert x.isfinite().all()


@FEW
@given(tensors(Annotated[VECTOR, Predicate(lambda x: (x != 0).all())]), tensors(Bool[Tensor, "2 2"]))
@example(torch.ones(1), torch.eye(2, dtype=torch.bool))
def test_predicates_hold_and_examples_come_as_well(x: Tensor, mask: Tensor):
    assert (x != 0).all()
    assert mask.dtype == torch.bool
    assert mask.shape == (2, 2)


@FEW
@given(arguments(linear))
def test_a_functions_arguments_fit_together_and_it_can_be_called_with_them(drawn: dict[str, Any]):
    assert list(drawn) == ["x", "w"]
    assert drawn["x"].shape[0] == drawn["w"].shape[0]
    assert linear(**drawn).shape == drawn["w"].shape[1:]


@FEW
@given(arguments(ordered, dtype=torch.float32))
def test_bounds_and_assumptions_of_a_case_hold(drawn: dict[str, Tensor]):
    assert ((drawn["x"] > 0) & (drawn["x"] != drawn["y"])).all()
    assert {v.dtype for v in drawn.values()} == {torch.float32}


@FEW
@given(arguments({"logits": Float[Tensor, "b c"], "t": [Annotated[Int[Tensor, "b"], Ge(0), Lt("c")]]}))
def test_annotations_nest_as_the_arguments_do_and_bounds_name_axes(drawn: dict[str, Any]):
    (t,) = drawn["t"]
    assert t.shape == drawn["logits"].shape[:1]
    assert ((t >= 0) & (t < drawn["logits"].shape[1])).all()


@FEW
@given(arguments((VECTOR, MATRIX)), st.data())
def test_a_tuple_of_annotations_gives_tuples_and_data_draws(drawn: tuple[Tensor, Tensor], data: st.DataObject):
    x, w = drawn
    other = data.draw(tensors(VECTOR))
    assert (type(drawn), x.shape[0], other.dim()) == (tuple, w.shape[0], 1)


def test_a_modules_arguments_are_those_of_its_forward():
    class Model(torch.nn.Module):
        def forward(self, x: VECTOR) -> VECTOR:
            return x

    assert list(found(arguments(Model()))) == ["x"]


@pytest.mark.parametrize(
    ("condition", "smallest"),
    [
        (lambda x: True, [0.0]),
        (lambda x: bool((x < 0).any()), [-1.0]),
        (lambda x: bool((x >= 1).any()), [1.0]),
        (lambda x: bool((x == 0.1875).any()), [0.1875]),
    ],
)
def test_what_is_found_shrinks_to_the_simplest_tensor(condition: Callable[[Tensor], bool], smallest: list[float]):
    x = found(tensors(VECTOR, special=[0.1875]), condition)
    assert x.tolist() == smallest
    assert x.is_contiguous()
    assert x.storage_offset() == 0


def test_a_failure_shows_the_smallest_arguments():
    @FEW
    @given(arguments(linear))
    def check(drawn: dict[str, Tensor]) -> None:
        assert (drawn["w"] < 1).all()

    with pytest.raises(AssertionError) as caught:
        check()
    notes = " ".join("\n".join(caught.value.__notes__).split())  # Hypothesis breaks lines where its version does
    assert "'x': tensor([0.], dtype=torch.float64), 'w': tensor([[1.]], dtype=torch.float64)" in notes


@pytest.mark.parametrize(
    ("layout", "holds"),
    [
        (Layout.CONTIGUOUS, lambda x: x.is_contiguous() and x.storage_offset() == 0),
        ("strided", lambda x: x.stride()[-1] == 2),
        ("transposed", lambda x: x.mT.is_contiguous()),
    ],
)
def test_a_layout_can_be_asked_for(layout: Layout | str, holds: Callable[[Tensor], bool]):
    @FEW
    @given(tensors(MATRIX, layout=layout))
    def check(x: Tensor) -> None:
        assert holds(x)

    check()


def test_layouts_sizes_and_large_ones_are_drawn():
    seen: list[Tensor] = []

    @FEW
    @given(tensors(MATRIX), tensors(VECTOR, large=True))
    def collect(x: Tensor, long: Tensor) -> None:
        assert max(x.shape) < 64
        seen.extend([x, long])

    collect()
    assert {x.is_contiguous() for x in seen if x.dim() == 2} == {True, False}
    assert {(1, 1), (67,)} < {tuple(x.shape) for x in seen}


def test_profiles_and_seeds_decide_how_many_are_drawn_and_which():
    def run(**options: Any) -> list[list[float]]:
        seen: list[list[float]] = []

        @settings(settings.get_profile("few"), **options)
        @given(tensors(VECTOR))
        def collect(x: Tensor) -> None:
            seen.append(x.tolist())

        collect()
        return seen

    settings.register_profile("few", max_examples=7, database=None, derandomize=True)
    assert len(run()) == 7
    assert run() == run()
    assert len(run(max_examples=3)) == 3


def test_the_database_brings_a_failure_back_first():
    kept = hypothesis.database.InMemoryExampleDatabase()
    seen: list[float] = []

    def run() -> None:
        @settings(max_examples=100, database=kept, derandomize=False, deadline=None)
        @given(tensors(VECTOR))
        def check(x: Tensor) -> None:
            seen.append(float(x.max()))
            assert x.max() < 3

        with pytest.raises(AssertionError):
            check()

    run()
    seen.clear()
    run()
    assert seen[0] >= 3


def test_reprs_can_be_read():
    assert repr(tensors(Annotated[MATRIX, Gt(0)], layout="strided")) == (
        "tensors(Annotated[Float[Tensor, 'n m'], Gt(gt=0)], dtype=torch.float64, layout='strided')"
    )
    assert repr(arguments(linear, dtype=torch.float32, special=[0.5], large=True)) == (
        "arguments(linear, dtype=torch.float32, special=(0.5,), large=True)"
    )
    assert repr(arguments({"a": VECTOR, "b": [VECTOR]})) == (
        "arguments({'a': Float[Tensor, 'n'], 'b': [Float[Tensor, 'n']]}, dtype=torch.float64)"
    )
    assert repr(arguments(ordered)) == "arguments(ordered, dtype=torch.float64)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tensors(Tensor), "does not say which shape to draw"),
        (lambda: tensors(Annotated[VECTOR, Gt(1), Le(1)]), "no number is > 1 and <= 1"),
        (lambda: tensors(VECTOR, dtype=torch.int64), "dtype=torch.int64 is no floating-point dtype"),
        (lambda: tensors(VECTOR, layout="diagonal"), "layout='diagonal' is not one of contiguous, strided, transposed"),
        (lambda: tensors(VECTOR, layout="expanded"), "layout='expanded' is not one of"),
        (lambda: tensors(Float[Tensor, "n-5"]), "no sizes of the axes give every argument a shape"),
        (lambda: arguments(lambda x: x), "argument 'x' has no annotation"),
        (lambda: arguments(torch.sin), "a built-in function says nothing of its arguments"),
    ],
)
def test_what_can_not_be_drawn_is_said_at_once(call: Callable[[], Any], message: str):
    with pytest.raises(DeclarationError) as caught:
        call()
    assert message in str(caught.value)


def test_the_module_is_a_public_name():
    import diffcheck

    assert diffcheck.strategies is strategies
