"""PyTorch's compilers: kept from being imported for nothing, and from compiling us.

Importing torch._dynamo takes as long as importing PyTorch. Forward mode of `2 * x` asks a Python function of PyTorch's
for a shape, whose decorator imports it at the first call, to say that it is to leave the function alone. It remembers
the answer as an attribute of the function, which here is written down beforehand: the function itself, as there is no
compiler.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from diffcheck import torch_internals


def not_imported() -> None:
    """Lets the functions that PyTorch calls when it differentiates run without the compiler.

    For a process of our own. If the compiler is there already, or PyTorch does it in another way, nothing happens.
    """
    if "torch._dynamo" in sys.modules:
        return
    for function in _guarded():
        setattr(function, "__dynamo_disable", function)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps the compiler from telling that it compiles a function anew for each of the sizes that are drawn."""
    logger = logging.getLogger("torch._dynamo.convert_frame")

    def tells_more(record: logging.LogRecord) -> bool:
        return "recompile_limit" not in record.getMessage()

    logger.addFilter(tells_more)
    try:
        yield
    finally:
        logger.removeFilter(tells_more)


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """Runs compiled functions as they were written: the compiler would compile what follows them, which is ours."""
    with torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext():
        yield


def _guarded() -> Iterator[Callable[..., Any]]:
    """What stands behind that decorator."""
    disable = torch_internals.find("torch._compile._disable_dynamo")
    table = torch_internals.find("torch._decomp.decomposition_table")
    if disable is None or table is None:
        return
    decorated = disable(lambda: None).__code__
    if "fn" not in decorated.co_freevars:
        return
    place = decorated.co_freevars.index("fn")
    for outermost in table.values():
        layer: Any = outermost
        while layer is not None:
            if getattr(layer, "__code__", None) is decorated:
                yield layer.__closure__[place].cell_contents
            layer = getattr(layer, "__wrapped__", None)
