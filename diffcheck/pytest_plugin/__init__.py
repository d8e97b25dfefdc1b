"""The pytest plugin: options, and where cases are met. What comes then is in `items`.

pytest imports this file in every project of an environment that has diffcheck: it imports little, and no case is looked
for where there can't be one.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from diffcheck import modes
from diffcheck.commands import config as configuration
from diffcheck.errors import ConfigError
from diffcheck.pytest_plugin.asked import ASKED, VERDICT, Asked

if TYPE_CHECKING:
    from collections.abc import Sequence

_FOLDER: Final = "cases"
"""Where cases lie in a project that says nothing: in any folder of that name."""
_SEED: Final = "diffcheck_seed"
"""What xdist's workers are told."""


# ---------------------------------------------------------------------------------------------------------------------
# Options
# ---------------------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options; those of `diffcheck run`, under names of our own."""
    group = parser.getgroup("diffcheck", "derivatives, proved and certified (diffcheck)")
    group.addoption(
        "--diffcheck-examples", type=_whole(1), metavar="N", help="How many inputs are drawn for each case (100)."
    )
    group.addoption(
        "--diffcheck-seed", type=_whole(0), metavar="N", help="Draws the same inputs as the run that printed it."
    )
    for name, known in (("mode", modes.MODES), ("dtype", modes.DTYPES)):
        group.addoption(
            f"--diffcheck-{name}",
            action="append",
            type=_some_of(known),
            metavar=name.upper(),
            help=f"Some of {modes.in_words(known)}; repeated or with commas between.",
        )
    group.addoption(
        "--diffcheck-device", type=_device, metavar="DEVICE", help="Where PyTorch computes: cpu, cuda, cuda:1, … (cpu)."
    )
    group.addoption(
        "--diffcheck-strict",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="Only `proved` passes, `agrees` does not.",
    )


def _whole(least: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {least} or more")
        return int(text)

    return convert


def _some_of(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def convert(text: str) -> tuple[str, ...]:
        words = tuple(word.strip() for word in text.split(","))
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(modes.refusal(word, known))
        return words

    return convert


def _device(text: str) -> str:
    if not modes.is_device(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a device, as cpu, cuda or cuda:1")
    return text


def pytest_configure(config: pytest.Config) -> None:
    """Reads what is asked for, and fails early if that can't be followed."""
    config.addinivalue_line(
        "markers",
        "diffcheck(mode, dtype): a case's derivative in one mode and dtype, as in -m \"diffcheck(dtype='float32')\"",
    )
    try:
        project = configuration.read(config.rootpath)
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from None
    examples, seed = config.getoption("--diffcheck-examples"), config.getoption("--diffcheck-seed")
    modes, dtypes = _words(config.getoption("--diffcheck-mode")), _words(config.getoption("--diffcheck-dtype"))
    strict = config.getoption("--diffcheck-strict")
    if seed is None:
        seed = project.seed
    told: dict[str, Any] = getattr(config, "workerinput", {})
    config.stash[ASKED] = Asked(
        examples=examples or project.examples,
        seed=told.get(_SEED, int.from_bytes(os.urandom(4), "big")) if seed is None else seed,
        chosen=seed is not None,
        modes=modes or project.modes,
        dtypes=dtypes or project.dtypes,
        strict=project.strict if strict is None else strict,
        seconds=project.seconds,
        device=config.getoption("--diffcheck-device") or project.device,
        by_name=project.by_name | frozenset(modes) | frozenset(dtypes),
        project=project,
    )


def _words(given: Sequence[tuple[str, ...]] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for words in given or () for word in words))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Gives the seed to a worker of xdist: all of them draw the same inputs."""
    node.workerinput[_SEED] = node.config.stash[ASKED].seed


# ---------------------------------------------------------------------------------------------------------------------
# Cases
# ---------------------------------------------------------------------------------------------------------------------


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Takes the files of cases that pytest's own collection leaves alone."""
    return None if parent.session.isinitpath(file_path) else _case_file(file_path, parent)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Takes a file of cases that is named on the command line, which pytest would take for a module of tests."""
    return _case_file(module_path, parent)


def _case_file(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if path.suffix != ".py" or path.name == "conftest.py" or not _holds_cases(path, parent.config):
        return None
    if any(path.match(pattern) for pattern in parent.config.getini("python_files")):
        return None  # a module of tests like any other
    from diffcheck.pytest_plugin.items import CaseFile

    return CaseFile.from_parent(parent, path=path)


def _holds_cases(path: Path, config: pytest.Config) -> bool:
    """Tells whether a file is one of cases, before it is imported."""
    configured = config.stash[ASKED].project.cases
    if configured:
        return any(path.is_relative_to(place) for place in configured)
    above = config.rootpath.parent
    folders = path.relative_to(above).parts[:-1] if path.is_relative_to(above) else path.parts[:-1]
    try:
        # Somebody else's folder of that name has nothing to do with us, and is not imported.
        return _FOLDER in folders and b"diffcheck" in path.read_bytes()
    except OSError:
        return False


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> Any:
    """Takes the cases in modules of tests, except those that are imported or have a name with an underscore before."""
    kind = type(obj)
    # Asked for every name of every module: anything else than these is none of our business.
    if kind.__name__ != "MarkDecorator" and not any("__diffcheck_case__" in vars(base) for base in kind.__mro__):
        return None
    from diffcheck.pytest_plugin.items import items_of_module

    return None if name.startswith("_") else items_of_module(collector, name, obj)


# ---------------------------------------------------------------------------------------------------------------------
# Reports
# ---------------------------------------------------------------------------------------------------------------------


def pytest_report_collectionfinish(config: pytest.Config, items: Sequence[pytest.Item]) -> str | None:
    """Says what the cases are checked with, in a session that has some."""
    asked = config.stash[ASKED]
    asked.announced = any(item.get_closest_marker("diffcheck") is not None for item in items)
    return asked.line if asked.announced else None


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """Says with `-v` how a case passed."""
    verdict = dict(getattr(report, "user_properties", ())).get(VERDICT, "")
    if not verdict:
        return None
    config.stash[ASKED].met = True
    return ("passed", ".", str(verdict).upper()) if report.when == "call" and report.passed else None


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Says at the end what the cases were checked with, where it could not be said before: the workers collect."""
    asked = config.stash[ASKED]
    if asked.met and not asked.announced:
        terminalreporter.write_line(asked.line)
