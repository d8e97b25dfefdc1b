"""What is tried: the packages that diffcheck needs, and the tests that feel each one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FELT_BY: Final[dict[str, tuple[str, ...]]] = {
    "tests/derive/test_chain_rule.py": ("sympy", "torch"),
    "tests/prove/test_normal_form.py": ("sympy",),
    "tests/prove/test_symmetry.py": ("sympy",),
    "tests/report/test_mathematics.py": ("sympy", "rich"),
    "tests/certify/test_running_error.py": ("numpy", "python-flint", "torch"),
    "tests/declare/test_case.py": ("jaxtyping", "annotated-types", "torch"),
    "tests/declare/test_load.py": ("jaxtyping",),
    "tests/declare/test_rule.py": ("torch",),
    "tests/draw/test_inputs.py": ("hypothesis", "jaxtyping", "annotated-types", "numpy", "torch"),
    "tests/test_strategies.py": ("hypothesis", "jaxtyping", "annotated-types"),
    "tests/trace/test_shadow.py": ("torch",),
    "tests/test_torch_internals.py": ("torch",),
    "tests/commands/test_config.py": ("typer",),
    "tests/commands/test_cli.py": ("typer",),
    "tests/report/test_terminal.py": ("rich", "typer"),
    "tests/report/test_text.py": ("rich",),
    "tests/pytest_plugin/test_pytest_plugin.py": ("pytest",),
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
    Package("sympy", since="1.10"),
    Package("hypothesis", since="6.100"),
    Package("jaxtyping", parts=3, since="0.2.25"),
    Package("annotated-types", parts=3, since="0.2"),
    Package("python-flint", since="0.5"),
    Package("numpy", since="1.25"),
    Package("rich", since="13.0"),
    Package("typer", since="0.12"),
    Package("pytest", since="7.4", beside=("pytest-xdist", "syrupy")),
)
"""What came out before 2023 is not looked at, but for the one that has few releases."""
TORCH: Final = Package("torch", since="2.9")
