"""`diffcheck show`: a case as a person writes it, its derivative, what autograd executed, and their difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sympy
from hypothesis import Phase

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import Expr
from diffcheck.checking.check import modes_of
from diffcheck.compare.evaluate import Memory, Path, evaluate
from diffcheck.declare.case import Case
from diffcheck.declare.domain import size_assignments
from diffcheck.derive import symbolic, text
from diffcheck.draw import inputs as draw
from diffcheck.draw.inputs import Drawn
from diffcheck.draw.search import find
from diffcheck.errors import CaseFailure, DiffcheckError
from diffcheck.modes import TEXTBOOK
from diffcheck.prove.identity import Status
from diffcheck.settings import Settings

_MOST_ENTRIES = 8
"""Numbers of a derivative that are written out."""
_MOST_PATHS = 6


def show(case: Case, *, latex: bool = False) -> str:
    """The report on one case, as lines of text.

    Args:
        case: The case.
        latex: LaTeX for the function and its gradient instead of the report.

    Raises:
        DiffcheckError: The case can't be traced at any drawn input.
    """
    paths = visited_paths(case, Settings(examples=30, seed=0, dtypes=("float64",), database=False))
    largest = max(len(path.trace.entries) for _, path in paths)
    shown = [(mode, path) for mode, path in paths if len(path.trace.entries) == largest]
    return "\n".join(_latex(shown) if latex else _report(case, shown))


def visited_paths(case: Case, settings: Settings) -> list[tuple[str, Path]]:
    """Every path that drawn inputs take through a case, with the mode; `gradient=` included.

    Raises:
        DiffcheckError: No drawn input could be traced.
    """
    memory = Memory()
    modes = (*modes_of(case, settings), *([TEXTBOOK] if case.gradient is not None else []))
    failure: list[DiffcheckError] = []

    def visit(drawn: Drawn) -> bool:
        for mode in modes:
            try:
                evaluate(case, mode, settings.dtypes[0], drawn, memory)
            except DiffcheckError as error:
                failure.append(error)
        return False

    strategy = draw.inputs(case.arguments, size_assignments(case.arguments))
    find(strategy, visit, settings, phases=[Phase.generate])
    found = [(str(key[0]), path) for key, paths in memory.paths.items() for path in paths]
    if not found:
        raise failure[0] if failure else CaseFailure("no input within the domain could be drawn")
    return found


def _report(case: Case, paths: Sequence[tuple[str, Path]]) -> Iterator[str]:
    yield f"{case.name}({case.signature})"
    if case.doc:
        yield from (f"    {line}".rstrip() for line in case.doc.splitlines())
    by_path: dict[tuple[bool, ...], list[tuple[str, Path]]] = {}
    for mode, path in paths:
        by_path.setdefault(path.trace.path, []).append((mode, path))
    for number, group in enumerate(by_path.values(), start=1):
        if number > _MOST_PATHS:
            yield ""
            yield f"… and {len(by_path) - _MOST_PATHS} more paths"
            return
        yield ""
        yield from _path_title(number, len(by_path), group[0][1])
        yield from _function(group[0][1])
        for mode, path in group:
            yield from _mode(mode, path)


def _path_title(number: int, count: int, path: Path) -> Iterator[str]:
    if count == 1 and not path.trace.guards:
        return
    yield f"path {number} of {count}" if count > 1 else "the path"
    for guard in path.trace.guards[-4:]:
        yield f"    where {text.in_a_line(guard.selector)} is {guard.value}"
    if len(path.trace.guards) > 4:
        yield f"    and {len(path.trace.guards) - 4} conditions before"


def _function(path: Path) -> Iterator[str]:
    yield "function"
    yield from _numbered(
        [f"y[{i}]" if len(path.trace.outputs) > 1 else "y" for i in range(len(path.trace.outputs))], path.trace.outputs
    )
    yield "gradient of the sum of the outputs"
    yield from _numbered([f"∂/∂{name}" for name in path.trace.variables], path.trace.unit_reference)


def _mode(mode: str, path: Path) -> Iterator[str]:
    trace = path.trace
    names = [entry.owner + (f"[{','.join(map(str, entry.index))}]" if entry.index else "") for entry in trace.entries]
    said = "what gradient= says" if mode == TEXTBOOK else "what was executed"
    yield f"{mode}: {said}"
    yield from _numbered(names, trace.executed)
    verdict = {
        Status.PROVED: "0 for every input of this path: proved",
        Status.REFUTED: "not 0",
        Status.UNDECIDED: f"not decided by algebra ({path.proof.why})",
    }[path.proof.status]
    yield f"{mode}: its difference from the reference is {verdict}"
    if path.proof.status is Status.REFUTED and path.proof.position is not None:
        position = path.proof.position
        yield f"    in {names[position]}: {_difference(trace.executed[position], trace.reference[position])}"


def _difference(executed: Expr, reference: Expr) -> str:
    if text.written_size(executed) + text.written_size(reference) > text.LARGEST:
        return "(a long formula)"
    left, right = symbolic.to_sympy([executed, reference])
    return str(sympy.factor(sympy.simplify(left - right)))


def _numbered(names: Sequence[str], formulas: Sequence[Expr]) -> Iterator[str]:
    pairs = list(zip(names, formulas, strict=False))[:_MOST_ENTRIES]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, node in pairs:
        first, *below = text.text(node).split("\n")
        yield f"    {name.ljust(width)} = {first}"
        yield from (f"    {' ' * width}   {line}" for line in below)
    if len(formulas) > _MOST_ENTRIES:
        yield f"    … and {len(formulas) - _MOST_ENTRIES} more"


def _latex(paths: Sequence[tuple[str, Path]]) -> Iterator[str]:
    trace = paths[0][1].trace
    yield r"\begin{align*}"
    for i, output in enumerate(marks.as_values(trace.outputs)[:_MOST_ENTRIES]):
        name = f"y_{{{i}}}" if len(trace.outputs) > 1 else "y"
        yield f"  {name} &= {text.latex(output)} \\\\"
    for name, derivative in list(zip(trace.variables, trace.unit_reference, strict=False))[:_MOST_ENTRIES]:
        variable = text.latex(graph.symbol(name))
        yield rf"  \frac{{\partial}}{{\partial {variable}}} \sum y &= {text.latex(derivative)} \\"
    yield r"\end{align*}"
