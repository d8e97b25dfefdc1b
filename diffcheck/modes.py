"""How and where PyTorch differentiates, in words: modes, dtypes, devices. Light to import."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

FIRST_ORDER: Final = ("reverse", "forward")
"""The modes of differentiation that are checked unless others are asked for."""
_OVER: Final = "-over-"
SECOND_ORDER: Final = tuple(outer + _OVER + inner for inner in FIRST_ORDER for outer in FIRST_ORDER)
"""What differentiates a derivative, over what gave it: `forward-over-reverse` is forward mode of a gradient."""
THIRD_ORDER: Final = tuple(outer + _OVER + inner for inner in SECOND_ORDER for outer in FIRST_ORDER)
_VMAP: Final = "vmap-"
_PLAIN: Final = (*FIRST_ORDER, *SECOND_ORDER, *THIRD_ORDER)
MODES: Final = (*_PLAIN, *(_VMAP + mode for mode in _PLAIN))
"""A mode under vmap differentiates for each of several inputs at once."""
MODES_IN_WORDS: Final = (
    "reverse, forward, two or three of them as in forward-over-reverse or reverse-over-forward-over-reverse, "
    "and each of these with vmap- before it"
)
"""All of `MODES`, which are too many for a line."""
VALUE: Final = "value"
"""The mode in which a kernel's value is compared with its reference's: nothing is differentiated."""
TEXTBOOK: Final = "gradient"
"""The mode under which a case's own `gradient=` is reported."""
DTYPES: Final = ("float64", "float32", "float16", "bfloat16", "complex128", "complex64")
USUAL_DTYPES: Final = ("float64", "float32")
"""Those that are checked unless others are asked for."""
CPU: Final = "cpu"
"""Where PyTorch computes unless something else is asked for."""
_DEVICE: Final = re.compile(r"[a-z][a-z0-9_]*(:[0-9]+)?")
_COMPLEX_OF: Final = {"float64": "complex128", "float32": "complex64"}
_REAL_OF: Final = {complex_: real for real, complex_ in _COMPLEX_OF.items()}


def plain(mode: str) -> str:
    """The mode that is meant for each of the inputs."""
    return mode.removeprefix(_VMAP)


def steps(mode: str) -> tuple[str, ...]:
    """How a mode differentiates, once or again and again: what is done first comes first."""
    return tuple(reversed(plain(mode).split(_OVER)))


def order(mode: str) -> int:
    """How often a mode differentiates."""
    return len(steps(mode))


def in_words(known: tuple[str, ...]) -> str:
    """The words that an option knows, for people: all of them, or how they are made."""
    return MODES_IN_WORDS if known is MODES else ", ".join(known)


def refusal(word: str, known: tuple[str, ...]) -> str:
    """Why a word can't be followed that is none of those that an option knows."""
    if known is MODES and set(steps(word)) <= {*FIRST_ORDER}:
        return f"{word!r} differentiates {order(word)} times, and orders go to 3"
    return f"{word!r} is not one of {in_words(known)}"


def dtypes_for(asked: Iterable[str], *, complex_inputs: bool) -> tuple[str, ...]:
    """Dtypes as they are called where some inputs are complex, or where none is: `complex128` is `float64` there."""
    known = _COMPLEX_OF if complex_inputs else _REAL_OF
    return tuple(dict.fromkeys(known.get(dtype, dtype) for dtype in asked))


def is_device(text: str) -> bool:
    """Whether a text is written like a device of PyTorch's."""
    return _DEVICE.fullmatch(text) is not None


def under_vmap(mode: str) -> bool:
    """Whether a mode is for several inputs at once."""
    return mode.startswith(_VMAP)
