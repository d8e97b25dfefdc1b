"""A case that misbehaves: what it does wrong, in words, and the limit that ends it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from diffcheck.alarm import alarm
from diffcheck.declare.case import Case
from diffcheck.declare.domain import matches
from diffcheck.differentiate import autodiff
from diffcheck.draw.inputs import copied
from diffcheck.errors import BudgetExceeded, CaseFailure, DiffcheckError, NotAvailable
from diffcheck.modes import plain, under_vmap
from diffcheck.verdict import Mistake

_FORWARD_LACKS = ("forward AD", "jvp")
_HIGHER_ORDER_LACKS = (
    *_FORWARD_LACKS,
    "setup_context",
    "twice",
    "is not implemented",
    "not differentiable",
    # PyTorch's own forward-mode formulas write in place to what their derivative needs (logsumexp's does).
    "modified by an inplace operation",
)
_VMAP_LACKS = ("vmap", "functorch", "atching rule", "batched tensor", "to use channels_last format")
_NOT_IMPLEMENTED = {"reverse": (), "accumulate": (), "gradient": (), "surrogate": (), "forward": _FORWARD_LACKS}
"""What PyTorch says where it lacks a mode, for an operation or for a custom Function."""
_KERNELS_OF = {torch.float16: "Half", torch.bfloat16: "BFloat16"}
"""What PyTorch calls the dtypes that not every operation is implemented for."""
_DTYPE_LACKS = (
    *("not implemented for", "not supported", "nsupported dtype", "not support", "'t support", "only supported for"),
    "Expected both inputs to be",
)
_WIDE_ONLY = "must be either float or double"


def time_limit(seconds: float, what: str) -> alarm:
    """Interrupts what runs too long, with a BudgetExceeded that says what it was."""
    return alarm(seconds, lambda: BudgetExceeded(f"{what} ran for more than {seconds:g} seconds"))


def described(values: Mapping[str, Tensor]) -> str:
    """Inputs as a person would write them: `x = [0.0, 1.0], t = 3`."""
    return ", ".join(f"{name} = {value.tolist()}" for name, value in values.items())


@contextlib.contextmanager
def case_errors(case: Case, mode: str, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Turns whatever the case raises into a failure that names the case and the input."""
    try:
        yield
    except DiffcheckError:
        raise
    except (KeyboardInterrupt, SystemExit):
        raise
    except MemoryError as error:
        raise BudgetExceeded(f"case {case.name!r} needs more memory than there is, at {described(values)}") from error
    except Exception as error:  # a user's function may raise anything
        text = str(error).strip().splitlines()[0] if str(error).strip() else ""
        if "can't allocate memory" in text or "out of memory" in text:
            raise BudgetExceeded(f"case {case.name!r} needs more memory than there is: {text}") from error
        lacking = lacking_dtype({value.dtype for value in values.values()}, text)
        if lacking:
            raise NotAvailable(lacking, text, mode=False) from error
        lacks = _NOT_IMPLEMENTED.get(plain(mode), _HIGHER_ORDER_LACKS)
        if any(word in text for word in (*lacks, *(_VMAP_LACKS if under_vmap(mode) else ()))):
            raise NotAvailable(mode, text, mode=True) from error
        line = _line_of(error, case.file)
        where = f" (line {line})" if line else ""
        what = {"gradient": "gradient= of case", "surrogate": "surrogate= of case"}.get(mode, "case")
        raise CaseFailure(
            f"{what} {case.name!r} raises {type(error).__name__}{where}: {text}, at {described(values)}"
        ) from error


def lacking_dtype(dtypes: Iterable[torch.dtype], text: str) -> str:
    """The one of some dtypes of which an error says that an operation is for others only; or nothing."""
    for dtype in dtypes:
        name = _KERNELS_OF.get(dtype)
        if name and (_WIDE_ONLY in text or (name in text and any(word in text for word in _DTYPE_LACKS))):
            return str(dtype).removeprefix("torch.")
    return ""


def _line_of(error: BaseException, file: str) -> int | None:
    line, frame = None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == file:
            line = frame.tb_lineno
        frame = frame.tb_next
    return line


def check_outputs(case: Case, outputs: Sequence[Tensor], values: Mapping[str, Tensor]) -> None:
    """A case returns something that can be differentiated, of the shape that it declares."""
    if not outputs:
        raise CaseFailure(f"case {case.name!r} returns no floating-point tensor, at {described(values)}")
    if case.returns is not None and len(outputs) == 1:
        shape = tuple(outputs[0].shape)
        shapes = {n: tuple(v.shape) for n, v in values.items()}
        if not matches(case.returns, shape, case.arguments, shapes):
            declared = " ".join(axis.text for axis in case.returns)
            raise CaseFailure(
                f'case {case.name!r} returns shape {list(shape)}, but declares "{declared}", at inputs of shapes '
                + ", ".join(f"{n} {list(s)}" for n, s in shapes.items())
            )


def check_unchanged(
    case: Case, values: Mapping[str, Tensor], before: Mapping[str, Tensor], changed: Sequence[str]
) -> None:
    """Values may stay the same by chance (0 doubled is 0); the shadow of an input that is written to does not."""
    for name, value in values.items():
        if name in changed or not torch.equal(torch.nan_to_num(value.detach()), torch.nan_to_num(before[name])):
            raise CaseFailure(
                f"case {case.name!r} changes its input {name} in place, from {before[name].tolist()} "
                f"to {value.tolist()}; write {name}.clone() first"
            )


_WHAT_TO_DO: Final = "pass what is random as an argument, or seed the generator inside"
_DRAWS: Final = 3
"""So often is called what draws random numbers: what does not depend on them is no random function."""


def check_repeatable(case: Case, values: Mapping[str, Tensor], traced: Sequence[Tensor], *, drew_numbers: bool) -> None:
    """The same input must give the same output: otherwise there is no function to differentiate.

    Inputs require gradients, as they do wherever the function is differentiated: it may ask.
    """
    why = "draws from PyTorch's generator: " if drew_numbers else ""
    for _ in range(_DRAWS if drew_numbers else 1):
        again = autodiff.outputs_of(case.function(*leaves_of(case, values)))
        ours = traced[-len(again) :] if again else ()
        for first, second in zip(ours, again, strict=True):
            first, second = first.detach(), second.detach()
            if first.shape != second.shape or not _alike(torch.nan_to_num(first), torch.nan_to_num(second)):
                raise CaseFailure(
                    f"case {case.name!r} is random: {'it ' if why else ''}{why}the same input gives {first.tolist()}, "
                    f"then {second.tolist()}; {_WHAT_TO_DO}"
                )


def leaves_of(case: Case, values: Mapping[str, Tensor]) -> list[Tensor]:
    """Copies of inputs, of which those that are differentiated require gradients."""
    copies = {name: copied(value.detach()) for name, value in values.items()}
    for known in case.differentiated:
        copies[known.name].requires_grad_()
    return list(copies.values())


def _alike(first: Tensor, second: Tensor) -> bool:
    """Equal but for rounding: matmul takes another kernel where gradients are recorded."""
    slack = math.sqrt(torch.finfo(first.dtype).eps)
    largest = float(first.abs().amax()) if first.numel() else 0.0
    return torch.allclose(first, second, rtol=slack, atol=slack * largest)


def check_forms(case: Case, names: Sequence[str], derivatives: Sequence[Tensor], like: Sequence[Tensor]) -> None:
    """A gradient has the shape, the dtype and the device of its input, a tangent those of its output.

    Where a backward pass gives something else autograd mostly refuses or converts it; forward mode takes what it gets.
    """
    for name, found, expected in zip(names, derivatives, like, strict=True):
        if case.any_dtype:
            expected = expected.detach().to(found.dtype)
        if found.layout is torch.strided and _form(found) != _form(expected):
            raise CaseFailure(
                f"the derivative of case {case.name!r} for {name} is {_form(found)}, and {name} is {_form(expected)}: "
                "convert it in the derivative"
            )


def _form(tensor: Tensor) -> str:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return f"{dtype} of shape {list(tensor.shape)} on {tensor.device}"


def check_same_derivatives(
    case: Case, values: Mapping[str, Tensor], again: Callable[[], Sequence[Tensor]], *, drew_numbers: bool
) -> None:
    """The same input and the same cotangents must give the same derivatives; `again` computes them once more."""
    first, second = again(), again()
    for position, (one, other) in enumerate(zip(first, second, strict=True)):
        if one.shape == other.shape and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other)):
            continue
        if drew_numbers:
            raise CaseFailure(
                f"case {case.name!r} is random: it draws from PyTorch's generator: the same input gives the "
                f"derivatives {one.tolist()}, then {other.tolist()}; {_WHAT_TO_DO}"
            )
        third = again()[position]
        steady = one.shape == other.shape == third.shape and torch.allclose(third - other, other - one, rtol=1e-6)
        name = Mistake.ACCUMULATED if steady else Mistake.NONDETERMINISTIC
        added = ": each adds the same amount" if steady else ""
        raise CaseFailure(
            f"{name}: the derivatives of case {case.name!r} are not the same twice: the same input and the same "
            f"incoming gradient give {one.tolist()}, then {other.tolist()}, then {third.tolist()}{added}, at "
            f"{described(values)}; a backward pass must not draw random numbers, nor remember earlier ones"
        )
