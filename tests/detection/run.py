"""The table of docs/detection.md: what is found and named, by diffcheck and by gradcheck.

    python tests/detection/run.py --output docs/detection.md [--seeds 20] [-j 2] [--kept FILE] [--minutes M]

With `--kept`, what was measured before is kept in a file, one line per entry and seed, and a later call goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from tests.detection.catalogue import MUTANTS
from tests.detection.gradients import FALSE_ALARMS
from tests.detection.measure import Ours, Theirs, accepts, alarm_passes, ours, theirs
from tests.detection.mutant import Mutant

Key = tuple[int, str]
"""An entry's position, and what was asked: `seed 3`, `slow`, `fast`."""


@dataclass
class Measured:
    """All that was measured of one entry."""

    entry: Mutant
    ours: list[Ours] = field(default_factory=list)
    slow: Theirs | None = None
    fast: Theirs | None = None


def main() -> None:
    """Measures what is not yet known, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("-j", type=int, default=1)
    parser.add_argument("--kept", type=Path)
    parser.add_argument(
        "--minutes", type=float, default=1e9, help="after which the table is written with what is known"
    )
    options = parser.parse_args()
    wanted = [
        (i, ask) for ask in ["slow", "fast", *map("seed {}".format, range(options.seeds))] for i in range(len(MUTANTS))
    ]
    found = {} if options.kept is None else _read(options.kept)
    open_keys = [key for key in wanted if key not in found]
    stop = time.monotonic() + 60 * options.minutes
    with ProcessPoolExecutor(options.j, get_context("fork"), initializer=_start) as pool:
        waiting = list(open_keys)
        while waiting and time.monotonic() < stop:
            batch, waiting = waiting[: 8 * options.j], waiting[8 * options.j :]
            for key, answer in zip(batch, pool.map(_ask, batch), strict=True):
                found[key] = answer
                if options.kept is not None:
                    with options.kept.open("a") as file:
                        file.write(json.dumps([*_named(key), answer]) + "\n")
    measured = [Measured(entry) for entry in MUTANTS]
    for (position, ask), answer in found.items():
        if ask.startswith("seed"):
            measured[position].ours.append(Ours(**{**answer, "names": tuple(answer["names"])}))
        else:
            setattr(measured[position], ask, Theirs(**answer))
    options.output.write_text("\n".join(_document(measured)) + "\n")


def _start() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)


def _ask(key: Key) -> dict[str, Any]:
    position, ask = key
    entry = MUTANTS[position]
    if ask.startswith("seed"):
        return asdict(ours(entry, int(ask.split()[1])))
    return asdict(theirs(entry, fast=ask == "fast"))


def _named(key: Key) -> tuple[str, str, str]:
    return MUTANTS[key[0]].family, MUTANTS[key[0]].name, key[1]


def _read(file: Path) -> dict[Key, dict[str, Any]]:
    positions = {(m.family, m.name): i for i, m in enumerate(MUTANTS)}
    found: dict[Key, dict[str, Any]] = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        family, name, ask, answer = json.loads(line)
        if (family, name) in positions:
            found[positions[family, name], ask] = answer
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The document
# ---------------------------------------------------------------------------------------------------------------------


def _document(measured: Sequence[Measured]) -> Iterator[str]:
    known = [m for m in measured if m.ours and m.slow and m.fast]
    seeds = sorted({len(m.ours) for m in known})
    yield from (
        "# What is found",
        "",
        f"{len(known)} wrong backward passes (`tests/detection/`), each beside its correct twin, were given to",
        "diffcheck at its default settings and to `torch.autograd.gradcheck` at its own, slow and fast, on float64",
        "inputs of one small shape, as people call it. Ours saw each with",
        f"{' to '.join(map(str, seeds[:1] + seeds[1:][-1:]))}",
        f"seeds, in both dtypes. torch {version('torch')}; times are of one core.",
        "",
        "    python tests/detection/run.py --output docs/detection.md --seeds 20 -j 2",
        "",
    )
    yield from _summary(known)
    yield from _alarms()
    yield from (
        "## By family",
        "",
        "| family | entries | found | named | gradcheck | fast |",
        "|---|---|---|---|---|---|",
    )
    for family in dict.fromkeys(m.entry.family for m in known):
        own = [m for m in known if m.entry.family == family]
        yield (
            f"| {family} | {len(own)} | {sum(all(o.found for o in m.ours) for m in own)} "
            f"| {sum(_all_named(m) for m in own)} | {sum(m.slow.found for m in own if m.slow)} "
            f"| {sum(m.fast.found for m in own if m.fast)} |"
        )
    yield from (
        "",
        "## Every entry",
        "",
        "`found` and `named` count seeds; a name that is not the expected one is told. ✗ is a wrong backward pass that",
        "was accepted.",
        "",
        "| entry | mistake | found | named | seconds | gradcheck | fast |",
        "|---|---|---|---|---|---|---|",
    )
    yield from map(_row, known)


def _summary(known: Sequence[Measured]) -> Iterator[str]:
    runs = [(m, one) for m in known for one in m.ours]
    nameable = [(m, one) for m, one in runs if m.entry.diagnosis]
    right = sum(one.named(m.entry.diagnosis) for m, one in nameable)
    slow, fast = [m.slow for m in known if m.slow], [m.fast for m in known if m.fast]
    found = _share([all(o.found for o in m.ours) for m in known])
    yield "| | diffcheck | gradcheck | gradcheck, fast |"
    yield "|---|---|---|---|"
    yield (
        f"| wrong ones found | {found}, with every seed | {_share([t.found for t in slow])} "
        f"| {_share([t.found for t in fast])} |"
    )
    accused = sum(any(o.accused for o in m.ours) for m in known)
    yield (
        f"| correct twins accused | {accused}, with any seed | {sum(t.accused for t in slow)} "
        f"| {sum(t.accused for t in fast)} |"
    )
    yield f"| named correctly | {right} of {len(nameable)} runs ({100 * right / max(len(nameable), 1):.1f}%) | – | – |"
    yield f"| named falsely | {sum(one.misnamed(m.entry.diagnosis) for m, one in runs)} of {len(runs)} runs | – | – |"
    yield (
        f"| seconds, median | {median(o.seconds for _, o in runs):.2f} | {median(t.seconds for t in slow):.3f} "
        f"| {median(t.seconds for t in fast):.3f} |"
    )
    yield ""


def _row(m: Measured) -> str:
    others = sorted({n or "no name" for o in m.ours for n in o.names} - {m.entry.diagnosis or "no name"})
    named = sum(o.named(m.entry.diagnosis) for o in m.ours)
    said = f" ({', '.join(others)})" if others else ""
    return (
        f"| {m.entry.family}: {m.entry.name.replace('_', ' ')} | {m.entry.diagnosis or '(not to be known)'} "
        f"| {sum(o.found for o in m.ours)}/{len(m.ours)} | {named}/{len(m.ours)}{said} "
        f"| {median(o.seconds for o in m.ours):.2f} | {_mark(m.slow)} | {_mark(m.fast)} |"
    )


def _all_named(measured: Measured) -> bool:
    return all(one.named(measured.entry.diagnosis) for one in measured.ours)


def _share(answers: Sequence[bool]) -> str:
    return f"{sum(answers)} of {len(answers)}"


def _mark(theirs: Theirs | None) -> str:
    assert theirs is not None
    return ("found" if theirs.found else "✗") + (", twin accused" if theirs.accused else "")


def _alarms() -> Iterator[str]:
    """Correct functions that gradcheck is known to accuse."""
    yield "## Right functions that gradcheck accuses"
    yield ""
    yield "| function, near the point | diffcheck | gradcheck |"
    yield "|---|---|---|"
    for alarm in FALSE_ALARMS:
        point = torch.tensor([alarm.point], dtype=torch.float64, requires_grad=True)
        said = "passes" if accepts(torch.autograd.gradcheck, alarm.function, [point], fast=False) else "accused"
        ours_says = "passes" if alarm_passes(alarm) else "accused"
        yield f"| {alarm.name.replace('_', ' ')}, {alarm.point:g} | {ours_says} | {said} |"
    yield ""


if __name__ == "__main__":
    main()
