"""Files become cases, and whatever a file does, the others are loaded."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import pytest

from diffcheck.declare import load
from diffcheck.declare.load import Broken, Loaded, collect, importable
from diffcheck.errors import LoadError

FAKE = """\
class Fake:
    __diffcheck_case__ = True
    def __init__(self, value=None):
        self.value = value
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, text: str, *, fake: bool = True) -> Path:
    """Write a file of cases."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((FAKE if fake else "") + text, encoding="utf-8")
    return path


def ids(*paths: str) -> list[str]:
    """The ids of what is collected."""
    return [item.id for item in collect(paths)]


def broken(name: str = "a.py") -> Broken:
    """The one broken file."""
    (item,) = collect([name])
    assert isinstance(item, Broken)
    return item


def value(item: Loaded | Broken) -> object:
    """What a fake case holds."""
    assert isinstance(item, Loaded)
    return item.case.value  # type: ignore[attr-defined]


def test_order_is_of_definition() -> None:
    write("a.py", "zeta = Fake()\nalpha = Fake()\nother = 3\n")
    assert ids("a.py") == ["a.py::zeta", "a.py::alpha"]


def test_folders_are_searched_in_sorted_order() -> None:
    for name in ("c/b.py", "c/a.py", "c/sub/z.py", "c/.hidden/x.py", "c/__pycache__/x.py", "c/venv/lib/x.py"):
        write(name, "one = Fake()\n")
    Path("c/venv/pyvenv.cfg").touch()
    Path("c/readme.txt").touch()
    assert ids("c") == ["c/a.py::one", "c/b.py::one", "c/sub/z.py::one"]


def test_each_case_counts_once() -> None:
    write("c/a.py", "one = Fake()\nsame = one\nKind = Fake\n")
    assert ids("c", "c/a.py", "c/a.py::one", str(Path("c/a.py").resolve())) == ["c/a.py::one"]


def test_named_cases_keep_the_order_asked_for() -> None:
    write("a.py", "one = Fake()\ntwo = Fake()\n")
    assert ids("a.py::two", "a.py::one") == ["a.py::two", "a.py::one"]


def test_a_file_is_imported_once() -> None:
    write("a.py", "with open('log', 'a') as log:\n    log.write('x')\none = Fake()\ntwo = Fake()\n")
    collect(["a.py::one", "a.py::two", "."])
    assert Path("log").read_text() == "x"


def test_ids_outside_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.py", "one = Fake()\n")
    Path("sub").mkdir()
    monkeypatch.chdir("sub")
    assert ids("../a.py") == ["../a.py::one"]
    assert ids(str(tmp_path / "a.py")) == [f"{tmp_path.as_posix()}/a.py::one"]


def test_location_survives_a_shell() -> None:
    write("with space.py", "one = Fake()\n")
    (item,) = collect(["with space.py"])
    assert isinstance(item, Loaded)
    assert item.location == "'with space.py::one'"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nope.py", "no such file or folder: nope.py"),
        ("nope.py::one", "no such file or folder: nope.py"),
        ("", "no such file or folder"),
        ("a.txt", "a.txt is not a Python file"),
        ("a.py::", "the name of a case is missing"),
        ("c::one", "c is a folder; write FILE.py::one"),
        ("a.py::quadratc", "a.py has no case named quadratc: did you mean quadratic?"),
        ("a.py::xyz", "a.py has no case named xyz: it has quadratic, total"),
        ("empty.py::one", "empty.py has no case named one: it declares none"),
    ],
)
def test_wrong_paths(path: str, message: str) -> None:
    write("a.py", "quadratic = Fake()\ntotal = Fake()\n")
    write("empty.py", "")
    Path("a.txt").touch()
    Path("c").mkdir()
    with pytest.raises(LoadError) as caught:
        collect([path])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x = 1\ny = (\n", "a.py:2: SyntaxError: '(' was never closed: y = ("),
        ("x = 1\n  y = 2\n", "a.py:2: IndentationError: unexpected indent: y = 2"),
        ("\n\n1 / 0\n", "a.py:3: ZeroDivisionError: division by zero"),
        ("import nothing_like_this\n", "a.py:1: ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("raise ValueError\n", "a.py:1: ValueError"),
        ("import sys\nsys.exit(0)\n", "a.py:2: it called sys.exit(0) while it was imported"),
        ("import json\njson.loads('{')\n", "a.py:2: JSONDecodeError"),
        (
            "from diffcheck import DeclarationError\nraise DeclarationError('write it so:\\n  x')\n",
            "a.py:2: write it so:\n  x",
        ),
        ("def f(): f()\nf()\n", "a.py:1: RecursionError"),
    ],
)
def test_broken_files(source: str, reason: str) -> None:
    write("a.py", source, fake=False)
    write("b.py", "one = Fake()\n")
    first, second = collect(["."])
    assert isinstance(first, Broken)
    assert first.reason.startswith(reason)
    assert second.id == "b.py::one"


@pytest.mark.parametrize("data", [b"x = '\xff'\n", b"x = 1\x00\n", b"# coding: nonsense\n"])
def test_files_that_are_no_text(data: bytes) -> None:
    Path("a.py").write_bytes(data)
    assert broken().reason.startswith("a.py")


def test_a_file_that_can_not_be_read() -> None:
    Path("a.py").symlink_to("a.py.target")
    Path("a.py.target").mkdir()
    Path("b.py").mkdir()  # a folder may have any name
    assert ids("b.py") == []


def test_broken_files_name_the_line_that_led_there() -> None:
    """The error is in a helper; the line is that of the file of cases, and the traceback shows both."""
    write("helper.py", "def go():\n    raise KeyError('x')\n", fake=False)
    write("a.py", "import helper\n\nhelper.go()\n", fake=False)
    item = broken()
    assert item.reason == "a.py:3: KeyError: 'x'"
    assert "helper.py" in "\n".join(item.details)
    assert "load.py" not in "\n".join(item.details)


def test_an_import_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "IMPORT_SECONDS", 0.1)
    write("a.py", "while True:\n    try:\n        while True: pass\n    except Exception: pass\n", fake=False)
    write("b.py", "one = Fake()\n")
    start = time.monotonic()
    first, second = collect(["."])
    assert isinstance(first, Broken)
    assert "took longer than 0.1 s" in first.reason
    assert second.id == "b.py::one"
    assert time.monotonic() - start < 5


def test_editing_within_a_second_is_seen() -> None:
    """No cached bytecode: it is compared by size and second, and these two agree in both."""
    path = write("a.py", "one = Fake(4)\n")
    assert [value(item) for item in collect(["a.py"])] == [4]
    then = path.stat()
    write("a.py", "one = Fake(5)\n")
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert [value(item) for item in collect(["a.py"])] == [5]
    assert not Path("__pycache__").exists()


def test_a_file_does_not_stand_for_a_library() -> None:
    """`random.py` is not `random`, and two files of one name are two modules."""
    write("a/random.py", "one = Fake(1)\n")
    write("b/random.py", "one = Fake(2)\n")
    assert [value(item) for item in collect(["a", "b"])] == [1, 2]
    assert sys.modules["random"] is random


def test_neighbours() -> None:
    """Each folder has its own helper, at import and in what runs later."""
    for name in ("a", "b"):
        write(f"{name}/helper_of_both.py", f"value = '{name}'\n", fake=False)
        write(f"{name}/cases.py", "import helper_of_both\none = Fake(helper_of_both)\n")
        write(f"{name}/more.py", "import helper_of_both\none = Fake(helper_of_both)\n")
    before = list(sys.path)
    items = collect(["a", "b"])
    cases = [value(item) for item in items if item.id.endswith(("cases.py::one", "more.py::one"))]
    assert [helper.value for helper in cases] == ["a", "a", "b", "b"]  # type: ignore[attr-defined]
    assert cases[0] is cases[1]
    assert sys.path == before
    assert "helper_of_both" not in sys.modules
    with importable(Path("b")):
        import helper_of_both  # type: ignore[import-not-found]

        assert helper_of_both.value == "b"
    assert "helper_of_both" not in sys.modules


def test_dataclasses_find_their_module() -> None:
    write("a.py", "from dataclasses import dataclass\n@dataclass\nclass D:\n    x: 'int'\none = Fake(D(1))\n")
    assert ids("a.py") == ["a.py::one"]


def test_a_broken_file_leaves_no_module() -> None:
    before = set(sys.modules)
    write("a.py", "1 / 0\n", fake=False)
    collect(["a.py"])
    assert not {name for name in set(sys.modules) - before if name.startswith("_diffcheck")}


def test_hostile_values_are_no_cases() -> None:
    source = """
class Hostile:
    def __getattr__(self, name): raise RuntimeError(name)
class Yes:
    def __getattr__(self, name): return "yes"
hostile, yes, one = Hostile(), Yes(), Fake()
"""
    write("a.py", source)
    assert ids("a.py") == ["a.py::one"]
