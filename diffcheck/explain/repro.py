"""A finding as a script that runs when it is pasted: PyTorch, the user's function, the exact input, both values."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Final

from torch import Tensor

from diffcheck.compare.evaluate import Evaluation
from diffcheck.declare.case import Case
from diffcheck.modes import CPU, TEXTBOOK, order, steps, under_vmap
from diffcheck.trace.tracer import Trace

_TENSOR: Final = """\
def tensor(numbers, dtype, size):
    return torch.tensor([float.fromhex(n) for n in numbers.split()], dtype=dtype).reshape(size)
"""
_OUTPUTS: Final = "[t for t in tree_leaves({}(*inputs.values())) if torch.is_tensor(t) and t.is_floating_point()]"
_LEAVES: Final = "real = [inputs[name].requires_grad_() for name in names]\n"
_DIFFERENTIATED: Final[Mapping[str, str]] = {
    "reverse": f"""\
{_LEAVES}outputs = {_OUTPUTS.format("function")}
found = torch.autograd.grad(outputs, real, seeds, allow_unused=True)
""",
    "accumulate": f"""\
{_LEAVES}outputs = {_OUTPUTS.format("function.preceded_by")}
torch.autograd.backward(outputs, seeds[:len(outputs)])
if function.clear:
    for leaf in real:
        leaf.grad = None
torch.autograd.backward({_OUTPUTS.format("function")}, seeds[len(outputs):])
found = [leaf.grad for leaf in real]
""",
    "forward": f"""\
from torch.autograd import forward_ad
with forward_ad.dual_level():
    for name, seed in zip(names, seeds):
        inputs[name] = forward_ad.make_dual(inputs[name], seed)
    found = [forward_ad.unpack_dual(output).tangent for output in {_OUTPUTS.format("function")}]
""",
    TEXTBOOK: """\
said = function.gradient(*inputs.values())
said = [said[name] for name in names] if isinstance(said, dict) else said
found = said if isinstance(said, (tuple, list)) else [said]
""",
}


def repro(
    case: Case, mode: str, evaluation: Evaluation, position: int, *, headline: str, certified: str, location: str
) -> str:
    """The script, or nothing where the function can't be imported or the mode has none."""
    imported = _import(case, location)
    higher = order(mode) > 1 or under_vmap(mode)
    if imported is None or not (higher or mode in _DIFFERENTIATED):
        return ""
    trace = evaluation.path.trace
    entry = trace.entries[position]
    owners = [*dict.fromkeys(e.owner for e in trace.entries)]
    within = [i for i, e in enumerate(trace.entries) if e.owner == entry.owner].index(position)
    device = next(iter(evaluation.values.values())).device
    if device.type != CPU:
        imported = [*imported, f'torch.set_default_device("{device}")']
    lines = [f"# {case.name}, {mode}: {headline}", *imported, "", *_TENSOR.splitlines(), "", "inputs = {"]
    lines += [f"    {name!r}: {_written(value)}," for name, value in evaluation.values.items()]
    lines += ["}", f"names = {[a.name for a in case.differentiated]}"]
    if trace.seeds:
        lines.append(f"seeds = [  # {', '.join(trace.seed_names)}")
        lines += [f"    {_written(seed)}," for seed in evaluation.seeds]
        lines.append("]")
    lines += _nested(mode, len(case.differentiated), trace) if higher else _DIFFERENTIATED[mode].splitlines()
    lines.append(f"number = found[{owners.index(entry.owner)}]")
    lines.append(f'print("PyTorch  ", 0.0 if number is None else number.flatten()[{within}].item())')
    lines.append(f'print("certified", "{certified}")')
    return "\n".join(lines) + "\n"


def _nested(mode: str, inputs: int, trace: Trace) -> Iterator[str]:
    """Asks PyTorch for a derivative of a derivative, or for one under vmap, as `autodiff` does."""
    how = steps(mode)
    given = [[i for i, seed in enumerate(trace.seeds) if seed.step == step] for step in range(len(how))]
    last = max((i for i, step in enumerate(how) if step == "forward"), default=-1)
    by_func = len(how) if under_vmap(mode) else last + 1 if how.count("forward") > 1 else 0
    # Which of the tensors, the inputs first, a later backward pass differentiates with respect to.
    recorded = ["reverse" in how[max(i, by_func) :] for i in range(len(how) + 1)]
    yield "real = [inputs[name] for name in names]"
    yield "given = [  # for each differentiation, the innermost first"
    for own in given:
        yield f"    [{', '.join(f'seeds[{i}]' for i in own)}],"
    yield "]"
    if any(recorded):
        yield f"for leaf in [*real{''.join(f', *given[{i}]' for i, wanted in enumerate(recorded[1:]) if wanted)}]:"
        yield "    leaf.requires_grad_()"
        yield from _BACKWARD.splitlines()
    if by_func:
        yield from _by_func(how[:by_func], inputs, given, over="vmap" if under_vmap(mode) else "")
    elif last >= 0:
        yield from _dual(last, inputs, given, recorded)
    else:
        yield f"found, moving = {_OUTPUTS.format('function')}, real"
    for i in range(max(by_func, last + 1), len(how)):
        yield f"found, moving = backward(found, moving, given[{i}], again={recorded[i + 1]}), [*moving, *given[{i}]]"


def _by_func(how: Sequence[str], inputs: int, given: Sequence[Sequence[int]], over: str) -> Iterator[str]:
    yield from _VALUE.splitlines()
    name, moving = "value", inputs
    for step, own, after in zip(how, given, ("first", "second", "third"), strict=False):
        called = f"jvp({name}, both[:{moving}], both[{moving}:])[1]"
        if step != "forward":
            called = f"vjp({name}, *both[:{moving}])[1](both[{moving}:])"
        yield f"{after} = lambda *both: {called}"
        name, moving = after, moving + len(own)
    yield f"moving = [*real{''.join(f', *given[{i}]' for i in range(len(how)))}]"
    yield f"found = {f'{over}({name})' if over else name}(*moving)"


def _dual(last: int, inputs: int, given: Sequence[Sequence[int]], recorded: Sequence[bool]) -> Iterator[str]:
    yield "from torch.autograd import forward_ad"
    yield f"still = [*real{''.join(f', *given[{i}]' for i in range(last))}]"
    yield "with forward_ad.dual_level():"
    yield f"    moved = [forward_ad.make_dual(x, tangent) for x, tangent in zip(still, given[{last}])]"
    yield "    inputs.update(zip(names, moved))"
    yield f"    found = {_OUTPUTS.format('function')}"
    moving = inputs
    for i in range(last):
        end = moving + len(given[i])
        yield f"    found = backward(found, moved[:{moving}], moved[{moving}:{end}], again={recorded[i + 1]})"
        moving = end
    yield "    found = [None if y is None else forward_ad.unpack_dual(y).tangent for y in found]"
    yield f"moving = [*still, *given[{last}]]"


_BACKWARD: Final = """\
def backward(found, moving, cotangents, again):
    pairs = [(y, c) for y, c in zip(found, cotangents) if y is not None and y.requires_grad]
    ys, cs = [y for y, _ in pairs], [c for _, c in pairs]
    return torch.autograd.grad(ys, moving, cs, allow_unused=True, create_graph=again)

"""
_VALUE: Final = """\
from torch.func import jvp, vjp, vmap
def value(*real):
    result = function(*{**inputs, **dict(zip(names, real))}.values())
    return tuple(t for t in tree_leaves(result) if torch.is_tensor(t) and t.is_floating_point())

"""


def _import(case: Case, location: str) -> list[str] | None:
    """The lines that import the function: by file and name, or from its module."""
    with contextlib.suppress(ValueError):  # a quote within: whoever gave it runs no shell
        location = "".join(shlex.split(location)[:1])
    file, _, name = location.partition("::")
    if Path(file).is_file() and name.isidentifier():
        return _from_file(Path(file), name if case.kernel is None else f"{name}.judged")
    case = case.judged
    function = case.function
    if not isinstance(function, FunctionType) or not function.__qualname__.isidentifier():
        return None
    if getattr(sys.modules.get(function.__module__), function.__name__, None) not in (function, case):
        return None
    if function.__module__ == "__main__" or not function.__module__.replace(".", "").isidentifier():
        return _from_file(Path(function.__code__.co_filename), function.__name__)
    return ["import torch", _TREES, f"from {function.__module__} import {function.__name__} as function"]


_TREES: Final = "from torch.utils._pytree import tree_leaves"


def _from_file(file: Path, name: str) -> list[str]:
    return [
        "import importlib.util, sys",
        "import torch",
        _TREES,
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
        return f'tensor("{_hexadecimal(value.reshape(-1).tolist())}", {value.dtype}, {size})'
    memory = value.new_empty(0).set_(value.untyped_storage())
    strides = f"{size}, {value.stride()}, {value.storage_offset()}"
    return f'tensor("{_hexadecimal(memory.tolist())}", {value.dtype}, -1).as_strided({strides})'


def _hexadecimal(numbers: Sequence[float]) -> str:
    """Numbers to their last bit: `0x1.8p+1`."""
    return " ".join(re.sub(r"\.?0*p", "p", number.hex()) for number in numbers)
