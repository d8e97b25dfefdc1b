"""Shadow memory: the dispatch mode that keeps an array of expressions beside every storage.

The mode knows no operation. What it knows is storages and views (a view needs no rule: it is the same window on the
shadow of its storage), writes, which parts are frozen, which conditions Python asked for, and where a rule is found.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from diffcheck import torch_internals
from diffcheck.algebra import expr as graph
from diffcheck.algebra import marks
from diffcheck.algebra.expr import Expr
from diffcheck.certify.formats import MANTISSA_BITS
from diffcheck.declare.operation import Operation, operation, targets, tensors_in
from diffcheck.declare.rule import OperationRule, arguments_in_full, how_to_give
from diffcheck.errors import Unsupported
from diffcheck.rules.complexes import by_parts
from diffcheck.rules.registry import Array, Rule, elementwise
from diffcheck.torch_internals import DispatchMode, decomposition_of
from diffcheck.trace.application import prepared
from diffcheck.trace.budget import Budget, Spending
from diffcheck.trace.deciding import Operands, is_discrete, rely_on
from diffcheck.trace.frames import Source, users_line
from diffcheck.trace.grad_mode import GradMode, Stop, inside_function, is_from_function, takes_out
from diffcheck.trace.stand_in import Applied, Call, StandIns, copied
from diffcheck.trace.storages import Storages, are_views, exact_constants
from diffcheck.trace.watch import PythonWatch


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that the path depended on: a selector, and the value it had."""

    selector: Expr
    value: bool
    told: bool = False
    """Whether it is that a number is the one that Python was told. That ends nothing: what is made of it is not known,
    and it is no boundary of the function."""


@dataclass(frozen=True, slots=True)
class Left:
    """Where Python was told a number that depends on the inputs, whatever it made of it."""

    operation: str
    inside_function: bool
    """Whether in a custom Function's forward: there, what comes back is no constant to differentiation."""

    @property
    def reason(self) -> str:
        """Why nothing can be said if the number comes back."""
        where = "inside a Function's forward" if self.inside_function else "and come back as a constant"
        return (
            f"values leave PyTorch there, {where}, and no shadow can follow them; give reference=, a plain PyTorch "
            "function that computes the same"
        )


@dataclass(slots=True)
class _State:
    frozen: dict[int, tuple[Tensor, Stop]] = field(default_factory=dict)
    presumed: set[Expr] = field(default_factory=set)
    """Parts that are frozen unless they turn out to be a Function's."""
    guards: list[Guard] = field(default_factory=list)
    random: set[str] = field(default_factory=set)
    left: list[Left] = field(default_factory=list)
    phase: str = "forward"
    inside_decomposition: int = 0
    inside_kernel: int = 0
    suspended: int = 0


class Shadows(DispatchMode):
    """Runs PyTorch operations and, beside them, their rules on shadows.

    Args:
        rules: ATen name to rule.
        bits: The precision of the dtype under test; a result with fewer bits is marked as rounded.
        budget: What the trace may spend.
        sources: Where to write down which line computed what first; looking at the stack takes its time.
        given: Rules that somebody gave, by qualified name; they come first.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        bits: int,
        budget: Budget | None = None,
        sources: dict[Expr, Source] | None = None,
        given: Mapping[str, OperationRule] | None = None,
    ) -> None:
        super().__init__()
        self._sources = sources
        self._rules = rules
        self._found: dict[tuple[str, bool], Rule | None] = {}
        """Rules that were looked up, by operation and whether numbers are complex."""
        self._bits = bits
        self._spending = Spending(budget or Budget())
        self._state = _State()
        self._storages = Storages()
        self._stand_ins = StandIns(given or {}, self._storages.window)
        self._watch = PythonWatch(self)
        self._grad_mode = GradMode()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise the first operation imports torch._dynamo, which takes as long as importing torch.
        return False

    # -- what callers use ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._watch.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        super().__exit__(*details)
        self._watch.__exit__(*details)

    @property
    def guards(self) -> tuple[Guard, ...]:
        """The conditions recorded so far."""
        return tuple(self._state.guards)

    @property
    def random_operations(self) -> frozenset[str]:
        """The operations that drew random numbers before the backward pass."""
        return frozenset(self._state.random)

    @property
    def applied(self) -> tuple[Applied, ...]:
        """What was followed through a function in an operation's place, in order."""
        return tuple(self._stand_ins.applied)

    def begin_backward(self) -> None:
        """From here on autograd works for itself: `detach` is an alias, and nothing is frozen."""
        self._state.phase = "backward"

    def attach(self, tensor: Tensor, shadow: Array) -> None:
        """Puts a shadow beside a tensor."""
        self._storages.write(tensor, shadow)

    def read(self, tensor: Tensor) -> Array:
        """The tensor's shadow, shaped like it."""
        if self._state.phase != "forward":
            return self._storages.window(tensor)
        self._settle(tensor)
        shadow = self._storages.window(tensor)
        mark = self._state.frozen.get(id(tensor))
        return shadow if mark is None else self._frozen(shadow, mark[1])

    def record(self, selector: Expr, value: bool, *, told: bool = False) -> None:  # noqa: FBT001 - `Decisions` calls it so
        """Records a condition that the path depended on."""
        if not graph.is_constant(selector) and not self._state.suspended:
            self._state.guards.append(Guard(selector, value, told))

    def is_live(self, tensor: Tensor) -> bool:
        """Whether some element depends on the inputs."""
        return self._storages.is_live(tensor)

    @property
    def looks_away(self) -> bool:
        """Whether what happens now is not followed: a kernel's own work, or printing."""
        return bool(self._state.inside_kernel or self._state.suspended)

    @property
    def left(self) -> tuple[Left, ...]:
        """Where Python was told a number that depends on the inputs."""
        return tuple(self._state.left)

    def tell(self, tensor: Tensor, how: str) -> None:
        """Records what Python learns when it asks for a tensor's values; what it makes of them is a constant.

        Raises:
            Unsupported: In a function that stands for an operation, where it would be more.
        """
        if self._state.inside_decomposition and how != "Tensor.item":
            raise Unsupported(how, "the values leave PyTorch there, and no shadow can follow them")
        rely_on(tensor, self.read(tensor), partial(self.record, told=not is_discrete(tensor)))
        if not is_discrete(tensor) and self._state.phase == "forward":
            self._state.left.append(Left(how, inside_function()))

    def about_to_switch(self, enabled: bool) -> None:  # noqa: FBT001 - as PyTorch is told
        """Python is about to switch reverse mode on or off; in a decomposition that is none of the user's doing."""
        if not self._state.inside_decomposition:
            self._grad_mode.about_to_switch(enabled)

    def leave(self) -> None:
        """Takes the mode out of force if leaving it was interrupted: an alarm may ring at any instruction."""
        if self._watch in torch_internals.function_modes():
            self._watch.__exit__(None, None, None)
        while any(mode is self for mode in torch_internals.dispatch_modes()):
            super().__exit__(None, None, None)

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Looks at values without leaving a trace: printing."""
        self._state.suspended += 1
        try:
            yield
        finally:
            self._state.suspended -= 1

    # -- the dispatch ----------------------------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._state.suspended:
            return func(*args, **kwargs)
        op = operation(func)
        self._spending.spend(op)
        if op.about_layout:
            return func(*args, **kwargs)
        positional = tensors_in(args)
        tensors = positional + tensors_in(kwargs) if kwargs else positional
        if any(t.is_meta for t in tensors):
            return func(*args, **kwargs)  # forward mode asks for shapes on tensors that have no values
        self._settle(*tensors)
        live = any(map(self.is_live, tensors))
        if op.random and self._state.phase == "forward":
            self._state.random.add(op.text)
        # A rule reads its arguments as they were before the operation ran: in place, they change.
        stand_in = self._stand_ins.of(func) if live else None
        before = self._copies(func, args, kwargs) if stand_in is not None else []
        pending = self._prepare(func, op, args, kwargs) if stand_in is None and (live or not tensors) else None
        result = self._computed(func, args, kwargs)
        outputs = tensors_in(result)
        if any(t.is_meta for t in outputs):
            return result
        self._spending.check_size(op, outputs)
        if op.changes_view:
            self._inherit_frozen(op, args, outputs)
        elif not live:
            self._keep_constants(func, op, args, kwargs, pending if not tensors else None, result)
        elif op.to_python:
            self.tell(args[0], "Tensor.item")
        elif outputs and not op.writes and are_views(tensors, outputs):
            if op.packet == "aten.view" and outputs[0].dtype != tensors[0].dtype:
                raise Unsupported("view(dtype)", "the same bytes are read as another type")
            self._inherit_frozen(op, args, outputs)
        elif stand_in is not None:
            call = Call(func, before, arguments_in_full(func, args, kwargs), result)
            computed, shadows = self._stand_ins.follow(stand_in, call, self._watched)
            self._put(op, computed, shadows)
        elif outputs or op.writes:
            self._finish(func, op, args, kwargs, pending, result)
        elif result is not None:
            self._answer(op, pending, result)
        return result

    def _answer(self, op: Operation, pending: Callable[[Any], Any] | None, result: Any) -> None:
        """Python was told a truth value or a number: what it rests on goes on the record."""
        if pending is None:
            raise Unsupported(op.text, f"returns {type(result).__name__} computed from the differentiated inputs")
        for node in pending(result).flat:
            self.record(node if isinstance(result, bool) else graph.equal(node, graph.constant(result)), bool(result))

    def _keep_constants(
        self,
        func: Any,
        op: Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        pending: Callable[[Any], Any] | None,
        result: Any,
    ) -> None:
        """Nothing depends on the inputs: what was written is what the tensors hold now."""
        if pending is not None:
            # A factory with a rule keeps the number that was written: 0.1 is 1/10, not its nearest binary fraction.
            self._finish(func, op, args, kwargs, pending, result)
        elif op.writes:
            for target in targets(op, args, kwargs, result):
                if target is not None and target in self._storages:
                    self._storages.write(target, exact_constants(target))

    def _prepare(
        self, func: Any, op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[[Any], Any] | None:
        """Reads the shadows that the operation's rule needs; what it returns computes the result's."""
        rule = self._rule(op, args, kwargs)
        if rule is None and not self._is_settled_by_values(func, args, kwargs):
            return None
        shadows = [self._read_all(a) for a in args]
        meant = {k: v for k, v in kwargs.items() if k not in op.without_meaning}
        operands = Operands.of(args, shadows, meant, {k: self._read_all(v) for k, v in meant.items()})
        if rule is not None:
            return prepared(rule, args, operands, self.record)

        def settled(result: Any) -> list[Array | None]:
            operands.decided(self.record)
            places = targets(op, args, kwargs, result)
            return [None if t is None else exact_constants(t) for t in places]

        return settled

    def _is_settled_by_values(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether an operation without a rule depends on the inputs through discrete values alone."""
        live = [t for t in tensors_in((args, kwargs)) if self.is_live(t)]
        return bool(live) and all(map(is_discrete, live)) and decomposition_of(func) is None

    def _rule(self, op: Operation, args: Sequence[Any], kwargs: dict[str, Any]) -> Rule | None:
        wanted = kwargs.get("dtype")
        is_complex = any(t.is_complex() for t in tensors_in(args)) or any(isinstance(a, complex) for a in args)
        is_complex |= isinstance(wanted, torch.dtype) and wanted.is_complex
        key = op.text, is_complex
        if key not in self._found:
            names = [f"complex.{name}" for name in op.rule_names] if is_complex else [*op.rule_names]
            names += [] if is_complex else [f"complex.{name}" for name in op.rule_names]
            self._found[key] = next((self._rules[name] for name in names if name in self._rules), None)
        return self._found[key]

    def _read_all(self, value: Any) -> Any:
        """An argument with its tensors replaced by their shadows."""
        if isinstance(value, Tensor):
            return self.read(value)
        if isinstance(value, (list, tuple)):
            return [self._read_all(part) for part in value]
        return value

    def _finish(
        self,
        func: Any,
        op: Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        pending: Callable[[Any], Any] | None,
        result: Any,
    ) -> None:
        """Computes and writes the shadows of what an operation returned or wrote to."""
        places = targets(op, args, kwargs, result)
        if pending is not None:
            shadows = pending(result)
            produced = list(shadows) if isinstance(shadows, (tuple, list)) else [shadows]
        else:
            produced = self._decompose(func, op, args, kwargs, result)
        if len(produced) < len(places):
            raise Unsupported(op.text, f"its rule gives {len(produced)} of {len(places)} results")
        self._put(op, places, produced)

    def _put(self, op: Operation, places: Sequence[Tensor | None], produced: Sequence[Array | None]) -> None:
        """Writes the shadows of what an operation computed."""
        for target, shadow in zip(places, produced, strict=False):
            if target is None or shadow is None:
                continue
            if tuple(target.shape) != shadow.shape:
                if tuple(target.shape) != np.broadcast_shapes(shadow.shape, tuple(target.shape)):
                    raise Unsupported(op.text, f"its rule gives shape {shadow.shape} for {tuple(target.shape)}")
                shadow = np.broadcast_to(shadow, tuple(target.shape))
            marked = self._mark(op, target, shadow)
            self._storages.write(target, marked)
            if self._sources is not None and not self._state.inside_decomposition:
                source = users_line(self._state.phase)
                if source is not None:
                    self._sources |= {n: source for n in marked.flat if n not in self._sources and n.args}

    def _mark(self, op: Operation, target: Tensor, shadow: Array) -> Array:
        bits = MANTISSA_BITS.get(target.dtype, self._bits)
        if bits < self._bits:
            shadow = by_parts(lambda e: graph.rounded(e, bits), shadow)
        state = self._state
        if state.phase != "forward" or state.inside_decomposition:
            return shadow
        stop = self._grad_mode.stop(detaches=False)
        if stop is None:
            return shadow
        if op.writes and target in self._storages:
            # Autograd does not see the write: to it the tensor still is what it was.
            before = self._storages.window(target)
            return elementwise(operator.add, before, self._frozen(elementwise(operator.sub, shadow, before), stop))
        return self._frozen(shadow, stop)

    def _decompose(
        self, func: Any, op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> list[Array | None]:
        if op.random and self._state.phase == "backward":
            # Of a function that is none itself: what was drawn is a constant, which the next run will not meet again.
            return [exact_constants(t) for t in tensors_in(result)]
        if op.random:  # traced again, it would draw other numbers than PyTorch has drawn
            raise Unsupported(op.text, "it draws random numbers inside its kernel; pass what is random as an argument")
        if op.writes:
            raise Unsupported(op.text, "it has no rule", how_to_give(func))
        decomposition = decomposition_of(func)
        if decomposition is None:
            raise Unsupported(op.text, "it has neither a rule nor a decomposition", how_to_give(func))
        try:
            with self._followed():
                result = decomposition(*args, **kwargs)
        except Unsupported as error:
            # The rule to give is one for the operation that was called, not for a part that PyTorch makes it of.
            raise Unsupported(error.operation, error.reason, error.advice and how_to_give(func)) from error
        flat = result if isinstance(result, (tuple, list)) else [result]
        return [self._storages.window(t) if isinstance(t, Tensor) else None for t in flat]

    @contextlib.contextmanager
    def _followed(self) -> Iterator[None]:
        """Follows what stands for one operation: its decomposition, or a function in its place."""
        self._state.inside_decomposition += 1
        kernels, self._state.inside_kernel = self._state.inside_kernel, 0
        super().__enter__()
        try:
            with torch.no_grad():
                yield
        finally:
            super().__exit__(None, None, None)
            self._state.inside_kernel = kernels
            self._state.inside_decomposition -= 1

    def _computed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the operation itself: what it does to memory is its own business, and may be done in Python."""
        if torch_internals.overload_name(func) == "Scalar":
            # Of a zero tangent, which has no memory, these call themselves under a dispatch mode until the stack ends.
            args = tuple(
                torch.zeros_like(a) if isinstance(a, Tensor) and torch_internals.is_without_memory(a) else a
                for a in args
            )
        self._state.inside_kernel += 1
        try:
            return func(*args, **kwargs)
        finally:
            self._state.inside_kernel -= 1

    # -- functions in place of operations --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Follows a function, and watches Python: PyTorch takes the watch off while it runs what that has seen."""
        with self._followed():
            if self._watch in torch_internals.function_modes():
                yield
                return
            with self._watch:
                yield

    def _copies(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """The arguments of a call in full, with memory of their own: neither call sees what the other writes."""
        with self._followed():
            return [copied(value) for value in arguments_in_full(func, args, kwargs)]

    # -- what is frozen --------------------------------------------------------------------------------------------

    def _inherit_frozen(self, op: Operation, args: tuple[Any, ...], outputs: Sequence[Tensor]) -> None:
        state = self._state
        if state.phase != "forward" or state.inside_decomposition or (op.detaches and takes_out()):
            return
        source = args[0][0] if isinstance(args[0], (list, tuple)) else args[0]
        stop = state.frozen.get(id(source), (None, None))[1]
        if stop is None or op.detaches:
            stop = self._grad_mode.stop(detaches=op.detaches, called=self._watch.calls > 0) or stop
        if stop is not None:
            for tensor in outputs:
                state.frozen[id(tensor)] = (tensor, stop)

    def _frozen(self, shadow: Array, stop: Stop) -> Array:
        """A shadow that is constant to differentiation, or presumed to be."""
        if stop.unknown is not None:
            raise stop.unknown

        def freeze(e: Expr) -> Expr:
            node = graph.frozen(e, stop.by)
            if stop.presumed and node is not e:
                self._state.presumed.add(node)
            return node

        return by_parts(freeze, shadow)

    def _settle(self, *tensors: Tensor) -> None:
        """Takes back what was presumed of tensors that turn out to be what a Function has returned."""
        state = self._state
        if state.phase != "forward" or not (state.frozen or state.presumed):
            return
        for tensor in filter(is_from_function, tensors):
            mark = state.frozen.get(id(tensor))
            if mark is not None and mark[1].presumed:
                del state.frozen[id(tensor)]
            if not state.presumed:
                continue
            shadow = self._storages.window(tensor)
            moving = by_parts(lambda e: marks.thawed([e], state.presumed)[0], shadow)
            if any(a != b for a, b in zip(moving.flat, shadow.flat, strict=True)):
                self._storages.write(tensor, moving)
