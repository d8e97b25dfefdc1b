"""Rules that users give for operations of their own: what an opaque operation computes, in plain PyTorch.

A rule is a value. It counts where it is handed over, in `case(rules=…)` or `check(…, rules=…)`, and nowhere else.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, overload

import torch
from torch import Tensor

from diffcheck import torch_internals
from diffcheck.declare.operation import tensors_in
from diffcheck.errors import DeclarationError, DiffcheckError

PAGE: Final = "docs/rules.md"
_TENSORS: Final = frozenset({"Tensor", "List[Tensor]", "Optional[Tensor]", "List[Optional[Tensor]]"})
_COMPOSITE: Final = "CompositeImplicitAutograd"
_LONGEST: Final = 300
"""Characters of a call's arguments that are written out."""


@dataclass(frozen=True, eq=False)
class OperationRule:
    """What an operation computes, as a plain PyTorch function of the same arguments. Made by `rule`, not by hand."""

    operation: str
    """Its qualified name, `mylib::scaled_exp`; of several overloads one, `aten::add.Tensor`."""
    function: Callable[..., Any]
    place: str = ""
    """Where the function stands: `cases/mine.py:12`."""
    given: bool = True
    """Whether somebody gave it; otherwise it is the operation's own Python function, which may be no rule at all."""

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuses: under the operation's own name, a rule would be called in its place, and nothing be checked."""
        raise TypeError(
            f"the rule for {self.operation} is no function, and is not called in its operation's place: give the two "
            "different names (the rule's function is its .function)"
        )


@overload
def rule(operation: Any, function: Callable[..., Any], /) -> OperationRule: ...
@overload
def rule(operation: Any, /) -> Callable[[Callable[..., Any]], OperationRule]: ...
def rule(
    operation: Any, function: Callable[..., Any] | None = None, /
) -> OperationRule | Callable[[Callable[..., Any]], OperationRule]:
    """Says what an operation computes, as a decorator or as a call on any function: `rule("mylib::exp", torch.exp)`.

    Args:
        operation: Its qualified name, `"mylib::scaled_exp"`, or itself: what `torch.library.custom_op` gives, or
            `torch.ops.mylib.scaled_exp`. Of several overloads one is named: `"aten::add.Tensor"`.
        function: Plain PyTorch that takes the same arguments, in the order of the operation's schema, and returns what
            the operation returns. What the operation writes to, the function writes to.

    The function is traced in place of the operation, whose numbers are held to it: its value is the reference. It need
    not be differentiable by autograd, and may be slow.

    Raises:
        DeclarationError: There is no such operation, it can't have a rule, or the function does not take its arguments;
            the message shows how to write it.
    """
    func = _found(operation)
    name = _name_of(func)
    _check_schema(name, func)

    def declare(stated: Callable[..., Any]) -> OperationRule:
        if not callable(stated):
            raise DeclarationError(f"rule for {name}: {stated!r} is not a function of the operation's arguments")
        _check_arguments(name, stated, func)
        code = getattr(inspect.unwrap(stated), "__code__", None)
        return OperationRule(name, stated, f"{code.co_filename}:{code.co_firstlineno}" if code else "")

    return declare if function is None else declare(function)


def rules_by_operation(rules: Sequence[OperationRule], whose: str) -> Mapping[str, OperationRule]:
    """Rules by the operation that they are for.

    Raises:
        DeclarationError: Something is no rule, or an operation has two.
    """
    found: dict[str, OperationRule] = {}
    for given in (rules,) if isinstance(rules, OperationRule) else rules:
        if not isinstance(given, OperationRule):
            raise DeclarationError(
                f'{whose}: rules= takes what diffcheck.rule gives, as in rules=[rule("mylib::exp", torch.exp)], '
                f"not {given!r} ({type(given).__name__})"
            )
        if given.operation in found and found[given.operation] is not given:
            places = " and ".join(r.place or repr(r.function) for r in (found[given.operation], given))
            raise DeclarationError(f"{whose}: rules= has two rules for {given.operation}, {places}")
        found[given.operation] = given
    return found


def rule_for(func: Any, rules: Mapping[str, OperationRule]) -> OperationRule | None:
    """The rule for an overload: its own, or its operation's."""
    if not rules:
        return None
    return rules.get(f"{torch_internals.schema(func).name}.{torch_internals.overload_name(func)}") or rules.get(
        torch_internals.schema(func).name
    )


def arguments_in_full(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """A call's arguments in the order of the schema, with the defaults that its caller left out."""
    arguments = torch_internals.schema(func).arguments
    return [*args, *(kwargs.get(a.name, a.default_value) for a in arguments[len(args) :])]


def called(function: Callable[..., Any], func: Any, args: Sequence[Any]) -> Any:
    """Calls a function with an operation's arguments in full: by keyword those that the operation takes so."""
    pairs = list(zip(torch_internals.schema(func).arguments, args, strict=True))
    return function(*(v for a, v in pairs if not a.kwarg_only), **{a.name: v for a, v in pairs if a.kwarg_only})


def how_to_give(func: Any) -> tuple[str, ...]:
    """The lines that give an operation a rule, to be pasted; or the one that says why it can't have one."""
    schema = torch_internals.schema(func)
    name = _name_of(func)
    try:
        _check_schema(name, func)
    except DeclarationError as error:
        return (str(error),)
    label = schema.name.partition("::")[2].strip("_")
    label = f"{label}_rule" if label.isidentifier() else "operation_rule"  # never the operation's own name
    written = [a.name for a in schema.arguments if _is_written(a)]
    body = [f"    {argument}.copy_(...)  # the operation writes to it" for argument in written]
    fresh = [r for r in schema.returns if r.alias_info is None]
    if fresh:
        results = ", ".join("..." for _ in fresh)
        body.append(f"    return {results}  # what {name} computes, in plain PyTorch")
    return (
        f"A rule for it takes a few lines ({PAGE}):",
        "",
        "from diffcheck import rule",
        "",
        f'@rule("{name}")',
        f"def {label}({_parameters(schema)}):",
        *body,
        "",
        f"# then: @case(rules=[{label}]), or check(..., rules=[{label}])",
    )


def _parameters(schema: Any) -> str:
    """An operation's parameters as those of a Python function."""
    parts: list[str] = []
    for argument in schema.arguments:
        if argument.kwarg_only and "*" not in parts:
            parts.append("*")
        default = f"={argument.default_value!r}" if argument.has_default_value() else ""
        parts.append(f"{argument.name}{default}")
    return ", ".join(parts)


# ---------------------------------------------------------------------------------------------------------------------
# What a rule says of one call
# ---------------------------------------------------------------------------------------------------------------------


class Mismatch(DiffcheckError):
    """A rule returns another kind of thing than its operation: the rest of a sentence that begins with the rule."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor that the operation computed, and what its rule computes in its place."""

    label: str
    """`its result`, `its result 2 of 3`, `what it writes to x`."""
    computed: Tensor
    stated: Tensor


def named(stated: OperationRule) -> str:
    """`the rule for mylib::exp (cases/mine.py:12)`."""
    if not stated.given:
        return f"the Python function of {stated.operation}"
    file = Path(stated.place)
    place = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return f"the rule for {stated.operation}" + (f" ({place})" if stated.place else "")


def own_function(func: Any) -> OperationRule | None:
    """The Python function behind a `torch.library.custom_op`, which can be traced if it is plain PyTorch."""
    if func.namespace in ("aten", "prims"):  # of its primitives PyTorch makes such operations too
        return None
    function = torch_internals.function_of_custom_operation(func)
    return None if function is None else OperationRule(torch_internals.schema(func).name, function, given=False)


def pairs_of(func: Any, result: Any, said: Any, args: Sequence[Any], copies: Sequence[Any]) -> list[Pair]:
    """What an operation returned and wrote to, beside what its rule did.

    Args:
        func: The operation.
        result: What it returned.
        said: What its rule returned.
        args: Its arguments in full, by position, then those by keyword.
        copies: The same arguments, as its rule was given them.

    Raises:
        Mismatch: The rule returns something of another kind.
    """
    returns = torch_internals.schema(func).returns
    pairs: list[Pair] = []
    if any(r.alias_info is None for r in returns):
        parts, others = (x if len(returns) > 1 else (x,) for x in (result, said))
        if not isinstance(others, (tuple, list)) or len(others) != len(parts):
            raise Mismatch(f"returns {_described(said)}, where the operation returns {_described(result)}")
        for position, (declared, part, other) in enumerate(zip(returns, parts, others, strict=True), start=1):
            if declared.alias_info is None:
                label = "its result" if len(returns) == 1 else f"its result {position} of {len(returns)}"
                pairs += _tensor_pairs(label, part, other)
    for argument, value, copy in zip(torch_internals.schema(func).arguments, args, copies, strict=True):
        if _is_written(argument):
            pairs += _tensor_pairs(f"what it writes to {argument.name}", value, copy)
    return pairs


def _tensor_pairs(label: str, computed: Any, stated: Any) -> Iterator[Pair]:
    real, others = tensors_in([computed]), tensors_in([stated])
    if [(t.shape, t.dtype) for t in real] != [(t.shape, t.dtype) for t in others]:
        raise Mismatch(f"gives {_described(stated)} for {label}, where the operation gives {_described(computed)}")
    several = len(real) > 1
    for position, (one, other) in enumerate(zip(real, others, strict=True)):
        yield Pair(f"{label}, tensor {position}" if several else label, one, other)


def _described(value: Any) -> str:
    """What kind of thing something is: `float64 of shape [2, 3]`."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_described, value))})"
    return "nothing" if value is None else f"{value!r} ({type(value).__name__})"


def arguments_in_words(func: Any, args: Sequence[Any]) -> str:
    """A call's arguments as a person would write them: `x = [0.5, 1.0], scale = 2.0`."""

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.tolist()
        return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value

    written = ", ".join(
        f"{a.name} = {plain(v)!r}" for a, v in zip(torch_internals.schema(func).arguments, args, strict=True)
    )
    return written if len(written) <= _LONGEST else f"{written[:_LONGEST]}…"


# ---------------------------------------------------------------------------------------------------------------------
# What can have a rule
# ---------------------------------------------------------------------------------------------------------------------


def _found(operation: Any) -> Any:
    """The overload that is meant.

    Raises:
        DeclarationError: There is none, or there are several.
    """
    if torch_internals.is_overload(operation):
        return operation
    packet, overload_name = operation, ""
    if not torch_internals.is_packet(operation):
        name = getattr(operation, "_qualname", operation)
        if not isinstance(name, str):
            raise DeclarationError(
                f'rule takes an operation, as in @rule("mylib::exp") or @rule(torch.ops.mylib.exp), not {operation!r} '
                f"({type(operation).__name__})"
            )
        space, separator, rest = name.partition("::")
        base, _, overload_name = rest.partition(".")
        packet = getattr(getattr(torch.ops, space), base, None) if separator and space and base else None
        if packet is None:
            raise DeclarationError(_unknown(name))
    overloads = _overloads(packet)
    qualified = str(packet).replace(".", "::", 1)
    chosen = [o for o in overloads if not overload_name or torch_internals.overload_name(o) == overload_name]
    if len(chosen) != 1:
        names = ", ".join(
            repr(f"{torch_internals.schema(o).name}.{torch_internals.overload_name(o)}") for o in overloads
        )
        raise DeclarationError(
            f"rule: {qualified} has {'several' if chosen else 'no such'} overload"
            f"{'s' if chosen else f' as {overload_name!r}'}; name one of {names}"
        )
    return chosen[0]


def _overloads(packet: Any) -> list[Any]:
    """An operation's overloads, without those of TorchScript that are listed and do not exist."""
    found = [getattr(packet, name) for name in packet.overloads()]
    return [overload for overload in found if torch_internals.exists(overload)]


def _name_of(func: Any) -> str:
    """An operation's qualified name, with that of the overload if there are others."""
    alone = len(_overloads(torch_internals.packet(func))) <= 1
    return (
        str(torch_internals.schema(func).name)
        if alone
        else f"{torch_internals.schema(func).name}.{torch_internals.overload_name(func)}"
    )


def _unknown(name: str) -> str:
    known = sorted(torch_internals.names_of_operations())
    near = difflib.get_close_matches(name.replace(".", "::", 1) if "::" not in name else name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return (
        f'rule: no operation is registered as {name!r}; {hint}Names are as in @rule("mylib::exp"); what registers an '
        "operation must be imported before its rule"
    )


def _check_schema(name: str, func: Any) -> None:
    """Raises: DeclarationError if no rule can be followed."""
    schema = torch_internals.schema(func)
    views = [r for r in schema.returns if r.alias_info is not None and not r.alias_info.is_write]
    if views:
        raise DeclarationError(
            f"rule: {name} returns a view of its argument ({schema}): a view needs no rule, it looks at the same memory"
        )
    if torch.Tag.nondeterministic_seeded in func.tags:
        raise DeclarationError(
            f"rule: {name} draws random numbers, and a rule would draw others; pass what is random as an argument"
        )
    if torch_internals.is_composite(func):
        raise DeclarationError(
            f"rule: PyTorch runs {name} as other operations ({_COMPOSITE}), which are what is followed; "
            "one of these may want a rule"
        )
    other = [str(r.type) for r in schema.returns if str(r.type) not in _TENSORS]
    if other:
        raise DeclarationError(
            f"rule: {name} returns {', '.join(other)} ({schema}), and a number that leaves the tensors can't be "
            "followed; let it return a tensor without axes"
        )
    if not schema.returns and not any(map(_is_written, schema.arguments)):
        raise DeclarationError(f"rule: {name} returns no tensor and writes to none ({schema}): there is nothing to say")


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and bool(argument.alias_info.is_write)


def _check_arguments(name: str, function: Callable[..., Any], func: Any) -> None:
    """Raises: DeclarationError if the function does not take the operation's arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in function says nothing of its arguments
        return
    arguments = torch_internals.schema(func).arguments
    try:
        signature.bind(
            *(None for a in arguments if not a.kwarg_only), **{a.name: None for a in arguments if a.kwarg_only}
        )
    except TypeError as error:
        label = getattr(function, "__name__", "the function")
        raise DeclarationError(
            f"rule for {name}: {label}{signature} does not take its arguments ({error}); write "
            f"def {label}({_parameters(torch_internals.schema(func))})"
        ) from error
