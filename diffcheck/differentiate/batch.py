"""PyTorch's numbers at several inputs: what surrounds the calls of the function is done once for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from diffcheck.declare.case import Case
from diffcheck.differentiate.autodiff import SeedsFor, Several
from diffcheck.differentiate.run import derivatives_of_each, differentiate, textbook_gradients
from diffcheck.draw.inputs import Drawn, Layout, admits, copied, laid_out, taken_in_turn
from diffcheck.modes import TEXTBOOK

Floats: TypeAlias = npt.NDArray[np.float64]
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
    fresh = {name: copied(value) for name, value in given.values.items()}
    if mode == TEXTBOOK:
        found: Sequence[Tensor] = _textbook(case, fresh)
    else:
        found = differentiate(case, mode, fresh, seeds_for(given.drawn, kept)).derivatives
    return Numbers(given.entries + flat(kept), flat(found), kept)


@dataclass(frozen=True, slots=True)
class Block:
    """What several inputs came to."""

    points: Floats
    """The values of the trace's variables, [inputs, variables]."""
    computed: Floats
    """[inputs, numbers]."""
    seeds: Several


def numbers_at_each(case: Case, mode: str, inputs: Sequence[Input], forms: Forms) -> Block:
    """The same at several inputs of the same shapes and dtype.

    Args:
        case: The case.
        mode: One of `diffcheck.modes.MODES`, `accumulate` or `gradient`.
        inputs: They are left as they are.
        forms: Of the cotangents and tangents, in the order in which they are asked for.
    """
    numbers, seeds = _seeds_of(inputs, forms)
    fresh = [{name: copied(value) for name, value in given.values.items()} for given in inputs]
    if mode == TEXTBOOK:
        found: Sequence[Sequence[Tensor]] = [_textbook(case, own) for own in fresh]
    else:
        found = derivatives_of_each(case, mode, fresh, seeds)
    points = np.concatenate([np.array([given.entries for given in inputs], dtype=float), numbers], axis=1)
    return Block(points, _rows(found), seeds)


def _textbook(case: Case, values: dict[str, Tensor]) -> list[Tensor]:
    assert case.gradient is not None
    return textbook_gradients(case, case.gradient(*values.values()), [values[a.name] for a in case.differentiated])


@torch.no_grad()
def _rows(parts: Sequence[Sequence[Tensor]]) -> Floats:
    """What `flat` gives of the tensors of each input, as rows; they have the same shapes.

    One stack of all costs less than to read each.

    Raises:
        RuntimeError, ValueError: They do not.
    """
    columns = [_real(torch.stack(own)).to("cpu", torch.float64) for own in zip(*parts, strict=True)]
    rows: list[Floats] = [column.view(len(parts), column.numel() // len(parts)).numpy() for column in columns]
    return np.concatenate(rows, axis=1) if rows else np.empty((len(parts), 0))


def seeds_for(drawn: Drawn, kept: list[Tensor]) -> SeedsFor:
    """Gives the drawn cotangents or tangents, and leaves them in `kept`."""

    def seeds(like: Sequence[Tensor]) -> Sequence[Tensor]:
        found = taken_in_turn(drawn.seeds, like, sum(_count(t.shape, t.dtype) for t in kept), drawn.layout)
        kept.extend(found)
        return found

    return seeds


def _seeds_of(inputs: Sequence[Input], forms: Forms) -> tuple[Floats, Several]:
    """What `taken_in_turn` gives for each input, as numbers, [inputs, numbers], and as tensors.

    To make a tensor of numbers costs as much as a small derivative: there is one for all inputs.
    """
    drawn = [given.drawn for given in inputs]
    apart: dict[int, list[Tensor]] = {i: [] for i, own in enumerate(drawn) if own.layout is not Layout.CONTIGUOUS}
    numbers: list[Floats] = [np.empty((len(inputs), 0))]
    blocks: list[Tensor] = []
    position = 0
    for shape, dtype in forms:
        parts = 2 if dtype.is_complex else 1
        count = _count(shape, dtype)
        block = torch.from_numpy(_in_turn(drawn, position, count, parts)).to(dtype.to_real())
        numbers.append(block.to(torch.float64).numpy())
        if dtype.is_complex:
            block = torch.view_as_complex(block.view(-1, parts))
        blocks.append(block.view(len(inputs), *shape))
        for i, own in apart.items():
            own.append(_lying(blocks[-1][i], drawn[i].layout))
        position += count
    return np.concatenate(numbers, axis=1), Several(tuple(blocks), apart)


def _count(shape: Sequence[int], dtype: torch.dtype) -> int:
    """How many real numbers a tensor holds."""
    return math.prod(shape) * (2 if dtype.is_complex else 1)


def _in_turn(drawn: Sequence[Drawn], start: int, count: int, parts: int) -> Floats:
    seeds = [one.seeds for one in drawn]
    period = len(seeds[0])
    if any(len(own) != period for own in seeds):
        return np.concatenate([_in_turn([one], start, count, parts) for one in drawn])
    own = np.fromiter(chain.from_iterable(seeds), float, period * len(seeds)).reshape(-1, period)
    places = np.arange(count)
    found: Floats = own.take((start + places) % period, axis=1)
    expanded = [i for i, one in enumerate(drawn) if one.layout is Layout.EXPANDED]
    if expanded:
        found[expanded] = own[expanded].take((start + places % parts) % period, axis=1)
    return found


def _lying(seed: Tensor, layout: Layout) -> Tensor:
    if layout is Layout.EXPANDED and seed.numel():
        return seed.view(-1)[0].expand(seed.shape)
    return laid_out(seed, layout)


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def flat(parts: Sequence[Tensor]) -> list[float]:
    """The entries of tensors as numbers, in row-major order; of complex ones both parts, in turn."""
    if len(parts) == 1 and not parts[0].is_complex():
        dimensions = parts[0].dim()
        if dimensions < 2:
            found: Any = parts[0].tolist()
            return found if dimensions else [found]
    entries: list[float] = []
    for tensor in parts:
        entries.extend(_real(tensor.detach()).reshape(-1).tolist())
    return entries
