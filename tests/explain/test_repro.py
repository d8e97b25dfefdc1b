"""A finding's script runs without diffcheck's help and prints both values."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from diffcheck import case
from diffcheck.checking.check import check
from diffcheck.declare.case import Case
from diffcheck.declare.load import Broken, collect
from diffcheck.settings import Settings
from diffcheck.verdict import Finding
from tests.checking.test_check import VECTOR

CASES = """\
import torch
from jaxtyping import Float
from torch import Tensor

from diffcheck import case


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(x, factor):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return ctx.factor * x**2 * grad, None

    @staticmethod
    def jvp(ctx, tangent, _):
        return tangent * 2


@case
def cube(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    return Cube.apply(x, 2)


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x.detach() ** 2 * grad


@case
def twice(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    return Twice.apply(x)


class ByMemory(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * grad * torch.as_strided(x, x.shape, (x.shape[1], 1))


@case
def by_memory(x: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    return ByMemory.apply(x)


@case(gradient=lambda x: 3 * x)
def square(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    return (x**2).sum()


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, x: Float[Tensor, "2"]) -> Float[Tensor, "2"]:
        return Cube.apply(self.weight, 2) + x


layer = case(Layer())
"""


def finding(folder: Path, name: str, mode: str) -> Finding:
    """What is found of a case of the file."""
    file = folder / "wrong.py"
    file.write_text(CASES, encoding="utf-8")
    (loaded,) = collect([f"{file}::{name}"])
    assert not isinstance(loaded, Broken)
    assert isinstance(loaded.case, Case)
    settings = Settings(seed=3, modes=(mode,), dtypes=("float64",), database=False)
    (found,) = [
        r.finding for r in check(loaded.case, settings, case_id=loaded.id, location=loaded.location) if r.finding
    ]
    return found


def printed(script: str) -> tuple[float, float]:
    """What a script prints: PyTorch's value and the certified one."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(script, {"__name__": "pasted"})  # noqa: S102 - it is our own
    first, second = out.getvalue().splitlines()
    return float(first.removeprefix("PyTorch")), float(second.removeprefix("certified"))


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("cube", "reverse"),
        ("cube", "forward"),
        ("twice", "reverse-over-reverse"),
        ("cube", "forward-over-reverse"),
        ("cube", "reverse-over-forward"),
        ("cube", "forward-over-forward"),
        ("twice", "reverse-over-reverse-over-reverse"),
        ("cube", "forward-over-reverse-over-reverse"),
        ("cube", "reverse-over-forward-over-reverse"),
        ("cube", "forward-over-forward-over-reverse"),
        ("cube", "reverse-over-forward-over-forward"),
        ("by_memory", "reverse"),
        ("square", "reverse"),
        ("layer", "reverse"),
    ],
)
def test_it_shows_the_finding(tmp_path: Path, name: str, mode: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = finding(tmp_path, name, mode)
    assert printed(found.repro) == (found.autograd, float(found.certified))


def test_it_is_a_script_of_its_own(tmp_path: Path):
    found = finding(tmp_path, "cube", "reverse")
    answer = subprocess.run(
        [sys.executable, "-c", found.repro], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert answer.stdout.split()[:2] == ["PyTorch", repr(found.autograd)]
    assert found.line == "wrong.py:21 in backward"


def test_what_cannot_be_imported_has_none():
    it = case(lambda x: x * x.detach(), inputs={"x": VECTOR}, name="it", gradient=lambda x: 2 * x)
    settings = Settings(seed=3, modes=("reverse",), dtypes=("float64",), database=False)
    results = list(check(it, settings, case_id="it", location="it"))
    assert [r.finding.repro for r in results if r.finding] == [""]
