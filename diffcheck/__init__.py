"""Is this derivative right? PyTorch's autograd, proved against SymPy and certified by ball arithmetic.

The public names are loaded when they are asked for: `import diffcheck` imports neither torch nor SymPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

import diffcheck.regression  # noqa: F401 - a package with the name of a public function: loaded once, it gives that up
from diffcheck.errors import DeclarationError, DiffcheckError, WrongDerivativeError
from diffcheck.versions import __version__

if TYPE_CHECKING:
    from diffcheck import strategies
    from diffcheck.api.gradcheck import GradcheckError, gradcheck, gradgradcheck
    from diffcheck.api.library import assert_derivatives, check
    from diffcheck.declare.case import Case, case
    from diffcheck.declare.rule import OperationRule, rule
    from diffcheck.regression import regression
    from diffcheck.results import Results
    from diffcheck.settings import Settings
    from diffcheck.verdict import Finding, Result, Value, Verdict

__all__ = [
    "Case",
    "DeclarationError",
    "DiffcheckError",
    "Finding",
    "GradcheckError",
    "OperationRule",
    "Result",
    "Results",
    "Settings",
    "Value",
    "Verdict",
    "WrongDerivativeError",
    "__version__",
    "assert_derivatives",
    "case",
    "check",
    "gradcheck",
    "gradgradcheck",
    "regression",
    "rule",
    "strategies",
]

_LAZY: Final = {
    "Case": "diffcheck.declare.case",
    "Finding": "diffcheck.verdict",
    "GradcheckError": "diffcheck.api.gradcheck",
    "OperationRule": "diffcheck.declare.rule",
    "Result": "diffcheck.verdict",
    "Results": "diffcheck.results",
    "Settings": "diffcheck.settings",
    "Value": "diffcheck.verdict",
    "Verdict": "diffcheck.verdict",
    "assert_derivatives": "diffcheck.api.library",
    "case": "diffcheck.declare.case",
    "check": "diffcheck.api.library",
    "gradcheck": "diffcheck.api.gradcheck",
    "gradgradcheck": "diffcheck.api.gradcheck",
    "regression": "diffcheck.regression",
    "rule": "diffcheck.declare.rule",
}

del globals()["regression"]


def __getattr__(name: str) -> object:
    if name == "strategies":  # a module
        return import_module(f"{__name__}.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
