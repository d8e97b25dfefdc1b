"""What a person reads, held by snapshots; read them as a stranger would before accepting a change."""

from __future__ import annotations

import io
from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from diffcheck.report.rows import layout
from diffcheck.report.terminal import Terminal, console_for, text_of

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

    from diffcheck.report.summary import Run

HEADER = "diffcheck 0.1.0, torch 2.13.0: 1 case, 100 examples each, seed 1234"
NAMES = [
    "passing",
    "wrong",
    "inaccurate",
    "regression",
    "unsupported",
    "not_available",
    "asked_for",
    "undecided",
    "undefined",
    "error",
    "import_error",
    "internal",
    "strict",
    "interrupted",
    "stopped",
]


class Stream(io.StringIO):
    """A stream with an encoding, and perhaps a terminal behind it."""

    def __init__(self, encoding: str = "utf-8", *, terminal: bool = False) -> None:
        super().__init__()
        self._encoding = encoding
        self._terminal = terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


def printed(run: Run, console: Console, verbosity: int = 0) -> str:
    """What a run prints."""
    assert isinstance(console.file, io.StringIO)
    terminal = Terminal(console, layout(console, [result.id for result in run.results]), verbosity, run.strict)
    terminal.start(HEADER)
    for _id, group in groupby(run.results, key=lambda result: result.id):
        terminal.case(list(group))
    terminal.finish(run)
    return console.file.getvalue()


def plain(width: int, encoding: str = "utf-8") -> Console:
    """A pipe of some width."""
    return Console(file=Stream(encoding), width=width, markup=False, highlight=False, emoji=False)


def test_every_scene_is_tested(scenes: dict[str, Run]) -> None:
    assert sorted(NAMES) == sorted(scenes)


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", NAMES)
def test_text(name: str, width: int, scenes: dict[str, Run], snapshot: SnapshotAssertion) -> None:
    assert printed(scenes[name], plain(width)) == snapshot


@pytest.mark.parametrize("verbosity", [-1, 1])
@pytest.mark.parametrize("name", ["passing", "wrong", "internal"])
def test_quiet_and_verbose(name: str, verbosity: int, scenes: dict[str, Run], snapshot: SnapshotAssertion) -> None:
    assert printed(scenes[name], plain(100), verbosity) == snapshot


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [20, 45, 60, 80, 100, 120, 200])
def test_tables_fit(width: int, name: str, scenes: dict[str, Run]) -> None:
    """No heading and no row is wider than the terminal, down to 20 columns."""
    lines = printed(scenes[name], plain(width)).splitlines()
    rows = [line for line in lines if line.split()[:1] in (["verdict"], ["proved"], ["wrong"], ["agrees"])]
    assert rows
    assert max(map(len, rows)) <= max(width, 24)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_trails(name: str, scenes: dict[str, Run]) -> None:
    assert not [line for line in printed(scenes[name], plain(80)).splitlines() if line != line.rstrip()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_any_encoding_will_do(encoding: str, name: str, scenes: dict[str, Run]) -> None:
    printed(scenes[name], plain(80, encoding)).encode(encoding)


def test_replay_is_one_line(scenes: dict[str, Run]) -> None:
    """It is there to be copied into a shell."""
    run = scenes["wrong"]
    finding = run.results[0].finding
    assert finding
    assert any(line.endswith(finding.replay) for line in printed(run, plain(40)).splitlines())


def test_colour_is_for_terminals_only(scenes: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" in printed(scenes["wrong"], console_for(Stream(terminal=True)))
    assert "\x1b" not in printed(scenes["wrong"], console_for(Stream()))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in printed(scenes["wrong"], console_for(Stream(terminal=True)))


def test_a_case_can_not_send_escapes(scenes: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """A message holds whatever the case put there, and must not clear the screen."""
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(scenes["error"], console_for(Stream(terminal=True)))
    assert "\x1b" not in text
    assert r"\x1b[31mdo not\x07 match" in text


def test_brackets_are_not_markup(scenes: dict[str, Run]) -> None:
    assert "shapes [2] and [3]" in printed(scenes["error"], plain(100))


def test_pipe_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console_for(Stream()).width == 120
    monkeypatch.setenv("COLUMNS", "70")
    assert console_for(Stream()).width == 70


def test_text_for_a_file_is_the_same(scenes: dict[str, Run]) -> None:
    run = scenes["wrong"]
    assert text_of(run, HEADER, 0) == printed(run, plain(120))
