"""Hypothesis strategies for tensors, from the annotations that declare cases: for anybody's `@given`.

Sizes, values and layouts in memory are drawn as cases draw them. Everything shrinks: to one element, zeros, contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from diffcheck.declare.case import Case
from diffcheck.declare.domain import Argument, argument, arguments_of, large_assignments, size_assignments
from diffcheck.declare.nested import flattened
from diffcheck.draw import inputs as draw
from diffcheck.draw.inputs import Drawn, Layout
from diffcheck.errors import DeclarationError

__all__ = ["Layout", "arguments", "tensors"]


def tensors(
    annotation: Any,
    *,
    dtype: torch.dtype = torch.float64,
    layout: Layout | str | None = None,
    special: Sequence[float] = (),
    large: bool = False,
) -> st.SearchStrategy[Tensor]:
    """Tensors that an annotation describes.

    Args:
        annotation: jaxtyping's, `Float[Tensor, "n m"]`, with bounds: `Annotated[Float[Tensor, "n"], Gt(0)]`.
        dtype: Of `Float` tensors; a number that leaves the bounds when it is rounded to it is not drawn.
        layout: How they lie in memory: `contiguous`, `strided`, `transposed`; by default any of them.
        special: Numbers to be drawn more often.
        large: Whether one axis may be longer than 64.

    Raises:
        DeclarationError: The annotation, the dtype or the layout can't be drawn; the message says why.
    """
    known = (argument("x", annotation, case_name="tensors"),)
    shown = _shown(_text(annotation), dtype, layout, special, large=large)
    source = _source(known, None, dtype, layout, special, large=large)
    return _composite("tensors", source.map(lambda values: values["x"]), shown)


def arguments(
    target: Case | Callable[..., Any] | Mapping[str, Any] | Sequence[Any],
    *,
    dtype: torch.dtype = torch.float64,
    layout: Layout | str | None = None,
    special: Sequence[float] = (),
    large: bool = False,
) -> st.SearchStrategy[Any]:
    """Arguments that fit together: axes of one name have one size, a bound may name an axis, `assume=` holds.

    Args:
        target: An annotated function or a case, which gives dicts by argument (a function can be called with
            `f(**drawn)`); or annotations, in dicts, lists and tuples as they are wanted.
        dtype: As for `tensors`.
        layout: As for `tensors`; all arguments of one draw lie in memory in the same way.
        special: As for `tensors`.
        large: As for `tensors`.

    Raises:
        DeclarationError: As for `tensors`.
    """
    whole: Callable[[Sequence[Any]], dict[str, Any]] | None = None
    assume = None
    if isinstance(target, Case):
        known, assume, name = target.arguments, target.assume, target.name
    elif callable(target):
        name = getattr(target, "__name__", type(target).__name__)
        known = arguments_of(target.forward if isinstance(target, torch.nn.Module) else target, name)
    else:
        leaves, whole = flattened({"": target})
        name = _text(target)
        known = tuple(argument(n.removeprefix("."), a, case_name="arguments") for n, a in leaves.items())
    shown = _shown(name, dtype, layout, special, large=large)
    source = _source(known, assume, dtype, layout, special, large=large)
    if whole is None:
        return _composite("arguments", source, shown)
    rebuilt = whole
    return _composite("arguments", source.map(lambda values: rebuilt(list(values.values()))[""]), shown)


# ---------------------------------------------------------------------------------------------------------------------
# What is drawn
# ---------------------------------------------------------------------------------------------------------------------


def _source(
    known: tuple[Argument, ...],
    assume: Callable[..., Any] | None,
    dtype: torch.dtype,
    layout: Layout | str | None,
    special: Sequence[float],
    *,
    large: bool,
) -> st.SearchStrategy[dict[str, Tensor]]:
    if not dtype.is_floating_point:
        raise DeclarationError(f"dtype={dtype} is no floating-point dtype: annotate with Int or Bool for other tensors")
    if layout is not None and layout not in list(Layout)[:3]:
        raise DeclarationError(f"layout={layout!r} is not one of contiguous, strided, transposed")
    assignments = [*size_assignments(known), *(large_assignments(known) if large else [])]
    if not assignments:
        raise DeclarationError("no sizes of the axes give every argument a shape")

    def placed(drawn: Drawn) -> Drawn:
        return drawn if layout is None else replace(drawn, layout=Layout(layout))

    def inside(drawn: Drawn) -> bool:
        values = draw.tensors(drawn, known, dtype)
        finite = all(bool(v.isfinite().all()) for v in values.values())  # a narrow dtype may overflow
        return finite and draw.admits(known, drawn.shapes, values, assume)

    drawn = draw.inputs(known, assignments, special).map(placed).filter(inside)
    return drawn.map(lambda d: draw.tensors(d, known, dtype))


# ---------------------------------------------------------------------------------------------------------------------
# How it is shown
# ---------------------------------------------------------------------------------------------------------------------


class _Shown(str):
    """What stands between the brackets in the repr of a strategy."""

    __slots__ = ()
    __repr__ = str.__str__


def _composite(name: str, source: st.SearchStrategy[Any], shown: _Shown) -> st.SearchStrategy[Any]:
    """The same strategy with a repr that can be read."""

    def drawn(draw_from: st.DrawFn, _shown: _Shown, /) -> Any:
        return draw_from(source)

    drawn.__name__ = drawn.__qualname__ = name
    made: st.SearchStrategy[Any] = st.composite(drawn)(shown)
    return made


def _shown(
    what: str, dtype: torch.dtype, layout: Layout | str | None, special: Sequence[float], *, large: bool
) -> _Shown:
    options = (
        f"dtype={dtype}",
        *([] if layout is None else [f"layout={str(layout)!r}"]),
        *([f"special={tuple(special)}"] if special else []),
        *(["large=True"] if large else []),
    )
    return _Shown(", ".join([what, *options]))


def _text(annotation: Any) -> str:
    """An annotation as it was written."""
    if isinstance(annotation, Mapping):
        return "{" + ", ".join(f"{k!r}: {_text(v)}" for k, v in annotation.items()) + "}"
    if isinstance(annotation, (list, tuple)):
        inside = ", ".join(map(_text, annotation))
        return f"[{inside}]" if isinstance(annotation, list) else f"({inside})"
    metadata = getattr(annotation, "__metadata__", ())
    if metadata:
        return f"Annotated[{', '.join([_text(annotation.__origin__), *map(repr, metadata)])}]"
    return str(getattr(annotation, "__name__", repr(annotation)))
