"""NIST's linear regression sets: the exact solution, and how many of its digits PyTorch keeps.

    python -m diffcheck.regression.nist tests/data/nist_strd_linear.json

prints the table of `docs/regression.md`. The file holds the data of the Statistical Reference Datasets with their
certified coefficients; design columns are expressions such as `x**2`, numbers are decimals and are read as such.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import sympy
import torch
from flint import fmpq

from diffcheck.regression.closed_form import digits_kept, exact, least_squares, over_rationals

DRIVERS: Final = ("gelsy", "gelsd", "gelss", "gels")
"""LAPACK's drivers behind `torch.linalg.lstsq`; the first is its default on the CPU."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """One set, exactly."""

    name: str
    design: tuple[tuple[fmpq, ...], ...]
    """A row per observation, a column per coefficient."""
    target: tuple[fmpq, ...]
    certified: tuple[str, ...]
    """NIST's coefficients, as printed."""


def load(path: Path) -> list[DataSet]:
    """The sets of a file, with every number as the decimal that stands there."""
    sets = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal, parse_int=Decimal)
    return [_data_set(entry) for entry in sets]


def _data_set(entry: dict[str, Any]) -> DataSet:
    names = ["x"] if int(entry["predictors"]) == 1 else [f"x{i + 1}" for i in range(int(entry["predictors"]))]
    known = {n: sympy.Symbol(n) for n in names}
    columns = over_rationals([sympy.sympify(text, locals=known) for text in entry["design"]], list(known.values()))
    assert columns is not None
    return DataSet(
        entry["name"],
        tuple(tuple(columns(list(map(exact, row)))) for row in entry["x"]),
        tuple(map(exact, entry["y"])),
        tuple(entry["certified_text"]),
    )


def agreeing_digits(value: fmpq, printed: str) -> int:
    """To how many significant digits a number rounds to what is printed; a printed 1.00000000000000 has 15."""
    decimal = Decimal(printed)
    most = len(decimal.as_tuple().digits)
    for digits in range(most, 0, -1):
        # Half a unit in the last of these digits.
        unit = Decimal(1).scaleb(decimal.adjusted() - digits + 1)
        if abs(value - exact(decimal)) * 2 <= exact(unit):
            return digits
    return 0


def _row(data: DataSet) -> tuple[str, ...]:
    """What float64 keeps of one set's solution."""
    solution = least_squares(data.design, data.target)
    if solution.exact is None or solution.balls is None:
        raise ValueError(f"{data.name} has no unique solution: rank {solution.rank} of {len(data.certified)}")
    # Python divides integers correctly rounded.
    rows = [[int(v.p) / int(v.q) for v in (*row, y)] for row, y in zip(data.design, data.target, strict=True)]
    kept = digits_kept(torch.tensor(rows, dtype=torch.float64), solution.balls, DRIVERS)
    certified = min(agreeing_digits(v, text) for v, text in zip(solution.exact, data.certified, strict=True))
    return data.name, f"{len(rows)} × {len(solution.exact)}", str(certified), *(f"{digits:.1f}" for digits in kept)


def nist_table(sets: Sequence[DataSet]) -> str:
    """How many digits each way keeps, as aligned text."""
    header = ("set", "n × p", "certified", *(f"lstsq {d}" for d in DRIVERS), "normal equations")
    rows = [header, *map(_row, sets)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table for a file of sets."""
    parser = argparse.ArgumentParser(prog="python -m diffcheck.regression.nist", description=nist_table.__doc__)
    parser.add_argument("path", type=Path, help="a file like tests/data/nist_strd_linear.json")
    sys.stdout.write(nist_table(load(parser.parse_args(arguments).path)) + "\n")


if __name__ == "__main__":
    main()
