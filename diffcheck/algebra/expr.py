"""Expressions as a shared graph: what a shadow holds for one element of a storage.

A node stands for one SymPy expression and keeps what SymPy's canonical form would lose: the operations in the order in
which they were executed (so that the rounding of what ran can be bounded) and the sharing of subterms (so that a
derivative stays linear in the size of the program). `derive.symbolic` turns a node into SymPy's form and back.

Nodes are interned: the same operation on the same arguments is the same object, and `is` is structural equality.
Constructors fold exact constants and drop neutral elements; they never cancel, collect or reorder.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Container, Iterable, Sequence
from fractions import Fraction
from itertools import count
from math import isinf, isnan
from typing import Final, TypeAlias

from diffcheck.algebra.functions import FUNCTIONS

Payload: TypeAlias = Fraction | float | str | int | None
ExprLike: TypeAlias = "Expr | int | Fraction | float"

_serial = count()


class Expr:
    """One node: a head, its arguments, and a payload (a constant's value, a symbol's name, a precision)."""

    __slots__ = ("__weakref__", "args", "head", "payload", "plain", "serial")

    head: str
    args: tuple[Expr, ...]
    payload: Payload
    serial: int
    plain: bool
    """Whether no `computed_as` is in it."""

    def __add__(self, other: ExprLike) -> Expr:
        return add(self, lift(other))

    def __radd__(self, other: ExprLike) -> Expr:
        return add(lift(other), self)

    def __sub__(self, other: ExprLike) -> Expr:
        return add(self, negate(lift(other)))

    def __rsub__(self, other: ExprLike) -> Expr:
        return add(lift(other), negate(self))

    def __mul__(self, other: ExprLike) -> Expr:
        return multiply(self, lift(other))

    def __rmul__(self, other: ExprLike) -> Expr:
        return multiply(lift(other), self)

    def __truediv__(self, other: ExprLike) -> Expr:
        return divide(self, lift(other))

    def __rtruediv__(self, other: ExprLike) -> Expr:
        return divide(lift(other), self)

    def __pow__(self, other: ExprLike) -> Expr:
        return power(self, lift(other))

    def __rpow__(self, other: ExprLike) -> Expr:
        return power(lift(other), self)

    def __neg__(self) -> Expr:
        return negate(self)

    def __repr__(self) -> str:
        if self.head in ("constant", "symbol"):
            return str(self.payload)
        payload = "" if self.payload is None else f"[{self.payload}]"
        return f"{self.head}{payload}({', '.join(map(repr, self.args))})"


class _Interned(weakref.ref[Expr]):
    """What the table of nodes holds: a node is forgotten when nobody uses it."""

    __slots__ = ("key",)

    key: tuple[object, ...]


_interned: dict[tuple[object, ...], _Interned] = {}
"""A `WeakValueDictionary` does the same, in three calls of Python's for every node."""


def _forget(interned: _Interned) -> None:
    if _interned.get(interned.key) is interned:
        del _interned[interned.key]


def _intern(head: str, args: tuple[Expr, ...] = (), payload: Payload = None) -> Expr:
    # The payload's type is part of the key: 1 == 1.0 == Fraction(1), yet they are not the same payload.
    key = (head, args) if payload is None else (head, args, payload.__class__, payload)
    interned = _interned.get(key)
    node = None if interned is None else interned()
    if node is None:
        node = Expr.__new__(Expr)
        node.head = head
        node.args = args
        node.payload = payload
        node.serial = next(_serial)
        node.plain = head != "computed_as"
        for argument in args:
            if not argument.plain:
                node.plain = False
                break
        interned = _interned[key] = _Interned(node, _forget)
        interned.key = key
    return node


def constant(value: Fraction | float) -> Expr:
    """An exact constant. A finite float is the binary fraction that it is; infinities and NaN stay floats."""
    if isinstance(value, Fraction):
        return _intern("constant", (), value)
    if isnan(value):  # one NaN: it is unequal to itself and would never be found again
        return _intern("constant", (), _NAN)
    key = (value.__class__, value)  # of the number itself: to make a fraction of it takes longer
    interned = _interned.get(key)
    node = None if interned is None else interned()
    if node is None:
        node = _intern("constant", (), value if isinf(value) else Fraction(value))
        interned = _interned[key] = _Interned(node, _forget)
        interned.key = key
    return node


_NAN: Final = float("nan")
ZERO: Final = constant(0)
ONE: Final = constant(1)
MINUS_ONE: Final = constant(-1)
HALF: Final = constant(Fraction(1, 2))
TWO: Final = constant(2)
INFINITY: Final = constant(float("inf"))
NAN: Final = constant(_NAN)
PI: Final = _intern("pi")


def symbol(name: str) -> Expr:
    """A real variable."""
    return _intern("symbol", (), name)


def lift(value: ExprLike) -> Expr:
    """A number as a constant; an expression as itself."""
    return value if isinstance(value, Expr) else constant(value)


def is_constant(node: Expr) -> bool:
    """Whether the node is a literal number."""
    return node.head == "constant"


def number(node: Expr) -> Fraction | None:
    """The node's exact value if it is a finite literal."""
    return node.payload if isinstance(node.payload, Fraction) else None


def _float(node: Expr) -> float:
    value = node.payload
    assert isinstance(value, (Fraction, float))
    if isinstance(value, float):
        return value
    return (value > 0) - (value < 0)  # only the sign matters beside an infinity


def add(a: Expr, b: Expr) -> Expr:
    """a + b."""
    if a is ZERO:
        return b
    if b is ZERO:
        return a
    if is_constant(a) and is_constant(b):
        x, y = number(a), number(b)
        return constant(x + y if x is not None and y is not None else _float(a) + _float(b))
    for term in (a, b):
        if is_constant(term) and number(term) is None:
            return term  # variables are finite: an infinity, or NaN, swallows them
    return _intern("add", (a, b))


def total(terms: Iterable[Expr]) -> Expr:
    """The sum of many terms, in one node; zeros are dropped."""
    kept = tuple(term for term in terms if term is not ZERO)
    if len(kept) < 3:
        return ZERO if not kept else kept[0] if len(kept) == 1 else add(*kept)
    if all(map(is_constant, kept)) or any(is_constant(term) and number(term) is None for term in kept):
        result = ZERO
        for term in kept:
            result = add(result, term)
        return result
    return _intern("add", kept)


def multiply(a: Expr, b: Expr) -> Expr:
    """a · b. Zero times anything finite is zero."""
    if a is ONE:
        return b
    if b is ONE:
        return a
    if is_constant(a) and is_constant(b):
        x, y = number(a), number(b)
        return constant(x * y if x is not None and y is not None else _float(a) * _float(b))
    if a is ZERO or b is ZERO:
        return ZERO
    if a is MINUS_ONE:
        return negate(b)
    if b is MINUS_ONE:
        return negate(a)
    return _intern("mul", (a, b))


def negate(a: Expr) -> Expr:
    """-a."""
    if is_constant(a):
        value = a.payload
        assert isinstance(value, (Fraction, float))
        return constant(-value)
    if a.head == "neg":
        return a.args[0]
    return _intern("neg", (a,))


def product(factors: Iterable[Expr]) -> Expr:
    """The product of many factors, from left to right."""
    result = ONE
    for factor in factors:
        result = multiply(result, factor)
    return result


def divide(a: Expr, b: Expr) -> Expr:
    """a / b."""
    if b is ONE:
        return a
    x, y = number(a), number(b)
    if x is not None and y is not None:
        if y != 0:
            return constant(x / y)
        return NAN if x == 0 else _intern("div", (a, b))
    if a is ZERO:
        return ZERO
    if b is MINUS_ONE:
        return negate(a)
    return _intern("div", (a, b))


def power(a: Expr, b: Expr) -> Expr:
    """a ** b, with a ** 0 = 1 for every a, as in IEEE 754's pow."""
    if b is ONE:
        return a
    if b is ZERO or a is ONE:
        return ONE
    x, y = number(a), number(b)
    if x is not None and y is not None and y.denominator == 1 and (x != 0 or y > 0) and abs(y) <= 1024:
        return constant(x ** int(y))
    if y == Fraction(1, 2):
        return call("sqrt", a)
    return _intern("pow", (a, b))


def call(head: str, *args: ExprLike) -> Expr:
    """An elementary or special function from the table in `diffcheck.algebra.functions`, on expressions."""
    nodes = tuple(map(lift, args))
    if len(nodes) == 1 and is_constant(nodes[0]):
        folded = _fold(head, nodes[0])
        if folded is not None:
            return folded
    return _intern(head, nodes)


def _fold(head: str, argument: Expr) -> Expr | None:
    value = argument.payload
    assert isinstance(value, (Fraction, float))
    if isinstance(value, float) and isnan(value):
        return NAN
    if head == "sqrt" and isinstance(value, Fraction) and value > 0:
        top, bottom = _exact_root(value.numerator), _exact_root(value.denominator)
        return None if top is None or bottom is None else constant(Fraction(top, bottom))
    if isinstance(value, Fraction) and value.denominator != 1:
        return None
    known = FUNCTIONS[head].values.get(float(value))
    return None if known is None else constant(known)


def _exact_root(value: int) -> int | None:
    from math import isqrt

    root = isqrt(value)
    return root if root * root == value else None


# ---------------------------------------------------------------------------------------------------------------------
# Selectors: Iverson brackets, 0 or 1
# ---------------------------------------------------------------------------------------------------------------------


_POSITIVE: Final = frozenset(name for name, function in FUNCTIONS.items() if function.positive)


def positive(a: Expr) -> Expr:
    """[a > 0]."""
    value = a.payload if is_constant(a) else None
    if isinstance(value, (Fraction, float)):
        return ONE if value > 0 else ZERO
    if a.head in _POSITIVE:
        return ONE
    # A whole number that is 0 is on no boundary: it is 0 on a region. Between 0 and 1 it never is.
    return _intern("positive", (a - HALF if _is_whole(a) else a,))


def vanishes(a: Expr) -> Expr:
    """[a = 0]."""
    value = a.payload if is_constant(a) else None
    if isinstance(value, (Fraction, float)):
        return ONE if value == 0 else ZERO
    if a.head in _POSITIVE:
        return ZERO
    if _is_whole(a):
        return logical_and(logical_not(positive(a)), logical_not(positive(negate(a))))
    return _intern("vanishes", (a,))


_MOST_PARTS: Final = 64


def _is_whole(a: Expr) -> bool:
    """Whether a node is seen to be made of whole numbers: floors and selectors, added and multiplied."""
    stack, parts = [a], 0
    while stack:
        node = stack.pop()
        parts += 1
        match node.head:
            case "floor" | "positive" | "vanishes" | "not":
                continue
            case "constant" if isinstance(node.payload, Fraction) and node.payload.denominator == 1:
                continue
            case "add" | "mul" | "neg" | "frozen" if parts < _MOST_PARTS:
                stack.extend(node.args)
            case "where" if parts < _MOST_PARTS:
                stack.extend(node.args[1:])
            case _:
                return False
    return True


def _difference(a: Expr, b: Expr) -> Expr:
    # Beside an infinite constant only the comparison's outcome matters: a - inf is "negative" for every finite a.
    if is_constant(b) and number(b) is None:
        return negate(b)
    return ZERO if a is b else a - b


def greater(a: ExprLike, b: ExprLike) -> Expr:
    """[a > b]."""
    a, b = lift(a), lift(b)
    if is_constant(a) and is_constant(b):
        return ONE if a.payload > b.payload else ZERO  # type: ignore[operator]
    return positive(a if is_constant(a) and number(a) is None else _difference(a, b))


def greater_equal(a: ExprLike, b: ExprLike) -> Expr:
    """[a >= b]."""
    return logical_not(greater(b, a))


def equal(a: ExprLike, b: ExprLike) -> Expr:
    """[a = b]."""
    a, b = lift(a), lift(b)
    if is_constant(a) and is_constant(b):
        return ONE if a.payload == b.payload else ZERO
    if any(is_constant(x) and number(x) is None for x in (a, b)):
        return ZERO
    return vanishes(_difference(a, b))


def logical_not(a: Expr) -> Expr:
    """1 - a, for a selector."""
    if a.head == "not":
        return a.args[0]
    return ONE - a if is_constant(a) else _intern("not", (a,))


def logical_and(a: Expr, b: Expr) -> Expr:
    """a · b, for selectors."""
    return multiply(a, b)


def logical_or(a: Expr, b: Expr) -> Expr:
    """a + b - a · b, for selectors."""
    return logical_not(multiply(logical_not(a), logical_not(b)))


def where(condition: Expr, a: ExprLike, b: ExprLike) -> Expr:
    """a if the selector is 1, else b. The other one is not looked at: it may have no value there."""
    a, b = lift(a), lift(b)
    if condition is ONE or a is b:
        return a
    if condition is ZERO:
        return b
    if condition.head == "not":
        return where(condition.args[0], b, a)
    return _intern("where", (condition, a, b))


# ---------------------------------------------------------------------------------------------------------------------
# Marks: the identity, with something to say about it
# ---------------------------------------------------------------------------------------------------------------------


def frozen(a: Expr, by: str) -> Expr:
    """The same value, constant to differentiation.

    `by` is "detach" or "no_grad" (which forward mode ignores), or "rounding": the size of a kernel's errors, in a rule.
    """
    return a if is_constant(a) else _intern("frozen", (a,), by)


def unfolded(a: Expr) -> Expr:
    """A constant that nothing is folded with: a kernel computes with it, and rounds where exact fractions would not.

    1/3 + 1 - 4/3 is 0, and what is computed for it is not.
    """
    return _intern("frozen", (a,), "constant") if is_constant(a) else a


def rounded(a: Expr, bits: int) -> Expr:
    """The same value; what was executed rounded it to so many bits, fewer than the case's own. 0 and 1 lose nothing."""
    return a if is_constant(a) or a.head in SELECTORS or a.head == "not" else _intern("rounded", (a,), bits)


def computed_as(value: Expr, kernel: Expr) -> Expr:
    """`value`, which the kernel computes by the equal formula `kernel`: only its rounding depends on that."""
    return value if value is kernel or is_constant(value) else _intern("computed_as", (value, kernel))


SELECTORS: Final = frozenset({"positive", "vanishes"})


BY_SERIAL: Final = operator.attrgetter("serial")
"""Sorts nodes by their making: arguments before what uses them."""


def topological(outputs: Iterable[Expr], without: Container[Expr] = ()) -> list[Expr]:
    """Every node the outputs are made of, arguments before what uses them; without some, and what only they use."""
    seen = {output for output in outputs if output not in without}
    stack = list(seen)
    while stack:
        for argument in stack.pop().args:
            if argument not in seen and argument not in without:
                seen.add(argument)
                stack.append(argument)
    return sorted(seen, key=BY_SERIAL)


def postorder(outputs: Iterable[Expr]) -> list[Expr]:
    """The same nodes in an order that rests on nothing but the outputs: `topological` tells which was made first."""
    found: dict[Expr, None] = {}
    stack = [(output, False) for output in reversed(list(outputs))]
    while stack:
        node, ready = stack.pop()
        if node in found:
            continue
        if ready:
            found[node] = None
        else:
            stack.append((node, True))
            stack += [(argument, False) for argument in reversed(node.args)]
    return list(found)


def symbols(outputs: Iterable[Expr]) -> frozenset[str]:
    """The names of the variables that occur."""
    return frozenset(str(node.payload) for node in topological(outputs) if node.head == "symbol")


def rebuild(node: Expr, args: Sequence[Expr]) -> Expr:
    """The same operation on other arguments, folded again."""
    match node.head:
        case "constant" | "symbol" | "pi":
            return node
        case "add":
            return total(args)
        case "mul":
            return multiply(*args)
        case "neg":
            return negate(*args)
        case "div":
            return divide(*args)
        case "pow":
            return power(*args)
        case "positive":
            return positive(*args)
        case "vanishes":
            return vanishes(*args)
        case "not":
            return logical_not(*args)
        case "where":
            return where(*args)
        case "frozen":
            return frozen(args[0], str(node.payload))
        case "rounded":
            assert isinstance(node.payload, int)
            return rounded(args[0], node.payload)
        case "computed_as":
            return computed_as(*args)
        case head:
            return call(head, *args)


def substitute(outputs: Sequence[Expr], replacements: dict[Expr, Expr]) -> list[Expr]:
    """The outputs with nodes replaced by others, wherever they occur."""
    done: dict[Expr, Expr] = {}
    for node in topological(outputs):
        if node in replacements:
            done[node] = replacements[node]
        elif any(done[a] is not a for a in node.args):
            done[node] = rebuild(node, [done[a] for a in node.args])
        else:
            done[node] = node
    return [done[output] for output in outputs]
