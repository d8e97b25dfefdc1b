"""NIST's linear regression sets: the exact solution, and how many of its digits PyTorch keeps.

    python -m diffcheck.regression.nist tests/data/nist_strd_linear.json

prints the table of `docs/regression.md`. The file holds the data of the Statistical Reference Datasets with their
certified coefficients; design columns are expressions such as `x**2`, numbers are decimals and are read as such.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sympy
import torch
from flint import fmpq

from diffcheck.algebra import expr as graph
from diffcheck.derive.symbolic import from_sympy
from diffcheck.regression.closed_form import Solution, least_squares
from diffcheck.regression.digits import digits_of, normal_equations_in_floats
from diffcheck.regression.rational import RationalProgram

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@dataclass(frozen=True, slots=True)
class Kept:
    """How many digits each way keeps on one set."""

    name: str
    size: tuple[int, int]
    """Observations and coefficients."""
    certified: int
    """To how many significant digits the exact solution is what NIST certifies, at worst."""
    lstsq: tuple[float, ...]
    """By driver."""
    normal_equations: float


def load(path: Path) -> list[DataSet]:
    """The sets of a file, with every number as the decimal that stands there."""
    sets = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal, parse_int=Decimal)
    return [_data_set(entry) for entry in sets]


def _exact(number: Decimal) -> fmpq:
    return fmpq(*number.as_integer_ratio())


def _data_set(entry: dict[str, Any]) -> DataSet:
    names = ["x"] if int(entry["predictors"]) == 1 else [f"x{i + 1}" for i in range(int(entry["predictors"]))]
    symbols = {sympy.Symbol(n): graph.symbol(n) for n in names}
    known = {n: sympy.Symbol(n) for n in names}
    columns = [from_sympy(sympy.sympify(text, locals=known), symbols) for text in entry["design"]]
    program = RationalProgram(columns, names)
    return DataSet(
        entry["name"],
        tuple(tuple(program([_exact(v) for v in row])) for row in entry["x"]),
        tuple(_exact(v) for v in entry["y"]),
        tuple(entry["certified_text"]),
    )


def solve(data: DataSet) -> Solution:
    """The least-squares solution over the rationals."""
    return least_squares(data.design, data.target)


def agreeing_digits(value: fmpq, printed: str) -> int:
    """To how many significant digits a number rounds to what is printed; a printed 1.00000000000000 has 15."""
    decimal = Decimal(printed)
    most = len(decimal.as_tuple().digits)
    known = fmpq(*decimal.as_integer_ratio())
    for digits in range(most, 0, -1):
        # Half a unit in the last of these digits.
        unit = Decimal(1).scaleb(decimal.adjusted() - digits + 1)
        if abs(value - known) * 2 <= fmpq(*unit.as_integer_ratio()):
            return digits
    return 0


def kept(data: DataSet) -> Kept:
    """What float64 keeps of one set's solution."""
    solution = solve(data)
    if solution.exact is None or solution.balls is None:
        raise ValueError(f"{data.name} has no unique solution: rank {solution.rank} of {solution.dimension}")
    design = torch.tensor([[_nearest(v) for v in row] for row in data.design], dtype=torch.float64)
    target = torch.tensor([[_nearest(v)] for v in data.target], dtype=torch.float64)
    return Kept(
        data.name,
        (len(data.target), len(solution.exact)),
        min(agreeing_digits(v, text) for v, text in zip(solution.exact, data.certified, strict=True)),
        tuple(
            digits_of(torch.linalg.lstsq(design, target, driver=driver).solution.reshape(-1).tolist(), solution.balls)
            for driver in DRIVERS
        ),
        digits_of(normal_equations_in_floats(design, target), solution.balls),
    )


def _nearest(value: fmpq) -> float:
    """The nearest float64: Python divides integers correctly rounded."""
    return int(value.p) / int(value.q)


def nist_table(sets: Sequence[DataSet]) -> str:
    """How many digits each way keeps, as aligned text."""
    header = ("set", "n × p", "certified", *(f"lstsq {d}" for d in DRIVERS), "normal equations")
    rows = [header]
    for data in sets:
        found = kept(data)
        digits = [f"{d:.1f}" for d in (*found.lstsq, found.normal_equations)]
        rows.append((found.name, f"{found.size[0]} × {found.size[1]}", str(found.certified), *digits))
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table for a file of sets."""
    parser = argparse.ArgumentParser(prog="python -m diffcheck.regression.nist", description=nist_table.__doc__)
    parser.add_argument("path", type=Path, help="a file like tests/data/nist_strd_linear.json")
    sys.stdout.write(nist_table(load(parser.parse_args(arguments).path)) + "\n")


if __name__ == "__main__":
    main()


__all__ = ["DRIVERS", "DataSet", "Kept", "agreeing_digits", "kept", "load", "nist_table", "solve"]
