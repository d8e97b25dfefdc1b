"""The results of items: those of one case are found out together, once in a process, since they share what is drawn."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final

import pytest

from diffcheck.checking import declared
from diffcheck.declare.load import Loaded
from diffcheck.pytest_plugin.asked import ASKED, Asked
from diffcheck.report.summary import fails
from diffcheck.verdict import Result, Verdict

if TYPE_CHECKING:
    from diffcheck.settings import Settings

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One mode and dtype of one case."""

    loaded: Loaded
    mode: str
    dtype: str
    parent: str
    """The node that the case was found in."""

    @property
    def case(self) -> Key:
        """What the rows of one case share."""
        return self.parent, self.loaded.name


_SELECTED: Final = pytest.StashKey[dict[Key, set[Key]]]()
_RESULTS: Final = pytest.StashKey[dict[Key, list[Result]]]()


def settings_of(asked: Asked) -> Settings:
    """What a session was asked to do, as a check takes it."""
    from diffcheck.settings import Settings

    return Settings(
        examples=asked.examples,
        seed=asked.seed,
        modes=asked.modes,
        dtypes=asked.dtypes,
        seconds=asked.seconds,
        device=asked.device,
        by_name=asked.by_name,
        reuse=not asked.chosen,
    )


def options_of(row: Row, asked: Asked) -> list[str]:
    """What must be said beside a row's id to get it again with the same inputs."""
    usual = replace(settings_of(asked), modes=asked.project.modes, dtypes=asked.project.dtypes)
    options = [f"--diffcheck-seed={asked.seed}"]
    if asked.device != asked.project.device:
        options.append(f"--diffcheck-device={asked.device}")
    if asked.examples != asked.project.examples:
        options.append(f"--diffcheck-examples={asked.examples}")
    if (row.mode, row.dtype) not in declared.rows(row.loaded.case, usual):
        options += [f"--diffcheck-mode={','.join(asked.modes)}", f"--diffcheck-dtype={','.join(asked.dtypes)}"]
    return options


def result_of(row: Row, session: pytest.Session) -> Result:
    """The result of a row; the other rows of its case that the session selected are checked at the same time."""
    known = session.stash.setdefault(_RESULTS, {})
    if row.case not in known:
        only = frozenset(_selected(session).get(row.case, set()) | {(row.mode, row.dtype)})
        known[row.case] = _check(row.loaded, replace(settings_of(session.config.stash[ASKED]), only=only))
    return _standing_for(row, known[row.case])


def _selected(session: pytest.Session) -> dict[Key, set[Key]]:
    """The modes and dtypes that are selected of each case."""
    if _SELECTED not in session.stash:
        selected = session.stash[_SELECTED] = {}
        for item in session.items:
            if isinstance(row := getattr(item, "row", None), Row):
                selected.setdefault(row.case, set()).add((row.mode, row.dtype))
    return session.stash[_SELECTED]


def _standing_for(row: Row, results: list[Result]) -> Result:
    """A row's own result; or where the case came to nothing, what it came to."""
    failed = [r for r in results if fails(r, strict=False)]
    own = [r for r in results if (r.mode, r.dtype) == (row.mode, row.dtype)]
    for found in (own, [r for r in failed if r.dtype == row.dtype], failed):
        if found:
            return found[0]
    return Result(row.loaded.id, row.mode, row.dtype, Verdict.ERROR, reason="the check gave no result for this row")


def _check(loaded: Loaded, settings: Settings) -> list[Result]:
    from diffcheck.commands.run import results_of

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
