"""The audit: a handful of operators end to end, and entries that crash, hang or take all memory."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from diffcheck.audit import report
from diffcheck.audit.database import Entry, entries, samples
from diffcheck.audit.judge import Plan, judge
from diffcheck.audit.pool import Limits
from diffcheck.audit.run import audit
from diffcheck.audit.sampled import repro_of, sampled
from diffcheck.commands.cli import main
from diffcheck.compare.evaluate import DTYPES
from diffcheck.errors import LoadError
from diffcheck.verdict import Result, Verdict

PROVED, UNSUPPORTED, NOT_AVAILABLE = Verdict.PROVED, Verdict.UNSUPPORTED, Verdict.NOT_AVAILABLE
PLAN = Plan(samples=2)


def verdicts(*names: str) -> dict[str, list[tuple[Verdict, str]]]:
    """What an audit says of some entries, mode by mode."""
    found = audit(entries(names), PLAN)
    return {done.name: [(r.verdict, r.reason) for r in done.results] for done in found}


def test_operators_are_judged_in_both_modes() -> None:
    names = ("exp", "addmm", "sort", "nn.functional.dropout", "index_put", "max.binary")
    found = verdicts(*names, "cdist")
    assert {name: [v for v, _ in found[name]] for name in names} == {name: [PROVED, PROVED] for name in names}
    (reverse, _), (forward, reason) = found["cdist"]
    assert (reverse, forward) == (PROVED, NOT_AVAILABLE)
    assert reason.startswith("forward mode: ")


PROVED_IN_HALF = ("exp", "matmul", "sinc")
REFUSED_IN_HALF = ("linalg.householder_product", "cholesky_solve")
"""The first has samples that it can't take; those of the second can't even be made."""


def test_half_precisions_where_pytorch_has_them() -> None:
    for dtype in ("float16", "bfloat16"):
        plan = Plan(modes=("reverse",), dtype=dtype, samples=2)
        found = {done.name: done.results[0] for done in audit(entries([*PROVED_IN_HALF, *REFUSED_IN_HALF]), plan)}
        for name in PROVED_IN_HALF:
            assert found[name].verdict is PROVED, found[name]
        for name in REFUSED_IN_HALF:
            assert report.lacks_mode(found[name]), found[name]
            assert "not implemented for" in found[name].reason


def test_samples_are_small_differ_and_are_the_same_each_time() -> None:
    (entry,) = entries(["cumsum"])
    first, second = (samples(entry, DTYPES["float64"], 3) for _ in range(2))
    assert [s.position for s in first] == [s.position for s in second]
    assert [s.call.input.tolist() for s in first] == [s.call.input.tolist() for s in second]
    sizes = [s.call.input.numel() for s in first]
    assert sizes[0] == 1
    assert sizes[1] > 1


@pytest.mark.parametrize("name", ["linalg.det", "stack", "nn.functional.pad.constant", "__getitem__", "as_strided"])
def test_the_program_of_a_sample_computes_what_is_judged(name: str) -> None:
    (entry,) = entries([name])
    for sample in samples(entry, DTYPES["float64"], 2):
        item = sampled(entry, sample)
        scope: dict[str, object] = {}
        exec("\n".join(repro_of(entry, sample, DTYPES["float64"])), scope)  # noqa: S102 - that it runs is what is tested
        expected = item.case.function(*item.values.values())
        assert scope["y"].tolist() == expected.tolist()  # type: ignore[attr-defined]


def test_on_a_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`cpu:0` takes the way of a device whose driver does not outlive a fork."""
    journal = tmp_path / "audit.jsonl"
    plan = Plan(modes=("reverse",), samples=1, device="cpu:0")
    chosen = entries(["exp", "as_strided_scatter"], device="cpu:0")
    found = {done.name: done.results[0] for done in audit(chosen, plan, jobs=2, journal=journal)}
    right, wrong = found["exp"], found["as_strided_scatter"]
    assert (right.verdict, right.device) == (PROVED, "cpu:0")
    assert (wrong.verdict, wrong.device) == (Verdict.WRONG, "cpu:0")
    assert wrong.finding is not None
    assert wrong.finding.replay == "diffcheck audit --ops 'as_strided_scatter' --mode reverse --device cpu:0"
    text = report.text_of(report.Audit((right, wrong), "diffcheck audit", 1.0))
    assert text.startswith("wrong: as_strided_scatter, reverse, float64, cpu:0 ")
    with pytest.raises(LoadError, match="stands for another audit: device cpu:0 instead of cpu; give --resume another"):
        list(audit(chosen, Plan(modes=("reverse",), samples=1), journal=journal))
    assert main(["audit", "--ops", "exp", "--device", "cuda:7"]) == 4
    assert "--device cuda:7: " in capsys.readouterr().err


def die(entry: Entry, plan: Plan) -> Iterator[Result]:
    yield Result(entry.name, "reverse", plan.dtype, PROVED)
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_device_that_takes_its_process_with_it_costs_that_entry_only() -> None:
    """What was finished stays, and what was not says where it was to be computed."""
    (done,) = audit(entries(["exp"]), replace(PLAN, device="cpu:0"), work=die)
    reason = "its process died of SIGKILL: it crashed in a kernel, or was killed"
    assert [(r.verdict, r.device, r.reason) for r in done.results[1:]] == [(Verdict.ERROR, "cpu:0", reason)]


def test_an_older_journal_is_one_of_the_cpu(tmp_path: Path) -> None:
    journal = tmp_path / "audit.jsonl"
    chosen = [Entry("one", None)]
    list(audit(chosen, PLAN, work=well, journal=journal))
    begun, *rest = journal.read_text().splitlines()
    plan = json.loads(begun)
    del plan["audit"]["device"]
    journal.write_text("\n".join([json.dumps(plan), *rest]) + "\n")
    assert len(next(audit(chosen, PLAN, work=crash, journal=journal)).results) == 2


def test_what_the_database_has_on_a_gpu() -> None:
    """Its entries say in which dtypes they are differentiable there: `cholesky_inverse` is not in bfloat16."""
    names = {entry.name for entry in entries(device="cuda")}
    assert len(names) > 500
    (entry,) = entries(["cholesky_inverse"], device="cuda")
    (result,) = judge(entry, Plan(modes=("reverse",), dtype="bfloat16", device="cuda"))
    assert (result.verdict, result.device) == (NOT_AVAILABLE, "cuda")
    assert result.reason == "bfloat16: PyTorch's database has no derivative of it in that on cuda"
    assert report.lacks_mode(result)


def test_the_program_of_a_sample_says_the_device() -> None:
    (entry,) = entries(["__getitem__"])
    (sample,) = samples(entry, DTYPES["float64"], 1)
    said = repro_of(entry, sample, DTYPES["float64"], "cpu:0")
    assert 'samples = op.sample_inputs("cpu:0", torch.float64, requires_grad=True)' in said


# ---------------------------------------------------------------------------------------------------------------------
# Entries that do not come to an end by themselves
# ---------------------------------------------------------------------------------------------------------------------


def well(entry: Entry, plan: Plan) -> Iterator[Result]:
    for mode in plan.modes:
        yield Result(entry.name, mode, plan.dtype, PROVED)


def crash(entry: Entry, plan: Plan) -> Iterator[Result]:
    yield Result(entry.name, "reverse", plan.dtype, PROVED)
    faulthandler.disable()  # pytest's, which would print the stack
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(entry: Entry, plan: Plan) -> Iterator[Result]:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGTERM})  # as in a kernel
    time.sleep(60)
    yield Result(entry.name, "reverse", plan.dtype, PROVED)


def devour(entry: Entry, plan: Plan) -> Iterator[Result]:
    yield Result(entry.name, "reverse", plan.dtype, PROVED)
    bytearray(2**36)


def slip(entry: Entry, plan: Plan) -> Iterator[Result]:
    raise ZeroDivisionError("ours")
    yield


def test_a_fault_costs_its_entry_only() -> None:
    works = {"crash": crash, "hang": hang, "devour": devour, "slip": slip, "well": well}
    fakes = [Entry(name, None) for name in works]

    def work(entry: Entry, plan: Plan) -> Iterator[Result]:
        return works[entry.name](entry, plan)

    started = time.monotonic()
    done = {d.name: d.results for d in audit(fakes, PLAN, work=work, limits=Limits(1.0, 2**30), jobs=2)}
    assert time.monotonic() - started < 10
    said = {name: [(r.mode, r.verdict.value, r.reason) for r in results] for name, results in done.items()}
    died = "its process died of SIGSEGV: it crashed in a kernel, or was killed"
    hung = "its process was ended after 1 seconds: it hung in a kernel, or is far too slow"
    assert said == {
        "well": [("reverse", "proved", ""), ("forward", "proved", "")],
        "crash": [("reverse", "proved", ""), ("forward", "error", died)],
        "hang": [("reverse", "undecided", hung), ("forward", "undecided", hung)],
        "devour": [("reverse", "proved", ""), ("forward", "undecided", "it needs more than 1 GiB of memory")],
        "slip": [(m, "error", "internal error of diffcheck: ZeroDivisionError: ours") for m in ("reverse", "forward")],
    }


# ---------------------------------------------------------------------------------------------------------------------
# The journal
# ---------------------------------------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "diffcheck", "audit", "--samples", "1", "--mode", "reverse", "--format", "json"]


def test_killed_it_goes_on_where_it_was(tmp_path: Path) -> None:
    journal = tmp_path / "audit.jsonl"
    options = ["--ops", "[a-c]*", "--resume", str(journal)]
    first = subprocess.Popen([*COMMAND, *options], stdout=subprocess.DEVNULL)
    while not journal.exists() or journal.read_bytes().count(b"\n") < 4:
        assert first.poll() is None
        time.sleep(0.02)
    first.kill()
    first.wait()
    left = journal.read_bytes()
    journal.write_bytes(left + b'{"entry": "half of a li')
    names = [json.loads(line)["entry"] for line in left.splitlines()[1:]]
    known = [entry.name for entry in entries(["[a-c]*"])]
    assert names == known[: len(names)]
    assert len(names) < len(known) - 10
    asked = names[:3] + known[len(names) : len(names) + 3]
    options = [part for name in asked for part in ("--ops", name)]
    second = subprocess.run([*COMMAND, *options, "--resume", str(journal)], capture_output=True, text=True, check=False)
    assert [result["id"] for result in json.loads(second.stdout)["results"]] == asked
    after = journal.read_bytes()
    assert after.startswith(left)
    assert [json.loads(line)["entry"] for line in after[len(left) :].splitlines()] == asked[3:]


def test_results_of_another_audit_are_not_mixed_in(tmp_path: Path) -> None:
    journal = tmp_path / "audit.jsonl"
    chosen = [Entry("one", None)]
    list(audit(chosen, PLAN, work=well, journal=journal))
    assert len(next(audit(chosen, PLAN, work=crash, journal=journal)).results) == 2
    with pytest.raises(LoadError, match="stands for another audit: samples 2 instead of 3; give --resume another file"):
        list(audit(chosen, Plan(samples=3), work=well, journal=journal))
    journal.write_text("something else\n")
    with pytest.raises(LoadError, match="is no journal of an audit"):
        list(audit(chosen, PLAN, work=well, journal=journal))


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------


def test_without_expecttest_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['expecttest'] = None; import diffcheck.commands.cli as c; sys.exit(c.main(['audit']))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 4
    assert ended.stdout == ""
    assert ended.stderr == (
        "diffcheck: error: PyTorch's database of operators needs the package expecttest: "
        "pip install 'torch-diffcheck[audit]'\n"
    )


def test_an_unknown_operator_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--ops", "no.such"]) == 4
    assert "no differentiable operator of the database is named no.such" in capsys.readouterr().err


def results() -> tuple[Result, ...]:
    lacking = "forward mode: Trying to use forward AD with cdist that does not support it"
    return (
        Result("exp", "reverse", "float64", PROVED),
        Result("exp", "forward", "float64", PROVED),
        Result("cdist", "reverse", "float64", Verdict.AGREES, reason="not proved: input[0], too many cases [sample 3]"),
        Result("cdist", "forward", "float64", NOT_AVAILABLE, reason=lacking),
        Result("odd", "reverse", "float64", UNSUPPORTED, reason="aten.odd: no rule [sample 1]", details=("y = odd()",)),
        Result("odd", "forward", "float64", UNSUPPORTED, reason="aten.odd: no rule [sample 2]", details=("y = odd()",)),
    )


def test_the_report(snapshot: object) -> None:
    assert report.text_of(report.Audit(results(), "diffcheck audit", 61.0)) == snapshot


def test_the_page_for_the_documents(snapshot: object) -> None:
    text = report.markdown_of(report.Audit(results(), "diffcheck audit", 61.0))
    first, made, *rest = text.split("\n\n")
    assert made.startswith("Written by `diffcheck audit` on ")
    assert "\n\n".join([first, *rest]) == snapshot
