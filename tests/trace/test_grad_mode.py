"""Why autograd is off: inside of Functions of every style nothing is frozen by that, and what people freeze is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import grad, jvp, vmap

from diffcheck import check
from diffcheck.verdict import Verdict

Unary: TypeAlias = Callable[[Tensor], Tensor]

X = torch.tensor([0.3, -1.2], dtype=torch.float64)


def verdicts(function: Unary, modes: str | list[str] = "reverse") -> set[Verdict]:
    return {result.verdict for result in check(function, X, modes=modes, dtypes=["float64"], seed=1)}


# ---------------------------------------------------------------------------------------------------------------------
# x³ as a Function, of every style, whose derivative is `factor` x²
# ---------------------------------------------------------------------------------------------------------------------


class Combined(torch.autograd.Function):
    """The context in the forward, which takes a detour over what would be frozen outside."""

    factor = 3

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        with torch.no_grad():
            square = x.detach() * x
        y = torch.empty_like(x)
        y.copy_(square)
        return y.mul_(x)

    @classmethod
    def backward(cls, ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return cls.factor * x**2 * grads[0]

    @classmethod
    def jvp(cls, ctx: Any, *tangents: Any) -> Any:
        (x,) = ctx.saved_tensors
        return cls.factor * x**2 * tangents[0]


class Separate(Combined):
    """The context apart."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:  # type: ignore[override]  # of another style
        return x.detach() ** 2 * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)


class Prepared(Separate):
    """What the backward needs is computed where the context is set up."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        root = inputs[0].detach() * 1
        ctx.save_for_backward(root)
        ctx.save_for_forward(root)


class OwnVmap(Separate):
    """Its vmap computes, and does not only apply the Function again."""

    generate_vmap_rule = False

    @classmethod
    def vmap(cls, info: Any, in_dims: Any, x: Tensor) -> Any:
        return cls.apply(x * 1), in_dims[0]


class Once(Combined):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grads[0]


class Outer(Combined):
    """Another Function inside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return Combined.apply(x.detach() * 1)


class Recorded(Combined):
    """Autograd inside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        with torch.enable_grad():
            again = x.detach().requires_grad_()
            return torch.autograd.grad((again**4 / 4).sum(), again)[0]


class Transformed(Combined):
    """A transform inside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return grad(lambda t: (t**4 / 4).sum())(x)


class Moved(Combined):
    """Forward mode inside, which PyTorch switches on again for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return jvp(lambda t: t**4 / 4, (x,), (torch.ones_like(x),))[1]


class Decorated(Combined):
    """A forward that is no plain function."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return Combined.forward(ctx, x)


STYLES = [Combined, Separate, Prepared, OwnVmap, Outer, Recorded, Transformed, Decorated]


def wrong(style: type[Combined]) -> Any:
    return type(f"Wrong{style.__name__}", (style,), {"factor": 2})


@pytest.mark.parametrize("style", STYLES)
def test_a_functions_forward_freezes_nothing(style: type[Combined]):
    assert verdicts(style.apply, ["reverse", "forward"]) == {Verdict.PROVED}


@pytest.mark.parametrize("style", [Combined, Separate, Outer])
def test_what_is_wrong_in_a_function_is_found(style: type[Combined]):
    assert verdicts(wrong(style).apply, ["reverse", "forward"]) == {Verdict.WRONG}


@pytest.mark.parametrize("style", [Once, Moved])
def test_a_function_for_reverse_mode_alone(style: type[Combined]):
    assert verdicts(style.apply) == {Verdict.PROVED}
    assert verdicts(wrong(Moved).apply) == {Verdict.WRONG}


@pytest.mark.parametrize("style", [Separate, OwnVmap])
@pytest.mark.parametrize(
    "within",
    [
        lambda apply: vmap(apply),
        lambda apply: lambda x: vmap(grad(lambda t: apply(t) * t))(x),  # 4x³
        lambda apply: lambda x: grad(lambda t: vmap(apply)(t).sum())(x),
        lambda apply: lambda x: jvp(apply, (x,), (x.detach(),))[1],
    ],
    ids=["vmap", "vmap of grad", "grad of vmap", "jvp"],
)
def test_a_function_within_transforms(style: type[Combined], within: Callable[[Unary], Unary]):
    assert verdicts(within(style.apply)) == {Verdict.PROVED}


KEPT = Combined.apply


def under_no_grad(function: Unary) -> Unary:
    def product(x: Tensor) -> Tensor:
        with torch.no_grad():
            constant = function(x)
        return constant * KEPT(x)

    return product


@pytest.mark.parametrize("style", STYLES)
def test_a_function_that_is_applied_under_no_grad_is_a_constant(style: type[Combined]):
    """Whatever it switches on inside, autograd does not connect what it returns; what follows is connected."""
    assert verdicts(under_no_grad(style.apply), ["reverse", "forward"]) == {Verdict.PROVED}


def twice_switched(x: Tensor) -> Tensor:
    """On within off, off within that, and on for the rest."""
    with torch.no_grad():
        with torch.enable_grad():
            y = KEPT(x)
            with torch.no_grad():
                z = KEPT(x)
        constant = KEPT(x)
    return y * z * constant * KEPT(x)


def within_a_backward(x: Tensor) -> Tensor:
    """The engine switches off, the backward on and off again: nothing of that is left behind."""

    class Switching(Combined):
        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            (x,) = ctx.saved_tensors
            with torch.enable_grad():
                y = x * 1
            with torch.no_grad():
                z = y * x
            return 3 * z * grads[0]

    with torch.enable_grad():  # the function is also run where nothing is differentiated
        leaf = x.detach().requires_grad_()
        (constant,) = torch.autograd.grad(Switching.apply(leaf).sum(), leaf)
    return constant * KEPT(x)


@torch.inference_mode()
def _in_inference_mode(x: Tensor) -> Tensor:
    return Combined.apply(x) * 2


def inference(x: Tensor) -> Tensor:
    return _in_inference_mode(x).clone() * KEPT(x)


@pytest.mark.parametrize("function", [twice_switched, within_a_backward, inference])
def test_switches_within_switches(function: Unary):
    assert verdicts(function) == {Verdict.PROVED}


# ---------------------------------------------------------------------------------------------------------------------
# In C++
# ---------------------------------------------------------------------------------------------------------------------

COMPILER = shutil.which(os.environ.get("CXX", "c++"))


@pytest.fixture(scope="module")
def in_cpp(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The Functions of functions.cpp, compiled for this PyTorch."""
    torchs = Path(torch.__file__).parent
    library = tmp_path_factory.mktemp("cpp") / "functions.so"
    assert COMPILER is not None
    subprocess.run(
        [
            COMPILER, "-shared", "-fPIC", "-O0", "-std=c++20", str(Path(__file__).with_name("functions.cpp")),
            "-I", str(torchs / "include"), "-I", str(torchs / "include/torch/csrc/api/include"),
            "-L", str(torchs / "lib"), "-lc10", "-ltorch_cpu", "-o", str(library),
        ],
        check=True,
    )  # fmt: skip
    torch.ops.load_library(str(library))
    return torch.ops.diffcheck_functions


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler is here, and no wheel holds such a Function")
def test_functions_in_cpp(in_cpp: Any):
    """One test, as what it compiles takes seconds: a Function's forward is not frozen, and what a guard guards is."""
    assert verdicts(in_cpp.cube) == {Verdict.PROVED}
    assert verdicts(in_cpp.wrong_cube) == {Verdict.WRONG}
    assert verdicts(lambda x: in_cpp.cube(x * 2)[0] * in_cpp.guarded(x)) == {Verdict.PROVED}
    assert verdicts(under_no_grad(in_cpp.cube)) == {Verdict.PROVED}
    assert verdicts(under_no_grad(in_cpp.guarded)) == {Verdict.PROVED}
    assert verdicts(in_cpp.guarded, ["reverse", "forward"]) == {Verdict.PROVED}
    (refused,) = check(in_cpp.cube, X, modes="forward", dtypes=["float64"])
    assert refused.verdict is Verdict.NOT_AVAILABLE
