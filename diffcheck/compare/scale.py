"""Derivatives of tensors that are too large for a trace: a kernel's numbers beside those of its proved reference.

The reference runs in float64. Beside the memory of every tensor stands an array of radii, one per element of the
storage: what rounding at the precision of the dtype under test can have done to it, by the first-order analysis of
`certify.running_error`. Operations of single elements come from the same tables of rules as a trace; what moves
elements moves their radii; sums and products of matrices are as in Higham, Accuracy and Stability of Numerical
Algorithms, 3.5 and 4.2, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from diffcheck.algebra import expr as graph
from diffcheck.certify.formats import MANTISSA_BITS, Format, format_of
from diffcheck.certify.running_error import bounded_values
from diffcheck.compare.spelled import SPELLED
from diffcheck.declare.case import Case
from diffcheck.declare.operation import Operation, operation, storage_address, targets, tensors_in
from diffcheck.declare.rule import OperationRule, arguments_in_full, called, rule_for, rules_by_operation
from diffcheck.differentiate.run import differentiate
from diffcheck.draw.inputs import copied
from diffcheck.errors import Unsupported
from diffcheck.modes import CPU
from diffcheck.rules import table
from diffcheck.rules.registry import Rule, lift
from diffcheck.torch_internals import DispatchMode, decomposition_of, no_modes, packet

_MOVES: Final = frozenset(
    f"aten.{name}"
    for name in (
        "_to_copy", "_unsafe_index", "amax", "cat", "clone", "constant_pad_nd", "diag_embed", "embedding", "flip",
        "gather", "index", "index_select", "masked_select", "repeat", "roll", "select_backward", "slice_backward",
        "stack", "take", "tril", "triu", "unfold_backward",
    )
)  # fmt: skip
"""What puts elements elsewhere, and their radii with them. (Two maxima differ by no more than the rows do.)"""
_SUMS: Final = frozenset({"aten.sum", "aten.mean", "aten.cumsum"})
_PRODUCTS: Final = frozenset({"aten.mm", "aten.bmm", "aten.mv", "aten.dot"})
_ADDS_UP: Final = frozenset({"aten.index_put", "aten._unsafe_index_put", "aten.scatter_add", "aten.index_add"})
_CONSTANT: Final = frozenset(
    f"aten.{name}"
    for name in (
        "_efficientzerotensor", "_new_zeros_with_same_feature_meta", "arange", "empty", "empty_like", "empty_strided",
        "fill", "full", "full_like", "new_empty", "new_empty_strided", "new_full", "new_ones", "new_zeros", "ones",
        "ones_like", "scalar_tensor", "zero", "zeros", "zeros_like",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The element that is furthest beyond its bound."""

    position: int
    """Which of the derivatives."""
    index: tuple[int, ...]
    computed: float
    reference: float
    radius: float
    """How far the reference's own rounding can have taken it."""
    bound: float
    first: tuple[int, ...]
    """The first element that is beyond its bound."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All elements of one run."""

    elements: int
    left: int
    """How many have no bound of first order: at kinks, and next to singularities."""
    beyond: int
    """How many are beyond their bound."""
    max_ulps: float
    max_bounds: float
    worst: Disagreement | None


def compare(
    case: Case, mode: str, values: Mapping[str, Tensor], seeds_for: Callable[[Sequence[Tensor]], Sequence[Tensor]]
) -> Comparison:
    """Holds a kernel's numbers to those of its reference, element by element.

    Args:
        case: With a kernel, and the reference as its function.
        mode: `value`, `reverse` or `forward`.
        values: The inputs, in the dtype under test.
        seeds_for: Gives cotangents (tangents) in the dtype under test, the same ones each time.

    Raises:
        Unsupported: The reference runs an operation without an error analysis, or gives other shapes than the kernel.
    """
    if case.is_complex:
        raise Unsupported("complex numbers", "there is no error analysis for tensors of this size")
    dtype = next(v.dtype for v in values.values() if v.is_floating_point())
    fmt = format_of(dtype)
    numbers = differentiate(case.judged, mode, {n: copied(v) for n, v in values.items()}, seeds_for).derivatives
    exact = {n: v.double() if v.is_floating_point() else v.clone() for n, v in values.items()}

    def in_float64(like: Sequence[Tensor]) -> Sequence[Tensor]:
        if mode == "reverse":
            radii.begin_backward()
        with no_modes():
            return [seed.double() for seed in seeds_for([y.detach().to(dtype) for y in like])]

    radii = Radii(fmt.bits, rules_by_operation(case.rules, case.name))
    with radii:
        reference = differentiate(case, mode, exact, in_float64).derivatives
    parts = [
        _compared(i, computed.detach(), true.detach(), radii.of(true), fmt)
        for i, (computed, true) in enumerate(zip(numbers, reference, strict=True))
    ]
    found = [part.worst for part in parts if part.worst is not None]
    return Comparison(
        sum(part.elements for part in parts),
        sum(part.left for part in parts),
        sum(part.beyond for part in parts),
        max(part.max_ulps for part in parts),
        max(part.max_bounds for part in parts),
        max(found, key=lambda w: abs(w.computed - w.reference) / w.bound, default=None),
    )


def _compared(position: int, computed: Tensor, true: Tensor, radius: Tensor, fmt: Format) -> Comparison:
    if computed.shape != true.shape:
        raise Unsupported(
            "reference=", f"it has shape {tuple(true.shape)} where the kernel has {tuple(computed.shape)}"
        )
    if not computed.numel():
        return Comparison(0, 0, 0, 0.0, 0.0, None)
    # The reference was computed with 53 bits: its own radius is smaller by the ratio of the precisions.
    own = radius * 2.0 ** (fmt.bits - MANTISSA_BITS[torch.float64])
    left = ~torch.isfinite(radius)
    error = (computed.double() - true).abs()
    unit = torch.maximum(radius, _ulps(true, fmt))
    within = (error <= fmt.tolerance(unit) + own) | (computed == true) | (true.abs() > fmt.largest)
    ratio = torch.where(left, 0.0, (error / unit).nan_to_num(math.inf, math.inf))
    beyond = ~within & ~left
    plain = within & ~left & (radius < true.abs() * 2.0 ** (-fmt.bits // 2))
    worst = None
    if bool(beyond.any()):
        flat = int(torch.where(beyond, ratio, -1.0).argmax())
        index, first = (
            tuple(int(i) for i in np.unravel_index(where, tuple(true.shape)))
            for where in (flat, int(beyond.reshape(-1).double().argmax()))
        )
        worst = Disagreement(
            position, index, float(computed[index]), float(true[index]), float(own[index]), float(unit[index]), first
        )
    return Comparison(
        computed.numel(),
        int(left.sum()),
        int(beyond.sum()),
        float(torch.where(plain, error / _ulps(true, fmt), 0.0).max()),
        float(torch.where(within, ratio, 0.0).max()),
        worst,
    )


def _ulps(values: Tensor, fmt: Format) -> Tensor:
    size = values.abs().clamp(fmt.smallest_normal, fmt.largest)
    return torch.where(
        values.abs() < fmt.smallest_normal,
        fmt.smallest,
        torch.ldexp(torch.ones_like(size), torch.frexp(size).exponent - fmt.bits),
    )


class Radii(DispatchMode):
    """Runs PyTorch operations in float64 and, beside them, bounds what rounding to so many bits does to the results."""

    def __init__(self, bits: int, given: Mapping[str, OperationRule]) -> None:
        super().__init__()
        self._given = given
        self._unit = 2.0**-bits
        self._backward = False
        self._rules = table()
        self._storages: dict[int, tuple[Tensor, Any]] = {}
        """By address: the radii of a storage's elements, and the storage, whose address must not be used again."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as for shadows: or the first operation imports torch._dynamo

    def begin_backward(self) -> None:
        """From here on 0 is the value of a branch that was not taken; before, it may be a kink."""
        self._backward = True

    def of(self, tensor: Tensor) -> Tensor:
        """The radii of a tensor's elements, shaped like it; 0 for what was given."""
        known = self._storages.get(storage_address(tensor))
        if known is None:
            return _nothing(tensor)
        return known[0].as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).clone()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        op = operation(func)
        inputs = tensors_in(args) + tensors_in(kwargs)
        # As they were before the operation ran: in place, they change.
        before = {id(t): (t.detach().clone() if op.writes else t.detach(), self.of(t)) for t in inputs if _counts(t)}
        result = func(*args, **kwargs)
        known = {storage_address(t) for t in inputs}
        places = [t for t in targets(op, args, kwargs, result) if t is not None and _counts(t)]
        if not places or op.changes_view or (not op.writes and all(storage_address(t) in known for t in places)):
            return result  # no numbers, or a view: the same window on the same radii
        if op.rule_names[1] in _CONSTANT:
            found: Sequence[Tensor | None] = [_nothing(t) for t in places]
        else:
            found = self._radii_of(func, op, args, kwargs, before)
        for place, radius in zip(places, found, strict=False):
            if radius is None:
                raise Unsupported(op.text, "it has no error analysis for tensors of this size")
            self._write(place, radius.expand(place.shape))
        return result

    def _radii_of(
        self,
        func: Any,
        op: Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        before: Mapping[int, tuple[Tensor, Tensor]],
    ) -> Sequence[Tensor | None]:
        # Decompositions end in `prims`, which are called as the operations of ATen are.
        name = op.rule_names[1].replace("prims.", "aten.")
        rule = self._rules.get(op.rule_names[0]) or self._rules.get(name)
        values = _mapped(args, lambda t: before[id(t)][0] if id(t) in before else t)
        radii = _mapped(args, lambda t: before[id(t)][1] if id(t) in before else t)
        if name in ("aten.copy", "aten.convert_element_type"):
            return [radii[name == "aten.copy"]]
        if name in _ADDS_UP:
            # The functional variant: in place, the radii would be written to.
            functional = getattr(torch.ops.aten, name.removeprefix("aten."))
            sizes, terms = (_mapped(values, by) for by in (_size, _one))
            return [functional(*radii) + self._unit * functional(*terms) * functional(*sizes)]
        if op.writes and not (rule is not None and rule.kind == "pointwise"):
            return [None]
        if name == "aten.scatter" and not isinstance(args[3], Tensor):
            return [func(radii[0], args[1], args[2], 0.0)]
        if name in _MOVES:
            return _listed(func(*radii, **kwargs))
        if name in _SUMS:
            sizes = func(values[0].abs(), *args[1:], **kwargs)
            terms = values[0].numel() / max(1, sizes.numel()) if name != "aten.cumsum" else values[0].shape[args[1]]
            return [func(radii[0], *args[1:], **kwargs) + terms * self._unit * sizes]
        if name in _PRODUCTS:
            (a, ra), (b, rb) = ((v.abs(), r) for v, r in zip(values[:2], radii[:2], strict=True))
            return [func(a + ra, rb) + func(ra, b) + a.shape[-1] * self._unit * func(a, b)]
        if rule is not None and rule.kind == "pointwise":
            meant = {k: v for k, v in kwargs.items() if k not in op.without_meaning and k != "dtype"}
            return [self._pointwise(rule, op, values, radii, meant)]
        return self._decomposed(func, args, kwargs)

    def _pointwise(
        self, rule: Rule, op: Operation, values: Sequence[Any], radii: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Tensor:
        """The rule once, on symbols; its formula on the arrays."""
        names = [f"a{i}" if isinstance(v, Tensor) else "" for i, v in enumerate(values)]
        formula = rule.apply(*(graph.symbol(n) if n else lift(v) for n, v in zip(names, values, strict=True)), **kwargs)
        pairs = {
            n: (v.double().cpu().numpy(), r.cpu().numpy() if _counts(v) else np.zeros(tuple(v.shape)))
            for n, v, r in zip(names, values, radii, strict=True)
            if n
        }
        found = bounded_values(formula, pairs, self._unit, at_zero=self._backward)
        if found is None:
            raise Unsupported(op.text, "the error analysis lacks one of its functions")
        device = next(v.device for v in values if isinstance(v, Tensor))
        return torch.from_numpy(np.array(found[1], dtype=float)).to(device)

    def _decomposed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Tensor | None]:
        spelled = SPELLED.get(str(packet(func)))
        if spelled is not None:
            with torch.no_grad(), self:
                return [self.of(t) for t in _listed(spelled(*args, **kwargs)) if t is not None]
        given, decomposition = rule_for(func, self._given), decomposition_of(func)
        if given is None and decomposition is None:
            return [None]
        with torch.no_grad(), self:
            if given is not None:
                result = called(given.function, func, arguments_in_full(func, args, kwargs))
            else:
                result = decomposition(*args, **kwargs)
        return [self.of(t) for t in _listed(result) if isinstance(t, Tensor) and _counts(t)]

    def _write(self, tensor: Tensor, radius: Tensor) -> None:
        address = storage_address(tensor)
        if address not in self._storages:
            storage = tensor.untyped_storage()
            size = storage.nbytes() // max(tensor.element_size(), 1)
            radii = torch.zeros(size, dtype=torch.float64, device=tensor.device)
            self._storages[address] = radii, storage
        window = self._storages[address][0].as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        window.copy_(radius)


def _nothing(tensor: Tensor) -> Tensor:
    """The radii of exact numbers."""
    return torch.zeros(tensor.shape, dtype=torch.float64, device=tensor.device)


def _size(tensor: Tensor) -> Tensor:
    return tensor.abs() if _counts(tensor) else tensor


def _one(tensor: Tensor) -> Tensor:
    return torch.ones_like(tensor) if _counts(tensor) else tensor


def _counts(tensor: Tensor) -> bool:
    """Whether its elements are numbers that rounding can change."""
    return tensor.is_floating_point() and not tensor.is_meta


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    return type(value)(_mapped(part, function) for part in value) if isinstance(value, (list, tuple)) else value


def random_seeds(seed: int) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
    """Cotangents (tangents) of either sign, normally distributed; the same ones each time they are asked for."""

    def seeds(like: Sequence[Tensor]) -> Sequence[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        numbers = (torch.randn(t.shape, generator=generator, dtype=torch.float64, device=CPU) for t in like)
        return [n.to(t) for n, t in zip(numbers, like, strict=True)]

    return seeds
