"""A sample of the database as a case at given inputs, and as a program that can be pasted into an issue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from diffcheck.audit.database import SEED, Entry, Sample
from diffcheck.declare.case import Case
from diffcheck.declare.domain import Argument, Axis
from diffcheck.differentiate.device import seed_generator
from diffcheck.errors import Unsupported
from diffcheck.modes import CPU
from diffcheck.torch_internals import tree_flatten_with_path, tree_leaves, tree_map, tree_unflatten

_LONGEST: Final = 64
"""Tensors of more entries are not written out."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A case, and the inputs that it is to be judged at."""

    case: Case
    values: dict[str, Tensor]


def sampled(entry: Entry, sample: Sample, device: str = CPU) -> Sampled:
    """The operator as a function of the sample's differentiated tensors, all else fixed.

    Raises:
        Unsupported: The sample differentiates something that no shadow can stand beside.
    """
    call = sample.call
    paths, structure = tree_flatten_with_path((call.input, call.args, call.kwargs))
    leaves = [leaf for _, leaf in paths]
    names = {i: _name(path) for i, (path, leaf) in enumerate(paths) if isinstance(leaf, Tensor) and leaf.requires_grad}
    for i in names:
        if leaves[i].layout is not torch.strided:
            raise Unsupported("sparse tensors", "a shadow stands beside a strided storage")
    function = entry.info.gradcheck_wrapper
    operator = entry.info.get_op()
    finish = call.output_process_fn_grad

    def applied(*tensors: Tensor) -> Any:
        given = dict(zip(names, tensors, strict=True))
        # The samples' other tensors may be written to: running statistics.
        filled = [given[i] if i in given else _fresh(leaf) for i, leaf in enumerate(leaves)]
        first, args, kwargs = tree_unflatten(filled, structure)
        seed_generator(device, SEED)  # what the operator draws is the same each time
        result = function(operator, first, *args, **kwargs)
        return tree_map(_as_reals, result if finish is None else finish(result))

    values = {name: leaves[i].detach() for i, name in names.items()}
    arguments = tuple(
        Argument(name, "complex" if value.is_complex() else "real", tuple(Axis(str(n)) for n in value.shape))
        for name, value in values.items()
    )
    _check_outputs(applied, values)
    return Sampled(Case(applied, entry.name, "", arguments), values)


def _check_outputs(function: Callable[..., Any], values: Mapping[str, Tensor]) -> None:
    try:
        outputs = [leaf for leaf in tree_leaves(function(*values.values())) if isinstance(leaf, Tensor)]
    except Exception:  # noqa: BLE001 - the trace meets it again, and says where it was raised
        return
    if any(y.layout is not torch.strided for y in outputs):
        raise Unsupported("sparse tensors", "a shadow stands beside a strided storage")


def _as_reals(leaf: Any) -> Any:
    """A complex result as its real and imaginary parts."""
    return torch.view_as_real(leaf.resolve_conj()) if isinstance(leaf, Tensor) and leaf.is_complex() else leaf


def _fresh(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, Tensor) and leaf.layout is torch.strided else leaf


def _name(path: Sequence[Any]) -> str:
    """`input`, `arg0`, or the keyword; what stands inside of a list has its position behind."""
    root, *rest = (getattr(key, "idx", getattr(key, "key", None)) for key in path)
    if root == 0:
        parts = ["input", *rest]
    elif root == 1:
        parts = [f"arg{rest[0]}", *rest[1:]]
    else:
        parts = rest
    return "_".join(map(str, parts))


# ---------------------------------------------------------------------------------------------------------------------
# The program
# ---------------------------------------------------------------------------------------------------------------------


def repro_of(entry: Entry, sample: Sample, dtype: torch.dtype, device: str = CPU) -> tuple[str, ...]:
    """A program that makes the sample and calls the operator, line by line."""
    call = sample.call
    written = [_literal(call.input), *map(_literal, call.args)]
    written += [f"{key}={_literal(value)}" for key, value in call.kwargs.items()]
    name = _public_name(entry)
    if name is not None and all(part is not None for part in written):
        return "import torch", f"y = {name}({', '.join(str(part) for part in written)})"
    return (
        "import itertools, random, numpy, torch",
        "from torch.testing._internal.common_methods_invocations import op_db",
        f"torch.manual_seed({SEED}); numpy.random.seed({SEED}); random.seed({SEED})",
        f"op = next(o for o in op_db if o.full_name == {entry.name!r})",
        f'samples = op.sample_inputs("{device}", {dtype}, requires_grad=True)',
        f"sample = next(itertools.islice(samples, {sample.position}, None))",
        "y = op.gradcheck_wrapper(op.get_op(), sample.input, *sample.args, **sample.kwargs)",
    )


def _public_name(entry: Entry) -> str | None:
    """`torch.linalg.det`, if that is what the entry calls, and nothing is done to its input or output."""
    found: Any = torch
    for part in entry.info.name.split("."):
        found = getattr(found, part, None)
    return f"torch.{entry.info.name}" if found is not None and found is entry.info.get_op() else None


def _literal(value: Any) -> str | None:
    """The value as Python source; None if it would be too long, or cannot be written."""
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.numel() > _LONGEST:
            return None
        options = "" if value.device.type == CPU else f', device="{value.device}"'
        options += ", requires_grad=True" if value.requires_grad else ""
        return f"torch.tensor({value.tolist()!r}, dtype={value.dtype}{options})".replace("nan", "torch.nan").replace(
            "inf", "torch.inf"
        )
    if isinstance(value, (list, tuple)):
        parts = [_literal(part) for part in value]
        if any(part is None for part in parts):
            return None
        inside = ", ".join(str(part) for part in parts)
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(parts) == 1 else ''})"
    if value is None or isinstance(value, (bool, int, float, str, complex, torch.dtype)):
        return repr(value)
    return None
