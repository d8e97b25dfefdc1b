"""Shadow memory: the dispatch mode that keeps an array of expressions beside every storage.

The mode knows no operation. What it knows is storages and views (a view needs no rule: it is the same window on the
shadow of its storage), writes, which parts are frozen, which conditions Python asked for, and where a rule is found.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from diffcheck import expr as graph
from diffcheck.constants import scalar
from diffcheck.errors import BudgetExceeded, CaseFailure, DiffcheckError, Unsupported, WrongRule
from diffcheck.expr import Expr
from diffcheck.operation import Operation, decomposition_of, operation, storage_address, targets, tensors_in
from diffcheck.rule import (
    Mismatch,
    OperationRule,
    arguments_in_full,
    arguments_in_words,
    called,
    how_to_give,
    named,
    own_function,
    pairs_of,
    rule_for,
)
from diffcheck.rules.complexes import Complex, by_parts, joined, parted, parts_of
from diffcheck.rules.registry import Array, Decisions, Rule, elements, elementwise, lift

MANTISSA_BITS: Final = {
    torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8,
    torch.complex128: 53, torch.complex64: 24, torch.complex32: 11,
}  # fmt: skip
"""Bits of precision, the implicit one included; of each part of a complex number."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one trace may spend."""

    operations: int = 10_000
    elements: int = 200_000
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that the path depended on: a selector, and the value it had."""

    selector: Expr
    value: bool


@dataclass(frozen=True, slots=True)
class Source:
    """The line of the user's code that computed an expression."""

    file: str
    line: int
    function: str
    phase: str
    """`forward` or `backward`."""


@dataclass(frozen=True, slots=True)
class Applied:
    """One tensor that an operation computed, beside what a rule that somebody gave, or its own function, says of it."""

    rule: OperationRule
    label: str
    """Which of the operation's results it is."""
    arguments: str
    """Of the call, in words."""
    computed: Tensor
    shadow: Array
    custom: bool
    """Whether it is a `torch.library.custom_op`."""
    advice: tuple[str, ...]
    """How to give the operation a rule."""


@dataclass(slots=True)
class _Storage:
    """A storage's shadow, and the storage itself: its address must not be reused while the shadow is kept."""

    shadow: Array
    itemsize: int
    keep: Any


@dataclass(slots=True)
class _State:
    storages: dict[int, _Storage] = field(default_factory=dict)
    frozen: dict[int, tuple[Tensor, str]] = field(default_factory=dict)
    guards: list[Guard] = field(default_factory=list)
    random: set[str] = field(default_factory=set)
    operations: int = 0
    phase: str = "forward"
    inside_decomposition: int = 0
    inside_kernel: int = 0
    suspended: int = 0
    applied: list[Applied] = field(default_factory=list)
    applying: list[OperationRule] = field(default_factory=list)


def exact_constants(tensor: Tensor) -> Array:
    """A tensor's entries as exact constants."""
    values = tensor.detach().resolve_conj().resolve_neg()
    if values._is_zerotensor():
        return elements([graph.ZERO] * values.numel(), tuple(values.shape))
    if values.dtype.is_complex:
        return joined(exact_constants(torch.view_as_real(values)))
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.double()
    if values.ndim == 0 and values.dtype == torch.float64:
        # Autograd's formulas hand their numbers on as tensors without axes: 3.14, or the logarithm of 10.
        return elements([scalar(values.item())], ())
    return elements(map(graph.constant, values.reshape(-1).tolist()), tuple(values.shape))


class Shadows(TorchDispatchMode):
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
        self._given = given or {}
        self._sources = sources
        self._rules = rules
        self._found: dict[tuple[str, bool], Rule | None] = {}
        """Rules that were looked up, by operation and whether numbers are complex."""
        self._bits = bits
        self._budget = budget or Budget()
        self._state = _State()
        self._deadline = time.monotonic() + self._budget.seconds
        self._watch = _PythonWatch(self)

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
        """The operations that drew random numbers."""
        return frozenset(self._state.random)

    @property
    def applied(self) -> tuple[Applied, ...]:
        """What was followed through a function in an operation's place, in order."""
        return tuple(self._state.applied)

    def begin_backward(self) -> None:
        """From here on autograd works for itself: `detach` is an alias, and nothing is frozen."""
        self._state.phase = "backward"

    def attach(self, tensor: Tensor, shadow: Array) -> None:
        """Puts a shadow beside a tensor."""
        self._write(tensor, shadow)

    def read(self, tensor: Tensor) -> Array:
        """The tensor's shadow, shaped like it."""
        shadow = self._window(tensor)
        if self._state.phase == "forward":
            mark = self._state.frozen.get(id(tensor))
            if mark is not None:
                return by_parts(lambda e: graph.frozen(e, mark[1]), shadow)
        return shadow

    def record(self, selector: Expr, value: bool) -> None:  # noqa: FBT001 - `Decisions` calls it so
        """Records a condition that the path depended on."""
        if not graph.is_constant(selector) and not self._state.suspended:
            self._state.guards.append(Guard(selector, value))

    def decide_scalar(self, tensor: Tensor, value: float) -> None:
        """Records what Python learned when it asked for the value of a one-element tensor."""
        (node,) = self.read(tensor).flat
        if tensor.dtype == torch.bool:
            self.record(node, bool(value))
        else:
            self.record(graph.equal(node, graph.constant(value)), True)  # noqa: FBT003 - see `record`

    def is_live(self, tensor: Tensor) -> bool:
        """Whether some element depends on the inputs."""
        storage = self._state.storages.get(storage_address(tensor))
        return storage is not None and any(not graph.is_constant(e) for e in _strided(storage, tensor).flat)

    def leave(self) -> None:
        """Takes the mode out of force if leaving it was interrupted: an alarm may ring at any instruction."""
        if self._watch in _get_current_function_mode_stack():
            self._watch.__exit__(None, None, None)
        while any(mode is self for mode in _get_current_dispatch_mode_stack()):
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
        self._spend(op)
        if op.about_layout:
            return func(*args, **kwargs)
        positional = tensors_in(args)
        tensors = positional + tensors_in(kwargs) if kwargs else positional
        if any(t.is_meta for t in tensors):
            return func(*args, **kwargs)  # forward mode asks for shapes on tensors that have no values
        live = any(map(self.is_live, tensors))
        if op.random:
            self._state.random.add(op.text)
        # A rule reads its arguments as they were before the operation ran: in place, they change.
        stand_in = self._stand_in(func, op) if live else None
        before = self._copies(func, args, kwargs) if stand_in is not None else []
        pending = self._prepare(op, args, kwargs) if stand_in is None and (live or not tensors) else None
        result = self._computed(func, args, kwargs)
        outputs = tensors_in(result)
        if any(t.is_meta for t in outputs):
            return result
        self._check_size(op, outputs)
        if op.changes_view:
            self._inherit_frozen(op, args, outputs)
        elif not live:
            self._keep_constants(func, op, args, kwargs, pending if not tensors else None, result)
        elif op.to_python:
            self.decide_scalar(args[0], result)
        elif outputs and not op.writes and self._are_views(tensors, outputs):
            if op.packet == "aten.view" and outputs[0].dtype != tensors[0].dtype:
                raise Unsupported("view(dtype)", "the same bytes are read as another type")
            self._inherit_frozen(op, args, outputs)
        elif stand_in is not None:
            self._follow(func, op, stand_in, before, arguments_in_full(func, args, kwargs), result)
        elif outputs or op.writes:
            self._finish(func, op, args, kwargs, pending, result)
        elif result is not None:
            raise Unsupported(op.text, f"returns {type(result).__name__} computed from the differentiated inputs")
        return result

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
                if target is not None and storage_address(target) in self._state.storages:
                    self._write(target, exact_constants(target))

    def _spend(self, op: Operation) -> None:
        state = self._state
        state.operations += 1
        if state.operations > self._budget.operations:
            raise BudgetExceeded(
                f"it ran more than {self._budget.operations:,} operations, the last one {op.text}; "
                "does a loop never end?"
            )
        if time.monotonic() > self._deadline:
            raise BudgetExceeded(
                f"it ran for more than {self._budget.seconds:g} seconds; the last operation was {op.text}"
            )

    def _check_size(self, op: Operation, outputs: Sequence[Tensor]) -> None:
        for tensor in outputs:
            if tensor.numel() > self._budget.elements:
                raise BudgetExceeded(
                    f"{op.text} made a tensor of {tensor.numel():,} elements; "
                    f"a trace follows up to {self._budget.elements:,}"
                )

    def _prepare(self, op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[Any], Any] | None:
        """Reads the shadows that the operation's rule needs; what it returns computes the result's."""
        rule = self._rule(op, args, kwargs)
        if rule is None:
            return None
        shadows = [self._read_all(a) for a in args]
        options = {k: self._read_all(v) for k, v in kwargs.items() if k not in op.without_meaning}
        match rule.kind:
            case "pointwise":
                signs = [] if rule.at_negative_zero is None else list(map(_negative_zeros, args))
                if any(sign.any() for sign in signs):
                    return lambda _: _apply_with_signs(rule, signs, shadows)
                return lambda _: _apply_pointwise(rule, shadows, options)
            case "array":
                return lambda _: rule.apply(*shadows, **options)
            case "guarded":
                return lambda result: rule.apply(Decisions(args, result, self.record), *shadows, **options)

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
            self._write(target, marked)
            if self._sources is not None and not self._state.inside_decomposition:
                source = _users_line(self._state.phase)
                if source is not None:
                    self._sources |= {n: source for n in marked.flat if n not in self._sources and n.args}

    def _mark(self, op: Operation, target: Tensor, shadow: Array) -> Array:
        bits = MANTISSA_BITS.get(target.dtype, self._bits)
        if bits < self._bits:
            shadow = by_parts(lambda e: graph.rounded(e, bits), shadow)
        state = self._state
        if (
            state.phase == "forward"
            and not torch.is_grad_enabled()
            and not state.inside_decomposition
            and not _inside_function()
        ):
            if op.writes and storage_address(target) in state.storages:
                # Autograd does not see the write: to it the tensor still is what it was.
                before = self._window(target)
                return elementwise(lambda old, new: old + graph.frozen(new - old, "no_grad"), before, shadow)
            return by_parts(lambda e: graph.frozen(e, "no_grad"), shadow)
        return shadow

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
        return [self._window(t) if isinstance(t, Tensor) else None for t in flat]

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
        self._state.inside_kernel += 1
        try:
            return func(*args, **kwargs)
        finally:
            self._state.inside_kernel -= 1

    # -- functions in place of operations --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Watches Python again: PyTorch takes the watch off while it runs what the watch has seen."""
        if self._watch in _get_current_function_mode_stack():
            yield
            return
        with self._watch:
            yield

    def _stand_in(self, func: Any, op: Operation) -> OperationRule | None:
        """The rule that somebody gave for an operation; its own Python function, if nothing else says what it does."""
        given = rule_for(func, self._given)
        if given is not None:
            if given in self._state.applying:
                raise CaseFailure(f"{named(given)} calls {given.operation} itself: it says nothing")
            return given
        own = None if op.random else own_function(func)
        return None if own is None or decomposition_of(func) is not None else own

    def _copies(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """The arguments of a call in full, with memory of their own: neither call sees what the other writes."""
        with self._followed():
            return [_copy(value) for value in arguments_in_full(func, args, kwargs)]

    def _follow(
        self, func: Any, op: Operation, stand_in: OperationRule, before: list[Any], args: list[Any], result: Any
    ) -> None:
        """Computes and writes the shadows of what an operation computed by the function in its place."""
        state = self._state
        words = arguments_in_words(func, before)
        state.applying.append(stand_in)
        try:
            with self._followed(), self._watched():
                said = called(stand_in.function, func, before)
            pairs = pairs_of(func, result, said, args, before)
        except Mismatch as error:
            raise WrongRule(f"{named(stand_in)} {error}, at {words}") from None
        except Unsupported as error:
            if stand_in.given or error.advice:
                raise
            raise Unsupported(op.text, f"its Python function can't be followed ({error})", how_to_give(func)) from error
        except DiffcheckError:
            raise
        except Exception as error:  # a user's function may raise anything
            raise CaseFailure(f"{named(stand_in)} raises {type(error).__name__}: {error}, at {words}") from error
        finally:
            state.applying.pop()
        shadows = [self._window(pair.stated) for pair in pairs]
        numbers = [s for pair, s in zip(pairs, shadows, strict=True) if not _is_whole(pair.computed)]
        if not stand_in.given and numbers and all(graph.is_constant(e) for s in numbers for e in parts_of(s)):
            raise Unsupported(
                op.text,
                "its Python function can't be followed (nothing that it computes seems to depend on its arguments)",
                how_to_give(func),
            )
        custom, advice = own_function(func) is not None, () if stand_in.given else how_to_give(func)
        for pair, shadow in zip(pairs, shadows, strict=True):
            # The numbers are looked at when all have been computed; until then they may be written to.
            computed = pair.computed.detach().clone()
            state.applied.append(Applied(stand_in, pair.label, words, computed, shadow, custom, advice))
        self._put(op, [pair.computed for pair in pairs], shadows)

    # -- storages and views ----------------------------------------------------------------------------------------

    def _window(self, tensor: Tensor) -> Array:
        storage = self._state.storages.get(storage_address(tensor))
        if storage is None:
            return exact_constants(tensor)
        cells = _strided(storage, tensor)
        if tensor.is_complex():
            cells = joined(cells)
        if tensor.is_neg():
            cells = by_parts(graph.negate, cells)
        return elements((z.conjugate() for z in cells.flat), cells.shape) if tensor.is_conj() else cells

    def _write(self, tensor: Tensor, shadow: Array) -> None:
        address = storage_address(tensor)
        storage = self._state.storages.get(address)
        if storage is None:
            keep = tensor.untyped_storage()
            size = keep.nbytes() // max(_cell_size(tensor), 1)
            if _covers(tensor, size):
                cells = elements([graph.ZERO] * size, (size,))
            else:
                real = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
                cells = exact_constants(torch.as_strided(real, (size,), (1,), 0))
            storage = self._state.storages[address] = _Storage(cells, _cell_size(tensor), keep)
        if tensor.is_conj() or tensor.is_neg():
            raise Unsupported("a lazily conjugated tensor", "it is written to")
        _strided(storage, tensor)[...] = parted(shadow) if tensor.is_complex() else shadow

    def _are_views(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
        known = {storage_address(t) for t in inputs}
        return all(storage_address(t) in known for t in outputs)

    def _inherit_frozen(self, op: Operation, args: tuple[Any, ...], outputs: Sequence[Tensor]) -> None:
        state = self._state
        if state.phase != "forward" or state.inside_decomposition:
            return
        source = args[0][0] if isinstance(args[0], (list, tuple)) else args[0]
        inherited = state.frozen.get(id(source))
        kind = inherited[1] if inherited is not None else None
        if op.detaches:
            fresh: str | None = "detach"
        else:
            fresh = "no_grad" if kind is None and not torch.is_grad_enabled() else None
        if fresh is not None and not _inside_function():
            kind = fresh
        if kind is not None:
            for tensor in outputs:
                state.frozen[id(tensor)] = (tensor, kind)


def _copy(value: Any) -> Any:
    """An argument whose tensors have memory of their own."""
    if isinstance(value, Tensor):
        return value.clone()
    return [_copy(part) for part in value] if isinstance(value, (list, tuple)) else value


def _is_whole(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())


class _PythonWatch(TorchFunctionMode):
    """Sees what Python does to a tensor without an ATen operation: reading its memory, printing it, `.data`."""

    def __init__(self, shadows: Shadows) -> None:
        super().__init__()
        self._shadows = shadows

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        shadows = self._shadows
        if shadows._state.inside_kernel:
            return func(*args, **kwargs)
        if func is _DATA_GETTER:
            return args[0].detach()
        if func in _PRINTING:
            with shadows.suspended():
                return func(*args, **kwargs)
        if func in _LEAVING and isinstance(args[0], Tensor) and shadows.is_live(args[0]):
            if func is Tensor.tolist:
                for element in args[0].reshape(-1):
                    element.item()
            elif not shadows._state.suspended:
                raise Unsupported(
                    f"Tensor.{func.__name__}", "the values leave PyTorch there, and no shadow can follow them"
                )
        return func(*args, **kwargs)


_APPLY: Final = torch.autograd.Function.__dict__["apply"].__func__.__code__


def _inside_function() -> bool:
    """Whether a custom Function's forward is running: autograd is off there, and nothing is meant to be frozen by that.

    By the frames: people keep `Cube.apply` under names of their own, so that replacing it would miss calls.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _APPLY:
            return True
        frame = frame.f_back
    return False


_OURS: Final = str(Path(__file__).parent)
_CALLERS: Final = frozenset(str(Path(__file__).with_name(name)) for name in ("autodiff.py", "trace.py"))
"""What calls the user's function: above it there are users of ours."""
_TORCHS: Final = str(Path(torch.__file__).parent)


def _users_line(phase: str) -> Source | None:
    """The innermost line that is neither PyTorch's nor ours, below the call that differentiates."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file in _CALLERS:
            return None
        if not file.startswith((_OURS, _TORCHS, "<")):
            return Source(file, frame.f_lineno, frame.f_code.co_name, phase)
        frame = frame.f_back
    return None


_DATA_GETTER: Final = Tensor.data.__get__  # type: ignore[attr-defined]
_PRINTING: Final = (Tensor.__repr__, Tensor.__format__, Tensor.__str__)
_LEAVING: Final = (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.data_ptr, Tensor.__dlpack__)


# ---------------------------------------------------------------------------------------------------------------------
# Applying rules
# ---------------------------------------------------------------------------------------------------------------------


def _apply_pointwise(rule: Rule, args: Sequence[Any], kwargs: dict[str, Any]) -> Array:
    kwargs = {k: v for k, v in kwargs.items() if k != "dtype"}
    spread = [a for a in args if isinstance(a, np.ndarray)]
    if all(a.ndim == 0 for a in spread):
        single = rule.apply(*(a.item() if isinstance(a, np.ndarray) else lift(a) for a in args), **kwargs)
        return elements((single,), ())
    shape = np.broadcast_shapes(*(a.shape for a in spread))
    columns = [np.broadcast_to(a, shape).flat if isinstance(a, np.ndarray) else None for a in args]
    fixed = [None if c is not None else lift(a) for a, c in zip(args, columns, strict=True)]
    size = int(np.prod(shape, dtype=int))
    return elements(
        (
            rule.apply(*(f if c is None else c[i] for c, f in zip(columns, fixed, strict=True)), **kwargs)
            for i in range(size)
        ),
        shape,
    )


def _negative_zeros(value: Any) -> Array:
    """Which elements of an argument are -0.0."""
    numbers = torch.as_tensor(value)
    found: Array = ((numbers == 0) & torch.signbit(numbers)).numpy()
    return found


def _apply_with_signs(rule: Rule, signs: Sequence[Array], args: Sequence[Any]) -> Array:
    function, count = rule.at_negative_zero, len(signs)
    assert function is not None
    return elementwise(lambda *both: function(both[:count], *both[count:]), *signs, *args)


# ---------------------------------------------------------------------------------------------------------------------
# Storages
# ---------------------------------------------------------------------------------------------------------------------


def _parts(tensor: Tensor) -> int:
    """How many cells stand beside an element: a complex number has two."""
    return 2 if tensor.is_complex() else 1


def _cell_size(tensor: Tensor) -> int:
    return tensor.element_size() // _parts(tensor)


def _covers(tensor: Tensor, size: int) -> bool:
    return tensor.numel() * _parts(tensor) == size and tensor.is_contiguous()


def _strided(storage: _Storage, tensor: Tensor) -> Array:
    """The cells beside a tensor, shaped like it; of complex numbers, with a last axis for the two parts."""
    whole = storage.shadow.size == tensor.numel() and storage.itemsize == tensor.element_size()
    if whole and tensor.is_contiguous() and not tensor.is_complex():  # as most are
        return storage.shadow.reshape(tensor.shape)
    if storage.itemsize != _cell_size(tensor):
        raise Unsupported("view(dtype)", "the same bytes are read as another type")
    cells, parts = storage.shadow, _parts(tensor)
    shape, strides = tuple(tensor.shape), [s * parts for s in tensor.stride()]
    if parts == 2:
        shape, strides = (*shape, 2), [*strides, 1]
    if tensor.numel() * parts == cells.size and tensor.is_contiguous():
        return cells.reshape(shape)
    if tensor.numel() == 0:
        return np.empty(shape, dtype=object)
    return np.lib.stride_tricks.as_strided(
        cells[tensor.storage_offset() * parts :], shape, [s * cells.itemsize for s in strides]
    )


def symbols_for(name: str, shape: Sequence[int]) -> Array:
    """One variable per element: `x` for a number, `x[0]` for a vector's entry, `x[0,1]` for a matrix's."""
    shape = tuple(shape)
    return elements(
        (graph.symbol(f"{name}[{','.join(map(str, index))}]" if index else name) for index in np.ndindex(shape)),
        shape,
    )


def symbols_of(name: str, tensor: Tensor) -> Array:
    """The variables of a tensor's elements; of a complex one two each, `x.real[0]` and `x.imag[0]`."""
    if not tensor.is_complex():
        return symbols_for(name, tuple(tensor.shape))
    return elementwise(Complex, *(symbols_for(f"{name}.{part}", tuple(tensor.shape)) for part in ("real", "imag")))


__all__ = ["MANTISSA_BITS", "Budget", "Guard", "Shadows", "exact_constants", "scalar", "symbols_for", "symbols_of"]
