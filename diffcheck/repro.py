"""A finding as a script that runs when it is pasted: PyTorch, the user's function, the exact input, both values."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Final

from torch import Tensor

from diffcheck.case import Case
from diffcheck.evaluate import TEXTBOOK, Evaluation

_TENSOR: Final = '''\
def tensor(numbers, dtype, size, stride=None, offset=0):
    flat = torch.tensor([float.fromhex(n) for n in numbers.split()], dtype=dtype)
    return flat.reshape(size) if stride is None else flat.as_strided(size, stride, offset)
'''
_OUTPUTS: Final = "[t for t in tree_leaves({}(*arguments)) if torch.is_tensor(t) and t.is_floating_point()]"
_REVERSE: Final = f"""\
for x in real:
    x.requires_grad_()
outputs = {_OUTPUTS.format("function")}
"""
_DIFFERENTIATED: Final[Mapping[str, str]] = {
    "reverse": f"{_REVERSE}found = torch.autograd.grad(outputs, real, seeds, allow_unused=True)\n",
    "accumulate": f"""\
for x in real:
    x.requires_grad_()
earlier = {_OUTPUTS.format("function.preceded_by")}
outputs = {_OUTPUTS.format("function")}
torch.autograd.backward(earlier, seeds[:len(earlier)])
if function.clear:
    for x in real:
        x.grad = None
torch.autograd.backward(outputs, seeds[len(earlier):])
found = [x.grad for x in real]
""",
    "forward": f"""\
with torch.autograd.forward_ad.dual_level() as level:
    arguments = [torch.autograd.forward_ad.make_dual(a, seeds.pop(0)) if a.is_floating_point() else a for a in arguments]
    outputs = {_OUTPUTS.format("function")}
    found = [torch.autograd.forward_ad.unpack_dual(y).tangent for y in outputs]
""",
    "reverse-over-reverse": f"""\
{_REVERSE}first, second = seeds[:len(outputs)], seeds[len(outputs):]
for g in first:
    g.requires_grad_()
once = torch.autograd.grad(outputs, real, first, allow_unused=True, create_graph=True)
pairs = [(g, s) for g, s in zip(once, second) if g is not None and g.requires_grad]
found = torch.autograd.grad([g for g, _ in pairs], [*real, *first], [s for _, s in pairs], allow_unused=True)
""",
    TEXTBOOK: """\
said = function.gradient(*arguments)
found = [said[n] for n in names] if isinstance(said, dict) else said if isinstance(said, (tuple, list)) else [said]
""",
}


def repro(
    case: Case, mode: str, evaluation: Evaluation, position: int, *, headline: str, certified: str, location: str
) -> str:
    """The script, or nothing where the function can't be imported or the mode has none."""
    imported = _import(case, location)
    if imported is None or mode not in _DIFFERENTIATED:
        return ""
    trace = evaluation.path.trace
    entry = trace.entries[position]
    owners = [*dict.fromkeys(e.owner for e in trace.entries)]
    within = [i for i, e in enumerate(trace.entries) if e.owner == entry.owner].index(position)
    real = [a.name for a in case.differentiated]
    lines = [f"# {case.name}, {mode}: {headline}", *imported, "", *_TENSOR.splitlines(), ""]
    lines += [f"{name} = {_written(value)}" for name, value in evaluation.values.items()]
    lines += [f"{name} = {_written(seed)}" for name, seed in zip(trace.seeds, evaluation.seeds, strict=True)]
    lines.append(f"arguments, real = [{', '.join(evaluation.values)}], [{', '.join(real)}]")
    lines.append(f"seeds, names = [{', '.join(trace.seeds)}], {real}")
    lines += _DIFFERENTIATED[mode].splitlines()
    lines.append(f"number = found[{owners.index(entry.owner)}]")
    lines.append(f'print("PyTorch  ", 0.0 if number is None else number.flatten()[{within}].item())')
    lines.append(f'print("certified", "{certified}")')
    return "\n".join(lines) + "\n"


def _import(case: Case, location: str) -> list[str] | None:
    """The lines that import the function: by file and name, or from its module."""
    parts = shlex.split(location)
    file, _, name = parts[0].partition("::") if parts else ("", "", "")
    if Path(file).is_file() and name.isidentifier():
        return _from_file(Path(file), name)
    function = case.function
    if not isinstance(function, FunctionType) or not function.__qualname__.isidentifier():
        return None
    if getattr(sys.modules.get(function.__module__), function.__name__, None) not in (function, case):
        return None
    if function.__module__ == "__main__" or not function.__module__.replace(".", "").isidentifier():
        return _from_file(Path(function.__code__.co_filename), function.__name__)
    return ["import torch", _LEAVES, f"from {function.__module__} import {function.__name__} as function"]


_LEAVES: Final = "from torch.utils._pytree import tree_leaves"


def _from_file(file: Path, name: str) -> list[str]:
    return [
        "import importlib.util, sys",
        "import torch",
        _LEAVES,
        f"spec = importlib.util.spec_from_file_location({file.stem!r}, {str(file.absolute())!r})",
        "module = importlib.util.module_from_spec(spec)",
        f"sys.path.insert(0, {str(file.absolute().parent)!r})",
        "spec.loader.exec_module(module)",
        f"function = module.{name}",
    ]


def _written(value: Tensor) -> str:
    """A tensor in Python, exactly, as it lies in memory."""
    value = value.detach()
    if not value.is_floating_point():
        return f"torch.tensor({value.tolist()}, dtype={value.dtype})"
    size = tuple(value.shape)
    if value.is_contiguous() and value.storage_offset() == 0:
        return f'tensor("{" ".join(_hexadecimal(value.reshape(-1).tolist()))}", {value.dtype}, {size})'
    memory = value.new_empty(0).set_(value.untyped_storage())
    numbers = " ".join(_hexadecimal(memory.tolist()))
    return f'tensor("{numbers}", {value.dtype}, {size}, {value.stride()}, {value.storage_offset()})'


def _hexadecimal(numbers: Sequence[float]) -> Iterator[str]:
    return map(float.hex, numbers)
