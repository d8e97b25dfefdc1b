"""Rules that users give for their own operations: right and wrong ones, of every kind of operation, in every mode."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from annotated_types import Interval
from jaxtyping import Float
from syrupy.assertion import SnapshotAssertion
from torch import Tensor

from diffcheck import (
    DeclarationError,
    GradcheckError,
    OperationRule,
    Results,
    Settings,
    Verdict,
    assert_derivatives,
    case,
    check,
    gradcheck,
    gradgradcheck,
    rule,
)
from diffcheck.checking import declared
from diffcheck.errors import Unsupported
from tests.support import opaque

ROOT = Path(__file__).parents[2]
VECTOR = Float[Tensor, "n"]
MODERATE = Annotated[VECTOR, Interval(ge=-30, le=30)]
"""What has an exponential in float32."""
ONE = {"x": MODERATE}
TWO = {"x": MODERATE, "y": MODERATE}
REVERSE = ("reverse",)
TWICE = ("reverse", "reverse-over-reverse")
BOTH_WAYS = ("reverse", "forward", "reverse-over-reverse", "forward-over-reverse")
OPS: Any = torch.ops.opaque
X = torch.tensor([0.5, -1.25, 3.0], dtype=torch.float64)


def verdicts(results: Results) -> dict[str, set[Verdict]]:
    found: dict[str, set[Verdict]] = {}
    for result in results:
        found.setdefault(result.mode, set()).add(result.verdict)
    return found


def message(results: Results) -> str:
    """What Python prints, without what changes from run to run and from edit to edit."""
    text = re.sub(r" +\d+\.\d\ds$", "", repr(results), flags=re.MULTILINE)
    return re.sub(r"(\w\.py):\d+", r"\1:N", text)


def checked(function: Any, inputs: Mapping[str, Any], *rules: OperationRule, **options: Any) -> Results:
    usual: dict[str, Any] = {"modes": REVERSE, "examples": 20, "seed": 1}
    return check(function, inputs=inputs, rules=rules, **(usual | options))


class Halves(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(OPS.halves(x))

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        return torch.cat(grads)


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return OPS.scale_(x.clone(), 3.0)

    @staticmethod
    def backward(_: Any, grad: Tensor) -> Tensor:
        return 3 * grad


# ---------------------------------------------------------------------------------------------------------------------
# What is right
# ---------------------------------------------------------------------------------------------------------------------

RIGHT: dict[str, tuple[Callable[..., Any], dict[str, Any], tuple[OperationRule, ...], tuple[str, ...]]] = {
    "a number beside the tensor": (lambda x: opaque.scaled_exp(x, 2.0), ONE, (opaque.scaled_exp_rule,), TWICE),
    "a default that is left out": (opaque.scaled_exp, ONE, (opaque.scaled_exp_rule,), TWICE),
    "two results, keyword arguments": (
        lambda x, y: opaque.polar(x, y, degree=3, flip=True), TWO, (opaque.polar_rule,), TWICE,
    ),
    "one of two results": (lambda x, y: opaque.polar(x, y)[1] * x, TWO, (opaque.polar_rule,), TWICE),
    "lists of tensors and numbers": (
        lambda x, y: opaque.weighted_sum([x, y, x], [2.0, -0.5, 0.25]), TWO, (opaque.weighted_sum_rule,), REVERSE,
    ),
    "a list of results": (Halves.apply, ONE, (opaque.halves_rule,), REVERSE),
    "it writes to memory that was made for it": (opaque.ExpInto.apply, ONE, (opaque.exp_into_rule,), REVERSE),
    "it writes to its argument and returns it": (Scale.apply, ONE, (opaque.scale_rule,), REVERSE),
    "an opaque backward pass": (opaque.tanh, ONE, opaque.tanh_rules, REVERSE),
    "forward mode, without Python": (opaque.Cube.apply, ONE, (opaque.cube_rule,), BOTH_WAYS),
    "inside of other operations": (
        lambda x: torch.log1p(opaque.scaled_exp(torch.sin(x)).view(-1, 1)).sum(), ONE, (opaque.scaled_exp_rule,), TWICE,
    ),
    "branches in the rule": (
        lambda x: opaque.scaled_exp(x, 0.5),
        ONE,
        (rule(opaque.scaled_exp, lambda x, s: s * torch.exp(x) if x.sum() > 0 else s / torch.exp(-x)),),
        REVERSE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_rule_and_a_right_derivative(name: str):
    function, inputs, rules, modes = RIGHT[name]
    results = checked(function, inputs, *rules, modes=modes)
    assert verdicts(results) == {mode: {Verdict.PROVED} for mode in ("value", *modes)}
    assert {r.dtype for r in results} == {"float64", "float32"}


def test_at_given_inputs():
    assert check(lambda x: opaque.scaled_exp(x, 2.0), X, rules=[opaque.scaled_exp_rule], modes=REVERSE).proved


def test_a_custom_op_in_plain_pytorch_needs_none():
    @torch.library.custom_op("opaque::cubed", mutates_args=())
    def cubed(x: Tensor) -> Tensor:
        return x**3

    cubed.register_autograd(
        lambda ctx, g: 3 * ctx.saved_tensors[0] ** 2 * g,
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    )
    assert verdicts(checked(cubed, ONE)) == {"reverse": {Verdict.PROVED}}


def test_a_custom_op_in_plain_pytorch_that_writes_needs_none():
    @torch.library.custom_op("opaque::square_into", mutates_args={"out"})
    def square_into(x: Tensor, out: Tensor) -> None:
        out.copy_(x * x)

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            out = torch.empty_like(x)
            square_into(x, out)
            return out

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return 2 * ctx.saved_tensors[0] * grad

    assert verdicts(checked(Square.apply, ONE)) == {"reverse": {Verdict.PROVED}}


def test_a_rule_comes_before_what_is_known_of_an_operation():
    """Also of PyTorch's own: whoever gives one is told if it is not what the operation computes."""
    doubled = rule("aten::sin.default", lambda x: 2 * torch.cos(x))
    assert verdicts(checked(torch.sin, ONE, doubled)) == {"value": {Verdict.ERROR}, "reverse": {Verdict.ERROR}}
    same = rule(torch.ops.aten.sin.default, lambda x: torch.cos(x - torch.pi / 2))
    assert checked(torch.sin, {"x": Float[Tensor, "2"]}, same, examples=5).passed


def test_what_is_meant_as_a_constant_stays_one():
    def half_frozen(x: Tensor) -> Tensor:
        with torch.no_grad():
            weight = opaque.scaled_exp(x)
        return weight * x + opaque.scaled_exp(x.detach()) * x

    (result,) = (r for r in checked(half_frozen, ONE, opaque.scaled_exp_rule, dtypes="float64") if r.mode == "reverse")
    assert (result.verdict, result.gradient) == (Verdict.PROVED, "2*exp(x)")


def test_a_kernel_at_a_size_that_no_trace_can_follow():
    large = torch.linspace(-3, 3, 10_000)
    results = check(
        opaque.ExpInto.apply,
        large,
        inputs=ONE,
        reference=lambda x: opaque.scaled_exp(x, 1.0),
        rules=[opaque.scaled_exp_rule],
        modes=REVERSE,
        dtypes="float32",
        examples=5,
        seed=1,
    )
    assert verdicts(results) == {"value": {Verdict.PROVED}, "reverse": {Verdict.PROVED}}


def four_times(x):
    return 4 - 4 * torch.tanh(x) ** 2


def test_an_accumulation_has_the_rules_of_both():
    first = case(opaque.tanh, name="first", inputs=ONE, rules=opaque.tanh_rules)
    both = case(lambda x: 3 * opaque.tanh(x), name="both", inputs=ONE, preceded_by=first, gradient=four_times)
    assert both.rules == opaque.tanh_rules
    settings = Settings(examples=10, seed=1, database=False)
    assert {r.verdict for r in declared.run(both, settings, case_id="both", location="")} == {Verdict.PROVED}


# ---------------------------------------------------------------------------------------------------------------------
# What is wrong
# ---------------------------------------------------------------------------------------------------------------------


def test_a_wrong_backward_pass_is_the_derivatives_fault(snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    results = checked(opaque.square, ONE, opaque.square_rule, dtypes="float64")
    assert verdicts(results) == {"value": {Verdict.PROVED}, "reverse": {Verdict.WRONG}}
    assert message(results) == snapshot


def wrong_exp(x, scale):
    return scale * torch.expm1(x)


def test_a_wrong_rule_is_no_fault_of_the_derivative(snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch):
    """And is named as such in every mode, though its derivative is the right one."""
    monkeypatch.chdir(ROOT)
    results = checked(opaque.scaled_exp, ONE, rule(opaque.scaled_exp, wrong_exp), modes=TWICE)
    assert verdicts(results) == {mode: {Verdict.ERROR} for mode in ("value", *TWICE)}
    assert message(results) == snapshot


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
@pytest.mark.parametrize("exponent", [1, 3])
def test_a_wrong_rule_that_is_right_at_the_only_input(values: list[float], exponent: int):
    """x² and x³ have the same value at 0 and 1, and different derivatives."""
    given = rule(opaque.square, lambda x: x**exponent)
    results = check(opaque.square, torch.tensor(values, dtype=torch.float64), rules=[given], modes=REVERSE)
    assert {r.reason.partition(":")[0] for r in results} == {"wrong rule"}


def test_a_wrong_rule_that_is_right_at_the_first_input_drawn():
    (result,) = (
        r
        for r in checked(opaque.square, ONE, rule(opaque.square, lambda x: x**3), dtypes="float64")
        if r.mode == "reverse"
    )
    assert result.verdict is Verdict.ERROR
    assert "is 1.0 by the operation and -1.0 by its rule, at x = [-1.0]" in result.reason


def test_the_value_is_looked_at_though_only_a_derivative_is_asked_for():
    squared = case(opaque.square, name="squared", inputs=ONE, rules=[rule(opaque.square, lambda x: x**3)])
    settings = Settings(examples=10, seed=1, database=False, only=frozenset({("reverse", "float64")}))
    (result,) = declared.run(squared, settings, case_id="squared", location="")
    assert result.verdict is Verdict.ERROR
    assert result.reason.startswith("wrong rule: ")


@pytest.mark.parametrize(
    ("stated", "complaint"),
    [
        (lambda x: x[:1] ** 2, "gives float64 of shape [1] for its result, where the operation gives float64 of sha"),
        (lambda x: (x * x).float(), "gives float32 of shape [3] for its result, where the operation gives float64"),
        (lambda _: None, "gives nothing for its result"),
        (lambda x: (x, x), "gives (float64 of shape [3], float64 of shape [3]) for its result"),
        (lambda _: 1.0, "gives 1.0 (float) for its result"),
        (lambda _: 1 / 0, "raises ZeroDivisionError: division by zero, at x = [0.5, -1.25, 3.0]"),
        (lambda x: opaque.square(x), "calls opaque::square itself: it says nothing"),
    ],
)
def test_a_rule_that_gives_something_else(stated: Callable[..., Any], complaint: str):
    results = check(opaque.square, X, rules=[rule("opaque::square", stated)], modes=REVERSE)
    assert verdicts(results) == {"value": {Verdict.ERROR}, "reverse": {Verdict.ERROR}}
    assert all(complaint in r.reason and "the rule for opaque::square" in r.reason for r in results)


def test_a_rule_of_several_results_that_gives_one():
    results = checked(lambda x, y: opaque.polar(x, y)[0], TWO, rule(opaque.polar, lambda x, y, degree, flip: x))
    assert all("where the operation returns (float64 of shape" in r.reason for r in results if r.dtype == "float64")


def test_which_of_several_results_is_wrong_and_what_is_written():
    swapped = rule(opaque.polar, lambda x, y, degree, flip: (x**degree + y * y, -x * y * (-1 if flip else 1)))
    reasons = {r.reason for r in checked(opaque.polar, TWO, swapped, dtypes="float64")}
    assert all("its result 2 of 2 at [0] is" in reason for reason in reasons)
    forgetful = rule(opaque.exp_into, lambda out, x: out.copy_(x))
    reasons = {r.reason for r in checked(opaque.ExpInto.apply, ONE, forgetful, dtypes="float64")}
    assert all(
        "what it writes to out at [0] is 1.0 by the operation and 0.0 by its rule" in reason for reason in reasons
    )


def test_forward_mode_of_a_custom_op_is_zero_and_says_why():
    """PyTorch drops the tangent, and says nothing of it."""
    results = checked(opaque.scaled_exp, ONE, opaque.scaled_exp_rule, modes="forward", dtypes="float64")
    assert verdicts(results) == {"value": {Verdict.PROVED}, "forward": {Verdict.WRONG}}
    finding = results[-1].finding
    assert finding.autograd == 0
    assert any("drops the tangent of opaque::scaled_exp without a word" in note for note in finding.notes)


def test_forward_mode_of_its_backward_pass_is_not_implemented():
    results = checked(opaque.scaled_exp, ONE, opaque.scaled_exp_rule, modes="forward-over-reverse", dtypes="float64")
    assert results[-1].verdict is Verdict.NOT_AVAILABLE
    assert "You must implement the jvp function" in results[-1].reason


# ---------------------------------------------------------------------------------------------------------------------
# What is missing
# ---------------------------------------------------------------------------------------------------------------------

MISSING: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "NumPy inside of a custom_op": (lambda x: opaque.scaled_exp(x, 2.0), ONE),
    "several results and keyword arguments": (lambda x, y: opaque.polar(x, y)[0], TWO),
    "it writes": (opaque.ExpInto.apply, ONE),
    "no Python at all": (opaque.Cube.apply, ONE),
    "a list of results": (Halves.apply, ONE),
    "in place": (Scale.apply, ONE),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_rule_is_shown_as_it_is_to_be_written(name: str, snapshot: SnapshotAssertion):
    function, inputs = MISSING[name]
    results = check(function, inputs=inputs, modes=REVERSE, dtypes="float64", examples=5, seed=1, name="f")
    assert verdicts(results) == {"reverse": {Verdict.UNSUPPORTED}}
    assert message(results) == snapshot


@pytest.mark.parametrize("name", MISSING)
def test_what_is_shown_can_be_pasted(name: str):
    """It is a rule, which says something else than the operation until it is filled in."""
    function, inputs = MISSING[name]
    (result,) = check(function, inputs=inputs, modes=REVERSE, dtypes="float64", examples=5, seed=1)
    names: dict[str, Any] = {"__name__": "pasted"}
    exec("\n".join(result.details[1:]), names)  # noqa: S102 - it is there to be executed
    (given,) = (value for value in names.values() if isinstance(value, OperationRule))
    results = checked(function, inputs, given, dtypes="float64", examples=5)
    assert all("the rule for opaque::" in r.reason for r in results)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x * OPS.length(x.detach()), "returns float computed from the differentiated inputs"),
        (lambda x: x * OPS.noise(x.detach()), "it draws random numbers inside its kernel"),
    ],
)
def test_where_there_can_be_none_the_reason_stays(function: Callable[..., Any], reason: str):
    for result in checked(function, ONE, dtypes="float64", examples=5):
        assert reason in result.reason
        assert not result.details


def test_a_part_that_pytorch_makes_an_operation_of_is_not_what_is_asked_for():
    (result,) = checked(lambda x: torch.special.zeta(x + 5, x + 2), ONE, dtypes="float64", examples=5)
    assert result.reason.startswith("prims.zeta.default: ")
    assert '@rule("aten::special_zeta.default")' in result.details


def test_memory_that_is_written_to_behind_pytorchs_back_is_not_taken_for_a_constant():
    """As C++ does that gets a pointer: what the operation's Python function says of the memory is not what is in it."""

    @torch.library.custom_op("opaque::by_pointer", mutates_args=())
    def by_pointer(x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        memory = torch.utils.dlpack.from_dlpack(torch._C._to_dlpack(out))
        memory.numpy()[...] = 2 * torch.utils.dlpack.from_dlpack(torch._C._to_dlpack(x)).numpy()
        return out

    by_pointer.register_autograd(lambda _, g: 2 * g)
    assert checked(by_pointer, ONE, rule(by_pointer, lambda x: 2 * x)).proved
    for modes in ("reverse", "forward"):
        (result,) = checked(by_pointer, ONE, modes=modes, dtypes="float64")
        assert result.verdict is Verdict.UNSUPPORTED
        assert "its Python function can't be followed" in result.reason
        assert '@rule("opaque::by_pointer")' in result.details


# ---------------------------------------------------------------------------------------------------------------------
# How it is said
# ---------------------------------------------------------------------------------------------------------------------


def same(*args, **kwargs):
    return args, kwargs


@pytest.mark.parametrize(
    ("operation", "function", "complaint"),
    [
        (
            "opaque::scaled_expp",
            same,
            "registered as 'opaque::scaled_expp'; did you mean 'opaque::scaled_exp'? Names are",
        ),
        ("opaque.cube", same, "registered as 'opaque.cube'; did you mean 'opaque::cube'?"),
        ("opaque::cube.fast", same, "opaque::cube has no such overload as 'fast'; name one of 'opaque::cube.default'"),
        ("aten::sin", same, "aten::sin has several overloads; name one of 'aten::sin.default', 'aten::sin.out'"),
        ("mine::qqqqqqqq", same, "no operation is registered as 'mine::qqqqqqqq'; Names are"),
        (torch.sin, same, "rule takes an operation"),
        ("opaque::first", same, "a view needs no rule"),
        ("opaque::length", same, "returns float (opaque::length(Tensor x) -> float)"),
        ("opaque::noise", same, "draws random numbers, and a rule would draw others"),
        ("opaque::plain", same, "PyTorch runs opaque::plain as other operations"),
        (
            "opaque::cube",
            lambda x: x,
            "does not take its arguments (got an unexpected keyword argument 'by'); write def",
        ),
        (opaque.polar, lambda x: x, "write def <lambda>(x, y, *, degree=2, flip=False)"),
        ("opaque::cube", 3, "3 is not a function of the operation's arguments"),
    ],
)
def test_what_can_be_no_rule_is_refused_when_it_is_said(operation: Any, function: Any, complaint: str):
    with pytest.raises(DeclarationError) as raised:
        rule(operation)(function)
    assert complaint in str(raised.value)


def test_an_operation_is_named_or_handed_over():
    names = [opaque.scaled_exp, OPS.scaled_exp, OPS.scaled_exp.default, "opaque::scaled_exp"]
    assert {rule(name, wrong_exp).operation for name in names} == {"opaque::scaled_exp"}
    assert rule(torch.ops.aten.add.Scalar, same).operation == "aten::add.Scalar"


def test_rules_are_values_of_a_case():
    mine = case(inputs=ONE, rules=[opaque.square_rule])(lambda x: opaque.square(x))
    assert mine.rules == (opaque.square_rule,)
    with pytest.raises(DeclarationError, match="is declared already: say rules= where it is"):
        check(mine, rules=[opaque.square_rule])
    with pytest.raises(DeclarationError, match="rules= has two rules for opaque::square, "):
        case(lambda x: x, inputs=ONE, rules=[opaque.square_rule, rule(opaque.square, torch.abs)])
    no_rule: Any = torch.square
    with pytest.raises(DeclarationError, match=r"rules= takes what diffcheck.rule gives, .* not <built-in"):
        check(opaque.square, X, rules=[no_rule])
    with pytest.raises(AttributeError):
        opaque.square_rule.operation = "aten::sin"  # type: ignore[misc]


def test_a_rule_is_not_called_in_its_operations_place():
    with pytest.raises(TypeError, match="the rule for opaque::square is no function"):
        opaque.square_rule(X)


def test_asserting_and_gradchecking_with_rules():
    assert_derivatives(opaque.scaled_exp, X, rules=[opaque.scaled_exp_rule], modes=REVERSE, strict=True)
    point = X.clone().requires_grad_()
    assert gradcheck(opaque.scaled_exp, (point,), rules=[opaque.scaled_exp_rule])
    assert gradgradcheck(opaque.scaled_exp, (point,), rules=[opaque.scaled_exp_rule])
    assert not gradcheck(opaque.square, (point,), rules=[opaque.square_rule], raise_exception=False)
    with pytest.raises(GradcheckError, match="wrong rule"):  # False would say that the derivative is wrong
        gradcheck(opaque.square, (point,), rules=[rule(opaque.square, torch.abs)], raise_exception=False)
    with pytest.raises(GradcheckError, match="A rule for it takes a few lines"):
        gradcheck(opaque.square, (point,))


def test_a_case_shows_its_rules_formula():
    mine = case(lambda x: opaque.scaled_exp(x, 2.0), inputs=ONE, name="f", rules=[opaque.scaled_exp_rule])
    assert "∂/∂x[0] = 2*exp(x[0])" in mine.show()
    with pytest.raises(Unsupported, match="can't be followed"):
        case(lambda x: opaque.scaled_exp(x, 2.0), inputs=ONE, name="f").show()
