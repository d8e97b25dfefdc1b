"""The pytest plugin: where cases are found, what their items are called, how they pass and fail."""

from __future__ import annotations

import shlex
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from diffcheck.checking import declared
from diffcheck.checking.check import rows_of
from diffcheck.declare.load import Loaded, collect
from diffcheck.settings import Settings

# pytester forgets what is first imported by the tests that it runs, and torch bears that badly.
for needed in (
    "torch",
    "torch._dynamo",
    "diffcheck.commands.run",
    "diffcheck.rules",
    "diffcheck.report.failure",
    "diffcheck.pytest_plugin.items",
):
    import_module(needed)

ROOT = Path(__file__).parents[2]
GOOD = """
import torch
from jaxtyping import Float
from torch import Tensor
from diffcheck import case

@case(gradient=lambda x: 4 * x)
def quadratic(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    return 2 * torch.dot(x, x)

total = case(torch.sum, name="total", inputs={"input": Float[Tensor, "n"]})
"""
WRONG = """
import torch
from jaxtyping import Float
from torch import Tensor
from diffcheck import case

class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x**2 * grad

@case
def cube(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    return Cube.apply(x)
"""
FAKE = """
from diffcheck.verdict import Result, Verdict

class Fake:
    __diffcheck_case__ = True
    name, doc, signature = "fake", "", "x"
    def __init__(self, verdict="proved", do=lambda settings: None, reason="because"):
        self.verdict, self.do, self.reason = verdict, do, reason
    def rows(self, settings):
        rows = [(mode, dtype) for mode in settings.modes for dtype in settings.dtypes]
        return tuple(row for row in rows if settings.only is None or row in settings.only)
    def run(self, settings, *, case_id, location):
        self.do(settings)
        for mode, dtype in self.rows(settings):
            yield Result(case_id, mode, dtype, Verdict(self.verdict), inputs=settings.examples, reason=self.reason)
"""
QUADRATIC = ["reverse-float64", "reverse-float32", "forward-float64", "forward-float32", "gradient"]


@pytest.fixture(autouse=True)
def _as_installed(pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin as pip makes it known: by the entry point of our own pyproject.toml."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]["diffcheck"]
    known = tmp_path / "site" / "diffcheck_of_this_tree-0.dist-info"
    known.mkdir(parents=True)
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: diffcheck-of-this-tree\nVersion: 0\n")
    (known / "entry_points.txt").write_text(f"[pytest11]\ndiffcheck = {entry}\n")
    monkeypatch.syspath_prepend(known.parent)
    monkeypatch.setenv("PYTHONPATH", f"{known.parent}:{ROOT}")
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(pytester.path)


def write(name: str, text: str) -> Path:
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def ids(pytester: pytest.Pytester, *arguments: str) -> list[str]:
    """What is collected."""
    result = pytester.runpytest_inprocess("--collect-only", "-q", *arguments)
    return [line for line in result.outlines if "::" in line and not line.startswith("ERROR")]


def outcomes(result: pytest.RunResult) -> dict[str, str]:
    """The last word of each line with an id, as `-v` and `-rA` print it."""
    lines = [line.split(" - ")[0].split() for line in result.outlines]
    return {words[1]: words[0] for words in lines if len(words) == 2 and "::" in words[1]}


# ---------------------------------------------------------------------------------------------------------------------
# Where cases are found
# ---------------------------------------------------------------------------------------------------------------------


def test_a_folder_of_cases(pytester: pytest.Pytester):
    """Files in a folder called `cases`, at any depth, in the order of the file; one item per row."""
    write("cases/deep/good.py", GOOD)
    expected = [f"cases/deep/good.py::quadratic[{row}]" for row in QUADRATIC]
    expected += [f"cases/deep/good.py::total[{row}]" for row in QUADRATIC[:4]]
    for arguments in ([], ["cases"], ["cases/deep/good.py"], ["cases", "cases/deep/good.py"]):
        assert ids(pytester, *arguments) == expected
    assert ids(pytester, "cases/deep/good.py::quadratic") == expected[:5]
    assert ids(pytester, "cases/deep/good.py::quadratic[gradient]") == expected[4:5]


def test_in_the_folder_itself(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    write("cases/good.py", FAKE + "# diffcheck\none = Fake()\n")
    monkeypatch.chdir("cases")
    assert len(ids(pytester)) == 4


def test_what_is_none_of_our_business_is_not_imported(pytester: pytest.Pytester):
    """Another project's folder of that name; ours beside it has its conftest."""
    write("cases/law.py", "raise SystemExit('imported')\n")
    write("cases/conftest.py", "# of diffcheck's cases\nMET = []\n")
    write("other/good.py", FAKE + "one = Fake()\n")
    assert ids(pytester) == []
    assert pytester.runpytest_inprocess().ret == 5


def test_configured_paths(pytester: pytest.Pytester):
    """They take the place of folders called `cases`; a single file given is a module as pytest has it."""
    write("pyproject.toml", '[tool.diffcheck]\ncase_paths = ["gradients", "more/one.py"]\n')
    for name in ("gradients/a.py", "more/one.py", "more/two.py", "cases/good.py"):
        write(name, FAKE + "one = Fake()\n")
    assert {case.partition("::")[0] for case in ids(pytester)} == {"gradients/a.py", "more/one.py"}
    assert len(ids(pytester, "more/two.py")) == 4


@pytest.mark.parametrize("mode", ["prepend", "append", "importlib"])
def test_modules_of_tests(pytester: pytest.Pytester, mode: str):
    """Their own cases, beside their tests, from the module that pytest imported; not those that are imported."""
    write("here.py", FAKE + "imported = Fake()\n")
    text = "import here\nfrom here import Fake, imported\n\nMET = []\n\nown = Fake(do=lambda settings: MET.append(1))\n"
    text += "_left_alone = Fake()\ntest_named_like_one = Fake()\n\n\nclass TestThese:\n    inside = Fake()\n\n"
    text += "    def test_method(self):\n        pass\n\n\ndef test_the_same_module():\n    assert MET == [1]\n"
    write("test_a.py", text)
    pytester.syspathinsert()
    rows = QUADRATIC[:4]
    expected = [f"test_a.py::own[{row}]" for row in rows] + [f"test_a.py::test_named_like_one[{row}]" for row in rows]
    expected += [f"test_a.py::TestThese::inside[{row}]" for row in rows]
    expected += ["test_a.py::TestThese::test_method", "test_a.py::test_the_same_module"]
    assert sorted(ids(pytester, f"--import-mode={mode}")) == sorted(expected)
    pytester.runpytest_inprocess(f"--import-mode={mode}").assert_outcomes(passed=14)


def test_where_a_case_stands(pytester: pytest.Pytester):
    write("cases/good.py", GOOD)
    (items, _) = pytester.inline_genitems("cases")
    lines = {item.name.partition("[")[0]: item.reportinfo()[1] for item in items}
    source = GOOD.splitlines()
    assert source[lines["quadratic"]] == "@case(gradient=lambda x: 4 * x)"
    assert source[lines["total"]].startswith("total = ")


def test_files_that_can_t_be_imported(pytester: pytest.Pytester):
    """Errors of collection, with the file's own message and no traceback through us."""
    write("cases/a.py", "# diffcheck\nimport nothing_like_this\n")
    write("cases/b.py", "import diffcheck\nif True print()\n")
    write("cases/c.py", "from diffcheck import case\n\n\n@case\ndef bare(x):\n    return x\n")
    result = pytester.runpytest_inprocess()
    assert result.ret == 2
    result.assert_outcomes(errors=3)
    text = result.stdout.str()
    assert "cases/a.py:2: ModuleNotFoundError: No module named 'nothing_like_this'" in text
    assert "cases/b.py:2: SyntaxError" in text
    assert "cases/c.py:4: " in text
    assert "annotat" in text
    assert "diffcheck/load.py" not in text
    assert "site-packages" not in text


# ---------------------------------------------------------------------------------------------------------------------
# Results
# ---------------------------------------------------------------------------------------------------------------------


def test_a_wrong_case_fails_with_its_finding(pytester: pytest.Pytester):
    """The finding as `diffcheck run` prints it, the command that replays it, and nothing of our code."""
    write("cases/wrong.py", WRONG)
    options = ("--diffcheck-seed=1", "--diffcheck-examples=20")
    result = pytester.runpytest_inprocess("-rfs", *options, "--diffcheck-dtype=float64")
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "diffcheck: 20 examples each, seed 1; the same again: --diffcheck-seed=1",
            "*_ cube[[]reverse-float64] _*",
            "wrong: cases/wrong.py::cube, reverse, float64 *",
            "  input         x = [[]1.0]  (float64)",
            "  PyTorch       2.0",
            "  certified     3, exactly",
            "  autograd ran  2*dy[[]0]*x[[]0][*][*]2",
            "  reference     3*dy[[]0]*x[[]0][*][*]2",
            f"  replay        pytest 'cases/wrong.py::cube[[]reverse-float64]' {' '.join(options)}",
            "FAILED cases/wrong.py::cube[[]reverse-float64] - wrong: *",
            "SKIPPED [[]1] cases/wrong.py:*: not available: forward mode: You must implement the jvp function *",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert "pytest_plugin" not in result.stdout.str()


def test_the_documented_example(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """docs/pytest.md shows what is printed, to the letter."""
    for name in ("CI", "BUILD_NUMBER"):  # there pytest cuts no line at the edge of the screen
        monkeypatch.delenv(name, raising=False)
    lines = [line[4:] for line in (ROOT / "docs" / "pytest.md").read_text().splitlines() if line.startswith("    ")]
    run = next(i for i, line in enumerate(lines) if line.startswith("$ pytest "))
    end = next(i for i, line in enumerate(lines) if line.startswith("$ diffcheck "))
    write(lines[0].removeprefix("# "), "\n".join(lines[1:run]))
    printed = pytester.runpytest_inprocess(*shlex.split(lines[run].removeprefix("$ pytest "))).outlines
    shown = [line for line in lines[run + 1 : end] if line]
    first = next(i for i, line in enumerate(printed) if line.startswith("collecting"))
    assert [line.rstrip() for line in printed[first:-1] if line] == shown


def test_a_replay_asks_for_modes_that_are_not_usual(pytester: pytest.Pytester):
    write("cases/a.py", f"# diffcheck\n{FAKE}one = Fake('wrong')\n")
    mode = "reverse-over-reverse"
    result = pytester.runpytest_inprocess(f"--diffcheck-mode={mode}", "--diffcheck-seed=1")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [f"  replay  pytest *one[[]{mode}-float64]' *=1 --diffcheck-mode={mode} --diffcheck-dtype=float64,float32"]
    )


def test_modes_under_vmap_and_half_precisions(pytester: pytest.Pytester):
    write("cases/a.py", f"# diffcheck\n{FAKE}one = Fake()\n")
    result = pytester.runpytest_inprocess(
        "-v", "--diffcheck-mode=vmap-reverse,reverse", "--diffcheck-dtype=bfloat16", "-m", "diffcheck(dtype='bfloat16')"
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*one[[]vmap-reverse-bfloat16] PROVED *", "*one[[]reverse-bfloat16] PROVED *"])


@pytest.mark.parametrize("verdict", ["wrong", "inaccurate", "undefined", "undecided", "unsupported", "error"])
def test_what_does_not_pass_fails(pytester: pytest.Pytester, verdict: str):
    write("cases/a.py", f"# diffcheck\n{FAKE}one = Fake({verdict!r})\n")
    result = pytester.runpytest_inprocess("-k", "reverse-float64", "--diffcheck-seed=5")
    result.assert_outcomes(failed=1, deselected=3)
    result.stdout.fnmatch_lines([f"{verdict}: because", "  replay  pytest 'cases/a.py::one[[]reverse-float64]' *=5"])


def test_on_a_device(pytester: pytest.Pytester):
    pytester.makepyfile(**{"cases/good.py": GOOD})
    options = ["--diffcheck-examples=3", "--diffcheck-seed=1", "--diffcheck-mode=reverse"]
    result = pytester.runpytest(*options, "--diffcheck-device=cpu:0")
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["diffcheck: 3 examples each, seed 1, on cpu:0; the same again: --diffcheck-seed=1"])
    pytester.makepyprojecttoml('[tool.diffcheck]\ndevice = "tpu"\n')
    result = pytester.runpytest(*options)
    why = "'tpu' is no device of PyTorch's, as cpu, cuda and cuda:1 are"
    result.stdout.fnmatch_lines([f"*diffcheck can't compute on tpu: {why}"])
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result = pytester.runpytest(*options, "--diffcheck-device", "GPU 1")
    result.stderr.fnmatch_lines(["*'GPU 1' is not a device, as cpu, cuda or cuda:1*"])


def test_a_replay_says_the_device(pytester: pytest.Pytester):
    pytester.makepyfile(**{"cases/wrong.py": WRONG})
    result = pytester.runpytest("--diffcheck-examples=20", "--diffcheck-mode=reverse", "--diffcheck-device=cpu:0")
    result.stdout.fnmatch_lines(["wrong: *, reverse, float64, cpu:0 *", "*replay*--diffcheck-device=cpu:0*"])


def test_what_passes_says_how(pytester: pytest.Pytester):
    write("cases/a.py", f"# diffcheck\n{FAKE}one, two = Fake('agrees'), Fake()\n")
    result = pytester.runpytest_inprocess("-v", "-k", "reverse-float64")
    result.stdout.fnmatch_lines(["*one[[]reverse-float64] AGREES *", "*two[[]reverse-float64] PROVED *"])
    result = pytester.runpytest_inprocess("-k", "reverse-float64", "--diffcheck-strict")
    result.assert_outcomes(failed=1, passed=1, deselected=6)
    result.stdout.fnmatch_lines(["agrees: because", "  strict: only proved passes"])
    write("pyproject.toml", "[tool.diffcheck]\nstrict = true\n")
    pytester.runpytest_inprocess("-k", "reverse-float64").assert_outcomes(failed=1, passed=1, deselected=6)
    relaxed = pytester.runpytest_inprocess("-k", "reverse-float64", "--no-diffcheck-strict")
    relaxed.assert_outcomes(passed=2, deselected=6)


def test_a_case_is_checked_once_and_only_where_it_is_selected(pytester: pytest.Pytester):
    write("cases/a.py", f"# diffcheck\n{FAKE}one = Fake(do=lambda s: print('checked', sorted(s.only), s.examples))\n")
    result = pytester.runpytest_inprocess("-rP", "-k", "reverse", "--diffcheck-examples=3")
    checked = [line for line in result.outlines if line.startswith("checked")]
    assert checked == ["checked [('reverse', 'float32'), ('reverse', 'float64')] 3"]
    result = pytester.runpytest_inprocess("-rP", "cases/a.py::one[forward-float32]")
    assert [line for line in result.outlines if line.startswith("checked")] == ["checked [('forward', 'float32')] 100"]


def test_a_case_that_comes_to_nothing_fails_in_every_row(pytester: pytest.Pytester):
    """It leaves, or we are at fault: no row is there, and none passes."""
    text = "import sys\nleaving = Fake(do=lambda s: sys.exit(3))\nours = Fake(do=lambda s: [][0])\n"
    text += "silent = Fake()\nsilent.run = lambda settings, case_id, location: iter(())\n"
    write("cases/a.py", f"# diffcheck\n{FAKE}{text}")
    result = pytester.runpytest_inprocess("-k", "float64")
    result.assert_outcomes(failed=6, deselected=6)
    told = [line for line in result.outlines if line.startswith("error: ")]
    assert told.count("error: it called sys.exit(3)") == 2
    assert told.count("error: internal error of diffcheck: IndexError: list index out of range") == 2
    assert told.count("error: the check gave no result for this row") == 2
    assert "Please report it" in result.stdout.str()


def test_only_some_modes_and_dtypes(pytester: pytest.Pytester):
    write("cases/good.py", GOOD)
    chosen = ids(pytester, "--diffcheck-mode=forward", "--diffcheck-dtype", "float32", "-k", "quadratic")
    assert chosen == [f"cases/good.py::quadratic[{row}]" for row in ("forward-float32", "gradient")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--diffcheck-examples=0"], "'0' is not a whole number, 1 or more"),
        (["--diffcheck-seed=x"], "'x' is not a whole number, 0 or more"),
        (["--diffcheck-mode=backward"], "'backward' is not one of reverse, forward"),
        (["--diffcheck-dtype=float64,int8"], "'int8' is not one of float64, float32"),
    ],
)
def test_wrong_usage(pytester: pytest.Pytester, arguments: list[str], message: str):
    result = pytester.runpytest_inprocess(*arguments)
    assert result.ret == 4
    assert message in result.stderr.str()


def test_a_configuration_that_can_t_be_followed(pytester: pytest.Pytester):
    write("pyproject.toml", "[tool.diffcheck]\nexampels = 5\n")
    result = pytester.runpytest_inprocess()
    assert result.ret == 4
    assert "pyproject.toml: [tool.diffcheck] exampels = 5: there is no such key; did you mean" in result.stderr.str()


def test_seeds(pytester: pytest.Pytester):
    """One at random, said in the header; or the project's; or the option's."""
    write("cases/a.py", f"# diffcheck\n{FAKE}one = Fake(do=lambda s: print('drawn with', s.seed, s.reuse))\n")

    def seed(*arguments: str) -> tuple[str, str]:
        result = pytester.runpytest_inprocess("-rP", "-k", "reverse-float64", *arguments)
        (told,) = (line.rpartition("=")[2] for line in result.outlines if line.startswith("diffcheck: "))
        (line,) = (line for line in result.outlines if line.startswith("drawn with"))
        assert line.split()[2] == told
        return told, line.split()[3]

    first, second = seed(), seed()
    assert first[0] != second[0]
    assert first[1] == second[1] == "True"
    assert seed(f"--diffcheck-seed={first[0]}") == (first[0], "False")
    write("pyproject.toml", "[tool.diffcheck]\nseed = 0\n")
    assert seed() == ("0", "False")
    assert seed("--diffcheck-seed=4") == ("4", "False")


def test_marks(pytester: pytest.Pytester):
    """Of a module, above `@case` and below it; in a file of cases as in a module of tests."""
    text = f"""{FAKE}
import pytest
pytestmark = pytest.mark.slow

@pytest.mark.skip(reason="not now")
def function(x):
    return x

above = pytest.mark.xfail(reason="known", strict=True)(pytest.mark.other("a", key=1)(Fake("wrong")))
below = Fake()
below.function = function
"""
    write("pytest.ini", "[pytest]\naddopts = --strict-markers\nmarkers =\n  slow: slow\n  other: other\n")
    for name in ("cases/a.py", "test_a.py"):
        file = write(name, f"# diffcheck\n{text}")
        pytester.runpytest_inprocess("-m", "slow").assert_outcomes(xfailed=4, skipped=4)
        pytester.runpytest_inprocess("-m", "other").assert_outcomes(xfailed=4, deselected=4)
        pytester.runpytest_inprocess("-m", "not diffcheck").assert_outcomes(deselected=8)
        pytester.runpytest_inprocess("-m", "diffcheck(dtype='float32')").assert_outcomes(
            xfailed=2, skipped=2, deselected=4
        )
        found = [item for item in collect([name]) if isinstance(item, Loaded)]
        assert [item.name for item in found] == ["above", "below"]  # the command has them, too
        file.unlink()


def test_what_failed_last_and_the_first_failure(pytester: pytest.Pytester):
    write("cases/a.py", f"# diffcheck\n{FAKE}one, two = Fake(), Fake('wrong')\n")
    pytester.runpytest_inprocess("-x").assert_outcomes(passed=4, failed=1)
    pytester.runpytest_inprocess("--lf").assert_outcomes(failed=1)
    pytester.runpytest_inprocess("-k", "two and forward").assert_outcomes(failed=2, deselected=6)


def test_junit(pytester: pytest.Pytester):
    write("cases/wrong.py", WRONG)
    pytester.runpytest_inprocess("--junitxml=report.xml", "-k", "reverse-float64", "--diffcheck-seed=1")
    (test,) = ET.parse("report.xml").iter("testcase")  # noqa: S314 - we have just written it
    assert (test.get("classname"), test.get("name")) == ("cases.wrong", "cube[reverse-float64]")
    properties = {p.get("name"): p.get("value") for p in test.iter("property")}
    assert properties == {"diffcheck": "wrong", "diffcheck-seed": "1"}
    (failure,) = test.iter("failure")
    assert (failure.get("message") or "").startswith("wrong: ")
    assert "autograd ran  2*dy[0]*x[0]**2" in (failure.text or "")


def test_rewritten_assertions_change_nothing(pytester: pytest.Pytester):
    text = GOOD.replace("    return 2 *", "    assert x.shape[0] == len(x) and (x == x).all(), x\n    return 2 *")
    write("test_a.py", text)
    pytester.runpytest_inprocess("-k", "quadratic", "--diffcheck-examples=5").assert_outcomes(passed=5, deselected=4)


# ---------------------------------------------------------------------------------------------------------------------
# In processes of their own
# ---------------------------------------------------------------------------------------------------------------------


def test_what_is_not_available_fails_where_it_was_asked_for_by_name(pytester: pytest.Pytester):
    write("cases/wrong.py", WRONG)
    options = ("--diffcheck-seed=1", "--diffcheck-examples=5", "-k", "forward-float64")
    pytester.runpytest_inprocess(*options).assert_outcomes(skipped=1, deselected=3)
    result = pytester.runpytest_inprocess(*options, "--diffcheck-mode=forward,reverse")
    result.assert_outcomes(failed=1, deselected=3)
    result.stdout.fnmatch_lines(["*not available: forward mode: You must implement the jvp function *"])


def test_workers_agree_with_one_process(pytester: pytest.Pytester):
    """The same items, with the same outcomes; the workers draw what the first process says.

    Warnings are errors there: PyTorch's first use of forward mode in a process warns, and that is not the case's doing.
    """
    write("cases/good.py", GOOD)
    write("cases/wrong.py", WRONG)
    write("test_a.py", f"{FAKE}own = Fake('agrees', do=lambda s: print('drawn with', s.seed))\n")
    alone = pytester.runpytest_inprocess("-rA", "--diffcheck-examples=5")
    shared = pytester.runpytest_subprocess("-rA", "--diffcheck-examples=5", "-n", "2", "-W", "error")
    alone.assert_outcomes(passed=13, failed=2, skipped=2)
    assert len(outcomes(alone)) == 15
    assert outcomes(shared) == outcomes(alone)
    (line,) = (line for line in shared.outlines if line.startswith("diffcheck: "))
    drawn = {line.split()[2] for line in shared.outlines if line.startswith("drawn with")}
    assert drawn == {line.rpartition("=")[2]}
    shared.stdout.fnmatch_lines(["FAILED cases/wrong.py::cube[[]reverse-float64] - wrong: *"])


def test_a_project_without_cases_imports_nothing(pytester: pytest.Pytester):
    """The plugin is there, with a folder called `cases` and everything, and costs the import of a few small files."""
    write("cases/law.py", "X = 1\n")
    heavy = ("torch", "sympy", "flint", "hypothesis", "rich", "typer", "jaxtyping", "numpy")
    ours = "sorted(m for m in sys.modules if m.startswith('diffcheck'))"
    write(
        "test_a.py",
        f"import sys\n\ndef test_nothing(pytestconfig):\n    assert pytestconfig.pluginmanager.hasplugin('diffcheck')\n"
        f"    assert [m for m in {heavy} if m in sys.modules] == []\n    assert {ours} == {LIGHT}\n",
    )
    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest", "-p", "no:jaxtyping", "-p", "no:syrupy")
    result.assert_outcomes(passed=1)
    assert "diffcheck:" not in result.stdout.str()


LIGHT = [
    "diffcheck",
    "diffcheck.commands",
    "diffcheck.commands.config",
    "diffcheck.errors",
    "diffcheck.modes",
    "diffcheck.pytest_plugin",
    "diffcheck.pytest_plugin.asked",
    "diffcheck.regression",
    "diffcheck.verdict",
    "diffcheck.versions",
]


def test_switched_off(pytester: pytest.Pytester):
    write("cases/wrong.py", WRONG)
    assert pytester.runpytest_inprocess("-p", "no:diffcheck").ret == 5
    assert pytester.runpytest_inprocess("-p", "no:diffcheck", "--diffcheck-seed=1").ret == 4


def test_our_own_pytest_leaves_the_cases_alone():
    """`pytest` in this repository runs its tests; `pytest cases/` runs the cases."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert options["testpaths"] == ["tests"]


# ---------------------------------------------------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------------------------------------------------


def test_a_case_says_its_rows_before_it_runs(pytester: pytest.Pytester):
    """What `rows` promises is what `run` gives, whole and in part."""
    found = [item for item in collect([str(ROOT / "cases" / "autograd.py")]) if isinstance(item, Loaded)]
    whole = Settings(examples=2, seed=1, database=False)
    for item in found[:1] + found[-2:]:
        case: Any = item.case
        for settings in (whole, Settings(2, 1, ("forward",), ("float32",), database=False)):
            results = list(declared.run(case, settings, case_id="a", location="a"))
            assert tuple((r.mode, r.dtype) for r in results) == declared.rows(case, settings) == rows_of(case, settings)
    part = Settings(2, 1, database=False, only=frozenset({("forward", "float32"), ("gradient", "float64")}))
    results = list(declared.run(found[0].case, part, case_id="a", location="a"))
    assert [(r.mode, r.dtype) for r in results] == [("forward", "float32"), ("gradient", "float64")]
    assert all(r.inputs for r in results)
