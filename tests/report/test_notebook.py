"""Results in a notebook: nothing of a person's text is markup, and nothing that failed is hidden."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from jaxtyping import Float
from torch import Tensor

from diffcheck import Results, case
from diffcheck.checking import declared
from diffcheck.settings import Settings
from diffcheck.verdict import Result, Value, Verdict
from tests.report.conftest import FINDING, PROVED

WRONG = replace(PROVED, verdict=Verdict.WRONG, finding=FINDING, reason="")
HOSTILE = "<script>alert('1')</script>&\"'<img src=x onerror=alert(2)>"


class _Tags(HTMLParser):
    """Every tag of a page, with its attributes; and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_table_with_the_finding_below():
    page = _Tags(Results((PROVED, WRONG))._repr_html_())
    assert page.tags.count("tr") == 1 + 2 + 12
    for text in ("quadratic", "proved", "wrong", FINDING.headline, "x = [0.0, 1.5]", FINDING.replay, "6.00000015"):
        assert text in page.text
    assert page.tags.count("math") == 4  # two gradients and two formulas
    assert ("open", None) in page.attributes
    assert "failed: 1 wrong, 1 proved" in page.text


def test_a_result_and_a_finding_alone():
    assert "failed: 1 wrong" in _Tags(WRONG._repr_html_()).text
    page = _Tags(FINDING._repr_html_())
    assert FINDING.headline in page.text
    assert FINDING.replay in page.text
    assert "cotangent" not in page.text  # in which mode it was met is not known


def test_what_passes_and_what_says_why_not():
    agrees = replace(PROVED, verdict=Verdict.AGREES, reason="the identity was not decided")
    undecided = Result("a.py::f", "reverse", "float64", Verdict.UNDECIDED, reason="out of time")
    page = _Tags(Results((agrees, undecided))._repr_html_())
    assert page.tags.count("details") == 2
    assert [name for name, _value in page.attributes].count("open") == 1
    assert "out of time" in page.text
    assert _Tags(Results(())._repr_html_()).text == "no results"


def test_everything_is_escaped():
    hostile = replace(
        FINDING, headline=HOSTILE, argument=HOSTILE, autograd_formula=HOSTILE, reference_formula=HOSTILE,
        replay=HOSTILE, notes=(HOSTILE,), inputs=(Value(HOSTILE, (), HOSTILE, (1.0,)),),
    )  # fmt: skip
    result = Result(HOSTILE, HOSTILE, HOSTILE, Verdict.WRONG, gradient=HOSTILE, reason=HOSTILE, finding=hostile)
    for shown in (result._repr_html_(), hostile._repr_html_(), Results((result,))._repr_html_()):
        page = _Tags(shown)
        assert {"script", "img"}.isdisjoint(page.tags)
        assert all(name in {"style", "open", "displaystyle", "encoding"} for name, _value in page.attributes)
        assert HOSTILE in page.text
    assert result._repr_latex_() is None


def test_latex():
    assert PROVED._repr_latex_() == r"$\displaystyle \nabla \sum y = 4 \, x$"
    first = replace(PROVED, gradient="∂/∂x[0] = exp(x[0])/(exp(x[0]) + exp(x[1]))")
    assert first._repr_latex_() == (
        r"$\displaystyle \frac{\partial}{\partial x_{0}} \sum y = \frac{e^{x_{0}}}{e^{x_{0}} + e^{x_{1}}}$"
    )
    assert replace(PROVED, gradient="∂/∂x[0] = (a formula of 3,870 operations)")._repr_latex_() is None
    assert replace(PROVED, gradient="")._repr_latex_() is None


def test_a_case_shows_function_and_derivative():
    @case
    def square(x: Float[Tensor, ""]):
        return x * x

    shown = square._repr_latex_()
    assert shown is not None
    assert "y &= x^{2}" in shown
    assert r"\frac{\partial}{\partial x} \sum y &= 2 x" in shown

    @case
    def broken(x: Float[Tensor, ""]):
        raise ValueError

    assert broken._repr_latex_() is None


def test_results_are_a_sequence():
    results = Results((PROVED, WRONG))
    assert len(results) == 2
    assert results[1] is WRONG
    assert list(results) == [PROVED, WRONG]
    assert results[:1] == Results((PROVED,))
    assert results.failures == results[1:]
    assert PROVED in results


@pytest.mark.parametrize(
    ("verdicts", "passed", "proved"),
    [
        ((), False, False),
        ((Verdict.PROVED,), True, True),
        ((Verdict.PROVED, Verdict.AGREES), True, False),
        ((Verdict.PROVED, Verdict.UNSUPPORTED), False, False),
        ((Verdict.PROVED, Verdict.NOT_AVAILABLE), True, True),
        ((Verdict.NOT_AVAILABLE,), False, False),
    ],
)
def test_what_has_passed(verdicts: tuple[Verdict, ...], passed: bool, proved: bool):
    results = Results(tuple(replace(PROVED, verdict=verdict) for verdict in verdicts))
    assert (results.passed, results.proved) == (passed, proved)
    with pytest.raises(TypeError, match=r"write `\.passed`"):
        bool(results)


def test_as_text():
    shown = repr(Results((PROVED, WRONG)))
    assert "proved        quadratic reverse    f64     4*x" in shown
    assert f"replay        {FINDING.replay}" in shown
    assert shown.endswith("failed: 1 wrong, 1 proved")
    assert repr(Results(())) == "no results"


def test_results_of_a_check():
    @case
    def square(x: Float[Tensor, "n"]):
        return x * x

    settings = Settings(examples=3, seed=1, database=False)
    results = Results(tuple(declared.run(square, settings, case_id="square", location="square")))
    assert results.proved
    assert "square" in repr(results)
    assert "<math" in results._repr_html_()
