"""`[tool.diffcheck]` of a project's pyproject.toml: what the command and the pytest plugin do unless told otherwise.

Light to import: pytest reads it in every project that has the plugin installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from diffcheck.errors import ConfigError
from diffcheck.modes import CPU, DTYPES, FIRST_ORDER, MODES, USUAL_DTYPES, in_words, is_device

_FILE: Final = "pyproject.toml"
_TABLE: Final = "[tool.diffcheck]"


@dataclass(frozen=True, slots=True)
class Config:
    """What a project says; each field is a key of the table, except the last two."""

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
    by_name: frozenset[str] = frozenset()
    """The modes and dtypes that it names, as far as any."""
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
    by_name = frozenset([*values.get("modes", ()), *values.get("dtypes", ())])
    return Config(**values, by_name=by_name, file=file)


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
