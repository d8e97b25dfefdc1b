"""Everything that is taken from PyTorch's inside, by name, when it is needed: what is missing there is missed alone."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import torch

from diffcheck.errors import Unsupported


@cache
def get(name: str) -> Any:
    """What PyTorch calls by a dotted name.

    Raises:
        Unsupported: This PyTorch does not have it.
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Unsupported(f"torch {torch.__version__}", f"it has no {name}") from error
