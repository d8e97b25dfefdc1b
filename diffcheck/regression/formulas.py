"""A pipeline as formulas: a batch's loss, its gradient, the update in closed form, the update that was executed.

One trace per number of rows serves every batch of that size, every value of the data and parameters, and every learning
rate: all of them are symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any, Final

import numpy as np
import torch
from flint import arb, arb_mat
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import ONE, ZERO, Expr
from diffcheck.certify.balls import Selections
from diffcheck.certify.certifier import Certifier
from diffcheck.certify.compiler import Program
from diffcheck.certify.formats import MANTISSA_BITS, Format, format_of
from diffcheck.certify.judgement import Judgement
from diffcheck.certify.linear import column, error, identity, precision
from diffcheck.declare.case import Case, case
from diffcheck.derive import chain_rule
from diffcheck.differentiate.faults import case_errors
from diffcheck.errors import CaseFailure, DeclarationError, Unsupported
from diffcheck.modes import VALUE
from diffcheck.prove.identity import Proof, Status, prove
from diffcheck.regression.bounds import MAP_BITS, Update
from diffcheck.regression.declare import Regression
from diffcheck.regression.training import Step, make_data, make_model, make_optimizer, trained
from diffcheck.rules import table
from diffcheck.rules.registry import elements
from diffcheck.trace.shadow import Shadows
from diffcheck.trace.storages import symbols_for
from diffcheck.trace.tracer import Entry, trace
from diffcheck.verdict import Value

_TRACED_RATE: Final = 0.0271828182859
"""The learning rate of a traced step: a number that occurs nowhere else, so that it can be read as a symbol."""
_RATE: Final = graph.symbol("lr")
_SEED: Final = graph.symbol("dL")
_MODERATE: Final = 16.0
"""Beyond that, terms of a residual that cancel leave few of its digits, and training would have diverged."""


@dataclass(frozen=True, slots=True)
class BatchFormulas:
    """The loss of a batch of some size, as a function of parameters θ, features X and labels y."""

    rows: int
    shapes: Mapping[str, tuple[int, ...]]
    """Of all of these by name, in this order."""
    theta: tuple[Expr, ...]
    features: tuple[Expr, ...]
    labels: tuple[Expr, ...]
    loss: Expr
    gradient: tuple[Expr, ...]
    """∇L, derived from the loss; nothing of autograd's is in it."""
    hessian: tuple[tuple[Expr, ...], ...]
    """H, free of θ: L is quadratic."""
    right: tuple[Expr, ...]
    """b = -∇L(0), so that ∇L = Hθ - b."""
    design: tuple[tuple[Expr, ...], ...]
    """The network's derivative in θ, a row per output."""
    resting: tuple[Expr, ...]
    """What the network returns for θ = 0."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Of θ."""
        parameters = list(self.shapes.items())[:-2]
        return tuple(Entry(name, index) for name, shape in parameters for index in np.ndindex(shape))

    def values(self, numbers: Sequence[float], dtype: str) -> list[Value]:
        """θ, or θ, X and y, as they are shown."""
        values, left = [], list(numbers)
        for name, shape in self.shapes.items():
            if left:
                own, left = left[: prod(shape)], left[prod(shape) :]
                values.append(Value(name, shape, dtype, tuple(own)))
        return values

    @property
    def data(self) -> tuple[str, ...]:
        """The names of X's and y's entries."""
        return tuple(str(e.payload) for e in (*self.features, *self.labels))

    @property
    def target(self) -> tuple[Expr, ...]:
        """The labels, less what the network returns for θ = 0."""
        return tuple(label - o for label, o in zip(self.labels, self.resting, strict=True))

    @property
    def system(self) -> tuple[Expr, ...]:
        """H, row by row, and b."""
        return (*(e for row in self.hessian for e in row), *self.right)


def loss_case(declared: Regression, *, outputs: bool = False) -> Case:
    """The loss as an ordinary case: a function of parameters, features X and labels y.

    Args:
        declared: The pipeline.
        outputs: Whether it also returns what the network does.
    """
    nets = {d: make_model(declared, d) for d in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
    full = [name for name, p in nets[torch.float64].named_parameters() if p.requires_grad]
    axes = {name: list(map(str, p.shape)) for name, p in trained(nets[torch.float64]).items()}
    data = zip(("X", "y"), make_data(declared, torch.float64), strict=True)
    axes |= {name: ["rows", *map(str, tensor.shape[1:])] for name, tensor in data}

    def loss(*args: Any) -> Any:
        x, y = args[len(full) :]
        output = functional_call(nets[x.dtype], dict(zip(full, args, strict=False)), (x,))
        value: Any = declared.loss(output, y)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise CaseFailure(f"the loss of {declared.name!r} is no single number, but {value!r}")
        return (value, output) if outputs else value

    made = case(loss, inputs={name: Float[Tensor, " ".join(own)] for name, own in axes.items()}, name=declared.name)
    # Its line is ours, and would be taken for the user's.
    bounded = tuple(replace(a, lower=-_MODERATE, upper=_MODERATE) for a in made.arguments)
    return replace(made, arguments=bounded, file="")


def _numbers(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Any numbers for a trace: all entries differ, none is 0 or 1."""
    return (torch.arange(prod(shape), dtype=torch.float64) * 0.37 % 1.9 - 0.93).to(dtype).reshape(shape)


def batch_formulas(loss: Case, rows: int, dtype: torch.dtype) -> BatchFormulas:
    """Traces the loss of a batch of so many rows, by a case that returns the network's outputs, too.

    Raises:
        DeclarationError: The model is not linear in its parameters, or the loss is not quadratic.
        Unsupported: An operation has no rule, or the loss depends on the data by more than arithmetic.
    """
    shapes = {a.name: tuple(rows if x.text == "rows" else int(x.text) for x in a.axes) for a in loss.arguments}
    traced = trace(loss, VALUE, {n: _numbers(s, dtype) for n, s in shapes.items()}, lambda _: (), twice=False).trace
    if traced.guards:
        reason = f"the loss of {loss.name!r} takes different paths for different data"
        raise Unsupported("a condition on values", reason)
    depth, wide = prod(shapes["y"]), prod(shapes["X"])
    size = len(traced.inputs) - wide - depth
    theta, features, labels = traced.inputs[:size], traced.inputs[size : size + wide], traced.inputs[size + wide :]
    value, *outputs = traced.outputs
    slopes = [chain_rule.pull_back([o], [ONE], theta) for o in outputs]
    _refuse_unless_free(slopes, theta, "the model is not linear in its parameters: the derivative of its output in")
    gradient = chain_rule.pull_back([value], [ONE], theta)
    hessian = [chain_rule.pull_back([g], [ONE], theta) for g in gradient]
    _refuse_unless_free(hessian, theta, "the loss is not quadratic in the parameters: its second derivative in")
    at_zero: dict[Expr, Expr] = dict.fromkeys(theta, ZERO)
    upper = [graph.substitute(row, at_zero) for row in hessian]
    symmetric = tuple(tuple(upper[min(i, j)][max(i, j)] for j in range(size)) for i in range(size))
    right = tuple(graph.negate(e) for e in graph.substitute(gradient, at_zero))
    design = tuple(tuple(graph.substitute(row, at_zero)) for row in slopes)
    resting = tuple(graph.substitute(outputs, at_zero))
    known = rows, shapes, theta, features, labels, value, tuple(gradient)
    return BatchFormulas(*known, symmetric, right, design, resting)


def _refuse_unless_free(derivatives: Sequence[Sequence[Expr]], theta: Sequence[Expr], what: str) -> None:
    """Refuses derivatives that depend on the parameters: their own derivatives must vanish identically."""
    slopes = [s for row in derivatives for entry in row for s in chain_rule.pull_back([entry], [ONE], theta)]
    proof = prove(slopes, [ZERO] * len(slopes))
    if proof.status is Status.PROVED:
        return
    entry, by = divmod(proof.position or 0, len(theta))
    how = "still depends on" if proof.status is Status.REFUTED else "could not be shown to be free of"
    raise DeclarationError(
        f"{what} {theta[entry % len(theta)].payload} {how} {theta[by].payload}. There is no closed form to check "
        "training against; use a model such as nn.Linear on any features, with nn.MSELoss()"
    )


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


@dataclass(frozen=True)
class StepFormulas:
    """One step of training, for batches of one size."""

    batch: BatchFormulas
    fmt: Format
    """In which PyTorch computes."""
    variables: tuple[str, ...]
    """θ, X, y, the learning rate, what `.grad` held before."""
    reference: tuple[Expr, ...]
    """θ - lr·∇L."""
    executed: tuple[Expr, ...]
    proof: Proof

    @cached_property
    def _update(self) -> Certifier:
        return Certifier(self.variables, self.reference, self.executed, self.fmt)

    @cached_property
    def _gradient(self) -> Certifier:
        return Certifier(self.variables, self.batch.gradient, self.batch.gradient, self.fmt)

    @cached_property
    def _map(self) -> Program:
        return Program(self.batch.system, self.batch.data)

    def judge(self, step: Step) -> tuple[Judgement, list[float]]:
        """Judges what a step wrote as any case's numbers are; and ρ, per parameter how far it was held to be off.

        What the executed formula's own rounding explains counts as rounding; what nothing explains does not.
        """
        found, bounds = self._update.judge(step.point, step.after), self._update.tolerances(step.point)
        gaps = list(map(error, step.after, self._update.enclose(step.point)))
        return found, [b if i in found.failures else max(b, gaps[i]) for i, b in enumerate(bounds)]

    def gradient(self, step: Step) -> tuple[list[arb], list[float]]:
        """∇L at the step's parameters and batch, enclosed; and how far rounding can take autograd from it."""
        slack = self._gradient.tolerances(step.point)
        return self._gradient.enclose(step.point, MAP_BITS), slack  # last: its precision is that of what follows

    def map(self, step: Step, rounding: list[float], bits: int) -> Update:
        """A step as an affine map, enclosed with so many bits."""
        size = len(rounding)
        found = self._map([arb(v) for v in (*step.features, *step.labels)], bits, Selections())
        with precision(bits):
            hessian, right = arb_mat(size, size, found[: size**2]), column(found[size**2 :])
            rate = arb(step.learning_rate)
            return Update(hessian, right, identity(size) - hessian * rate, right * rate, column(rounding))


def step_formulas(declared: Regression, loss: Case, batch: BatchFormulas, dtype: torch.dtype) -> StepFormulas:
    """Traces a whole step, the optimizer's update included. It is not the first one: `.grad` may hold something.

    Raises:
        Unsupported: An operation has no rule, or the optimizer is not plain SGD.
    """
    net = make_model(declared, dtype)
    optimizer = make_optimizer(declared, net, _TRACED_RATE)
    parameters, bits = trained(net), MANTISSA_BITS[dtype]
    shadows = Shadows(table(), bits)
    data = {name: _numbers(batch.shapes[name], dtype) for name in ("X", "y")}
    stale = {name: symbols_for(f"{name}.grad", tuple(p.shape)) for name, p in parameters.items()}
    with case_errors(loss, VALUE, data):
        declared.step(net, declared.loss, optimizer, *data.values())
        for name, tensor in (data | parameters).items():
            shadows.attach(tensor, symbols_for(name, tuple(tensor.shape)))
        for name, parameter in parameters.items():
            if parameter.grad is not None and bool(parameter.grad.any()):
                shadows.attach(parameter.grad, stale[name])
        with shadows, _Phases(shadows):
            declared.step(net, declared.loss, optimizer, *data.values())
            written = [e for p in parameters.values() for e in shadows.read(p).flat]
    # In a narrower dtype the kernel rounds the learning rate first.
    rate = _RATE if bits == MANTISSA_BITS[torch.float64] else graph.rounded(_RATE, bits)
    traced = Fraction(repr(_TRACED_RATE))
    written = graph.substitute(written, {_SEED: ONE})
    executed = graph.substitute(written, {graph.constant(traced): rate, graph.constant(-traced): graph.negate(rate)})
    reference = [t - rate * g for t, g in zip(batch.theta, batch.gradient, strict=True)]
    proof = prove(executed, reference)
    if shadows.guards and proof.status is Status.PROVED:
        proof = Proof(Status.UNDECIDED, 0, "the step takes different paths for different data")
    held = [e for cells in stale.values() for e in cells.flat]
    variables = [str(e.payload) for e in (*batch.theta, *batch.features, *batch.labels, _RATE, *held)]
    return StepFormulas(batch, format_of(dtype), tuple(variables), tuple(reference), tuple(executed), proof)


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
                self._shadows.attach(seed, elements([_SEED] * seed.numel(), tuple(seed.shape)))
                kwargs = kwargs | {"gradient": seed}
        return func(*args, **kwargs)
