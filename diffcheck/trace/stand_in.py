"""Functions in place of operations: a rule that somebody gave, or a custom operation's own Python function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffcheck.algebra import expr as graph
from diffcheck.declare.operation import operation
from diffcheck.declare.rule import (
    Mismatch,
    OperationRule,
    arguments_in_words,
    called,
    how_to_give,
    named,
    own_function,
    pairs_of,
    rule_for,
)
from diffcheck.errors import CaseFailure, DiffcheckError, Unsupported, WrongRule
from diffcheck.rules.complexes import parts_of
from diffcheck.rules.registry import Array
from diffcheck.torch_internals import decomposition_of


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


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation."""

    func: Any
    before: list[Any]
    """Its arguments in full as they were before it ran, with memory of their own."""
    args: list[Any]
    """The same as it left them."""
    result: Any


class StandIns:
    """The functions that are followed in place of operations.

    Args:
        given: Rules that somebody gave, by qualified name; they come first.
        window: Reads a tensor's shadow.
    """

    def __init__(self, given: Mapping[str, OperationRule], window: Callable[[Tensor], Array]) -> None:
        self._given = given
        self._window = window
        self._applying: list[OperationRule] = []
        self.applied: list[Applied] = []
        """What was followed so far, in order."""

    def of(self, func: Any) -> OperationRule | None:
        """The rule that somebody gave for an operation; its own Python function, if nothing else says what it does."""
        given = rule_for(func, self._given)
        if given is not None:
            if given in self._applying:
                raise CaseFailure(f"{named(given)} calls {given.operation} itself: it says nothing")
            return given
        own = None if operation(func).random else own_function(func)
        return None if own is None or decomposition_of(func) is not None else own

    def follow(
        self, stand_in: OperationRule, call: Call, following: Callable[[], AbstractContextManager[None]]
    ) -> tuple[list[Tensor], list[Array]]:
        """What an operation computed, and its shadows by the function in its place.

        Args:
            stand_in: The function.
            call: Of the operation.
            following: Follows what is called while it is entered.

        Raises:
            WrongRule: The function returns another kind of thing than the operation.
            Unsupported: It can't be followed.
            CaseFailure: It raises something else.
        """
        func, words = call.func, arguments_in_words(call.func, call.before)
        self._applying.append(stand_in)
        try:
            with following():
                said = called(stand_in.function, func, call.before)
            pairs = pairs_of(func, call.result, said, call.args, call.before)
        except Mismatch as error:
            raise WrongRule(f"{named(stand_in)} {error}, at {words}") from None
        except Unsupported as error:
            if stand_in.given or error.advice:
                raise
            raise Unsupported(
                operation(func).text, f"its Python function can't be followed ({error})", how_to_give(func)
            ) from error
        except DiffcheckError:
            raise
        except Exception as error:  # a user's function may raise anything
            raise CaseFailure(f"{named(stand_in)} raises {type(error).__name__}: {error}, at {words}") from error
        finally:
            self._applying.pop()
        shadows = [self._window(pair.stated) for pair in pairs]
        numbers = [s for pair, s in zip(pairs, shadows, strict=True) if not _is_whole(pair.computed)]
        if not stand_in.given and numbers and all(graph.is_constant(e) for s in numbers for e in parts_of(s)):
            raise Unsupported(
                operation(func).text,
                "its Python function can't be followed (nothing that it computes seems to depend on its arguments)",
                how_to_give(func),
            )
        custom, advice = own_function(func) is not None, () if stand_in.given else how_to_give(func)
        for pair, shadow in zip(pairs, shadows, strict=True):
            # The numbers are looked at when all have been computed; until then they may be written to.
            computed = pair.computed.detach().clone()
            self.applied.append(Applied(stand_in, pair.label, words, computed, shadow, custom, advice))
        return [pair.computed for pair in pairs], shadows


def copied(value: Any) -> Any:
    """An argument whose tensors have memory of their own."""
    if isinstance(value, Tensor):
        return value.clone()
    return [copied(part) for part in value] if isinstance(value, (list, tuple)) else value


def _is_whole(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())
