"""What can go wrong, each with its likely cause, and the verdict on a case that it happens to."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from diffcheck.verdict import Verdict

WRONG_RULE: Final = "wrong rule"
"""How the reason of a result begins when a rule that somebody gave is wrong."""


class DiffcheckError(Exception):
    """The root of what diffcheck raises on purpose."""

    verdict: ClassVar[Verdict] = Verdict.ERROR


class DeclarationError(DiffcheckError, ValueError):
    """A case is declared in a way that can't be checked; the message shows how to write it."""


class LoadError(DiffcheckError):
    """A path or a file of cases can't be read."""


class ConfigError(DiffcheckError):
    """What pyproject.toml says can't be followed; the message names file, key and value."""


class Unsupported(DiffcheckError):
    """An operation has no rule, or leaves what a shadow can follow."""

    verdict = Verdict.UNSUPPORTED

    def __init__(self, operation: str, reason: str, advice: tuple[str, ...] = ()) -> None:
        super().__init__(f"{operation}: {reason}")
        self.operation = operation
        self.reason = reason
        self.advice = advice
        """What to do about it, in lines: a snippet to paste."""


class NotAvailable(DiffcheckError):
    """PyTorch, or the Function under test, has no such mode or dtype."""

    verdict = Verdict.NOT_AVAILABLE

    def __init__(self, lacking: str, reason: str, *, mode: bool) -> None:
        super().__init__(f"{lacking} mode: {reason}" if mode else f"{lacking}: {reason}")
        self.lacking = lacking
        """The mode or the dtype, as options name it."""


class BudgetExceeded(DiffcheckError):
    """A budget of time, operations, memory or precision ran out."""

    verdict = Verdict.UNDECIDED


class CaseFailure(DiffcheckError):
    """The case's own function misbehaved: it raised, returned no tensor, is random, or changed its inputs."""


class Refused(CaseFailure):
    """The function itself raises at an input: it may do so at some, which then are not of its domain."""


class RuleError(DiffcheckError):
    """A rule's value is not what PyTorch's kernel computed: diffcheck's mistake, never the derivative's."""

    verdict = Verdict.UNSUPPORTED


class WrongRule(DiffcheckError):
    """A rule that somebody gave is not what the operation computes: theirs to mend, and never the derivative's."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{WRONG_RULE}: {what}")


class WrongDerivativeError(DiffcheckError, AssertionError):
    """What `assert_derivatives` raises: the message says what is wrong, and where."""

    def __init__(self, message: str, results: tuple[Any, ...]) -> None:
        super().__init__(message)
        self.results = results
