"""One entry of the database → a Result for each mode: its samples traced, proved, differentiated and judged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from diffcheck.alarm import processor_time
from diffcheck.audit.database import Entry, Sample, samples
from diffcheck.audit.sampled import Sampled, repro_of, sampled
from diffcheck.certify.balls import EXACT
from diffcheck.certify.certifier import Certifier
from diffcheck.certify.compiler import Program
from diffcheck.certify.formats import MANTISSA_BITS, Format, format_of
from diffcheck.compare.evaluate import DTYPES, Evaluation, Path
from diffcheck.compare.values import check_values
from diffcheck.differentiate.batch import Input, flat, scaled, stacked
from diffcheck.differentiate.faults import lacking_dtype, time_limit
from diffcheck.differentiate.run import differentiate
from diffcheck.draw import inputs as draw
from diffcheck.errors import BudgetExceeded, CaseFailure, DiffcheckError, RuleError
from diffcheck.explain.finding import finding_at
from diffcheck.modes import CPU, FIRST_ORDER, order, under_vmap
from diffcheck.prove.identity import Known, Proof, Status, prove
from diffcheck.trace.budget import Budget
from diffcheck.trace.tracer import trace
from diffcheck.verdict import Result, Verdict

_BEYOND: Final = "out of bounds for storage"


@dataclass(frozen=True, slots=True)
class Plan:
    """What an audit is asked to do."""

    modes: tuple[str, ...] = FIRST_ORDER
    dtype: str = "float64"
    samples: int = 5
    seconds: float = 20.0
    """Per sample and mode."""
    device: str = CPU


@dataclass(frozen=True, slots=True)
class _Judged:
    """One sample in one mode."""

    verdict: Verdict
    reason: str = ""
    max_ulps: float = 0.0
    max_bounds: float = 0.0
    kink: bool = False
    failed: tuple[Sampled, Evaluation] | None = None
    """What a finding is made of: that costs as much as a hundred judgements, and one is reported."""


def judge(entry: Entry, plan: Plan) -> Iterator[Result]:
    """Judges an entry in every mode asked for."""
    dtype = DTYPES[plan.dtype]
    chosen: Sequence[Sample] = ()
    none = _Judged(Verdict.UNSUPPORTED, "none of its samples is small enough to be traced")
    try:
        if plan.device == CPU or dtype in entry.info.supported_backward_dtypes(plan.device):
            chosen = samples(entry, dtype, plan.samples, plan.device)
        else:
            why = f"{plan.dtype}: PyTorch's database has no derivative of it in that on {plan.device}"
            none = _Judged(Verdict.NOT_AVAILABLE, why)
    except (NotImplementedError, RuntimeError) as error:  # the database computes samples in the dtype itself
        if not lacking_dtype([dtype], str(error)):
            raise
        none = _Judged(Verdict.NOT_AVAILABLE, f"{plan.dtype}: {str(error).strip().splitlines()[0]}")
    for mode in plan.modes:
        started = time.perf_counter()
        if not chosen:
            judged = [none]
        else:
            judged = list(_judge_samples(entry, chosen, mode, plan))
        yield _result(entry, mode, plan, chosen, judged, time.perf_counter() - started)


def _result(
    entry: Entry, mode: str, plan: Plan, chosen: Sequence[Sample], judged: Sequence[_Judged], seconds: float
) -> Result:
    position = max(range(len(judged)), key=lambda i: (judged[i].verdict.severity, -i))
    worst = judged[position]
    repro: tuple[str, ...] = ()
    reason = worst.reason
    finding = None
    if worst.failed is not None:
        item, evaluation = worst.failed
        replay = f"diffcheck audit --ops {entry.name!r} --mode {mode}{_options(plan)}"
        finding = finding_at(item.case, mode, plan.dtype, draw.at(item.values, (1.0,)), evaluation, replay)
        reason = finding.headline
    if chosen and worst.verdict not in (Verdict.PROVED, Verdict.UNDEFINED):
        reason = f"{reason} [sample {chosen[position].position}]"
        repro = repro_of(entry, chosen[position], DTYPES[plan.dtype], plan.device)
    return Result(
        id=entry.name,
        mode=mode,
        dtype=plan.dtype,
        verdict=worst.verdict,
        inputs=len(chosen),
        kinks=sum(j.kink for j in judged),
        undefined=sum(j.verdict is Verdict.UNDEFINED for j in judged),
        max_error_ulps=max(j.max_ulps for j in judged),
        max_error_bounds=max(j.max_bounds for j in judged),
        seconds=seconds,
        finding=finding,
        reason=reason,
        details=repro,
        device=plan.device,
    )


def _judge_samples(entry: Entry, chosen: Sequence[Sample], mode: str, plan: Plan) -> Iterator[_Judged]:
    """One after the other. Once an identity is not decided the entry agrees at best, and no other one is tried."""
    proving = True
    known = Known()
    for sample in chosen:
        judged = _judge_sample(entry, sample, mode, plan, known if proving else None)
        proving &= judged.verdict is not Verdict.AGREES
        yield judged


def _judge_sample(entry: Entry, sample: Sample, mode: str, plan: Plan, known: Known | None) -> _Judged:
    deadline = processor_time() + plan.seconds
    try:
        with time_limit(plan.seconds, f"sample {sample.position}"):
            item = sampled(entry, sample, plan.device)
            evaluation = _evaluated(item, mode, plan)
    except RuleError as error:
        return _Judged(error.verdict, f"a rule is wrong: {error}")
    except RecursionError as error:
        return _Judged(Verdict.UNDECIDED, str(error))
    except CaseFailure as error:
        if _BEYOND in str(error):  # the copies that are traced are no views of larger tensors
            return _Judged(Verdict.UNSUPPORTED, "it reads memory outside of its input: it is no function of that")
        if DTYPES[plan.dtype] not in entry.info.supported_backward_dtypes(plan.device):
            return _Judged(Verdict.NOT_AVAILABLE, f"{plan.dtype}: {error}")
        return _Judged(error.verdict, str(error))
    except DiffcheckError as error:
        return _Judged(error.verdict, str(error))
    return _concluded(evaluation, item, known, deadline)


def _evaluated(item: Sampled, mode: str, plan: Plan) -> Evaluation:
    values = item.values
    if under_vmap(mode):
        given = Input(draw.at(values, (1.0,)), values, [])
        values = stacked(item.case, given, [scaled]).values
    ran = trace(item.case, mode, values, _Seeds(), Budget(seconds=plan.seconds))
    seeds = _Seeds()
    fresh = {name: value.clone() for name, value in values.items()}
    computed = flat(differentiate(item.case, mode, fresh, seeds).derivatives)
    point = flat(list(values.values())) + flat(seeds.kept)
    fmt = _coarsest(DTYPES[plan.dtype], ran.run.derivatives)
    check_values(ran, point, fmt, {})
    traced = ran.trace
    certifier = Certifier(
        traced.variables,
        traced.reference,
        traced.executed,
        fmt,
        higher_order=order(mode) > 1,
        seeds=len(traced.seed_variables),
        function=traced.function,
    )
    nothing = Program([], (), EXACT)
    path = Path(traced, Proof(Status.UNDECIDED), certifier, nothing, traced.path, nothing, (), ())
    judgement = certifier.judge(point, computed)
    return Evaluation(path, judgement, computed, point, values, seeds.kept, alone=True)


def _coarsest(dtype: torch.dtype, derivatives: Sequence[Tensor]) -> Format:
    """The format of the least precise derivative: what converts to another dtype has a tangent of that."""
    dtypes = [dtype, *(d.dtype for d in derivatives if d.dtype in MANTISSA_BITS)]
    coarsest = min(dtypes, key=MANTISSA_BITS.__getitem__)
    return format_of(coarsest)


class _Seeds:
    """Cotangents or tangents of both signs and of moderate size, the same ones each time."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(1)
        self.kept: list[Tensor] = []

    def __call__(self, like: Sequence[Tensor]) -> list[Tensor]:
        found = [self._draw(tensor) for tensor in like]
        self.kept += found
        return found

    def _draw(self, like: Tensor) -> Tensor:
        if like.is_complex():
            return torch.view_as_complex(self._draw(torch.view_as_real(like)))
        size = 0.5 + torch.rand(like.shape, generator=self._generator, dtype=torch.float64)
        sign = torch.randint(2, like.shape, generator=self._generator) * 2 - 1
        return (size * sign).to(like)


def _concluded(evaluation: Evaluation, item: Sampled, known: Known | None, deadline: float) -> _Judged:
    """What is known of the proofs of other samples; nothing if this one's is not wanted."""
    judgement = evaluation.judgement
    facts: dict[str, Any] = {
        "max_ulps": judgement.max_ulps,
        "max_bounds": judgement.max_bounds,
        "kink": judgement.kink,
    }
    if judgement.failures:
        assert judgement.worst is not None
        verdict = judgement.worst.verdict
        if verdict is Verdict.UNDECIDED:
            return _Judged(verdict, "the enclosure stays too wide at the highest precision", **facts)
        return _Judged(verdict, failed=(item, evaluation), **facts)
    if evaluation.computed and len(judgement.left_out) == len(evaluation.computed):
        return _Judged(Verdict.UNDEFINED, "the derivative does not exist at the sample", **facts)
    if known is None:
        return _Judged(Verdict.AGREES, "its proof was not tried", **facts)
    try:
        with time_limit(max(deadline - processor_time(), 0.5), "the proof"):
            traced = evaluation.path.trace
            proof = prove(traced.executed, traced.reference, traced.seed_variables, known, all_or_none=True)
    except (BudgetExceeded, RecursionError) as error:
        return _Judged(Verdict.AGREES, f"not proved: {error}", **facts)
    if proof.status is Status.PROVED:
        return _Judged(Verdict.PROVED, **facts)
    return _Judged(Verdict.AGREES, f"not proved: {_why(proof, evaluation)}", **facts)


def _options(plan: Plan) -> str:
    """What else to type, where it is not what an audit does by itself."""
    usual = Plan()
    pairs = (("dtype", plan.dtype, usual.dtype), ("device", plan.device, usual.device))
    return "".join(f" --{name} {value}" for name, value, other in pairs if value != other)


def _why(proof: Proof, evaluation: Evaluation) -> str:
    place = evaluation.path.trace.entries[proof.position or 0].place
    return f"{place}, {proof.why or 'the two sides were not recognised as equal'}"
