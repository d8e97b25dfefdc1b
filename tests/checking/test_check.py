"""From a declared case to its verdict: what is right, what is wrong on purpose, and cases that misbehave."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Any

import hypothesis
import pytest
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval, Le, Predicate
from hypothesis import Phase
from hypothesis.database import InMemoryExampleDatabase
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from jaxtyping import Float, Int
from torch import Tensor

from diffcheck import case
from diffcheck.checking.check import check
from diffcheck.compare.evaluate import Memory
from diffcheck.declare.case import Case
from diffcheck.declare.domain import size_assignments
from diffcheck.draw import inputs as draw
from diffcheck.draw.inputs import Drawn
from diffcheck.draw.search import find
from diffcheck.errors import BudgetExceeded
from diffcheck.settings import Settings
from diffcheck.trace.budget import Budget
from diffcheck.verdict import Result, Verdict
from tests.support.loaded import cases

VECTOR = Float[Tensor, "n"]
SCALAR = Float[Tensor, ""]


def declared(function: Callable[..., Any], gradient: Callable[..., Any] | None = None, **options: Any) -> Case:
    """A function of one vector."""
    made: Case = case(function, inputs={"x": options.pop("x", VECTOR)}, gradient=gradient, name="it", **options)
    return made


def run(it: Case, **options: Any) -> dict[tuple[str, str], Result]:
    """Results by mode and dtype, of few examples."""
    settings = Settings(**({"examples": 15, "seed": 7, "database": False} | options))
    return {(r.mode, r.dtype): r for r in check(it, settings, case_id="cases/it.py::it", location="cases/it.py -k it")}


def reverse(it: Case, **options: Any) -> Result:
    """In reverse mode, float64."""
    return run(it, modes=("reverse",), dtypes=("float64",), **options)["reverse", "float64"]


def textbook(it: Case) -> Result:
    """Of the case's own `gradient=`."""
    return run(it, modes=("reverse",), dtypes=("float64",))["gradient", "float64"]


# ---------------------------------------------------------------------------------------------------------------------
# What is right
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases())
def test_the_projects_cases_are_proved(name: str):
    results = run(cases()[name], examples=8)
    modes = {"accumulate"} if cases()[name].preceded_by is not None else {"reverse", "forward"}
    assert results.keys() - {("gradient", "float64")} == {(m, d) for m in modes for d in ("float64", "float32")}
    assert (("gradient", "float64") in results) == (cases()[name].gradient is not None)
    for key, result in results.items():
        assert result.verdict is Verdict.PROVED, (key, result.reason, result.finding)
        assert result.inputs > 0
        assert result.max_error_bounds <= 4
        assert result.finding is None
        assert result.gradient


def test_the_same_seed_gives_the_same_results():
    def once() -> list[Result]:
        return [replace(r, seconds=0.0) for r in run(cases()["huber"]).values()]

    assert once() == once()
    assert [replace(r, seconds=0.0) for r in run(cases()["huber"], seed=8).values()] != once()


def test_the_same_seed_draws_the_same_inputs_whatever_modules_are_loaded(monkeypatch: pytest.MonkeyPatch):
    """Hypothesis draws numbers that it reads in the source of local modules."""

    def drawn(read: set[int]) -> list[Drawn]:
        monkeypatch.setattr(providers, "_get_local_constants", lambda: Constants(integers=read))
        providers.CONSTANTS_CACHE.cache.clear()
        seen: list[Drawn] = []

        def keep(it: Drawn) -> bool:
            seen.append(it)
            return False

        arguments = cases()["gelu"].arguments
        strategy = draw.inputs(arguments, size_assignments(arguments))
        find(strategy, keep, Settings(examples=200, seed=1), phases=[Phase.generate])
        return seen

    assert drawn(set()) == drawn(set(range(100_000, 130_000, 7)))


def test_only_what_is_asked_for_is_run():
    assert run(declared(torch.sin), modes=("forward",), dtypes=("float32",)).keys() == {("forward", "float32")}
    assert run(cases()["accumulated"], modes=("forward",)).keys() == {("gradient", "float64")}


# ---------------------------------------------------------------------------------------------------------------------
# Wrong on purpose
# ---------------------------------------------------------------------------------------------------------------------


def by_hand(
    value: Callable[[Tensor], Tensor], backward: Callable[[Tensor, Tensor], Any], jvp: Callable[..., Any] | None = None
) -> Callable[[Tensor], Tensor]:
    """A custom Function: its value, its backward of x and the cotangent, its jvp of x and the tangent."""

    class ByHand(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return value(x)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            return backward(ctx.saved_tensors[0], grad)

        @staticmethod
        def jvp(ctx: Any, tangent: Tensor) -> Any:
            return (jvp or backward)(ctx.saved_tensors[0], tangent)

    def function(x: Tensor) -> Tensor:
        result: Tensor = ByHand.apply(x)
        return result

    return function


WRONG_BACKWARDS = {
    "missing two": (lambda x: x * x, lambda x, g: x * g),
    "sign": (lambda x: x * x, lambda x, g: -2 * x * g),
    "one part in 10¹⁰": (lambda x: x**3, lambda x, g: 3 * x**2 * g * (1 + 1e-10)),
    "upstream ignored": (lambda x: x * x, lambda x, g: 2 * x),
    "upstream squared": (lambda x: x * x, lambda x, g: 2 * x * g * g),
    "upstream's absolute value": (lambda x: x * x, lambda x, g: 2 * x * g.abs()),
    "cut": (lambda x: x * x, lambda x, g: None),
    "sum for mean": (lambda x: x.mean(), lambda x, g: g.expand(x.shape)),
    "transposed": (lambda x: torch.stack([x.sum(), x[0]]), lambda x, g: g[0] + torch.zeros_like(x)),
    "wrong for negative numbers only": (lambda x: x * x, lambda x, g: 2 * x.abs() * g),
    "forgotten chain term": (lambda x: torch.sin(x * x), lambda x, g: torch.cos(x * x) * g),
    "two at the kink": (torch.relu, lambda x, g: g * torch.where(x == 0, 2.0, (x > 0).to(x.dtype))),
    "nan at zero": (lambda x: x * x, lambda x, g: 2 * x * x / x * g),
    "infinite": (lambda x: x * x, lambda x, g: 2 * x * g * float("inf")),
    "absolute value in the cotangent's place": (lambda x: 3 * x, lambda x, g: 3 * x.abs()),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_BACKWARDS)
def test_a_wrong_backward_is_found(name: str):
    result = reverse(declared(by_hand(*WRONG_BACKWARDS[name])), examples=40)
    assert result.verdict is Verdict.WRONG, result
    assert result.finding is not None
    assert result.finding.argument == "x"
    assert result.finding.inputs[0].name == "x"
    assert result.finding.replay == (
        "diffcheck run cases/it.py -k it --mode reverse --dtype float64 --examples 40 --seed 7"
    )


@pytest.mark.parametrize("name", ["missing two", "sign", "one part in 10¹⁰", "forgotten chain term"])
def test_a_wrong_jvp_is_found(name: str):
    value, wrong = WRONG_BACKWARDS[name]
    right = {
        "missing two": lambda x, g: 2 * x * g, "sign": lambda x, g: 2 * x * g,
        "one part in 10¹⁰": lambda x, g: 3 * x**2 * g,
        "forgotten chain term": lambda x, g: 2 * x * torch.cos(x * x) * g,
    }[name]  # fmt: skip
    results = run(declared(by_hand(value, right, wrong)), dtypes=("float64",), examples=40)
    assert results["reverse", "float64"].verdict is Verdict.PROVED
    assert results["forward", "float64"].verdict is Verdict.WRONG
    assert results["forward", "float64"].finding is not None
    assert results["forward", "float64"].finding.argument == "y"


def test_a_wrong_backward_shows_both_formulas_and_the_factor():
    finding = reverse(declared(by_hand(*WRONG_BACKWARDS["missing two"])), examples=40).finding
    assert finding is not None
    assert finding.headline == "the gradient of x[0] is wrong"
    assert finding.autograd_formula == "dy[0]*x[0]"
    assert finding.reference_formula == "2*dy[0]*x[0]"
    assert "PyTorch's value is 0.5 times the certified one" in finding.notes
    assert finding.autograd == pytest.approx(finding.certified_float / 2)
    assert float(finding.certified) == finding.certified_float
    assert finding.ulps > 1e15
    assert finding.bounds > 1e10


def test_the_smallest_input_is_shown():
    """Of any size and any numbers, one entry that is 1 does it."""
    finding = reverse(declared(by_hand(*WRONG_BACKWARDS["sign"])), examples=40).finding
    assert finding is not None
    (shown,) = finding.inputs
    assert (shown.shape, shown.dtype) == ((1,), "float64")
    assert abs(shown.entries[0]) <= 2
    assert shown.entries[0] != 0


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: 2 * torch.dot(x, x), lambda x: 4.0000001 * x),
        (lambda x: x * x * x, lambda x: x * x),  # the detach is gone
        (lambda x: x * x * x, lambda x: -3 * x * x),
        (lambda x: x * x, lambda x: 2 * x + 1e-9),
        (lambda x: torch.sin(x), lambda x: torch.sin(x)),
        (lambda x: (x * x).detach() * x, lambda x: 3 * x * x),
        (torch.relu, lambda x: (x > 0).to(x.dtype) * 2),
        (lambda x: x.sum(), lambda x: x),
    ],
    ids=["4.0000001x", "detach removed", "sign", "something added", "sine", "detach forgotten", "relu", "total"],
)
def test_a_wrong_textbook_gradient_is_found(function: Callable[..., Any], said: Callable[..., Any]):
    it = declared(function, said)
    assert reverse(it).verdict is Verdict.PROVED
    result = textbook(it)
    assert result.verdict is Verdict.WRONG
    assert result.finding is not None
    assert result.finding.headline == "gradient= of case 'it' is not the gradient, at x[0]"
    assert result.finding.cotangents == ()
    assert result.finding.autograd_formula != result.finding.reference_formula


def test_a_detach_in_the_wrong_place_is_no_fault_of_autograd():
    """Autograd does what was written; the textbook's gradient says what was meant."""
    results = run(declared(lambda x: x.detach() * x, lambda x: 2 * x), dtypes=("float64",))
    assert results["reverse", "float64"].verdict is Verdict.PROVED
    assert results["gradient", "float64"].verdict is Verdict.WRONG


def test_a_transposed_jacobian_is_found():
    def backward(x: Tensor, g: Tensor) -> Tensor:
        return g @ torch.arange(9.0, dtype=x.dtype).reshape(3, 3).T

    it = declared(by_hand(lambda x: torch.arange(9.0, dtype=x.dtype).reshape(3, 3) @ x, backward), x=Float[Tensor, "3"])
    assert reverse(it, examples=40).verdict is Verdict.WRONG


def test_accumulation_that_is_said_to_clear_is_wrong():
    def second(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
        return x.sum()

    first = cases()["quadratic"]
    for clear, said in ((False, lambda x: torch.ones_like(x)), (True, lambda x: 4 * x + 1)):
        it = case(second, preceded_by=first, clear=clear, gradient=said)
        results = run(it)
        assert results["accumulate", "float64"].verdict is Verdict.PROVED
        assert results["gradient", "float64"].verdict is Verdict.WRONG


def test_a_nan_from_a_branch_that_is_not_taken_is_wrong():
    """√x for positive x, else 0: PyTorch multiplies 0 by infinity. The derivative is 0 there."""
    result = reverse(declared(lambda x: torch.where(x > 0, torch.sqrt(x), 0.0)), examples=40)
    assert result.verdict is Verdict.WRONG
    assert result.finding is not None
    assert result.finding.certified_float == 0
    assert any("is nan where the derivative is finite" in note for note in result.finding.notes)


def test_digits_lost_by_a_longer_way_are_inaccurate():
    """1 - 1/(1 + e⁻ˣ) for the sigmoid's tail, in a backward of one's own."""

    def backward(x: Tensor, g: Tensor) -> Tensor:
        s = 1 / (1 + torch.exp(-x))
        return s * (1 - s) * g

    x = Annotated[VECTOR, Interval(ge=15, le=30)]
    result = reverse(declared(by_hand(torch.sigmoid, backward), x=x), examples=40)
    assert result.verdict is Verdict.INACCURATE
    assert result.finding is not None
    assert "loses digits" in result.finding.headline
    assert any("more digits are lost" in note for note in result.finding.notes)


# ---------------------------------------------------------------------------------------------------------------------
# Cases that misbehave
# ---------------------------------------------------------------------------------------------------------------------


def raises(x: Tensor) -> Tensor:
    raise ZeroDivisionError("nothing left")


def mutates(x: Tensor) -> Tensor:
    with torch.no_grad():
        x.mul_(2)
    return x * x


class Counter:
    """Another result every time."""

    count = 0

    def __call__(self, x: Tensor) -> Tensor:
        """x and how often it was called."""
        self.count += 1
        return x + self.count


def never_ends_in_python(x: Tensor) -> Tensor:
    while True:
        pass


def doubles_for_ever(x: Tensor) -> Tensor:
    b = x * 2
    while b.norm() < 1000:
        b = b * 2
    return b


@pytest.mark.parametrize(
    ("function", "verdict", "reason"),
    [
        (raises, Verdict.ERROR, "case 'it' raises ZeroDivisionError"),
        (lambda x: 3, Verdict.ERROR, "case 'it' returns no floating-point tensor, at x = [0.0]"),
        (lambda x: x > 0, Verdict.ERROR, "returns no floating-point tensor"),
        (lambda x: None, Verdict.ERROR, "returns no floating-point tensor"),
        (mutates, Verdict.ERROR, "changes its input x in place"),
        (lambda x: x * torch.rand_like(x), Verdict.UNSUPPORTED, "rand_like.default: it draws random numbers"),
        (lambda x: x * torch.rand(1, dtype=x.dtype), Verdict.ERROR, "random"),
        (lambda x: F.dropout(x, 0.5), Verdict.ERROR, "random"),
        (Counter(), Verdict.ERROR, "random"),
        (lambda x: x + x.new_zeros(7).expand(2, 7).sum() * torch.ones(3, 5) @ torch.ones(4), Verdict.ERROR,
         "raises RuntimeError"),
        (lambda x: x * torch.empty(10**13).sum(), Verdict.UNDECIDED, "memory"),
        (lambda x: x * torch.zeros(300_000, dtype=x.dtype).sum(), Verdict.UNDECIDED, "300,000 elements"),
        (lambda x: torch.special.bessel_j0(x), Verdict.UNSUPPORTED, "bessel_j0"),
        (lambda x: torch.linalg.det(torch.fft.fft(x)[:1, None]).real, Verdict.UNSUPPORTED, "_linalg_det"),
    ],
    ids=["raises", "returns a number", "returns booleans", "returns nothing", "mutates", "random inside", "random",
         "dropout", "counter", "shapes", "memory", "large", "no rule", "complex"],
)  # fmt: skip
def test_a_case_that_misbehaves_gets_its_own_verdict(function: Callable[..., Any], verdict: Verdict, reason: str):
    result = reverse(declared(function), examples=5)
    assert result.verdict is verdict, result
    if reason == "random" and result.finding is not None:  # two runs happened to agree, and later ones did not
        assert "again and again, gives" in result.finding.diagnosis.explanation
        return
    assert reason in result.reason, result.reason
    assert result.finding is None


def test_a_declared_shape_that_is_not_returned():
    def it(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
        return x * x

    result = reverse(case(it))
    assert result.verdict is Verdict.ERROR
    assert 'returns shape [1], but declares ""' in result.reason


def test_a_loop_without_end_names_its_smallest_input():
    started = time.perf_counter()
    results = run(declared(doubles_for_ever, x=SCALAR), examples=30)
    assert time.perf_counter() - started < 15
    for result in results.values():
        assert result.verdict is Verdict.UNDECIDED
        assert "does a loop never end?" in result.reason
        assert result.reason.endswith("[smallest input: x = 0.0]")


def test_a_loop_without_end_in_pure_python_is_interrupted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("diffcheck.compare.evaluate.Memory.__init__", shorter_budget())
    started = time.perf_counter()
    result = reverse(declared(never_ends_in_python), seconds=3.0, examples=3)
    assert time.perf_counter() - started < 8
    assert result.verdict is Verdict.UNDECIDED
    assert "seconds" in result.reason


def shorter_budget() -> Callable[..., None]:
    from diffcheck.compare.evaluate import Memory

    original = Memory.__init__

    def patched(self: Memory) -> None:
        original(self)
        self.operations = Budget(seconds=0.3)

    return patched


def test_an_empty_domain_is_undefined():
    result = reverse(declared(torch.sin, assume=lambda x: (x > 1).all() and (x < 0).all()))
    assert result.verdict is Verdict.UNDEFINED
    assert result.reason == "no input within the domain could be drawn"
    assert result.inputs == 0


def test_a_domain_of_kinks_is_undefined():
    result = reverse(declared(torch.relu, x=Annotated[VECTOR, Ge(0), Le(0)]))
    assert result.verdict is Verdict.UNDEFINED
    assert result.reason == "every input drawn was a kink or had no derivative"
    assert result.kinks == result.inputs > 0


def test_a_domain_without_derivatives_is_undefined():
    result = reverse(declared(torch.sqrt, x=Annotated[VECTOR, Ge(0), Le(0)]))
    assert result.verdict is Verdict.UNDEFINED
    assert result.undefined == result.inputs > 0


def test_kinks_are_counted_and_conventions_accepted():
    result = reverse(declared(torch.relu), examples=60)
    assert result.verdict is Verdict.PROVED
    assert 0 < result.kinks < result.inputs


def test_a_predicate_that_raises_is_the_cases_fault():
    result = reverse(declared(torch.sin, x=Annotated[VECTOR, Predicate(lambda x: x.no_such_thing)]))
    assert result.verdict is Verdict.ERROR
    assert "assume= or a Predicate of case 'it' raises AttributeError" in result.reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (lambda x: (x, x), "returns 2 gradients for 1 arguments (x)"),
        (lambda x: {"y": x}, "returns no gradient for x"),
        (lambda x: torch.ones(3, 5, dtype=x.dtype), "returns shape (3, 5) for x, which has"),
        (raises, "gradient= of case 'it' raises ZeroDivisionError"),
    ],
    ids=["two", "another name", "shape", "raises"],
)
def test_a_textbook_gradient_that_misbehaves(said: Callable[..., Any], reason: str):
    it = declared(torch.sin, said)
    assert reverse(it).verdict is Verdict.PROVED
    assert textbook(it).verdict is Verdict.ERROR
    assert reason in textbook(it).reason


def test_a_number_is_a_gradient_for_every_entry():
    assert textbook(declared(lambda x: 3 * x, lambda x: 3)).verdict is Verdict.PROVED


def test_several_arguments_are_each_judged():
    def it(
        x: Float[Tensor, "n m"], y: Annotated[Float[Tensor, "m"], Gt(0)], t: Annotated[Int[Tensor, "n"], Ge(0)]
    ) -> Tensor:
        return x @ torch.log(y) * t

    results = run(case(it), dtypes=("float64",))
    assert {r.verdict for r in results.values()} == {Verdict.PROVED}


# ---------------------------------------------------------------------------------------------------------------------
# What is remembered
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _database() -> Iterator[None]:
    """An example database of our own."""
    before = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.register_profile("remembering", database=InMemoryExampleDatabase())
    hypothesis.settings.load_profile("remembering")
    yield
    hypothesis.settings.load_profile(before)


def seldom_wrong() -> Case:
    """Where no number in a formula says to look."""

    def backward(x: Tensor, g: Tensor) -> Tensor:
        return torch.where(torch.sin(63 * x) > 0.9, 3.0, 2 * x) * g

    return declared(by_hand(lambda x: x * x, backward), x=SCALAR)


@pytest.mark.usefixtures("_database")
def test_a_disagreement_is_tried_first_next_time():
    """Not what is drawn first, but remembered."""
    it = seldom_wrong()
    found = reverse(it, examples=300, database=True, seed=None)
    assert found.verdict is Verdict.WRONG
    assert found.finding is not None
    again = reverse(it, examples=1, database=True, seed=None)
    assert again.verdict is Verdict.WRONG
    assert again.finding is not None
    assert again.finding.inputs == found.finding.inputs
    assert reverse(it, examples=1, database=False, seed=None).verdict is not Verdict.WRONG


@pytest.mark.usefixtures("_database")
def test_what_is_remembered_does_not_change_a_run_with_a_seed():
    it = seldom_wrong()
    before = reverse(it, examples=1, database=True, reuse=False)
    assert reverse(it, examples=300, database=True, seed=None).verdict is Verdict.WRONG
    assert replace(reverse(it, examples=1, database=True, reuse=False), seconds=0.0) == replace(before, seconds=0.0)


@pytest.mark.usefixtures("_database")
def test_what_was_mended_is_forgotten():
    assert reverse(seldom_wrong(), examples=300, database=True, seed=None).verdict is Verdict.WRONG
    mended = declared(lambda x: x * x, x=SCALAR)
    for _ in range(2):
        assert reverse(mended, examples=20, database=True, seed=None).verdict is Verdict.PROVED


def test_the_finding_is_the_same_with_the_same_seed():
    def finding() -> Any:
        return reverse(declared(by_hand(*WRONG_BACKWARDS["forgotten chain term"])), examples=40).finding

    assert finding() == finding()


IMPORTED: str = """
import importlib.abc, signal, sys, warnings
warnings.simplefilter("ignore")
import torch
from diffcheck import check

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name == "torch._decomp.decompositions_for_jvp":
            print("alarm", signal.getitimer(signal.ITIMER_REAL)[0])

sys.meta_path.insert(0, Finder())
check(torch.sin, torch.ones(2, dtype=torch.float64), modes=("forward",))
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="it asks the system's timer what rings")
def test_no_alarm_interrupts_what_pytorch_imports_for_forward_mode():
    """Half of a module would stay, and fail every case that comes after."""
    found = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["alarm 0.0"]


def test_a_budget_that_runs_out_once_is_no_fault_of_the_case(monkeypatch: pytest.MonkeyPatch):
    def interrupted(it: Case, mode: str, dtype: str, block: list[Drawn], memory: Memory) -> Iterator[Any]:
        """As by the alarm, on a machine that is busy."""
        yield block[0], BudgetExceeded("it ran for more than 10 seconds")

    monkeypatch.setattr("diffcheck.checking.visit.evaluate_each", interrupted)
    result = reverse(declared(lambda x: 2 * x))
    assert result.verdict is Verdict.UNDECIDED
    assert "did not when it was tried again" in result.reason
