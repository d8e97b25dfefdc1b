"""The whole corpus at default settings, with several seeds: what fails, and what seeds disagree about.

python tests/everyday/run.py --seeds 5 [-k NAME] [--examples N] [-j 2]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.everyday.measure import Outcome, entries, is_gap, judged


def main() -> int:
    """Prints what fails or disagrees; 1 if something does that is no known gap."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("-j", type=int, default=1)
    parser.add_argument("-k", default="")
    parser.add_argument("-v", action="store_true")
    options = parser.parse_args()
    chosen = [entry.name for entry in entries() if options.k in entry.name]
    started = time.perf_counter()
    verdicts: Counter[str] = Counter()
    bad = 0
    for outcomes in _all(chosen, options.seeds, options.examples, options.j):
        verdicts.update(str(row.verdict) for outcome in outcomes for row in outcome.rows)
        lines = [line for outcome in outcomes for line in outcome.complaints]
        lines += _disagreements(outcomes)
        bad += bool(lines)
        slowest = max(outcome.seconds for outcome in outcomes)
        if lines or options.v or slowest > 10:
            print(
                f"{'FAIL' if lines else 'ok  '} {outcomes[0].name} ({slowest:.1f}s)", *lines, sep="\n     ", flush=True
            )
    print(f"{len(chosen)} functions, {bad} with complaints, {dict(verdicts)}, {time.perf_counter() - started:.0f}s")
    return int(bad > 0)


def _all(names: list[str], seeds: int, examples: int, processes: int) -> Iterator[list[Outcome]]:
    if processes == 1:
        for name in names:
            yield [judged(name, seed, examples) for seed in range(1, seeds + 1)]
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = [[pool.submit(judged, name, seed, examples) for seed in range(1, seeds + 1)] for name in names]
        for of_one in futures:
            yield [future.result() for future in of_one]


def _disagreements(outcomes: list[Outcome]) -> list[str]:
    """Rows whose verdict is another one with another seed."""
    return [
        f"seeds disagree: {rows[0].mode} {rows[0].dtype}: {', '.join(str(r.verdict) for r in rows)}"
        for rows in zip(*(outcome.rows for outcome in outcomes), strict=True)
        if len({row.verdict for row in rows}) > 1 and not any(is_gap(outcomes[0].name, row) for row in rows)
    ]


if __name__ == "__main__":
    sys.exit(main())
