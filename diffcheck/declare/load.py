"""Files and folders → cases.

A file of cases is a plain module. It is compiled from its source (never from a cached `.pyc`), imported under a private
name with its own folder importable, and its module-level cases are gathered in the order of their definition.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.util
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from diffcheck.alarm import alarm
from diffcheck.errors import DeclarationError, LoadError
from diffcheck.processes import typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from rich.console import RenderableType

    from diffcheck.verdict import Result

IMPORT_SECONDS: Final = 60.0
"""How long the import of one file may take, the first import of torch included."""


class Runnable(Protocol):
    """What the command asks of a case; `__diffcheck_case__ = True` marks one."""

    @property
    def name(self) -> str:
        """What the case is called."""

    @property
    def doc(self) -> str:
        """What the case is, its first line a summary; may be empty."""

    @property
    def signature(self) -> str:
        """The inputs as a person writes them: `x: float[n]`."""

    def rows(self, settings: Any) -> tuple[tuple[str, str], ...]:
        """Say which results a check gives, by mode and dtype, without checking anything."""

    def run(self, settings: Any, *, case_id: str, location: str) -> Iterator[Result]:
        """Check it: a result per mode and dtype."""

    def show(self, *, latex: bool) -> RenderableType:
        """Write down the function, its derivative and what autograd executed."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A case, and where it came from."""

    id: str
    """`cases/autograd.py::quadratic`."""
    file: Path
    name: str
    """The name that it is bound to in its file."""
    case: Runnable
    private: bool = True
    """Whether its file was imported here, under a private name; else it is a module like any other."""

    @property
    def location(self) -> str:
        """What to write in a shell, after `diffcheck run`, to get this case alone."""
        return typed(self.id)


@dataclass(frozen=True, slots=True)
class Broken:
    """A file whose cases can't be had, and why."""

    id: str
    file: Path
    reason: str
    details: tuple[str, ...] = ()
    """The traceback, from the file on."""


def collect(paths: Sequence[str]) -> list[Loaded | Broken]:
    """Import what the paths name, and gather its cases: each once, in the order of the paths and files."""
    contents: dict[Path, list[Loaded] | Broken] = {}
    found: dict[str, Loaded | Broken] = {}
    for file, name in [target for path in paths for target in _targets(path)]:
        if (key := file.resolve()) not in contents:
            module = load(file)
            contents[key] = module if isinstance(module, Broken) else cases_of(module, file)
        content = contents[key]
        for item in [content] if isinstance(content, Broken) else _named(content, file, name):
            found.setdefault(item.id, item)
    return list(found.values())


def _targets(path: str) -> list[tuple[Path, str | None]]:
    """Find the files that a path of the command line means, each with the name after `::` if one is given."""
    base, separator, name = path.rpartition("::")
    if not separator or Path(path).exists():
        base, name = path, ""
    where = Path(base)
    if not base or not where.exists():
        raise LoadError(f"no such file or folder: {base or path}")
    if where.is_dir():
        if separator and base != path:
            raise LoadError(f"{path}: {base} is a folder; write FILE.py::{name}")
        return [(file, None) for file in _files(where)]
    if where.suffix != ".py":
        raise LoadError(f"{base} is not a Python file: cases are declared in .py files")
    if separator and base != path and not name:
        raise LoadError(f"{path}: the name of a case is missing after `::`")
    return [(where, name or None)]


def _files(folder: Path) -> list[Path]:
    """List a folder's Python files, without hidden folders, caches and virtual environments."""
    found: list[Path] = []
    for here, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith((".", "__pycache__")) and not Path(here, name, "pyvenv.cfg").exists()
        ]
        found += [Path(here, name) for name in files if name.endswith(".py") and not name.startswith(".")]
    return sorted(found)


def _named(cases: list[Loaded], file: Path, name: str | None) -> list[Loaded]:
    """Pick the named case of a file, or take all."""
    if name is None:
        return cases
    if picked := [loaded for loaded in cases if loaded.name == name]:
        return picked
    names = [loaded.name for loaded in cases]
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif names:
        hint = f"it has {', '.join(names)}"
    else:
        hint = "it declares none; write @case above a function"
    raise LoadError(f"{label(file)} has no case named {name}: {hint}")


def label(file: Path) -> str:
    """Write a file's path as results name it: relative to the working folder when it lies below, with `/`."""
    absolute = Path(_absolute(file))
    here = Path.cwd()
    return (absolute.relative_to(here) if absolute.is_relative_to(here) else Path(os.path.normpath(file))).as_posix()


def _absolute(file: Path) -> str:
    """Complete a path without following links, which would name another file."""
    return os.path.abspath(file)  # noqa: PTH100 - `resolve` follows them


def load(file: Path) -> ModuleType | Broken:
    """Import one file; what goes wrong is an answer too."""
    where = label(file)
    try:
        with importable(file.parent), alarm(IMPORT_SECONDS, _TimeLimitError):
            return _import(file)
    except _TimeLimitError:
        return Broken(where, file, f"importing it took longer than {IMPORT_SECONDS:g} s, and was stopped")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever one file does, the others still run
        return _broken(where, file, error)


def cases_of(module: ModuleType, file: Path) -> list[Loaded]:
    """Gather the cases of a file, each under its first name."""
    cases: dict[int, Loaded] = {}
    for name, value in list(vars(module).items()):
        if (case := case_in(value)) is not None:
            cases.setdefault(id(case), Loaded(f"{label(file)}::{name}", file, name, case))
    return list(cases.values())


def case_in(value: object) -> Runnable | None:
    """Give the case that a module-level value is; anything may lie there, so asking may fail."""
    try:
        # To a mark of pytest a case is no function that it could mark: the mark takes the case's name, and holds it.
        while type(value).__name__ == "MarkDecorator" and (arguments := cast("Any", value).args):
            value = arguments[-1]
        marked = not isinstance(value, type) and getattr(value, "__diffcheck_case__", False) is True
    except Exception:  # noqa: BLE001 - somebody else's __getattr__
        return None
    return cast("Runnable", value) if marked else None


def _broken(where: str, file: Path, error: BaseException) -> Broken:
    """Say what stopped the import: place, exception, message."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [index for index, frame in enumerate(frames) if frame.filename == _absolute(file)]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == _absolute(file) else None
    if line is None and own:
        line = frames[own[-1]].lineno
    place = f"{where}:{line}" if line else where
    if isinstance(error, DeclarationError):
        return Broken(where, file, f"{place}: {error}")
    if isinstance(error, SystemExit):
        return Broken(where, file, f"{place}: it called sys.exit({error.code!r}) while it was imported")
    if isinstance(error, SyntaxError):
        message = f"{type(error).__name__}: {error.msg}" + (f": {error.text.strip()}" if error.text else "")
        return Broken(where, file, f"{place}: {message}")
    kept = frames[own[0] :] if own else frames
    lines = "".join([*traceback.format_list(kept), *traceback.format_exception_only(error)]).rstrip().splitlines()
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Broken(where, file, f"{place}: {message}", tuple(lines))


def _import(file: Path) -> ModuleType:
    """Execute a file as a module with a private name, so that `random.py` is not `random`, nor two `a.py` the same."""
    digest = hashlib.sha256(str(file.resolve()).encode(errors="surrogateescape")).hexdigest()[:12]
    name = f"_diffcheck_{digest}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None:
        raise LoadError(f"{file} can't be imported")
    module = importlib.util.module_from_spec(spec)
    code = compile(file.read_bytes(), _absolute(file), "exec", dont_inherit=True)
    sys.modules[name] = module  # dataclasses, pickle and get_type_hints look it up there
    try:
        exec(code, vars(module))  # noqa: S102 - a file of cases is there to be executed
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


_neighbours: dict[Path, dict[str, ModuleType]] = {}
"""Per folder, the modules that its files imported from it: two folders may each have a `helper.py`."""


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let a file's neighbours be imported, while it is imported and while its cases run; then hide them again."""
    folder = folder.resolve()
    if any(Path(entry).resolve() == folder for entry in sys.path):
        yield  # it is importable already: what comes from it belongs to everybody
        return
    path = str(folder)
    before = set(sys.modules)
    sys.modules.update(_neighbours.get(folder, {}))
    sys.path.insert(0, path)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(path)
        new = {name: module for name, module in list(sys.modules.items()) if name not in before}
        private = {name: module for name, module in new.items() if _lies_in(module, folder)}
        _neighbours.setdefault(folder, {}).update(private)
        for name in private:
            sys.modules.pop(name, None)


def _lies_in(module: ModuleType | None, folder: Path) -> bool:
    """Tell whether a module was imported by name from a folder."""
    name = getattr(module, "__name__", "")
    file = getattr(module, "__file__", None)
    top = folder / str(name).partition(".")[0]
    return (
        top.name != "diffcheck"  # we, when a file of cases lies beside an editable install
        and isinstance(file, str)
        and (Path(file) == top.with_suffix(".py") or top in Path(file).parents)
    )


class _TimeLimitError(BaseException):
    """The time is up; not an `Exception`, so that a file that catches those can't swallow it."""
