"""The mutants are changes, one at a time, of what runs; and tests that are blind are told so."""

from __future__ import annotations

from tests.mutation.mutants import mutants

SOURCE = '''
def clipped(x: float, most: float = 2.0) -> float:
    """At most so much."""
    if x > most and not x == 7:
        raise ValueError(f"{x - 1} is too much")
    return min(x, most) + 1
'''


def test_every_operation_is_changed_once_and_no_word():
    changes = [m.change for m in mutants(SOURCE)]
    assert changes == [
        "2.0 → 3.0", "if … → if True", "if … → if False", "And → Or", "Gt → GtE", "Gt → LtE", "not x → x", "Eq → NotEq",
        "7 → 8", "Add → Sub", "1 → 2", "min → max",
    ]  # fmt: skip


def test_a_mutant_is_a_program_that_differs():
    sources = {m.source for m in mutants(SOURCE)}
    assert len(sources) == 12
    for source in sources:
        compile(source, "mutant", "exec")
