"""Declaring a case: a function with annotated inputs, once."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from diffcheck.declare.domain import Argument, Axis, argument, arguments_of, axes_of, describe_bounds
from diffcheck.errors import DeclarationError, DiffcheckError

if TYPE_CHECKING:
    from diffcheck.declare.rule import OperationRule


@dataclass(frozen=True, eq=False)
class Case:
    """A declared function: frozen, and still callable like the function.

    Made by `case`, not by hand.
    """

    function: Callable[..., Any]
    """Takes the arguments by position."""
    name: str
    doc: str
    arguments: tuple[Argument, ...]
    returns: tuple[Axis, ...] | None = None
    gradient: Callable[..., Any] | None = None
    """What the textbook says is the gradient of the sum of the outputs."""
    surrogate: Callable[..., Any] | None = None
    """What the backward pass is meant to be where that is not the derivative."""
    assume: Callable[..., Any] | None = None
    """What holds between the arguments."""
    preceded_by: Case | None = None
    """A case whose backward pass runs first, into the same `.grad`."""
    clear: bool = False
    """Whether `.grad` is cleared between the two passes."""
    kernel: Callable[..., Any] | None = None
    """What is judged where it can't be traced: `function` then is its reference, and is traced in its place."""
    given: tuple[Mapping[str, Any], ...] = ()
    """Inputs to be checked before any is drawn: tensors by argument."""
    draws: bool = True
    """Whether inputs are drawn besides those that are given."""
    rules: tuple[OperationRule, ...] = ()
    """What operations compute that nothing else says anything of; see `diffcheck.rule`."""
    thawed: bool = False
    """Whether the derivative meant is that of the values: what is detached moves with the inputs."""
    parameters: frozenset[str] = frozenset()
    """The arguments that are an `nn.Parameter`: they are leaves of every graph."""
    any_dtype: bool = False
    """Whether a derivative may have another dtype than what it is one of."""
    file: str = ""
    line: int = 0

    __diffcheck_case__ = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        return self.function(*args, **kwargs)

    @property
    def signature(self) -> str:
        """The inputs as text: `x: real[n], t: integer[n] >= 0 and < 3`."""
        return ", ".join(
            f"{a.name}: {a.kind}[{' '.join(('*' if x.several else '') + x.text for x in a.axes)}]"
            f"{' ' + describe_bounds(a) if describe_bounds(a) else ''}"
            for a in self.arguments
        )

    @cached_property
    def judged(self) -> Case:
        """The case as it is run for its numbers: its kernel, if it has one."""
        return self if self.kernel is None else replace(self, function=self.kernel, kernel=None)

    @cached_property
    def is_complex(self) -> bool:
        """Whether some argument holds complex numbers."""
        return any(a.kind == "complex" for a in self.arguments)

    @cached_property
    def differentiated(self) -> tuple[Argument, ...]:
        """The arguments with respect to which derivatives are taken."""
        return tuple(a for a in self.arguments if a.differentiated)

    def show(self, *, latex: bool = False) -> str:
        """The function, its derivative and what autograd executed, as text; see `diffcheck.checking.show`."""
        from diffcheck.checking.show import show

        return show(self, latex=latex)

    def _repr_latex_(self) -> str | None:
        """How a notebook shows it: the function and its gradient; None if it can't be traced."""
        try:
            return self.show(latex=True)
        except DiffcheckError:
            return None


@overload
def case(
    function: Callable[..., Any],
    /,
    *,
    gradient: Callable[..., Any] | None = None,
    reference: Callable[..., Any] | None = None,
    surrogate: Callable[..., Any] | None = None,
    assume: Callable[..., Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    name: str | None = None,
    preceded_by: Case | None = None,
    clear: bool = False,
    rules: Sequence[OperationRule] = (),
) -> Case: ...
@overload
def case(
    *,
    gradient: Callable[..., Any] | None = None,
    reference: Callable[..., Any] | None = None,
    surrogate: Callable[..., Any] | None = None,
    assume: Callable[..., Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    name: str | None = None,
    preceded_by: Case | None = None,
    clear: bool = False,
    rules: Sequence[OperationRule] = (),
) -> Callable[[Callable[..., Any]], Case]: ...
def case(  # noqa: PLR0913 - one parameter per option
    function: Callable[..., Any] | None = None,
    /,
    *,
    gradient: Callable[..., Any] | None = None,
    reference: Callable[..., Any] | None = None,
    surrogate: Callable[..., Any] | None = None,
    assume: Callable[..., Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    name: str | None = None,
    preceded_by: Case | None = None,
    clear: bool = False,
    rules: Sequence[OperationRule] = (),
) -> Case | Callable[[Callable[..., Any]], Case]:
    """Declares a case, as a decorator or as a call on any function or `nn.Module`.

    Shapes come from jaxtyping annotations, bounds from `annotated_types` in `Annotated[...]`; a bound may name an axis
    (`Lt("classes")`). The floating-point arguments are differentiated. A module's parameters are inputs too.

    Args:
        function: An ordinary PyTorch function or a module.
        gradient: The gradient of the sum of the outputs, as a function of the same arguments: a tensor, or for several
            differentiated arguments a tuple in their order or a dict by name. It is checked as well.
        reference: A plain PyTorch function of the same arguments whose derivative is meant, and is traced and proved
            in the function's place: for what can't be traced, and for what is flat or jumps in floating point and is
            smooth in meaning (bisection, a table).
        surrogate: The backward pass that is meant, where on purpose it is not the derivative (straight through,
            gradient reversal, clipping): a function of the outputs' gradients, then the arguments, that gives what
            `gradient` gives. What reverse mode executes is held to it, and no other mode is checked.
        assume: What holds between the arguments, as a function of them that returns a truth value.
        inputs: Annotations by argument name, in the order of the arguments, for functions that can't be annotated. They
            nest as the arguments do: `{"params": {"w": Float[Tensor, "n m"], "b": Float[Tensor, "n"]}}`.
        name: Instead of the function's own name.
        preceded_by: A case over the same arguments whose backward pass runs before this one's, into the same `.grad`.
        clear: With `preceded_by`: clear `.grad` in between.
        rules: What opaque operations in it compute, as `diffcheck.rule` gives it.

    Raises:
        DeclarationError: The declaration can't be checked; the message shows how to write it.
    """

    def declare(target: Callable[..., Any]) -> Case:
        found = _declare(target, gradient, assume, inputs, name, preceded_by, clear=clear, rules=rules)
        return _meant(found, inputs, reference, surrogate)

    return declare if function is None else declare(function)


def _meant(
    declared: Case,
    inputs: Mapping[str, Any] | None,
    reference: Callable[..., Any] | None,
    surrogate: Callable[..., Any] | None,
) -> Case:
    """The case with what its author means by its derivative."""
    from diffcheck.declare.nested import flattened

    name = declared.name
    for what, value in (("reference", reference), ("surrogate", surrogate)):
        if value is not None and not callable(value):
            raise DeclarationError(f"case {name!r}: {what}={value!r} is not a function of the case's arguments")
    if reference is not None and surrogate is not None:
        raise DeclarationError(f"case {name!r}: reference= and surrogate= exclude each other")
    if surrogate is not None and declared.preceded_by is not None:
        raise DeclarationError(f"case {name!r}: preceded_by= and surrogate= exclude each other")
    if reference is None:
        return replace(declared, surrogate=surrogate)
    if inputs is not None:
        leaves, rebuilt = flattened(inputs)
        reference = reference if list(leaves) == list(inputs) else _nested(reference, rebuilt)
    return replace(declared, function=reference, kernel=declared.function)


def _declare(
    target: Callable[..., Any],
    gradient: Callable[..., Any] | None,
    assume: Callable[..., Any] | None,
    inputs: Mapping[str, Any] | None,
    name: str | None,
    preceded_by: Case | None,
    *,
    clear: bool,
    rules: Sequence[OperationRule],
) -> Case:
    import torch

    from diffcheck.declare.nested import flattened
    from diffcheck.declare.rule import rules_by_operation

    if not callable(target):
        raise DeclarationError(
            f"a case is made of a function or an nn.Module, not of {target!r} ({type(target).__name__})"
        )
    module = target if isinstance(target, torch.nn.Module) else None
    name = name or getattr(target, "__name__", None) or type(target).__name__.lower()
    for what, value in (("gradient", gradient), ("assume", assume)):
        if value is not None and not callable(value):
            raise DeclarationError(f"case {name!r}: {what}={value!r} is not a function of the case's arguments")
    annotated: Callable[..., Any] = module.forward if module is not None else target
    function = target
    if inputs is not None:
        leaves, rebuilt = flattened(inputs)
        arguments = tuple(argument(n, a, case_name=name) for n, a in leaves.items())
        if list(leaves) != list(inputs):
            function = _nested(target, rebuilt)
    else:
        arguments = arguments_of(annotated, name)
    if module is not None:
        function, parameters = _functional(module, arguments)
        arguments += parameters
    if not any(a.differentiated for a in arguments):
        raise DeclarationError(
            f"case {name!r} has nothing to differentiate: none of its arguments is a Float or Complex tensor"
            + (f" ({', '.join(a.name for a in arguments)})" if arguments else "")
        )
    _check_predecessor(name, arguments, preceded_by, clear=clear)
    if preceded_by is not None and gradient is None:
        raise DeclarationError(f"case {name!r}: with preceded_by= say with gradient= what .grad should hold at the end")
    before = () if preceded_by is None else preceded_by.rules
    given = rules_by_operation((*before, *rules), f"case {name!r}")
    code = getattr(inspect.unwrap(target), "__code__", None)
    return Case(
        function=function,
        name=name,
        doc=inspect.cleandoc(getattr(target, "__doc__", None) or "") if module is None else "",
        arguments=arguments,
        returns=_returns(annotated, name),
        gradient=gradient,
        assume=assume,
        preceded_by=preceded_by,
        clear=clear,
        rules=tuple(given.values()),
        file=str(Path(code.co_filename)) if code else "",
        line=code.co_firstlineno if code else 0,
    )


def _nested(target: Callable[..., Any], rebuilt: Callable[[Sequence[Any]], dict[str, Any]]) -> Callable[..., Any]:
    """A function of dicts, lists and tuples as one of their leaves."""

    def function(*leaves: Any) -> Any:
        return target(*rebuilt(leaves).values())

    return function


def _check_predecessor(name: str, arguments: tuple[Argument, ...], preceded_by: Case | None, *, clear: bool) -> None:
    if preceded_by is None:
        if clear:
            raise DeclarationError(f"case {name!r}: clear=True means nothing without preceded_by=")
        return
    if not isinstance(preceded_by, Case):
        raise DeclarationError(f"case {name!r}: preceded_by={preceded_by!r} is not a case")
    if preceded_by.arguments != arguments:
        raise DeclarationError(
            f"case {name!r} and preceded_by={preceded_by.name!r} must have the same arguments; they have\n"
            f"    {arguments}\n    {preceded_by.arguments}"
        )


def _returns(function: Callable[..., Any], name: str) -> tuple[Axis, ...] | None:
    try:
        annotation = typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - with `inputs=` nobody asked for annotations
        return None
    dims = getattr(annotation, "dim_str", None)
    return None if dims is None else axes_of(dims, f"case {name!r}, result")


def _functional(module: Any, arguments: tuple[Argument, ...]) -> tuple[Callable[..., Any], tuple[Argument, ...]]:
    """A module as a function of its inputs and parameters."""
    from torch.func import functional_call

    shapes = {n: tuple(p.shape) for n, p in module.named_parameters()}
    buffers = {n: b.detach().clone() for n, b in module.named_buffers()}
    count = len(arguments)

    def function(*args: Any) -> Any:
        parameters = dict(zip(shapes, args[count:], strict=True))
        # Buffers follow the dtype of what they meet, and are fresh: a module may update them in place.
        dtype = next((a.dtype for a in args if a.is_floating_point()), None)
        fresh = {n: b.to(dtype) if b.is_floating_point() else b.clone() for n, b in buffers.items()}
        return functional_call(module, parameters | fresh, args[:count])

    return function, tuple(Argument(n, "real", tuple(Axis(str(s)) for s in shape)) for n, shape in shapes.items())
