"""Enclosures of the formulas of a trace: of its reference and of what was executed, exactly and as wide as rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

from flint import arb

from diffcheck.algebra import marks
from diffcheck.algebra.expr import Expr, symbols
from diffcheck.certify.balls import BOUNDED, EXACT, ONE, ZERO, Selections
from diffcheck.certify.cells import forced_by
from diffcheck.certify.compiler import Program
from diffcheck.certify.extended import ExtendedValues, extended_values
from diffcheck.certify.floats import Floats
from diffcheck.certify.formats import Format
from diffcheck.certify.running_error import RunningError, running_error
from diffcheck.certify.table import Table, levelled

EXECUTED_BITS: Final = 512
"""The precision at which the executed formula is told from the reference."""
MOST_BITS: Final = 4096
"""The highest precision at which anything is looked at: 1 - sigmoid(512) is 0 to 700 bits."""
IN_CELL_BITS: Final = 256
"""The precision of a cell's derivative."""


class Reference:
    """A reference as the programs that are wanted of it, each made when it is first wanted.

    Args:
        expressions: One per number to be compared. Programs are of the distinct ones.
        variables: Names of the variables, in the order in which values will be given.
    """

    def __init__(self, expressions: Sequence[Expr], variables: Sequence[str]) -> None:
        self._distinct = list(dict.fromkeys(expressions))
        position = {node: i for i, node in enumerate(self._distinct)}
        self.slots = [position[node] for node in expressions]
        """By number, which of the distinct expressions it is compared with."""
        self.all_distinct = len(self._distinct) == len(expressions)
        used = symbols(self._distinct)
        self._used = [i for i, name in enumerate(variables) if name in used]
        """The variables that occur in it, by position: a program is given the values of these only."""
        self._inputs = [variables[i] for i in self._used]
        self._uses_all = len(self._used) == len(variables)

    @cached_property
    def _exact(self) -> Program:
        return Program(self._distinct, self._inputs, EXACT)

    @property
    def is_prepared(self) -> bool:
        """Whether balls have been asked for already: the first time costs as much as several evaluations."""
        return "_exact" in self.__dict__

    @cached_property
    def _bounded(self) -> Program:
        return Program(self._distinct, self._inputs, BOUNDED)

    @cached_property
    def _values(self) -> list[Expr]:
        return marks.as_values(self._distinct)

    @cached_property
    def _table(self) -> Table:
        return levelled(self._values, self._inputs)

    @cached_property
    def running(self) -> RunningError | None:
        """The widths of balls as wide as rounding for many inputs at once, if NumPy knows all functions that occur."""
        computed = marks.as_computed(self._distinct)
        return running_error(self._table if computed == self._values else levelled(computed, self._inputs))

    @cached_property
    def extended(self) -> ExtendedValues | None:
        """The values for many inputs at once, with bounds as sharp as balls of 64 bits."""
        return extended_values(self._table)

    def used(self, values: Sequence[float]) -> Sequence[float]:
        """The values of the variables that occur."""
        return values if self._uses_all else [values[i] for i in self._used]

    def used_columns(self, points: Floats) -> Floats:
        """The same for many inputs, [inputs, variables]."""
        return points if self._uses_all else points[:, self._used]

    def exact(self, values: Sequence[float], precision: int, selections: Selections) -> list[arb]:
        """The distinct expressions as balls."""
        return self._exact(list(map(arb, self.used(values))), precision, selections)

    def bounded(self, values: Sequence[float], fmt: Format, selections: Selections) -> list[arb]:
        """The same as wide as a format's rounding."""
        return self._bounded(list(map(arb, self.used(values))), fmt.bits, selections)

    def in_cell(
        self, values: Sequence[float], selected: Mapping[Expr, arb], precision: int = IN_CELL_BITS
    ) -> list[arb]:
        """The distinct expressions with their selectors, where these are at their boundaries, as they are in a cell."""
        return self.exact(values, precision, Selections(forced_by(self._exact, selected)))

    def bounded_in_cell(self, values: Sequence[float], fmt: Format, selected: Mapping[Expr, arb]) -> list[arb]:
        """The same as wide as a format's rounding."""
        return self.bounded(values, fmt, Selections(forced_by(self._bounded, selected)))


class Executed:
    """The formulas that were executed, per number, in the same way.

    Args:
        expressions: The formulas.
        variables: Names of the variables, in the order in which values will be given.
    """

    def __init__(self, expressions: Sequence[Expr], variables: Sequence[str]) -> None:
        self._expressions = tuple(expressions)
        self._variables = tuple(variables)
        self._rounded: dict[Format, Program] = {}

    @cached_property
    def _exact(self) -> Program:
        return Program(self._expressions, self._variables, EXACT)

    def exact(self, values: Sequence[float], precision: int = EXECUTED_BITS) -> list[arb]:
        """The executed formulas, whatever their rounding."""
        return self._exact(list(map(arb, values)), precision, Selections())

    def at_boundaries(self, values: Sequence[float], precision: int) -> list[arb]:
        """The same, where a selector that is not told from one on its boundary is taken to be there.

        How many elements are the maximum is divided by, and x - x is no ball of one number for an irrational x.
        """
        numbers = list(map(arb, values))
        open_ones = Selections()
        self._exact(numbers, precision, open_ones)
        selectors = self._exact.selectors
        forced = {i: ONE if selectors[i].head == "vanishes" else ZERO for i in open_ones.undecided}
        return self._exact(numbers, precision, Selections(forced))

    def rounded(self, values: Sequence[float], fmt: Format) -> list[arb]:
        """The executed formulas with their rounding, underflow and overflow included."""
        if fmt not in self._rounded:
            self._rounded[fmt] = Program(self._expressions, self._variables, fmt.careful)
        return self._rounded[fmt](list(map(arb, values)), fmt.bits, Selections())

    def program(self, position: int) -> Program:
        """One of the formulas, alone."""
        return Program([self._expressions[position]], self._variables, EXACT)
