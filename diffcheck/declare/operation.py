"""What an ATen operation's schema says, read once per operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor

from diffcheck import torch_internals
from diffcheck.errors import Unsupported

_ABOUT_LAYOUT: Final = frozenset(
    {"aten.is_same_size", "aten._has_same_storage_numel", "aten.sym_size", "aten.is_pinned"}
)
_TO_PYTHON: Final = frozenset({"aten._local_scalar_dense", "aten.item", "aten.is_nonzero"})
_IGNORED: Final = frozenset({"layout", "device", "pin_memory", "memory_format", "non_blocking", "generator"})
"""Keyword arguments that mean nothing to a rule."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One overload of an ATen operation."""

    text: str
    packet: str
    """`aten.add`."""
    rule_names: tuple[str, str]
    """Its rule may stand under: `aten.add.Tensor`, `aten.add`; in-place and `out=` variants under the functional."""
    written: tuple[tuple[int, str], ...]
    """Position and name of the arguments that it writes to."""
    fresh: tuple[bool, ...]
    """Which of its results are new tensors, not what it has written to."""
    without_meaning: frozenset[str]
    """Keyword arguments that a rule is not given."""
    random: bool
    changes_view: bool
    """In place, but of how the tensor looks at its storage: `squeeze_`."""
    detaches: bool
    to_python: bool
    """Python asks for a tensor's value."""
    about_layout: bool

    @property
    def writes(self) -> bool:
        """Whether it writes to an argument."""
        return bool(self.written)


@cache
def operation(func: Any) -> Operation:
    """What is known of an operation."""
    packet = str(torch_internals.packet(func))
    schema = torch_internals.schema(func)
    arguments = schema.arguments
    written = tuple((i, a.name) for i, a in enumerate(arguments) if a.alias_info is not None and a.alias_info.is_write)
    outputs = {a.name for a in arguments if a.kwarg_only and a.alias_info is not None and a.alias_info.is_write}
    namespace, _, name = packet.partition(".")
    if written and name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    elif name.startswith("__i") and name.endswith("__"):
        name = f"__{name[3:]}"
    overload = torch_internals.overload_name(func)
    overload = "default" if overload in ("", "out") else overload
    return Operation(
        text=str(func),
        packet=packet,
        rule_names=(f"{namespace}.{name}.{overload}", f"{namespace}.{name}"),
        written=written,
        fresh=tuple(r.alias_info is None for r in schema.returns),
        without_meaning=_IGNORED | outputs,
        random=torch.Tag.nondeterministic_seeded in func.tags,
        changes_view=torch.Tag.inplace_view in func.tags,
        detaches=packet in ("aten.detach", "aten.detach_"),
        to_python=packet in _TO_PYTHON,
        about_layout=packet in _ABOUT_LAYOUT,
    )


def storage_address(tensor: Tensor) -> int:
    """What identifies a tensor's storage, as long as that is kept alive.

    Raises:
        Unsupported: It has none.
    """
    if tensor.layout is not torch.strided:
        raise Unsupported("sparse tensors", "a shadow stands beside a strided storage")
    return torch_internals.storage_id(tensor)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors among an operation's arguments or results: operations nest them in lists only."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        found: list[Tensor] = []
        for part in value:
            if isinstance(part, Tensor):
                found.append(part)
            elif isinstance(part, (list, tuple)):
                found.extend(tensors_in(part))
        return found
    if isinstance(value, Mapping):
        return [t for part in value.values() for t in tensors_in(part)]
    return []


def targets(op: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> list[Tensor | None]:
    """The tensors that an operation's results stand in, in the order of the functional variant's results."""
    flat = list(result) if isinstance(result, (tuple, list)) else [result]
    if op.writes:
        found: list[Tensor | None] = [t for t, fresh in zip(flat, op.fresh, strict=True) if fresh]
        for position, name in op.written:
            value = args[position] if position < len(args) else kwargs.get(name)
            found.extend(value if isinstance(value, (list, tuple)) else [value])
        return found
    return [t if isinstance(t, Tensor) else None for t in flat]
