"""Declarations: what they mean, and how a refused one says what to write instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import pytest
import torch
from annotated_types import Ge, Gt, Interval, Le, Lt, MultipleOf, Predicate
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor, nn

from diffcheck import case
from diffcheck.declare.case import Case
from diffcheck.declare.domain import argument, asked_assignments, size_assignments
from diffcheck.errors import DeclarationError

HOW = """\
Write, for example:

    from typing import Annotated
    from annotated_types import Gt
    from jaxtyping import Float, Int
    from torch import Tensor

    @case
    def f(x: Float[Tensor, "n m"], w: Annotated[Float[Tensor, "m"], Gt(0)]) -> Float[Tensor, "n"]:
        ..."""

VECTOR = Float[Tensor, "n"]


def _square(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """x², element by element.

    In a second paragraph.
    """
    return x * x


square: Case = case(_square, gradient=lambda x: 2 * x, name="square")


def test_a_case_can_be_called_like_its_function():
    assert torch.equal(square(torch.tensor([1.0, 3.0])), torch.tensor([1.0, 9.0]))
    assert torch.equal(square.function(torch.tensor([2.0])), torch.tensor([4.0]))


def test_a_case_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        square.name = "other"  # type: ignore[misc]
    assert hash(square) == hash(square)
    assert square != dataclasses.replace(square)


def test_what_a_case_knows():
    assert square.name == "square"
    assert square.doc.splitlines()[0] == "x², element by element."
    assert square.file == __file__
    assert square.line > 0
    assert square.signature == "x: real[n]"
    assert [a.name for a in square.differentiated] == ["x"]
    assert square.gradient is not None
    assert case(lambda x: x, inputs={"x": VECTOR}, name="named").name == "named"


def test_a_case_made_without_brackets_or_with_them():
    def f(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        return x

    assert isinstance(case(f), Case)
    assert isinstance(case()(f), Case)


def test_the_signature_says_kinds_axes_and_bounds():
    def f(
        x: Annotated[Float[Tensor, "*batch n 3"], Gt(0), Le(1)],
        t: Annotated[Int[Tensor, "n"], Ge(0), Lt("n")],
        mask: Bool[Tensor, "n+1"],
        y: Float[Tensor, ""],
    ) -> Tensor:
        return x

    assert case(f).signature == (
        "x: real[*batch n 3] > 0 and <= 1, t: integer[n] >= 0 and < n, mask: boolean[n+1], y: real[]"
    )


def test_parameters_with_a_default_keep_it():
    def f(x: Float[Tensor, "n"], power: int = 3, scale: float = 2.0) -> Tensor:
        return scale * x**power

    it = case(f)
    assert [a.name for a in it.arguments] == ["x"]
    assert torch.equal(it(torch.tensor([2.0])), torch.tensor([16.0]))


def test_a_built_in_function_with_inputs():
    it = case(torch.atan2, inputs={"y": VECTOR, "x": VECTOR})
    assert (it.name, it.signature) == ("atan2", "y: real[n], x: real[n]")


# ---------------------------------------------------------------------------------------------------------------------
# Modules
# ---------------------------------------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """A parameter, a floating-point buffer and one that counts."""

    scale: Tensor
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 2"]:
        """Scales, and counts in place."""
        self.calls += 1
        out: Tensor = self.linear(x) * self.scale
        return out


def test_a_modules_parameters_are_inputs():
    module = Scaled()
    it = case(module)
    assert it.name == "scaled"
    assert it.signature == "x: real[batch 3], linear.weight: real[2 3], linear.bias: real[2]"
    x, w, b = torch.randn(4, 3), torch.randn(2, 3), torch.randn(2)
    assert torch.allclose(it(x, w, b), 2 * (x @ w.T + b))
    assert it(x.double(), w.double(), b.double()).dtype == torch.float64


def test_a_modules_buffers_are_fresh_in_every_call():
    module = Scaled()
    it = case(module)
    for _ in range(3):
        it(torch.randn(4, 3), torch.randn(2, 3), torch.randn(2))
    assert module.calls == 0
    assert module.linear.weight.requires_grad


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------


def unannotated(x):
    return x


def a_plain_tensor(x: Tensor) -> Tensor:
    return x


def a_number(x: float) -> float:
    return x


def several(*xs: Float[Tensor, "n"]) -> Tensor:
    return xs[0]


def keywords(**xs: Float[Tensor, "n"]) -> Tensor:
    return xs["x"]


def only_integers(t: Int[Tensor, "n"], mask: Bool[Tensor, "n"]) -> Tensor:
    return t * mask


def nothing() -> Tensor:
    return torch.zeros(1)


def complex_numbers(x: Complex[Tensor, "n"]) -> Tensor:
    return x


def unknown_name(x: Flaot[Tensor, "n"]) -> Tensor:  # type: ignore[name-defined]
    return x


def contradictory(x: Annotated[Float[Tensor, "n"], Gt(2), Lt(1)]) -> Tensor:
    return x


def open_point(x: Annotated[Float[Tensor, "n"], Gt(1), Le(1)]) -> Tensor:
    return x


def between_integers(x: Float[Tensor, "n"], t: Annotated[Int[Tensor, "n"], Gt(0), Lt(1)]) -> Tensor:
    return x * t


def unknown_bound(x: Annotated[Float[Tensor, "n"], MultipleOf(2)]) -> Tensor:
    return x


def bound_of_another_type(x: Annotated[Float[Tensor, "n"], Gt([1])]) -> Tensor:
    return x


def nan_bound(x: Annotated[Float[Tensor, "n"], Gt(float("nan"))]) -> Tensor:
    return x


def axis_of_another_kind(x: Float[Tensor, "n**2"]) -> Tensor:
    return x


NOTHING = "has nothing to differentiate: none of its arguments is a Float or Complex tensor"
NO_SHAPE = "does not say which shape to draw."
NO_NUMBER = "has no fixed number of tensors; declare each one by name."
REFUSED: dict[Callable[..., Any], str] = {
    unannotated: f"case 'unannotated': argument 'x' has no annotation, so its shape is unknown.\n{HOW}",
    a_plain_tensor: f"case 'a_plain_tensor', argument 'x': <class 'torch.Tensor'> {NO_SHAPE}\n{HOW}",
    a_number: f"""case 'a_number', argument 'x': <class 'float'> {NO_SHAPE}
A number is a tensor without axes: x: Float[Tensor, ""]. Or give x a default.
{HOW}""",
    several: f"""case 'several': argument *xs: "Float[Tensor, 'n']" {NO_NUMBER}\n{HOW}""",
    keywords: f"""case 'keywords': argument **xs: "Float[Tensor, 'n']" {NO_NUMBER}\n{HOW}""",
    only_integers: (
        "case 'only_integers' has nothing to differentiate: none of its arguments is a Float or Complex tensor "
        "(t, mask)"
    ),
    nothing: "case 'nothing' has nothing to differentiate: none of its arguments is a Float or Complex tensor",
    unknown_name: "case 'unknown_name': its annotations can't be evaluated: name 'Flaot' is not defined",
    contradictory: "case 'contradictory', argument 'x': no number is > 2 and < 1.",
    open_point: "case 'open_point', argument 'x': no number is > 1 and <= 1.",
    between_integers: "case 'between_integers', argument 't': no number is > 0 and < 1.",
    unknown_bound: """case 'unknown_bound', argument 'x': MultipleOf(multiple_of=2) is not understood; \
use Gt, Ge, Lt, Le, Interval or Predicate from annotated_types.""",
    bound_of_another_type: """case 'bound_of_another_type', argument 'x': the bound [1] is neither a number \
nor the name of an axis.""",
    nan_bound: "case 'nan_bound', argument 'x': the bound nan is neither a number nor the name of an axis.",
    axis_of_another_kind: """case 'axis_of_another_kind', argument 'x': the axis 'n**2' is not a size, a name \
or arithmetic on names""",
}


@pytest.mark.parametrize(("function", "message"), REFUSED.items(), ids=lambda v: getattr(v, "__name__", ""))
def test_a_refused_declaration_says_what_to_write(function: Callable[..., Any], message: str):
    with pytest.raises(DeclarationError) as caught:
        case(function)
    assert str(caught.value) == message


def test_complex_tensors_are_differentiated_and_have_no_bounds():
    (argument,) = case(complex_numbers).arguments
    assert (argument.kind, argument.differentiated, argument.parts) == ("complex", True, 2)
    with pytest.raises(DeclarationError, match="a complex number is not > 0; use a Predicate"):
        case(complex_numbers, inputs={"x": Annotated[Complex[Tensor, "n"], Gt(0)]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient": 3}, "case 'f': gradient=3 is not a function of the case's arguments"),
        ({"assume": "x > 0"}, "case 'f': assume='x > 0' is not a function of the case's arguments"),
        ({"clear": True}, "case 'f': clear=True means nothing without preceded_by="),
        ({"preceded_by": 3}, "case 'f': preceded_by=3 is not a case"),
        ({"preceded_by": square}, "case 'f': with preceded_by= say with gradient= what .grad should hold at the end"),
    ],
    ids=["gradient", "assume", "clear", "predecessor", "no gradient"],
)
def test_refused_options(options: dict[str, Any], message: str):
    def f(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        return x

    with pytest.raises(DeclarationError) as caught:
        case(f, **options)
    assert str(caught.value) == message


def test_a_predecessor_of_other_arguments_is_refused():
    def f(y: Float[Tensor, "m"]) -> Float[Tensor, "m"]:
        return y

    with pytest.raises(DeclarationError, match=r"case 'f' and preceded_by='square' must have the same arguments"):
        case(f, preceded_by=square, gradient=lambda y: y)


@pytest.mark.parametrize("target", [3, "f", [1], {"f": 1}])
def test_only_functions_and_modules_are_cases(target: Any):
    with pytest.raises(DeclarationError, match=r"a case is made of a function or an nn\.Module, not of"):
        case()(target)


# ---------------------------------------------------------------------------------------------------------------------
# Shapes
# ---------------------------------------------------------------------------------------------------------------------


def shapes(*annotations: str) -> list[tuple[tuple[int, ...], ...]]:
    """The assignments of sizes to arguments with these axes."""
    it = case(lambda *_: None, inputs={f"x{i}": Float[Tensor, a] for i, a in enumerate(annotations)}, name="it")
    return [tuple(found[a.name] for a in it.arguments) for found in size_assignments(it.arguments)]


def test_a_shared_name_is_a_shared_size():
    for left, right in shapes("n m", "m k"):
        assert left[1] == right[0]
    assert shapes("n m", "m k")[0] == ((1, 1), (1, 1))


def test_different_names_get_different_sizes_and_once_the_same():
    ones, twos, *others = shapes("n m", "m k")
    assert (ones, twos) == (((1, 1), (1, 1)), ((2, 2), (2, 2)))
    assert others
    assert all(len({n, m, k}) == 3 for (n, m), (_, k) in others)


def test_axes_that_may_be_broadcast_are_1_in_one_argument_after_the_other():
    drawn = shapes("#n", "#n")
    assert {(a, b) for ((a,), (b,)) in drawn} >= {(1, 1), (1, 3), (3, 1), (3, 3)}
    outer = shapes("#n #m", "#n #m")
    assert {((4, 1), (4, 3)), ((1, 3), (4, 3)), ((4, 3), (1, 1))} <= {(a, b) for a, b in outer}
    assert ((1,), (2,)) in {(a, b) for a, b in shapes("*#batch", "*#batch")}


def test_an_axis_gets_the_sizes_that_are_asked_about():
    arguments = (argument("x", Float[Tensor, "n m"], case_name="it"), argument("y", Float[Tensor, "m"], case_name="it"))
    found = [(s["x"], s["y"]) for s in asked_assignments(arguments, (17,))]
    assert found == [((1, 17), (17,)), ((2, 17), (17,)), ((17, 1), (1,)), ((17, 2), (2,))]


def test_fixed_sizes_stay():
    assert {s for (s,) in shapes("3 2")} == {(3, 2)}
    assert all(s[1] == 5 for (s,) in shapes("n 5"))


def test_arithmetic_on_names():
    for left, right in shapes("n m", "n+1 2*m-1"):
        assert right == (left[0] + 1, 2 * left[1] - 1)
    assert all(b == (a[0] * a[1],) for a, b in shapes("n m", "n*m"))
    assert all(a[0] >= 2 and b[0] == a[0] - 2 for a, b in shapes("n", "n-2"))


def test_several_axes_are_shared_too():
    found = shapes("*batch n", "*batch m")
    assert all(left[:-1] == right[:-1] for left, right in found)
    assert {len(left) for left, _ in found} == {1, 2, 3}


def test_an_axis_may_broadcast():
    found = shapes("n m", "#n m")
    assert all(right[0] in (1, left[0]) for left, right in found)
    assert any(right[0] == 1 != left[0] for left, right in found)


def test_a_number_has_no_axes():
    assert shapes("") == [((),)]


def test_names_with_a_value_and_anonymous_axes():
    assert {s for (s,) in shapes("rows=4 cols=3")} == {(4, 3)}
    assert all(len(s) == 2 for (s,) in shapes("_ n"))
    assert {len(s) for (s,) in shapes("... n")} == {1, 2, 3}


def test_sizes_that_can_not_be_give_no_assignment():
    assert all(min(s) >= 0 for found in shapes("n", "n-3") for s in found)


def test_bounds_are_intersected():
    def f(
        x: Annotated[Float[Tensor, "n"], Ge(-1), Interval(gt=-3, le=2), Gt(-1), Lt(5), Predicate(torch.isfinite)],
    ) -> Tensor:
        return x

    (x,) = case(f).arguments
    assert (x.lower, x.lower_open, x.upper, x.upper_open) == (-1, True, 2, False)
    assert x.predicates == (torch.isfinite,)
