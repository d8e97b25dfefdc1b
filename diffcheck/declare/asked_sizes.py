"""The sizes that a function's own code asks about: `if x.shape[0] == 17`, `n > BLOCK`, `n % 4`.

They are read in the bytecode of the function and of whatever Python it reaches (helpers, closures, the passes of a
Function, the `forward` of modules) outside of PyTorch and the standard library. A number beside a comparison or a
remainder may stand for something else than a size: then a size is drawn for nothing, and nothing is missed.
"""

from __future__ import annotations

import dis
import functools
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import BuiltinMethodType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import torch

_MOST: Final = 6
"""Sizes that are drawn because somebody asks about them."""
_LARGEST: Final = 260
"""Past 256, a trace of one axis grows long."""
_MOST_REACHED: Final = 200
"""Functions that are looked at."""
_ASKING: Final = ("COMPARE_OP", "CONTAINS_OP")
_REMAINDER: Final = ("%", "%=", "//", "//=")
_OURS: Final = str(Path(__file__).parents[1])
_FOREIGN: Final = (str(Path(torch.__file__).parent), sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
_INSTALLED: Final = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))


def asked_sizes(function: Any) -> tuple[int, ...]:
    """The sizes at which the answers to its questions change, those that it names first.

    Args:
        function: Anything that can be called.

    Returns:
        At most a few: `n == 17` gives 17, `n > 32` gives 32 and 33, `n % 4` gives 4 and 5.
    """
    named: dict[int, None] = {}
    beside: dict[int, None] = {}
    for code, scope in _reached(function):
        for operator, number in _asked_of(code, scope):
            named[number] = None
            beside |= dict.fromkeys({"<": [number - 1, number], ">=": [number - 1]}.get(operator, [number + 1]))
    beside = dict.fromkeys(beside) if named else {}
    found = [n for n in dict.fromkeys((*named, *beside)) if 1 < n <= _LARGEST]
    return tuple(found[:_MOST])


def _asked_of(code: CodeType, scope: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """What a function compares with a whole number: the comparison, and the number, wherever on the line it stands."""
    by_line: dict[int, list[int]] = {}
    operators: dict[int, str] = {}
    line = code.co_firstlineno
    for step in dis.get_instructions(code):
        line = step.positions.lineno if step.positions and step.positions.lineno else line
        value = step.argval if step.opname.startswith("LOAD_CONST") else scope.get(str(step.argval))
        if step.opname.startswith("LOAD_"):
            by_line.setdefault(line, []).extend(_integers(value))
        elif step.opname in _ASKING:
            operators.setdefault(line, str(step.argval) if step.opname == "COMPARE_OP" else "in")
        elif step.opname == "BINARY_OP" and step.argrepr in _REMAINDER:
            operators.setdefault(line, "%")
    for line, operator in operators.items():
        for number in by_line.get(line, []):
            yield operator, number


def _integers(value: Any) -> list[int]:
    parts = value if isinstance(value, (tuple, list, frozenset)) else (value,)
    return [part for part in parts if type(part) is int]


def _reached(function: Any) -> Iterator[tuple[CodeType, dict[str, Any]]]:
    """The code that a function runs, as far as it can be seen without running it, each with what its names mean."""
    waiting, seen = [function], set[int]()
    while waiting and len(seen) < _MOST_REACHED:
        value = waiting.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, FunctionType):
            waiting.extend(_inside(value.__code__, value))
            if not _is_foreign(value.__code__.co_filename):
                scope = _scope(value)
                for code in _nested(value.__code__):
                    yield code, scope
        else:
            waiting.extend(_parts(value))


def _inside(code: CodeType, function: FunctionType) -> list[Any]:
    """What a function may call: of PyTorch's own, only what stands in their closures."""
    held = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    held += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    wrapped = getattr(function, "__wrapped__", None)
    if _is_foreign(code.co_filename):
        return [v for v in (*held, wrapped) if callable(v)]
    names = {name for one in _nested(code) for name in one.co_names}
    reached = [*held, wrapped, *(function.__globals__[n] for n in names if n in function.__globals__)]
    for value in list(reached):
        if isinstance(value, ModuleType) and not _is_foreign(str(getattr(value, "__file__", None) or _FOREIGN[0])):
            reached += [getattr(value, n) for n in names if hasattr(value, n)]
    return [v for v in reached if callable(v)]


def _parts(value: Any) -> list[Any]:
    """The functions that something which is called is made of."""
    if isinstance(value, functools.partial):
        return [value.func]
    if isinstance(value, (MethodType, BuiltinMethodType)):
        own = getattr(value, "__func__", None)
        return [part for part in (own, value.__self__) if callable(part)]
    if isinstance(value, torch.nn.Module):
        return [type(module).forward for module in value.modules()]
    if isinstance(value, type):
        return _methods(value) if issubclass(value, torch.autograd.Function) else []
    if hasattr(type(value), "__diffcheck_case__"):
        return [value.function]
    return [member for name, member in vars(type(value)).items() if name == "__call__" and _is_code(member)]


def _methods(cls: type) -> list[Any]:
    own = [vars(base) for base in cls.__mro__ if not _is_foreign(_file_of(base))]
    return [getattr(member, "__func__", member) for members in own for member in members.values() if _is_code(member)]


def _is_code(member: Any) -> bool:
    return isinstance(member, (FunctionType, staticmethod, classmethod))


def _file_of(cls: type) -> str:
    return str(getattr(sys.modules.get(cls.__module__), "__file__", None) or "")


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _scope(function: FunctionType) -> dict[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {**function.__globals__, **{name: c.cell_contents for name, c in cells if _is_filled(c)}}


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _is_foreign(file: str) -> bool:
    """Whether a file is PyTorch's, the standard library's or ours: no question of the function under test."""
    if not file or file.startswith((*_FOREIGN[:1], _OURS)):
        return True
    return file.startswith(_FOREIGN[1:]) and not file.startswith(_INSTALLED)
