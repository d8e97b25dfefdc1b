"""The table of elementary and special functions: all that is known of each, said once.

To SymPy a function is an expression in `u` (and `v`); its derivative is SymPy's. To ball arithmetic and to NumPy it is
a line of Python. `ulps` is the accuracy of PyTorch's kernels where it is worse than one unit in the last place. How a
function becomes a polynomial in atoms is said elsewhere (`prove.normal_form.functions`): that is more than a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

INF: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Function:
    """One function. Fields without a default are asked of every one."""

    definition: str
    """To SymPy, in `u` and `v`."""
    ball: str
    """Python source over the arb values `{0}` and `{1}`."""
    floats: str
    """Python source over a NumPy array `{0}`, in `np`, `math` and `each`; empty where neither has it: balls do it."""
    values: Mapping[float, float]
    """Where its value is a whole number or a limit: what constants are folded to."""
    parity: Literal["odd", "even", "neither"]
    singular: tuple[float, ...]
    """Where it, or its derivative, has a pole, a branch point or a jump: inputs there and beside are worth a look."""
    ulps: int = 1
    """The error of PyTorch's kernel, in units in the last place; 0 if it is correctly rounded."""
    measured_ulps: int = 0
    """Where the kernel is known to be far worse: what counts as the rounding of what was executed."""
    step: bool = False
    """Piecewise constant: the derivative is 0 off the jumps."""
    positive: bool = False
    """Everywhere."""
    periodic: bool = False
    """It moves as fast far from 0 as near it."""
    command: str = ""
    """LaTeX's command for it, where there is one."""

    @property
    def sympy_name(self) -> str | None:
        """How SymPy calls it; None where it writes it by other functions."""
        applied = re.fullmatch(r"(\w+)\(u(?:, v)?\)", self.definition)
        return applied[1] if applied else None


# Accuracies: SLEEF's u10 functions, which PyTorch's vectorised kernels call, are within 1.0 ulp and its u35 functions
# (sin, cos and tan in float32) within 3.5 (sleef.org, "Accuracy"); lgamma, digamma and the Bessel functions are
# PyTorch's own and Cephes' (netlib.org/cephes: i0 within 6e-16, i1 within 2e-15); erfcx is Faddeeva's.
# PyTorch's trigamma is good to ten digits, in float64 too (docs/pytorch-findings.md).
FUNCTIONS: Final[dict[str, Function]] = {
    "sqrt": Function("sqrt(u)", "{0}.sqrt()", "np.sqrt({0})", {0: 0, 1: 1}, "neither", (0,), ulps=0),
    "exp": Function("exp(u)", "{0}.exp()", "np.exp({0})", {0: 1, -INF: 0, INF: INF}, "neither", (), positive=True),
    "expm1": Function("exp(u) - 1", "{0}.expm1()", "np.expm1({0})", {0: 0}, "neither", ()),
    "log": Function("log(u)", "{0}.log()", "np.log({0})", {1: 0, INF: INF}, "neither", (0,), command=r"\log"),
    "log1p": Function("log(1 + u)", "{0}.log1p()", "np.log1p({0})", {0: 0}, "neither", (-1,)),
    "sin": Function("sin(u)", "{0}.sin()", "np.sin({0})", {0: 0}, "odd", (), ulps=4, periodic=True, command=r"\sin"),
    "cos": Function("cos(u)", "{0}.cos()", "np.cos({0})", {0: 1}, "even", (), ulps=4, periodic=True, command=r"\cos"),
    "tan": Function("tan(u)", "{0}.tan()", "np.tan({0})", {0: 0}, "odd", (), ulps=4, periodic=True, command=r"\tan"),
    "asin": Function("asin(u)", "{0}.asin()", "np.arcsin({0})", {0: 0}, "odd", (-1, 1)),
    "acos": Function("acos(u)", "{0}.acos()", "np.arccos({0})", {1: 0}, "neither", (-1, 1)),
    "atan": Function("atan(u)", "{0}.atan()", "np.arctan({0})", {0: 0}, "odd", ()),
    "atan2": Function("atan2(u, v)", "atan2({0}, {1})", "", {}, "neither", ()),
    "sinh": Function("sinh(u)", "{0}.sinh()", "np.sinh({0})", {0: 0}, "odd", (), command=r"\sinh"),
    "cosh": Function("cosh(u)", "{0}.cosh()", "np.cosh({0})", {0: 1}, "even", (), command=r"\cosh"),
    "tanh": Function("tanh(u)", "{0}.tanh()", "np.tanh({0})", {0: 0, INF: 1, -INF: -1}, "odd", (), command=r"\tanh"),
    "asinh": Function("asinh(u)", "{0}.asinh()", "np.arcsinh({0})", {0: 0}, "odd", ()),
    "acosh": Function("acosh(u)", "{0}.acosh()", "np.arccosh({0})", {1: 0}, "neither", (1,)),
    "atanh": Function("atanh(u)", "{0}.atanh()", "np.arctanh({0})", {0: 0}, "odd", (-1, 1)),
    "sigmoid": Function(
        "1/(1 + exp(-u))", "(1 / (1 + (-{0}).exp()))", "1 / (1 + np.exp(-{0}))", {}, "neither", (), positive=True
    ),
    "erf": Function("erf(u)", "{0}.erf()", "each(math.erf, {0})", {0: 0, INF: 1, -INF: -1}, "odd", ()),
    "erfc": Function("erfc(u)", "{0}.erfc()", "each(math.erfc, {0})", {0: 1}, "neither", (), positive=True),
    "erfinv": Function("erfinv(u)", "{0}.erfinv()", "", {0: 0}, "odd", (-1, 1), ulps=4),
    "erfcx": Function(
        "exp(u**2)*erfc(u)", "(({0}*{0}).exp()*{0}.erfc())", "", {0: 1}, "neither", (), ulps=4, positive=True
    ),
    "besseli": Function("besseli(u, v)", "{1}.bessel_i({0})", "", {}, "neither", (), ulps=16),
    "gamma": Function("gamma(u)", "{0}.gamma()", "", {1: 1, 2: 1}, "neither", (0,), ulps=8),
    "lgamma": Function("loggamma(u)", "log_gamma({0})", "", {1: 0, 2: 0}, "neither", (0,), ulps=8),
    "polygamma": Function(
        "polygamma(u, v)", "polygamma({0}, {1})", "", {}, "neither", (0,), ulps=16, measured_ulps=2**24
    ),
    "floor": Function("floor(u)", "{0}.floor()", "np.floor({0})", {}, "neither", (-1, 0, 1), ulps=0, step=True),
}
