"""Times certified inputs beside gradcheck, traces with their proofs, and whole runs beside bare imports.

Run as `python tests/benchmarks/run.py [--output docs/benchmarks.md]`, on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import gradcheck

from diffcheck.certify.floats import Floats
from diffcheck.checking.visit import BLOCK
from diffcheck.compare.evaluate import Evaluation, Memory, evaluate, evaluate_each
from diffcheck.declare.case import Case, case
from diffcheck.declare.load import Loaded, collect
from diffcheck.differentiate.batch import Input, numbers_at_each
from diffcheck.draw.inputs import Drawn, taken_in_turn

ROOT = Path(__file__).resolve().parents[2]
SIZES = (4, 256)
TARGETS = {4: 20, 256: 50}
SEEDS = (1.5, -2.0, 0.3, 0.7, -1.1)
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "2xᵀx": lambda x: 2 * torch.dot(x, x),
    "sum": lambda x: x.sum(),
    "x⊙x": lambda x: x * x,
    "logsumexp": lambda x: torch.logsumexp(x, 0),
    "softmax": lambda x: torch.softmax(x, 0),
    "gelu": torch.nn.functional.gelu,
}
AUDIT = "## The audit beside gradcheck"
IMPORTS = "import torch, sympy, hypothesis, flint, numpy, jaxtyping, annotated_types, typer, rich"


def median_us(function: Callable[[], object], seconds: float = 0.3) -> float:
    """The median time of a call, in microseconds, over as many calls as fit."""
    function()
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def in_turn(*functions: Callable[[], object], rounds: int = 7) -> list[float]:
    """What `median_us` gives for each, the median of some rounds in turn: the speed of a shared machine changes."""
    return [
        statistics.median(own)
        for own in zip(*([median_us(f, 0.1) for f in functions] for _ in range(rounds)), strict=True)
    ]


def certified_inputs() -> Iterator[str]:
    """One certified input beside gradcheck, per function and size."""
    yield (
        "| function | n | autograd µs | certified input µs | of it enclosure and comparison µs | gradcheck µs "
        "| ratio | target |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for n in SIZES:
        for name, function in FUNCTIONS.items():
            plain, ours, judged, slow = _measured(name, function, n)
            yield (
                f"| {name} | {n} | {plain:.0f} | {ours:.0f} | {judged:.0f} | {slow:,.0f} | 1/{slow / ours:.0f} "
                f"| 1/{TARGETS[n]} |"
            )


def _measured(name: str, function: Callable[[Tensor], Tensor], n: int) -> tuple[float, float, float, float]:
    """Microseconds per input: autograd alone, one certified input, its judgement, and gradcheck."""
    declared = case(function, name=name, inputs={"x": Float[Tensor, "n"]})
    generator = torch.Generator().manual_seed(0)
    xs = [torch.randn(n, dtype=torch.float64, generator=generator) for _ in range(BLOCK)]
    drawn = [Drawn({"x": (n,)}, {"x": tuple(x.tolist())}, SEEDS) for x in xs]
    evaluations = [e for _, e in evaluate_each(declared, "reverse", "float64", drawn, Memory())]
    assert all(isinstance(e, Evaluation) and not e.judgement.failures for e in evaluations)
    assert isinstance(evaluations[0], Evaluation)
    path = evaluations[0].path
    inputs = [Input(one, {"x": x}, x.tolist()) for one, x in zip(drawn, xs, strict=True)]

    def differentiated() -> tuple[Floats, Floats]:
        found = numbers_at_each(declared, "reverse", inputs, path.seeds)
        return found.points, found.computed

    points, computed = differentiated()
    leaf = xs[0].clone().requires_grad_()
    cotangent = taken_in_turn(SEEDS, [function(leaf)])[0]
    plain, ours, judged, slow = in_turn(
        lambda: torch.autograd.grad(function(leaf), leaf, cotangent),
        lambda: path.certifier.judge_all(*differentiated()),
        lambda: path.certifier.judge_all(points, computed),
        lambda: gradcheck(function, xs[0].clone().requires_grad_()),
    )
    return plain, ours / BLOCK, judged / BLOCK, slow


def traces() -> Iterator[str]:
    """Trace, derivative, proof and compilation of each tutorial case, for one input."""
    yield "| case | trace, derivative and proof, ms | target |"
    yield "|---|---|---|"
    found = [item for item in collect([str(ROOT / "cases" / "autograd.py")]) if isinstance(item, Loaded)]
    for item in found:
        declared = item.case
        assert isinstance(declared, Case)
        shape: tuple[int, ...] = () if declared.name == "control_flow" else (4,)
        entries = (1.5, -0.25, 3.0, 0.125)[: max(1, len(shape) * 4)]
        drawn = Drawn({declared.arguments[0].name: shape}, {declared.arguments[0].name: entries}, SEEDS)
        mode = "accumulate" if declared.preceded_by else "reverse"
        spent = median_us(lambda: evaluate(declared, mode, "float64", drawn, Memory()), 0.5) / 1000
        yield f"| {declared.name} | {spent:.1f} | 100 |"


def whole_runs(repeats: int = 9) -> Iterator[str]:
    """`diffcheck run cases/` beside the bare imports of what it needs, as whole processes."""
    run = [sys.executable, "-m", "diffcheck", "run", str(ROOT / "cases"), "--seed", "1", "-q"]
    # In turn: the speed of a shared machine changes from minute to minute.
    pairs = [(_process([sys.executable, "-c", IMPORTS]), _process(run)) for _ in range(repeats)]
    imports, total = (statistics.median(one) for one in zip(*pairs, strict=True))
    yield f"| | seconds, median of {repeats} |"
    yield "|---|---|"
    yield f"| bare imports (`{IMPORTS}`) | {imports:.2f} |"
    yield f"| `diffcheck run cases/` (100 examples each) | {total:.2f} |"
    yield f"| target: three times the imports plus two seconds | {3 * imports + 2:.2f} |"
    yield f"| importing diffcheck alone | {_process([sys.executable, '-c', 'import diffcheck']):.2f} |"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    yield f"| peak memory of the largest of these processes, MiB | {peak:.0f} |"


def _process(command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - start


def report() -> Iterator[str]:
    """The whole page."""
    yield "# Benchmarks"
    yield ""
    yield "Written by `python tests/benchmarks/run.py --output docs/benchmarks.md`; figures are medians, and ratios are"
    yield "of one process."
    yield f"PyTorch {torch.__version__}, one thread, Python {platform.python_version()}, {platform.machine()}."
    yield ""
    yield "## One certified input beside gradcheck"
    yield ""
    yield f"float64, reverse mode, the trace reused, per input in blocks of {BLOCK}, which is the most that a run has:"
    yield "autograd, the certified reference, its bound, and the comparison of every number, beside"
    yield "`torch.autograd.gradcheck(f, x)` with its defaults. In the column of autograd is one bare call of"
    yield "`torch.autograd.grad`, in a loop of its own."
    yield ""
    yield from certified_inputs()
    yield ""
    yield "## A new path"
    yield ""
    yield from traces()
    yield ""
    yield "## Whole processes"
    yield ""
    yield from whole_runs()


def main() -> None:
    """Prints the page, or writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    text = "\n".join(report()) + "\n"
    if chosen.output is None:
        print(text)
    else:
        old = chosen.output.read_text() if chosen.output.exists() else ""
        _, heading, audit = old.partition(AUDIT)  # which `audit.py` writes
        chosen.output.write_text(text + ("\n" + heading + audit if heading else ""))
        print(json.dumps({"written": str(chosen.output)}))


if __name__ == "__main__":
    main()
