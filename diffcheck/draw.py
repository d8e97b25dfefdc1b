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


def wide() -> st.SearchStrategy[float]:
    """A full-precision number of any magnitude that squares and cubes without overflow in float32."""
    mantissa = st.integers(0, 2**52 - 1).map(lambda m: 1 + m / 2**52)
    exponent = st.integers(-_WIDEST, _WIDEST - 1)
    sign = st.sampled_from((1.0, -1.0))
    return st.builds(lambda m, e, s: s * math.ldexp(m, e), mantissa, exponent, sign)


def reals(known: Argument, special: Sequence[float] = ()) -> st.SearchStrategy[float]:
    """Real numbers within an argument's bounds: simple ones, its end points, special ones, and any."""
    lower, upper = known.lower, known.upper
    assert not isinstance(lower, str) and not isinstance(upper, str)
    simple = [v for v in dict.fromkeys((*_SIMPLE, *special, lower, upper)) if math.isfinite(v) and contains(known, v)]
    if math.isinf(lower) and math.isinf(upper):
        anything = wide()
    elif math.isinf(upper):
        anything = wide().map(lambda v: lower + abs(v)).filter(lambda v: contains(known, v))
    elif math.isinf(lower):
        anything = wide().map(lambda v: upper - abs(v)).filter(lambda v: contains(known, v))
    else:
        anything = st.floats(
            lower, upper, exclude_min=known.lower_open, exclude_max=known.upper_open, allow_subnormal=False
        )
    middling = st.integers(-800, 800).map(lambda k: k / 128 + 0.001).filter(lambda v: contains(known, v))
    if not any(contains(known, k / 128 + 0.001) for k in range(-800, 801, 16)):
        return st.sampled_from(simple) | anything if simple else anything
    return st.sampled_from(simple) | middling | anything if simple else middling | anything


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
    element = reals(known, special)
    each = st.lists(element, min_size=count, max_size=count).map(tuple)
    if count < 2:
        return each
    # Ties and repeated entries are where sorting, maxima and norms differ.
    repeated = st.tuples(element, element, st.lists(st.booleans(), min_size=count, max_size=count)).map(
        lambda drawn: tuple(drawn[0] if b else drawn[1] for b in drawn[2])
    )
    return st.one_of(each, each, each, repeated)


def _patterns(count: int, low: int, high: int) -> st.SearchStrategy[Entries]:
    """One of three patterns: a trace serves one set of integers only, and a trace for every draw would be slow."""
    width = high - low + 1
    return st.integers(0, 2).map(lambda k: tuple(low + (k + i * (k + 1)) % width for i in range(count)))


def cotangent_numbers() -> st.SearchStrategy[tuple[float, ...]]:
    """Numbers for cotangents and tangents: signed, zero and simple, or wide; a few are enough, taken in turn."""
    simple = st.sampled_from((1.0, -1.0, 0.0, 2.0, -0.5, 3.0))
    number = simple | simple | st.integers(-640, 640).map(lambda k: k / 128 + 0.003)
    return st.lists(number, min_size=5, max_size=5).map(tuple)


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
        entries = [numbers[(position + i) % len(numbers)] for i in range(count)]
        position += count
        result.append(torch.tensor(entries, dtype=tensor.dtype, device=tensor.device).reshape(tensor.shape))
    return result


def admits(
    arguments: Sequence[Argument],
    shapes: Shapes,
    values: Mapping[str, Tensor],
    assume: Callable[..., Any] | None,
) -> bool:
    """Whether tensors are within the domain: bounds (rounding to a narrower dtype may leave them), predicates, `assume`."""
    for known in arguments:
        value = values[known.name]
        bounds = resolved(known, shapes, arguments)
        if known.kind == "real" and (math.isfinite(float(bounds.lower)) or math.isfinite(float(bounds.upper))):
            if not all(contains(bounds, v) for v in value.reshape(-1).tolist()):
                return False
        if not all(_holds(predicate(value.clone())) for predicate in known.predicates):
            return False
    return assume is None or _holds(assume(*(v.clone() for v in values.values())))


def _holds(answer: Any) -> bool:
    return bool(answer.all()) if isinstance(answer, Tensor) else bool(answer)
