"""Cotangents and tangents with symbols beside them, as a traced run asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from torch import Tensor

from diffcheck.algebra.expr import Expr
from diffcheck.declare.case import Case
from diffcheck.differentiate.autodiff import SeedsFor
from diffcheck.draw.inputs import copied
from diffcheck.errors import CaseFailure
from diffcheck.modes import VALUE, steps
from diffcheck.rules.complexes import parts_of
from diffcheck.rules.registry import Array
from diffcheck.trace.shadow import Shadows
from diffcheck.trace.storages import symbols_of
from diffcheck.verdict import Mistake


@dataclass(frozen=True, slots=True)
class Seed:
    """A cotangent or a tangent, with symbols for its entries."""

    name: str
    """`dy`, `dx`; in the second differentiation `vx`, `vdy`, in the third `wx`."""
    step: int
    """Which differentiation it is for; the innermost is 0."""
    symbols: tuple[Expr, ...]
    """Where memory is shared (an expanded cotangent), one symbol stands for all entries."""


class Seeding:
    """Cotangents and tangents with symbols beside them, and the shadows of the outputs before the backward pass."""

    def __init__(self, mode: str, inputs: Sequence[str], shadows: Shadows, seeds_for: SeedsFor) -> None:
        self._shadows = shadows
        self._seeds_for = seeds_for
        self._inputs = inputs
        self._steps = steps(mode)
        self._backwards = [i for i, how in enumerate(self._steps) if how not in ("forward", VALUE)]
        self.seeds: list[Seed] = []
        """In the order in which they were asked for."""
        self.variables: list[Expr] = []
        """Their entries, one for each."""
        self.outputs: list[Array] = []
        self._given: list[tuple[str, Tensor, Array]] = []
        self._repeated = 0

    @property
    def for_each(self) -> list[SeedsFor]:
        """What gives the cotangents or tangents of each differentiation."""
        return [partial(self._asked, step) for step in range(len(self._steps))]

    def symbols(self, step: int) -> list[Expr]:
        """The entries of the cotangents or tangents of a differentiation."""
        return [e for seed in self.seeds if seed.step == step for e in seed.symbols]

    def owners(self, steps: int, outputs: int) -> list[str]:
        """Whose derivatives so many differentiations give: in forward mode those of what was found before."""
        backwards = [i for i in self._backwards if i < steps]
        return self._moving(backwards[-1]) if backwards else output_names(outputs)

    def like(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """What each derivative is one of, and so has the form of."""
        if not self._backwards:
            return outputs
        known = dict(zip(self._inputs, inputs, strict=True)) | {name: tensor for name, tensor, _ in self._given}
        return [known[name] for name in self.owners(len(self._steps), len(outputs))]

    @property
    def given(self) -> list[tuple[Tensor, Array]]:
        """The cotangents and tangents, each with its symbols."""
        return [(tensor, cells) for _, tensor, cells in self._given]

    def again(self, like: Sequence[Tensor]) -> Sequence[Tensor]:
        """The same cotangents and tangents once more, in the order in which they were asked for."""
        start = self._repeated
        self._repeated = (start + len(like)) % len(self._given)
        return [copied(tensor.detach()) for _, tensor, _ in self._given[start : start + len(like)]]

    def check_unchanged(self, case: Case) -> None:
        """What is handed to a backward pass belongs to others: it may not write to it."""
        for name, tensor, cells in self._given:
            if differ(self._shadows.read(tensor), cells):
                raise CaseFailure(
                    f"{Mistake.MODIFIED}: the backward pass of case {case.name!r} changes what it is given ({name}) in "
                    "place; write grad.clone() first"
                )

    def _asked(self, step: int, like: Sequence[Tensor]) -> Sequence[Tensor]:
        """Cotangents for what was found before a differentiation, or tangents for what moves in it."""
        if self._backwards[:1] == [step]:  # nothing but the function has run yet
            self.outputs.extend(self._shadows.read(y) for y in like)
            self._shadows.begin_backward()
        whose = self.owners(step, len(like)) if step in self._backwards else self._moving(step)
        asked = sum(seed.step == step for seed in self.seeds)
        return self._seeded(step, whose[asked : asked + len(like)], like)

    def _moving(self, step: int) -> list[str]:
        """With respect to what a differentiation can be: the inputs, and what those inside of it were done with."""
        inside = sorted((seed.step, i) for i, seed in enumerate(self.seeds) if seed.step < step)
        return [*self._inputs, *(self.seeds[i].name for _, i in inside)]

    def _seeded(self, step: int, whose: Sequence[str], like: Sequence[Tensor]) -> Sequence[Tensor]:
        with self._shadows.suspended():  # making them is no part of the run
            tensors = [copied(t.detach()) for t in self._seeds_for(like)]
        for owner, tensor in zip(whose, tensors, strict=True):
            name = _unused(_PREFIXES[step] + owner, [*self._inputs, *(seed.name for seed in self.seeds)])
            cells = symbols_of(name, tensor)
            self.variables.extend(parts_of(cells))
            self._shadows.attach(tensor, cells)
            # Read back: where memory is shared (an expanded cotangent), one symbol stands for all elements.
            cells = self._shadows.read(tensor).copy()
            self.seeds.append(Seed(name, step, tuple(parts_of(cells))))
            self._given.append((name, tensor, cells))
        return tensors


_PREFIXES: Final = ("d", "v", "w")
"""What cotangents and tangents are called by, before the name of what they are for."""


def output_names(count: int) -> list[str]:
    """What the outputs are called: `y`, or `y0`, `y1`, …"""
    return ["y"] if count == 1 else [f"y{i}" for i in range(count)]


def _unused(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name


def differ(ours: Array, theirs: Array) -> bool:
    """Whether two arrays hold other expressions."""
    pairs = zip(parts_of(ours), parts_of(theirs), strict=True)
    return any(a is not b for a, b in pairs)
