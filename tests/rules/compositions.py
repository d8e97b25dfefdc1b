"""Functions composed at random from the rules' examples, two or three deep, and what a check says of each.

Every example is right, and so is a composition of them: an internal error, a wrong rule, or an accusation that
differences of the function itself do not bear out is a mistake of diffcheck's. A few run in the suite; many by hand:

    python -m tests.rules.compositions --count 500 --seed 1
"""

from __future__ import annotations

import argparse
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from diffcheck import Finding, Result, Verdict, check
from diffcheck.errors import DiffcheckError
from tests.rules.examples import EXAMPLES
from tests.rules.tracing import Draw

_INTO: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "real": lambda z: z,
    "positive": lambda z: 0.5 + z * z / (1 + z * z),
    "unit": lambda z: 0.9 * z / (1 + z * z).sqrt(),
    "probability": lambda z: 0.1 + 0.8 * torch.sigmoid(z),
    "above one": lambda z: 1.5 + z * z / (1 + z * z),
}
"""Brings any reals into where an example draws its inputs from."""
_MOST_ENTRIES: Final = 40
_STEP: Final = 2.0**-10
_AGREE: Final = 1e-5

Function = Callable[..., Any]


@dataclass(frozen=True)
class Composition:
    """Examples, each applied to what the one before it returned."""

    names: tuple[str, ...]

    @property
    def text(self) -> str:
        """As it is reported."""
        return " > ".join(self.names)

    def inputs(self, seed: int) -> list[Tensor]:
        """Of the first example."""
        draws = [a for a in EXAMPLES[self.names[0]][1:] if isinstance(a, Draw)]
        return [a.at(seed + 3 * k) for k, a in enumerate(draws)]

    def __call__(self, *inputs: Tensor) -> Tensor:
        values: Sequence[Tensor] = inputs
        for k, name in enumerate(self.names):
            function, *drawn = EXAMPLES[name]
            draws = [a for a in drawn if isinstance(a, Draw)]
            if k:
                values = _as_inputs(values[0], draws)
            found = function(*values, *drawn[len(draws) :])
            real = [t for t in tree_leaves(found) if isinstance(t, Tensor) and t.is_floating_point() and t.numel()]
            values = [torch.cat([t.reshape(-1).to(torch.float64) for t in real])[:_MOST_ENTRIES]]
        return values[0]


def _as_inputs(source: Tensor, draws: Sequence[Draw]) -> list[Tensor]:
    wanted = [torch.Size(d.shape).numel() for d in draws]
    tiled = source.repeat(sum(wanted) // source.numel() + 1)[: sum(wanted)]
    parts = tiled.split(wanted)
    return [_INTO[d.kind](part).reshape(d.shape) for d, part in zip(draws, parts, strict=True)]


def compositions(count: int, seed: int) -> Iterator[Composition]:
    """Some at random, the same for the same seed."""
    generator = random.Random(seed)
    names = sorted(n for n, (_, *drawn) in EXAMPLES.items() if any(isinstance(a, Draw) for a in drawn))
    for _ in range(count):
        yield Composition(tuple(generator.choice(names) for _ in range(generator.choice((2, 2, 3)))))


def complaint(composition: Composition, seed: int, seconds: float = 10.0) -> str:
    """What a check says of a composition at an input that it should not; nothing if all is well."""
    inputs = composition.inputs(seed)
    try:
        with torch.no_grad():
            value = composition(*inputs)
    except Exception:  # noqa: BLE001 - an example may refuse what it is given: that is no composition
        return ""
    if not value.isfinite().all():
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = check(composition, *inputs, seed=seed, seconds=seconds, settings=None)
    except DiffcheckError:
        return ""
    except Exception:  # noqa: BLE001 - what this looks for
        return f"internal error: {traceback.format_exc(limit=-3)}"
    return "; ".join(filter(None, (_of(result, composition) for result in results)))


def _of(result: Result, composition: Composition) -> str:
    if "rule is wrong" in result.reason:
        return f"{result.mode}: {result.reason}"
    finding = result.finding
    if result.verdict is Verdict.WRONG and finding is not None and not _borne_out(finding, result, composition):
        return (
            f"{result.mode}: wrong, which differences do not bear out: {finding.headline}: {finding.autograd} "
            f"against {finding.certified}"
        )
    return ""


def _borne_out(finding: Finding, result: Result, composition: Composition) -> bool:
    """Whether differences of the function itself are nearer to what is certified than to PyTorch's number.

    Central differences of two steps, extrapolated (Richardson); where both are far, a kink may be near.
    """
    values = [torch.tensor(v.entries, dtype=torch.float64).reshape(v.shape) for v in finding.inputs]
    seeds = [torch.tensor(v.entries, dtype=torch.float64).reshape(v.shape) for v in finding.cotangents]
    names = [v.name for v in finding.inputs]

    def slope(step: float) -> float:
        if result.mode == "reverse":
            where = names.index(finding.argument)
            up, down = ([v.clone() for v in values] for _ in range(2))
            up[where][finding.index] += step
            down[where][finding.index] -= step
            return float(((composition(*up) - composition(*down)) * seeds[0].reshape(-1)).sum() / (2 * step))
        up, down = ([v + side * step * s for v, s in zip(values, seeds, strict=True)] for side in (1, -1))
        return float(((composition(*up) - composition(*down)) / (2 * step))[finding.index])

    coarse, fine = slope(2 * _STEP), slope(_STEP)
    found = fine + (fine - coarse) / 3
    theirs, ours = (abs(found - value) for value in (finding.autograd, finding.certified_float))
    return not (theirs < ours and theirs <= _AGREE * max(abs(found), 1.0))


def main() -> None:
    """Runs many, and says what it finds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    chosen = (
        [Composition(tuple(options.only.split(" > ")))] if options.only else compositions(options.count, options.seed)
    )
    bad = 0
    for k, composition in enumerate(chosen):
        said = complaint(composition, options.seed + k)
        if said:
            bad += 1
            sys.stdout.write(f"{composition.text} (seed {options.seed + k})\n    {said}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{bad} complaints\n")


if __name__ == "__main__":
    main()
