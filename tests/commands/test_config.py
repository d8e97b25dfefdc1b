"""`[tool.diffcheck]`: where it is found, what it may say, and how the command takes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffcheck import check
from diffcheck.commands.cli import main
from diffcheck.commands.config import Config, read
from diffcheck.errors import ConfigError, DeclarationError
from diffcheck.modes import FIRST_ORDER, MODES, MODES_IN_WORDS, SECOND_ORDER, THIRD_ORDER, order, refusal, steps

CASES = """
from diffcheck.verdict import Result, Verdict

class Fake:
    __diffcheck_case__ = True
    name, doc, signature = "fake", "", "x"
    def run(self, settings, *, case_id, location):
        for mode in settings.modes:
            yield Result(case_id, mode, settings.dtypes[0], Verdict.AGREES, inputs=settings.examples)

one = Fake()
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)


def write(table: str, folder: str = ".") -> Path:
    """A project that says something."""
    file = Path(folder).resolve() / "pyproject.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"[project]\nname = 'p'\n[tool.diffcheck]\n{table}\n", encoding="utf-8")
    return file


def test_nothing_is_configured():
    assert read(Path.cwd()) == Config()


def test_every_key():
    file = write(
        'examples = 20\nseed = 0\nmodes = ["forward"]\ndtypes = ["float32", "float64"]\nstrict = true\n'
        'seconds = 5\ndevice = "cuda:1"\ncase_paths = ["gradients", "more/a.py"]'
    )
    named = frozenset({"forward", "float32", "float64"})
    assert read(Path.cwd()) == Config(
        20, 0, ("forward",), ("float32", "float64"), True, 5.0, "cuda:1", ("gradients", "more/a.py"), named, file
    )
    assert read(Path.cwd()).cases == (file.parent / "gradients", file.parent / "more" / "a.py")


def test_the_nearest_file_that_says_something():
    write("examples = 1")
    nearer = write("examples = 2", "a")
    Path("a/b/c").mkdir(parents=True)
    Path("a/b/pyproject.toml").write_text("[tool.other]\nexamples = 3\n")
    assert read(Path("a/b/c").resolve()) == Config(examples=2, file=nearer)
    assert read(Path.cwd()).examples == 1


def test_somebody_elses_broken_file_is_none_of_our_business():
    Path("pyproject.toml").write_text("[[[")
    assert read(Path.cwd()) == Config()


KNOWN = "the keys are examples, seed, modes, dtypes, strict, seconds, device, case_paths"
WORDS = MODES_IN_WORDS


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("exampels = 5", f"exampels = 5: there is no such key; did you mean examples? {KNOWN}"),
        ("zzz = 'x'", f"zzz = 'x': there is no such key; {KNOWN}"),
        ("examples = 0", f"examples = 0 is not a whole number, 1 or more; {KNOWN}"),
        ("examples = 1.5", "examples = 1.5 is not a whole number, 1 or more"),
        ("examples = true", "examples = True is not a whole number, 1 or more"),
        ("seed = -1", "seed = -1 is not a whole number, 0 or more"),
        ("strict = 'yes'", "strict = 'yes' is not true or false"),
        ("seconds = 0", "seconds = 0 is not a positive number"),
        ("seconds = inf", "seconds = inf is not a positive number"),
        ("seconds = nan", "seconds = nan is not a positive number"),
        ("modes = 'reverse'", f"modes = 'reverse' is not a list of some of {WORDS}"),
        ("modes = []", f"modes = [] is not a list of some of {WORDS}"),
        ("modes = ['reverse', 'backward']", ": 'backward' is none of them"),
        ("dtypes = ['float8']", "dtypes = ['float8'] is not a list of some of float64, float32, float16, bfloat16"),
        ("device = 0", f"device = 0 is not a device of PyTorch's, as cpu, cuda or cuda:1; {KNOWN}"),
        ("device = 'GPU 1'", "device = 'GPU 1' is not a device of PyTorch's"),
        ("case_paths = [1]", "case_paths = [1] is not a list of files and folders"),
        ("examples = ", "can't be read: "),
    ],
)
def test_what_can_t_be_followed(table: str, message: str, capsys: pytest.CaptureFixture[str]):
    file = write(table)
    Path("a.py").write_text(CASES)
    with pytest.raises(ConfigError) as caught:
        read(Path.cwd())
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)
    for command in ("run", "list"):
        assert main([command, *(["a.py"] if command == "run" else [])]) == 4
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.out == ""


def test_no_table():
    Path("pyproject.toml").write_text("[tool]\ndiffcheck = 5\n")
    with pytest.raises(ConfigError, match=r"tool.diffcheck = 5 is no table; write \[tool.diffcheck\]"):
        read(Path.cwd())


def test_the_command_takes_what_it_is_not_told(capsys: pytest.CaptureFixture[str]):
    write('examples = 20\nseed = 7\nmodes = ["forward"]\nstrict = true\ncase_paths = ["gradients"]')
    Path("gradients").mkdir()
    Path("gradients/a.py").write_text(CASES)
    assert main(["run"]) == 1
    out = capsys.readouterr().out
    assert "1 case, 20 examples each, seed 7" in out
    assert "gradients/a.py" in out
    assert "failed: 1 agrees" in out
    assert main(["run", "gradients/a.py", "--examples", "3", "--seed", "8", "--mode", "reverse", "--no-strict"]) == 0
    out = capsys.readouterr().out
    assert "1 case, 3 examples each, seed 8" in out
    assert "reverse" in out
    assert "forward" not in out
    assert main(["list"]) == 0
    assert "gradients/a.py::one" in capsys.readouterr().out


def test_from_a_folder_below(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    write('case_paths = ["gradients"]')
    for folder in ("gradients", "deep/er"):
        Path(folder).mkdir(parents=True)
    Path("gradients/a.py").write_text(CASES)
    monkeypatch.chdir("deep/er")
    assert main(["run"]) == 0
    assert "a.py" in capsys.readouterr().out


def test_the_modes_are_those_in_which_pytorch_is_run():
    plain = (*FIRST_ORDER, *SECOND_ORDER, *THIRD_ORDER)
    assert (*plain, *(f"vmap-{mode}" for mode in plain)) == MODES
    assert len(set(MODES)) == 2 * (2 + 4 + 8)
    assert Config().modes == FIRST_ORDER  # a higher order is never checked unless it is asked for


def test_a_mode_is_steps_from_the_inside():
    assert steps("vmap-reverse-over-forward-over-reverse") == ("reverse", "forward", "reverse")
    assert steps("forward-over-reverse") == ("reverse", "forward")
    assert [order(mode) for mode in ("forward", "reverse-over-forward", THIRD_ORDER[0])] == [1, 2, 3]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("-over-".join(["reverse"] * 4), "differentiates 4 times, and orders go to 3"),
        ("vmap-" + "-over-".join(["forward"] * 5), "differentiates 5 times, and orders go to 3"),
        ("reverse-over-sideways", f"is not one of {MODES_IN_WORDS}"),
        ("", f"is not one of {MODES_IN_WORDS}"),
    ],
)
def test_what_is_said_of_a_mode_that_does_not_exist(word: str, why: str, capsys: pytest.CaptureFixture[str]):
    assert refusal(word, MODES) == f"{word!r} {why}"
    Path("a.py").write_text(CASES)
    for command in ("run a.py", "audit"):
        assert main([*command.split(), "--mode", word]) == 4
        assert " ".join(why.split()[:4]) in " ".join(capsys.readouterr().err.split())
    with pytest.raises(DeclarationError) as caught:
        check(torch.sin, torch.ones(1), modes=[word])
    assert f"{word!r} {why}" in str(caught.value)
