"""Complex inputs: PyTorch's convention for their gradients, what is right and what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from diffcheck import case, check, gradcheck
from diffcheck.checking.check import rows_of
from diffcheck.report import json_
from diffcheck.report.summary import Run
from diffcheck.settings import Settings
from diffcheck.verdict import Mistake, Result, Verdict

VECTOR = {"z": Complex[Tensor, "n"]}
BOTH = {"z": Complex[Tensor, "n"], "x": Float[Tensor, "n"]}
MATRICES = {"a": Complex[Tensor, "n m"], "b": Complex[Tensor, "m k"]}


def judged(function: Callable[..., Any], inputs: Any = None, mode: str = "reverse", **options: Any) -> Result:
    """The first result."""
    asked: dict[str, Any] = {"dtypes": ["complex128"], "examples": 10, "seed": 1} | options
    return next(iter(check(function, inputs=inputs or VECTOR, modes=[mode], name="it", **asked)))


@pytest.mark.parametrize("mode", ["reverse", "forward", "reverse-over-reverse", "forward-over-reverse", "vmap-reverse"])
@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda z: (z * z.conj()).real.sum(), VECTOR),
        (lambda z: z**3, VECTOR),
        (lambda z: torch.exp(z), VECTOR),
        (lambda z: z.real * z.imag, VECTOR),
        (lambda z, x: z * x, BOTH),
        (lambda a, b: a @ b.conj(), MATRICES),
    ],
)
def test_what_is_right_is_proved(function: Callable[..., Any], inputs: Any, mode: str):
    result = judged(function, inputs, mode)
    assert result.verdict is Verdict.PROVED, result
    assert result.dtype == "complex128"


@pytest.mark.parametrize(
    ("loss", "gradient"),
    [
        # PyTorch's convention: ∂L/∂re + i·∂L/∂im. Of |z|² that is 2z, and of the real part of z² it is 2·conj(z).
        (lambda z: (z * z.conj()).real, lambda z: 2 * z),
        (lambda z: (z * z).real, lambda z: 2 * z.conj()),
        (lambda z: z.imag, lambda z: torch.full_like(z, 1j)),
    ],
)
def test_the_convention(loss: Callable[..., Any], gradient: Callable[..., Any]):
    results = check(loss, inputs=VECTOR, gradient=gradient, name="it", examples=10, seed=1)
    assert [(r.mode, r.dtype, r.verdict) for r in results] == [
        *((mode, dtype, Verdict.PROVED) for mode in ("reverse", "forward") for dtype in ("complex128", "complex64")),
        ("gradient", "complex128", Verdict.PROVED),
    ]
    other = check(loss, inputs=VECTOR, gradient=lambda z: gradient(z).conj(), name="it", examples=10, seed=1)
    assert [r.verdict for r in other if r.mode == "gradient"] == [Verdict.WRONG]


def custom(backward: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    """z² with a backward pass of its own."""

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Tensor) -> Tensor:
            ctx.save_for_backward(z)
            return z * z

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return backward(ctx.saved_tensors[0], grad)

    return Square.apply


@pytest.mark.parametrize("dtype", ["complex128", "complex64"])
@pytest.mark.parametrize(
    ("backward", "mistake"),
    [
        (lambda z, g: 2 * z * g, None),  # the conjugate forgotten, as people do
        (lambda z, g: 2 * (z * g).conj(), None),
        (lambda z, g: z.conj() * g, Mistake.FACTOR),
        (lambda z, g: -2 * z.conj() * g, Mistake.SIGN),
        (lambda z, g: (2 * z.conj() * g).real.to(g.dtype), None),
    ],
)
def test_what_is_wrong_is_found(backward: Callable[..., Any], mistake: Mistake | None, dtype: str):
    assert judged(custom(lambda z, g: 2 * z.conj() * g), dtypes=[dtype]).verdict is Verdict.PROVED
    result = judged(custom(backward), dtypes=[dtype])
    assert result.verdict is Verdict.WRONG
    finding = result.finding
    assert finding.argument in ("z.real", "z.imag")
    assert finding.headline == f"the gradient of {finding.argument}[0] is wrong"
    assert [v.dtype for v in (*finding.inputs, *finding.cotangents)] == [dtype, dtype]
    if mistake is not None:
        assert finding.diagnosis.name is mistake
    text = json_.dumps(Run((result,), 0, 0.0))
    assert json_.loads(text) == [result]


def test_dtypes_are_called_after_the_inputs():
    """One choice of precisions serves cases with complex inputs and cases without."""
    for inputs, names in ((VECTOR, ("complex128", "complex64")), ({"z": Float[Tensor, "n"]}, ("float64", "float32"))):
        it = case(lambda z: z * 2, name="it", inputs=inputs)
        for asked in (("float64", "float32"), ("complex128", "complex64"), ("float64", "complex128", "complex64")):
            assert tuple(dtype for _, dtype in rows_of(it, Settings(modes=("reverse",), dtypes=asked))) == names


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_there_are_no_complex_numbers_of_a_half_precision(dtype: str):
    result = judged(lambda z: z * 2, dtypes=[dtype])
    assert (result.verdict, result.reason) == (
        Verdict.NOT_AVAILABLE,
        f"{dtype}: complex inputs are complex128 or complex64 (asked for by name)",
    )


def test_given_inputs():
    z = torch.tensor([1 + 2j, -0.5j], dtype=torch.complex64)
    assert [(r.dtype, r.verdict) for r in check(lambda z: z * z.conj(), z)] == [("complex64", Verdict.PROVED)] * 2
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert all(r.verdict is Verdict.PROVED for r in check(lambda z, x: z * x, z.to(torch.complex128), x))


def test_gradcheck():
    z = torch.tensor([1 + 2j, -0.5j], dtype=torch.complex128, requires_grad=True)
    assert gradcheck(torch.exp, (z,), check_forward_ad=True)
    assert not gradcheck(custom(lambda z, g: 2 * z * g), (z,), raise_exception=False)
