"""The suite's core where fork, setitimer, resource, /proc and 80-bit longdouble are hidden: by hand, some minutes.

    python tests/platforms/run.py -k matmul

What follows goes to pytest.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.platforms.hidden import WORDS, environment

ROOT: Final = Path(__file__).parents[2]
CORE: Final = (
    *("derive", "prove", "certify", "declare", "draw", "differentiate", "trace", "compare", "explain", "checking"),
    *("report", "regression", "commands", "test_strategies.py"),
)
"""From a case to its verdict, and how it is said."""


def main() -> int:
    """Pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", *(str(ROOT / "tests" / name) for name in CORE), *sys.argv[1:]]
        return subprocess.run(command, cwd=ROOT, env=environment(Path(folder), WORDS), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
