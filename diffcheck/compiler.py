"""A graph as a straight-line Python function over balls, compiled once per trace and run at every input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, partial, reduce
from operator import mul
from types import CodeType
from typing import Any, Final

from flint import acb, arb, ctx, fmpq

from diffcheck import expr as graph
from diffcheck.expr import Expr
from diffcheck.heads import HEADS

_MOST_FACTORS: Final = 64
_LONGEST_INLINE: Final = 240
"""Single-use subterms are written into the expression that uses them up to this many characters."""

ZERO: Final = arb(0)
ONE: Final = arb(1)
EVERYTHING: Final = arb(0, float("inf"))
UNIT: Final = arb(0.5, 0.5)
"""The enclosure of a selector that could be either."""


class Selections:
    """How the selectors of one evaluation came out, and which of them were forced."""

    __slots__ = ("boundary", "forced", "undecided")

    def __init__(self, forced: dict[int, arb] | None = None) -> None:
        self.forced = forced or {}
        self.boundary: set[int] = set()
        """Selectors whose argument is exactly 0: the input is a kink of theirs."""
        self.undecided: set[int] = set()
        """Selectors whose argument's enclosure contains 0 and more."""

    def positive(self, index: int, argument: arb) -> arb:
        """[argument > 0]."""
        if argument > 0:
            return ONE
        if argument < 0:
            return ZERO
        return self._at_boundary(index, argument, ZERO)

    def vanishes(self, index: int, argument: arb) -> arb:
        """[argument = 0]."""
        if argument > 0 or argument < 0:
            return ZERO
        return self._at_boundary(index, argument, ONE)

    def _at_boundary(self, index: int, argument: arb, at_zero: arb) -> arb:
        exact = argument.is_zero()
        (self.boundary if exact else self.undecided).add(index)
        forced = self.forced.get(index)
        if forced is not None:
            return forced
        return at_zero if exact else UNIT


def pick(selector: arb, a: arb, b: arb) -> arb:
    """The branch that the selector names; both of them, if it could be either."""
    if selector == 1:
        return a
    if selector == 0:
        return b
    return a.union(b)


def power(base: arb, exponent: arb) -> arb:
    """A power, also where FLINT 3.6 has none.

    It crashes if neither middle nor radius of the base is finite: nothing is known of such a one. For a ball around 0
    itself, a difference of equal numbers, it gives NaN for every exponent: a whole one is multiplied out.
    """
    if not base.is_finite() and not base.is_exact() and not base.mid().is_finite():
        base = EVERYTHING
    found = base**exponent
    if found.is_finite() or not base.is_finite():
        return found
    whole = exponent.unique_fmpz() if exponent.is_integer() else None
    if whole is None or not 0 < whole <= _MOST_FACTORS:
        return found
    return reduce(mul, [base] * int(whole))


def polygamma(order: arb, x: arb) -> arb:
    """ψ⁽ⁿ⁾(x) = (-1)ⁿ⁺¹ n! ζ(n + 1, x) for n ≥ 1 (DLMF 25.11.12), and the digamma function for n = 0."""
    if order == 0:
        return x.digamma()
    whole = order.unique_fmpz()
    assert whole is not None
    sign = ONE if int(whole) % 2 else -ONE
    # On the real line alone, FLINT knows it right of 0 only.
    zeta = acb(order + 1).zeta(acb(x)).real if x < 0 else (order + 1).zeta(x)
    return sign * (order + 1).gamma() * zeta


def log_gamma(x: arb) -> arb:
    """log |Γ(x)|: left of 0, where Γ may be negative, the real part of the complex logarithm."""
    return acb(x).lgamma().real if x < 0 else x.lgamma()


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How the compiled code treats rounding.

    `exact`: plain balls. `bounded`: balls as wide as the rounding of PyTorch's kernels, whatever the order in which
    they sum. `careful`: the same, with underflow and overflow of a format whose smallest normal and largest numbers are
    given.
    """

    name: str
    smallest_normal: float = 0.0
    smallest: float = 0.0
    largest: float = 0.0


EXACT: Final = Arithmetic("exact")
BOUNDED: Final = Arithmetic("bounded")


def _sum_in_any_order(*terms: arb, largest: float | None = None) -> arb:
    """The sum, with the rounding error of summing at the current precision in an order that is not known.

    Any order of n - 1 additions is within (n - 1)·u·Σ|xᵢ| to first order (Higham, Accuracy and Stability of Numerical
    Algorithms, 4.2); the term ball's own radii cover the rest. In a format with a largest number, a part of the sum may
    be beyond it in some order.
    """
    total = terms[0]
    size = abs(terms[0])
    for term in terms[1:]:
        total += term
        size += abs(term)
    rounded = total + arb(0, (size * (len(terms) - 1)).abs_upper() * 2.0 ** -int(ctx.prec))
    return rounded if largest is None or size <= largest else rounded + arb(0, float("inf"))


@dataclass(frozen=True, slots=True)
class _Accuracy:
    """The factor by which a kernel that is so many ulps off may miss: a ball around 1, at any precision."""

    ulps: int


RANGES: Final = {24: (2.0**-149, 2.0**128), 11: (2.0**-24, 65520.0), 8: (2.0**-133, 2.0**128)}
"""The smallest subnormal number of a format of so many bits, and what rounds to an infinity."""


def _rounded(x: arb, bits: int) -> arb:
    smallest, overflow = RANGES.get(bits, (0.0, float("inf")))
    size = abs(x).abs_upper()
    if size == 0:
        return x
    return x + arb(0, size * 2.0**-bits + smallest if size < overflow else float("inf"))


def _ranged(arithmetic: Arithmetic) -> Callable[[arb], arb]:
    """Underflow loses up to the smallest subnormal, overflow everything."""
    lost, largest, tiny = arb(0, arithmetic.smallest), arb(arithmetic.largest), arb(arithmetic.smallest_normal)

    def within_range(x: arb) -> arb:
        size = abs(x)
        if size < tiny:
            return x if x.is_zero() else x + lost
        return x if size <= largest else x + arb(0, float("inf"))

    return within_range


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled graph: evaluates its outputs at balls."""

    inputs: tuple[str, ...]
    selectors: tuple[Expr, ...]
    """The selectors, by the index under which `Selections` knows them."""
    constants: tuple[Expr | _Accuracy, ...]
    size: int
    """How many outputs there are."""
    _code: CodeType
    _run: Callable[[Sequence[arb], Sequence[arb], Selections], list[arb]]
    _constants_at: dict[int, tuple[arb, ...]]

    def __call__(self, values: Sequence[arb], precision: int, selections: Selections) -> list[arb]:
        """The outputs at the values of the inputs, in the order of `inputs`, with so many bits."""
        ctx.prec = precision
        constants = self._constants_at.get(precision)
        if constants is None:
            constants = self._constants_at[precision] = tuple(map(_constant, self.constants))
        return self._run(values, constants, selections)

    def within(self, arithmetic: Arithmetic) -> Program:
        """The same `careful` program for another format."""
        return replace(self, _run=_function(self._code, arithmetic))


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


def compile_graph(outputs: Sequence[Expr], inputs: Sequence[str], arithmetic: Arithmetic = EXACT) -> Program:
    """Compiles the outputs as a function of the named variables."""
    outputs = graph.as_values(outputs) if arithmetic is EXACT else graph.as_computed(outputs)
    writer = _Writer(outputs, inputs, arithmetic)
    code = _code(writer.source)
    run = _function(code, arithmetic)
    return Program(tuple(inputs), tuple(writer.selectors), tuple(writer.constants), len(outputs), code, run, {})


def _function(code: CodeType, arithmetic: Arithmetic) -> Any:
    scope: dict[str, Any] = {
        "pick": pick, "polygamma": polygamma, "log_gamma": log_gamma, "power": power, "atan2": arb.atan2,
        "any_order": _sum_in_any_order, "rounded": _rounded, "one": ONE,
    }  # fmt: skip
    if arithmetic.largest:
        scope["ranged"] = _ranged(arithmetic)
        scope["any_order"] = partial(_sum_in_any_order, largest=arithmetic.largest)
    exec(code, scope)  # noqa: S102 - the writer made it, of numbers and names of its own
    return scope["program"]


@lru_cache(maxsize=1024)
def _code(source: str) -> CodeType:
    # The same formula with other constants is the same program.
    return compile(source, "<diffcheck program>", "exec")


class _Writer:
    """Writes the source of one program."""

    def __init__(self, outputs: Sequence[Expr], inputs: Sequence[str], arithmetic: Arithmetic) -> None:
        self.selectors: list[Expr] = []
        self.constants: list[Expr | _Accuracy] = []
        self._factors: dict[int, str] = {}
        self._arithmetic = arithmetic
        self._text: dict[Expr, str] = {}
        self._lines: list[str] = []
        nodes = graph.topological(outputs)
        positions = {name: i for i, name in enumerate(inputs)}
        self._uses: dict[Expr, int] = dict.fromkeys(nodes, 0)
        for node in nodes:
            for argument in node.args:
                self._uses[argument] += 1
        for output in outputs:
            self._uses[output] += 1
        needed = [node for node in nodes if node.head == "symbol"]
        for node in needed:
            self._text[node] = f"x{positions[str(node.payload)]}"
        for node in nodes:
            if node.head != "symbol":
                self._write(node)
        self.source = self._assemble(outputs, len(inputs))

    def _assemble(self, outputs: Sequence[Expr], count: int) -> str:
        unpacked = [f"    {', '.join(f'x{i}' for i in range(count))}, = v\n"] if count else []
        if self.constants:
            unpacked.append(f"    {', '.join(f'k{i}' for i in range(len(self.constants)))}, = k\n")
        body = "".join(f"    {line}\n" for line in self._lines)
        results = ", ".join(self._text[o] for o in outputs)
        return f"def program(v, k, s):\n{''.join(unpacked)}{body}    return [{results}]\n"

    def _write(self, node: Expr) -> None:
        if node.head in ("constant", "pi"):
            self._text[node] = f"k{len(self.constants)}"
            self.constants.append(node)
            return
        text = self._operation(node, [self._text[a] for a in node.args])
        if self._arithmetic.largest and node.head not in graph.SELECTORS | {"not", "where", "frozen"}:
            text = f"ranged({text})"
        if self._uses[node] == 1 and len(text) <= _LONGEST_INLINE:
            self._text[node] = text
            return
        name = f"t{len(self._lines)}"
        self._lines.append(f"{name} = {text}")
        self._text[node] = name

    def _operation(self, node: Expr, args: list[str]) -> str:
        rounding = self._arithmetic is not EXACT
        match node.head:
            case "add" if rounding and len(args) > 2:
                return f"any_order({', '.join(args)})"
            case "add":
                return self._long_sum(args)
            case "mul":
                return f"({args[0]}*{args[1]})"
            case "neg":
                return f"(-{args[0]})"
            case "div":
                return f"({args[0]}/{args[1]})"
            case "pow":
                return f"power({args[0]}, {args[1]})"
            case "positive" | "vanishes" as asked:
                self.selectors.append(node)
                return f"s.{asked}({len(self.selectors) - 1}, {args[0]})"
            case "not":
                return f"(one-{args[0]})"
            case "where":
                return f"pick({args[0]}, {args[1]}, {args[2]})"
            case "frozen":
                return args[0]
            case "rounded":
                return f"rounded({args[0]}, {node.payload})" if rounding else args[0]
            case name:
                head = HEADS[name]
                text = head.ball.format(*args)
                ulps = max(head.ulps, head.measured_ulps) if self._arithmetic.largest else head.ulps
                return f"({text}*{self._accuracy(ulps)})" if rounding and ulps else text

    def _accuracy(self, ulps: int) -> str:
        if ulps not in self._factors:
            self._factors[ulps] = f"k{len(self.constants)}"
            self.constants.append(_Accuracy(ulps))
        return self._factors[ulps]

    def _long_sum(self, args: list[str]) -> str:
        # Nested to the left, one expression of a thousand terms would be a thousand levels deep for Python's compiler.
        while len(args) > 50:
            name = f"t{len(self._lines)}"
            self._lines.append(f"{name} = {'+'.join(args[:50])}")
            args = [name, *args[50:]]
        return f"({'+'.join(args)})"
