"""The four modes of second order: what is right is proved, what is wrong only there is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sympy
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffcheck import case
from diffcheck.config import SECOND_ORDER
from diffcheck.check import Settings, check
from diffcheck.draw import Drawn
from diffcheck.evaluate import Memory, evaluate
from diffcheck.symbolic import to_sympy, variable
from diffcheck.verdict import Result, Verdict

VECTOR = Float[Tensor, "n"]
MATRIX = Float[Tensor, "n m"]


def run(function: Callable[..., Any], mode: str, **inputs: Any) -> Result:
    it = case(function, name="it", inputs=inputs or {"x": VECTOR})
    settings = Settings(modes=(mode,), dtypes=("float64",), examples=15, seed=3, database=False)
    (result,) = check(it, settings, case_id="it", location="it")
    return result


@pytest.mark.parametrize("mode", SECOND_ORDER)
@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda x: x**3, {}),
        (lambda x: torch.sin(x) * x.sum(), {}),
        (lambda x: x.detach() * x**2, {}),
        (lambda x: 3 * x, {}),
        (lambda a, b: a @ b, {"a": MATRIX, "b": Float[Tensor, "m k"]}),
        (lambda x, y: (x * torch.sin(y), x.sum() * (y**3).sum()), {"x": VECTOR, "y": VECTOR}),
        (lambda x: torch.tanh(x) / (1 + x**2).sum(), {}),
        (F.gelu, {}),
    ],
)
def test_right_functions_are_proved(mode: str, function: Callable[..., Any], inputs: dict[str, Any]):
    result = run(function, mode, **inputs)
    assert result.verdict is Verdict.PROVED, (result.reason, result.finding)
    assert result.max_error_bounds <= 4


def test_names_of_cotangents_and_tangents_do_not_collide_with_those_of_inputs():
    result = run(lambda x, dy: x * torch.sin(dy), "forward-over-reverse", x=VECTOR, dy=VECTOR)
    assert result.verdict is Verdict.PROVED


@pytest.mark.parametrize("mode", SECOND_ORDER)
def test_the_reference_is_what_sympy_says_of_the_whole_function(mode: str):
    it = case(lambda x, y: torch.sin(x * y) * torch.exp(x), name="it", inputs=dict.fromkeys("xy", Float[Tensor, ""]))
    drawn = Drawn({"x": (), "y": ()}, {"x": (0.3,), "y": (-1.2,)}, (1.0, 2.0, -0.5))
    evaluation = evaluate(it, mode, "float64", drawn, Memory())
    assert evaluation is not None
    trace = evaluation.path.trace
    x, y, dx, dy, dc, vx, vy = map(variable, ("x", "y", "dx", "dy", "dy", "vx", "vy"))
    f = sympy.sin(x * y) * sympy.exp(x)

    def along(g: Any, directions: dict[Any, Any]) -> Any:
        return sum(sympy.diff(g, v) * d for v, d in directions.items())

    match mode:
        case "reverse-over-reverse":
            assert trace.seed_names == ("dy", "vx", "vy")
            inner = vx * dc * sympy.diff(f, x) + vy * dc * sympy.diff(f, y)
            expected = [sympy.diff(inner, v) for v in (x, y, dc)]
        case "forward-over-reverse":
            assert trace.seed_names == ("vx", "vy", "dy", "vdy")
            moving = {x: vx, y: vy, dc: variable("vdy")}
            expected = [along(dc * sympy.diff(f, v), moving) for v in (x, y)]
        case "reverse-over-forward":
            cotangent = variable("vy")
            inner = cotangent * along(f, {x: dx, y: dy})
            expected = [sympy.diff(inner, v) for v in (x, y, dx, dy)]
        case _:
            moving = {x: vx, y: vy, dx: variable("vdx"), dy: variable("vdy")}
            expected = [along(along(f, {x: dx, y: dy}), moving)]
    found = to_sympy(trace.reference)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert sympy.simplify(ours - theirs) == 0


class WrongTwice(torch.autograd.Function):
    """x³, whose backward is right and forgets that it depends on x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x.detach() ** 2 * grad


def test_a_double_backward_that_is_cut_is_wrong_and_the_first_is_right():
    assert run(WrongTwice.apply, "reverse").verdict is Verdict.PROVED
    result = run(WrongTwice.apply, "reverse-over-reverse")
    assert result.verdict is Verdict.WRONG
    assert result.finding is not None
    assert result.finding.headline == "the gradient of the gradient, for x[0], is wrong"
    assert result.finding.autograd == 0
    assert result.finding.reference_formula == "6*dy[0]*vx[0]*x[0]"
    assert [c.name for c in result.finding.cotangents] == ["dy", "vx"]


def test_a_mode_that_pytorch_lacks_is_unsupported_and_says_so():
    result = run(WrongTwice.apply, "forward-over-reverse")
    assert result.verdict is Verdict.UNSUPPORTED
    assert "forward-over-reverse mode: You must implement the jvp function" in result.reason


def test_pytorchs_logsumexp_can_not_be_differentiated_in_reverse_over_forward():
    result = run(lambda x: torch.logsumexp(x, 0), "reverse-over-forward")
    assert result.verdict is Verdict.UNSUPPORTED
    assert "modified by an inplace operation" in result.reason


def test_where_the_first_derivative_jumps_each_term_may_stand_on_a_side_of_its_own():
    result = run(lambda x: F.softplus(x + 20), "forward-over-reverse")
    assert result.verdict is Verdict.PROVED, result.finding
    assert result.kinks > 0


def test_layer_norms_second_tangent_is_wrong_in_pytorch():
    # Established by central differences of the first tangent: docs/pytorch-findings.md.
    it = case(
        lambda x: F.layer_norm(x, (2,)),
        name="it",
        inputs={"x": Float[Tensor, "1 2"]},
        assume=lambda x: x[0, 0] != x[0, 1],
    )
    settings = Settings(modes=("forward-over-forward",), dtypes=("float64",), examples=5, seed=3, database=False)
    (result,) = check(it, settings, case_id="it", location="it")
    assert result.verdict is Verdict.WRONG
