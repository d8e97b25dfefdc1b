"""What the author means: a backward pass that is no derivative on purpose, another function, a solver's limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, cast

import pytest
import torch
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor

from diffcheck import case, check, gradcheck
from diffcheck.errors import DeclarationError
from diffcheck.verdict import Verdict
from tests.detection.mutant import differentiable

VECTOR = {"x": Float[Tensor, "n"]}
POSITIVE = {"x": Annotated[Float[Tensor, "n"], Interval(ge=0.25, le=4)]}
POINT = torch.tensor([0.5, -1.25, 2.0], dtype=torch.float64, requires_grad=True)


def judged(function: Callable[..., Any], **options: Any) -> Any:
    results = check(function, seed=1, examples=20, dtypes=["float64"], **{"inputs": VECTOR, **options})
    assert {r.mode for r in results} <= {"reverse", "value"}
    return results


ON_PURPOSE: dict[str, tuple[Any, Any, Any]] = {
    "straight through": (torch.round, lambda g, x: g, lambda g, x: 2 * g),
    "binarized": (torch.sign, lambda g, x: g * (x.abs() <= 1), lambda g, x: g * (x.abs() <= 2)),
    "reversal": (lambda x: x.clone(), lambda g, x: -0.5 * g, lambda g, x: 0.5 * g),
    "clipping": (lambda x: x.clone(), lambda g, x: g.clamp(-1, 1), lambda g, x: g.clamp(-2, 2)),
}
"""Forward, the backward that is meant, and another one."""


@pytest.mark.parametrize("name", ON_PURPOSE)
def test_what_is_executed_is_held_to_the_surrogate(name: str):
    forward, meant, other = ON_PURPOSE[name]
    right, wrong = differentiable(forward, meant), differentiable(forward, other)
    assert judged(right, surrogate=meant).passed
    assert not judged(wrong, surrogate=meant).passed
    assert gradcheck(right, POINT, surrogate=meant, check_undefined_grad=False)
    assert not gradcheck(wrong, POINT, surrogate=meant, check_undefined_grad=False, raise_exception=False)


def test_without_a_surrogate_it_is_no_derivative():
    forward, meant, _ = ON_PURPOSE["reversal"]
    assert {r.verdict for r in check(differentiable(forward, meant), inputs=VECTOR, modes="reverse")} == {Verdict.WRONG}


def test_a_case_says_its_surrogate_itself():
    forward, meant, _ = ON_PURPOSE["straight through"]
    assert check(case(differentiable(forward, meant), name="it", inputs=VECTOR, surrogate=meant), seed=1).passed
    with pytest.raises(DeclarationError, match="exclude each other"):
        case(forward, name="it", inputs=VECTOR, surrogate=meant, reference=forward)
    with pytest.raises(DeclarationError, match="surrogate=3 is not a function"):
        case(forward, name="it", inputs=VECTOR, surrogate=cast("Any", 3))
    with pytest.raises(DeclarationError, match="declared already"):
        check(case(forward, name="it", inputs=VECTOR), surrogate=meant)
    (result,) = check(torch.round, POINT, surrogate=lambda g, x: (g, g), modes="reverse")
    assert "surrogate= of case 'round' returns 2 gradients for 1 arguments" in result.reason


# ---------------------------------------------------------------------------------------------------------------------
# Flat in floating point, smooth in meaning
# ---------------------------------------------------------------------------------------------------------------------


def root(factor: float) -> Callable[[Tensor], Tensor]:
    """A square root by bisection."""

    def forward(a: Tensor) -> Tensor:
        low, step = torch.zeros_like(a), a + 1
        for _ in range(64):
            step = step / 2
            low = torch.where((low + step) ** 2 <= a, low + step, low)
        return low

    return differentiable(forward, lambda g, a: factor * g / (2 * torch.sqrt(a)))


def test_a_bisection_is_held_to_what_it_finds():
    a = torch.tensor([2.0, 0.75], dtype=torch.float64, requires_grad=True)
    for factor in (1.0, 5.0):
        found = case(root(factor), name="root", inputs=POSITIVE, reference=torch.sqrt)
        results = check(found, seed=1, examples=20, modes="reverse")
        assert results.passed == (factor == 1), results
        assert gradcheck(root(factor), a, reference=torch.sqrt, raise_exception=False) == (factor == 1)


# ---------------------------------------------------------------------------------------------------------------------
# Implicit layers
# ---------------------------------------------------------------------------------------------------------------------


def equilibrium(*, steps: int, transposed: bool = True, factor: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """z = W z + b: a solver under no_grad, one step on the tape, a hook."""

    def function(w: Tensor, b: Tensor) -> Tensor:
        eye = torch.eye(2, dtype=w.dtype)
        with torch.no_grad():
            z = torch.linalg.solve(eye - w, b) if not steps else b
            for _ in range(steps):
                z = w @ z + b
        z = w @ z + b
        if z.requires_grad:
            matrix = (eye - (w.mT if transposed else w)).detach()
            z.register_hook(lambda g: factor * torch.linalg.solve(matrix, g))
        return z

    return function


W = torch.tensor([[0.1, 0.05], [-0.12, 0.08]], dtype=torch.float64, requires_grad=True)
B = torch.tensor([1.0, -0.5], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("steps", [0, 30, 6])
def test_a_right_implicit_layer_is_not_accused(steps: int):
    (result,) = check(equilibrium(steps=steps), W, B, modes="reverse", seed=1)
    assert result.verdict in (Verdict.AGREES, Verdict.UNDECIDED), result
    assert "what" in result.reason
    assert "detaches" in result.reason
    if not steps:
        assert gradcheck(equilibrium(steps=steps), (W, B), check_undefined_grad=False)


@pytest.mark.parametrize("wrong", [{"transposed": False}, {"factor": 1.01}])
@pytest.mark.parametrize("steps", [0, 30])
def test_a_wrong_one_is_found(steps: int, wrong: dict[str, Any]):
    (result,) = check(equilibrium(steps=steps, **wrong), W, B, modes="reverse", seed=1)
    assert result.verdict is Verdict.WRONG, result
