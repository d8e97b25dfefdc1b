"""The chain rule over the graph is `sympy.diff` of the whole expression, and what is frozen stays frozen."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import mpmath
import pytest
import sympy
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import HALF, ONE, ZERO, Expr, call, constant, greater, symbol, where
from diffcheck.algebra.functions import FUNCTIONS
from diffcheck.declare.domain import size_assignments
from diffcheck.derive.chain_rule import pull_back, push_forward, with_unit_cotangents
from diffcheck.derive.symbolic import from_sympy, to_sympy, variable
from diffcheck.prove.identity import Status, prove
from diffcheck.trace.tracer import trace
from tests.support.expressions import X, Y, over_arithmetic, over_heads
from tests.support.loaded import cases, gallery
from tests.support.reference import NoValue, node_value, sympy_gradient, sympy_value, without_floors

EXAMPLES = {example.name: example for example in over_heads() + over_arithmetic()}
C, D = symbol("c"), symbol("d")
SLOW = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
)


@pytest.fixture(autouse=True)
def _fifty_digits() -> None:
    mpmath.mp.dps = 50


def same(a: mpmath.mpf, b: mpmath.mpf, digits: int = 35) -> bool:
    return bool(abs(a - b) <= mpmath.mpf(10) ** -digits * max(abs(a), abs(b), mpmath.mpf(10) ** -digits))


# What makes any expression fit for a head's domain.
_INTO: dict[str, Callable[[Expr], Expr]] = {
    "sqrt": lambda u: u * u + HALF, "log": lambda u: u * u + HALF, "log1p": lambda u: u * u,
    "acosh": lambda u: u * u + 2,
    "asin": lambda u: u / call("sqrt", u * u + 1), "acos": lambda u: u / call("sqrt", u * u + 1),
    "atanh": lambda u: u / call("sqrt", u * u + 1), "erfinv": lambda u: HALF * u / call("sqrt", u * u + 1),
    "gamma": lambda u: 2 + u / call("sqrt", u * u + 1), "lgamma": lambda u: 2 + u / call("sqrt", u * u + 1),
    "polygamma": lambda u: 2 + u / call("sqrt", u * u + 1), "exp": lambda u: u / call("sqrt", u * u + 1),
    "expm1": lambda u: u / call("sqrt", u * u + 1), "sinh": lambda u: u / call("sqrt", u * u + 1),
    "cosh": lambda u: u / call("sqrt", u * u + 1), "besseli": lambda u: u / call("sqrt", u * u + 1),
    "erfcx": lambda u: u / call("sqrt", u * u + 1),
}  # fmt: skip


def applied(head: str, u: Expr, v: Expr) -> Expr:
    u = _INTO.get(head, lambda e: e)(u)
    if head in ("polygamma", "besseli"):
        return call(head, constant(1), u)
    return call(head, u, v) if head == "atan2" else call(head, u)


def expressions() -> st.SearchStrategy[Expr]:
    """Graphs over every operation and head, defined almost everywhere; subterms are shared."""
    rational = st.fractions(-3, 3, max_denominator=7).map(constant)
    leaves = st.sampled_from((X, Y)) | st.sampled_from((X, Y)) | rational | st.just(graph.PI)

    def grown(parts: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        return st.one_of(
            st.builds(lambda a, b: a + b, parts, parts),
            st.builds(lambda a, b: a * b, parts, parts),
            st.builds(lambda a: a * a - a, parts),
            st.builds(lambda a, b: a / (b * b + 1), parts, parts),
            st.builds(
                lambda a, b: (a * a + 1) ** b, parts, st.sampled_from((HALF, constant(-2), constant(3), X, ONE / 3))
            ),
            st.builds(applied, st.sampled_from(sorted(FUNCTIONS)), parts, parts),
            st.builds(lambda a, b, c: where(greater(a, b), b, c), parts, parts, parts),
            st.builds(lambda a, b: greater(a, b) * a, parts, parts),
            st.builds(graph.frozen, parts, st.sampled_from(("detach", "no_grad"))),
            st.builds(lambda a: graph.rounded(a, 8), parts),
            st.lists(parts, min_size=3, max_size=4).map(graph.total),
        )

    return st.recursive(leaves, grown, max_leaves=8)


coordinates = st.integers(-300, 300).filter(bool).map(lambda k: mpmath.mpf(k) / 128 + mpmath.mpf(1) / 977)


@SLOW
@given(expressions(), expressions(), coordinates, coordinates)
def test_pull_back_is_sympys_derivative(first: Expr, second: Expr, x: mpmath.mpf, y: mpmath.mpf):
    found = pull_back([first, second], [C, D], [X, Y])
    expected = sympy_gradient([first, second], [C, D], [X, Y])
    at = {"x": x, "y": y, "c": mpmath.mpf(2) / 3, "d": -mpmath.mpf(5) / 7}
    by_sympy = {variable(n): v for n, v in at.items()}
    for node, form in zip(found, expected, strict=True):
        try:
            want = sympy_value(form, by_sympy)
        except NoValue:
            assume(False)
        assert same(node_value(node, at), want), (first, second, form)


@SLOW
@given(expressions(), coordinates, coordinates)
def test_push_forward_is_sympys_derivative(of: Expr, x: mpmath.mpf, y: mpmath.mpf):
    of = graph.substitute([of], {n: n.args[0] for n in graph.topological([of]) if n.payload == "no_grad"})[0]
    (found,) = push_forward([of], {X: C, Y: D})
    expected = sympy_gradient([of], [ONE], [X, Y])
    at = {"x": x, "y": y, "c": mpmath.mpf(2) / 3, "d": -mpmath.mpf(5) / 7}
    try:
        slopes = [sympy_value(form, {variable(n): v for n, v in at.items()}) for form in expected]
    except NoValue:
        assume(False)
    assert same(node_value(found, at), at["c"] * slopes[0] + at["d"] * slopes[1]), (of, expected)


@SLOW
@given(expressions(), expressions(), coordinates, coordinates)
def test_forward_and_reverse_are_transposes(first: Expr, second: Expr, x: mpmath.mpf, y: mpmath.mpf):
    marked = [n for n in graph.topological([first, second]) if n.payload == "no_grad"]
    first, second = graph.substitute([first, second], {n: n.args[0] for n in marked})
    at = {"x": x, "y": y, "c": mpmath.mpf(3), "d": -mpmath.mpf(1) / 3, "s": mpmath.mpf(5) / 7, "t": mpmath.mpf(-2)}
    tangents = push_forward([first, second], {X: symbol("s"), Y: symbol("t")})
    cotangents = pull_back([first, second], [C, D], [X, Y])
    try:
        left = node_value(C * tangents[0] + D * tangents[1], at)
        right = node_value(symbol("s") * cotangents[0] + symbol("t") * cotangents[1], at)
    except NoValue:
        assume(False)
    assert same(left, right)


@SLOW
@given(expressions(), coordinates, coordinates)
def test_what_people_are_shown_has_the_graphs_value(of: Expr, x: mpmath.mpf, y: mpmath.mpf):
    at = {"x": x, "y": y}
    try:
        ours, theirs = node_value(of, at), sympy_value(to_sympy([of])[0], {variable(n): v for n, v in at.items()})
    except NoValue:
        assume(False)
    assert same(ours, theirs)


@pytest.mark.parametrize("name", EXAMPLES)
def test_derivatives_are_limits_of_differences(name: str):
    """Neither SymPy nor our table of heads: mpmath's own functions, differenced at 50 digits."""
    example = EXAMPLES[name]
    (of,) = marks.as_values([example.of])
    frozen = [n for n in graph.topological([of]) if n.head == "frozen"]
    random, compared = Random(1), 0
    for _ in range(20_000):
        if compared >= 8:
            break
        x, y = example.x(random), example.y(random)
        if not (1e-3 < abs(x) < 30 and 1e-3 < abs(y) < 30 and min(abs(abs(x) - k) for k in (1, abs(y))) > 1e-3):
            continue
        at = {"x": mpmath.mpf(x), "y": mpmath.mpf(y)}
        held = {n: symbol("held") for n in frozen}
        (moving,) = graph.substitute([of], held)
        for node in frozen:
            at["held"] = node_value(node, at)
        for i, name_of in enumerate("xy"):
            (slope,) = pull_back([of], [ONE], [(X, Y)[i]])

            def along(value: mpmath.mpf, name_of: str = name_of, moving: Expr = moving, at: dict[str, mpmath.mpf] = at):
                return node_value(moving, at | {name_of: value})

            step = mpmath.mpf(10) ** -15 * abs(at[name_of])
            difference = (along(at[name_of] + step) - along(at[name_of] - step)) / (2 * step)
            scale = max(abs(difference), abs(node_value(of, at)) / abs(at[name_of]))
            assert abs(node_value(slope, at) - difference) <= mpmath.mpf(10) ** -18 * scale, (x, y, name_of)
            compared += 1
    assert compared >= 8


def entries_of(name: str, mode: str) -> tuple[list[Expr], list[sympy.Expr]]:
    """The reference of a case's trace, and `sympy.diff` of what it traced."""
    case = cases().get(name) or gallery()[name]
    generator = torch.Generator().manual_seed(3)
    values: dict[str, Tensor] = {}
    shapes = size_assignments(case.arguments)[
        1 if name != "attention" and len(size_assignments(case.arguments)) > 1 else 0
    ]
    for known in case.arguments:
        value = torch.rand(shapes[known.name], generator=generator, dtype=torch.float64) * 0.8 + 0.1
        values[known.name] = value if known.kind == "real" else torch.zeros(shapes[known.name], dtype=torch.int64)
    traced = trace(case, mode, values, lambda like: [torch.ones_like(t) for t in like]).trace
    count = sum(v.numel() for n, v in values.items() if next(a for a in case.arguments if a.name == n).differentiated)
    inputs = list(map(symbol, traced.variables[:count]))
    seeds = list(map(symbol, traced.variables[count:]))
    outputs = marks.as_values(traced.outputs)
    if mode == "forward":
        forms = to_sympy(outputs, reveal=True)
        columns = [(variable(str(x.payload)), variable(str(t.payload))) for x, t in zip(inputs, seeds, strict=True)]
        return list(traced.reference), [sum(without_floors(sympy.diff(f, x)) * t for x, t in columns) for f in forms]
    if case.clear:
        outputs, seeds = outputs[-1:], seeds[-1:]
    return list(traced.reference), sympy_gradient(outputs, seeds, inputs)


def modes_of(name: str) -> list[str]:
    preceded = name in cases() and cases()[name].preceded_by is not None
    return ["accumulate"] if preceded else ["reverse", "forward"]


TRACED = [(name, mode) for name in [*cases(), *gallery()] for mode in modes_of(name)]


@pytest.mark.parametrize(("name", "mode"), TRACED)
def test_references_of_cases_are_sympys_derivatives(name: str, mode: str):
    reference, forms = entries_of(name, mode)
    variables = sorted(graph.symbols(reference) | {str(s) for f in forms for s in getattr(f, "free_symbols", ())})
    random = Random(name)
    for _ in range(3):
        at = {v: mpmath.mpf(random.uniform(0.1, 0.9)) for v in variables}
        for node, form in zip(reference, forms, strict=True):
            assert same(node_value(node, at), sympy_value(sympy.sympify(form), {variable(n): v for n, v in at.items()}))


SMALL = [
    "quadratic", "hadamard", "detached", "not_detached", "control_flow", "accumulated", "logsumexp", "quadratic_form",
    "custom_function", "quotient", "power", "square root", "exponential", "sine",
]  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_our_normal_form_agrees_with_sympy(name: str):
    """SymPy's derivative, read back as a graph, is proved to be the reference."""
    reference, forms = entries_of(name, modes_of(name)[0])
    bindings = {variable(n): symbol(n) for n in graph.symbols(reference)}
    values = [sympy.sympify(f).replace(lambda e: type(e).__name__ == "Frozen", lambda e: e.args[0]) for f in forms]
    if any(type(e).__name__ == "Iverson" for f in values for e in sympy.preorder_traversal(f)):
        brackets = {b: to_bracket(b, bindings) for f in values for b in f.atoms(sympy.Function)
                    if type(b).__name__ == "Iverson"}  # fmt: skip
        bindings |= brackets
    assert prove([from_sympy(f, bindings) for f in values], reference).status is Status.PROVED


def to_bracket(bracket: sympy.Expr, bindings: dict[sympy.Expr, Expr]) -> Expr:
    relation = bracket.args[0]
    return greater(from_sympy(relation.gts, bindings), from_sympy(relation.lts, bindings))


# ---------------------------------------------------------------------------------------------------------------------
# Frozen parts
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("by", "in_reverse", "in_forward"), [("detach", X * X, X * X), ("no_grad", X * X, 3 * X * X)])
def test_what_freezes_in_which_mode(by: str, in_reverse: Expr, in_forward: Expr):
    """`detach` stops both modes; forward mode looks through `no_grad`."""
    of = graph.frozen(X * X, by) * X
    assert prove(pull_back([of], [ONE], [X]), [in_reverse]).status is Status.PROVED
    assert prove(push_forward([of], {X: ONE}), [in_forward]).status is Status.PROVED


def test_a_frozen_output_has_no_derivative():
    assert pull_back([graph.frozen(X, "detach")], [C], [X]) == [ZERO]
    assert push_forward([graph.frozen(X, "detach")], {X: C}) == [ZERO]


def test_a_frozen_part_still_has_its_value():
    of = graph.frozen(X * Y, "detach") * Y
    (slope,) = pull_back([of], [ONE], [Y])
    assert node_value(slope, {"x": mpmath.mpf(3), "y": mpmath.mpf(5)}) == 15


# ---------------------------------------------------------------------------------------------------------------------
# The walk over the graph
# ---------------------------------------------------------------------------------------------------------------------


def test_an_input_that_does_not_occur_has_derivative_zero():
    assert pull_back([X * X], [ONE], [X, Y])[1] is ZERO
    assert push_forward([constant(3)], {X: ONE}) == [ZERO]


def test_an_output_given_twice_gets_both_cotangents():
    (slope,) = pull_back([X * Y, X * Y], [C, D], [X])
    assert prove([slope], [(C + D) * Y]).status is Status.PROVED


def test_an_output_that_is_an_input():
    assert pull_back([X, Y], [C, D], [X, Y]) == [C, D]
    assert push_forward([X, Y, X], {X: C, Y: D}) == [C, D, C]


def test_an_output_of_which_another_is_made():
    inner = call("sin", X)
    found = pull_back([inner, inner * inner], [C, D], [X])
    assert prove(found, [(C + 2 * D * inner) * call("cos", X)]).status is Status.PROVED


def test_the_derivative_of_a_shared_chain_stays_small():
    """f(f(…f(x))) with each value used twice: 2⁶⁰ paths, a few hundred nodes."""
    node = X
    for _ in range(60):
        node = call("sin", node) * node
    size = len(graph.topological(pull_back([node], [ONE], [X])))
    assert size < 1000


def test_unit_cotangents_are_the_gradient_of_the_sum():
    found = with_unit_cotangents(pull_back([X * Y, X], [C, D], [X, Y]), [C, D])
    assert prove(found, [Y + 1, X]).status is Status.PROVED


def test_a_branch_that_is_not_taken_passes_nothing_on():
    """√x for positive x, else 0: at x = -1 and at x = 0 the derivative of the root would be no number."""
    (slope,) = pull_back([where(greater(X, 0), call("sqrt", X), ZERO)], [ONE], [X])
    assert node_value(slope, {"x": mpmath.mpf(-1)}) == 0
    assert node_value(slope, {"x": mpmath.mpf(0)}) == 0
    assert node_value(slope, {"x": mpmath.mpf(4)}) == 0.25
    root = call("sqrt", X)
    (slope,) = pull_back([where(greater(X, 0), root + root * call("log", root), -X) * Y], [C], [X])
    assert node_value(slope, {"x": mpmath.mpf(-1), "y": mpmath.mpf(3), "c": mpmath.mpf(2)}) == -6
    nested = where(greater(X, 0), where(greater(Y, 0), call("log", X * Y), root), ZERO)
    (slope,) = pull_back([nested], [C], [X])
    assert node_value(slope, {"x": mpmath.mpf(-1), "y": mpmath.mpf(3), "c": mpmath.mpf(2)}) == 0
    assert node_value(slope, {"x": mpmath.mpf(4), "y": mpmath.mpf(-3), "c": mpmath.mpf(2)}) == 0.5


@pytest.mark.parametrize("order", [0, 1, 3])
def test_the_order_of_polygamma_needs_no_derivative(order: int):
    (slope,) = pull_back([call("polygamma", constant(order), X)], [ONE], [X])
    assert slope is call("polygamma", constant(order + 1), X)


def test_sympy_differentiates_what_it_is_shown():
    """Brackets and frozen parts stay put when SymPy itself differentiates: `show` and people do that."""
    x, y = variable("x"), variable("y")
    (form,) = to_sympy([where(greater(X, Y), X * X, Y) + graph.frozen(X * X, "detach") * X], reveal=True)
    slope = sympy.diff(form, x)
    assert sympy_value(slope, {x: mpmath.mpf(3), y: mpmath.mpf(1)}) == 2 * 3 + 9
    assert sympy_value(slope, {x: mpmath.mpf(1), y: mpmath.mpf(3)}) == 1
