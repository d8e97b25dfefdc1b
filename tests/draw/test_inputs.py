"""What is drawn lies in the domain, reaches far, has its special values, and shrinks to simple ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import hypothesis
import pytest
import torch
from annotated_types import Ge, Gt, Interval, Le, Lt, Predicate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffcheck import case
from diffcheck.declare.case import Case
from diffcheck.declare.domain import Shapes, contains, resolved, size_assignments
from diffcheck.draw.inputs import Drawn, admits, inputs, taken_in_turn, tensors
from diffcheck.errors import DeclarationError

MANY = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
)
FEW = settings(MANY, max_examples=60)


def declared(assume: Callable[..., Any] | None = None, **annotations: Any) -> Case:
    made: Case = case(lambda *_: None, inputs=annotations, assume=assume, name="it")
    return made


def strategy(it: Case, special: tuple[float, ...] = ()) -> st.SearchStrategy[Drawn]:
    return inputs(it.arguments, size_assignments(it.arguments), special)


VECTOR = Float[Tensor, "n"]
DOMAINS = {
    "any": declared(x=VECTOR),
    "positive": declared(x=Annotated[VECTOR, Gt(0)]),
    "not negative": declared(x=Annotated[VECTOR, Ge(0)]),
    "negative": declared(x=Annotated[VECTOR, Lt(0)]),
    "at most": declared(x=Annotated[VECTOR, Le(-3.5)]),
    "unit": declared(x=Annotated[VECTOR, Interval(gt=-1, lt=1)]),
    "narrow": declared(x=Annotated[VECTOR, Interval(ge=1, le=1.0000001)]),
    "point": declared(x=Annotated[VECTOR, Interval(ge=0.1, le=0.1)]),
    "far": declared(x=Annotated[VECTOR, Gt(1e6)]),
    "large interval": declared(x=Annotated[VECTOR, Interval(gt=-1e200, lt=1e200)]),
    "classes": declared(x=Float[Tensor, "b c"], t=Annotated[Int[Tensor, "b"], Ge(0), Lt("c")]),
    "integers": declared(x=VECTOR, t=Annotated[Int[Tensor, "n"], Gt(-2), Le(2)]),
    "integers above": declared(x=VECTOR, t=Annotated[Int[Tensor, "n"], Gt(2.5)]),
    "integers below": declared(x=VECTOR, t=Annotated[Int[Tensor, "n"], Lt(-7)]),
    "fractional ends": declared(x=VECTOR, t=Annotated[Int[Tensor, "n"], Interval(gt=0.5, lt=3.5)]),
    "mask": declared(x=VECTOR, mask=Bool[Tensor, "n m"]),
    "up to an axis": declared(x=Annotated[Float[Tensor, "n m"], Ge(0), Le("m")]),
    "empty tensors": declared(x=Float[Tensor, "n-1"]),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_everything_drawn_is_within_the_domain(name: str):
    it = DOMAINS[name]

    @FEW
    @given(strategy(it))
    def check(drawn: Drawn) -> None:
        for known in it.arguments:
            bounds = resolved(known, drawn.shapes, it.arguments)
            entries = drawn.entries[known.name]
            assert len(entries) == math.prod(drawn.shapes[known.name])
            for value in entries:
                assert contains(bounds, value)
                assert math.isfinite(value)
                assert type(value) is {"real": float, "integer": int, "boolean": bool}[known.kind] or value == int(
                    value
                )
        values = tensors(drawn, it.arguments, torch.float64)
        assert admits(it.arguments, drawn.shapes, values, it.assume)
        for known in it.arguments:
            kept = values[known.name]
            assert tuple(kept.shape) == drawn.shapes[known.name]
            assert kept.reshape(-1).tolist() == list(drawn.entries[known.name])

    check()


def finds(it: Case, condition: Callable[[Drawn], bool], special: tuple[float, ...] = (), examples: int = 3000) -> Drawn:
    return hypothesis.find(
        strategy(it, special), condition, settings=settings(MANY, max_examples=examples), database_key=None
    )


def entries(drawn: Drawn) -> tuple[float, ...]:
    return tuple(drawn.entries["x"])


@pytest.mark.parametrize(
    "condition",
    [
        lambda x: any(abs(v) > 2**15 for v in x), lambda x: any(0 < abs(v) < 2**-15 for v in x), lambda x: 0.0 in x,
        lambda x: 1.0 in x, lambda x: -1.0 in x, lambda x: len(x) > 1 and len(set(x)) == 1, lambda x: len(set(x)) == 4,
        lambda x: any(v < 0 for v in x) and any(v > 0 for v in x), lambda x: any(v != round(v, 6) for v in x),
    ],
    ids=["large", "small", "zero", "one", "minus one", "ties", "all different", "both signs", "full precision"],
)  # fmt: skip
def test_what_functions_break_at_is_drawn(condition: Callable[[tuple[float, ...]], bool]):
    assert condition(entries(finds(DOMAINS["any"], lambda d: condition(entries(d)))))


def holds(value: float, drawn: Drawn) -> bool:
    return value in entries(drawn)


def has_shapes(shapes: Shapes, drawn: Drawn) -> bool:
    return drawn.shapes == shapes


def test_end_points_are_drawn():
    it = declared(x=Annotated[VECTOR, Interval(ge=-0.3, le=7.25)])
    for end in (-0.3, 7.25):
        assert end in entries(finds(it, partial(holds, end)))


def test_special_values_are_drawn():
    assert 0.1234 in entries(finds(DOMAINS["any"], lambda d: 0.1234 in entries(d), (0.1234,)))
    with pytest.raises(NoSuchExample):
        finds(DOMAINS["negative"], lambda d: 0.1234 in entries(d), (0.1234,), examples=200)


def test_every_assignment_of_sizes_is_drawn():
    it = declared(x=Float[Tensor, "n m"])
    for shapes in size_assignments(it.arguments):
        assert finds(it, partial(has_shapes, shapes)).shapes == shapes


def test_integers_come_in_few_patterns():
    """A trace serves one set of integers only."""
    seen: set[Any] = set()

    @MANY
    @given(strategy(DOMAINS["classes"]))
    def collect(drawn: Drawn) -> None:
        seen.add((drawn.shapes["t"], drawn.shapes["x"], drawn.entries["t"]))

    collect()
    assert len(seen) <= 3 * len(size_assignments(DOMAINS["classes"].arguments))
    assert any(len(set(t)) > 1 for _, _, t in seen)


@pytest.mark.parametrize(
    ("condition", "smallest"),
    [
        (lambda d: True, (0.0,)),
        (lambda d: any(v != 0 for v in entries(d)), (1.0,)),
        (lambda d: any(v < 0 for v in entries(d)), (-1.0,)),
        (lambda d: len(entries(d)) > 1, None),
    ],
    ids=["anything", "not zero", "negative", "longer"],
)
def test_what_is_found_shrinks_to_something_simple(
    condition: Callable[[Drawn], bool], smallest: tuple[float, ...] | None
):
    found = entries(finds(DOMAINS["any"], condition))
    assert found == smallest if smallest is not None else set(found) == {0.0}


def test_rounding_to_float32_may_leave_the_domain_and_is_noticed():
    it = DOMAINS["narrow"]
    drawn = Drawn({"x": (1,)}, {"x": (1.00000009,)}, (1.0,))
    assert admits(it.arguments, drawn.shapes, tensors(drawn, it.arguments, torch.float64), None)
    rounded = tensors(drawn, it.arguments, torch.float32)
    assert contains(it.arguments[0], rounded["x"].item()) == admits(it.arguments, drawn.shapes, rounded, None)
    below = declared(x=Annotated[VECTOR, Lt(1)])
    drawn = Drawn({"x": (1,)}, {"x": (1 - 2**-40,)}, (1.0,))
    assert admits(below.arguments, drawn.shapes, tensors(drawn, below.arguments, torch.float64), None)
    assert not admits(below.arguments, drawn.shapes, tensors(drawn, below.arguments, torch.float32), None)


def test_predicates_and_assume_decide():
    it = declared(lambda x: x.sum() > 0, x=Annotated[VECTOR, Predicate(lambda x: x != 0)])
    shapes = {"x": (2,)}
    for values, expected in (((1.0, 2.0), True), ((0.0, 2.0), False), ((-1.0, -2.0), False)):
        x = {"x": torch.tensor(values)}
        assert admits(it.arguments, shapes, x, it.assume) is expected


def test_a_predicate_can_not_change_what_is_drawn():
    it = declared(lambda x: bool(x.zero_().sum() == 0), x=Annotated[VECTOR, Predicate(lambda x: x.add_(1) is not None)])
    x = {"x": torch.tensor([3.0])}
    assert admits(it.arguments, {"x": (1,)}, x, it.assume)
    assert x["x"].item() == 3.0


def test_a_bound_that_names_no_axis_says_which_there_are():
    it = declared(x=Annotated[Float[Tensor, "n m"], Le("k")])
    with pytest.raises(DeclarationError) as caught:
        strategy(it)
    assert str(caught.value) == "argument 'x': no axis is called 'k'; there are ['m', 'n']"


def test_cotangents_are_signed_zero_and_wide():
    seen: set[float] = set()

    @MANY
    @given(strategy(DOMAINS["any"]))
    def collect(drawn: Drawn) -> None:
        assert len(drawn.seeds) == 5
        seen.update(drawn.seeds)

    collect()
    assert {1.0, -1.0, 0.0} <= seen
    assert len(seen) > 20


def test_cotangents_are_taken_in_turn():
    like = [torch.zeros(2, 2, dtype=torch.float64), torch.zeros(3)]
    first, second = taken_in_turn((1.0, 2.0, 3.0, 4.0, 5.0), like)
    assert first.tolist() == [[1, 2], [3, 4]]
    assert second.tolist() == [5, 1, 2]
    assert (first.dtype, second.dtype) == (torch.float64, torch.float32)


def test_drawn_inputs_are_equal_by_what_they_hold():
    a, b = (Drawn({"x": (1,)}, {"x": (1.0,)}, (1.0,)) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
