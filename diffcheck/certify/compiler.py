"""A graph as a function over balls: read node by node at first, and a Python function once it is run often.

To compile one costs as much as reading it some forty times, and most are evaluated at one input or two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from types import CodeType
from typing import Any, Final, TypeAlias

from flint import arb, ctx, fmpq

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import Expr
from diffcheck.algebra.functions import FUNCTIONS
from diffcheck.certify.balls import EXACT, Arithmetic, Selections, scope_of

_OFTEN: Final = 8
"""What is run more often is compiled."""
_LONGEST_INLINE: Final = 240
"""Single-use subterms are written into the expression that uses them up to this many characters."""


@dataclass(frozen=True, slots=True)
class _Accuracy:
    """The factor by which a kernel that is so many ulps off may miss: a ball around 1, at any precision."""

    ulps: int


_Run: TypeAlias = Callable[[Sequence[arb], Sequence[arb], Selections], list[arb]]
"""From inputs, constants and selections to outputs."""
_Form: TypeAlias = tuple[_Run, Sequence[Expr | _Accuracy]]
"""A way to run a graph, and the constants that it is given."""


class Program:
    """A graph that evaluates its outputs at balls.

    Args:
        outputs: The formulas.
        inputs: Names of the variables, in the order in which their values will be given.
        arithmetic: How rounding is treated.
    """

    def __init__(self, outputs: Sequence[Expr], inputs: Sequence[str], arithmetic: Arithmetic = EXACT) -> None:
        outputs = marks.as_values(outputs) if arithmetic is EXACT else marks.as_computed(outputs)
        self.inputs = tuple(inputs)
        self.size = len(outputs)
        self._arithmetic = arithmetic
        self._texts = _Texts(outputs, self.inputs, rounding=arithmetic is not EXACT, ranged=bool(arithmetic.largest))
        self.selectors = self._texts.selectors
        """By the index under which `Selections` knows them."""
        self._runs = 0
        self._form: _Form | None = None
        self._constants_at: dict[int, tuple[arb, ...]] = {}

    def __call__(self, values: Sequence[arb], precision: int, selections: Selections) -> list[arb]:
        """The outputs at the values of the inputs, in the order of `inputs`, with so many bits."""
        ctx.prec = precision
        self._runs += 1
        if self._form is None or self._runs == _OFTEN:
            self._form = (self._texts.read if self._runs < _OFTEN else self._texts.compiled)(self._arithmetic)
            self._constants_at = {}
        run, wanted = self._form
        constants = self._constants_at.get(precision)
        if constants is None:
            constants = self._constants_at[precision] = tuple(map(_constant, wanted))
        return run(values, constants, selections)

    def within(self, arithmetic: Arithmetic) -> Program:
        """The same `careful` program for another format."""
        if arithmetic == self._arithmetic:
            return self
        other = copy(self)
        other.__dict__.update(_arithmetic=arithmetic, _form=None, _constants_at={})
        return other


def _constant(node: Expr | _Accuracy) -> arb:
    if isinstance(node, _Accuracy):
        return arb(1, node.ulps * 2.0 ** (1 - int(ctx.prec)))
    value = node.payload
    if node.head == "pi":
        return arb.pi()
    if isinstance(value, Fraction):
        return arb(fmpq(value.numerator, value.denominator))
    assert isinstance(value, float)
    return arb(value)


class _Texts:
    """A graph, and its operations as text: what all ways to run it share, for every format.

    Args:
        outputs: The formulas.
        inputs: The names of the variables.
        rounding: Whether operations are as wide as their rounding.
        ranged: Whether underflow and overflow are, too.
    """

    def __init__(self, outputs: Sequence[Expr], inputs: Sequence[str], *, rounding: bool, ranged: bool) -> None:
        self._outputs = outputs
        self._nodes = graph.topological(outputs)
        self._positions = {name: i for i, name in enumerate(inputs)}
        self._rounding = rounding
        self._ranged = ranged
        self.selectors = tuple(node for node in self._nodes if node.head in graph.SELECTORS)

    def of(self, node: Expr) -> str:
        """An operation, with `{0}`, `{1}` for its operands, and `{ulps}` for the factor by which it may miss."""
        text = self._plain(node)
        if self._ulps(node):
            text = f"({text}*{{ulps}})"
        if self._ranged and node.head not in ("not", "where", "frozen"):
            text = f"ranged({text})"
        return text

    def _plain(self, node: Expr) -> str:
        match node.head:
            case "add" if len(node.args) > 2:
                return "any_order({all})" if self._rounding else "total({all})"
            case "add":
                return "({0}+{1})"
            case "mul":
                return "({0}*{1})"
            case "neg":
                return "(-{0})"
            case "div":
                return "({0}/{1})"
            case "pow":
                return "power({0}, {1})"
            case "not":
                return "(one-{0})"
            case "where":
                return "pick({0}, {1}, {2})"
            case "frozen":
                return "{0}"
            case "rounded":
                return f"rounded({{0}}, {node.payload})" if self._rounding else "{0}"
            case name:
                return FUNCTIONS[name].ball

    def _ulps(self, node: Expr) -> int:
        head = FUNCTIONS.get(node.head) if self._rounding else None
        if head is None:
            return 0
        return max(head.ulps, head.measured_ulps) if self._ranged else head.ulps

    # -- read ------------------------------------------------------------------------------------------------------

    def read(self, arithmetic: Arithmetic) -> _Form:
        """As steps, each of which puts a ball at the end of a table: inputs, constants, and what the steps give."""
        slots, constants = self._given()
        first = len(self._positions) + len(constants)
        steps: list[tuple[Callable[..., arb] | None, int, int, Any]] = []
        """What is done, with which one or two, or with which ones; nothing with a selector, which `Selections` know."""
        functions: dict[tuple[object, ...], tuple[Callable[..., arb], int]] = {}
        selectors = 0
        for node in self._nodes:
            if node in slots:
                continue
            operands = [slots[a] for a in node.args]
            if node.head == "frozen":
                slots[node] = operands[0]
                continue
            slots[node] = first + len(steps)
            if node.head in graph.SELECTORS:
                steps.append((None, operands[0], selectors, node.head))
                selectors += 1
                continue
            kind = (node.head, len(operands), node.payload)
            found = functions.get(kind)
            if found is None:
                function = _operation(self.of(node), 0 if len(node.args) > 3 else len(node.args), arithmetic)
                found = functions[kind] = (function, self._ulps(node))
            function, ulps = found
            if ulps:
                operands.append(slots[ulps])
            one, two = operands if len(operands) == 2 else (operands[0], -1)
            steps.append((function, one, two, operands if len(operands) > 2 else None))
        outputs = [slots[output] for output in self._outputs]

        def run(values: Sequence[arb], known: Sequence[arb], selections: Selections) -> list[arb]:
            table = [*values, *known]
            append = table.append
            for function, one, two, others in steps:
                if function is None:
                    append(getattr(selections, others)(two, table[one]))
                elif others is not None:
                    append(function(*[table[i] for i in others]))
                elif two < 0:
                    append(function(table[one]))
                else:
                    append(function(table[one], table[two]))
            return [table[i] for i in outputs]

        return run, constants

    def _given(self) -> tuple[dict[Expr | int, int], list[Expr | _Accuracy]]:
        """Where in the table a node's ball is, or the factor for so many ulps, before any step; and the constants."""
        slots: dict[Expr | int, int] = {}
        constants: list[Expr | _Accuracy] = []
        for node in self._nodes:
            if node.head == "symbol":
                slots[node] = self._positions[str(node.payload)]
            elif node.head in ("constant", "pi"):
                slots[node] = len(self._positions) + len(constants)
                constants.append(node)
            elif (ulps := self._ulps(node)) and ulps not in slots:
                slots[ulps] = len(self._positions) + len(constants)
                constants.append(_Accuracy(ulps))
        return slots, constants

    # -- compiled --------------------------------------------------------------------------------------------------

    def compiled(self, arithmetic: Arithmetic) -> _Form:
        """As a Python function."""
        source, constants = self._source
        scope = dict(scope_of(arithmetic))
        exec(_code(source), scope)  # noqa: S102 - written below, of numbers and names of our own
        return scope["program"], constants

    @cached_property
    def _source(self) -> tuple[str, list[Expr | _Accuracy]]:
        uses: dict[Expr, int] = dict.fromkeys(self._nodes, 0)
        for node in self._nodes:
            for argument in node.args:
                uses[argument] += 1
        for output in self._outputs:
            uses[output] += 1
        constants: list[Expr | _Accuracy] = []
        written: dict[Expr | int, str] = {}
        lines: list[str] = []
        selectors = 0

        def known(key: Expr | int, value: Expr | _Accuracy) -> str:
            if key not in written:
                written[key] = f"k{len(constants)}"
                constants.append(value)
            return written[key]

        def named(text: str) -> str:
            lines.append(f"t{len(lines)} = {text}")
            return f"t{len(lines) - 1}"

        for node in self._nodes:
            if node.head == "symbol":
                written[node] = f"x{self._positions[str(node.payload)]}"
                continue
            if node.head in ("constant", "pi"):
                known(node, node)
                continue
            operands = [written[a] for a in node.args]
            if node.head in graph.SELECTORS:
                text = f"s.{node.head}({selectors}, {operands[0]})"
                selectors += 1
            else:
                ulps = self._ulps(node)
                factor = known(ulps, _Accuracy(ulps)) if ulps else ""
                text = self.of(node).format(*operands, all=", ".join(operands), ulps=factor)
            written[node] = text if uses[node] == 1 and len(text) <= _LONGEST_INLINE else named(text)
        count = len(self._positions)
        unpacked = [f"    {', '.join(f'x{i}' for i in range(count))}, = v\n"] if count else []
        if constants:
            unpacked.append(f"    {', '.join(f'k{i}' for i in range(len(constants)))}, = k\n")
        body = "".join(f"    {line}\n" for line in lines)
        results = ", ".join(written[o] for o in self._outputs)
        return f"def program(v, k, s):\n{''.join(unpacked)}{body}    return [{results}]\n", constants


@lru_cache(maxsize=1024)
def _code(source: str) -> CodeType:
    # The same formula with other constants is the same program.
    return compile(source, "<diffcheck program>", "exec")


@lru_cache(maxsize=1024)
def _operation(text: str, count: int, arithmetic: Arithmetic) -> Callable[..., arb]:
    """One operation as a function of its operands, and of the factor by which it may miss if it may."""
    names = [f"a{i}" for i in range(count)] if count else ["*a"]
    written = text.format(*names, all=", ".join(names), ulps="ulps")
    parameters = ", ".join([*names, *(["ulps"] if "{ulps}" in text else [])])
    found: Callable[..., arb] = eval(f"lambda {parameters}: {written}", scope_of(arithmetic))  # noqa: S307 - as above
    return found
