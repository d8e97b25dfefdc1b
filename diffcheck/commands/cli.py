"""The commands. What takes time to import is imported by the command that needs it: `--help` is instant."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from diffcheck import modes, versions
from diffcheck.commands import config
from diffcheck.errors import ConfigError, DiffcheckError, LoadError, Unsupported
from diffcheck.modes import DTYPES, FIRST_ORDER, MODES, USUAL_DTYPES
from diffcheck.report import files
from diffcheck.report.encoding import make_legible
from diffcheck.report.summary import Exit, exit_code
from diffcheck.versions import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diffcheck.declare.load import Broken, Loaded
from diffcheck.verdict import Result


class Format(StrEnum):
    """The forms of a report."""

    text = "text"
    json = "json"
    junit = "junit"


class AuditFormat(StrEnum):
    """The forms of an audit's report."""

    text = "text"
    json = "json"
    markdown = "markdown"


_SIGINT: Final = 130
"""What typer returns after Ctrl-C; older versions raise `Abort`."""

if TYPE_CHECKING:
    from typer import TyperException as _Refusal
else:
    _Refusal = typer.BadParameter.__mro__[-4]  # below Exception: click's own in older versions, then `TyperException`

app = typer.Typer(
    name="diffcheck",
    add_completion=False,
    rich_markup_mode=None,  # plain help: it fits in any encoding
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_versions(*, verbose: bool) -> None:
    """Print what runs here; in full also what it runs on, and whether that PyTorch is one that was tried."""
    typer.echo(f"diffcheck {__version__}")
    if verbose:
        for name, version in versions.installed().items():
            typer.echo(f"{name} {version}")
        typer.echo(versions.note(versions.installed()["torch"]) or versions.tried())


def _choices(known: tuple[str, ...]) -> Callable[[list[str]], list[str]]:
    """Make the callback of an option that takes several of the known words, repeated or with commas between."""

    def check(given: list[str] | None) -> list[str]:
        words = [word.strip() for text in given or [] for word in text.split(",")]
        for word in words:
            if word not in known:
                raise typer.BadParameter(modes.refusal(word, known))
        return list(dict.fromkeys(words))

    return check


def _one_of(known: tuple[str, ...]) -> Callable[[str | None], str | None]:
    """Make the callback of an option that takes one of the known words."""

    def check(given: str | None) -> str | None:
        if given is not None and given not in known:
            raise typer.BadParameter(f"{given!r} is not one of {', '.join(known)}")
        return given

    return check


def _device(given: str | None) -> str | None:
    """Refuse what is not written like a device."""
    if given is not None and not modes.is_device(given):
        raise typer.BadParameter(f"{given!r} is not a device, as cpu, cuda or cuda:1")
    return given


def _writable(path: Path | None) -> Path | None:
    """Refuse a file that can't be written, before anything is run."""
    if path is not None and (problem := files.problem(path)):
        raise typer.BadParameter(problem)
    return path


Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH",
        help="Files, folders, or single cases as FILE.py::NAME.",
        show_default="case_paths of [tool.diffcheck] in pyproject.toml",
    ),
]
Keyword = Annotated[
    str,
    typer.Option(
        "-k",
        metavar="EXPR",
        help="Only cases whose id matches, as in pytest: 'softmax and not layer'.",
        show_default=False,
    ),
]


Modes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODE",
        help=f"Some of {modes.in_words(MODES)}.",
        show_default=",".join(FIRST_ORDER),
        callback=_choices(MODES),
    ),
]


Device = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE",
        help="Where PyTorch computes: cpu, cuda, cuda:1, ….",
        show_default=modes.CPU,
        callback=_device,
    ),
]


Against = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Says what changed since an earlier audit, of another PyTorch for example. FILE is its JSON report or its "
        "--resume file; options that are not given here are as they were there.",
        show_default=False,
    ),
]


@app.callback(invoke_without_command=True)
def _diffcheck(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version, with -v all, and exit.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", hidden=True)] = False,
) -> None:
    """Is this derivative right? PyTorch's autograd, proved by algebra and checked against certified values.

    Exit codes: 0 all passed, 1 something failed, 2 interrupted, 3 a mistake in diffcheck, 4 wrong usage, 5 no cases.
    """
    if version:
        _print_versions(verbose=verbose)
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("Missing command.")


@app.command(short_help="Prove and certify the derivatives of cases.")
def run(  # noqa: PLR0913 - one parameter per option
    paths: Paths = None,
    *,
    keyword: Keyword = "",
    examples: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="How many inputs are drawn for each case.", show_default="100"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Repeats the run that printed it, exactly.", show_default="random"),
    ] = None,
    mode: Modes = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DTYPE",
            help=f"Some of {', '.join(DTYPES)}.",
            show_default=",".join(USUAL_DTYPES),
            callback=_choices(DTYPES),
        ),
    ] = None,
    device: Device = None,
    form: Annotated[Format, typer.Option("--format", help="What the report is written in.")] = Format.text,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Writes the report there, and text to the terminal.",
            callback=_writable,
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j", "--jobs", min=1, metavar="N", help="Cases at once.", show_default="one a processor, up to 4"
        ),
    ] = None,
    exit_first: Annotated[bool, typer.Option("-x", "--exitfirst", help="Stops at the first failure.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Also whole formulas and tracebacks.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only failures and the last line.")] = False,
    strict: Annotated[
        bool | None,
        typer.Option("--strict/--no-strict", help="Only `proved` passes, `agrees` does not.", show_default="no"),
    ] = None,
) -> int:
    """Check cases: prove each derivative, and compare PyTorch's values with certified ones.

    What is not said here is as [tool.diffcheck] in pyproject.toml says: examples, seed, modes, dtypes, strict, seconds,
    device, case_paths.
    """
    if verbose and quiet:
        raise typer.BadParameter("-v and -q exclude each other")
    from diffcheck.commands.run import run_all
    from diffcheck.commands.workers import default_jobs, workers
    from diffcheck.declare.load import Loaded
    from diffcheck.report import json_, junit
    from diffcheck.report.rows import layout
    from diffcheck.report.terminal import Terminal, console_for, header, progress_on, text_of

    verbosity = verbose - quiet
    project = config.read(Path.cwd())
    paths = _paths(paths, project)
    device = _present(device or project.device)
    strict = project.strict if strict is None else strict
    seed = project.seed if seed is None else seed
    found, items = _collect(paths, keyword)
    with _kept_off_stdout():
        from diffcheck.settings import Settings
    settings = Settings(
        examples=examples or project.examples,
        seed=secrets.randbelow(2**32) if seed is None else seed,
        reuse=seed is None,
        modes=tuple(mode or project.modes),
        dtypes=tuple(dtype or project.dtypes),
        seconds=project.seconds,
        device=device,
        by_name=project.by_name | frozenset(mode or ()) | frozenset(dtype or ()),
    )
    title = header(
        version=__version__,
        cases=sum(isinstance(item, Loaded) for item in items),
        examples=settings.examples,
        seed=settings.seed,
        device=device,
    )
    console = console_for(sys.stdout)
    shows_text = bool(items) and (form is Format.text or output is not None)
    terminal = (
        Terminal(console, layout(console, [item.id for item in items]), verbosity, strict) if shows_text else None
    )
    if terminal:
        terminal.start(title)
    bar = progress_on(console if console.is_terminal else console_for(sys.stderr))
    task = bar.add_task("", total=len(items))

    def end(results: Sequence[Result]) -> None:
        if terminal:
            terminal.case(results)
        bar.advance(task)

    with (
        _kept_off_stdout(),
        workers(items, settings, jobs or (default_jobs(len(items)) if device == modes.CPU else 1)) as check,
        bar,
    ):
        finished = run_all(
            items,
            settings,
            strict=strict,
            exit_first=exit_first,
            deselected=found - len(items),
            begin=lambda item: bar.update(task, description=item.id),
            end=end,
            check=check,
        )
    if terminal:
        terminal.finish(finished)
    if form is Format.json:
        _deliver(json_.dumps(finished), output)
    elif form is Format.junit:
        _deliver(junit.dumps(finished), output)
    elif output is not None:
        _deliver(text_of(finished, title, verbosity), output)
    if not items:
        _say(f"-k {keyword!r} matches none of {found} cases" if found else f"no cases in {' '.join(paths)}")
    return exit_code(finished)


def _present(device: str) -> str:
    """Give the device back, if PyTorch can compute there."""
    if device != modes.CPU:
        from diffcheck.differentiate.device import why_absent

        if absent := why_absent(device):
            raise typer.BadParameter(f"--device {device}: {absent}")
    return device


def _paths(given: Sequence[str] | None, project: config.Config) -> list[str]:
    """Say where to look for cases: where the command line says, or else where the project does."""
    if given or project.case_paths:
        return list(given or map(str, project.cases))
    raise LoadError("Missing argument 'PATH': give files or folders, or set case_paths in [tool.diffcheck]")


def _collect(paths: Sequence[str], keyword: str) -> tuple[int, list[Loaded | Broken]]:
    """Gather the cases, count them, and keep those that `-k` selects; a broken file is never deselected."""
    from diffcheck.declare.load import Broken, collect
    from diffcheck.declare.select import matcher

    matches = matcher(keyword)
    with _kept_off_stdout():
        found = collect(paths)
    return len(found), [item for item in found if isinstance(item, Broken) or matches(item.id)]


def _kept_off_stdout() -> contextlib.AbstractContextManager[object]:
    """Send what cases print to standard error: standard output belongs to the report."""
    return contextlib.redirect_stdout(sys.stderr)


def _deliver(report: str, output: Path | None) -> None:
    """Put a report where it was asked for."""
    if output is None:
        sys.stdout.write(report)
        return
    try:
        files.write(output, report)
    except OSError as error:
        raise LoadError(f"{output} can't be written: {error.strerror or error}") from error


@app.command("list", short_help="List cases and their inputs.")
def list_(paths: Paths = None, *, keyword: Keyword = "") -> int:
    """List cases with their inputs, without checking them."""
    from diffcheck.declare.load import Broken
    from diffcheck.report.listing import print_listing
    from diffcheck.report.terminal import console_for

    paths = _paths(paths, config.read(Path.cwd()))
    found, items = _collect(paths, keyword)
    if not items:
        _say(f"-k {keyword!r} matches none of {found} cases" if found else f"no cases in {' '.join(paths)}")
        return Exit.NOTHING
    print_listing(console_for(sys.stdout), items)
    return Exit.FAILED if any(isinstance(item, Broken) for item in items) else Exit.PASSED


@app.command(short_help="Show one function with its derivative.")
def show(
    case: Annotated[str, typer.Argument(metavar="CASE", help="As FILE.py::NAME.", show_default=False)],
    *,
    latex: Annotated[bool, typer.Option("--latex", help="The formulas in LaTeX.")] = False,
) -> int:
    """Show a function, its derivative as a person writes it, and the formula that autograd executed."""
    from diffcheck.declare.load import Broken, importable
    from diffcheck.report.terminal import console_for

    _found, items = _collect([case], "")
    if len(items) != 1:
        names = ", ".join(item.id for item in items) or "none"
        raise LoadError(f"show takes one case, as FILE.py::NAME; {case} has {names}")
    (item,) = items
    if isinstance(item, Broken):
        _say(item.reason)
        return Exit.FAILED
    try:
        with _kept_off_stdout(), importable(item.file.parent):
            shown = item.case.show(latex=latex)
    except DiffcheckError as error:
        _say(f"{item.id} can't be shown: {error}")
        for line in error.advice if isinstance(error, Unsupported) else ():
            console_for(sys.stderr).print(line, soft_wrap=True)
        return Exit.FAILED
    console_for(sys.stdout).print(shown, soft_wrap=latex)
    return Exit.PASSED


@app.command(short_help="Judge PyTorch's own operators.")
def audit(  # noqa: PLR0913 - one parameter per option
    *,
    ops: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Only operators whose name matches, as file names do: 'linalg.*'; may be repeated.",
            show_default="all",
        ),
    ] = None,
    mode: Modes = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="DTYPE", help=f"One of {', '.join(DTYPES)}.", show_default="float64", callback=_one_of(DTYPES)
        ),
    ] = None,
    device: Device = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Sample inputs of each operator, at most.", show_default="5"),
    ] = None,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, metavar="N", help="Operators at once.")] = 1,
    form: Annotated[AuditFormat, typer.Option("--format", help="What the report is written in.")] = AuditFormat.text,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Writes the report there.", callback=_writable, show_default=False),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keeps results there as they come, and goes on from what is there.",
            callback=_writable,
            show_default=False,
        ),
    ] = None,
    against: Against = None,
) -> int:
    """Judge the operators of PyTorch's own database on its sample inputs; needs the extra `audit`.

    With --against, exit code 1 says that something is wrong or worse that was not: what was wrong before does not fail.
    """
    from diffcheck.audit.command import Request, run_audit
    from diffcheck.audit.earlier import read
    from diffcheck.audit.judge import Plan

    earlier = read(against) if against else None
    usual = earlier.plan if earlier else Plan()
    request = Request(
        patterns=tuple(ops or (earlier and earlier.patterns) or ()),
        plan=Plan(
            modes=tuple(mode or usual.modes),
            dtype=dtype or usual.dtype,
            samples=samples or usual.samples,
            device=_present(device or usual.device),
        ),
        jobs=jobs,
        form=form.value,
        output=output,
        journal=resume,
        earlier=earlier,
    )
    return run_audit(request)


def _say(message: str) -> None:
    """Print one line about what went wrong."""
    from diffcheck.report.terminal import console_for
    from diffcheck.report.text import printable

    console = console_for(sys.stderr)
    console.print(f"diffcheck: {printable(message, console)}", soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and turn whatever happens into an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    make_legible()
    try:
        # typer gives 2 to wrong usage and ends the process; ours are pytest's codes.
        code = app(args=arguments, prog_name="diffcheck", standalone_mode=False)
        sys.stdout.flush()
    except (LoadError, ConfigError) as error:
        _say(f"error: {error}")
        return Exit.USAGE
    except _Refusal as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "diffcheck")
        if arguments:
            _say(f"error: {error.format_message()}\nSee '{command} --help'.")
        return Exit.USAGE
    except typer.Abort:
        code = _SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or flushing at exit fails again
        return Exit.FAILED
    except Exception as error:  # noqa: BLE001 - the last resort
        from diffcheck.report.terminal import HOW_TO_REPORT

        _say(f"internal error: {type(error).__name__}: {error}\n{HOW_TO_REPORT}")
        if {"-v", "--verbose"} & set(arguments):
            traceback.print_exc()
        return Exit.INTERNAL
    if code == _SIGINT:
        _say("interrupted")
        return Exit.INTERRUPTED
    return int(code or 0) if arguments else Exit.USAGE
