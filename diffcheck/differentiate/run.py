"""PyTorch's numbers for a case: its outputs and derivatives in a mode, at one input or at several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from diffcheck.declare.case import Case
from diffcheck.differentiate import autodiff
from diffcheck.differentiate.autodiff import SeedsFor
from diffcheck.errors import CaseFailure
from diffcheck.modes import VALUE, order, steps, under_vmap


@dataclass(frozen=True, slots=True)
class Run:
    """What PyTorch computed: the outputs, and a number for every entry."""

    outputs: tuple[Tensor, ...]
    derivatives: tuple[Tensor, ...]


def differentiate(case: Case, mode: str, values: Mapping[str, Tensor], *seeds_for: SeedsFor) -> Run:
    """Lets PyTorch differentiate a case at given inputs.

    Args:
        case: The case.
        mode: One of `diffcheck.modes.MODES`, `VALUE`, or `accumulate`.
        values: A fresh tensor per argument; they are used as they are. Under vmap those that are differentiated have
            a first axis along which they are several.
        *seeds_for: Gives the cotangents for the outputs; in forward mode, the tangents for the differentiated inputs.
            In modes of higher order there is one for each differentiation (see `autodiff.nested`), or one for all.
    """
    inputs = [values[a.name] for a in case.differentiated]

    def applied(function: Callable[..., Any]) -> autodiff.Function:
        return of_differentiated(case, function, values)

    each = seeds_for if len(seeds_for) > 1 else seeds_for * order(mode)
    derivatives: Sequence[Tensor | None]
    if under_vmap(mode):
        outputs, derivatives = autodiff.each_under_vmap(steps(mode), applied(case.function), inputs, each)
    elif mode == "reverse":
        outputs, derivatives = autodiff.reverse(applied(case.function), inputs, *each)
    elif mode == "forward":
        outputs, derivatives = autodiff.forward(applied(case.function), inputs, each[0](inputs))
    elif order(mode) > 1:
        outputs, derivatives = autodiff.nested(steps(mode), applied(case.function), inputs, each)
    elif mode == VALUE:
        outputs = derivatives = autodiff.outputs_of(applied(case.function)([x.requires_grad_() for x in inputs]))
    else:
        assert case.preceded_by is not None
        outputs, derivatives = autodiff.accumulate(
            applied(case.preceded_by.function), applied(case.function), inputs, *each, clear=case.clear
        )
    return _run(mode, inputs, outputs, derivatives)


def derivatives_of_each(
    case: Case, mode: str, values: Sequence[Mapping[str, Tensor]], seeds: autodiff.Several
) -> list[Sequence[Tensor]]:
    """The derivatives at several inputs, each with a call of its own; what can be shared around the calls is."""
    each = {"reverse": autodiff.reverse_each, "forward": autodiff.forward_each}.get(mode)
    if each is None:
        return [
            differentiate(case, mode, v, autodiff.handed_out(own)).derivatives
            for v, own in zip(values, seeds.each(len(values)), strict=True)
        ]
    names = [a.name for a in case.differentiated]
    inputs = [[v[name] for name in names] for v in values]
    if len(names) == len(case.arguments):  # one function for all
        functions = [of_differentiated(case, case.function, values[0])] * len(values)
    else:
        functions = [of_differentiated(case, case.function, v) for v in values]
    found = each(list(zip(functions, inputs, strict=True)), seeds)
    like = inputs if mode == "reverse" else [outputs for outputs, _ in found]
    return [
        [torch.zeros_like(x) if d is None else d for d, x in zip(derivatives, own, strict=True)]
        for (_, derivatives), own in zip(found, like, strict=True)
    ]


def of_differentiated(case: Case, function: Callable[..., Any], values: Mapping[str, Tensor]) -> autodiff.Function:
    """A function of all arguments as one of those that are differentiated."""
    if len(case.differentiated) == len(values):
        return lambda differentiated: function(*differentiated)
    real = [a.name for a in case.differentiated]
    return lambda differentiated: function(*({**values, **dict(zip(real, differentiated, strict=True))}.values()))


def _run(mode: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], derivatives: Sequence[Tensor | None]) -> Run:
    like = inputs if mode in ("reverse", "accumulate") else outputs  # in all other modes nothing is missing
    found = [torch.zeros_like(like[i]) if d is None else autodiff.materialized(d) for i, d in enumerate(derivatives)]
    return Run(tuple(outputs), tuple(found))


def whole(case: Case, mode: str) -> Case:
    """The case as a function of all inputs that a mode differentiates at once."""
    if not under_vmap(mode):
        return case
    axes = tuple(0 if a.differentiated else None for a in case.arguments)

    def each(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(autodiff.outputs_of(case.function(*values)))

    return replace(case, function=vmap(each, in_dims=axes), returns=None)


def textbook_gradients(case: Case, said: Any, inputs: Sequence[Tensor], word: str = "gradient=") -> list[Tensor]:
    """What `gradient=`, or another word, returned, as one tensor per differentiated argument, of its shape.

    Raises:
        CaseFailure: It returned something else.
    """
    real = [a.name for a in case.arguments if a.differentiated]
    if isinstance(said, Mapping):
        missing = [n for n in real if n not in said]
        if missing:
            raise CaseFailure(f"{word} of case {case.name!r} returns no gradient for {', '.join(missing)}")
        parts = [said[n] for n in real]
    elif isinstance(said, (tuple, list)):
        parts = list(said)
    else:
        parts = [said]
    if len(parts) != len(real):
        raise CaseFailure(
            f"{word} of case {case.name!r} returns {len(parts)} gradients for {len(real)} arguments ({', '.join(real)})"
        )
    gradients = []
    for name, part, x in zip(real, parts, inputs, strict=True):
        part = part if isinstance(part, Tensor) else torch.as_tensor(part, dtype=x.dtype)
        if part.shape != x.shape and part.numel() != 1:
            raise CaseFailure(
                f"{word} of case {case.name!r} returns shape {tuple(part.shape)} for {name}, which has {tuple(x.shape)}"
            )
        gradients.append(part.to(x.dtype).expand(x.shape))
    return gradients
