"""Mistakes of arrangement: transposed Jacobians, other orders, axes, broadcasting, columns against rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

import numpy as np

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import ZERO, Expr
from diffcheck.explain.diagnosis.view import Group, View
from diffcheck.rules.registry import Array
from diffcheck.verdict import Certainty, Diagnosis, Mistake

_FEWEST: Final = 2
"""Entries below which every arrangement looks like every other."""


def transposed(view: View) -> Diagnosis | None:
    """J·g in the place of Jᵀ·g."""
    positions = view.positions if view.owner else []
    if len(positions) < _FEWEST or len(positions) != len(view.seeds) or len(view.trace.seeds) != 1:
        return None
    jacobian = [view.jacobian[i] for i in positions]
    candidates = {
        i: graph.total(seed * jacobian[k][row] for k, seed in enumerate(view.seeds))
        for row, i in enumerate(positions)
        if i in view.differing
    }
    certainty = view.explains(candidates)
    if certainty is None:
        return None
    return Diagnosis(
        Mistake.TRANSPOSED, certainty, f"{view.trace.seed_names[0]} is multiplied by the Jacobian, not by its transpose"
    )


def exchanged(view: View) -> Diagnosis | None:
    """One argument got the other's gradient."""
    if not view.owner:
        return None
    owners = dict.fromkeys(entry.owner for entry in view.trace.entries)
    for other in owners:
        if other == view.owner or view.shape_of(other) != view.shape_of(view.owner):
            continue
        theirs = dict(zip(view.positions, (view.reference[i] for i in view.entries_of(other)), strict=True))
        certainty = view.explains({i: theirs[i] for i in view.differing})
        if certainty is not None:
            return Diagnosis(
                Mistake.EXCHANGED, certainty, f"the executed formula is the gradient of {other}, not of {view.owner}"
            )
    return None


def reordered(view: View) -> Diagnosis | None:
    """The derivative with the entries of a tensor in another order: reversed, transposed, moved on by one."""
    if not view.owner or len(view.positions) < _FEWEST:
        return None
    shape = view.shape_of(view.owner)
    references = np.array([view.reference[i] for i in view.positions], dtype=object).reshape(shape)
    for words, arrange in _arrangements(shape):
        moved = arrange(references).reshape(-1)
        certainty = view.explains({i: moved[view.positions.index(i)] for i in view.differing})
        if certainty is not None:
            mistake = Mistake.AXIS if words == "transposed" else Mistake.ORDER
            return Diagnosis(mistake, certainty, f"the executed formula is the derivative, {words}")
    for group in view.groups.values():
        cells = np.array(group.symbols, dtype=object).reshape(group.shape)
        for words, arrange in _arrangements(group.shape):
            swaps = dict(zip(group.symbols, arrange(cells).reshape(-1), strict=True))
            changed = graph.substitute([view.reference[i] for i in view.differing], swaps)
            certainty = view.explains(dict(zip(view.differing, changed, strict=True)))
            if certainty is not None:
                return Diagnosis(
                    Mistake.ORDER, certainty, f"the executed formula is the derivative with {group.name} {words}"
                )
    return None


def _arrangements(shape: Sequence[int]) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Orders that people mix up, for a shape; those that change nothing are left out."""
    axes = [axis for axis, size in enumerate(shape) if size > 1]
    for axis in axes:
        where = f" along axis {axis}" if len(shape) > 1 else ""
        yield f"reversed{where}", partial(np.flip, axis=axis)
        if shape[axis] > 2:
            yield f"moved on by one{where}", partial(np.roll, shift=1, axis=axis)
            yield f"moved back by one{where}", partial(np.roll, shift=-1, axis=axis)
    if len(shape) >= 2 and len(axes) >= 2:
        if shape[-1] == shape[-2]:
            yield "transposed", lambda a: np.swapaxes(a, -1, -2)
        else:
            turned = (*shape[:-2], shape[-1], shape[-2])
            yield "reshaped where it should be transposed", lambda a: np.swapaxes(a.reshape(turned), -1, -2)
            yield "transposed where it should be reshaped", lambda a: np.swapaxes(a, -1, -2).reshape(shape)


def column_against_row(view: View) -> Diagnosis | None:
    """(n, 1) against (n,): every entry of one meets every entry of the other."""
    if not view.owner or len(view.positions) < _FEWEST:
        return None
    count = len(view.positions)
    for group in view.groups.values():
        if len(group.symbols) != count or max(group.shape, default=0) != count:
            continue
        sums = {i: _over(view.reference[i], group.symbols[row], group) for row, i in enumerate(view.positions)}
        for mean, words in ((False, ""), (True, ", and averages")):
            certainty = view.explains(
                {i: graph.total(sums[i]) / graph.constant(count if mean else 1) for i in view.differing}
            )
            if certainty is not None:
                return Diagnosis(
                    Mistake.COLUMN,
                    certainty,
                    f"each {view.owner}[i] meets every {group.name}[k], where it should meet {group.name}[i]{words}",
                )
    return None


def _over(reference: Expr, own: Expr, group: Group) -> list[Expr]:
    return [graph.substitute([reference], {own: other})[0] for other in group.symbols]


def broadcast(view: View) -> Diagnosis | None:
    """The gradient of what was broadcast is the sum over where it went: here it is another sum."""
    shape, target = _shapes(view)
    if shape is None or shape == target or not _spreads(shape, target) or not view.linear:
        return None
    columns = list(zip(*(view.jacobian[i] for i in view.positions), strict=True))
    slopes = {i: view.slopes.get(i, view.jacobian[i]) for i in view.positions}
    if any(sum(cell is not ZERO for cell in column) != 1 for column in columns):
        return None
    left: list[Expr] = []
    right: list[Expr] = []
    counted: set[str] = set()
    for row, i in enumerate(view.positions):
        for k, column in enumerate(columns):
            ours = slopes[i][k]
            own = column[row] is not ZERO
            if ours is ZERO:
                counted |= {"fewer"} if own else set()
                continue
            counted |= set() if own else {"more"}
            left.append(ours)
            right.append(next(cell for cell in column if cell is not ZERO))
    certainty = view.same(left, right) if counted else None
    if certainty is None:
        return None
    what = " and ".join(sorted(counted))
    return Diagnosis(
        Mistake.BROADCAST,
        certainty,
        f"{view.owner} is broadcast, and its gradient adds up {what} terms than there are entries that it went to",
    )


def _shapes(view: View) -> tuple[tuple[int, ...] | None, tuple[int, ...]]:
    """The shapes of the argument that is looked at and of the one output."""
    names = view.trace.seed_names
    if not view.owner or len(names) != 1 or "over" in view.mode or names[0] not in view.groups:
        return None, ()
    return view.shape_of(view.owner), view.groups[names[0]].shape


def _spreads(shape: Sequence[int], target: Sequence[int]) -> bool:
    try:
        return np.broadcast_shapes(tuple(shape), tuple(target)) == tuple(target)
    except ValueError:
        return False


def axis(view: View) -> Diagnosis | None:
    """A sum over one axis, where the derivative sums over another."""
    shape, target = _shapes(view)
    if shape is None or shape != target or len(shape) < 2 or not view.linear:
        return None
    ours = [_axes(view.slopes[i], view.entry(i).index, shape) for i in view.differing]
    theirs = [_axes(view.jacobian[i], view.entry(i).index, shape) for i in view.differing]
    if len({*map(tuple, ours)}) != 1 or len({*map(tuple, theirs)}) != 1:
        return None
    if len(ours[0]) != 1 or len(theirs[0]) != 1 or ours[0] == theirs[0]:
        return None
    return Diagnosis(
        Mistake.AXIS,
        Certainty.CERTAIN,
        f"the executed formula adds up {view.trace.seed_names[0]} over axis {ours[0][0]}, "
        f"the derivative over axis {theirs[0][0]}",
    )


def _axes(slopes: Sequence[Expr], index: tuple[int, ...], shape: tuple[int, ...]) -> list[int]:
    """Along which axes the cotangents that count lie, seen from an entry."""
    found = set()
    for k, slope in zip(np.ndindex(shape), slopes, strict=True):
        if slope is not ZERO:
            found |= {axis for axis, (a, b) in enumerate(zip(k, index, strict=True)) if a != b}
    return sorted(found)
