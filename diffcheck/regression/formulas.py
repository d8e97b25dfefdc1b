"""A pipeline as formulas: a batch's loss, its gradient, the update in closed form, the update that was executed.

One trace per number of rows serves every batch of that size, every value of the data and parameters, and every learning
rate: all of them are symbols.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import ONE, ZERO, Expr
from diffcheck.derive import chain_rule
from diffcheck.errors import CaseFailure, DeclarationError, Unsupported
from diffcheck.prove.identity import Proof, Status, prove
from diffcheck.regression.training import make_optimizer, parameters
from diffcheck.rules import table
from diffcheck.rules.registry import elements
from diffcheck.trace.shadow import MANTISSA_BITS, Budget, Shadows
from diffcheck.trace.storages import symbols_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diffcheck.regression.declare import Regression

_TRACED_RATE: Final = 0.0271828182859
"""The learning rate of a traced step: a number that occurs nowhere else, so that it can be read as a symbol."""
RATE: Final = graph.symbol("lr")
SEED: Final = graph.symbol("dL")
BUDGET: Final = Budget()


@dataclass(frozen=True, slots=True)
class Sizes:
    """The shapes of one row of the data."""

    features: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BatchFormulas:
    """The loss of a batch of some size, as a function of parameters θ, features X and labels y."""

    rows: int
    theta: tuple[Expr, ...]
    features: tuple[Expr, ...]
    labels: tuple[Expr, ...]
    outputs: tuple[Expr, ...]
    """What the network returns, row by row."""
    loss: Expr
    gradient: tuple[Expr, ...]
    """∇L, derived from the loss; nothing of autograd's is in it."""
    hessian: tuple[tuple[Expr, ...], ...]
    """H, free of θ: L is quadratic."""
    right: tuple[Expr, ...]
    """b = -∇L(0), so that ∇L = Hθ - b."""

    @property
    def data(self) -> tuple[str, ...]:
        """The names of X's and y's entries."""
        return tuple(str(e.payload) for e in (*self.features, *self.labels))


@dataclass(frozen=True, slots=True)
class StepFormulas:
    """One step of training: what it should write to the parameters, and what it wrote."""

    batch: BatchFormulas
    variables: tuple[str, ...]
    """θ, X, y, the learning rate, what `.grad` held before."""
    reference: tuple[Expr, ...]
    """θ - lr·∇L."""
    executed: tuple[Expr, ...]
    proof: Proof


def parameter_names(net: nn.Module) -> list[str]:
    """Short names of the trained parameters: `weight` instead of `0.weight`, where that is unambiguous."""
    full = [name for name, p in net.named_parameters() if p.requires_grad]
    short = [name.rpartition(".")[2] for name in full]
    return short if len(set(short)) == len(short) else [name.replace(".", "_") for name in full]


def batch_formulas(declared: Regression, net: nn.Module, sizes: Sizes, rows: int, dtype: torch.dtype) -> BatchFormulas:
    """Traces the loss of a batch.

    Raises:
        DeclarationError: The model is not linear in its parameters, or the loss is not quadratic.
        Unsupported: An operation has no rule, or the loss depends on the data by more than arithmetic.
    """
    shadows = Shadows(table(), MANTISSA_BITS[dtype], BUDGET)
    net = copy.deepcopy(net)
    features, labels, x, y = _attached_data(shadows, sizes, rows, dtype)
    theta = _attach_parameters(shadows, net)
    with shadows, _case_errors(declared):
        output = net(features)
        value: Any = declared.loss(output, labels)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise CaseFailure(f"the loss of {declared.name!r} is no single number, but {value!r}")
        outputs, (loss,) = tuple(shadows.read(output).flat), shadows.read(value).flat
    if shadows.guards:
        raise Unsupported(
            "a condition on values", f"the loss of {declared.name!r} takes different paths for different data"
        )
    names = [str(e.payload) for e in theta]
    _refuse_unless_free(
        [chain_rule.pull_back([o], [ONE], theta) for o in outputs], theta, names,
        "the model is not linear in its parameters", "the derivative of its output in {name}",
    )  # fmt: skip
    gradient = chain_rule.pull_back([loss], [ONE], theta)
    hessian = [chain_rule.pull_back([g], [ONE], theta) for g in gradient]
    _refuse_unless_free(
        hessian, theta, names, "the loss is not quadratic in the parameters", "its second derivative in {name}"
    )
    at_zero: dict[Expr, Expr] = dict.fromkeys(theta, ZERO)
    return BatchFormulas(
        rows=rows,
        theta=theta,
        features=x,
        labels=y,
        outputs=outputs,
        loss=loss,
        gradient=tuple(gradient),
        hessian=tuple(tuple(graph.substitute(row, at_zero)) for row in hessian),
        right=tuple(graph.negate(e) for e in graph.substitute(gradient, at_zero)),
    )


def _refuse_unless_free(
    derivatives: Sequence[Sequence[Expr]], theta: Sequence[Expr], names: Sequence[str], what: str, which: str
) -> None:
    """Refuses derivatives that depend on the parameters: their own derivatives must vanish identically."""
    unknown = set(names)
    for row in derivatives:
        for name, entry in zip(names, row, strict=True):
            if not graph.symbols([entry]) & unknown:
                continue
            slopes = chain_rule.pull_back([entry], [ONE], theta)
            proof = prove(slopes, [ZERO] * len(slopes))
            if proof.status is Status.PROVED:
                continue
            by = names[proof.position or 0]
            how = "still depends on" if proof.status is Status.REFUTED else "could not be shown to be free of"
            raise DeclarationError(
                f"{what}: {which.format(name=name)} {how} {by}. There is no closed form to check training against; "
                "use a model such as nn.Linear on any features, with nn.MSELoss()"
            )


def step_formulas(
    declared: Regression, net: nn.Module, sizes: Sizes, batch: BatchFormulas, dtype: torch.dtype
) -> StepFormulas:
    """Traces a whole step, the optimizer's update included. It is not the first one: `.grad` may hold something.

    Raises:
        Unsupported: An operation has no rule, or the optimizer is not plain SGD.
    """
    bits = MANTISSA_BITS[dtype]
    net = copy.deepcopy(net)
    optimizer = make_optimizer(declared, net, _TRACED_RATE)
    shadows = Shadows(table(), bits, BUDGET)
    features, labels, _, _ = _attached_data(shadows, sizes, batch.rows, dtype)
    stale: list[Expr] = []
    with _case_errors(declared):
        declared.step(net, declared.loss, optimizer, features, labels)
        theta = _attach_parameters(shadows, net)
        for name, parameter in zip(parameter_names(net), parameters(net), strict=True):
            cells = symbols_for(f"{name}.grad", tuple(parameter.shape))
            stale.extend(cells.flat)
            if parameter.grad is not None and bool(parameter.grad.any()):
                shadows.attach(parameter.grad, cells)
        with shadows, _Phases(shadows):
            declared.step(net, declared.loss, optimizer, features, labels)
            written = [e for p in parameters(net) for e in shadows.read(p).flat]
    # In a narrower dtype the kernel rounds the learning rate first.
    rate = RATE if bits == MANTISSA_BITS[torch.float64] else graph.rounded(RATE, bits)
    traced = Fraction(repr(_TRACED_RATE))
    written = graph.substitute(written, {SEED: ONE})
    executed = graph.substitute(written, {graph.constant(traced): rate, graph.constant(-traced): graph.negate(rate)})
    reference = [t - rate * g for t, g in zip(theta, batch.gradient, strict=True)]
    proof = prove(executed, reference)
    if shadows.guards and proof.status is Status.PROVED:
        proof = Proof(Status.UNDECIDED, 0, "the step takes different paths for different data")
    variables = (*theta, *batch.features, *batch.labels, RATE, *stale)
    return StepFormulas(batch, tuple(str(e.payload) for e in variables), tuple(reference), tuple(executed), proof)


def additivity(batch: BatchFormulas, row: BatchFormulas) -> str | None:
    """How the loss of a batch is made of its rows' losses, for all data: "mean", "sum", or None if by neither."""
    width, depth = len(row.features), len(row.labels)
    terms = []
    for i in range(batch.rows):
        swap = dict(zip(row.features, batch.features[i * width : (i + 1) * width], strict=True))
        swap |= dict(zip(row.labels, batch.labels[i * depth : (i + 1) * depth], strict=True))
        terms.extend(graph.substitute([row.loss], swap))
    total = graph.total(terms)
    if prove([batch.loss], [total / graph.constant(batch.rows)]).status is Status.PROVED:
        return "mean"
    return "sum" if prove([batch.loss], [total]).status is Status.PROVED else None


def _attached_data(
    shadows: Shadows, sizes: Sizes, rows: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, tuple[Expr, ...], tuple[Expr, ...]]:
    """Features and labels with symbols beside them. The numbers are any: all entries differ, none is 0 or 1."""
    made = []
    for name, shape in (("X", (rows, *sizes.features)), ("y", (rows, *sizes.labels))):
        count = int(torch.Size(shape).numel())
        tensor = (torch.arange(count, dtype=torch.float64) * 0.37 % 1.9 - 0.93).to(dtype).reshape(shape)
        cells = symbols_for(name, shape)
        shadows.attach(tensor, cells)
        made.append((tensor, tuple(cells.flat)))
    (features, x), (labels, y) = made
    return features, labels, x, y


def _attach_parameters(shadows: Shadows, net: nn.Module) -> tuple[Expr, ...]:
    theta: list[Expr] = []
    for name, parameter in zip(parameter_names(net), parameters(net), strict=True):
        cells = symbols_for(name, tuple(parameter.shape))
        shadows.attach(parameter, cells)
        theta.extend(cells.flat)
    return tuple(theta)


class _Phases(TorchFunctionMode):
    """Tells shadow memory when a training step's backward pass begins."""

    def __init__(self, shadows: Shadows) -> None:
        super().__init__()
        self._shadows = shadows

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.backward:
            self._shadows.begin_backward()
            if len(args) == 1 and kwargs.get("gradient") is None:
                # The 1 that autograd starts from, as a symbol: what is computed from it, a third, stays a third.
                seed = torch.ones_like(args[0]).detach()
                self._shadows.attach(seed, elements([SEED] * seed.numel(), tuple(seed.shape)))
                kwargs = kwargs | {"gradient": seed}
        return func(*args, **kwargs)


class _case_errors:  # noqa: N801 - used as a context manager
    """Whatever the declared functions raise names the declaration."""

    def __init__(self, declared: Regression) -> None:
        self._name = declared.name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from diffcheck.errors import DiffcheckError

        if error is None or isinstance(error, DiffcheckError) or not isinstance(error, Exception):
            return
        text = (str(error).strip().splitlines() or [""])[0]
        raise CaseFailure(f"{self._name!r} raises {type(error).__name__}: {text}") from error
