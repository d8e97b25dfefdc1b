"""What some systems lack is taken away: the same verdicts. And kernels for other processors: no other accusations."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

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
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
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
    looked = [sys.executable, "-c", "import os, signal, numpy; print(hasattr(os, 'fork'), hasattr(signal, 'setitimer'), "
              "numpy.finfo(numpy.longdouble).nmant)"]  # fmt: skip
    assert subprocess.check_output(looked, env=environment, text=True).split() == ["False", "False", "52"]
    assert settled(command(folder, environment, *RUN)) == usual
