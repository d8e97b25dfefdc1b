"""What a shadow follows: views, writes, frozen parts, what Python asks for; and what it refuses."""

from __future__ import annotations

import signal
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from diffcheck import case
from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr, symbol
from diffcheck.declare.case import Case
from diffcheck.errors import BudgetExceeded, Unsupported
from diffcheck.prove.identity import Status, prove
from diffcheck.rules import table
from diffcheck.trace.budget import Budget
from diffcheck.trace.shadow import Shadows
from diffcheck.trace.storages import exact_constants, symbols_for
from diffcheck.trace.tracer import Trace, trace
from tests.support.loaded import real
from tests.support.reference import node_value

VALUES = torch.tensor([[0.3, -1.2, 2.5], [1.7, 0.6, -0.4]], dtype=torch.float64)


def traced(function: Callable[[Tensor], Any], mode: str = "reverse", x: Tensor = VALUES, **budget: Any) -> Trace:
    """A function of one tensor, traced at given values."""
    axes = " ".join(str(n) for n in x.shape)
    it: Case = case(function, inputs={"x": real(axes)}, name="it")
    return trace(it, mode, {"x": x}, lambda like: [torch.ones_like(t) for t in like], Budget(**budget)).trace


def value(node: Expr, x: Tensor = VALUES) -> float:
    mpmath.mp.dps = 30
    entries = symbols_for("x", tuple(x.shape)).flat
    at = {str(s.payload): mpmath.mpf(v) for s, v in zip(entries, x.reshape(-1).tolist(), strict=True)}
    return float(node_value(node, at))


WINDOWS: dict[str, Callable[[Tensor], Tensor]] = {
    "transpose": lambda x: x.T,
    "row": lambda x: x[1],
    "column": lambda x: x[:, 1],
    "strides": lambda x: x.reshape(-1)[::2],
    "flattened": lambda x: x.view(6),
    "of a transpose": lambda x: x.T[1:],
    "diagonal": lambda x: x.diagonal(),
    "expanded": lambda x: x[:, :1].expand(2, 4),
    "as strided": lambda x: torch.as_strided(x, (3, 2), (1, 2), 1),
    "unfolded": lambda x: x.unfold(1, 2, 1),
    "squeezed": lambda x: x[None, :, None].squeeze(),
    "permuted": lambda x: x[None].permute(2, 0, 1),
    "split": lambda x: torch.cat([p * (i + 1) for i, p in enumerate(x.split(2, 1))], 1),
    "unbound": lambda x: torch.stack(x.unbind(1)[::-1]),
    "moved": lambda x: x.movedim(0, 1),
    "flipped": lambda x: x.flip(0),
    "empty": lambda x: torch.cat([x[:0], x]),
    "reshaped copy": lambda x: x.T.reshape(2, 3),
    "contiguous": lambda x: x.T.contiguous().view(-1),
}  # fmt: skip


@pytest.mark.parametrize("name", WINDOWS)
def test_a_view_is_a_window_on_its_storage(name: str):
    function = WINDOWS[name]
    found = traced(lambda x: function(x) * 1)
    assert [value(node) for node in found.outputs] == pytest.approx(function(VALUES).reshape(-1).tolist())
    assert prove(found.executed, found.reference).status is Status.PROVED


def in_place_through_a_row(x: Tensor) -> Tensor:
    y = x.clone()
    y[1].mul_(3)
    return y


def in_place_through_a_transpose(x: Tensor) -> Tensor:
    y = x.clone()
    y.T[0].add_(x[:, 2])
    y.T.mul_(2)
    return y


def seen_through_the_other_view(x: Tensor) -> Tensor:
    y = x.clone()
    row, column = y[0], y[:, 0]
    row.exp_()
    return column * row[:2]


def written_by_index(x: Tensor) -> Tensor:
    y = torch.zeros(2, 3, dtype=x.dtype)
    y[0, 1] = x[1, 0]
    y[1] = x[0] * 2
    return y * y


def written_by_mask(x: Tensor) -> Tensor:
    y = x.clone()
    y[x < 0] = 5.0
    return y * x


def copied_into(x: Tensor) -> Tensor:
    y = torch.empty(3, 2, dtype=x.dtype)
    y.copy_(x.T)
    y.sub_(y.sum())
    return y


def swapped(x: Tensor) -> Tensor:
    y = x.clone()
    y[0], y[1] = y[1].clone(), y[0].clone()
    return y * torch.arange(6.0, dtype=x.dtype).view(2, 3)


def out_argument(x: Tensor) -> Tensor:
    with torch.no_grad():
        y = torch.empty_like(x)
        torch.mul(x, 2, out=y)
    return y * x


def overlapping(x: Tensor) -> Tensor:
    y = x.reshape(-1).clone()
    y[1:] = y[:-1].clone() + y[1:]
    return y


WRITES = [in_place_through_a_row, in_place_through_a_transpose, seen_through_the_other_view, written_by_index,
          written_by_mask, copied_into, swapped, out_argument, overlapping]  # fmt: skip


@pytest.mark.parametrize("function", WRITES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_a_write_is_seen_through_every_view(function: Callable[[Tensor], Tensor], mode: str):
    if function is out_argument and mode == "forward":
        mode = "reverse"  # PyTorch's forward mode has no out=
    found = traced(function, mode)
    assert [value(node) for node in found.outputs] == pytest.approx(function(VALUES.clone()).reshape(-1).tolist())
    assert prove(found.executed, found.reference).status is Status.PROVED


# ---------------------------------------------------------------------------------------------------------------------
# Frozen parts
# ---------------------------------------------------------------------------------------------------------------------

X0 = symbol("x[0]")
POINT = torch.tensor([1.5], dtype=torch.float64)


def no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        u = x * x
    return u * x


def no_grad_view(x: Tensor) -> Tensor:
    with torch.no_grad():
        u = x.view(1)
    return u * x


def detached_view_of_a_view(x: Tensor) -> Tensor:
    return x.detach().view(1, 1).T[0] * x


def data(x: Tensor) -> Tensor:
    return (x * x).data * x


def enabled_again(x: Tensor) -> Tensor:
    with torch.no_grad():
        frozen = x * x
        with torch.enable_grad():
            live = x * x
    return frozen * x + live * x


def decorated(x: Tensor) -> Tensor:
    return torch.no_grad()(lambda t: t * t)(x) * x


def requires_grad_off(x: Tensor) -> Tensor:
    return (x * x).detach().requires_grad_(False) * x


def detached_then_written(x: Tensor) -> Tensor:
    u = (x * x).detach()
    u.mul_(2)
    return u * x


FREEZING: list[tuple[Callable[[Tensor], Tensor], str, str]] = [
    (lambda x: (x * x).detach() * x, "x²", "x²"),
    (no_grad, "x²", "3x²"),
    (data, "x²", "x²"),
    (decorated, "x²", "3x²"),
    (requires_grad_off, "x²", "x²"),
    (enabled_again, "4x²", "6x²"),
    (detached_view_of_a_view, "x", "x"),
    (detached_then_written, "2x²", "2x²"),
    (no_grad_view, "x", "2x"),
    (lambda x: x * x * x, "3x²", "3x²"),
]
FORMULAS = {"x": X0, "2x": 2 * X0, "x²": X0 * X0, "2x²": 2 * X0 * X0, "3x²": 3 * X0 * X0, "4x²": 4 * X0 * X0,
            "6x²": 6 * X0 * X0}  # fmt: skip


@pytest.mark.parametrize(("function", "in_reverse", "in_forward"), FREEZING)
def test_what_freezes(function: Callable[[Tensor], Tensor], in_reverse: str, in_forward: str):
    """The reference says what autograd does: `detach` stops both modes, `no_grad` stops reverse mode only."""
    for mode, expected, seed in (("reverse", in_reverse, "dy[0]"), ("forward", in_forward, "dx[0]")):
        found = traced(function, mode, POINT)
        assert prove(found.reference, [FORMULAS[expected] * symbol(seed)]).status is Status.PROVED, mode
        assert prove(found.executed, found.reference).status is Status.PROVED, mode


class Square(torch.autograd.Function):
    """Autograd is off inside of its forward, and nothing is meant to be frozen by that."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """x², with a detour."""
        ctx.save_for_backward(x)
        y = x.detach() * x
        assert not torch.is_grad_enabled()
        return y * 1

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """2x · g."""
        return 2 * ctx.saved_tensors[0] * grads[0]


square = Square.apply  # as PyTorch's tutorial does it


@pytest.mark.parametrize("function", [lambda x: Square.apply(x), square], ids=["apply", "alias"])
def test_a_custom_functions_forward_is_not_frozen(function: Callable[[Tensor], Tensor]):
    found = traced(function, "reverse", POINT)
    assert prove(found.reference, [2 * X0 * symbol("dy[0]")]).status is Status.PROVED
    assert prove(found.executed, found.reference).status is Status.PROVED


def test_what_is_frozen_outside_stays_frozen_inside_of_a_custom_function():
    found = traced(lambda x: square(x.detach()) * x, "reverse", POINT)
    assert prove(found.reference, [X0 * X0 * symbol("dy[0]")]).status is Status.PROVED
    assert prove(found.executed, found.reference).status is Status.PROVED


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the alarm may ring in a finaliser
def test_no_mode_stays_in_force_when_the_time_runs_out():
    """The alarm and the budget ring at the same time: one of them may do so while the mode is being left."""
    for _ in range(5):
        with pytest.raises(BudgetExceeded):
            traced(sums_for_ever, seconds=0.1, operations=10**9)
        assert not _get_current_dispatch_mode_stack()
        assert not _get_current_function_mode_stack()
        if hasattr(signal, "getitimer"):
            assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


# ---------------------------------------------------------------------------------------------------------------------
# What Python asks for
# ---------------------------------------------------------------------------------------------------------------------


def by_if(x: Tensor) -> Tensor:
    return x * 2 if x.sum() > 0 else x * 3


def by_while(x: Tensor) -> Tensor:
    while x.norm() < 10:
        x = x * 2
    return x


def by_bool(x: Tensor) -> Tensor:
    return x * int(bool((x > 0).all()))


def by_item(x: Tensor) -> Tensor:
    return x * (2 if x[0, 0].item() > 0 else 3)


def by_float(x: Tensor) -> Tensor:
    return x * 2 if float(x[0, 0].detach()) < 1 else x


def by_tolist(x: Tensor) -> Tensor:
    return x * (2 if x.tolist()[0][1] < 0 else 3)


def by_max(x: Tensor) -> Tensor:
    return x if x.max() == x[0, 2] else -x


def by_nonzero(x: Tensor) -> Tensor:
    return x[x > 0] ** 2


def by_sorting(x: Tensor) -> Tensor:
    return x.reshape(-1).sort().values[:2]


@pytest.mark.parametrize(
    "function", [by_if, by_while, by_bool, by_item, by_float, by_tolist, by_max, by_nonzero, by_sorting],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_what_python_asks_for_is_a_guard(function: Callable[[Tensor], Tensor]):
    found = traced(function)
    assert found.guards
    for guard in found.guards:
        assert value(guard.selector) == guard.value
    assert prove(found.executed, found.reference).status is Status.PROVED


def test_guards_tell_paths_apart():
    up, down = traced(by_if), traced(by_if, x=-VALUES)
    assert (up.path, down.path) == ((True,), (False,))
    assert value(down.guards[0].selector) == 1


def test_a_condition_on_constants_is_no_guard():
    assert traced(lambda x: x * 2 if torch.ones(3).sum() > 0 else x).guards == ()
    assert traced(lambda x: x * 2 if x.detach().shape[0] == 2 else x).guards == ()


def test_printing_leaves_no_trace():
    assert traced(lambda x: (f"{x} {x!r} {x.sum():.3f}", x * 2)[1]).guards == ()


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: x * x.data_ptr(), "Tensor.data_ptr"),
        (lambda x: torch.special.bessel_j0(x), "prims.bessel_j0.default"),
        (lambda x: torch.linalg.det(torch.complex(x, x).reshape(-1)[:1, None]).abs(), "aten._linalg_det.default"),
        (lambda x: x.view(torch.int64).view(torch.float64), "view(dtype)"),
    ],
    ids=["data_ptr", "bessel", "complex", "bits"],
)  # fmt: skip
def test_what_can_not_be_followed_is_refused_by_name(function: Callable[[Tensor], Tensor], operation: str):
    with pytest.raises(Unsupported) as caught:
        traced(function)
    assert caught.value.operation.startswith(operation)
    assert caught.value.reason


@torch.library.custom_op("diffcheck_tests::cube", mutates_args=())
def cube(x: Tensor) -> Tensor:
    return x * x * x


def test_a_custom_operation_is_traced_through_its_python():
    found = traced(lambda x: cube(x.detach()) + x)
    expected = VALUES**3 + VALUES
    assert [value(node) for node in found.outputs] == pytest.approx(expected.reshape(-1).tolist())


# ---------------------------------------------------------------------------------------------------------------------
# Budgets, precisions, constants
# ---------------------------------------------------------------------------------------------------------------------


def sums_for_ever(x: Tensor) -> Tensor:
    y = x
    while True:
        y = y + x


@pytest.mark.parametrize(
    ("function", "budget", "message"),
    [
        (sums_for_ever, {"operations": 50}, "it ran more than 50 operations, the last one aten.add.Tensor"),
        (lambda x: x.repeat(20, 20), {"elements": 1000}, "aten.repeat.default made a tensor of 2,400 elements"),
        (sums_for_ever, {"seconds": 0.2, "operations": 10**9}, "ran for more than 0.2 seconds"),
    ],
    ids=["operations", "elements", "seconds"],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the alarm may ring in a finaliser
def test_a_budget_that_is_spent_is_said(function: Callable[[Tensor], Tensor], budget: dict[str, Any], message: str):
    with pytest.raises(BudgetExceeded, match=message.replace("(", r"\(")):
        traced(function, **budget)


def test_lower_precision_inside_is_marked():
    (node,) = traced(lambda x: x.float().double() * 2, x=POINT).outputs
    assert [n.payload for n in graph.topological([node]) if n.head == "rounded"] == [24]
    (node,) = traced(lambda x: x.to(torch.bfloat16).double(), x=POINT).outputs
    assert [n.payload for n in graph.topological([node]) if n.head == "rounded"] == [8]
    (node,) = traced(lambda x: x.double() * 2, x=POINT).outputs
    assert not [n for n in graph.topological([node]) if n.head == "rounded"]


def test_a_scalar_is_what_was_written_and_a_tensor_what_it_holds():
    (node,) = traced(lambda x: x * 0.1, x=POINT).outputs
    assert repr(node) == "mul(x[0], 1/10)"
    (node,) = traced(lambda x: x * torch.tensor([0.1], dtype=torch.float64), x=POINT).outputs
    assert repr(node) == "mul(x[0], 3602879701896397/36028797018963968)"
    (node,) = traced(lambda x: x + torch.full((1,), 0.1, dtype=torch.float64), x=POINT).outputs
    assert repr(node) == "add(x[0], 1/10)"


def test_conversions_to_whole_numbers_and_truth_values():
    found = traced(lambda x: (x > 0).double() * x + (x > 1).long() + (x != 0).to(x.dtype))
    expected = (VALUES > 0).double() * VALUES + (VALUES > 1).long() + 1
    assert [value(node) for node in found.outputs] == pytest.approx(expected.reshape(-1).tolist())


def test_constants_are_exact():
    (tenth,) = exact_constants(torch.tensor([0.1], dtype=torch.float32)).flat
    assert tenth.payload == Fraction(13421773, 2**27)
    assert [repr(e) for e in exact_constants(torch.tensor([True, False])).flat] == ["1", "0"]
    (number,) = exact_constants(torch.tensor([2 - 0.5j])).flat
    assert (number.re.payload, number.im.payload) == (2, Fraction(-1, 2))


def test_symbols_are_named_as_python_indexes():
    assert [str(e) for e in symbols_for("x", ()).flat] == ["x"]
    assert [str(e) for e in symbols_for("x", (2,)).flat] == ["x[0]", "x[1]"]
    assert [str(e) for e in symbols_for("w", (1, 2)).flat] == ["w[0,0]", "w[0,1]"]


def test_random_operations_are_named():
    shadows = Shadows(table(), 53)
    with shadows:
        torch.rand(3)
    assert shadows.random_operations == {"aten.rand.default"}


def test_a_storage_outlives_its_tensor_while_its_shadow_does():
    """Addresses of freed storages are used again: a new tensor must not meet an old shadow."""

    def many(x: Tensor) -> Tensor:
        total = x * 0
        for i in range(30):
            total = total + (x * i).exp().mul(0).add(torch.full_like(x, float(i)))
            del i
        return total

    found = traced(many, x=POINT)
    assert value(found.outputs[0], POINT) == pytest.approx(sum(range(30)))


def test_symbols_do_not_clash_with_arguments_called_like_cotangents():
    def it(y: Tensor, dy: Tensor) -> Tensor:
        return y * dy

    made: Case = case(it, inputs={"y": real("2"), "dy": real("2")})
    values = {"y": torch.ones(2, dtype=torch.float64), "dy": torch.ones(2, dtype=torch.float64)}
    found = trace(made, "reverse", values, lambda like: [torch.ones_like(t) for t in like]).trace
    assert len(set(found.variables)) == len(found.variables)
    assert prove(found.executed, found.reference).status is Status.PROVED
