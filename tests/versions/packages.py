"""What is tried: the packages that diffcheck needs, and the tests that feel each one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FELT_BY: Final[dict[str, tuple[str, ...]]] = {
    "tests/core/test_derive.py": ("sympy", "torch"),
    "tests/core/test_normal_form.py": ("sympy",),
    "tests/core/test_symmetry.py": ("sympy",),
    "tests/report/test_mathematics.py": ("sympy", "rich"),
    "tests/core/test_running_error.py": ("numpy", "python-flint", "torch"),
    "tests/core/test_elementary.py": ("numpy", "python-flint"),
    "tests/core/test_case.py": ("jaxtyping", "annotated-types", "torch"),
    "tests/core/test_draw.py": ("hypothesis", "jaxtyping", "annotated-types", "numpy", "torch"),
    "tests/test_strategies.py": ("hypothesis", "jaxtyping", "annotated-types"),
    "tests/core/test_shadow.py": ("torch",),
    "tests/core/test_rule.py": ("torch",),
    "tests/test_load.py": ("jaxtyping",),
    "tests/test_config.py": ("typer",),
    "tests/report/test_terminal.py": ("rich", "typer"),
    "tests/report/test_text.py": ("rich",),
    "tests/test_cli.py": ("typer", "rich"),
    "tests/test_pytest_plugin.py": ("pytest",),
}
"""The core of the suite, and which package's version a file feels. PyTorch and Python are tried on all of it."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package, and which of its releases are tried."""

    name: str
    parts: int = 2
    """So many parts of a version make a step: of a package below 1.0, a third part may break what was."""
    since: str = "0"
    """No release before this one is looked at."""
    beside: tuple[str, ...] = ()
    """What has to fit it, and is chosen anew with it."""

    @property
    def tests(self) -> list[str]:
        """The tests that feel it."""
        return [path for path, packages in FELT_BY.items() if self.name in packages]


PACKAGES: Final = (
    Package("sympy", since="1.5"),
    Package("hypothesis", since="6.0"),
    Package("jaxtyping", parts=3, since="0.2"),
    Package("annotated-types", parts=3, since="0.2"),
    Package("python-flint"),
    Package("numpy", since="1.23"),
    Package("rich", since="10.0"),
    Package("typer", since="0.4"),
    Package("pytest", since="7.0", beside=("pytest-xdist", "syrupy")),
)
TORCH: Final = Package("torch", since="2.9")
