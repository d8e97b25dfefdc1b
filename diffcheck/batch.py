"""PyTorch's numbers at several inputs: what surrounds the calls of the function is done once for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from diffcheck.autodiff import SeedsFor
from diffcheck.case import Case
from diffcheck.draw import Drawn, Layout, admits, copied, laid_out, taken_in_turn
from diffcheck.trace import differentiate_each, textbook_gradients

TEXTBOOK: Final = "gradient"
"""The mode under which a case's own `gradient=` is reported."""
Forms: TypeAlias = tuple[tuple[tuple[int, ...], torch.dtype], ...]
"""Shapes and dtypes of tensors."""


@dataclass(frozen=True, slots=True)
class Input:
    """A drawn input in a dtype; all modes share it, and leave it as it is."""

    drawn: Drawn
    values: dict[str, Tensor]
    """By argument."""
    entries: list[float]
    """Of the differentiated arguments."""


def stacked(case: Case, given: Input, companions: Sequence[Callable[[Tensor], Tensor]]) -> Input:
    """An input and another one along a new first axis, for the modes under vmap.

    Args:
        case: The case.
        given: The input.
        companions: What may be made of each differentiated argument to get another input: the first that gives one in
            the case's domain is taken, and the input itself if none does.
    """
    names = [a.name for a in case.differentiated]
    for companion in (*companions, Tensor.clone):
        other = {n: companion(given.values[n]) for n in names}
        if admits(case.arguments, given.drawn.shapes, {**given.values, **other}, case.assume):
            break
    both = {n: laid_out(torch.stack([given.values[n], other[n]]), given.drawn.layout) for n in names}
    return Input(given.drawn, {**given.values, **both}, flat(list(both.values())))


def scaled(tensor: Tensor) -> Tensor:
    """Three quarters of it: positive numbers stay positive, and matrices positive definite."""
    return tensor * 0.75


def rolled(tensor: Tensor) -> Tensor:
    """Its entries, each in the place of the next."""
    return tensor.reshape(-1).roll(1).reshape(tensor.shape)


COMPANIONS: Final[tuple[Callable[[Tensor], Tensor], ...]] = (lambda x: scaled(rolled(x)), scaled, rolled)
"""See `stacked`."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What one input came to."""

    point: list[float]
    """The values of the trace's variables: inputs, then cotangents or tangents."""
    computed: list[float]
    seeds: Sequence[Tensor]


def numbers_at(case: Case, mode: str, given: Input) -> Numbers:
    """Lets PyTorch differentiate a case at one input, in any mode."""
    kept: list[Tensor] = []
    (computed,) = _computed(case, mode, [given], [seeds_for(given.drawn, kept)])
    return Numbers(given.entries + flat(kept), computed, kept)


def numbers_at_each(case: Case, mode: str, inputs: Sequence[Input], seeds: Forms) -> list[Numbers]:
    """The same at several inputs of the same shapes and dtype.

    Args:
        case: The case.
        mode: One of `diffcheck.config.MODES`, `accumulate` or `gradient`.
        inputs: They are left as they are.
        seeds: Of the cotangents and tangents, in the order in which they are asked for.
    """
    numbers, tensors = _seeds_of(inputs, seeds)
    computed = _computed(case, mode, inputs, [_handed_out(own) for own in tensors])
    return [Numbers(x.entries + n, c, t) for x, n, c, t in zip(inputs, numbers, computed, tensors, strict=True)]


def seeds_for(drawn: Drawn, kept: list[Tensor]) -> SeedsFor:
    """Gives the drawn cotangents or tangents, and leaves them in `kept`."""

    def seeds(like: Sequence[Tensor]) -> Sequence[Tensor]:
        found = taken_in_turn(drawn.seeds, like, sum(_count(t.shape, t.dtype) for t in kept), drawn.layout)
        kept.extend(found)
        return found

    return seeds


def _seeds_of(inputs: Sequence[Input], forms: Forms) -> tuple[list[list[float]], list[list[Tensor]]]:
    """What `taken_in_turn` gives for each input, as numbers and as tensors.

    To make a tensor of numbers costs as much as a small derivative: there is one for all inputs.
    """
    numbers: list[list[float]] = [[] for _ in inputs]
    seeds: list[list[Tensor]] = [[] for _ in inputs]
    position = 0
    for shape, dtype in forms:
        count = _count(shape, dtype)
        block = torch.tensor([_in_turn(x.drawn, position, count, dtype) for x in inputs], dtype=dtype.to_real())
        if dtype.is_complex:
            several = torch.view_as_complex(block.view(len(inputs), *shape, 2))
        else:
            several = block.view(len(inputs), *shape)
        rows = zip(inputs, block.tolist(), several.unbind(), strict=True)
        for i, (x, entries, seed) in enumerate(rows):
            numbers[i].extend(entries)
            own = x.drawn.layout
            seeds[i].append(seed if own is Layout.CONTIGUOUS else _lying(seed, own))
        position += count
    return numbers, seeds


def _count(shape: Sequence[int], dtype: torch.dtype) -> int:
    """How many real numbers a tensor holds."""
    return math.prod(shape) * (2 if dtype.is_complex else 1)


def _in_turn(drawn: Drawn, start: int, count: int, dtype: torch.dtype) -> list[float]:
    own, period = drawn.seeds, len(drawn.seeds)
    if drawn.layout is Layout.EXPANDED:
        parts = 2 if dtype.is_complex else 1
        return [own[(start + i % parts) % period] for i in range(count)]
    return [own[(start + i) % period] for i in range(count)]


def _lying(seed: Tensor, layout: Layout) -> Tensor:
    if layout is Layout.EXPANDED and seed.numel():
        return seed.view(-1)[0].expand(seed.shape)
    return laid_out(seed, layout)


def _handed_out(seeds: Sequence[Tensor]) -> SeedsFor:
    left = iter(seeds)
    return lambda like: [next(left) for _ in like]


def _computed(case: Case, mode: str, inputs: Sequence[Input], seeding: Sequence[SeedsFor]) -> list[list[float]]:
    fresh = [{name: copied(value) for name, value in given.values.items()} for given in inputs]
    if mode != TEXTBOOK:
        return [flat(run.derivatives) for run in differentiate_each(case, mode, fresh, seeding)]
    assert case.gradient is not None
    return [
        flat(textbook_gradients(case, case.gradient(*own.values()), [own[a.name] for a in case.differentiated]))
        for own in fresh
    ]


def flat(parts: Sequence[Tensor]) -> list[float]:
    """The entries of tensors as numbers, in row-major order; of complex ones both parts, in turn."""
    if len(parts) == 1 and not parts[0].is_complex():
        dimensions = parts[0].dim()
        if dimensions < 2:
            found: Any = parts[0].tolist()
            return found if dimensions else [found]
    entries: list[float] = []
    for tensor in parts:
        real = torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()
        entries.extend(real.reshape(-1).tolist())
    return entries
