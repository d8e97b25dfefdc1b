"""The shadows of storages: a tensor is a window on one, as it is on memory, so that a view needs no rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffcheck.algebra import expr as graph
from diffcheck.algebra.constants import scalar
from diffcheck.declare.operation import storage_address
from diffcheck.errors import Unsupported
from diffcheck.rules.complexes import Complex, by_parts, joined, parted
from diffcheck.rules.registry import Array, elements, elementwise
from diffcheck.torch_internals import is_without_memory


@dataclass(slots=True)
class _Storage:
    """A storage's shadow, and the storage itself: its address must not be reused while the shadow is kept."""

    shadow: Array
    itemsize: int
    keep: Any


class Storages:
    """The storages that have a shadow."""

    def __init__(self) -> None:
        self._known: dict[int, _Storage] = {}

    def __contains__(self, tensor: Tensor) -> bool:
        return storage_address(tensor) in self._known

    def is_live(self, tensor: Tensor) -> bool:
        """Whether some element depends on the inputs."""
        storage = self._known.get(storage_address(tensor))
        return storage is not None and any(not graph.is_constant(e) for e in _strided(storage, tensor).flat)

    def window(self, tensor: Tensor) -> Array:
        """The tensor's shadow, shaped like it."""
        storage = self._known.get(storage_address(tensor))
        if storage is None:
            return exact_constants(tensor)
        cells = _strided(storage, tensor)
        if tensor.is_complex():
            cells = joined(cells)
        if tensor.is_neg():
            cells = by_parts(graph.negate, cells)
        return elements((z.conjugate() for z in cells.flat), cells.shape) if tensor.is_conj() else cells

    def write(self, tensor: Tensor, shadow: Array) -> None:
        """Puts a shadow beside a tensor, whose storage is given one if it has none."""
        address = storage_address(tensor)
        storage = self._known.get(address)
        if storage is None:
            keep = tensor.untyped_storage()
            size = keep.nbytes() // max(_cell_size(tensor), 1)
            if _covers(tensor, size):
                cells = elements([graph.ZERO] * size, (size,))
            else:
                real = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
                cells = exact_constants(torch.as_strided(real, (size,), (1,), 0))
            storage = self._known[address] = _Storage(cells, _cell_size(tensor), keep)
        if tensor.is_conj() or tensor.is_neg():
            raise Unsupported("a lazily conjugated tensor", "it is written to")
        _strided(storage, tensor)[...] = parted(shadow) if tensor.is_complex() else shadow


def are_views(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Whether all of an operation's results look at the memory of its arguments."""
    known = {storage_address(t) for t in inputs}
    return all(storage_address(t) in known for t in outputs)


def _parts(tensor: Tensor) -> int:
    """How many cells stand beside an element: a complex number has two."""
    return 2 if tensor.is_complex() else 1


def _cell_size(tensor: Tensor) -> int:
    return tensor.element_size() // _parts(tensor)


def _covers(tensor: Tensor, size: int) -> bool:
    return tensor.numel() * _parts(tensor) == size and tensor.is_contiguous()


def _strided(storage: _Storage, tensor: Tensor) -> Array:
    """The cells beside a tensor, shaped like it; of complex numbers, with a last axis for the two parts."""
    whole = storage.shadow.size == tensor.numel() and storage.itemsize == tensor.element_size()
    if whole and tensor.is_contiguous() and not tensor.is_complex():  # as most are
        return storage.shadow.reshape(tensor.shape)
    if storage.itemsize != _cell_size(tensor):
        raise Unsupported("view(dtype)", "the same bytes are read as another type")
    cells, parts = storage.shadow, _parts(tensor)
    shape, strides = tuple(tensor.shape), [s * parts for s in tensor.stride()]
    if parts == 2:
        shape, strides = (*shape, 2), [*strides, 1]
    if tensor.numel() * parts == cells.size and tensor.is_contiguous():
        return cells.reshape(shape)
    if tensor.numel() == 0:
        return np.empty(shape, dtype=object)
    return np.lib.stride_tricks.as_strided(
        cells[tensor.storage_offset() * parts :], shape, [s * cells.itemsize for s in strides]
    )


def exact_constants(tensor: Tensor) -> Array:
    """A tensor's entries as exact constants."""
    values = tensor.detach().resolve_conj().resolve_neg()
    if is_without_memory(values):
        return elements([graph.ZERO] * values.numel(), tuple(values.shape))
    if values.dtype.is_complex:
        return joined(exact_constants(torch.view_as_real(values)))
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.double()
    if values.ndim == 0 and values.dtype == torch.float64:
        # Autograd's formulas hand their numbers on as tensors without axes: 3.14, or the logarithm of 10.
        return elements([scalar(values.item())], ())
    return elements(map(graph.constant, values.reshape(-1).tolist()), tuple(values.shape))


def symbols_for(name: str, shape: Sequence[int]) -> Array:
    """One variable per element: `x` for a number, `x[0]` for a vector's entry, `x[0,1]` for a matrix's."""
    shape = tuple(shape)
    return elements(
        (graph.symbol(f"{name}[{','.join(map(str, index))}]" if index else name) for index in np.ndindex(shape)),
        shape,
    )


def symbols_of(name: str, tensor: Tensor) -> Array:
    """The variables of a tensor's elements; of a complex one two each, `x.real[0]` and `x.imag[0]`."""
    if not tensor.is_complex():
        return symbols_for(name, tuple(tensor.shape))
    return elementwise(Complex, *(symbols_for(f"{name}.{part}", tuple(tensor.shape)) for part in ("real", "imag")))
