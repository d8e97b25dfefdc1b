"""What was executed and what is right, side by side, ready to be compared: the questions that hypotheses ask."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from flint import arb

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import ONE, ZERO, Expr
from diffcheck.certify.balls import EXACT, Selections
from diffcheck.certify.compiler import Program
from diffcheck.derive import chain_rule
from diffcheck.derive.text import in_a_line
from diffcheck.modes import order, steps
from diffcheck.prove.identity import Known, Status, prove
from diffcheck.trace.tracer import Entry, Trace
from diffcheck.verdict import Certainty

_BITS: Final = 256
_SAMPLES: Final = 3
Bounds = Mapping[str, tuple[float, float]]
"""Of the entries of an argument."""


def selectors_in(nodes: Sequence[Expr]) -> frozenset[Expr]:
    """The conditions that formulas ask; whether something is 0 is asked at kinks only."""
    return frozenset(node for node in graph.postorder(nodes) if node.head == "positive")


@dataclass(frozen=True)
class Group:
    """The symbols of one tensor: an argument, a cotangent or a tangent."""

    name: str
    shape: tuple[int, ...]
    symbols: tuple[Expr, ...]
    """In row-major order."""


@dataclass(frozen=True)
class View:
    """The formulas of one trace at one input.

    Attributes:
        trace: What was executed and the reference.
        point: The values of the trace's variables at the input.
        bounds: Of the arguments, where samples are taken; what is not mentioned is unbounded.
        mode: In which PyTorch differentiated.
        owner: The argument (in forward mode, the output) whose entries are looked at; all of them if empty.
        large: Whether formulas are too large for proofs.
    """

    trace: Trace
    point: tuple[float, ...]
    bounds: Bounds
    mode: str = "reverse"
    owner: str = ""
    large: bool = False

    # -- the parts -------------------------------------------------------------------------------------------------

    @cached_property
    def executed(self) -> list[Expr]:
        """The executed formulas, as values."""
        return marks.as_values(self.trace.executed)

    @cached_property
    def reference(self) -> list[Expr]:
        """The references, as values."""
        return marks.as_values(self.trace.reference)

    @cached_property
    def outputs(self) -> list[Expr]:
        """The function, as values."""
        return marks.as_values(self.trace.outputs)

    @cached_property
    def variables(self) -> list[Expr]:
        """All variables: inputs, then cotangents and tangents."""
        return [graph.symbol(name) for name in self.trace.variables]

    @cached_property
    def inputs(self) -> list[Expr]:
        """The entries of the differentiated inputs."""
        return self.variables[: len(self.trace.inputs)]

    @cached_property
    def seeds(self) -> list[Expr]:
        """The entries of the cotangents and tangents."""
        return self.variables[len(self.trace.inputs) :]

    @cached_property
    def groups(self) -> dict[str, Group]:
        """The variables by the tensor that they belong to."""
        found: dict[str, list[tuple[tuple[int, ...], Expr]]] = {}
        for node in self.variables:
            name, _, rest = str(node.payload).partition("[")
            index = tuple(map(int, rest.rstrip("]").split(","))) if rest else ()
            found.setdefault(name, []).append((index, node))
        return {
            name: Group(name, tuple(1 + max(axis) for axis in zip(*(i for i, _ in cells), strict=True)),
                        tuple(node for _, node in cells))
            for name, cells in found.items()
        }  # fmt: skip

    def entries_of(self, owner: str) -> list[int]:
        """The positions of an owner's entries."""
        return [i for i, entry in enumerate(self.trace.entries) if entry.owner == owner]

    @cached_property
    def positions(self) -> list[int]:
        """The positions of the entries that are looked at."""
        return self.entries_of(self.owner) if self.owner else list(range(len(self.trace.entries)))

    def entry(self, position: int) -> Entry:
        """Whose, and at which index."""
        return self.trace.entries[position]

    def shape_of(self, owner: str) -> tuple[int, ...]:
        """The shape of an owner."""
        indices = [self.entry(i).index for i in self.entries_of(owner)]
        return tuple(1 + max(axis) for axis in zip(*indices, strict=True))

    @cached_property
    def differing(self) -> list[int]:
        """The entries that are looked at and whose executed formula is another one than the reference.

        As a function: what differs at kinks only does not count.
        """
        return [i for i in self.positions if self.differs_at(i)]

    def differs_at(self, position: int) -> bool:
        """Whether the executed formula of an entry is another one than the reference, as in `differing`."""
        if position not in self._differs:
            self._differs[position] = not self.same([self.executed[position]], [self.reference[position]])
        return self._differs[position]

    @cached_property
    def _differs(self) -> dict[int, bool]:
        return {}

    # -- slopes ----------------------------------------------------------------------------------------------------

    @cached_property
    def linear(self) -> bool:
        """Whether the executed formulas are linear in the cotangents or tangents, as derivatives are."""
        if not self.seeds:
            return True
        seeds = {str(node.payload) for node in self.seeds}
        slopes = [s for i in self.differing for s in self.slopes[i]]
        if graph.symbols(slopes) & seeds:
            return False
        silent = graph.substitute([self.executed[i] for i in self.differing], dict.fromkeys(self.seeds, ZERO))
        return self.same(silent, [ZERO] * len(silent)) is not None

    @cached_property
    def slopes(self) -> dict[int, list[Expr]]:
        """By differing entry: what the executed formula multiplies each cotangent (or tangent) with."""
        return {i: self._slopes_of(self.executed[i]) for i in self.differing}

    @cached_property
    def jacobian(self) -> list[list[Expr]]:
        """By entry: what the reference multiplies each cotangent (or tangent) with."""
        return [self._slopes_of(node) for node in self.reference]

    def _slopes_of(self, node: Expr) -> list[Expr]:
        return chain_rule.pull_back([node], [ONE], self.seeds) if self.seeds else [node]

    # -- derivatives of another function ---------------------------------------------------------------------------

    @cached_property
    def stages(self) -> list[list[Expr]]:
        """What is differentiated, stage by stage: the function and, in modes of higher order, its derivatives."""
        found = [self.outputs]
        for stage in range(order(self.mode) - 1):
            found.append(self._differentiated(found[-1], stage, stage + 1))
        return found

    def derivative(self, changed: Sequence[Expr], stage: int = 0) -> list[Expr]:
        """The reference, had a stage been another one; an expression per entry."""
        return self._differentiated(changed, stage, order(self.mode))

    def seeds_before(self, stage: int) -> list[Expr]:
        """The entries of the cotangents and tangents that a stage contains."""
        return [e for step in range(stage) for e in self.seeds_of(step)]

    def seeds_of(self, step: int) -> list[Expr]:
        """The entries of the cotangents and tangents of a differentiation; the innermost is 0."""
        return [e for seed in self.trace.seeds if seed.step == step for e in seed.symbols]

    def _differentiated(self, formulas: Sequence[Expr], start: int, end: int) -> list[Expr]:
        seeds = [self.seeds_of(step) for step in range(start, end)]
        if not self.trace.seeds:
            seeds = [[ONE] * len(formulas)]  # the textbook's gradient is that of the sum
        return chain_rule.nested(
            steps(self.mode)[start:end], formulas, [*self.inputs, *self.seeds_before(start)], seeds
        )

    # -- equality --------------------------------------------------------------------------------------------------

    @cached_property
    def samples(self) -> list[list[arb]]:
        """The input, and a few points in no relation to each other, within the bounds."""
        generator = random.Random(20)
        points = [[arb(value) for value in self.point]]
        points += [[arb(self._sample(n, generator)) for n in self.trace.variables] for _ in range(_SAMPLES)]
        return points

    def _sample(self, variable: str, generator: random.Random) -> float:
        lower, upper = self.bounds.get(variable.partition("[")[0], (-np.inf, np.inf))
        if lower > -2 or upper < 2:
            lower = max(lower, min(-2.0, upper - 4))
            upper = min(upper, max(2.0, lower + 4))
        else:
            lower, upper = -2.0, 2.0
        return lower + (upper - lower) * generator.uniform(0.05, 0.95)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.trace.variables)}

    def values(self, nodes: Sequence[Expr]) -> list[list[arb] | None]:
        """Enclosures of nodes at every sample; None at a kink of theirs."""
        used = sorted(map(self._places.__getitem__, graph.symbols(nodes)))
        program = Program(list(nodes), [self.trace.variables[i] for i in used], EXACT)
        found: list[list[arb] | None] = []
        for sample in self.samples:
            selections = Selections()
            balls = program([sample[i] for i in used], _BITS, selections)
            found.append(None if selections.boundary or selections.undecided else balls)
        return found

    def same(self, left: Sequence[Expr], right: Sequence[Expr]) -> Certainty | None:
        """Whether expressions are equal for all values of the variables: by algebra, or at the samples."""
        if all(a is b for a, b in zip(left, right, strict=True)):
            return Certainty.CERTAIN
        count = len(left)
        compared = False
        for balls in self.values([*left, *right]):
            if balls is None:
                continue
            for a, b in zip(balls[:count], balls[count:], strict=True):
                if not a.is_finite() or not b.is_finite():
                    continue
                if not a.overlaps(b):
                    return None
                compared = True
        if not self.large and prove(left, right, known=self._known).status is Status.PROVED:
            return Certainty.CERTAIN
        # Equal values without a proof: the normal form may miss a relation, or they part where no sample has been.
        return Certainty.LIKELY if compared and selectors_in(left) == selectors_in(right) else None

    @cached_property
    def _known(self) -> Known:
        return Known()

    def differ(self, left: Sequence[Expr], right: Sequence[Expr]) -> bool:
        """Whether expressions certainly have other values at some sample."""
        count = len(left)
        return any(
            a.is_finite() and b.is_finite() and not a.overlaps(b)
            for balls in self.values([*left, *right])
            if balls is not None
            for a, b in zip(balls[:count], balls[count:], strict=True)
        )

    def explains(self, candidates: Mapping[int, Expr]) -> Certainty | None:
        """Whether candidates, by position, are what was executed."""
        return self.same([self.executed[i] for i in candidates], list(candidates.values()))

    # -- words -----------------------------------------------------------------------------------------------------

    def place(self, position: int) -> str:
        """An entry as Python indexes it."""
        return self.entry(position).place

    @property
    def shapes(self) -> str:
        """The shapes of the differentiated inputs: `x [2, 3], w [3]`."""
        names = dict.fromkeys(str(node.payload).partition("[")[0] for node in self.inputs)
        return ", ".join(f"{name} {list(self.groups[name].shape)}" for name in names)

    def written(self, node: Expr) -> str:
        """A formula as people read it."""
        return in_a_line(node)
