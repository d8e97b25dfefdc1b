"""Hypothesis strategies for the inputs of a case: sizes, values over wide magnitudes, special values, cotangents.

Hypothesis spends more on a choice, on every layer of strategies above it and on an example than PyTorch on a small
tensor. So an input is one strategy of plain integers, each of which stands for something, simpler things for smaller
ones; and many inputs are one example (`SeveralInputs`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, TypeAlias

import torch
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from diffcheck.declare.domain import Argument, Shapes, contains, resolved
from diffcheck.errors import NotAvailable

_WIDEST: Final = 20
"""Where no bound says more, magnitudes reach from 2**-20 to 2**20."""
_NARROW: Final = 5
"""The same for float16, where that squares and cubes without overflow; and for complex numbers, whose sines grow."""
_CHOSEN: Final = {"real": (2.0**-10, 2.0**12), "complex": (2.0**-10, 2.0**6)}
"""And numbers of few digits, where selectors change."""
_SIMPLE: Final = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0)
_NATURAL: Final = 4
"""Most inputs that people have are so large, or smaller."""
_STEPS: Final = (*range(-_NATURAL * 1024, _NATURAL * 1024 + 1), *(n * 64 for n in range(-512, 513) if abs(n) > 64))
_MODERATE: Final[tuple[float, ...]] = tuple(sorted((k / 1024 + 0.001 for k in _STEPS), key=abs))
"""Numbers from -32 to 32, most of them of natural size, no two of them simple multiples of each other."""
_SIMPLE_SEEDS: Final = (1.0, -1.0, 0.0, 2.0, -0.5, 3.0)
_SEEDS: Final = (*_SIMPLE_SEEDS, *sorted((k / 128 + 0.003 for k in range(-640, 641)), key=abs))
_MOST_INTEGER: Final = 3
"""Integers without bounds reach from -3 to 3."""

_FILLER: Final = 0.625
"""What stands in memory between the entries of a tensor that is not contiguous."""

Entries: TypeAlias = tuple[float | int | bool, ...]
_Choose: TypeAlias = Callable[[int], int]
"""Chooses an integer, from 0 up to the one that it is given."""


class Layout(StrEnum):
    """How inputs, cotangents and tangents lie in memory."""

    CONTIGUOUS = "contiguous"
    STRIDED = "strided"
    """Every other element of a larger tensor."""
    TRANSPOSED = "transposed"
    """The last two axes exchanged in memory; a vector begins one element into its storage."""
    EXPANDED = "expanded"
    """Cotangents and tangents repeat one element, as those of a sum do; inputs are contiguous."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One set of inputs: exact entries in row-major order, by argument."""

    shapes: Mapping[str, tuple[int, ...]]
    entries: Mapping[str, Entries]
    seeds: tuple[float, ...]
    """Cotangents and tangents are taken from these numbers, in turn."""
    layout: Layout = Layout.CONTIGUOUS
    large: bool = False
    """Whether some axis is long: then values are compared, and the identity is left to small sizes."""
    given: Mapping[str, Tensor] | None = field(default=None, compare=False, repr=False)
    """The tensors themselves, where somebody gave them; they may lie in memory as they like."""
    choices: tuple[int, ...] = field(default=(), compare=False, repr=False)
    """The integers that Hypothesis chose for it: from them its strategy gives it again."""

    def __hash__(self) -> int:
        return hash((*self.entries.values(), self.seeds, self.layout))


@dataclass(frozen=True, slots=True)
class _Way:
    """A way to draw a number: an integer from 0 up, and what it stands for."""

    largest: int
    decode: Callable[[int], float]


def _wide(code: int) -> float:
    """A full-precision number of any magnitude that squares and cubes without overflow in float32."""
    rest, negative = divmod(code, 2)
    mantissa, exponent = divmod(rest, 2 * _WIDEST)
    value = math.ldexp(1 + (mantissa % 2**52) / 2**52, exponent - _WIDEST)
    return -value if negative else value


def _between(lower: float, upper: float, code: int) -> float:
    """A number between two others: anywhere, or at any small distance from either end."""
    fraction, how = divmod(code, 64)
    part = (fraction % 2**53) / 2**53
    if how >= 32:
        part = math.ldexp(1 + part, -(how - 31))
        part = 1 - part if fraction % 2 else part
    return lower + (upper - lower) * part


def _ways(known: Argument, special: Sequence[float]) -> list[_Way]:
    """Ways to draw a real number within an argument's bounds: simple and special ones, moderate ones, any.

    The first integers stand for the simple numbers in each, or Hypothesis could not go from one way to a simpler one.
    """
    lower, upper = known.lower, known.upper
    assert not isinstance(lower, str) and not isinstance(upper, str)
    first = math.nextafter(lower, math.inf) if known.lower_open else lower
    last = math.nextafter(upper, -math.inf) if known.upper_open else upper

    def inside(value: float) -> float:
        return min(max(value, first), last)

    if math.isinf(lower) and math.isinf(upper):
        anything = _Way(2**59 - 1, _wide)
    elif math.isinf(upper):
        anything = _Way(2**59 - 1, lambda code: inside(lower + abs(_wide(code))))
    elif math.isinf(lower):
        anything = _Way(2**59 - 1, lambda code: inside(upper - abs(_wide(code))))
    else:
        anything = _Way(2**59 - 1, lambda code: inside(_between(lower, upper, code)))
    moderate = _moderate(first, last)
    ways = [*([_Way(len(moderate) - 1, moderate.__getitem__)] if moderate else []), anything]
    simple = [v for v in (*_SIMPLE, *special, lower, upper) if math.isfinite(v) and contains(known, v)]
    if not simple:
        return [*ways, _mixed(ways)]
    simplest = _Way(len(set(simple)) - 1, tuple(dict.fromkeys(simple)).__getitem__)
    return [simplest, *(_after(simplest, way) for way in (*ways, _mixed([simplest, *ways])))]


def _after(simplest: _Way, way: _Way) -> _Way:
    """Another way for the integers that one leaves over."""
    count = simplest.largest + 1
    return _Way(way.largest + count, lambda code: simplest.decode(code) if code < count else way.decode(code - count))


@lru_cache(maxsize=64)
def _moderate(first: float, last: float) -> tuple[float, ...]:
    return tuple(v for v in _MODERATE if first <= v <= last)


def _mixed(ways: Sequence[_Way]) -> _Way:
    count = len(ways)

    def decode(code: int) -> float:
        way = ways[code % count]
        return way.decode(code // count % (way.largest + 1))

    return _Way(count * (max(w.largest for w in ways) + 1) - 1, decode)


def _columns(known: Argument, count: int, special: Sequence[float]) -> Sequence[Callable[[_Choose], Entries]]:
    """Ways to draw the entries of an argument."""
    if not known.differentiated:
        # One of three patterns: a trace serves one set of integers only, and a trace for every draw would be slow.
        return [lambda _, turn=turn: whole_numbers(known, count, turn) for turn in range(3)]  # type: ignore[misc]
    ways = _ways(known, special)
    mixed = ways[-1]

    def column(way: _Way) -> Callable[[_Choose], Entries]:
        return lambda choose: tuple([way.decode(choose(way.largest)) for _ in range(count)])

    def tied(choose: _Choose) -> Entries:
        """Ties and repeated entries are where sorting, maxima and norms differ."""
        two = mixed.decode(choose(mixed.largest)), mixed.decode(choose(mixed.largest))
        which = choose(2**count - 1)
        return tuple([two[which >> i & 1] for i in range(count)])

    # Numbers of any magnitude are a part of what is drawn, and not the first that is met.
    natural = ways[:-2] * 2
    return [*map(column, (*natural, *ways[-2:])), *([tied] if count > 1 else [])]


def whole_numbers(known: Argument, count: int, turn: int) -> Entries:
    """Integers (or truth values) within an argument's bounds, in an order that depends on the turn."""
    if known.kind == "boolean":
        return tuple(bool((turn + i * (turn + 1)) % 2) for i in range(count))
    lower, upper = known.lower, known.upper
    assert not isinstance(lower, str) and not isinstance(upper, str)
    first = math.ceil(lower) + (known.lower_open and lower == math.ceil(lower)) if math.isfinite(lower) else None
    last = math.floor(upper) - (known.upper_open and upper == math.floor(upper)) if math.isfinite(upper) else None
    low = first if first is not None else (last - 2 * _MOST_INTEGER if last is not None else -_MOST_INTEGER)
    high = last if last is not None else low + 2 * _MOST_INTEGER
    return tuple(low + (turn + i * (turn + 1)) % (high - low + 1) for i in range(count))


class OneInput(SearchStrategy[Drawn]):
    """An input as an example.

    Args:
        drawn: Makes it of the integers that it chooses.
        size: How many elements it has at most.
    """

    def __init__(self, drawn: Callable[[_Choose], Drawn], size: int = 1) -> None:
        super().__init__()
        self._drawn = drawn
        self.size = size

    def do_draw(self, data: Any) -> Drawn:
        """Called by Hypothesis."""
        choices: list[int] = []

        def choose(largest: int) -> int:
            if not largest:
                return 0
            choices.append(data.draw_integer(0, largest))
            return choices[-1]

        drawn = self._drawn(choose)
        return replace(drawn, choices=tuple(choices))


class SeveralInputs(SearchStrategy[list[Drawn]]):
    """Several inputs as one example."""

    def __init__(self, each: OneInput, count: int) -> None:
        super().__init__()
        self._each, self._count = each, count

    def do_draw(self, data: Any) -> list[Drawn]:
        """Called by Hypothesis."""
        return [self._each.do_draw(data) for _ in range(self._count)]


def _cotangent_numbers(choose: _Choose) -> tuple[float, ...]:
    """Numbers for cotangents and tangents, signed and zero; a few are enough, taken in turn."""
    numbers = _SEEDS if choose(1) else _SIMPLE_SEEDS
    return tuple([numbers[choose(len(numbers) - 1)] for _ in range(5)])


def inputs(
    arguments: Sequence[Argument],
    assignments: Sequence[Shapes],
    special: Sequence[float] = (),
    *,
    large: bool = False,
    layouts: Sequence[Layout] = tuple(Layout),
) -> OneInput:
    """Inputs of a case: one of the assignments of sizes, then entries, then numbers for cotangents.

    Args:
        arguments: What the case declares.
        assignments: Shapes, by argument; the first ones are the smallest.
        special: Numbers to be drawn more often: where the selectors change.
        large: Whether these sizes are too large for proofs.
        layouts: How they may lie in memory.
    """
    per_shapes = [
        {
            a.name: _columns(resolved(a, shapes, arguments), a.parts * math.prod(shapes[a.name]), special)
            for a in arguments
        }
        for shapes in assignments
    ]
    turns = _layouts(layouts)

    def drawn(choose: _Choose) -> Drawn:
        which = choose(len(assignments) - 1)
        entries = {name: columns[choose(len(columns) - 1)](choose) for name, columns in per_shapes[which].items()}
        seeds = _cotangent_numbers(choose)
        return Drawn(assignments[which], entries, seeds, turns[choose(len(turns) - 1)], large)

    sizes = [sum(map(math.prod, shapes.values())) for shapes in assignments]
    return OneInput(drawn, max([1, *sizes]))


def at(
    values: Mapping[str, Tensor], seeds: Entries, layout: Layout = Layout.CONTIGUOUS, *, large: bool = False
) -> Drawn:
    """A given input with given numbers for the cotangents."""
    return Drawn(
        {name: tuple(value.shape) for name, value in values.items()},
        {name: tuple(value.detach().reshape(-1).tolist()) for name, value in values.items()},
        seeds,
        layout,
        large,
        values,
    )


def around(values: Mapping[str, Tensor], *, large: bool = False) -> OneInput:
    """A given input, with cotangents that are drawn."""
    given = at(values, (1.0,), large=large)
    turns = _layouts(tuple(Layout))
    return OneInput(
        lambda choose: replace(given, seeds=_cotangent_numbers(choose), layout=turns[choose(len(turns) - 1)])
    )


def _layouts(allowed: Sequence[Layout]) -> list[Layout]:
    """Layouts to choose from: contiguous in half of all draws, where it is allowed."""
    others = [layout for layout in allowed if layout is not Layout.CONTIGUOUS]
    return [Layout.CONTIGUOUS] * (max(1, len(others)) if len(others) < len(allowed) else 0) + others


def sweep(arguments: Sequence[Argument], shapes: Shapes, special: Sequence[float]) -> list[Drawn]:
    """Inputs in which every one of some numbers is an entry of every argument: chance might leave one out."""
    real = [a for a in arguments if a.differentiated and 0 not in shapes[a.name]]
    if not real or not special:
        return []
    found: list[Drawn] = []
    step = min(math.prod(shapes[a.name]) for a in real)
    for start in range(0, len(special), step):
        entries: dict[str, Entries] = {}
        for known in arguments:
            bounds, count = resolved(known, shapes, arguments), known.parts * math.prod(shapes[known.name])
            if known.differentiated:
                turn = (special[(start + i) % len(special)] for i in range(count))
                entries[known.name] = tuple(v if contains(bounds, v) else some_number(bounds) for v in turn)
            else:
                entries[known.name] = whole_numbers(bounds, count, len(found))
        found.append(Drawn(shapes, entries, (1.0, -0.75, 0.5, 2.0, -1.25)))
    return found


def some_number(bounds: Argument) -> float:
    """Some number within an argument's bounds."""
    lower, upper = bounds.lower, bounds.upper
    assert not isinstance(lower, str) and not isinstance(upper, str)
    moderate = next((v for v in _moderate(lower, upper) if contains(bounds, v)), None)
    if moderate is not None:
        return moderate
    return (lower + upper) / 2 if math.isfinite(lower + upper) else lower + 1 if math.isfinite(lower) else upper - 1


def tensors(drawn: Drawn, arguments: Sequence[Argument], dtype: torch.dtype) -> dict[str, Tensor]:
    """The drawn inputs as fresh tensors: real ones in the dtype under test, complex ones in that of its precision.

    Raises:
        NotAvailable: There are no complex numbers of that precision.
    """
    kinds = {"real": dtype.to_real(), "integer": torch.int64, "boolean": torch.bool}
    if any(a.kind == "complex" for a in arguments):
        if kinds["real"] not in (torch.float64, torch.float32):
            raise NotAvailable(
                str(dtype).removeprefix("torch."), "complex inputs are complex128 or complex64", mode=False
            )
        kinds["complex"] = kinds["real"].to_complex()
    if drawn.given is not None:
        given = {a.name: copied(drawn.given[a.name].detach()) for a in arguments}
        return {a.name: given[a.name].to(kinds[a.kind]) if a.differentiated else given[a.name] for a in arguments}
    found: dict[str, Tensor] = {}
    for a in arguments:
        entries = drawn.entries[a.name]
        if a.kind == "complex" or (a.kind == "real" and dtype == torch.float16):
            bounds = resolved(a, drawn.shapes, arguments)
            entries = tuple(_near_one(bounds, float(v)) for v in entries)
        found[a.name] = laid_out(_tensor(entries, kinds[a.kind], drawn.shapes[a.name]), drawn.layout)
    return found


def _tensor(entries: Sequence[float | int | bool], dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    """A tensor of numbers; of complex ones both parts are given, in turn."""
    if not dtype.is_complex:
        return torch.tensor(entries, dtype=dtype).reshape(tuple(shape))
    return torch.view_as_complex(torch.tensor(entries, dtype=dtype.to_real()).reshape(*shape, 2))


def _near_one(bounds: Argument, value: float) -> float:
    """A number brought near 1, if it is far from it and the bounds allow."""
    mantissa, exponent = math.frexp(value)
    smallest, largest = _CHOSEN[bounds.kind]
    chosen = math.ldexp(mantissa, 12).is_integer() and smallest <= abs(value) <= largest
    if chosen or value == 0 or -_NARROW < exponent <= _NARROW:
        return value
    near = math.ldexp(mantissa, exponent % (2 * _NARROW) - _NARROW + 1)
    return near if contains(bounds, near) else value


def laid_out(tensor: Tensor, layout: Layout) -> Tensor:
    """A contiguous tensor's entries, as an input of that layout."""
    if tensor.numel() == 0 or tensor.dim() == 0:
        return tensor
    match layout:
        case Layout.STRIDED:
            room = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1]), _FILLER).to(tensor)
            return room[..., ::2].copy_(tensor)
        case Layout.TRANSPOSED if tensor.dim() == 1:
            return torch.cat([torch.full((1,), _FILLER).to(tensor), tensor])[1:]
        case Layout.TRANSPOSED:
            return tensor.mT.contiguous().mT
        case _:
            return tensor


def copied(tensor: Tensor) -> Tensor:
    """A copy with memory of its own that lies in it as the tensor does; `clone` would close the gaps."""
    if tensor.is_contiguous():
        return tensor.clone()
    storage = tensor.untyped_storage().clone()
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(
        storage, tensor.storage_offset(), tensor.shape, tensor.stride()
    )


def taken_in_turn(
    numbers: Sequence[float], like: Sequence[Tensor], start: int = 0, layout: Layout = Layout.CONTIGUOUS
) -> list[Tensor]:
    """Tensors of the shapes and dtypes of others, filled with the numbers, each starting where the last one ended."""
    result = []
    position = start % len(numbers)
    for tensor in like:
        parts = 2 if tensor.is_complex() else 1
        count = parts * tensor.numel()
        repeated = list(numbers) * ((position + count) // len(numbers) + 1)
        entries = repeated[position : position + count]
        position = (position + count) % len(numbers)
        if layout is Layout.EXPANDED and count:
            result.append(_tensor(entries[:parts], tensor.dtype, ()).to(tensor.device).expand(tensor.shape))
        else:
            result.append(laid_out(_tensor(entries, tensor.dtype, tensor.shape).to(tensor.device), layout))
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
