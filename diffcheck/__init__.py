"""Is this derivative right? PyTorch's autograd, proved against SymPy and certified by ball arithmetic.

The public names are loaded when they are asked for: `import diffcheck` imports neither torch nor SymPy.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Final

from diffcheck.errors import DeclarationError, DiffcheckError, MeaninglessOptionWarning, WrongDerivativeError

if TYPE_CHECKING:
    from diffcheck import strategies
    from diffcheck.case import Case, case
    from diffcheck.check import Settings
    from diffcheck.gradcheck import GradcheckError, gradcheck, gradgradcheck
    from diffcheck.library import assert_derivatives, check
    from diffcheck.regression import regression
    from diffcheck.results import Results
    from diffcheck.rule import OperationRule, rule
    from diffcheck.verdict import Finding, Result, Value, Verdict

__version__ = "0.1.0"

__all__ = [
    "Case",
    "DeclarationError",
    "DiffcheckError",
    "Finding",
    "GradcheckError",
    "MeaninglessOptionWarning",
    "OperationRule",
    "Result",
    "Results",
    "Settings",
    "Value",
    "Verdict",
    "WrongDerivativeError",
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
    "Case": "diffcheck.case",
    "Finding": "diffcheck.verdict",
    "GradcheckError": "diffcheck.gradcheck",
    "OperationRule": "diffcheck.rule",
    "Result": "diffcheck.verdict",
    "Results": "diffcheck.results",
    "Settings": "diffcheck.check",
    "Value": "diffcheck.verdict",
    "Verdict": "diffcheck.verdict",
    "assert_derivatives": "diffcheck.library",
    "case": "diffcheck.case",
    "check": "diffcheck.library",
    "gradcheck": "diffcheck.gradcheck",
    "gradgradcheck": "diffcheck.gradcheck",
    "regression": "diffcheck.regression",
    "rule": "diffcheck.rule",
}


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


class _Package(ModuleType):
    """Importing the file `diffcheck/case.py` must not put the module in the place of the function `diffcheck.case`."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _LAZY and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
