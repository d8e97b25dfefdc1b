"""Complex numbers in shadows: pairs of expressions, and the rules that apply where a complex tensor takes part.

The table's names have `complex.` in front. What only moves elements has the same rule for both kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np

from diffcheck.algebra.constants import scalar
from diffcheck.algebra.expr import HALF, ONE, PI, TWO, ZERO, Expr, call, constant, total, vanishes, where
from diffcheck.errors import Unsupported
from diffcheck.rules import indexing, layout, pointwise, reduction, resampling
from diffcheck.rules.registry import Array, Rule, array, elements, elementwise, guarded


@dataclass(frozen=True, slots=True)
class Complex:
    """A complex number: two expressions."""

    re: Expr
    im: Expr

    def __add__(self, other: Any) -> Complex:
        other = as_complex(other)
        return Complex(self.re + other.re, self.im + other.im)

    def __sub__(self, other: Any) -> Complex:
        other = as_complex(other)
        return Complex(self.re - other.re, self.im - other.im)

    def __mul__(self, other: Any) -> Complex:
        other = as_complex(other)
        return Complex(self.re * other.re - self.im * other.im, self.re * other.im + self.im * other.re)

    def __truediv__(self, other: Any) -> Complex:
        other = as_complex(other)
        if other.im is ZERO:
            return Complex(self.re / other.re, self.im / other.re)
        size = other.re * other.re + other.im * other.im
        upper = self * other.conjugate()
        return Complex(upper.re / size, upper.im / size)

    def __neg__(self) -> Complex:
        return Complex(-self.re, -self.im)

    def conjugate(self) -> Complex:
        """re - i·im."""
        return Complex(self.re, -self.im)


def as_complex(value: Any) -> Complex:
    """A number or a real expression as a complex one."""
    if isinstance(value, Complex):
        return value
    if isinstance(value, complex):
        return Complex(scalar(value.real), scalar(value.imag))
    return Complex(value if isinstance(value, Expr) else scalar(value), ZERO)


def by_parts(function: Callable[[Expr], Expr], x: Array) -> Array:
    """Applies a function to every expression, of complex numbers to both."""

    def apply(e: Any) -> Any:
        return Complex(function(e.re), function(e.im)) if isinstance(e, Complex) else function(e)

    return elements((apply(e) for e in x.flat), x.shape)


def joined(cells: Array) -> Array:
    """Complex numbers from an array whose last axis holds the two parts."""
    return elements((Complex(*cells[i]) for i in np.ndindex(*cells.shape[:-1])), cells.shape[:-1])


def parted(x: Array) -> Array:
    """The two parts of complex numbers along a new last axis."""
    numbers = [as_complex(e) for e in x.flat]
    return elements((part for z in numbers for part in (z.re, z.im)), (*x.shape, 2))


def parts_of(x: Array) -> list[Expr]:
    """Every expression of an array, of complex numbers both, in row-major order."""
    return [part for e in x.flat for part in ((e.re, e.im) if isinstance(e, Complex) else (e,))]


# ---------------------------------------------------------------------------------------------------------------------
# Fourier transforms
# ---------------------------------------------------------------------------------------------------------------------

_NONE, _ROOT, _WHOLE = 0, 1, 2
"""What PyTorch calls the normalizations."""


def _cosine(turn: int, n: int) -> Expr:
    """cos(2π · turn / n), of an angle within an eighth of a circle: relations between cosines hold by themselves."""
    turn %= n
    turn = min(turn, n - turn)
    if 4 * turn > n:
        return -_cosine_within(n - 2 * turn, 2 * n)
    return _cosine_within(turn, n)


def _cosine_within(turn: int, n: int) -> Expr:
    if turn == 0:
        return ONE
    if 4 * turn == n:
        return ZERO
    if 6 * turn == n:
        return HALF
    if 8 * turn == n:
        return call("sqrt", HALF)
    if 12 * turn == n:
        return call("sqrt", constant(3)) / TWO
    angle = constant(2) * PI * (constant(turn) / constant(n))
    if 8 * turn > n:
        return call("sin", constant(2) * PI * (constant(n - 4 * turn) / constant(4 * n)))
    return call("cos", angle)


def root_of_unity(turn: int, n: int) -> Complex:
    """exp(2πi · turn / n)."""
    return Complex(_cosine(turn, n), _cosine(4 * turn - n, 4 * n))


def _transformed(x: Array, dim: int, sign: int) -> Array:
    rows = np.moveaxis(x, dim, -1)
    n = rows.shape[-1]
    roots = [root_of_unity(k, n) for k in range(n)]

    def all_of(row: Sequence[Complex]) -> Iterator[Complex]:
        for k in range(n):
            yield _sum_of_products(row, [roots[sign * j * k % n] for j in range(n)])

    values = (z for i in np.ndindex(*rows.shape[:-1]) for z in all_of([as_complex(e) for e in rows[i]]))
    return np.moveaxis(elements(values, rows.shape), -1, dim)


def _sum_of_products(xs: Sequence[Complex], ys: Sequence[Complex]) -> Complex:
    imaginary = total(part for x, y in zip(xs, ys, strict=True) for part in (x.re * y.im, x.im * y.re))
    return Complex(_real_sum_of_products(xs, ys), imaginary)


def _real_sum_of_products(xs: Sequence[Complex], ys: Sequence[Complex]) -> Expr:
    """Its real part alone."""
    return total(part for x, y in zip(xs, ys, strict=True) for part in (x.re * y.re, x.im * -y.im))


def _normalized(x: Array, sizes: Sequence[int], how: int) -> Array:
    count = constant(prod(sizes))
    factor = {_NONE: ONE, _ROOT: ONE / call("sqrt", count), _WHOLE: ONE / count}[how]
    return by_parts(lambda e: e * factor, x)


def fourier(x: Array, dims: Sequence[int], how: int, forward: bool) -> Array:
    """The transform along some axes. The inverse goes the way back, and so does a derivative."""
    sizes = [x.shape[d] for d in dims]
    if not forward:
        x = _normalized(x, sizes, how)
    for dim in reversed(dims) if forward else dims:
        x = _transformed(x, dim, -1 if forward else 1)
    return _normalized(x, sizes, how) if forward else x


def fourier_of_reals(x: Array, dims: Sequence[int], how: int, onesided: bool) -> Array:
    """The transform of real numbers; its last axis holds the first half only, if that is asked for."""
    *others, last = dims
    sizes = [x.shape[d] for d in dims]
    x = _transformed(x, last, -1)
    if onesided:
        x = np.take(x, range(x.shape[last] // 2 + 1), axis=last)
    for dim in reversed(others):
        x = _transformed(x, dim, -1)
    return _normalized(x, sizes, how)


def fourier_to_reals(x: Array, dims: Sequence[int], how: int, size: int) -> Array:
    """The inverse transform of what holds the first half of a symmetric spectrum: only real parts count."""
    *others, last = dims
    rows = np.moveaxis(x, last, -1)[..., : size // 2 + 1].copy()
    # The first and the middle stand for themselves, the others for their mirror images too.
    for j in range(1, (size + 1) // 2):
        rows[..., j] = by_parts(lambda e: TWO * e, rows[..., j])
    x = _normalized(np.moveaxis(rows, -1, last), [*(x.shape[d] for d in others), size], how)
    for dim in others:
        x = _transformed(x, dim, 1)

    rows = np.moveaxis(x, last, -1)
    roots = [root_of_unity(k, size) for k in range(size)]

    def all_of(row: Sequence[Complex]) -> Iterator[Expr]:
        for k in range(size):
            yield _real_sum_of_products(row, [roots[j * k % size] for j in range(len(row))])

    values = (z for i in np.ndindex(*rows.shape[:-1]) for z in all_of([as_complex(e) for e in rows[i]]))
    return np.moveaxis(elements(values, (*rows.shape[:-1], size)), -1, last)


# ---------------------------------------------------------------------------------------------------------------------
# Arithmetic, and between the two kinds
# ---------------------------------------------------------------------------------------------------------------------


def numbers(function: Callable[..., Complex]) -> Rule:
    """A function of single complex numbers, with broadcasting."""

    def apply(*args: Any, **options: Any) -> Array:
        spread = np.broadcast_arrays(*(_as_array(a) for a in args))
        return elements(
            (function(*map(as_complex, row), **options) for row in zip(*(a.flat for a in spread), strict=True)),
            spread[0].shape,
        )

    return array(apply)


def _as_array(value: Any) -> Array:
    return value if isinstance(value, np.ndarray) else elements([as_complex(value)], ())


def _half(value: Any, name: str) -> Any:
    """One part of complex numbers; what is real, an index or a mask, belongs to both."""
    if isinstance(value, np.ndarray) and any(isinstance(e, Complex) for e in value.flat):
        return elements((getattr(as_complex(e), name) for e in value.flat), value.shape)
    if isinstance(value, complex):
        return getattr(as_complex(value), name)
    return value


def both_parts(x: Array) -> tuple[Array, Array]:
    """The real parts of an array, and the imaginary ones."""
    pairs = [as_complex(e) for e in x.flat]
    return elements((z.re for z in pairs), x.shape), elements((z.im for z in pairs), x.shape)


def linear(rule: Rule) -> Rule:
    """The rule for real numbers applied to each part: it is linear, with real coefficients."""
    is_pointwise = rule.kind == "pointwise"

    def apply(*args: Any, **options: Any) -> Array:
        parts = []
        for name in ("re", "im"):
            halves = [_half(a, name) for a in args]
            parts.append(elementwise(rule.apply, *halves) if is_pointwise else rule.apply(*halves, **options))
        return elementwise(Complex, *parts)

    return Rule(apply, "array" if is_pointwise else rule.kind)


def placing(rule: Rule, *positions: int) -> Rule:
    """The same for a rule that puts values somewhere: those arguments may be real numbers, of which one part is 0."""
    in_parts = linear(rule)

    def as_complex_ones(value: Any) -> Any:
        return elements(map(as_complex, value.flat), value.shape) if isinstance(value, np.ndarray) else complex(value)

    def apply(*args: Any, **options: Any) -> Array:
        found: Array = in_parts.apply(
            *(as_complex_ones(a) if i in positions else a for i, a in enumerate(args)), **options
        )
        return found

    return array(apply)


def modulus(z: Complex) -> Expr:
    """|z|."""
    return call("sqrt", z.re * z.re + z.im * z.im)


def direction(z: Complex) -> Complex:
    """z / |z|, and 0 for 0."""
    size = modulus(z)
    return Complex(where(vanishes(size), ZERO, z.re / size), where(vanishes(size), ZERO, z.im / size))


def polar(size: Array, angle: Array) -> Array:
    """size · exp(i · angle)."""
    return elementwise(lambda r, t: Complex(r * call("cos", t), r * call("sin", t)), size, angle)


def converted(x: Array, dtype: Any) -> Array:
    """The shadow of a tensor converted from or to a complex dtype; a real one keeps the real parts."""
    if dtype.is_complex:
        return elements(map(as_complex, x.flat), x.shape)
    if not dtype.is_floating_point:
        raise Unsupported("complex numbers", "converted to integers")
    return elements((as_complex(e).re for e in x.flat), x.shape)


_MOVES: Final = (
    "aten.clone", "aten.cat", "aten.stack", "aten.flip", "aten.roll", "aten.repeat", "aten.constant_pad_nd",
    "aten.slice_backward", "aten.select_backward", "aten.diagonal_backward",
    "aten.diagonal_scatter",
    "aten.zero", "aten.fill",
    "aten.zeros_like", "aten.empty_like", "aten.new_zeros",
    "aten.new_empty_strided", "aten._new_zeros_with_same_feature_meta",
)  # fmt: skip
"""What only moves elements, or makes zeros."""

_PICKS: Final = (
    "aten.gather", "aten.index", "aten.index_select", "aten.take", "aten.masked_select", "aten.masked_scatter",
    "aten.masked_scatter_backward",
)  # fmt: skip
"""What takes elements by their places."""

_SUMS: Final[dict[str, Rule]] = {
    "aten.sum": reduction.RULES["aten.sum"],
    "aten.index_put": indexing.RULES["aten.index_put"],
    **{name: rule for name, rule in resampling.RULES.items() if "replication" in name or "reflection" in name},
}
_PLACES: Final[dict[str, Rule]] = {
    "aten.masked_fill": placing(pointwise.RULES["aten.masked_fill"], 2),
    "aten.where": placing(pointwise.RULES["aten.where"], 1, 2),
    "aten.put": placing(indexing.RULES["aten.put"], 2),
    **{
        f"aten.{name}": placing(indexing.RULES[f"aten.{name}"], 3)
        for name in ("scatter", "scatter_add", "index_add", "index_copy", "index_fill")
    },
}
"""What puts values somewhere."""

RULES: Final[dict[str, Rule]] = {
    **{f"complex.{name}": layout.RULES[name] for name in _MOVES},
    **{f"complex.{name}": linear(rule) for name, rule in _SUMS.items()},
    **{f"complex.{name}": rule for name, rule in _PLACES.items()},
    **{f"complex.{name}": indexing.RULES[name] for name in _PICKS},
    "complex.aten._fft_r2c": array(fourier_of_reals),
    "complex.aten._fft_c2c": array(fourier),
    "complex.aten._fft_c2r": array(fourier_to_reals),
    "complex.aten._to_copy": guarded(lambda d, x, **_: converted(x, d.result.dtype)),
    "complex.aten.copy": guarded(lambda d, _, x, *__, **___: converted(x, d.arguments[0].dtype)),
    "complex.aten.add": numbers(lambda x, y, alpha=1: x + y * as_complex(alpha)),
    "complex.aten.sub": numbers(lambda x, y, alpha=1: x - y * as_complex(alpha)),
    "complex.aten.mul": numbers(lambda x, y: x * y),
    "complex.aten.div": numbers(lambda x, y: x / y),
    "complex.aten.neg": numbers(lambda x: -x),
    "complex.aten._conj_physical": numbers(Complex.conjugate),
    "complex.aten.complex": array(lambda re, im: elementwise(Complex, re, im)),
    "complex.aten.polar": array(polar),
    "complex.aten.sgn": numbers(direction),
    "complex.aten.abs": array(lambda x: elements((modulus(as_complex(e)) for e in x.flat), x.shape)),
}
