"""Formulas in LaTeX and MathML say what their text says."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcheck.report.mathematics import latex, mathml

X, Y = sympy.symbols("x y")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("4*x", r"4 \, x"),
        ("x**2/2", r"\frac{x^{2}}{2}"),
        ("-x**2/2", r"-\frac{x^{2}}{2}"),
        ("x*(-y)", r"x \, \left(-y\right)"),
        ("(-x)**2", r"\left(-x\right)^{2}"),
        ("x - (y - 1)", r"x - \left(y - 1\right)"),
        ("2*3**x", r"2 \cdot 3^{x}"),
        ("exp(-x)/sqrt(pi)", r"\frac{e^{-x}}{\sqrt{\pi}}"),
        ("exp(x)**2", r"\left(e^{x}\right)^{2}"),
        ("[x - 20 > 0]", r"\left[x - 20 > 0\right]"),
        ("[x >= 0]*x", r"\left[x \ge 0\right] \, x"),
        ("w_in.bias[0,1]", r"\mathrm{w\_in.bias}_{0,1}"),
        ("erf(x)", r"\operatorname{erf}\left(x\right)"),
        ("polygamma(1, x)", r"\operatorname{polygamma}\left(1, x\right)"),
        ("tanh(x[0])**2", r"\tanh\left(x_{0}\right)^{2}"),
    ],
)
def test_latex(text: str, written: str):
    assert latex(text) == written


@pytest.mark.parametrize(
    "text",
    [
        "", "(a formula of 3,870 operations)", "∇L = 0 is XᵀX·θ = Xᵀy", "lambda: 3", "x and y", "'<b>'", "f(*x)",
        "f(x=1)", "x if y else z", "[x]", "[1 < x < 2]", "[x in y]", "True", "().x", "__import__('os').system('ls')",
        "(" * 1000, "x" + "+x" * 20_000,
    ],
)  # fmt: skip
def test_what_is_no_formula_has_no_notation(text: str):
    assert latex(text) == mathml(text) == ""


EXPRESSIONS = st.recursive(
    st.sampled_from([X, Y, sympy.Symbol("x[0]"), *map(sympy.Integer, (-3, -1, 2, 5)), sympy.Rational(-2, 3)]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] - p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
        st.tuples(inner, inner).filter(lambda p: p[1] != 0).map(lambda p: p[0] / p[1]),
        st.tuples(inner, st.integers(-2, 3)).filter(lambda p: p[0] != 0).map(lambda p: p[0] ** p[1]),
        inner.map(sympy.exp),
        inner.map(sympy.tanh),
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)  # SymPy takes its time
@given(EXPRESSIONS)
def test_latex_read_back_is_the_expression(expression: sympy.Expr):
    """Read by nothing but LaTeX's own rules of grouping."""
    text = str(expression)
    if "zoo" in text or "nan" in text:
        return
    read = sympy.sympify(read_back(latex(text)), locals={"x": X, "y": Y, "x_0": sympy.Symbol("x[0]")})
    assert sympy.simplify(read - expression) == 0


@settings(max_examples=60, deadline=None)  # SymPy takes its time
@given(EXPRESSIONS)
def test_mathml_is_well_formed_and_holds_the_latex(expression: sympy.Expr):
    text = str(expression)
    root = ET.fromstring(mathml(text))  # noqa: S314 - we have just written it
    assert root.tag == "math"
    (note,) = root.iter("annotation")
    assert note.text == latex(text)
    arity = {"mfrac": 2, "msup": 2, "msub": 2}
    assert all(len(element) == arity[element.tag] for element in root.iter() if element.tag in arity)


def read_back(source: str) -> str:
    """LaTeX as Python."""
    while match := re.search(r"\\frac|\\sqrt|(?<![a-z])e\^|\^|_", source):
        start, end = match.span()
        first, after = group(source, end)
        before = source[:start]
        match match.group():
            case r"\frac":
                second, after = group(source, after)
                source = f"{before}(({first})/({second})){source[after:]}"
            case r"\sqrt":
                source = f"{before}sqrt({first}){source[after:]}"
            case "e^":
                source = f"{before}EXP({first}){source[after:]}"
            case "_":
                source = f"{before}INDEX{first}{source[after:]}"
            case _:
                source = f"{before}**({first}){source[after:]}"
    for old, new in ((r"\,", "*"), (r"\cdot", "*"), (r"\left(", "("), (r"\right)", ")"), (r"\tanh", "tanh")):
        source = source.replace(old, new)
    return source.replace("EXP", "exp").replace("INDEX", "_")


def group(source: str, start: int) -> tuple[str, int]:
    """What stands between braces, and where it ends."""
    assert source[start] == "{"
    depth = 0
    for position in range(start, len(source)):
        depth += {"{": 1, "}": -1}.get(source[position], 0)
        if depth == 0:
            return source[start + 1 : position], position + 1
    raise AssertionError(source)
