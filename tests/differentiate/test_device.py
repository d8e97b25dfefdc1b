"""Where PyTorch computes: what is there, and derivatives that come back in another form than they should.

No test machine has a second device. `meta` stands for one where that is enough, since its tensors hold no numbers, and
`cpu:0` takes every way that a device takes which is not the usual one; `tests/benchmarks/second_device.py` builds one.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from diffcheck import gradcheck
from diffcheck.api.library import check
from diffcheck.differentiate.device import computing_on, seed_generator, why_absent
from diffcheck.errors import DeclarationError
from diffcheck.verdict import Result, Verdict

VECTOR = {"x": Float[Tensor, "n"]}
NO_GPU = f"torch {torch.__version__} finds no GPU here (torch.cuda.is_available() is False)"


@pytest.fixture
def _two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    there = types.SimpleNamespace(is_available=lambda: True, device_count=lambda: 2)
    monkeypatch.setattr(torch, "get_device_module", lambda _: there)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("cpu", ""),
        ("cpu:0", ""),
        ("cpu:1", "PyTorch knows one cpu"),
        ("meta", "tensors on meta hold no numbers"),
        ("tpu", "'tpu' is no device of PyTorch's, as cpu, cuda and cuda:1 are"),
        ("hpu", f"torch {torch.__version__} finds no such device here (torch.hpu.is_available() is False)"),
    ],
)
def test_what_is_there(name: str, why: str):
    assert why_absent(name) == why


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert why_absent("cuda") == NO_GPU
    with pytest.raises(DeclarationError) as caught:
        check(torch.sin, inputs=VECTOR, device="cuda")
    assert str(caught.value) == f"sin: it can't be computed on cuda: {NO_GPU}"


@pytest.mark.usefixtures("_two_gpus")
def test_one_gpu_of_several():
    assert [why_absent(name) for name in ("cuda", "cuda:1", "cuda:2")] == [
        "",
        "",
        "there are 2, the last one is cuda:1",
    ]


def test_new_tensors_are_made_there():
    with computing_on("meta"):
        assert torch.ones(1).device.type == "meta"
    with computing_on("cpu:0"):
        assert torch.ones(1).device.type == "cpu"


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_a_seed_gives_the_same_numbers(device: str):
    draws = []
    for _ in range(2):
        seed_generator(device, 3)
        draws.append(torch.rand(2).tolist())
    assert draws[0] == draws[1]


# ---------------------------------------------------------------------------------------------------------------------
# As a library
# ---------------------------------------------------------------------------------------------------------------------


def test_a_result_says_where_it_was_computed():
    assert {r.device for r in check(torch.sin, inputs=VECTOR, examples=3)} == {"cpu"}
    found = check(torch.sin, inputs=VECTOR, examples=3, device="cpu:0")
    assert {(r.device, r.verdict) for r in found} == {("cpu:0", Verdict.PROVED)}
    assert check(torch.sin, torch.ones(2), device=torch.device("cpu")).proved


def test_the_same_is_drawn_on_every_device():
    def wrong(x: Tensor) -> Tensor:
        return torch.nn.functional.hardsigmoid(x)

    here, there = (check(wrong, inputs=VECTOR, seed=1, device=d, modes="reverse")[0] for d in ("cpu", "cpu:0"))
    assert here.finding is not None
    assert there.finding is not None
    assert here.finding.inputs == there.finding.inputs
    assert here.finding.replay == there.finding.replay == "the same call with seed=1"


def test_inputs_that_lie_elsewhere():
    with pytest.raises(DeclarationError) as caught:
        check(torch.sin, torch.ones(2, device="meta"), device="cpu", dtypes=["float32"])
    assert str(caught.value) == (
        "sin: device='cpu', but its inputs lie on meta: move them, and a module, with .to('cpu')"
    )
    with pytest.raises(DeclarationError, match="sin: it can't be computed on meta: tensors on meta hold no numbers"):
        check(torch.sin, torch.ones(2, device="meta"))
    with pytest.raises(DeclarationError, match="add: its inputs lie on several devices, cpu, meta"):
        check(torch.add, torch.ones(2, device="meta"), torch.ones(2))


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives of another form
# ---------------------------------------------------------------------------------------------------------------------


def cube(converted: Callable[[Tensor], Tensor], *, forward: bool) -> Callable[[Tensor], Tensor]:
    """x³ with a derivative that has been converted."""

    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.x = x
            return x**3

        @staticmethod
        def jvp(ctx: Any, tangent: Tensor) -> Tensor:
            return converted(3 * ctx.x**2 * tangent)

    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return converted(3 * x**2 * grad)

    applied: Callable[[Tensor], Tensor] = Forward.apply if forward else Reverse.apply
    return applied


def judged(converted: Callable[[Tensor], Tensor], mode: str, dtype: str = "float64") -> Result:
    function = cube(converted, forward=mode == "forward")
    (result,) = check(function, inputs=VECTOR, examples=5, seed=1, modes=mode, dtypes=[dtype])
    return result


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_what_is_not_converted_is_right(mode: str):
    assert judged(Tensor.clone, mode).verdict is Verdict.PROVED


@pytest.mark.parametrize(
    ("converted", "dtype", "form", "expected"),
    [
        (lambda t: t.to("meta"), "float64", "float64 of shape [1] on meta", "float64 of shape [1] on cpu"),
        (lambda t: t.float(), "float64", "float32 of shape [1] on cpu", "float64 of shape [1] on cpu"),
        (lambda t: t.double(), "float32", "float64 of shape [1] on cpu", "float32 of shape [1] on cpu"),
        (lambda t: t + 0j, "float64", "complex128 of shape [1] on cpu", "float64 of shape [1] on cpu"),
    ],
    ids=["device", "narrower", "wider", "complex"],
)
def test_a_tangent_of_another_form(converted: Callable[[Tensor], Tensor], dtype: str, form: str, expected: str):
    result = judged(converted, "forward", dtype)
    assert result.verdict is Verdict.ERROR
    assert result.reason == (
        f"the derivative of case 'apply' for y is {form}, and y is {expected}: convert it in the derivative"
    )


@pytest.mark.parametrize(
    ("converted", "message"),
    [
        (lambda t: t.to("meta"), "returned an invalid gradient at index 0 - expected device cpu but got meta"),
        (lambda t: t.sum(), "returned an invalid gradient at index 0 - got [] but expected shape compatible with [1]"),
    ],
    ids=["device", "shape"],
)
def test_a_gradient_of_another_form_is_refused_by_autograd(converted: Callable[[Tensor], Tensor], message: str):
    result = judged(converted, "reverse")
    assert result.verdict is Verdict.ERROR
    assert message in result.reason


def test_a_gradient_that_is_sparse_can_not_be_followed():
    result = judged(Tensor.to_sparse, "reverse")
    assert (result.verdict, result.reason) == (
        Verdict.UNSUPPORTED,
        "sparse tensors: a shadow stands beside a strided storage",
    )


def test_gradcheck_asks_for_devices_too():
    function = cube(lambda t: t.to("meta"), forward=True)
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"for y is float64 of shape \[2\] on meta"):
        gradcheck(function, x, check_forward_ad=True, check_backward_ad=False, check_undefined_grad=False)
