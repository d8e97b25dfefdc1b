"""`gradcheck` and `gradgradcheck` with the signatures of PyTorch's: a library changes one import.

What is asked is the same, whether derivatives are right at the given inputs. What answers is not: no finite
differences, but the reference, the proof and the certified numbers of `diffcheck.check`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError as TorchGradcheckError

from diffcheck.api import protocol
from diffcheck.api.library import device_of, dtypes_of, settings_for
from diffcheck.checking.check import check as check_case
from diffcheck.compare.evaluate import Memory
from diffcheck.declare.case import Case
from diffcheck.declare.given import case_at
from diffcheck.declare.rule import OperationRule, rules_by_operation
from diffcheck.differentiate.autodiff import outputs_of
from diffcheck.differentiate.batch import flat
from diffcheck.differentiate.faults import leaves_of
from diffcheck.draw.inputs import Layout
from diffcheck.errors import WRONG_RULE, DeclarationError, DiffcheckError, Unsupported
from diffcheck.report.failure import failure
from diffcheck.results import Results
from diffcheck.torch_internals import tree_leaves
from diffcheck.verdict import PASSING, Result, Verdict

_MEANINGLESS: Final[Mapping[str, float]] = {"eps": 1e-6, "atol": 1e-5, "rtol": 1e-3}
"""Options of finite differences, with their defaults."""
_OPEN: Final = (Verdict.UNSUPPORTED, Verdict.NOT_AVAILABLE, Verdict.UNDECIDED)
"""Verdicts that do not say that a derivative is wrong, nor that it is right."""
_NON_CONTIGUOUS: Final = (Layout.STRIDED, Layout.TRANSPOSED)


class GradcheckError(DiffcheckError, TorchGradcheckError):
    """What `gradcheck` raises, with the whole message; `except` clauses for PyTorch's `GradcheckError` catch it."""

    def __init__(self, message: str, results: Results) -> None:
        super().__init__(message)
        self.results = results
        """Those that do not pass."""


def gradcheck(  # noqa: PLR0913 - PyTorch's signature
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,  # noqa: ARG001 - it has no meaning, and does no harm
    masked: bool | None = None,  # noqa: ARG001 - see above
    rules: Sequence[OperationRule] = (),
    reference: Callable[..., Any] | None = None,
    surrogate: Callable[..., Any] | None = None,
) -> bool:
    """Checks the first derivatives of a function at given inputs, as `torch.autograd.gradcheck` does.

    Args:
        func: Takes the inputs, and returns a tensor or several. Of a module it is the inputs that are differentiated,
            and not the parameters (`diffcheck.check` does both).
        inputs: A tensor or a tuple of arguments; those that require gradients are differentiated, of any of
            float64, float32, float16, bfloat16, complex128 and complex64.
            They are not changed. Sparse ones are refused; of complex ones see docs/how-it-works.md.
        eps: No meaning here: there are no finite differences. A message says so where something fails.
        atol: No meaning here: the tolerance is derived. See `eps`.
        rtol: As `atol`.
        raise_exception: Whether what is not right is raised, or False is returned.
        nondet_tol: Two runs must give the same derivatives, whatever it is: a derivative that changes can't be
            compared with a bound on rounding.
        check_undefined_grad: Undefined (None) and zero cotangents of some outputs, or of all, are what zeros must give;
            in forward mode, undefined and zero tangents.
        check_grad_dtypes: Gradients have the inputs' dtype, tangents the outputs'.
        check_batched_grad: `torch.autograd.grad(..., is_grads_batched=True)` gives the derivatives too.
        check_batched_forward_grad: Forward mode under `torch.vmap` gives the derivatives too.
        check_forward_ad: Forward mode.
        check_backward_ad: Reverse mode.
        fast_mode: No meaning here: it is fast.
        masked: It speaks of sparse tensors, which are refused.
        rules: What opaque operations compute, as `diffcheck.rule` gives it. (PyTorch's has no such argument, nor the
            next two.)
        reference: A plain function of the same inputs whose derivative is meant; see `diffcheck.check`.
        surrogate: The backward pass that is meant where it is not the derivative; see `diffcheck.case`. Only reverse
            mode is checked.

    Returns:
        True if everything that is asked for is right. The derivative is that of the function's values, as for
        PyTorch's: what is detached moves with the inputs (for `diffcheck.check` it is a constant that is meant). At a
        kink that is any value between the one-sided derivatives.

    Raises:
        GradcheckError: Something is wrong, and `raise_exception`; or it could not be told (an operation without a rule,
            a budget that ran out): then whatever `raise_exception` says.
        ValueError: No input requires gradients.
        Unsupported: An input is sparse, or of a dtype that is not judged.
        AssertionError: The options contradict each other.
    """
    _need("check_forward_ad or check_backward_ad", holds=check_forward_ad or check_backward_ad)
    _need("check_backward_ad for check_batched_grad", holds=check_backward_ad or not check_batched_grad)
    _need("check_forward_ad for check_batched_forward_grad", holds=check_forward_ad or not check_batched_forward_grad)
    case, dtype = _case_of(func, inputs, "gradcheck", rules, reference)
    if surrogate is not None:
        case = replace(case, surrogate=surrogate)
    modes = [m for m, asked in (("reverse", check_backward_ad), ("forward", check_forward_ad)) if asked]
    batched = [m for m, asked in (("reverse", check_batched_grad), ("forward", check_batched_forward_grad)) if asked]
    demands: list[_Demand] = []
    if check_undefined_grad:
        demands += [(m, protocol.undefined_gradients) for m in modes]
    if check_grad_dtypes:
        demands += [(m, protocol.dtypes) for m in modes]
    demands += [(m, protocol.under_vmap) for m in batched]
    return _answer(case, dtype, tuple(modes), demands, _Options(eps, atol, rtol, nondet_tol, raise_exception))


def gradgradcheck(  # noqa: PLR0913 - PyTorch's signature
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,  # noqa: ARG001 - it has no meaning, and does no harm
    masked: bool = False,  # noqa: ARG001 - see above
    rules: Sequence[OperationRule] = (),
) -> bool:
    """Checks the second derivatives of a function at given inputs, as `torch.autograd.gradgradcheck` does.

    Args:
        func: As for `gradcheck`.
        inputs: As for `gradcheck`. Derivatives of the gradients are taken with respect to them and to `grad_outputs`,
            whether these require gradients or not.
        grad_outputs: The cotangents of the outputs, None for zeros; checked besides those that are drawn.
        eps: As for `gradcheck`.
        atol: As for `gradcheck`.
        rtol: As for `gradcheck`.
        gen_non_contig_grad_outputs: Whether cotangents that are not contiguous in memory are certainly among them.
        raise_exception: As for `gradcheck`.
        nondet_tol: As for `gradcheck`.
        check_undefined_grad: As for `gradcheck`, for the gradients of the gradients.
        check_grad_dtypes: As for `gradcheck`.
        check_batched_grad: As for `gradcheck`.
        check_fwd_over_rev: The tangents of the gradients.
        check_rev_over_rev: The gradients of the gradients.
        fast_mode: As for `gradcheck`.
        masked: As for `gradcheck`.
        rules: As for `gradcheck`.

    Returns:
        As `gradcheck`.

    Raises:
        GradcheckError: As for `gradcheck`.
        ValueError: No input requires gradients, or `grad_outputs` do not fit the outputs.
        Unsupported: As for `gradcheck`.
        AssertionError: As for `gradcheck`.
    """
    _need("check_fwd_over_rev or check_rev_over_rev", holds=check_fwd_over_rev or check_rev_over_rev)
    _need("check_rev_over_rev for check_undefined_grad", holds=check_rev_over_rev or not check_undefined_grad)
    _need("check_rev_over_rev for check_batched_grad", holds=check_rev_over_rev or not check_batched_grad)
    case, dtype = _case_of(func, inputs, "gradgradcheck", rules)
    reverse, forward = "reverse-over-reverse", "forward-over-reverse"
    modes = [m for m, asked in ((reverse, check_rev_over_rev), (forward, check_fwd_over_rev)) if asked]
    demands: list[_Demand] = []
    if grad_outputs is not None or gen_non_contig_grad_outputs:
        entries, layouts = _cotangents(case, grad_outputs)
        along = functools.partial(protocol.at_cotangents, cotangents=entries, layouts=layouts)
        demands += [(m, along) for m in modes]
    for asked, demand in (
        (check_undefined_grad, protocol.undefined_gradients),
        (check_grad_dtypes, protocol.dtypes),
        (check_batched_grad, protocol.under_vmap),
    ):
        if asked and check_rev_over_rev:
            demands.append((reverse, demand))
    return _answer(case, dtype, tuple(modes), demands, _Options(eps, atol, rtol, nondet_tol, raise_exception))


_Demand = tuple[str, Callable[[protocol.Subject], Result]]
"""A mode, and what is asked of it besides its numbers."""


def _need(what: str, *, holds: bool) -> None:
    if not holds:
        raise AssertionError(f"{what} must be True")


@dataclass(frozen=True, slots=True)
class _Options:
    """What finite differences would be compared by, and how it is told."""

    eps: float
    atol: float
    rtol: float
    nondet_tol: float
    raise_exception: bool

    @property
    def unused(self) -> str:
        """Which of them were given, though they have no meaning here."""
        given = [f"{n}={getattr(self, n)!r}" for n, default in _MEANINGLESS.items() if getattr(self, n) != default]
        if not given:
            return ""
        return (
            f"  {', '.join(given)}: without a meaning here. There are no finite differences, and the tolerance is "
            "derived from the dtype and the formula"
        )


# ---------------------------------------------------------------------------------------------------------------------
# What is checked
# ---------------------------------------------------------------------------------------------------------------------


def _case_of(
    func: Callable[..., Any],
    inputs: Any,
    caller: str,
    rules: Sequence[OperationRule],
    reference: Callable[..., Any] | None = None,
) -> tuple[Case, str]:
    """The function at the inputs as a case, and their dtype."""
    args = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    name = getattr(func, "__name__", None) or type(func).__name__
    if not any(isinstance(x, Tensor) and x.requires_grad for x in tree_leaves(args)):
        raise ValueError(f"{caller} expects at least one input that requires gradients; no input of {name} does")
    given = tuple(rules_by_operation(rules, caller).values())
    traced, kernel = (func, None) if reference is None else (reference, _of_inputs(func))
    case = case_at(_of_inputs(traced), args, {}, name=name, kernel=kernel)
    case = replace(case, thawed=True, any_dtype=True, rules=given)
    (dtype,) = dtypes_of(case)
    return _differentiable(case), dtype


def _of_inputs(func: Callable[..., Any]) -> Callable[..., Any]:
    """A module as a function of its inputs alone; it may update its buffers in place, and each call has its own."""
    if not isinstance(func, torch.nn.Module):
        return func

    @functools.wraps(func.forward)
    def forward(*args: Any) -> Any:
        return torch.func.functional_call(func, {n: b.clone() for n, b in func.named_buffers()}, args)

    return forward


def _differentiable(case: Case) -> Case:
    """The case without outputs that its function marks as not differentiable, as PyTorch's gradcheck leaves them out.

    If there are no others they stay: their derivatives must then be zero.
    """
    if case.kernel is not None:
        return case
    (values,) = case.given
    try:
        outputs = outputs_of(case.function(*leaves_of(case, values)))
    except Exception:  # noqa: BLE001 - a user's function may raise anything; the check says at which input
        return case
    kept = [i for i, y in enumerate(outputs) if y.requires_grad]
    if not kept or len(kept) == len(outputs):
        return case

    def function(*args: Any) -> Any:
        found = outputs_of(case.function(*args))
        return tuple(found[i] for i in kept)

    return replace(case, function=function)


def _cotangents(case: Case, given: Any) -> tuple[list[float] | None, tuple[Layout, ...]]:
    """The entries of `grad_outputs`, one after the other, and how cotangents are to lie in memory.

    Raises:
        DeclarationError: They do not fit the outputs.
    """
    if given is None:
        return None, _NON_CONTIGUOUS
    (values,) = case.given
    outputs = outputs_of(case.function(*leaves_of(case, values)))
    parts = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    shapes = [None if c is None else tuple(c.shape) for c in parts]
    expected = [tuple(y.shape) for y in outputs]
    if len(shapes) != len(expected) or any(s not in (None, e) for s, e in zip(shapes, expected, strict=True)):
        raise DeclarationError(f"grad_outputs of shapes {shapes} do not fit outputs of shapes {expected}")
    for c in parts:
        if c is not None and (c.is_complex() or c.layout is not torch.strided):
            raise Unsupported("grad_outputs", f"{c.dtype} {c.layout}: shadows hold dense real numbers")
    tensors = [torch.zeros_like(y) if c is None else c.to(y.dtype) for c, y in zip(parts, outputs, strict=True)]
    contiguous = all(c is None or c.is_contiguous() for c in parts)
    return flat(tensors), (Layout.CONTIGUOUS,) if contiguous else _NON_CONTIGUOUS


# ---------------------------------------------------------------------------------------------------------------------
# The answer
# ---------------------------------------------------------------------------------------------------------------------


def _answer(
    case: Case,
    dtype: str,
    modes: tuple[str, ...],
    demands: Sequence[_Demand],
    options: _Options,
) -> bool:
    # Undefined gradients are a demand of their own, which the caller may not make.
    named = frozenset((*modes, dtype))
    asked = replace(settings_for(modes, (dtype,)), undefined=False, by_name=named, device=device_of(case))
    replay = f"diffcheck.check({case.name}, *inputs, modes={modes!r}, seed={asked.seed})"
    failed = [r for r in check_case(case, asked, case_id=case.name, location="") if not _right(r)]
    if not failed:
        memory = Memory()
        replay = "the same call"
        results = (demand(protocol.Subject(case, mode, dtype, memory)) for mode, demand in demands)
        failed = [r for r in results if not _right(r)]
    if not failed:
        return True
    if not options.raise_exception and not any(map(_open, failed)):
        return False
    text = "\n".join(
        line
        for r in failed
        for line in (failure(r, replay, strict=False, width=100), *_advice(r, options.nondet_tol))
        if line
    )
    text = "\n".join(filter(None, [text.rstrip(), options.unused]))
    raise GradcheckError("\n" + text, Results(tuple(failed)))


def _open(result: Result) -> bool:
    """Whether a result says neither that a derivative is wrong nor that it is right."""
    return result.verdict in _OPEN or result.reason.startswith(WRONG_RULE)


def _right(result: Result) -> bool:
    """Whether a result passes; at a given kink, a value between the one-sided derivatives does."""
    only_kinks = result.verdict is Verdict.UNDEFINED and result.kinks == result.inputs > 0 and not result.undefined
    return result.verdict in PASSING or only_kinks


def _advice(result: Result, nondet_tol: float) -> Iterator[str]:
    if result.verdict is Verdict.NOT_AVAILABLE:
        yield "  Nothing was judged: PyTorch does not differentiate this function in this way. Do not ask for it."
    elif result.verdict is Verdict.UNSUPPORTED and not result.details:
        yield (
            "  Nothing was judged. Give a plain PyTorch function that computes the same, and the derivatives are held "
            "to its:\n  diffcheck.check(func, *inputs, reference=plain)"
        )
    if nondet_tol > 0 and "not the same twice" in result.reason:
        yield (
            f"  nondet_tol={nondet_tol!r} is not honoured: derivatives are held to a bound on rounding, and one that "
            "changes from run to run has no such bound."
        )
