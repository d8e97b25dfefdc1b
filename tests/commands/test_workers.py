"""Several processes give what one gives, and a case that takes its process down costs that case only."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from diffcheck.commands import workers
from diffcheck.declare.load import Loaded
from diffcheck.settings import Settings
from diffcheck.verdict import Result, Verdict

if TYPE_CHECKING:
    from pathlib import Path

CASES = """
import os, signal
from jaxtyping import Float
from torch import Tensor
from diffcheck import case

@case
def first(x: Float[Tensor, "n"]):
    return x * x

@case
def dies(x: Float[Tensor, "n"]):
    os.kill(os.getpid(), signal.SIGSEGV)

@case
def last(x: Float[Tensor, "n"]):
    return x.sum()
"""


def run(folder: Path, *options: str) -> dict[str, Any]:
    """The JSON report of a run over the cases above."""
    (folder / "some.py").write_text(CASES)
    command = [
        sys.executable,
        "-m",
        "diffcheck",
        "run",
        "some.py",
        "--examples",
        "5",
        "--seed",
        "1",
        "--format",
        "json",
    ]
    done = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_crash_costs_its_case_only(tmp_path: Path) -> None:
    """The case whose process died says so; the ones before and after it are checked."""
    report = run(tmp_path, "-j", "2")
    verdicts = {(r["id"].partition("::")[2], r["verdict"]) for r in report["results"]}
    assert verdicts == {("first", "proved"), ("dies", "error"), ("last", "proved")}
    (dead,) = (r for r in report["results"] if r["verdict"] == "error")
    assert dead["reason"].startswith("its process died")


def test_processes_change_nothing(tmp_path: Path) -> None:
    """The same seed gives the same results in one process and in two, in the same order."""

    def settled(report: dict[str, Any]) -> list[dict[str, Any]]:
        return [{k: v for k, v in r.items() if k != "seconds"} for r in report["results"]]

    one = run(tmp_path, "-j", "1", "-k", "not dies")
    two = run(tmp_path, "-j", "2", "-k", "not dies")
    assert settled(one) == settled(two)


class Hanging:
    """A case that hangs where no alarm is heard, once for each time that it is asked."""

    def run(self, settings: Any, *, case_id: str, location: str) -> Any:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGTERM})  # as in a kernel
        time.sleep(120)
        yield


class Fine:
    def run(self, settings: Any, *, case_id: str, location: str) -> Any:
        yield Result(case_id, "reverse", "float64", Verdict.PROVED)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="what it puts in place of our limits reaches workers by fork only")
def test_a_case_that_hangs_is_ended_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "_GRACE", 1.0)
    monkeypatch.setattr(workers, "WAITED", 1.0)
    monkeypatch.setattr(workers, "_limited_memory", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(workers, "_prepare", lambda: None)
    found: dict[str, Any] = {"hangs": Hanging(), "one": Fine(), "two": Fine()}
    items: list[Any] = [Loaded(f"some.py::{n}", tmp_path / "some.py", n, c, private=False) for n, c in found.items()]
    with workers.workers(items, Settings(seconds=0.5), 2) as checked:
        results = [next(iter(checked(i))) for i in range(3)]
    assert [r.verdict for r in results] == [Verdict.UNDECIDED, Verdict.PROVED, Verdict.PROVED]
    assert results[0].reason == "its process was ended after 2 seconds: it hung in a kernel, or is far too slow"


WITHOUT_COMPILER = """
import sys
import torch
from torch.autograd import forward_ad
from diffcheck.differentiate import dynamo

def derivative(f):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(torch.tensor(3.0), torch.tensor(1.0)))).tangent.item()

f = lambda x: 2 * x * x + 3
{prepare}
assert derivative(f) == 12.0
print("torch._dynamo" in sys.modules)
assert torch.compile(f, backend="eager")(torch.tensor(3.0)).item() == 21.0
assert derivative(f) == 12.0
"""


@pytest.mark.parametrize(("prepare", "imported"), [("dynamo.not_imported()", "False"), ("", "True")])
def test_forward_mode_imports_no_compiler(prepare: str, imported: str):
    """And the compiler still works: PyTorch alone would have imported it, which is why it is kept from that."""
    code = WITHOUT_COMPILER.replace("{prepare}", prepare)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout.split() == [imported], ended.stderr
    assert ended.returncode == 0, ended.stderr
