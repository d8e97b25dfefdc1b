"""What autograd asks of a derivative besides its numbers: undefined gradients, dtypes, vmap over cotangents.

Each is checked at a given input, and gives a result like those of `check`. Where PyTorch takes another way to the same
derivative, its numbers are held to the same certified values, within the same bound.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import Tensor

from diffcheck.compare.evaluate import Evaluation, Memory, evaluate
from diffcheck.declare.case import Case
from diffcheck.differentiate import autodiff
from diffcheck.differentiate.batch import flat
from diffcheck.differentiate.faults import time_limit
from diffcheck.draw import inputs as draw
from diffcheck.draw.inputs import Drawn, Layout
from diffcheck.errors import BudgetExceeded, CaseFailure, DiffcheckError
from diffcheck.explain.finding import finding_at
from diffcheck.verdict import Finding, Result, Verdict

SEEDS: Final = (
    (0.375, -1.25, 2.0, -0.625, 1.5, -3.0, 0.875),
    (-2.5, 0.75, -0.125, 3.25, -1.0),
    (1.0, -1.0, 0.0, 2.0, -0.5, 3.0),
)
"""Numbers for cotangents and tangents, signed and exact in every format, taken in turn."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A case at the one input that it was given, in one mode."""

    case: Case
    mode: str
    dtype: str
    memory: Memory = field(default_factory=Memory)

    def inputs(self) -> list[Tensor]:
        """Fresh tensors, which lie in memory as those that were given."""
        return [draw.copied(self.case.given[0][a.name]) for a in self.case.differentiated]

    def function(self, inputs: Sequence[Tensor]) -> object:
        """The case's function of the differentiated inputs."""
        return self.case.judged.function(*inputs)

    def at(self, seeds: Sequence[float], layout: Layout = Layout.CONTIGUOUS) -> _Seen:
        """The case along these cotangents or tangents, judged."""
        drawn = draw.at(self.case.given[0], tuple(seeds) or (1.0,), layout)
        found = evaluate(self.case, self.mode, self.dtype, drawn, self.memory)
        if found is None:
            raise CaseFailure(f"case {self.case.name!r} accepts no cotangents that lie in memory as {layout.value}")
        return _Seen(found, drawn)


@dataclass(frozen=True, slots=True)
class _Seen:
    """An evaluation, or other numbers in the place of its own."""

    evaluation: Evaluation
    drawn: Drawn
    usual: Evaluation | None = None
    """What other numbers stand in place of."""

    @property
    def seeds(self) -> Sequence[Tensor]:
        return self.evaluation.seeds

    @property
    def steps(self) -> Sequence[int]:
        """Which differentiation each of the cotangents and tangents is for; the innermost is 0."""
        return [seed.step for seed in self.evaluation.path.trace.seeds]

    @property
    def names(self) -> Sequence[str]:
        """What the cotangents and tangents are called."""
        return self.evaluation.path.trace.seed_names

    def judged(self, numbers: Sequence[float]) -> _Seen:
        """Other numbers for the same derivative, judged as PyTorch's usual ones are."""
        usual = self.evaluation
        if len(numbers) != len(usual.computed):
            raise CaseFailure(f"{len(numbers)} numbers came back, where there are {len(usual.computed)} usually")
        judgement = usual.path.certifier.judge(usual.point, numbers)
        return replace(self, evaluation=replace(usual, computed=numbers, judgement=judgement), usual=usual)


def undefined_gradients(subject: Subject) -> Result:
    """Cotangents that are undefined, and cotangents of zeros, give what zeros must give; so do tangents.

    All of them, then one at a time. In `reverse-over-reverse` it is those of the last backward pass.
    """

    def visit() -> Iterator[_Seen]:
        usual = subject.at(SEEDS[0])
        count = _earlier(subject, usual)
        lasts = range(count, len(usual.seeds))
        all_at_once = [frozenset(lasts)] if subject.mode != "forward" else []  # without tangents there are no duals
        for missing in (*all_at_once, *(frozenset([i]) for i in lasts if len(lasts) > 1)):
            zeroed = [torch.zeros_like(s) if i in missing else s for i, s in enumerate(usual.seeds)]
            seen = subject.at(flat(zeroed))
            yield seen
            names = ", ".join(seen.names[i] for i in sorted(missing))
            with _saying(f"with an undefined gradient ({names} is None)", subject):
                if subject.mode == "forward":
                    (position,) = missing
                    outputs, found = autodiff.forward_without(subject.function, subject.inputs(), seen.seeds, position)
                    numbers = _numbers(found, outputs)
                else:
                    sources, leaves = autodiff.before_backward(
                        subject.mode, subject.function, subject.inputs(), _copies(seen.seeds[:count])
                    )
                    places = frozenset(i - count for i in missing)
                    numbers = _numbers(autodiff.backward_without(sources, leaves, seen.seeds[count:], places), leaves)
            yield seen.judged(numbers)

    return _result(subject, f"{subject.mode}, undefined gradients", visit)


def under_vmap(subject: Subject) -> Result:
    """Derivatives along several cotangents (in forward mode, tangents) at once, under vmap, are those along each."""

    def visit() -> Iterator[_Seen]:
        each = [subject.at(seeds) for seeds in SEEDS]
        count = _earlier(subject, each[0])
        if count:  # the first backward pass is one for all
            firsts = flat(each[0].seeds[:count])
            each = [subject.at([*firsts, *flat(e.seeds[count:])]) for e in each]
        stacked = [torch.stack(same) for same in zip(*(e.seeds[count:] for e in each), strict=True)]
        with _saying("under vmap", subject), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")
            found: Sequence[Tensor | None]
            if subject.mode == "forward":
                found = autodiff.forward_under_vmap(subject.function, subject.inputs(), stacked)
                like: Sequence[Tensor] = found
            else:
                sources, leaves = autodiff.before_backward(
                    subject.mode, subject.function, subject.inputs(), _copies(each[0].seeds[:count])
                )
                found = autodiff.backward_under_vmap(sources, leaves, stacked)
                like = [x.expand(len(each), *x.shape) for x in leaves]
        batched = [torch.zeros_like(x) if d is None else d for d, x in zip(found, like, strict=True)]
        for i, seen in enumerate(each):
            yield seen.judged(flat([t[i] for t in batched]))

    return _result(subject, f"{subject.mode}, under vmap", visit)


def dtypes(subject: Subject) -> Result:
    """A gradient has its input's dtype, and a tangent its output's."""

    def visit() -> Iterator[_Seen]:
        seen = subject.at(SEEDS[0])
        yield seen
        count = _earlier(subject, seen)
        with _saying("once more", subject):
            if subject.mode == "forward":
                like, found = autodiff.forward(subject.function, subject.inputs(), seen.seeds)
            else:
                sources, like = autodiff.before_backward(
                    subject.mode, subject.function, subject.inputs(), _copies(seen.seeds[:count])
                )
                found = autodiff.backward_without(sources, like, seen.seeds[count:], frozenset())
        what = "the tangent of output" if subject.mode == "forward" else "the gradient of input"
        for i, (x, d) in enumerate(zip(like, found, strict=True)):
            if d is not None and d.dtype != x.dtype:
                raise CaseFailure(f"{what} {i} is {d.dtype}, and should be {x.dtype}: convert it in the derivative")

    return _result(subject, f"{subject.mode}, dtypes", visit)


def at_cotangents(subject: Subject, cotangents: Sequence[float] | None, layouts: Sequence[Layout]) -> Result:
    """The derivative along given first cotangents, or along cotangents that lie in memory in certain ways.

    Args:
        subject: In a mode of second order.
        cotangents: The entries of the outputs' cotangents, in order; None for any.
        layouts: How cotangents lie in memory.
    """

    def visit() -> Iterator[_Seen]:
        for seeds in SEEDS:
            usual = subject.at(seeds)
            wanted = iter(cotangents or ())
            entries: list[float] = []
            for step, seed in zip(usual.steps, usual.seeds, strict=True):
                own = flat([seed])
                entries += [next(wanted) for _ in own] if cotangents is not None and step == 0 else own
            for layout in layouts:
                yield subject.at(entries, layout)

    return _result(subject, f"{subject.mode}, along grad_outputs", visit)


# ---------------------------------------------------------------------------------------------------------------------
# Judging
# ---------------------------------------------------------------------------------------------------------------------


def _earlier(subject: Subject, seen: _Seen) -> int:
    """How many of the cotangents belong to the first of two backward passes."""
    if subject.mode != "reverse-over-reverse":
        return 0
    return len(seen.seeds) - len(subject.case.differentiated)


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [draw.copied(t.detach()) for t in tensors]


def _numbers(found: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[float]:
    """Derivatives as numbers; none is zero."""
    pairs = zip(found, like, strict=True)
    return flat([torch.zeros_like(x) if d is None else autodiff.materialized(d) for d, x in pairs])


@contextlib.contextmanager
def _saying(how: str, subject: Subject) -> Iterator[None]:
    """Turns what a derivative raises into a failure that says under which demand."""
    try:
        with time_limit(subject.memory.operations.seconds, f"case {subject.case.name!r}"):
            yield
    except DiffcheckError:
        raise
    except MemoryError as error:
        raise BudgetExceeded(f"{how}, case {subject.case.name!r} needs more memory than there is") from error
    except Exception as error:  # a user's derivative may raise anything
        first = (str(error).strip().splitlines() or [""])[0]
        raise CaseFailure(
            f"{how}, the derivative of case {subject.case.name!r} raises {type(error).__name__}: {first}"
        ) from error


def _result(subject: Subject, mode: str, visit: Callable[[], Iterator[_Seen]]) -> Result:
    """What came of some evaluations: the first failure, or that all agree."""
    started = time.perf_counter()
    verdict, reason, finding, inputs = Verdict.AGREES, "", None, 0
    try:
        for seen in visit():
            inputs += 1
            failures = seen.evaluation.judgement.failures
            if failures:
                outcomes = {v.outcome.name for v in failures.values()}
                verdict = next((v for v in _WORST if v.name in outcomes), Verdict.WRONG)
                finding = _finding(subject, seen, mode.partition(", ")[2])
                break
    except DiffcheckError as error:
        verdict, reason = error.verdict, str(error)
    return Result(
        id=subject.case.name,
        mode=mode,
        dtype=subject.dtype,
        verdict=verdict,
        inputs=inputs,
        seconds=time.perf_counter() - started,
        finding=finding,
        reason=reason,
    )


def _finding(subject: Subject, seen: _Seen, how: str) -> Finding:
    finding = finding_at(subject.case, subject.mode, subject.dtype, seen.drawn, seen.evaluation, "")
    if seen.usual is None:
        return finding
    # The formulas and the script are those of the usual way, which is right.
    note = f"with {how}" if how.startswith("undefined") else how
    note += f"; otherwise PyTorch's value is {seen.usual.computed[seen.evaluation.judgement.worst_number]!r}"
    return replace(finding, notes=(note,), diagnosis=None, line="", repro="", autograd_formula="")


_WORST: Final = (Verdict.WRONG, Verdict.UNDECIDED, Verdict.INACCURATE)
