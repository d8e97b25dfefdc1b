"""Which inputs are drawn: annotations become shapes and bounds, and these become Hypothesis strategies."""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import operator
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import annotated_types as bounds_of

from diffcheck.errors import DeclarationError

_HOW: Final = """\
Write, for example:

    from typing import Annotated
    from annotated_types import Gt
    from jaxtyping import Float, Int
    from torch import Tensor

    @case
    def f(x: Float[Tensor, "n m"], w: Annotated[Float[Tensor, "m"], Gt(0)]) -> Float[Tensor, "n"]:
        ..."""

Kind = Literal["real", "complex", "integer", "boolean"]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of an annotation: a size, a name, several axes (`*batch`), or arithmetic on names (`n+1`)."""

    text: str
    several: bool = False
    broadcast: bool = False

    @property
    def names(self) -> frozenset[str]:
        """The names that the size depends on."""
        nodes = ast.walk(ast.parse(self.text, mode="eval"))
        return frozenset(node.id for node in nodes if isinstance(node, ast.Name))


@dataclass(frozen=True, slots=True)
class Argument:
    """One input: its shape, and what its entries may be."""

    name: str
    kind: Kind
    axes: tuple[Axis, ...]
    lower: float | str = -math.inf
    upper: float | str = math.inf
    lower_open: bool = False
    upper_open: bool = False
    predicates: tuple[Callable[[Any], Any], ...] = ()

    @property
    def differentiated(self) -> bool:
        """Whether derivatives are taken with respect to it."""
        return self.kind in ("real", "complex")

    @property
    def parts(self) -> int:
        """How many real numbers an entry is."""
        return 2 if self.kind == "complex" else 1


Shapes = Mapping[str, tuple[int, ...]]


# ---------------------------------------------------------------------------------------------------------------------
# Annotations
# ---------------------------------------------------------------------------------------------------------------------


def arguments_of(function: Callable[..., Any], name: str) -> tuple[Argument, ...]:
    """The inputs that a function's annotations declare.

    Parameters with a default and without a tensor annotation keep their default.

    Raises:
        DeclarationError: A parameter without an annotation, or with one that says nothing or contradicts itself.
    """
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise DeclarationError(f"case {name!r}: its annotations can't be evaluated: {error}") from error
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as error:
        raise DeclarationError(
            f"case {name!r}: a built-in function says nothing of its arguments; declare them with "
            f'inputs={{"x": Float[Tensor, "n"]}}, or write a function around it.\n{_HOW}'
        ) from error
    found = []
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise DeclarationError(
                f"case {name!r}: argument {parameter} has no fixed number of tensors; declare each one by name.\n{_HOW}"
            )
        annotation = hints.get(parameter.name)
        if annotation is None and parameter.default is parameter.empty:
            raise DeclarationError(
                f"case {name!r}: argument {parameter.name!r} has no annotation, so its shape is unknown.\n{_HOW}"
            )
        if _tensor_annotation(annotation) is None and parameter.default is not parameter.empty:
            continue
        found.append(argument(parameter.name, annotation, case_name=name))
    return tuple(found)


def _tensor_annotation(annotation: Any) -> Any:
    base = typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation
    return base if hasattr(base, "dim_str") and hasattr(base, "dtypes") else None


def argument(name: str, annotation: Any, *, case_name: str) -> Argument:
    """The input that one annotation declares.

    Raises:
        DeclarationError: It is not a jaxtyping annotation, or its bounds leave nothing to draw.
    """
    base = _tensor_annotation(annotation)
    where = f"case {case_name!r}, argument {name!r}"
    if base is None:
        hint = ""
        if annotation in (float, int, bool):
            hint = f'\nA number is a tensor without axes: {name}: Float[Tensor, ""]. Or give {name} a default.'
        raise DeclarationError(f"{where}: {annotation!r} does not say which shape to draw.{hint}\n{_HOW}")
    result = Argument(name, _kind(base, where), axes_of(base.dim_str, where))
    metadata = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is typing.Annotated else ()
    for item in _flattened(metadata):
        result = _restricted(result, item, where)
    if result.kind == "complex" and describe_bounds(result):
        raise DeclarationError(f"{where}: a complex number is not {describe_bounds(result)}; use a Predicate.")
    _refuse_contradictions(result, where)
    return result


def _kind(base: Any, where: str) -> Kind:
    names = [str(d) for d in base.dtypes] if isinstance(base.dtypes, (list, tuple)) else [str(base.dtypes)]
    if any(n.startswith(("float", "bfloat")) for n in names):
        return "real"
    if any(n.startswith("complex") for n in names):
        return "complex"
    if any(n.startswith(("int", "uint")) for n in names):
        return "integer"
    if any(n.startswith("bool") for n in names):
        return "boolean"
    raise DeclarationError(
        f"{where}: tensors of {', '.join(names)} are not drawn; use Float, Complex, Int or Bool.\n{_HOW}"
    )


def axes_of(text: str, where: str) -> tuple[Axis, ...]:
    """The axes that a jaxtyping shape string declares."""
    axes = []
    for position, word in enumerate(text.split()):
        bare = word.lstrip("#*?")
        signs = word.removesuffix(bare)  # the star of `2*m` is no sign
        broadcast, several = "#" in signs, "*" in signs
        if "=" in bare:
            bare = bare.split("=", 1)[1]
        if bare == "...":
            bare, several = f"_axes{position}", True
        elif bare.startswith("_"):
            bare = f"_{where.rsplit(' ', 1)[-1].strip(chr(39))}{position}"
        axis = Axis(bare, several, broadcast)
        try:
            _evaluate(bare, dict.fromkeys(axis.names, 3))
        except (SyntaxError, ValueError, DeclarationError) as error:
            raise DeclarationError(
                f"{where}: the axis {word!r} is not a size, a name or arithmetic on names"
            ) from error
        axes.append(axis)
    return tuple(axes)


def _flattened(metadata: Sequence[Any]) -> list[Any]:
    items: list[Any] = []
    for item in metadata:
        items.extend(item if isinstance(item, bounds_of.GroupedMetadata) else [item])
    return items


def _restricted(known: Argument, item: Any, where: str) -> Argument:
    match item:
        case bounds_of.Gt(gt=bound):
            return _bounded(known, _bound(bound, where), "lower", is_open=True)
        case bounds_of.Ge(ge=bound):
            return _bounded(known, _bound(bound, where), "lower", is_open=False)
        case bounds_of.Lt(lt=bound):
            return _bounded(known, _bound(bound, where), "upper", is_open=True)
        case bounds_of.Le(le=bound):
            return _bounded(known, _bound(bound, where), "upper", is_open=False)
        case bounds_of.Predicate(func=function):
            return replace(known, predicates=(*known.predicates, function))
        case bounds_of.BaseMetadata():
            raise DeclarationError(
                f"{where}: {item!r} is not understood; use Gt, Ge, Lt, Le, Interval or Predicate from annotated_types."
            )
        case _:
            return known


def _bound(value: Any, where: str) -> float | str:
    if isinstance(value, str) or (isinstance(value, (int, float)) and not math.isnan(value)):
        return value
    raise DeclarationError(f"{where}: the bound {value!r} is neither a number nor the name of an axis.")


def _bounded(known: Argument, bound: float | str, side: str, *, is_open: bool) -> Argument:
    before = getattr(known, side)
    tighter = operator.gt if side == "lower" else operator.lt
    if not isinstance(bound, str) and not isinstance(before, str) and not tighter(bound, before):
        if bound == before and is_open:
            opened: dict[str, Any] = {f"{side}_open": True}
            return replace(known, **opened)
        return known
    narrowed: dict[str, Any] = {side: bound, f"{side}_open": is_open}
    return replace(known, **narrowed)


def _refuse_contradictions(known: Argument, where: str) -> None:
    lower, upper = known.lower, known.upper
    if isinstance(lower, str) or isinstance(upper, str):
        return
    empty = lower > upper or (lower == upper and (known.lower_open or known.upper_open))
    if known.kind == "integer" and not empty:
        empty = _first_integer(lower, is_open=known.lower_open) > _last_integer(upper, is_open=known.upper_open)
    if empty:
        raise DeclarationError(f"{where}: no number is {describe_bounds(known)}.")


def describe_bounds(known: Argument) -> str:
    """The bounds in words: `> 0 and <= 1`."""
    parts = []
    if known.lower != -math.inf:
        parts.append(f"{'>' if known.lower_open else '>='} {known.lower}")
    if known.upper != math.inf:
        parts.append(f"{'<' if known.upper_open else '<='} {known.upper}")
    return " and ".join(parts)


# ---------------------------------------------------------------------------------------------------------------------
# Sizes
# ---------------------------------------------------------------------------------------------------------------------

_ARITHMETIC: Final[dict[type, Callable[[int, int], int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def _evaluate(text: str, sizes: Mapping[str, int]) -> int:
    def value(node: ast.AST) -> int:
        match node:
            case ast.Expression(body=body):
                return value(body)
            case ast.Constant(value=int(number)):
                return number
            case ast.Name(id=name):
                return sizes[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _ARITHMETIC[type(op)](value(left), value(right))
        raise DeclarationError(f"{text!r} is not arithmetic on axis names")

    return value(ast.parse(text, mode="eval"))


_LARGE: Final = 67
"""A size past 64: a prime, so that no block of a kernel divides it."""
_MOST_LARGE: Final = 2
_MOST_ELEMENTS: Final = 512
"""A trace grows with its elements: larger inputs are not drawn."""


def size_assignments(arguments: Sequence[Argument]) -> list[Shapes]:
    """A few assignments of sizes to axis names: all 1 first (the smallest to be shown), then pairwise different sizes.

    Different, because a square hides a transpose; equal ones too, because a batch may be taken for a matrix. Axes that
    may be broadcast are 1 in one argument after the other.
    """
    single, several = _axis_names(arguments)

    def turn(which: int, narrow: Collection[tuple[str, int]] = ()) -> Shapes | None:
        sizes = {name: (2, 3, 4)[(i + which) % 3] if which else 1 for i, name in enumerate(single)}
        return _shapes(arguments, sizes, dict.fromkeys(several, ((), (2,), (1, 2))[which]), narrow)

    found = [turn(0)]
    if len(single) > 1:
        found.append(_shapes(arguments, dict.fromkeys(single, 2), dict.fromkeys(several, (2,))))
    found.append(turn(1))
    found += [turn(1, own) for own in _broadcasts(arguments)]
    found.append(turn(2, _broadcast_axes(arguments)))
    return [shapes for i, shapes in enumerate(found) if shapes is not None and shapes not in found[:i]]


_MOST_BROADCASTS: Final = 6
"""Ways to broadcast that are drawn."""


def _broadcast_axes(arguments: Sequence[Argument]) -> list[tuple[str, int]]:
    return [(a.name, i) for a in arguments for i, axis in enumerate(a.axes) if axis.broadcast]


def _broadcasts(arguments: Sequence[Argument]) -> list[list[tuple[str, int]]]:
    """Which axes are 1 at once: all of one argument, and each alone."""
    axes = _broadcast_axes(arguments)
    whole = [[(name, i) for name, i in axes if name == a.name] for a in arguments]
    found = [own for own in (*whole, *([axis] for axis in axes)) if own]
    return [own for i, own in enumerate(found) if own not in found[:i]][:_MOST_BROADCASTS]


def asked_assignments(arguments: Sequence[Argument], asked: Sequence[int]) -> list[Shapes]:
    """Assignments in which an axis has a size that the function asks about; all others are 1, and then 2.

    1, since the question may have been about the number of elements.
    """
    single, several = _axis_names(arguments)
    found: list[Shapes] = []
    for size, long, other in itertools.product(asked, single[:_MOST_LARGE], (1, 2)):
        sizes = {name: size if name == long else other for name in single}
        shapes = _shapes(arguments, sizes, dict.fromkeys(several, ()))
        if shapes is not None and shapes not in found and sum(map(math.prod, shapes.values())) <= _MOST_ELEMENTS:
            found.append(shapes)
    return found


def large_assignments(arguments: Sequence[Argument], size: int = _LARGE) -> list[Shapes]:
    """Assignments that are large along one axis: what a kernel handles in blocks of 32 or 64 differs only there."""
    single, several = _axis_names(arguments)
    assignments: list[Shapes] = []
    for long in single[:_MOST_LARGE]:
        others = [name for name in single if name != long]
        sizes = {long: size, **{name: 2 + i % 2 for i, name in enumerate(others)}}
        shapes = _shapes(arguments, sizes, dict.fromkeys(several, ()))
        if shapes is not None and sum(map(math.prod, shapes.values())) <= _MOST_ELEMENTS:
            assignments.append(shapes)
    return assignments


def resized(arguments: Sequence[Argument], shapes: Shapes, size: int) -> Shapes | None:
    """Shapes whose longest axis has another size; None if they have no named axis, or broadcast one."""
    single, several = _axis_names(arguments)
    sizes = {
        axis.text: length
        for known in arguments
        if not any(axis.several for axis in known.axes)
        for axis, length in zip(known.axes, shapes[known.name], strict=True)
        if axis.text in single
    }
    groups = dict.fromkeys(several, ())
    if set(sizes) != set(single) or not single or _shapes(arguments, sizes, groups) != shapes:
        return None
    return _shapes(arguments, {**sizes, max(single, key=sizes.__getitem__): size}, groups)


def _axis_names(arguments: Sequence[Argument]) -> tuple[list[str], list[str]]:
    """The names of single axes, and those of several."""
    single = {n for a in arguments for x in a.axes if not x.several for n in x.names}
    several = {n for a in arguments for x in a.axes if x.several for n in x.names}
    return sorted(single), sorted(several)


def _shapes(
    arguments: Sequence[Argument],
    sizes: Mapping[str, int],
    groups: Mapping[str, tuple[int, ...]],
    narrow: Collection[tuple[str, int]] = (),
) -> Shapes | None:
    """Shapes by argument; the axes in `narrow`, by argument and position, are 1. None if a size would be negative."""
    shapes: dict[str, tuple[int, ...]] = {}
    for known in arguments:
        shape: list[int] = []
        for i, axis in enumerate(known.axes):
            own = groups[axis.text] if axis.several else (_evaluate(axis.text, sizes),)
            shape.extend([1] * len(own) if (known.name, i) in narrow else own)
        if any(n < 0 for n in shape):
            return None
        shapes[known.name] = tuple(shape)
    return shapes


def matches(axes: Sequence[Axis], shape: tuple[int, ...], arguments: Sequence[Argument], shapes: Shapes) -> bool:
    """Whether a result's shape is what its annotation says, given the shapes of the arguments."""
    sizes: dict[str, int] = {}
    for known in arguments:
        if not any(axis.several for axis in known.axes):
            for axis, size in zip(known.axes, shapes[known.name], strict=True):
                if axis.text.isidentifier() and not axis.broadcast:
                    sizes[axis.text] = size
    if any(axis.several for axis in axes):
        return True
    if len(axes) != len(shape):
        return False
    return all(
        not axis.names <= sizes.keys() or _evaluate(axis.text, sizes) == size
        for axis, size in zip(axes, shape, strict=True)
    )


# ---------------------------------------------------------------------------------------------------------------------
# Values
# ---------------------------------------------------------------------------------------------------------------------


def _first_integer(bound: float, *, is_open: bool) -> float:
    return bound if math.isinf(bound) else math.floor(bound) + 1 if is_open else math.ceil(bound)


def _last_integer(bound: float, *, is_open: bool) -> float:
    return bound if math.isinf(bound) else math.ceil(bound) - 1 if is_open else math.floor(bound)


def resolved(known: Argument, shapes: Shapes, arguments: Sequence[Argument]) -> Argument:
    """The argument with bounds that name an axis replaced by that axis' size."""
    if not isinstance(known.lower, str) and not isinstance(known.upper, str):
        return known
    sizes = {
        axis.text: size
        for other in arguments
        if not any(axis.several for axis in other.axes)
        for axis, size in zip(other.axes, shapes[other.name], strict=True)
    }

    def size_of(bound: float | str) -> float:
        if not isinstance(bound, str):
            return bound
        if bound not in sizes:
            raise DeclarationError(f"argument {known.name!r}: no axis is called {bound!r}; there are {sorted(sizes)}")
        return sizes[bound]

    return replace(known, lower=size_of(known.lower), upper=size_of(known.upper))


def contains(known: Argument, value: float) -> bool:
    """Whether a number is within the (resolved) bounds."""
    assert not isinstance(known.lower, str) and not isinstance(known.upper, str)
    above = value > known.lower if known.lower_open else value >= known.lower
    below = value < known.upper if known.upper_open else value <= known.upper
    return above and below
