"""`diffcheck audit --against`: what changed since an earlier audit, in words, as JSON, and by exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diffcheck.audit import comparison_report, report
from diffcheck.audit.comparison import Change, Comparison, compare
from diffcheck.audit.earlier import Earlier, read
from diffcheck.audit.judge import Plan
from diffcheck.commands.cli import main
from diffcheck.errors import LoadError
from diffcheck.verdict import PASSING, Result, Verdict

PROVED, AGREES, WRONG, INACCURATE = Verdict.PROVED, Verdict.AGREES, Verdict.WRONG, Verdict.INACCURATE
UNSUPPORTED, NOT_AVAILABLE, ERROR = Verdict.UNSUPPORTED, Verdict.NOT_AVAILABLE, Verdict.ERROR

LACKING = "forward mode: Trying to use forward AD with cdist that does not support it"
GRADIENT, TANGENT = "the gradient of input[0] is wrong [sample 1]", "the tangent of y is wrong [sample 2]"

THEN = (
    ("exp", "reverse", PROVED, ""), ("exp", "forward", PROVED, ""),
    ("broken", "reverse", PROVED, ""), ("broken", "forward", AGREES, "not proved: y, too many terms [sample 0]"),
    ("mended", "reverse", WRONG, GRADIENT), ("mended", "forward", WRONG, TANGENT),
    ("cdist", "reverse", PROVED, ""), ("cdist", "forward", NOT_AVAILABLE, LACKING),
    ("odd", "reverse", WRONG, GRADIENT), ("odd", "forward", ERROR, "case 'odd' raises RuntimeError: no"),
    ("removed", "reverse", PROVED, ""), ("removed", "forward", PROVED, ""),
    ("renamed", "reverse", PROVED, ""), ("renamed", "forward", PROVED, ""),
)  # fmt: skip
NOW = (
    ("exp", "reverse", AGREES, "not proved: input, too many terms [sample 0]"), ("exp", "forward", PROVED, ""),
    ("broken", "reverse", WRONG, GRADIENT), ("broken", "forward", WRONG, GRADIENT),
    ("mended", "reverse", PROVED, ""), ("mended", "forward", AGREES, "not proved: y, too many terms [sample 0]"),
    ("cdist", "reverse", UNSUPPORTED, "aten.cdist_new: no rule [sample 1]"), ("cdist", "forward", PROVED, ""),
    ("odd", "reverse", WRONG, GRADIENT), ("odd", "forward", UNSUPPORTED, "aten.odd: no rule [sample 1]"),
    ("renamed", "reverse", PROVED, ""), ("renamed", "forward", PROVED, ""),
    ("added", "reverse", PROVED, ""), ("added", "forward", WRONG, TANGENT),
)  # fmt: skip


def results(rows: tuple[tuple[str, str, Verdict, str], ...]) -> tuple[Result, ...]:
    return tuple(Result(name, mode, "float64", verdict, reason=reason) for name, mode, verdict, reason in rows)


def earlier(**differing: Any) -> Earlier:
    first = Earlier(Path("old/a.json"), "2.13.0", "0.1.0", Plan(), results(THEN))
    return replace(first, **differing)


def beside(earlier: Earlier, now: tuple[Result, ...] = results(NOW), interrupted: bool = False) -> Comparison:
    return compare(earlier, now, torch="2.14.1", diffcheck="0.1.0", interrupted=interrupted)


def test_the_words_of_a_comparison(snapshot: object) -> None:
    audit = report.Audit(results(NOW), "diffcheck audit", 61.0)
    assert comparison_report.text_of(audit, beside(earlier())) == snapshot


def test_the_page_of_a_comparison(snapshot: object) -> None:
    audit = report.Audit(results(NOW), "diffcheck audit --against a.json", 61.0)
    text = comparison_report.markdown_of(audit, beside(earlier()))
    first, made, *rest = text.split("\n\n")
    assert made.startswith("Written by `diffcheck audit --against a.json` on ")
    assert "\n\n".join([first, *rest]) == snapshot


def test_a_comparison_as_json(snapshot: object) -> None:
    assert json.dumps(comparison_report.as_data(beside(earlier())), indent=2) == snapshot


def test_what_else_may_be_the_cause_is_said() -> None:
    odd = earlier(torch="2.14.1", diffcheck="0.0.9", interrupted=True, patterns=("[b-z]*",))
    assert comparison_report.heading(beside(odd)) == [
        "torch 2.14.1 beside torch 2.14.1 (of a.json)",
        "both audits judged the same PyTorch: what differs comes from elsewhere",
        "that one is by diffcheck 0.0.9, this by 0.1.0: a change may be its own",
        "the earlier audit was interrupted: what it did not get to is only in this one",
        "1 entry not compared: the earlier audit was asked for [b-z]*",
    ]


def test_nothing_changed() -> None:
    compared = beside(earlier(), results(THEN))
    assert comparison_report.closing(compared) == "nothing changed; 14 verdicts as before, 3 of them wrong"
    assert not compared.regressed


def test_an_interrupted_audit_says_nothing_of_what_it_did_not_reach() -> None:
    assert beside(earlier(), results(NOW)[:1], interrupted=True).disappeared == ()
    assert len(beside(earlier(), results(NOW)[:1]).disappeared) == 6  # in the one mode that it has


@pytest.mark.parametrize("was", [*Verdict, None])
@pytest.mark.parametrize("now", Verdict)
def test_every_change_of_a_verdict(was: Verdict | None, now: Verdict) -> None:
    """By a table of the words in docs/audit.md: nothing that passed may stop to without being told as a regression."""
    then = () if was is None else (Result("one", "reverse", "float64", was),)
    compared = beside(earlier(results=then), (Result("one", "reverse", "float64", now),))
    failing = {WRONG, INACCURATE, ERROR}
    assert compared.regressed == (
        (now is WRONG and was is not WRONG)
        or (was in PASSING and now not in PASSING)
        or (now in failing and was not in failing)
    )
    assert bool(compared.changes[Change.MENDED]) == (was in failing and now in PASSING)
    told = [*compared.same, *compared.appeared, *(pair.now for found in compared.changes.values() for pair in found)]
    assert told == [Result("one", "reverse", "float64", now)]
    assert (compared.same != ()) == (was is now)


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------

OPTIONS = ["audit", "--ops", "exp", "--ops", "to_sparse", "--samples", "1"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The JSON report and the journal of one audit, by the command. `to_sparse` does not pass: it has no rule."""
    folder = tmp_path_factory.mktemp("audit")
    journal, document = folder / "audit.jsonl", folder / "audit.json"
    options = ["--mode", "reverse", "--resume", str(journal), "--format", "json", "--output", str(document)]
    assert main([*OPTIONS, *options]) == 1
    return document, journal


def test_both_files_of_an_audit_are_read(written: tuple[Path, Path]) -> None:
    document, journal = map(read, written)
    assert sorted(r.id for r in document.results) == ["exp", "to_sparse"]
    assert (document.plan, document.patterns) == (Plan(("reverse",), samples=1), ("exp", "to_sparse"))
    assert sorted(document.results, key=lambda r: r.id) == sorted(journal.results, key=lambda r: r.id)
    assert replace(document, path=journal.path, results=(), patterns=None) == replace(journal, results=())


def test_what_did_not_pass_before_does_not_fail(written: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """The options are those of the earlier audit: two operators, one mode, one sample."""
    document, _journal = written
    assert main(["audit", "--against", str(document)]) == 0
    said = capsys.readouterr().out
    assert "both audits judged the same PyTorch" in said
    assert "nothing changed; 2 verdicts as before, 0 of them wrong" in said


def edited(path: Path, to: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    document = json.loads(path.read_text())
    change(document)
    to.write_text(json.dumps(document))
    return to


def test_what_passed_and_does_not_fails(
    written: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def mend(document: dict[str, Any]) -> None:
        document["audit"]["torch"] = "2.12.0"
        for result in document["results"]:
            result.update(verdict="proved", reason="", finding=None)

    old = edited(written[0], tmp_path / "old.json", mend)
    assert main(["audit", "--against", str(old), "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["against"]["torch"] == "2.12.0"
    assert [(c["id"], c["earlier"]["verdict"]) for c in document["against"]["worse"]] == [("to_sparse", "proved")]
    assert document["audit"]["ops"] == ["exp", "to_sparse"]
    assert main(["audit", "--against", str(old), "--ops", "exp"]) == 0
    assert "nothing changed; 1 verdict as before, 0 of them wrong" in capsys.readouterr().out


OTHER = "that audit has {0} {1}, this one {2}, and they judge different things; leave {0} away, and it is the same"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dtype", "float32"], OTHER.format("--dtype", "float64", "float32")),
        (["--samples", "2"], OTHER.format("--samples", 1, 2)),
        (["--mode", "reverse,forward"], "that audit did not judge forward: it has --mode reverse"),
    ],
)
def test_audits_of_different_things_are_not_compared(
    written: tuple[Path, Path], capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main(["audit", "--against", str(written[0]), *options]) == 4
    assert capsys.readouterr().err == f"diffcheck: error: --against {written[0]}: {said}\n"


WRITES = "`diffcheck audit --format json --output FILE` and `diffcheck audit --resume FILE` write one"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        (b"", f"this is no audit; {WRITES}"),
        (b"\xff\xfe", f"this is no audit, and no text either; {WRITES}"),
        (b"verdict case mode\n", f"this is no audit; {WRITES}"),
        (b"[1, 2]\n", f"this is JSON, and no audit; {WRITES}"),
        (b'{"entry": "exp", "results": []}\n{"entry": "sin", "results": []}\n', f"this is no audit; {WRITES}"),
        (b'{"version": 1, "results": []}\n', f"this is the report of a run of cases, and no audit; {WRITES}"),
        (b'{"audit": {"torch": "2.13.0", "diffcheck": "0.1.0", "modes": [], "dtype": "float64", "samples": 5}}\n',
         f"the audit has no results; {WRITES}"),
        (b'{"audit": {"torch": "2.13.0"}, "results": []}\n',
         "an audit in a form that this diffcheck does not read (KeyError: 'diffcheck')"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_audit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    path = tmp_path / "old.json"
    if content is not None:
        path.write_bytes(content)
    assert main(["audit", "--against", str(path)]) == 4
    assert capsys.readouterr().err == f"diffcheck: error: --against {path}: {said}\n"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="it can't be read: Is a directory"):
        read(tmp_path)


def test_the_last_line_of_a_journal_may_be_half(written: tuple[Path, Path], tmp_path: Path) -> None:
    half = tmp_path / "half.jsonl"
    half.write_bytes(written[1].read_bytes() + b'{"entry": "si')
    found = read(half)
    assert found.interrupted
    assert found.results == read(written[1]).results
