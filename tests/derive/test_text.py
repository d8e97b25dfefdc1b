"""Formulas as people read them."""

from __future__ import annotations

from functools import reduce

from diffcheck.algebra import expr as graph
from diffcheck.algebra.expr import Expr, call, constant, symbol
from diffcheck.derive.text import in_a_line, text, texts

X, Y = symbol("x[0]"), symbol("x[1]")


def tower(height: int) -> Expr:
    """Of 2**height operations, written out."""
    return reduce(lambda node, _: call("exp", node * X) + call("sin", node), range(height), X + Y)


def test_a_short_formula_is_written_in_one_piece():
    assert text(X * X + Y) == "x[0]**2 + x[1]"


def test_what_is_shared_is_named_once_whatever_its_size():
    lines = text(tower(90)).split("\n")
    assert len(lines) > 10
    assert max(map(len, lines)) < 200
    names = [line.partition(" = ")[0] for line in lines[1:]]
    assert len(set(names)) == len(names)
    assert "x" not in names


def test_several_formulas_name_the_same_part_the_same():
    shared = tower(8)
    first, second = texts([shared * constant(2), shared * constant(3)])
    assert first.split("\n")[1:] == second.split("\n")[1:]
    assert (first[:1], second[:1]) == ("2", "3")


def test_a_long_sum_is_cut():
    assert "more terms)" in text(graph.total(call("exp", symbol(f"x[{i}]")) for i in range(80)))


def test_in_a_line_there_is_no_other():
    assert "\n" not in in_a_line(tower(20))


def test_a_decimal_number_is_written_as_it_was():
    assert text(X * constant(1e-12)) == "1e-12*x[0]"
