"""A function with inputs that somebody gives it → a case at these inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diffcheck.declare.case import Case
from diffcheck.declare.domain import Argument, Axis, Kind
from diffcheck.declare.nested import flattened
from diffcheck.errors import DeclarationError, Unsupported

_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call with its tensors taken out: the leaves by name, and the function of them."""

    leaves: Mapping[str, Any]
    function: Callable[[Sequence[Any]], Any]


def case_at(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    name: str,
    kernel: Callable[..., Any] | None = None,
) -> Case:
    """A case that is checked at these inputs only.

    Args:
        function: A function or an `nn.Module`, whose parameters are inputs too, at the values that they have.
        args: Its positional arguments: tensors, numbers, or dicts, lists and tuples of them, nested as they like.
        kwargs: Its keyword arguments.
        name: Of the case.
        kernel: What is judged in place of the function, called in the same way.

    Floating-point and complex tensors are differentiated: those that require gradients, or all if none does. Everything
    else is passed on as it is.

    Raises:
        DeclarationError: There is nothing to differentiate, or the arguments do not fit the function.
        Unsupported: A tensor is sparse or quantized.
    """
    call = _call(function, args, kwargs, name)
    tensors = {n: v for n, v in call.leaves.items() if isinstance(v, Tensor)}
    for n, value in tensors.items():
        if value.layout is not torch.strided or value.is_quantized:
            raise Unsupported(f"argument {n}", f"{value.dtype} {value.layout}: shadows hold dense numbers")
    real = [n for n, value in tensors.items() if value.is_floating_point() or value.is_complex()]
    chosen = [n for n in real if tensors[n].requires_grad] or real
    if not chosen:
        raise DeclarationError(f"{name}: no argument is a floating-point or complex tensor: nothing to differentiate")
    dtypes = {tensors[n].dtype.to_real() for n in chosen}
    if len(dtypes) > 1:
        raise DeclarationError(f"{name}: its arguments have several dtypes, {', '.join(sorted(map(str, dtypes)))}")
    order = list(call.leaves)

    def at(chosen_function: Callable[[Sequence[Any]], Any]) -> Callable[..., Any]:
        def of_leaves(*differentiated: Tensor) -> Any:
            fresh = dict(zip(chosen, differentiated, strict=True))
            return chosen_function([fresh.get(n, call.leaves[n]) for n in order])

        return of_leaves

    code = getattr(inspect.unwrap(kernel or function), "__code__", None)
    return Case(
        function=at(call.function),
        name=name,
        doc="",
        arguments=tuple(Argument(n, _kind(tensors[n]), tuple(Axis(str(k)) for k in tensors[n].shape)) for n in chosen),
        kernel=None if kernel is None else at(_call(kernel, args, kwargs, name).function),
        given=({n: _apart(tensors[n].detach()) for n in chosen},),
        draws=False,
        parameters=frozenset(n for n in chosen if isinstance(tensors[n], torch.nn.Parameter)),
        file=code.co_filename if code else "",
        line=code.co_firstlineno if code else 0,
    )


def _kind(value: Tensor) -> Kind:
    if value.is_floating_point():
        return "real"
    return "complex" if value.is_complex() else "boolean" if value.dtype == torch.bool else "integer"


def _apart(tensor: Tensor) -> Tensor:
    """A tensor whose elements have memory of their own: each is a variable (those of an expanded one share theirs)."""
    if tensor.is_contiguous():
        return tensor
    extent = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    places = torch.arange(extent).as_strided(tensor.shape, tensor.stride())
    return tensor if len(places.unique()) == tensor.numel() else tensor.contiguous()


def with_given(case: Case, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Case:
    """A declared case that is also checked at these inputs, first.

    Raises:
        DeclarationError: They are not tensors of the declared kinds and numbers of axes.
    """
    names = [a.name for a in case.arguments]
    try:
        bound = dict(zip(names, args, strict=False)) | dict(kwargs)
        values = {n: torch.as_tensor(bound[n]) for n in names}
    except (KeyError, TypeError) as error:
        raise DeclarationError(
            f"case {case.name!r} takes {', '.join(names)}; {error} is missing or no tensor"
        ) from error
    for known in case.arguments:
        value = values[known.name]
        kind = _kind(value)
        several = any(axis.several for axis in known.axes)
        if kind != known.kind or (not several and value.dim() != len(known.axes)):
            raise DeclarationError(
                f"case {case.name!r}, argument {known.name!r}: {kind} {tuple(value.shape)} was given, but "
                f'{known.kind} "{" ".join(axis.text for axis in known.axes)}" is declared'
            )
    return replace(case, given=(*case.given, values))


def _call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], name: str) -> _Call:
    module = function if isinstance(function, torch.nn.Module) else None
    target = module.forward if module is not None else function
    signature: inspect.Signature | None
    bound: inspect.BoundArguments | None
    try:
        signature = inspect.signature(target)
        bound = signature.bind(*args, **kwargs)
        if all(p.kind in _ANY for p in signature.parameters.values()):
            signature, bound = None, None  # `(*args)`, as an autograd Function's `apply` has it, names nothing
    except ValueError:  # a built-in function says nothing of its arguments
        signature, bound = None, None
    except TypeError as error:
        raise DeclarationError(
            f"{name}: {error}; it is called with {len(args)} arguments and {sorted(kwargs)}"
        ) from error
    arguments: dict[str, Any]
    if bound is None or signature is None:
        arguments = dict(zip(["x"] if len(args) == 1 else [f"x{i}" for i in range(len(args))], args, strict=True))
        arguments.update(kwargs)
    else:
        arguments = dict(bound.arguments)
    parameters = {} if module is None else dict(module.named_parameters())
    names, rebuilt = flattened(arguments)
    leaves = {**names, **parameters}

    own = [i for i, leaf in enumerate(names.values()) if type(leaf) is torch.nn.Parameter]

    def call(values: Sequence[Any]) -> Any:
        for i in own:  # a module that is given one registers it, and would not register another tensor
            if values[i].is_leaf and type(values[i]) is Tensor:
                values[i].__class__ = torch.nn.Parameter
        found = rebuilt(values[: len(names)])
        positional, named = _passed(signature, found, len(args))
        if module is None:
            return function(*positional, **named)
        # A module may update its buffers in place: each call has its own.
        buffers = {n: b.clone() for n, b in module.named_buffers()}
        state = dict(zip(parameters, values[len(names) :], strict=True)) | buffers
        return torch.func.functional_call(module, state, tuple(positional), dict(named))

    return _Call(leaves, call)


def _passed(
    signature: inspect.Signature | None, arguments: dict[str, Any], count: int
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if signature is None:
        values = list(arguments.values())
        return values[:count], dict(list(arguments.items())[count:])
    bound = inspect.BoundArguments(signature, arguments)
    return bound.args, bound.kwargs
