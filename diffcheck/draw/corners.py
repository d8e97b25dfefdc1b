"""Inputs that chance leaves out: zeros and their combinations, one sign for all, nothing selected, the narrow end.

What a program asks by equality (`x == 0`, `n == 0`, an empty mask) is met at few inputs only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from diffcheck.declare.domain import Argument, Shapes, contains, resolved
from diffcheck.draw.inputs import Drawn, Entries, some_number, whole_numbers

_NATURAL: Final = (0.75, -1.25, 0.4375, 2.5, -0.8125, 1.625, -2.125)
"""Of natural size, of few digits, and no two of them alike."""
_SEEDS: Final = (1.0, -0.75, 0.5, 2.0, -1.25)
_Corner: TypeAlias = Callable[[int, int], float]
"""Gives an entry, by the argument's position among those that are differentiated, and its own."""


def _natural(which: int, i: int) -> float:
    return _NATURAL[(i + 3 * which) % len(_NATURAL)]


def _small(_: int, i: int) -> float:
    """Squares of these are below the smallest normal float16, and products of two squares are nothing."""
    return (5 + 2 * i % 32) / (-2048 if i % 2 else 2048)


def _corners(count: int) -> Iterator[_Corner]:
    yield lambda _, __: 0.0
    for alone in range(count if count > 1 else 0):
        yield lambda which, i, alone=alone: 0.0 if which == alone else _natural(which, i)  # type: ignore[misc]
    yield lambda which, i: 0.0 if i == 0 else _natural(which, i)
    yield lambda which, i: _natural(which, i) if i == 0 else 0.0
    yield _small
    yield lambda which, i: -abs(_natural(which, i))
    yield lambda which, i: abs(_natural(which, i))


def corners(arguments: Sequence[Argument], shapes: Shapes) -> list[Drawn]:
    """Such inputs of a case, at one assignment of sizes.

    What an argument's bounds forbid is replaced by some number that they allow; where nothing is left of what is
    special, an input is not given twice.
    """
    known = [resolved(a, shapes, arguments) for a in arguments]
    counts = [a.parts * math.prod(shapes[a.name]) for a in known]
    real = [i for i, a in enumerate(known) if a.differentiated]
    found: dict[tuple[Entries, ...], Drawn] = {}

    def add(corner: _Corner, discrete: Callable[[Argument, int], Entries]) -> None:
        entries = []
        for i, (a, count) in enumerate(zip(known, counts, strict=True)):
            if a.differentiated:
                entries.append(tuple(_within(a, corner(real.index(i), k)) for k in range(count)))
            else:
                entries.append(discrete(a, count))
        named = dict(zip((a.name for a in known), entries, strict=True))
        found.setdefault(tuple(entries), Drawn(shapes, named, _SEEDS))

    for corner in _corners(len(real)):
        add(corner, lambda a, count: whole_numbers(a, count, 0))
    if len(real) < len(known):
        for turn in range(3):
            add(_natural, lambda a, count, turn=turn: _alike(a, count, turn))  # type: ignore[misc]
    return list(found.values())


def _alike(known: Argument, count: int, turn: int) -> Entries:
    """Truth values, or integers, that are all the same."""
    if known.kind == "boolean":
        return (bool(turn % 2),) * count
    wanted = (0, *dict.fromkeys(whole_numbers(known, 7, 0)))
    allowed = [n for n in wanted if contains(known, n)]
    return (allowed[turn % len(allowed)] if allowed else whole_numbers(known, 1, 0)[0],) * count


def _within(known: Argument, value: float) -> float:
    return value if contains(known, value) else -value if contains(known, -value) else some_number(known)
