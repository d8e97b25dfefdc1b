"""The version of diffcheck, which versions of PyTorch it was tried on, and what is installed."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

__version__ = "0.1.0"
OLDEST: Final = (2, 9)
NEWEST: Final = (2, 14)
"""The oldest and the newest PyTorch that the cases and the tests pass on."""
PACKAGES: Final = (
    "torch", "sympy", "hypothesis", "jaxtyping", "annotated-types", "python-flint", "numpy", "rich", "typer", "pytest",
)  # fmt: skip
"""What what diffcheck says may depend on."""


def tried() -> str:
    """Which versions of PyTorch it was tried on, as part of a sentence."""
    return f"diffcheck was tried on torch {_text(OLDEST)} to {_text(NEWEST)}"


def note(torch_version: str) -> str:
    """What is to be told of a PyTorch outside of those that were tried; empty of one of them."""
    found = re.match(r"(\d+)\.(\d+)", torch_version)
    if found is None:
        return ""
    number = int(found[1]), int(found[2])
    if OLDEST <= number <= NEWEST:
        return ""
    if number > NEWEST:
        return (
            f"torch {torch_version} is newer than {_text(NEWEST)}, the newest that diffcheck was tried on: "
            "what it lacks is unsupported"
        )
    return f"torch {torch_version} is older than diffcheck supports: install torch {_text(OLDEST)} or later"


@cache
def installed() -> Mapping[str, str]:
    """What diffcheck runs on, by name: Python, the platform, and the packages that it uses."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _text(number: tuple[int, int]) -> str:
    return ".".join(map(str, number))
