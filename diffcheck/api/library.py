"""diffcheck as a library: `check` gives results as values, `assert_derivatives` raises what is wrong."""

from __future__ import annotations

import secrets
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import hypothesis
import hypothesis.core
import torch

from diffcheck.checking.check import check as check_case
from diffcheck.declare.case import Case, case
from diffcheck.declare.given import case_at, with_given
from diffcheck.declare.rule import OperationRule, rules_by_operation
from diffcheck.differentiate.device import why_absent
from diffcheck.draw.search import is_at_scale
from diffcheck.errors import DeclarationError, Unsupported, WrongDerivativeError
from diffcheck.modes import CPU, DTYPES, FIRST_ORDER, MODES, USUAL_DTYPES, dtypes_for, refusal
from diffcheck.report.failure import failure
from diffcheck.report.summary import fails
from diffcheck.results import Results
from diffcheck.settings import Settings


def check(  # noqa: PLR0913 - one parameter per option
    target: Case | Callable[..., Any],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    reference: Callable[..., Any] | None = None,
    gradient: Callable[..., Any] | None = None,
    surrogate: Callable[..., Any] | None = None,
    assume: Callable[..., Any] | None = None,
    rules: Sequence[OperationRule] = (),
    name: str | None = None,
    modes: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    settings: hypothesis.settings | None = None,
    examples: int | None = None,
    seed: int | None = None,
    seconds: float = 60.0,
    device: str | torch.device | None = None,
) -> Results:
    """Checks the derivatives of a function: at given inputs, over a domain, or both.

    Args:
        target: A case, any PyTorch function, or an `nn.Module`, whose parameters are inputs by name.
        *args: Inputs at which it is checked: tensors of any size that a trace can follow, numbers, and dicts, lists
            and tuples of them. Floating-point and complex tensors are differentiated: those that require gradients, or
            all if none does.
        kwargs: Keyword arguments for the function at these inputs.
        inputs: The domain: jaxtyping annotations (with bounds) by argument, nested as the arguments are. A function
            that is annotated, or a case, needs none; with `args` an annotated function is checked at these only.
        reference: A plain PyTorch function of the same arguments, for a target that can't be traced (a kernel in C++ or
            Triton). The reference is traced, proved and certified, and the target's numbers are held to it.
        gradient: What the textbook says; see `case`.
        surrogate: The backward pass that is meant where on purpose it is not the derivative; see `case`.
        assume: What holds between the arguments of the domain; see `case`.
        rules: What opaque operations compute, as `diffcheck.rule` gives it.
        name: Instead of the function's own.
        modes: Some of `reverse`, `forward`, the four of second order (`reverse-over-reverse`, …) and the eight of third
            order (`reverse-over-forward-over-reverse`, …), each also under vmap (`vmap-reverse`, …); by default the
            first two. One that the function lacks is `not available`, which fails if it is named here.
        dtypes: Some of `float64`, `float32`, `float16` and `bfloat16`; by default the first two over a domain, and the
            dtype of given inputs. Where some input is complex, `complex128` and `complex64` stand for the first two.
        settings: Hypothesis' settings; by default those of the profile in force. Its `max_examples`, `derandomize` and
            `database` count.
        examples: How many inputs are drawn, instead of `settings.max_examples`.
        seed: Draws the same inputs again.
        seconds: What is not done by then is undecided.
        device: Where PyTorch computes: `cpu`, `cuda`, `cuda:1`, …; by default where given inputs lie, and else `cpu`.
            Given inputs must lie there.

    Returns:
        A result per mode and dtype, and one for `gradient=`.

    Raises:
        DeclarationError: The call can't be understood, or the device is not there; the message says how to write it.
        Unsupported: A given tensor is sparse, quantized, or of a dtype that is not judged.
    """
    chosen = _declared(target, args, kwargs or {}, inputs, reference, gradient, assume, name)
    if rules:
        chosen = _with_rules(target, chosen, rules)
    if surrogate is not None:
        chosen = _with_surrogate(target, chosen, surrogate)
    named_modes = () if modes is None else _some("modes", modes, MODES)
    named_dtypes = () if dtypes is None else _some("dtypes", dtypes, DTYPES)
    asked = settings_for(
        named_modes or FIRST_ORDER, named_dtypes or dtypes_of(chosen), settings, examples, seed, seconds
    )
    asked = replace(asked, by_name=frozenset((*named_modes, *named_dtypes)), device=device_of(chosen, device))
    return Results(tuple(check_case(chosen, asked, case_id=chosen.name, location="")))


def settings_for(
    modes: tuple[str, ...],
    dtypes: tuple[str, ...],
    settings: hypothesis.settings | None = None,
    examples: int | None = None,
    seed: int | None = None,
    seconds: float = 60.0,
) -> Settings:
    """What a call asks for, and Hypothesis' profile where it says nothing."""
    profile = settings or hypothesis.settings()
    forced = hypothesis.core.global_force_seed if seed is None else seed  # what pytest's --hypothesis-seed says
    if forced is None and profile.derandomize:
        forced = 0
    return Settings(
        examples=profile.max_examples if examples is None else examples,
        seed=secrets.randbelow(2**32) if forced is None else int(forced),
        modes=modes,
        dtypes=dtypes,
        seconds=seconds,
        database=profile.database is not None,
        reuse=forced is None,
        profile=profile,
    )


def assert_derivatives(target: Case | Callable[..., Any], /, *args: Any, strict: bool = False, **options: Any) -> None:
    """Checks as `check` does, and raises what does not pass.

    Args:
        target: As for `check`.
        *args: As for `check`.
        strict: Whether `agrees` is not enough: only `proved` passes.
        **options: The other arguments of `check`.

    Raises:
        WrongDerivativeError: An `AssertionError` with the whole message; its `results` are those that fail.
        DeclarationError: See `check`.
    """
    failed = [r for r in check(target, *args, **options) if fails(r, strict=strict)]
    if failed:
        text = "\n".join(failure(r, r.finding.replay if r.finding else "", strict=strict, width=100) for r in failed)
        raise WrongDerivativeError("\n" + text.rstrip(), tuple(failed))


def _declared(
    target: Case | Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    inputs: Mapping[str, Any] | None,
    reference: Callable[..., Any] | None,
    gradient: Callable[..., Any] | None,
    assume: Callable[..., Any] | None,
    name: str | None,
) -> Case:
    """The case that a call describes."""
    names = (getattr(target, attribute, None) for attribute in ("name", "__name__", "_name"))  # the last: a custom_op's
    called = name or next((n for n in names if isinstance(n, str)), type(target).__name__)
    if not callable(target):
        raise DeclarationError(f"check takes a function, a module or a case, not {target!r} ({type(target).__name__})")
    given = bool(args or kwargs)
    if isinstance(target, Case):
        for word, value in (("inputs", inputs), ("gradient", gradient), ("assume", assume), ("reference", reference)):
            if value is not None:
                raise DeclarationError(f"case {target.name!r} is declared already: say {word}= where it is")
        return with_given(target, args, kwargs) if given else target
    traced, kernel = (target, None) if reference is None else (reference, target)
    if given and inputs is None:
        if gradient is not None or assume is not None:
            raise DeclarationError(f"{called}: gradient= and assume= belong to a domain; say inputs= too")
        at = case_at(traced, args, kwargs, name=called, kernel=kernel)
        if any(is_at_scale(at, values) for values in at.given):
            raise DeclarationError(
                f"{called}: a reference is proved at small sizes, and these are large: say what the inputs are in "
                'general, as in inputs={"x": Float[Tensor, "n"]}'
            )
        return at
    declared = case(traced, inputs=inputs, gradient=gradient, assume=assume, name=called)
    if kernel is not None:
        same = inputs or _annotations(traced)
        declared = replace(declared, kernel=case(kernel, inputs=same, name=called).function)
    return with_given(declared, args, kwargs) if given else declared


def _with_rules(target: object, chosen: Case, rules: Sequence[OperationRule]) -> Case:
    if isinstance(target, Case):
        raise DeclarationError(f"case {target.name!r} is declared already: say rules= where it is")
    return replace(chosen, rules=tuple(rules_by_operation(rules, chosen.name).values()))


def _with_surrogate(target: object, chosen: Case, surrogate: Callable[..., Any]) -> Case:
    if isinstance(target, Case):
        raise DeclarationError(f"case {target.name!r} is declared already: say surrogate= where it is")
    if chosen.kernel is not None:
        raise DeclarationError(f"{chosen.name}: reference= and surrogate= exclude each other")
    return replace(chosen, surrogate=surrogate)


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    return hints


def _some(word: str, given: Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    values = (given,) if isinstance(given, str) else tuple(given)
    for value in values:
        if value not in known:
            raise DeclarationError(f"{word}={given!r}: {refusal(value, known)}")
    return values


def device_of(chosen: Case, asked: str | torch.device | None = None) -> str:
    """Where a case is to be computed: where it is asked for, or where its given inputs lie.

    Raises:
        DeclarationError: PyTorch can't compute there, or given inputs lie elsewhere.
    """
    lying = {str(v.device): v.device for values in chosen.given for v in values.values()}
    if len(lying) > 1:
        raise DeclarationError(f"{chosen.name}: its inputs lie on several devices, {', '.join(sorted(lying))}")
    name = str(asked) if asked is not None else next(iter(lying), CPU)
    if absent := why_absent(name):
        raise DeclarationError(f"{chosen.name}: it can't be computed on {name}: {absent}")
    wanted = torch.device(name)
    for place, device in lying.items():
        if device.type != wanted.type or wanted.index not in (None, device.index or 0):
            raise DeclarationError(
                f"{chosen.name}: device={name!r}, but its inputs lie on {place}: move them, and a module, with "
                f".to({name!r})"
            )
    return name


def dtypes_of(chosen: Case) -> tuple[str, ...]:
    """Of given inputs their own; over a domain the usual ones.

    Raises:
        Unsupported: They are of a dtype that is not judged.
    """
    if chosen.draws:
        return USUAL_DTYPES
    (values,) = chosen.given
    found = {str(v.dtype).removeprefix("torch.") for v in values.values()}
    (dtype,) = dtypes_for(found, complex_inputs=chosen.is_complex)
    if dtype not in DTYPES:
        raise Unsupported(dtype, f"inputs are judged in {', '.join(DTYPES)}; convert them, or say dtypes=")
    return (dtype,)
