"""The modes of second and third order: what is right is proved, what is wrong only there is found."""

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
from diffcheck.checking.check import check
from diffcheck.compare.evaluate import Memory, evaluate
from diffcheck.derive.symbolic import to_sympy, variable
from diffcheck.draw.inputs import Drawn
from diffcheck.modes import SECOND_ORDER, THIRD_ORDER
from diffcheck.settings import Settings
from diffcheck.verdict import Mistake, Result, Verdict

VECTOR = Float[Tensor, "n"]
MATRIX = Float[Tensor, "n m"]
HIGHER = (*SECOND_ORDER, *THIRD_ORDER)


def run(function: Callable[..., Any], mode: str, **inputs: Any) -> Result:
    it = case(function, name="it", inputs=inputs or {"x": VECTOR})
    settings = Settings(modes=(mode,), dtypes=("float64",), examples=15, seed=3, database=False)
    (result,) = check(it, settings, case_id="it", location="it")
    return result


ONLY_SECOND = 4
RIGHT: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (lambda x: x**3, {}),
    (lambda x: torch.sin(x) * x.sum(), {}),
    (lambda x: x.detach() * x**2, {}),
    (lambda x: 3 * x, {}),
    (lambda a, b: a @ b, {"a": MATRIX, "b": Float[Tensor, "m k"]}),
    (lambda x, y: (x * torch.sin(y), x.sum() * (y**3).sum()), {"x": VECTOR, "y": VECTOR}),
    (lambda x: torch.tanh(x) / (1 + x**2).sum(), {}),
    (F.gelu, {}),
]


@pytest.mark.parametrize(
    ("mode", "function", "inputs"),
    [(mode, *right) for mode in HIGHER for right in RIGHT[0 if mode in SECOND_ORDER else ONLY_SECOND :]],
)
def test_right_functions_are_proved(mode: str, function: Callable[..., Any], inputs: dict[str, Any]):
    result = run(function, mode, **inputs)
    assert result.verdict is Verdict.PROVED, (result.reason, result.finding)
    assert result.max_error_bounds <= 4


def test_names_of_cotangents_and_tangents_do_not_collide_with_those_of_inputs():
    result = run(lambda x, dy: x * torch.sin(dy), "forward-over-reverse", x=VECTOR, dy=VECTOR)
    assert result.verdict is Verdict.PROVED


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("reverse-over-reverse", "dy vx vy"),
        ("forward-over-reverse", "vx vy dy vdy"),
        ("reverse-over-forward", "dx dy vy"),
        ("forward-over-forward", "dx dy vx vy vdx vdy"),
        ("reverse-over-reverse-over-reverse", "dy vx vy wx wy wdy"),
        ("forward-over-reverse-over-reverse", "wx wy dy wdy vx vy wvx wvy"),
        ("reverse-over-forward-over-reverse", "vx vy dy vdy wx wy"),
        ("forward-over-forward-over-reverse", "dy vx vy vdy wx wy wdy wvx wvy wvdy"),
        ("reverse-over-reverse-over-forward", "dx dy vy wx wy wdx wdy"),
        ("forward-over-reverse-over-forward", "dx dy vy wx wy wdx wdy wvy"),
        ("reverse-over-forward-over-forward", "dx dy vx vy vdx vdy wy"),
        ("forward-over-forward-over-forward", "dx dy vx vy vdx vdy wx wy wdx wdy wvx wvy wvdx wvdy"),
    ],
)
def test_the_reference_is_what_sympy_says_of_the_whole_function(mode: str, names: str):
    it = case(lambda x, y: torch.sin(x * y) * torch.exp(x), name="it", inputs=dict.fromkeys("xy", Float[Tensor, ""]))
    drawn = Drawn({"x": (), "y": ()}, {"x": (0.3,), "y": (-1.2,)}, (1.0, 2.0, -0.5))
    evaluation = evaluate(it, mode, "float64", drawn, Memory())
    assert evaluation is not None
    trace = evaluation.path.trace
    assert " ".join(trace.seed_names) == names
    x, y = moving = [variable("x"), variable("y")]
    found, whose = [sympy.sin(x * y) * sympy.exp(x)], ["y"]
    for prefix, how in zip("dvw", reversed(mode.split("-over-")), strict=False):
        if how == "forward":
            seeds = [variable(f"{prefix}{v}") for v in moving]
            found = [sum(sympy.diff(g, v) * d for v, d in zip(moving, seeds, strict=True)) for g in found]
        else:
            seeds = [variable(f"{prefix}{name}") for name in whose]
            whole = sum(g * c for g, c in zip(found, seeds, strict=True))
            found, whose = [sympy.diff(whole, v) for v in moving], [str(v) for v in moving]
        moving = [*moving, *seeds]
    assert [entry.owner for entry in trace.entries] == whose
    ours = to_sympy(trace.reference)
    for one, other in zip(ours, found, strict=True):
        assert sympy.simplify(one - other) == 0


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


def test_a_mode_that_pytorch_lacks_is_not_available_and_says_so():
    result = run(WrongTwice.apply, "forward-over-reverse")
    assert result.verdict is Verdict.NOT_AVAILABLE
    assert "forward-over-reverse mode: You must implement the jvp function" in result.reason


def test_pytorchs_logsumexp_can_not_be_differentiated_in_reverse_over_forward():
    result = run(lambda x: torch.logsumexp(x, 0), "reverse-over-forward")
    assert result.verdict is Verdict.NOT_AVAILABLE
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


class Unfollowed(torch.autograd.Function):
    """x³, right in first order, and no more is promised."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


@pytest.mark.parametrize("mode", HIGHER)
def test_a_nesting_that_pytorch_lacks_is_not_available_and_says_so(mode: str):
    result = run(Unfollowed.apply, mode)
    assert result.verdict is Verdict.NOT_AVAILABLE, result
    assert result.reason.startswith(f"{mode} mode: ")


class Bent(torch.autograd.Function):
    """2x·g, whose backward is not linear in what it is given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor) -> Tensor:
        ctx.save_for_backward(x, g)
        return 2 * x * g

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        x, g = ctx.saved_tensors
        return 2 * g * torch.tanh(v), 2 * x * v


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return Bent.apply(*ctx.saved_tensors, grad)


def test_what_is_not_linear_is_told_of_the_last_cotangent_only():
    """A derivative of a derivative is not linear in both cotangents at once: that is no mistake."""
    finding = run(Square.apply, "reverse-over-reverse").finding
    assert finding is not None
    assert finding.diagnosis is not None
    assert finding.diagnosis.name is Mistake.NONLINEAR
    assert finding.diagnosis.explanation.startswith("multiplied by -2, vx does not multiply")
