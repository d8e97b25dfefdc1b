"""Everything that is taken from PyTorch's inside, which it may change in any release.

Each thing is a hook: looked up by its name when it is first needed. Where a PyTorch lacks one, what needs it is
unsupported and names it, and everything else runs. No other module imports a name of PyTorch's that is private.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from diffcheck import versions
from diffcheck.errors import Unsupported

_SAMPLE: Final = "torch.ops.aten.add.Tensor"
"""An operation that shows what all operations have."""

HOOKS: Final[Mapping[str, str]] = {
    "torch._C._is_fwd_grad_enabled": "tells a custom Function's forward from no_grad",
    "torch._C._set_grad_enabled": "tells no_grad of the user's from one of PyTorch's",
    "torch._C._current_graph_task_id": "tells what autograd detaches in a function that asks for gradients itself",
    "torch._C.DispatchKey.CompositeImplicitAutograd": "tells which operations PyTorch runs as others",
    "torch._C._dispatch_has_kernel": "tells which overloads of an operation exist",
    "torch._C._jit_get_all_schemas": "tells what operations are called",
    "torch._ops.OpOverload": "tells an operation from a name",
    "torch._ops.OpOverloadPacket": "tells an operation from a name",
    f"{_SAMPLE}._schema": "tells what an operation writes to and returns",
    f"{_SAMPLE}._overloadname": "tells an operation's overloads apart",
    f"{_SAMPLE}._overloadpacket": "tells what an operation is called",
    f"{_SAMPLE}.has_kernel_for_dispatch_key": "tells which operations PyTorch runs as others",
    f"{_SAMPLE}.decompose": "runs an operation as others",
    "torch._decomp.decomposition_table": "gives PyTorch's decompositions of operations",
    "torch._decomp.decompositions_for_jvp": "is imported by the first use of forward mode, and takes seconds",
    "torch._library.custom_ops.OPDEFS": "gives the Python function behind a custom operation",
    "torch._vmap_internals._vmap": "runs forward mode along several tangents at once",
    "torch._compile._disable_dynamo": "shows what would import the compiler",
    "torch.overrides._get_current_function_mode_stack": "tells which modes are in force",
    "torch.utils._python_dispatch.TorchDispatchMode": "shows operations as they run",
    "torch.utils._python_dispatch._get_current_dispatch_mode_stack": "tells which modes are in force",
    "torch.utils._python_dispatch._disable_current_modes": "runs operations outside of the modes in force",
    "torch.utils._pytree.tree_flatten_with_path": "takes nested inputs apart",
    "torch.utils._pytree.tree_leaves": "takes nested results apart",
    "torch.utils._pytree.tree_map": "changes nested results",
    "torch.utils._pytree.tree_unflatten": "puts nested inputs together",
    "torch.UntypedStorage._cdata": "tells storages apart",
    "torch.Tensor._is_zerotensor": "tells a tangent that has no memory",
    "torch.testing._internal.common_methods_invocations.op_db": "is the database of operators",
    "torch.testing._internal.common_utils": "makes samples of the database",
    "torch.testing._internal.opinfo.core": "makes samples of the database",
}
"""What is taken, and what it does for diffcheck."""


def _resolved(name: str) -> Any:
    """What a dotted name stands for: an attribute, or a module."""
    parts = name.split(".")
    found: Any = torch
    for count, part in enumerate(parts[1:], 2):
        if isinstance(found, ModuleType) and not hasattr(found, part):
            found = import_module(".".join(parts[:count]))
        else:
            found = getattr(found, part)
    return found


@cache
def _known(name: str) -> tuple[Any] | None:
    assert name in HOOKS, name
    try:
        return (_resolved(name),)
    except AttributeError:
        return None
    except ImportError as error:  # of what PyTorch needs itself
        if error.name is not None and error.name.partition(".")[0] != "torch":
            raise
        return None


def find(name: str) -> Any:
    """A hook, or None where this PyTorch lacks it: for what works without as well.

    Raises:
        ImportError: It needs a package that is not installed.
    """
    known = _known(name)
    return None if known is None else known[0]


def get(name: str) -> Any:
    """A hook.

    Raises:
        Unsupported: This PyTorch lacks it.
        ImportError: It needs a package that is not installed.
    """
    known = _known(name)
    if known is None:
        raise missing(name)
    return known[0]


def missing(name: str) -> Unsupported:
    """What is to be raised where a hook is needed and missing."""
    return Unsupported(f"torch {torch.__version__}", f"it has no {name}, which {HOOKS[name]}; {versions.tried()}")


# ---------------------------------------------------------------------------------------------------------------------
# Modes
# ---------------------------------------------------------------------------------------------------------------------


class _NoDispatchMode:
    """In place of PyTorch's class where there is none: it can be extended, and not be made."""

    def __init__(self) -> None:
        raise missing("torch.utils._python_dispatch.TorchDispatchMode")


if TYPE_CHECKING:
    from torch.utils._python_dispatch import TorchDispatchMode

    class DispatchMode(TorchDispatchMode):
        """PyTorch's class of modes that see operations."""
else:
    DispatchMode = find("torch.utils._python_dispatch.TorchDispatchMode") or _NoDispatchMode


def dispatch_modes() -> Sequence[Any]:
    """The dispatch modes in force."""
    found: Sequence[Any] = get("torch.utils._python_dispatch._get_current_dispatch_mode_stack")()
    return found


def function_modes() -> Sequence[Any]:
    """The function modes in force."""
    found: Sequence[Any] = get("torch.overrides._get_current_function_mode_stack")()
    return found


def no_modes() -> AbstractContextManager[Any]:
    """Takes all dispatch modes out of force."""
    outside: AbstractContextManager[Any] = get("torch.utils._python_dispatch._disable_current_modes")()
    return outside


def forward_mode_is_on() -> bool:
    """Whether autograd would carry tangents."""
    return bool(get("torch._C._is_fwd_grad_enabled")())


def is_running_backward() -> bool:
    """Whether autograd's engine is at work on this thread."""
    task = find("torch._C._current_graph_task_id")
    return task is not None and task() != -1


def switches_reverse_mode(function: Any) -> bool:
    """Whether it is what `torch.no_grad` and its likes call with the state that they want."""
    switch = find("torch._C._set_grad_enabled")
    return switch is not None and function is switch


# ---------------------------------------------------------------------------------------------------------------------
# Operations
# ---------------------------------------------------------------------------------------------------------------------


def _of_operation(func: Any, attribute: str) -> Any:
    get(f"{_SAMPLE}.{attribute}")
    return getattr(func, attribute)


def schema(func: Any) -> Any:
    """What an operation takes and returns, as PyTorch declares it."""
    return _of_operation(func, "_schema")


def overload_name(func: Any) -> str:
    """`Tensor` of `aten.add.Tensor`; empty for the one without a name."""
    return str(_of_operation(func, "_overloadname"))


def packet(func: Any) -> Any:
    """The operation with all its overloads."""
    return _of_operation(func, "_overloadpacket")


def is_overload(value: Any) -> bool:
    """Whether something is one overload of an operation."""
    return isinstance(value, get("torch._ops.OpOverload"))


def is_packet(value: Any) -> bool:
    """Whether something is an operation with all its overloads."""
    return isinstance(value, get("torch._ops.OpOverloadPacket"))


def exists(func: Any) -> bool:
    """Whether an overload can be called: those of TorchScript are listed and can't."""
    return bool(get("torch._C._dispatch_has_kernel")(func.name()))


def names_of_operations() -> set[str]:
    """Every operation that is registered: `aten::add`."""
    return {known.name for known in get("torch._C._jit_get_all_schemas")()}


def is_composite(func: Any) -> bool:
    """Whether PyTorch runs an operation as others, which autograd then sees."""
    key = get("torch._C.DispatchKey.CompositeImplicitAutograd")
    return bool(_of_operation(func, "has_kernel_for_dispatch_key")(key))


def decomposition_of(func: Any) -> Any:
    """PyTorch's own way to compute an operation by others, as a function of the same arguments; None if it has none."""
    if is_composite(func):
        return _of_operation(func, "decompose")
    return get("torch._decomp.decomposition_table").get(func)


def function_of_custom_operation(func: Any) -> Callable[..., Any] | None:
    """The Python function that a `torch.library.custom_op` was made of; None of any other operation."""
    definition = get("torch._library.custom_ops.OPDEFS").get(schema(func).name)
    return None if definition is None else definition._init_fn


# ---------------------------------------------------------------------------------------------------------------------
# Tensors
# ---------------------------------------------------------------------------------------------------------------------


def storage_id(tensor: Tensor) -> int:
    """What identifies a tensor's storage, as long as that is kept alive."""
    get("torch.UntypedStorage._cdata")
    return int(tensor.untyped_storage()._cdata)


def is_without_memory(tensor: Tensor) -> bool:
    """Whether it is one of PyTorch's zero tangents, which can't be read."""
    return bool(get("torch.Tensor._is_zerotensor")(tensor))


def tree_leaves(tree: Any) -> list[Any]:
    """What stands in nested tuples, lists and dicts, in order."""
    leaves: list[Any] = get("torch.utils._pytree.tree_leaves")(tree)
    return leaves


def tree_flatten_with_path(tree: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """What stands in a tree, with the way to each, and the tree's structure."""
    flat: tuple[list[tuple[Any, Any]], Any] = get("torch.utils._pytree.tree_flatten_with_path")(tree)
    return flat


def tree_unflatten(leaves: list[Any], structure: Any) -> Any:
    """A tree of that structure with other leaves."""
    return get("torch.utils._pytree.tree_unflatten")(leaves, structure)


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """A tree with a function of every leaf."""
    return get("torch.utils._pytree.tree_map")(function, tree)
