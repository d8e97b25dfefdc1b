"""What some systems lack is taken away: the same verdicts. And kernels for other processors: no other accusations."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from diffcheck import processes
from diffcheck.commands.cli import main
from diffcheck.declare import load

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("hidden", Path(__file__).with_name("hidden.py"))
hidden = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hidden)

CASES = """
import time
import torch
from jaxtyping import Complex, Float
from torch import Tensor
from diffcheck import case

@case(gradient=lambda x: 4 * x)
def right(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    return 2 * torch.dot(x, x)

@case
def gelu(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    print("what a case prints")
    return torch.nn.functional.gelu(x)

@case(gradient=lambda x: 3 * x)
def wrong(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    return 2 * torch.dot(x, x)

@case
def product(a: Complex[Tensor, "n m"], b: Complex[Tensor, "m k"]) -> Complex[Tensor, "n k"]:
    return a @ b.conj()

@case
def raises(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    raise ValueError("é → 导数")
"""


def command(folder: Path, environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "diffcheck", *words],
        cwd=folder, env=environment, capture_output=True, check=False, timeout=300, encoding="utf-8",
    )  # fmt: skip


def settled(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert not done.stderr.count("Exception ignored"), done.stderr
    return [{k: v for k, v in r.items() if k != "seconds"} for r in json.loads(done.stdout)["results"]]


RUN = ("run", "some.py", "--examples", "20", "--seed", "1", "-j", "2", "--format", "json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With cases."""
    found = tmp_path_factory.mktemp("cases")
    (found / "some.py").write_text(CASES, encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def usual(folder: Path) -> list[dict[str, Any]]:
    """The results where nothing is hidden."""
    found = settled(command(folder, os.environ, *RUN))
    verdicts = {(r["id"].partition("::")[2], r["verdict"]) for r in found}
    assert {("right", "proved"), ("wrong", "wrong"), ("product", "proved"), ("raises", "error")} <= verdicts
    return found


def test_nothing_else_changes(folder: Path, usual: list[dict[str, Any]], tmp_path: Path):
    """All that is hidden at once: processes are started anew, nothing limits memory, a thread is the alarm."""
    environment = hidden.environment(tmp_path, hidden.WORDS)
    seen = "hasattr(os, 'fork'), hasattr(signal, 'setitimer'), numpy.finfo(numpy.longdouble).nmant"
    looked = [sys.executable, "-c", f"import os, signal, numpy; print({seen})"]
    assert subprocess.check_output(looked, env=environment, text=True).split() == ["False", "False", "52"]
    assert settled(command(folder, environment, *RUN)) == usual


def test_operators_are_judged_as_elsewhere(folder: Path, tmp_path: Path):
    """By processes of an audit that begin with nothing, and serve on."""
    asked = ("audit", "--ops", "exp", "--ops", "as_strided_scatter", "--mode", "reverse", "--samples", "1")
    found = settled(command(folder, hidden.environment(tmp_path, hidden.WORDS), *asked, "--format", "json"))
    assert {r["id"]: r["verdict"] for r in found} == {"exp": "proved", "as_strided_scatter": "wrong"}


KERNELS = """
import os, torch
from jaxtyping import Complex
from torch import Tensor
from diffcheck import check

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
inputs = {"a": Complex[Tensor, "n m"], "b": Complex[Tensor, "m k"]}
for result in check(lambda a, b: a @ b.conj(), inputs=inputs, modes=["reverse"], examples=30, seed=1):
    print(result.verdict.value, result.reason)
"""


def test_kernels_of_other_processors_are_right_too(tmp_path: Path):
    """`COMPATIBLE` is the kernel that MKL has for processors that are not Intel's: it adds up in another order."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "4")
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", **threads}
    done = subprocess.run(
        [sys.executable, "-c", KERNELS], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["proved"] * 2


# ---------------------------------------------------------------------------------------------------------------------
# Consoles and paths
# ---------------------------------------------------------------------------------------------------------------------

NAMES = '''
from jaxtyping import Float
from torch import Tensor
from diffcheck import case

@case
def größe_导数(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """xᵀ → ∑ … 导数"""
    return x * x
'''
SHOWN = {
    "cp1252": "größe_\\u5bfc\\u6570  x: real[n]  x^T -> sum … \\u5bfc\\u6570",
    "cp936": "gr\\xf6\\xdfe_导数  x: real[n]  x^T → ∑ … 导数",
    "ascii": "gr\\xf6\\xdfe_\\u5bfc\\u6570  x: real[n]  x^T -> sum ... \\u5bfc\\u6570",
}


@pytest.mark.parametrize("encoding", SHOWN)
def test_a_console_shows_what_it_can(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And nothing fails for the rest, in any command."""
    (tmp_path / "some.py").write_text(NAMES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    few = ("--examples", "2", "--mode", "reverse", "--dtype", "float64")
    assert main(["list", "some.py"]) == 0
    assert main(["show", "some.py::größe_导数"]) == 0
    assert main(["run", "some.py", *few]) == 0
    first, *_, last = written.getvalue().decode(encoding).splitlines()
    assert first.strip() == f"some.py::{SHOWN[encoding]}"
    assert "passed: 1 proved" in last


def test_paths_of_windows_are_read_as_such(monkeypatch: pytest.MonkeyPatch):
    """A drive's colon is no part of `::`."""
    monkeypatch.setattr(load, "Path", PureWindowsFile)
    assert [(str(f), n) for f, n in load._targets(r"C:\x y\some.py::case")] == [(r"C:\x y\some.py", "case")]
    assert [(str(f), n) for f, n in load._targets(r"C:\x y\some.py")] == [(r"C:\x y\some.py", None)]
    monkeypatch.setattr(os, "name", "nt")
    assert processes.typed("C:/x y/some.py::case", "-v") == '"C:/x y/some.py::case" -v'


class PureWindowsFile(PureWindowsPath):
    """A path of Windows at which there is a file, if its name says so."""

    def exists(self) -> bool:
        return self.suffix == ".py"

    def is_dir(self) -> bool:
        return False
