"""The table of elementary and special functions: what each is to SymPy, and what each is to a ball.

The definition is a SymPy expression in `u` (and `v`); its derivative is SymPy's. The ball is a python-flint method, or
an expression over arb values. `ulps` is the accuracy of PyTorch's kernels where it is worse than one unit in the last
place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Head:
    """One function: its SymPy definition, its ball, and how far PyTorch's kernels may be off."""

    definition: str
    ball: str
    """Python source over the arb values `{0}` and `{1}`."""
    ulps: int = 1
    """The error of PyTorch's kernel, in units in the last place; 0 if it is correctly rounded."""
    measured_ulps: int = 0
    """Where the kernel is known to be far worse: what counts as the rounding of what was executed."""
    step: bool = False
    """Piecewise constant: the derivative is 0 off the jumps."""


# Accuracies: SLEEF's u10 functions, which PyTorch's vectorised kernels call, are within 1.0 ulp and its u35 functions
# (sin, cos and tan in float32) within 3.5 (sleef.org, "Accuracy"); lgamma, digamma and the Bessel functions are
# PyTorch's own and Cephes' (netlib.org/cephes: i0 within 6e-16, i1 within 2e-15); erfcx is Faddeeva's.
# PyTorch's trigamma is good to ten digits, in float64 too (docs/pytorch-findings.md).
HEADS: Final[dict[str, Head]] = {
    "sqrt": Head("sqrt(u)", "{0}.sqrt()", ulps=0),
    "exp": Head("exp(u)", "{0}.exp()"),
    "expm1": Head("exp(u) - 1", "{0}.expm1()"),
    "log": Head("log(u)", "{0}.log()"),
    "log1p": Head("log(1 + u)", "{0}.log1p()"),
    "sin": Head("sin(u)", "{0}.sin()", ulps=4),
    "cos": Head("cos(u)", "{0}.cos()", ulps=4),
    "tan": Head("tan(u)", "{0}.tan()", ulps=4),
    "asin": Head("asin(u)", "{0}.asin()"),
    "acos": Head("acos(u)", "{0}.acos()"),
    "atan": Head("atan(u)", "{0}.atan()"),
    "atan2": Head("atan2(u, v)", "atan2({0}, {1})"),
    "sinh": Head("sinh(u)", "{0}.sinh()"),
    "cosh": Head("cosh(u)", "{0}.cosh()"),
    "tanh": Head("tanh(u)", "{0}.tanh()"),
    "asinh": Head("asinh(u)", "{0}.asinh()"),
    "acosh": Head("acosh(u)", "{0}.acosh()"),
    "atanh": Head("atanh(u)", "{0}.atanh()"),
    "sigmoid": Head("1/(1 + exp(-u))", "(1 / (1 + (-{0}).exp()))"),
    "erf": Head("erf(u)", "{0}.erf()"),
    "erfc": Head("erfc(u)", "{0}.erfc()"),
    "erfinv": Head("erfinv(u)", "{0}.erfinv()", ulps=4),
    "erfcx": Head("exp(u**2)*erfc(u)", "(({0}*{0}).exp()*{0}.erfc())", ulps=4),
    "besseli": Head("besseli(u, v)", "{1}.bessel_i({0})", ulps=16),
    "gamma": Head("gamma(u)", "{0}.gamma()", ulps=8),
    "lgamma": Head("loggamma(u)", "log_gamma({0})", ulps=8),
    "polygamma": Head("polygamma(u, v)", "polygamma({0}, {1})", ulps=16, measured_ulps=2**24),
    "floor": Head("floor(u)", "{0}.floor()", ulps=0, step=True),
}  # fmt: skip
