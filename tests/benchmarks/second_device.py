"""What is judged on a device that is not the CPU, where there is none: one is built, with the CPU's memory.

    python tests/benchmarks/second_device.py [PATTERN…]

It is called `second`, takes half a minute to compile, and has PyTorch's CPU kernels behind copies. Its tensors mix with
the CPU's no better than a GPU's do, so that whatever is made in the wrong place raises. What is printed: the verdicts
on the operators of PyTorch's database whose names match, in reverse mode on one sample each, a process each, and on
some functions, a kernel held to its reference and a derivative on the wrong device among them.
"""

from __future__ import annotations

import sys
import tempfile
import types
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import backend_registration, cpp_extension

from diffcheck import check
from diffcheck.audit.database import entries
from diffcheck.audit.judge import Plan, judge
from diffcheck.audit.pool import Limits, each
from diffcheck.audit.run import warm_up

DEVICE = "second"
VECTOR = {"x": Float[Tensor, "n"]}


def build() -> None:
    """Compiles the device, and tells PyTorch of it."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(__file__).with_suffix(".cpp")
        flags = ["-O0", "-g0"]
        cpp_extension.load("second_device", [str(source)], extra_cflags=flags, build_directory=folder)
    backend_registration.rename_privateuse1_backend(DEVICE)
    module: Any = types.ModuleType(f"torch.{DEVICE}")
    module.is_available = module.is_initialized = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = lambda _: None
    module.get_rng_state = lambda _=None: torch.random.get_rng_state()
    module.set_rng_state = lambda state, _=None: torch.random.set_rng_state(state)
    torch._register_device_module(DEVICE, module)
    backend_registration.generate_methods_for_privateuse1_backend()


class Elsewhere(torch.autograd.Function):
    """x³, whose tangent comes back on the CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.x = x
        return x**3

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return (3 * ctx.x**2 * tangent).cpu()


def functions() -> None:
    """Prints the verdicts on some functions."""
    kernel = torch.linspace(0, 1, 2000, device=DEVICE, dtype=torch.float64)
    second_order = ["reverse-over-reverse", "forward-over-forward", "vmap-reverse"]
    options: dict[str, Any] = {"inputs": VECTOR, "device": DEVICE, "examples": 20, "seed": 1}
    all_results = {
        "at inputs that lie there": check(torch.sin, torch.ones(3, device=DEVICE)),
        "over a domain": check(lambda x: (x.sin() * x).sum(), **options),
        "at kinks": check(torch.relu, modes=second_order, **options),
        "a textbook's gradient": check(lambda x: x**3, gradient=lambda x: 3 * x**2, **options),
        "a kernel": check(lambda x: torch.exp(x) * x, kernel, reference=lambda x: x * x.exp(), **options),
        "mixed with the CPU": check(lambda x: x + torch.ones(1, device="cpu").expand(x.shape), **options),
        "a tangent elsewhere": check(Elsewhere.apply, modes="forward", **options),
    }
    for name, results in all_results.items():
        for result in results:
            print(f"{name}: {result.verdict} ({result.mode}, {result.dtype}, {result.device}) {result.reason}")


def operators(patterns: list[str]) -> None:
    """Prints the verdicts on operators of the database."""
    warm_up()
    chosen = entries(patterns, torch.float64, DEVICE)
    plan = Plan(("reverse",), samples=1, seconds=10.0, device=DEVICE)
    verdicts: Counter[str] = Counter()
    for done in each(range(len(chosen)), lambda i: judge(chosen[i], plan), Limits(60.0, None), 1):
        name = chosen[done.position].name
        if done.fault is not None:
            verdicts["its process died"] += 1
            print(f"{name}: {done.fault[1]}")
        for result in done.results:
            verdicts[result.verdict] += 1
            if result.verdict in ("wrong", "inaccurate", "error"):
                print(f"{name}: {result.verdict}, {result.reason[:150]}")
    print(", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    build()
    operators(sys.argv[1:])  # first: where autograd has a thread for a device, nothing can be forked
    functions()
