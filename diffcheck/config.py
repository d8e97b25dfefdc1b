"""`[tool.diffcheck]` of a project's pyproject.toml: what the command and the pytest plugin do unless told otherwise.

Light to import: pytest reads it in every project that has the plugin installed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from diffcheck.errors import ConfigError

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
DTYPES: Final = ("float64", "float32", "float16", "bfloat16", "complex128", "complex64")
USUAL_DTYPES: Final = ("float64", "float32")
"""Those that are checked unless others are asked for."""
CPU: Final = "cpu"
"""Where PyTorch computes unless something else is asked for."""
_DEVICE: Final = re.compile(r"[a-z][a-z0-9_]*(:[0-9]+)?")
_COMPLEX_OF: Final = {"float64": "complex128", "float32": "complex64"}
_REAL_OF: Final = {complex_: real for real, complex_ in _COMPLEX_OF.items()}
_FILE: Final = "pyproject.toml"
_TABLE: Final = "[tool.diffcheck]"


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


@dataclass(frozen=True, slots=True)
class Config:
    """What a project says; each field is a key of the table, except the last."""

    examples: int = 100
    """Inputs drawn per case."""
    seed: int | None = None
    """The same inputs every time; without it they are other ones at each run."""
    modes: tuple[str, ...] = FIRST_ORDER
    dtypes: tuple[str, ...] = USUAL_DTYPES
    strict: bool = False
    """Whether only `proved` passes."""
    seconds: float = 60.0
    """Per case; what is not done by then is undecided."""
    device: str = CPU
    """Where PyTorch computes; whether it is there is found out where a case is."""
    case_paths: tuple[str, ...] = ()
    """Files and folders of cases, relative to the file's folder."""
    file: Path | None = None
    """Where it stands; None if nothing is configured."""

    @property
    def cases(self) -> tuple[Path, ...]:
        """The files and folders of cases, complete."""
        return tuple(self.file.parent / path for path in self.case_paths) if self.file else ()


def read(start: Path) -> Config:
    """Reads the nearest pyproject.toml with such a table, in a folder or above it.

    Raises:
        ConfigError: It can't be read, has an unknown key, or a value that the key can't have.
    """
    for folder in (start, *start.parents):
        file = folder / _FILE
        try:
            content = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"{file} can't be read: {error.strerror or error}") from error
        # Most projects above some folder say nothing to us, and their file need not be parsed.
        if b"diffcheck" in content and (table := _table(file, content)) is not None:
            return _config(file, table)
    return Config()


def _table(file: Path, content: bytes) -> Mapping[str, Any] | None:
    import tomllib

    try:
        document = tomllib.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} can't be read: {error}") from error
    tools = document.get("tool", {})
    table = tools.get("diffcheck") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"{file}: tool.diffcheck = {table!r} is no table; write {_TABLE} and its keys below")
    return table


def _config(file: Path, table: Mapping[str, Any]) -> Config:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _KEYS:
            import difflib

            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"{file}: {_TABLE} {key} = {value!r}: there is no such key; {hint}{_known()}")
        wanted, convert = _KEYS[key]
        try:
            values[key] = convert(value)
        except _NotOneError as error:
            raise ConfigError(f"{file}: {_TABLE} {key} = {value!r} is not {wanted}{error}; {_known()}") from None
    return Config(**values, file=file)


def _known() -> str:
    return f"the keys are {', '.join(_KEYS)}"


class _NotOneError(Exception):
    """A value that a key can't have; its text says what is wrong in it, if that is a part of it."""


def _whole(least: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise _NotOneError
        return value

    return convert


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _NotOneError
    return value


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise _NotOneError
    return float(value)


def _some_of(known: tuple[str, ...]) -> Callable[[Any], tuple[str, ...]]:
    def convert(value: Any) -> tuple[str, ...]:
        words = _texts(value)
        if unknown := [word for word in words if word not in known]:
            raise _NotOneError(f": {unknown[0]!r} is none of them")
        return tuple(dict.fromkeys(words))

    return convert


def _device(value: Any) -> str:
    if not isinstance(value, str) or not is_device(value):
        raise _NotOneError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) and word for word in value):
        raise _NotOneError
    return tuple(value)


_KEYS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "examples": ("a whole number, 1 or more", _whole(1)),
    "seed": ("a whole number, 0 or more", _whole(0)),
    "modes": (f"a list of some of {in_words(MODES)}", _some_of(MODES)),
    "dtypes": (f"a list of some of {', '.join(DTYPES)}", _some_of(DTYPES)),
    "strict": ("true or false", _flag),
    "seconds": ("a positive number", _positive),
    "device": ("a device of PyTorch's, as cpu, cuda or cuda:1", _device),
    "case_paths": ("a list of files and folders", _texts),
}
"""Every key, what its value is, in words, and what takes it from TOML."""
