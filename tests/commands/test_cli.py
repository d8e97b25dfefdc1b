"""The command: its exit codes, and what each bad input is told."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version as version_of
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from diffcheck import versions
from diffcheck.audit.report import Audit, text_of
from diffcheck.commands import cli
from diffcheck.commands.cli import main
from diffcheck.commands.config import Config
from diffcheck.pytest_plugin.asked import Asked
from diffcheck.report import json_
from diffcheck.report.junit import dumps
from diffcheck.report.summary import Run

ROOT = Path(__file__).parents[2]
FAKE = """
import sys, time
from diffcheck.verdict import Result, Verdict

class Fake:
    __diffcheck_case__ = True
    name, doc, signature = "fake", "y = 2 x\\n\\nMore.", "x: real[n]"
    def __init__(self, verdict="proved", do=None):
        self.verdict, self.do = verdict, do
    def run(self, settings, *, case_id, location):
        for mode in settings.modes:
            for dtype in settings.dtypes:
                if self.do:
                    self.do(settings)
                yield Result(case_id, mode, dtype, Verdict(self.verdict), inputs=settings.examples, gradient="2*x")
    def show(self, *, latex):
        return "\\\\frac{y}{x}" if latex else f"y = [2*x]"

def broken(settings):
    raise KeyError("x")

def interrupted(settings):
    raise KeyboardInterrupt

def leaving(settings):
    sys.exit(0)

def printing(settings):
    print("printed by a case")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a file of good cases."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    write("good.py", "one = Fake()\ntwo = Fake()\n")
    return tmp_path


def write(name: str, text: str) -> None:
    """Write a file of fake cases."""
    Path(name).write_text(FAKE + text, encoding="utf-8")


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as people do."""
    return subprocess.run(
        [sys.executable, "-m", "diffcheck", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def test_passed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "good.py"]) == 0
    out = capsys.readouterr().out
    assert "2 cases, 100 examples each, seed" in out
    assert "passed: 8 proved (2 cases in " in out


@pytest.mark.parametrize("verdict", ["wrong", "inaccurate", "undefined", "undecided", "unsupported", "error"])
def test_what_does_not_pass_fails(verdict: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("a.py", f"one = Fake({verdict!r})\n")
    assert main(["run", ".", "--mode", "reverse", "--dtype", "float64"]) == 1
    assert f"failed: 1 {verdict}, 2 proved" in capsys.readouterr().out


def test_modes_under_vmap_and_half_precisions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "good.py", "--mode", "vmap-reverse", "--dtype", "float16,bfloat16"]) == 0
    out = capsys.readouterr().out
    assert "vmap-reverse f16 bf16" in out
    assert "passed: 4 proved (2 cases in " in out


def test_a_gpu_that_is_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["run", "good.py", "--device", "cuda"]) == 4
    assert f"--device cuda: torch {torch.__version__} finds no GPU here" in capsys.readouterr().err


def test_on_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "good.py", "--device", "cpu:0", "--examples", "3", "--seed", "1"]) == 0
    assert "2 cases, 3 examples each, seed 1, on cpu:0" in capsys.readouterr().out
    assert main(["run", "good.py", "--device", "GPU 1"]) == 4
    assert "'GPU 1' is not a device, as cpu, cuda or cuda:1" in capsys.readouterr().err


def test_strict() -> None:
    write("a.py", "one = Fake('agrees')\n")
    assert main(["run", "a.py"]) == 0
    assert main(["run", "a.py", "--strict"]) == 1


def test_a_file_that_is_broken_fails_and_the_others_run(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.py").write_text("import nothing_like_this\n")
    assert main(["run", "."]) == 1
    out = capsys.readouterr().out
    assert "bad.py:1: ModuleNotFoundError: No module named 'nothing_like_this'" in out
    assert "failed: 1 error, 8 proved (2 cases" in out
    assert main(["run", "bad.py"]) == 1


def test_internal_errors(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.py", "one = Fake(do=broken)\n")
    assert main(["run", "."]) == 3
    out = capsys.readouterr().out
    assert "internal error of diffcheck: KeyError: 'x'" in out
    assert "Please report it" in out
    assert "Traceback" not in out
    assert "8 proved" in out
    assert main(["run", ".", "-v"]) == 3
    assert "Traceback" in capsys.readouterr().out


def test_internal_errors_outside_of_cases(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "_collect", lambda *_: 1 / 0)
    assert main(["run", "."]) == 3
    error = capsys.readouterr().err
    assert error.startswith(
        "diffcheck: internal error: ZeroDivisionError: division by zero\nThis is a mistake in diffcheck"
    )
    assert "Traceback" not in error
    assert main(["run", ".", "-v"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_leaving_does_not_end_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.py", "one = Fake(do=leaving)\n")
    assert main(["run", "."]) == 1
    out = capsys.readouterr().out
    assert "it called sys.exit(0)" in out
    assert "8 proved" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], ""),
        (["run"], "Missing argument 'PATH'"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["run", "good.py", "--frobnicate"], "No such option"),
        (["run", "nope"], "no such file or folder: nope"),
        (["run", "good.py::three"], "good.py has no case named three: it has one, two"),
        (["run", "good.py", "--examples", "0"], "Invalid value for '--examples'"),
        (["run", "good.py", "--examples", "many"], "Invalid value for '--examples'"),
        (["run", "good.py", "--seed", "-1"], "Invalid value for '--seed'"),
        (["run", "good.py", "--mode", "backward"], "'backward' is not one of reverse, forward"),
        (["run", "good.py", "--mode", ""], "'' is not one of reverse, forward"),
        (["run", "good.py", "--dtype", "float64,float8"], "'float8' is not one of float64, float32"),
        (
            ["run", "good.py", "--device", "tpu"],
            "--device tpu: 'tpu' is no device of PyTorch's, as cpu, cuda and cuda:1 are",
        ),
        (["run", "good.py", "--format", "yaml"], "Invalid value for '--format'"),
        (["run", "good.py", "--output", "no/where.json"], "there is no folder"),
        (["run", "good.py", "--output", "."], ". is a folder"),
        (["run", "good.py", "-k", "one two"], "is no expression of names"),
        (["run", "good.py", "-q", "-v"], "-v and -q exclude each other"),
        (["show"], "Missing argument 'CASE'"),
        (["show", "good.py"], "show takes one case, as FILE.py::NAME; good.py has good.py::one, good.py::two"),
        (["list", "nope"], "no such file or folder: nope"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 4
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not arguments or captured.out == ""


@pytest.mark.parametrize("command", ["run", "list"])
def test_nothing(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert main([command, "empty"]) == 5
    assert capsys.readouterr().err == "diffcheck: no cases in empty\n"
    assert main([command, "good.py", "-k", "three"]) == 5
    assert capsys.readouterr().err == "diffcheck: -k 'three' matches none of 2 cases\n"


def test_nothing_is_a_report_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert main(["run", "empty", "--format", "json"]) == 5
    assert json.loads(capsys.readouterr().out)["results"] == []


def test_keyword(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "good.py", "-k", "one and not two", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {result["id"] for result in document["results"]} == {"good.py::one"}
    assert document["deselected"] == 1


def test_options_reach_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--examples", "7", "--seed", "5", "--mode", "forward,reverse", "--mode", "forward", "--dtype", "float32"]
    assert main(["run", "good.py::one", "--format", "json", *options]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(r["mode"], r["dtype"], r["inputs"]) for r in document["results"]] == [
        ("forward", "float32", 7),
        ("reverse", "float32", 7),
    ]
    assert document["seed"] == 5


def test_a_random_seed_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "good.py"])
    first = re.findall(r"seed (\d+)", capsys.readouterr().out)
    main(["run", "good.py"])
    second = re.findall(r"seed (\d+)", capsys.readouterr().out)
    assert len(first) == 2
    assert first[0] == first[1] != second[0]


def test_exit_first(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.py", "one = Fake('wrong')\ntwo = Fake()\n")
    assert main(["run", ".", "-x", "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["summary"] == {"wrong": 1}
    assert document["stopped"] == "first failure"
    assert document["not_run"] == ["a.py::two", "good.py::one", "good.py::two"]


@pytest.mark.parametrize("form", ["text", "json", "junit"])
def test_output(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The file has the report, and the terminal the text."""
    Path("report").write_text("old")
    assert main(["run", "good.py", "--format", form, "--output", "report"]) == 0
    assert "passed: 8 proved" in capsys.readouterr().out
    text = Path("report").read_text()
    if form == "json":
        assert len(json_.loads(text)) == 8
    elif form == "junit":
        assert ET.fromstring(text).get("tests") == "8"  # noqa: S314 - our own
    else:
        assert "passed: 8 proved" in text
    assert sorted(path.name for path in Path().iterdir() if path.is_file()) == ["good.py", "report"]


def test_output_to_a_device_leaves_the_device() -> None:
    assert main(["run", "good.py", "--format", "json", "--output", os.devnull]) == 0
    assert not Path(os.devnull).is_file()


def test_output_through_a_link_keeps_the_link() -> None:
    Path("target").write_text("old")
    Path("link").symlink_to("target")
    assert main(["run", "good.py", "--format", "json", "--output", "link"]) == 0
    assert Path("link").is_symlink()
    assert json.loads(Path("target").read_text())["version"] == 1


def test_output_is_refused_before_anything_runs() -> None:
    write("a.py", "def mark(settings): open('ran', 'w')\none = Fake(do=mark)\n")
    assert main(["run", "a.py", "--output", "no/where"]) == 4
    assert not Path("ran").exists()


@pytest.mark.parametrize("form", ["json", "junit"])
def test_what_a_case_prints_is_not_in_the_report(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("a.py", "print('printed by the file')\none = Fake(do=printing)\n")
    assert main(["run", "a.py", "--format", form]) == 0
    captured = capsys.readouterr()
    (json.loads if form == "json" else ET.fromstring)(captured.out)
    assert "printed by the file" in captured.err
    assert "printed by a case" in captured.err


def test_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    """What was found out until then is printed and written, complete."""
    write("z.py", "one = Fake(do=interrupted)\ntwo = Fake()\n")
    assert main(["run", ".", "--format", "json", "--output", "report.json"]) == 2
    assert "interrupted: 8 proved" in capsys.readouterr().out
    document = json.loads(Path("report.json").read_text())
    assert document["stopped"] == "interrupted"
    assert document["not_run"] == ["z.py::one", "z.py::two"]
    assert document["summary"] == {"proved": 8}


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "good.py"]) == 0
    line = "  x: real[n]  y = 2 x\n"
    assert capsys.readouterr().out == f"good.py::one{line}good.py::two{line}"
    Path("bad.py").write_text("1 / 0\n")
    assert main(["list", "."]) == 1
    assert "error: bad.py:1: ZeroDivisionError" in capsys.readouterr().out


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "good.py::one"]) == 0
    assert capsys.readouterr().out == "y = [2*x]\n"
    assert main(["show", "good.py::one", "--latex"]) == 0
    assert capsys.readouterr().out == "\\frac{y}{x}\n"
    Path("bad.py").write_text("1 / 0\n")
    assert main(["show", "bad.py::one"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"diffcheck \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_versions_of_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version", "-v"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["python", "platform", *versions.PACKAGES]
    assert f"torch {version_of('torch')}" in lines
    assert lines[-1] == "diffcheck was tried on torch 2.9 to 2.14"


@pytest.mark.parametrize(
    ("torch_version", "said"),
    [
        ("2.9.0", ""),
        ("2.14.1+cu130", ""),
        ("2.8.1", "torch 2.8.1 is older than diffcheck supports: install torch 2.9 or later"),
        (
            "3.0.0a0",
            "torch 3.0.0a0 is newer than 2.14, the newest that diffcheck was tried on: what it lacks is unsupported",
        ),
    ],
)
def test_a_pytorch_that_was_not_tried_is_told(
    torch_version: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once in the report, and in its JSON."""
    assert versions.note(torch_version) == said
    monkeypatch.setattr("diffcheck.report.terminal.version_of", lambda _: torch_version)
    monkeypatch.setattr("diffcheck.report.json_.version_of", lambda _: torch_version)
    monkeypatch.setattr("diffcheck.report.junit.version_of", lambda _: torch_version)
    monkeypatch.setattr("diffcheck.pytest_plugin.asked.version_of", lambda _: torch_version)
    monkeypatch.setattr("diffcheck.audit.report.version_of", lambda _: torch_version)
    junit = dumps(Run((), seed=1, seconds=0.0, not_run=("good.py::square",)))
    assert (said in junit) if said else ("note" not in junit)
    asked = Asked(
        1, 1, chosen=True, modes=(), dtypes=(), strict=False, seconds=1.0, device="cpu", by_name=frozenset(),
        project=Config(),
    )  # fmt: skip
    assert asked.line.partition("\n")[2] == (f"diffcheck: {said}" if said else "")
    page = text_of(Audit((), "diffcheck audit", 0.0, interrupted=False))
    assert (said[1:] in page) if said else ("torch" not in page)
    assert main(["run", "good.py", "--examples", "2", "--output", "report.json", "--format", "json"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == said
    assert json.loads(Path("report.json").read_text(encoding="utf-8"))["note"] == said


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["list", "--help"], ["show", "-h"], ["--version"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys, diffcheck\nfrom diffcheck.commands.cli import main\n"
        f"assert main({command!r}) == 0\n"
        "heavy = {'torch', 'sympy', 'hypothesis', 'flint', 'numpy', 'jaxtyping'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30, env=environment)


def test_a_pipe_gets_plain_text() -> None:
    done = process("run", "good.py", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert done.stdout.isascii()
    assert done.stderr == ""


def test_ctrl_c_in_a_process() -> None:
    write("z.py", "def wait(settings): time.sleep(30)\none = Fake(do=wait)\n")
    # Where a shell runs the tests in the background, processes are born deaf to Ctrl-C.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{listening}; import sys; from diffcheck.commands.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "run", ".", "--format", "json", "--output", "report.json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout
        for line in running.stdout:
            if "two" in line and "forward" in line:
                break
        time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 2
    assert json.loads(Path("report.json").read_text())["summary"] == {"proved": 8}


def test_a_reader_that_leaves() -> None:
    """`diffcheck run … | head -1` is no internal error."""
    write("a.py", "\n".join(f"case_{i} = Fake()" for i in range(3000)))
    command = f"{sys.executable} -m diffcheck run a.py --format json | head -c 10"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=environment)  # noqa: S607 - whichever bash
    assert done.stderr == ""


def test_case_is_the_function_whatever_was_imported_before() -> None:
    """No module of ours has the name of a public function."""
    code = "import diffcheck.declare.case\nfrom diffcheck import case\n"
    code += "from diffcheck import case as again\nassert case is again\n"
    code += "import types\nassert isinstance(case, types.FunctionType), case"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60, env=environment)
