"""PyTorch's database of its operators: which entries there are, and a few small sample inputs of each."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from diffcheck import torch_internals
from diffcheck.differentiate.device import seed_generator
from diffcheck.errors import LoadError
from diffcheck.modes import CPU

SEED: Final = 0
"""Samples are drawn from PyTorch's, NumPy's and Python's generators; seeded so before each entry."""
MOST_ELEMENTS: Final = 30_000
"""Samples with more elements in their tensors are left out: a trace follows each element by itself."""
_MOST_SAMPLES: Final = 400
"""Some entries have thousands: it is chosen among the first."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One operator of the database."""

    name: str
    """With its variant: `nn.functional.pad.circular`."""
    info: Any
    """PyTorch's `OpInfo`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One call of an operator, and which of the database's samples it is."""

    position: int
    call: Any
    """PyTorch's `SampleInput`."""


def entries(patterns: Sequence[str] = (), dtype: torch.dtype = torch.float64, device: str = CPU) -> list[Entry]:
    """The entries that are differentiable, in the database's order.

    Args:
        patterns: Only entries whose name matches one of these, as file names do: `linalg.*`.
        dtype: Of complex dtypes, those that are differentiable in it; of real ones, those that are in float64.
        device: Where they are.

    Raises:
        LoadError: The database can't be imported, or has no such entry.
    """
    try:
        op_db = torch_internals.get("torch.testing._internal.common_methods_invocations.op_db")
    except ModuleNotFoundError as error:
        if error.name != "expecttest":
            raise
        raise LoadError(
            "PyTorch's database of operators needs the package expecttest: pip install 'torch-diffcheck[audit]'"
        ) from error
    known = [
        Entry(info.full_name, info)
        for info in op_db
        if info.supports_autograd
        and (dtype if dtype.is_complex else torch.float64) in info.supported_backward_dtypes(device)
    ]
    found = [e for e in known if matches(e.name, patterns)]
    if not found:
        raise LoadError(f"no differentiable operator of the database is named {' or '.join(patterns)}")
    return found


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether an entry is among those asked for: all are, where no pattern is given."""
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def samples(entry: Entry, dtype: torch.dtype, count: int, device: str = CPU) -> list[Sample]:
    """So many of an entry's samples: small ones, of different structure as far as there are some."""
    _seed(device)
    fitting: list[tuple[int, Sample]] = []
    with _without_ceremony(device):
        given = entry.info.sample_inputs(device, dtype, requires_grad=True)
        for position, call in enumerate(itertools.islice(given, _MOST_SAMPLES)):
            tensors = [leaf for leaf in _leaves(call) if isinstance(leaf, Tensor)]
            real = sum(t.numel() for t in tensors if t.requires_grad)
            if real and sum(t.numel() for t in tensors) <= MOST_ELEMENTS:
                fitting.append((real, Sample(position, call)))
    fitting.sort(key=lambda pair: (pair[0], pair[1].position))
    return list(itertools.islice(_varied([sample for _, sample in fitting]), count))


@contextmanager
def _without_ceremony(device: str) -> Iterator[None]:
    """What the database does around its samples takes longer than to judge them.

    It looks in the sources of all modules for the test that asks, of which there is none, and before each sample it
    sets the generators of every kind of accelerator.
    """
    common_utils = torch_internals.find("torch.testing._internal.common_utils")
    core = torch_internals.find("torch.testing._internal.opinfo.core")
    with ExitStack() as replaced:
        for module in (common_utils, core):
            if hasattr(module, "extract_test_fn"):
                replaced.enter_context(patch.object(module, "extract_test_fn", lambda: None))
        if hasattr(common_utils, "set_rng_seed"):
            replaced.enter_context(patch.object(common_utils, "set_rng_seed", partial(_seed, device)))
        yield


def _varied(ordered: Sequence[Sample]) -> Iterator[Sample]:
    """First a sample of every structure, each time the smallest, then the others."""
    seen: set[str] = set()
    others = []
    for sample in ordered:
        structure = _structure(sample.call)
        if structure in seen:
            others.append(sample)
        else:
            seen.add(structure)
            yield sample
    yield from others


def _structure(call: Any) -> str:
    """The ranks of the tensors, the numbers of the arguments, and which are None."""
    parts = []
    for leaf in _leaves(call):
        if isinstance(leaf, Tensor):
            parts.append(f"{leaf.ndim}{'' if leaf.numel() > 1 else '.'}")
        else:
            parts.append("n" if isinstance(leaf, (int, float)) and not isinstance(leaf, bool) else repr(leaf))
    return " ".join([*parts, *call.kwargs])


def _leaves(call: Any) -> list[Any]:
    return torch_internals.tree_leaves((call.input, call.args, call.kwargs))


def _seed(device: str, value: int = SEED) -> None:
    seed_generator(device, value)
    np.random.seed(value)  # noqa: NPY002 - PyTorch's samples draw from it
    random.seed(value)
