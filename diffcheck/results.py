"""What a check gives: its results, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from diffcheck.verdict import PASSING, Result, Verdict, left_out


@dataclass(frozen=True, slots=True, repr=False)
class Results(Sequence[Result]):
    """A tuple of results that says whether all of them passed, and shows itself as a table."""

    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether some result is `proved` or `agrees`, and none fails: what was not checked has not passed.

        A mode or dtype that is not available neither passes nor fails, unless it was asked for by name.
        """
        return not self.failures.results and any(result.verdict in PASSING for result in self.results)

    @property
    def proved(self) -> bool:
        """Whether some result is `proved`, and all but what is not available."""
        judged = [result.verdict for result in self.results if not left_out(result)]
        return len(judged) > 0 and all(verdict is Verdict.PROVED for verdict in judged)

    @property
    def failures(self) -> Results:
        """Those that fail."""
        failed = (r for r in self.results if r.verdict not in PASSING and not left_out(r))
        return Results(tuple(failed))

    def __len__(self) -> int:
        return len(self.results)

    @overload
    def __getitem__(self, index: int, /) -> Result: ...
    @overload
    def __getitem__(self, index: slice, /) -> Results: ...
    def __getitem__(self, index: int | slice, /) -> Result | Results:
        return Results(self.results[index]) if isinstance(index, slice) else self.results[index]

    def __bool__(self) -> bool:
        # Not empty, or passed? Either answer would let `assert check(f)` pass where the other was meant.
        raise TypeError("the truth of Results is not defined: write `.passed`, or `len(...) > 0`")

    def __repr__(self) -> str:
        from diffcheck.report.table import table

        return table(self.results)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: FBT001 - IPython's protocol
        printer.text("Results(...)" if cycle else repr(self))

    def _repr_html_(self) -> str:
        from diffcheck.report.notebook import results_html

        return results_html(self.results)
