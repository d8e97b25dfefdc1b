"""Cases as pytest knows them: a file of cases, and an item for each case, mode and dtype."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest

from diffcheck.checking import declared
from diffcheck.declare.load import Broken, Loaded, case_in, cases_of, label, load
from diffcheck.differentiate.device import why_absent
from diffcheck.processes import typed
from diffcheck.pytest_plugin.asked import ASKED, VERDICT
from diffcheck.pytest_plugin.checking import Row, options_of, result_of, settings_of
from diffcheck.pytest_plugin.source import marks_above, module_marks, names_in
from diffcheck.report.summary import is_internal, passes
from diffcheck.verdict import Result, Verdict, left_out


class CaseFile(pytest.File):
    """A file of cases, imported as `diffcheck run` imports it."""

    def collect(self) -> Iterable[pytest.Item]:
        """Imports the file, and gives an item for each row of each of its cases."""
        module = load(self.path)
        if isinstance(module, Broken):
            raise self.CollectError("\n".join([module.reason, *module.details]))
        for mark in module_marks(module):
            self.add_marker(mark)
        lines = names_in(self.path).lines
        for loaded in cases_of(module, self.path):
            yield from _items(self, loaded, lines.get(loaded.name), marks_above(vars(module)[loaded.name]))


def items_of_module(parent: pytest.Module | pytest.Class, name: str, value: object) -> list[pytest.Item] | None:
    """An item for each row of a case in a module that pytest imported; None if it is no case, or another module's."""
    case = case_in(value)
    names = names_in(parent.path)
    in_class = isinstance(parent, pytest.Class)
    if case is None or (name in names.imported and not in_class):
        return None
    qualified = f"{parent.name}.{name}" if in_class else name
    loaded = Loaded(f"{label(parent.path)}::{qualified}", parent.path, name, case, private=False)
    return _items(parent, loaded, names.lines.get(qualified), marks_above(value))


def _items(
    parent: pytest.Collector, loaded: Loaded, line: int | None, marks: Iterable[pytest.MarkDecorator]
) -> list[pytest.Item]:
    items: list[pytest.Item] = []
    if absent := why_absent(parent.config.stash[ASKED].device):
        raise parent.CollectError(f"diffcheck can't compute on {parent.config.stash[ASKED].device}: {absent}")
    marks = [*marks, *module_marks(getattr(loaded.case, "function", None))]
    for mode, dtype in declared.rows(loaded.case, settings_of(parent.config.stash[ASKED])):
        # The case's own `gradient=` is judged once, in float64.
        name = f"{loaded.name}[{mode}]" if mode == "gradient" else f"{loaded.name}[{mode}-{dtype}]"
        row = Row(loaded, mode, dtype, parent.nodeid)
        # The id is given as text: so pytest (9.2 and later) reads the row as parameters, as it does in its cache.
        item: CaseItem = CaseItem.from_parent(parent, name=name, nodeid=f"{parent.nodeid}::{name}", row=row, line=line)
        for mark in (*marks, pytest.mark.diffcheck(mode=mode, dtype=dtype)):
            item.add_marker(mark)
        if item.config.pluginmanager.hasplugin("xdist") and item.get_closest_marker("xdist_group") is None:
            # With `--dist loadgroup` a case stays whole: its rows share what is drawn.
            item.add_marker(pytest.mark.xdist_group(loaded.id))
        items.append(item)
    return items


class CaseItem(pytest.Item):
    """What pytest runs and reports: a case in one mode and dtype."""

    def __init__(self, *, row: Row, line: int | None, **given: Any) -> None:
        super().__init__(**given)
        self.row = row
        self.line = line

    def runtest(self) -> None:
        """Checks the case, or takes what was found out when another of its rows was checked."""
        asked = self.config.stash[ASKED]
        result = result_of(self.row, self.session)
        self.user_properties += [(VERDICT, result.verdict.value), (f"{VERDICT}-seed", asked.seed)]
        if result.details and result.verdict is not Verdict.UNSUPPORTED and not is_internal(result):
            self.add_report_section("call", VERDICT, "\n".join(result.details))
        if left_out(result):
            raise pytest.skip.Exception(f"{result.verdict}: {result.reason}", _use_item_location=True)
        if not passes(result, strict=asked.strict):
            raise NotPassedError(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Shows a finding as `diffcheck run` does: where in our code it was found says nothing."""
        if not isinstance(excinfo.value, NotPassedError):
            return super().repr_failure(excinfo, style)
        from diffcheck.report.failure import failure, headline

        result, strict = excinfo.value.result, self.config.stash[ASKED].strict
        text = failure(result, self._replay(), strict=strict, width=self.config.get_terminal_writer().fullwidth)
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
        node = f"{label(self.path)}::{self.nodeid.partition('::')[2]}"
        return " ".join(["pytest", typed(node), *options_of(self.row, self.config.stash[ASKED])])


class NotPassedError(Exception):
    """A case whose verdict does not pass."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"{result.verdict}: {result.reason}")
        self.result = result
