"""What LAPACK promises: its results are those of a matrix that is off by roundings of its largest elements.

Single elements, and what follows from them, may lose all of their digits by that. So a rule is a formula of such a
matrix: a term is added to every element that is 0, with all of its derivatives, and that rounding does not leave so.
Source: Anderson and others, *LAPACK Users' Guide*, chapter 4.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from diffcheck.algebra.expr import ONE, Expr, call, constant, frozen, total
from diffcheck.rules.registry import Array, elements

_THREE: Final = constant(3)


def off_by(value: Expr, size: Expr) -> Expr:
    """The value, which a kernel misses by a few roundings of something of this size."""
    root = call("sqrt", _THREE)
    return value + frozen(size, "rounding") * (root * root - _THREE)


def _norm(a: Array) -> Expr:
    return call("sqrt", total(e * e for e in a.flat))


def as_seen(a: Array) -> Array:
    """A matrix as kernels see it that take it as a whole."""
    size = _norm(a)
    return elements((off_by(e, size) for e in a.flat), a.shape)


def columns_as_seen(a: Array) -> Array:
    """A matrix as kernels see it that go column by column."""
    return np.stack([as_seen(column) for column in a.T], axis=1) if a.shape[1] else a


def orthonormal(vectors: Array) -> Array:
    """Vectors of length 1, each component of which is off by roundings of 1."""
    return elements((off_by(v, ONE) for v in vectors.flat), vectors.shape)
