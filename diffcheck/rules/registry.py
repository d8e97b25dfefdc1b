"""How a rule is written down: a table from an ATen operation's name to how it acts on shadows.

Names are those of the functional operation, `aten.add` for every overload or `aten.sum.dim_IntList` for one; in-place
and `out=` variants need no rule of their own. Arrays are NumPy arrays of `Expr`, shaped like the tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from diffcheck.algebra import expr as graph
from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import Expr
from diffcheck.errors import Unsupported

Array: TypeAlias = npt.NDArray[Any]
"""An object array of `Expr`; NumPy's own type for one says nothing of its elements."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One operation's action on shadows."""

    apply: Callable[..., Any]
    kind: Literal["pointwise", "array", "guarded"]
    at_negative_zero: Callable[..., Expr] | None = None
    """Of single elements too: given first which arguments are -0.0, where the sign of a zero matters."""


def pointwise(function: Callable[..., Expr], at_negative_zero: Callable[..., Expr] | None = None) -> Rule:
    """A function of single elements; tensors and numbers among the arguments are broadcast against each other.

    Real numbers have one zero, and formulas know no other. `at_negative_zero` is a formula of the same function that
    has the kernel's value where an argument is -0.0 (it is given a tuple of truth values, then the arguments).
    """
    return Rule(function, "pointwise", at_negative_zero)


def array(function: Callable[..., Any]) -> Rule:
    """A function of whole arrays, returning an array or a tuple of arrays (None for an output that is not followed)."""
    return Rule(function, "array")


def guarded(function: Callable[..., Any]) -> Rule:
    """An array function that looks at values too: it is given a `Decisions` first, and records what it relies on."""
    return Rule(function, "guarded")


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a guarded rule may look at, and where it writes down the conditions that it relied on."""

    arguments: tuple[Any, ...]
    """The operation's arguments, as real tensors."""
    result: Any
    """What the kernel returned."""
    record: Callable[[Expr, bool], None]
    """Records that a selector had this value."""

    def ordered(self, elements: Sequence[Expr]) -> None:
        """Relies on the elements being in this order, from the smallest up."""
        for smaller, larger in pairwise(elements):
            self.record(graph.greater(smaller, larger), False)

    def decide(self, selectors: Array, values: Any) -> npt.NDArray[np.bool_]:
        """Relies on these selectors having the (real) values given, and returns them."""
        decided = np.asarray(values, dtype=bool)
        for selector, value in zip(selectors.flat, decided.flat, strict=True):
            self.record(selector, bool(value))
        return decided


def in_numpy(tensor: Any) -> npt.NDArray[Any]:
    """A tensor's values, wherever they are; NumPy has no bfloat16, and float32 holds all of them."""
    real = tensor.detach().cpu()
    found: npt.NDArray[Any] = (real.float() if str(real.dtype) == "torch.bfloat16" else real).cpu().numpy()
    return found


def elements(values: Iterable[Any], shape: tuple[int, ...]) -> Array:
    """An array of this shape from its elements in row-major order."""
    result = np.empty(shape, dtype=object)
    flat = list(values)
    for i, value in enumerate(flat):
        result.flat[i] = value
    return result


def filled(shape: Sequence[int], value: Expr) -> Array:
    """An array with the same expression everywhere."""
    result = np.empty(tuple(shape), dtype=object)
    result.fill(value)
    return result


def lift(value: Any) -> Any:
    """A Python number as an expression; an array or an expression as itself."""
    return scalar(value) if isinstance(value, (bool, int, float)) else value


def elementwise(function: Callable[..., Any], *arguments: Any) -> Array:
    """Applies a function of single elements, with broadcasting. Numbers among the arguments become expressions."""
    arrays = [a if isinstance(a, np.ndarray) else filled((), lift(a)) for a in arguments]
    spread = np.broadcast_arrays(*arrays)
    return elements((function(*row) for row in zip(*(a.flat for a in spread), strict=True)), spread[0].shape)


def dimensions(dim: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """The axes that PyTorch means by `dim`: all of them for None and for an empty list."""
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(rank))
    return tuple(sorted(d % max(rank, 1) for d in ((dim,) if isinstance(dim, int) else dim))) if rank else ()


def reduce(
    function: Callable[[list[Expr]], Expr], x: Array, dim: int | Sequence[int] | None = None, keepdim: bool = False
) -> Array:
    """Applies a function of a list of elements along some axes."""
    axes = dimensions(dim, x.ndim)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    shape = tuple(x.shape[a] for a in kept)
    width = int(np.prod([x.shape[a] for a in axes], dtype=int)) if axes else 1
    rows = x.transpose(kept + axes).reshape((*shape, width))
    result = elements((function(list(rows[index])) for index in np.ndindex(shape)), shape)
    if keepdim:
        result = result.reshape(tuple(1 if a in axes else n for a, n in enumerate(x.shape)))
    return result


def sum_over(x: Array, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Array:
    """The sum along some axes."""
    return reduce(graph.total, x, dim, keepdim)


def count_over(x: Array, dim: int | Sequence[int] | None = None) -> int:
    """How many elements a reduction over `dim` combines."""
    return int(np.prod([x.shape[a] for a in dimensions(dim, x.ndim)], dtype=int))


def matrix_product(a: Array, b: Array) -> Array:
    """a @ b for two matrices."""
    rows, inner = a.shape
    columns = b.shape[1]
    return elements(
        (
            graph.total(graph.multiply(a[i, k], b[k, j]) for k in range(inner))
            for i in range(rows)
            for j in range(columns)
        ),
        (rows, columns),
    )


class NumberNeeded(Unsupported):
    """A rule needs a whole number that is computed from the inputs: it is decided, and the rule applied again."""


def integers(x: Array, operation: str) -> npt.NDArray[np.int64]:
    """The values of an integer array.

    Raises:
        NumberNeeded: An element depends on the inputs.
    """
    result = np.empty(x.shape, dtype=np.int64)
    for i, element in enumerate(x.flat):
        value = graph.number(element)
        if value is None:
            raise NumberNeeded(operation, "an index is computed from the differentiated inputs")
        result.flat[i] = int(value)
    return result
