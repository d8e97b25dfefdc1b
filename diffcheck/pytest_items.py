"""Cases as pytest knows them: a file of cases, and an item for each case, mode and dtype."""

from __future__ import annotations

import ast
import contextlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from diffcheck.load import Broken, Loaded, case_in, cases_of, label, load
from diffcheck.pytest_plugin import ASKED, VERDICT, Asked
from diffcheck.report.summary import is_internal, passes
from diffcheck.verdict import Result, Verdict

if TYPE_CHECKING:
    import os

    from diffcheck.check import Settings


class CaseFile(pytest.File):
    """A file of cases, imported as `diffcheck run` imports it."""

    def collect(self) -> Iterable[pytest.Item]:
        """Imports the file and gives an item for each row of each of its cases."""
        module = load(self.path)
        if isinstance(module, Broken):
            raise self.CollectError("\n".join([module.reason, *module.details]))
        self.own_markers += _marks(module)
        self.keywords.update((mark.name, mark) for mark in self.own_markers)
        names = _names(self.path)
        for loaded in cases_of(module, self.path):
            yield from _items(self, loaded, names.lines.get(loaded.name), _marks_above(vars(module)[loaded.name]))


def items_of_module(parent: pytest.Module | pytest.Class, name: str, value: object) -> list[pytest.Item] | None:
    """An item for each row of a case in a module that pytest imported; None if it is no case, or another module's."""
    case = case_in(value)
    names = _names(parent.path)
    if case is None or (isinstance(parent, pytest.Module) and name in names.imported):
        return None
    qualified = name if isinstance(parent, pytest.Module) else f"{parent.name}.{name}"
    loaded = Loaded(f"{label(parent.path)}::{qualified}", parent.path, name, case, private=False)
    return _items(parent, loaded, names.lines.get(qualified), _marks_above(value))


def _items(
    parent: pytest.Collector, loaded: Loaded, line: int | None, marks: Iterable[pytest.MarkDecorator]
) -> list[pytest.Item]:
    items: list[pytest.Item] = []
    marks = [*marks, *_marks(getattr(loaded.case, "function", None), decorators=True)]
    for mode, dtype in loaded.case.rows(_settings(parent.config.stash[ASKED])):
        # The case's own `gradient=` is judged once, in float64.
        row = mode if mode == "gradient" else f"{mode}-{dtype}"
        item: CaseItem = CaseItem.from_parent(
            parent, name=f"{loaded.name}[{row}]", row=Row(loaded, mode, dtype, parent.nodeid), line=line
        )
        for mark in marks:
            item.add_marker(mark)
        item.add_marker(pytest.mark.diffcheck(mode=mode, dtype=dtype))
        if item.config.pluginmanager.hasplugin("xdist") and item.get_closest_marker("xdist_group") is None:
            # With `--dist loadgroup` a case stays whole: its rows share their drawn inputs.
            item.add_marker(pytest.mark.xdist_group(loaded.id))
        items.append(item)
    return items


def _settings(asked: Asked) -> Settings:
    from diffcheck.check import Settings

    return Settings(
        examples=asked.examples,
        seed=asked.seed,
        modes=asked.modes,
        dtypes=asked.dtypes,
        seconds=asked.seconds,
        reuse=not asked.chosen,
    )


# ---------------------------------------------------------------------------------------------------------------------
# An item
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One mode and dtype of one case."""

    loaded: Loaded
    mode: str
    dtype: str
    parent: str
    """The node that the case was found in."""

    @property
    def key(self) -> tuple[str, str]:
        """What the rows of one case share."""
        return self.parent, self.loaded.name


class CaseItem(pytest.Item):
    """What pytest runs and reports: a case in one mode and dtype."""

    diffcheck_case = True

    def __init__(self, *, row: Row, line: int | None, **given: Any) -> None:
        super().__init__(**given)
        self.row = row
        self.line = line

    def runtest(self) -> None:
        """Checks the case, or takes what was found out when another of its rows was checked."""
        asked = self.config.stash[ASKED]
        result = _result(self)
        self.user_properties += [(VERDICT, result.verdict.value), ("diffcheck seed", asked.seed)]
        if result.details and not is_internal(result):
            self.add_report_section("call", "diffcheck", "\n".join(result.details))
        if not passes(result, strict=asked.strict):
            raise NotPassedError(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Shows a finding as `diffcheck run` does; where it was found in our code says nothing."""
        if not isinstance(excinfo.value, NotPassedError):
            return super().repr_failure(excinfo, style)
        from diffcheck.report.failure import failure, headline

        result = excinfo.value.result
        asked = self.config.stash[ASKED]
        text = failure(result, self._replay(), strict=asked.strict, width=self.config.get_terminal_writer().fullwidth)
        # A traceback of one entry, which is our text: xdist, JUnit and the short summary know this form.
        shown: Any = excinfo.getrepr(style="native")
        shown.reprtraceback.reprentries[0].lines = [text]
        shown.reprcrash.path, shown.reprcrash.lineno = str(self.path), self.line or 0
        shown.reprcrash.message = headline(result)
        return shown

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """The place of the case."""
        return self.path, None if self.line is None else self.line - 1, self.name

    def _replay(self) -> str:
        """The command that checks this row again with the same inputs."""
        import shlex

        asked = self.config.stash[ASKED]
        node = self.nodeid.partition("::")[2]
        parts = ["pytest", shlex.quote(f"{label(self.path)}::{node}"), f"--diffcheck-seed={asked.seed}"]
        if self.config.getoption("--diffcheck-examples"):
            parts.append(f"--diffcheck-examples={asked.examples}")
        return " ".join(parts)


class NotPassedError(Exception):
    """A case whose verdict does not pass."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"{result.verdict}: {result.reason}")
        self.result = result


# ---------------------------------------------------------------------------------------------------------------------
# Checking
# ---------------------------------------------------------------------------------------------------------------------

_SELECTED: Final = pytest.StashKey[dict[tuple[str, str], set[tuple[str, str]]]]()
_RESULTS: Final = pytest.StashKey[dict[tuple[str, str], list[Result]]]()


def _result(item: CaseItem) -> Result:
    """The result of an item; all selected rows of its case are checked at once, since they share the drawn inputs."""
    row, stash = item.row, item.session.stash
    if _SELECTED not in stash:
        selected: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for other in item.session.items:
            if isinstance(other, CaseItem):
                selected.setdefault(other.row.key, set()).add((other.row.mode, other.row.dtype))
        stash[_SELECTED] = selected
    known = stash.setdefault(_RESULTS, {})
    if row.key not in known:
        only = frozenset(stash[_SELECTED].get(row.key, set()) | {(row.mode, row.dtype)})
        known[row.key] = _check(row.loaded, replace(_settings(item.config.stash[ASKED]), only=only))
    return _stands_for(row, known[row.key])


def _stands_for(row: Row, results: list[Result]) -> Result:
    """A row's own result; or where the case came to nothing, what it came to."""
    own = [r for r in results if (r.mode, r.dtype) == (row.mode, row.dtype)]
    failed = [r for r in results if not passes(r, strict=False)]
    for found in (own, [r for r in failed if r.dtype == row.dtype], failed):
        if found:
            return found[0]
    return Result(row.loaded.id, row.mode, row.dtype, Verdict.ERROR, reason="the check gave no result for this row")


def _check(loaded: Loaded, settings: Settings) -> list[Result]:
    from diffcheck.run import results_of

    _prepare()
    with _one_thread():
        return list(results_of(loaded, settings))


@cache
def _prepare() -> None:
    """Does once what else would be done at a first use, where its warnings would be taken for the case's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

        from diffcheck.rules import table

        table()
        torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """On tensors of a few elements PyTorch's threads only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# ---------------------------------------------------------------------------------------------------------------------
# What the source says
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Names:
    """The names that a module's source binds."""

    lines: dict[str, int]
    """Where each begins, its decorators included; those in a class as `Class.name`."""
    imported: frozenset[str]


@cache
def _names(file: Path) -> Names:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return Names({}, frozenset())
    lines: dict[str, int] = {}
    imported: set[str] = set()
    for prefix, node in _statements(tree.body, ""):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                lines[prefix + name] = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            case ast.Assign(targets=targets):
                bound = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
                lines |= {prefix + name: node.lineno for name in bound}
            case ast.AnnAssign(target=ast.Name(id=name)):
                lines[prefix + name] = node.lineno
            case ast.Import(names=names) | ast.ImportFrom(names=names) if not prefix:
                imported |= {alias.asname or alias.name for alias in names}
    return Names(lines, frozenset(imported - lines.keys()))


def _statements(body: Iterable[ast.AST], prefix: str) -> Iterator[tuple[str, Any]]:
    """A module's statements, also those below `if`, `try` and `with`, and those of its classes."""
    for node in body:
        yield prefix, node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.expr)):
            inner = f"{node.name}." if isinstance(node, ast.ClassDef) else prefix
            yield from _statements(ast.iter_child_nodes(node), inner)


def _marks(value: object, *, decorators: bool = False) -> list[Any]:
    """What `pytestmark` says: of a module, or of the function below `@case`."""
    found = getattr(value, "pytestmark", [])
    listed = found if isinstance(found, (list, tuple)) else [found]
    marks = [getattr(mark, "mark", mark) for mark in listed]
    return [pytest.MarkDecorator(mark, _ispytest=True) for mark in marks] if decorators else marks


def _marks_above(value: object) -> Iterator[pytest.MarkDecorator]:
    """The marks above `@case`, which hold the case as their last argument."""
    while isinstance(value, pytest.MarkDecorator) and value.args:
        *arguments, inner = value.args
        mark = getattr(pytest.mark, value.name)
        yield mark.with_args(*arguments, **value.kwargs)
        value = inner


__all__ = ["CaseFile", "items_of_module"]

