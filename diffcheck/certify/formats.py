"""Floating-point formats: how many digits, and what range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import torch

from diffcheck.certify.balls import Arithmetic
from diffcheck.certify.floats import Floats

RADII: Final = 4.0
"""How many radii of the quick bound, or of the executed formula's ball, count as rounding. Kernels order their
operations differently from the reference and fuse some; in `docs/how-it-works.md` stands what was measured."""
MANTISSA_BITS: Final = {
    torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8,
    torch.complex128: 53, torch.complex64: 24, torch.complex32: 11,
}  # fmt: skip
"""Bits of precision, the implicit one included; of each part of a complex number."""

_Bounds = TypeVar("_Bounds", float, Floats, torch.Tensor)


@dataclass(frozen=True, slots=True)
class Format:
    """A floating-point format."""

    bits: int
    smallest: float
    """The smallest positive subnormal number."""
    smallest_normal: float
    largest: float

    @property
    def is_narrow(self) -> bool:
        """Whether everyday numbers leave its range: float16 ends at 65504."""
        return self.largest < 2.0**32

    @property
    def careful(self) -> Arithmetic:
        """Balls as wide as rounding, underflow and overflow."""
        return Arithmetic("careful", self.smallest_normal, self.smallest, self.largest)

    def tolerance(self, bound: _Bounds) -> _Bounds:
        """How far from the true value numbers may be for no more reason than rounding, of which there is a bound."""
        return RADII * bound + self.smallest

    def ulp(self, value: float) -> float:
        """The distance between neighbouring numbers of this format at a value."""
        size = min(abs(value), self.largest)
        if size < self.smallest_normal:
            return self.smallest
        return math.ldexp(1.0, math.frexp(size)[1] - self.bits)

    def ulps(self, values: Floats) -> Floats:
        """The same for an array of values."""
        exponents = np.frexp(np.minimum(np.abs(values), self.largest))[1]
        found: Floats = np.maximum(np.ldexp(1.0, exponents - self.bits), self.smallest)
        return found


def format_of(dtype: torch.dtype) -> Format:
    """The format of a PyTorch dtype; of a complex one, that of its parts."""
    info, bits = torch.finfo(dtype), MANTISSA_BITS[dtype]
    return Format(bits, info.smallest_normal * 2.0 ** (1 - bits), info.smallest_normal, info.max)
