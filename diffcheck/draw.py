"""Hypothesis strategies for the inputs of a case: sizes, values over wide magnitudes, special values, cotangents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from hypothesis import strategies as st
from torch import Tensor

from diffcheck.domain import Argument, Shapes, contains, resolved

_WIDEST: Final = 20
"""Where no bound says more, magnitudes reach from 2**-20 to 2**20."""
_SIMPLE: Final = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0)
_STEPS: Final = 4096
"""Middling numbers reach from -32 to 32."""
_MOST_INTEGER: Final = 3
"""Integers without bounds reach from -3 to 3."""

Entries = tuple[float | int | bool, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """One set of inputs: exact entries in row-major order, by argument."""

    shapes: Mapping[str, tuple[int, ...]]
    entries: Mapping[str, Entries]
    seeds: tuple[float, ...]
    """Cotangents and tangents are taken from these numbers, in turn."""

    def __hash__(self) -> int:
        return hash((*self.entries.values(), self.seeds))


def _wide(code: int) -> float:
    """The number that an integer in [0, 2**59) encodes: sign, exponent, and every bit of the mantissa."""
    rest, negative = divmod(code, 2)
    mantissa, exponent = divmod(rest, 2 * _WIDEST)
    value = math.ldexp(1 + (mantissa % 2**52) / 2**52, exponent - _WIDEST)
    return -value if negative else value


def wide() -> st.SearchStrategy[float]:
    """A full-precision number of any magnitude that squares and cubes without overflow in float32."""
    return st.integers(0, 2**59 - 1).map(_wide)


def reals(known: Argument, special: Sequence[float] = ()) -> list[st.SearchStrategy[float]]:
    """Ways to draw a real number within an argument's bounds: simple and special ones, middling ones, any."""
    lower, upper = known.lower, known.upper
    assert not isinstance(lower, str) and not isinstance(upper, str)

    def inside(value: float) -> bool:
        return contains(known, value)

    simple = [v for v in dict.fromkeys((*_SIMPLE, *special, lower, upper)) if math.isfinite(v) and inside(v)]
    ways: list[st.SearchStrategy[float]] = [st.sampled_from(simple)] if simple else []
    steps = [k for k in range(-_STEPS, _STEPS + 1) if inside(k / 128 + 0.001)]
    if steps:
        ways.append(st.integers(steps[0], steps[-1]).map(lambda k: k / 128 + 0.001))
    if math.isinf(lower) and math.isinf(upper):
        ways.append(wide())
    elif math.isinf(upper):
        ways.append(wide().map(lambda v: lower + abs(v)).filter(inside))
    elif math.isinf(lower):
        ways.append(wide().map(lambda v: upper - abs(v)).filter(inside))
    elif lower == upper:
        ways.append(st.just(lower))
    else:
        ways.append(
            st.floats(lower, upper, exclude_min=known.lower_open, exclude_max=known.upper_open, allow_subnormal=False)
        )
    return ways


def _entries(known: Argument, count: int, special: Sequence[float]) -> st.SearchStrategy[Entries]:
    lower, upper = known.lower, known.upper
    assert not isinstance(lower, str) and not isinstance(upper, str)
    if known.kind == "boolean":
        return _patterns(count, 0, 1).map(lambda drawn: tuple(map(bool, drawn)))
    if known.kind == "integer":
        first = math.ceil(lower) + (known.lower_open and lower == math.ceil(lower)) if math.isfinite(lower) else None
        last = math.floor(upper) - (known.upper_open and upper == math.floor(upper)) if math.isfinite(upper) else None
        low = first if first is not None else (last - 2 * _MOST_INTEGER if last is not None else -_MOST_INTEGER)
        high = last if last is not None else low + 2 * _MOST_INTEGER
        return _patterns(count, low, high)
    ways = reals(known, special)
    mixed = st.one_of(ways)
    # A tensor of one kind of number takes one choice an element; drawing is half of a run's time.
    columns = [st.tuples(*[way] * count) for way in (*ways, mixed)]
    if count > 1:
        # Ties and repeated entries are where sorting, maxima and norms differ.
        columns.append(
            st.tuples(mixed, mixed, st.tuples(*[st.booleans()] * count)).map(
                lambda drawn: tuple(drawn[0] if b else drawn[1] for b in drawn[2])
            )
        )
    return st.one_of(columns)


def _patterns(count: int, low: int, high: int) -> st.SearchStrategy[Entries]:
    """One of three patterns: a trace serves one set of integers only, and a trace for every draw would be slow."""
    width = high - low + 1
    return st.integers(0, 2).map(lambda k: tuple(low + (k + i * (k + 1)) % width for i in range(count)))


def cotangent_numbers() -> st.SearchStrategy[tuple[float, ...]]:
    """Numbers for cotangents and tangents, signed and zero; a few are enough, taken in turn."""
    simple = st.sampled_from((1.0, -1.0, 0.0, 2.0, -0.5, 3.0))
    other = st.integers(-640, 640).map(lambda k: k / 128 + 0.003)
    return st.tuples(*[simple] * 5) | st.tuples(*[other] * 5)


def inputs(
    arguments: Sequence[Argument],
    assignments: Sequence[Shapes],
    special: Sequence[float] = (),
) -> st.SearchStrategy[Drawn]:
    """Inputs of a case: one of the assignments of sizes, then entries, then numbers for cotangents."""
    # Built once: Hypothesis validates a strategy when it first sees it, and that costs more than drawing from it.
    per_shapes = [
        st.builds(
            Drawn,
            st.just(shapes),
            st.fixed_dictionaries(
                {
                    a.name: _entries(resolved(a, shapes, arguments), math.prod(shapes[a.name]), special)
                    for a in arguments
                }
            ),
            cotangent_numbers(),
        )
        for shapes in assignments
    ]
    return st.integers(0, len(per_shapes) - 1).flatmap(per_shapes.__getitem__)


def tensors(drawn: Drawn, arguments: Sequence[Argument], dtype: torch.dtype) -> dict[str, Tensor]:
    """The drawn inputs as fresh tensors, real ones in the dtype under test."""
    kinds = {"real": dtype, "integer": torch.int64, "boolean": torch.bool}
    return {
        a.name: torch.tensor(drawn.entries[a.name], dtype=kinds[a.kind]).reshape(drawn.shapes[a.name])
        for a in arguments
    }


def taken_in_turn(numbers: Sequence[float], like: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of the shapes and dtypes of others, filled with the numbers, each starting where the last one ended."""
    result = []
    position = 0
    for tensor in like:
        count = tensor.numel()
        repeated = list(numbers) * ((position + count) // len(numbers) + 1)
        entries = repeated[position : position + count]
        position = (position + count) % len(numbers)
        result.append(torch.tensor(entries, dtype=tensor.dtype, device=tensor.device).view(tensor.shape))
    return result


def admits(
    arguments: Sequence[Argument],
    shapes: Shapes,
    values: Mapping[str, Tensor],
    assume: Callable[..., Any] | None,
) -> bool:
    """Whether tensors are in the domain: bounds (rounding to a narrower dtype may leave them), predicates, `assume`."""
    for known in arguments:
        value = values[known.name]
        bounds = resolved(known, shapes, arguments)
        bounded = known.kind == "real" and (math.isfinite(float(bounds.lower)) or math.isfinite(float(bounds.upper)))
        if bounded and not all(contains(bounds, v) for v in value.reshape(-1).tolist()):
            return False
        if not all(_holds(predicate(value.clone())) for predicate in known.predicates):
            return False
    return assume is None or _holds(assume(*(v.clone() for v in values.values())))


def _holds(answer: Any) -> bool:
    return bool(answer.all()) if isinstance(answer, Tensor) else bool(answer)
