"""The trajectory as a product of affine maps, and how far its end can be from the least-squares solution.

With H_k, b_k of the k-th batch (∇L_k(θ) = H_kθ - b_k), M_k = I - lr·H_k and v_k = lr·b_k, what was computed obeys
θ_{k+1} = M_kθ_k + v_k + δ_k, where |δ_k| <= ρ_k was checked step by step. `docs/regression.md` derives what follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from flint import arb, arb_mat

from diffcheck.certify.linear import (
    absolute,
    column,
    extreme_eigenvalues,
    identity,
    length,
    norm_bound,
    precision,
    spectral_radius_exceeds_one,
    upper,
)

MAP_BITS: Final = 256
"""The precision of affine maps that do not grow what they are applied to."""


@dataclass(frozen=True, slots=True)
class Update:
    """One step as an affine map, and what rounding may add to it."""

    hessian: arb_mat
    right: arb_mat
    matrix: arb_mat
    """M = I - lr·H."""
    offset: arb_mat
    """v = lr·b."""
    rounding: arb_mat
    """ρ, per parameter."""


@dataclass(frozen=True, slots=True)
class Updates:
    """The steps of a run, in order, and the precision that what is computed from them needs."""

    maps: Sequence[Update]
    learning_rate: float
    bits: int = MAP_BITS

    def __len__(self) -> int:
        return len(self.maps)

    def first(self, count: int) -> Updates:
        """The first so many."""
        return Updates(self.maps[:count], self.learning_rate, self.bits)

    @property
    def bits_needed(self) -> int:
        """The precision at which the product of the maps is still known far better than float64 knows its result.

        Balls grow with the entries' absolute values: by Π ‖|M|‖∞ at most, and what they enclose may be as much smaller.
        """
        widest = [max(sum(upper(abs(a)) for a in row) for row in update.matrix.tolist()) for update in self.maps]
        growth = sum(math.log2(max(1.0, wide)) for wide in widest)
        return MAP_BITS + 64 * math.ceil(2 * growth / 64) if growth > 1 else MAP_BITS


Followed: TypeAlias = tuple[list[arb], list[float]]
"""The parameters that the maps lead to after a step, and how far rounding can have taken the computed ones."""


def follow(start: Sequence[float], updates: Updates) -> list[Followed]:
    """The trajectory of the maps: t ← Mt + v exactly, e ← |M|e + ρ for its distance from what was computed."""
    found = []
    with precision(updates.bits):
        exact, error = column(start), column([0] * len(start))
        for update in updates.maps:
            exact = update.matrix * exact + update.offset
            error = absolute(absolute(update.matrix) * error + update.rounding)
            found.append((exact.entries(), list(map(upper, error.entries()))))
    return found


@dataclass(frozen=True, slots=True)
class Product:
    """Everything that the product of the maps says about the last parameters."""

    matrix: arb_mat
    """P = M_T⋯M_1."""
    end: Followed
    """Pθ₀ + Σ M_T⋯M_{k+1}v_k, and Σ |M_T⋯M_{k+1}|ρ_k: how far rounding can have taken the computed end from that."""
    suffixes: list[arb_mat]
    """M_T⋯M_{k+1} per step; the last is I."""


def multiply_out(start: Sequence[float], updates: Updates) -> Product:
    """The product of the maps, and the end point that it gives: by another way than `follow`."""
    size = len(start)
    with precision(updates.bits):
        product = identity(size)
        total = error = column([0] * size)
        suffixes = []
        for update in reversed(updates.maps):
            suffixes.append(product)
            total = total + product * update.offset
            error = error + absolute(product) * update.rounding
            product = product * update.matrix
        end = (product * column(start) + total).entries()
        return Product(product, (end, list(map(upper, error.entries()))), suffixes[::-1])


@dataclass(frozen=True, slots=True)
class EndPoint:
    """How far the last parameters are from the solution θ*, and three upper bounds of that, each coarser."""

    distance: float
    """‖θ_T - θ*‖, from above."""
    from_batches: float
    """‖P(θ₀ - θ*)‖ + lr·‖Σ M_T⋯M_{k+1}∇L_k(θ*)‖ + Σ ‖|M_T⋯M_{k+1}|ρ_k‖."""
    from_norms: float
    """‖P‖·‖θ₀ - θ*‖ + Σ ‖M_T⋯M_{k+1}‖·(lr·‖∇L_k(θ*)‖ + ‖ρ_k‖)."""
    from_spectrum: float
    """q^T·‖θ₀ - θ*‖ + (lr·G + ρ)·(1 + q + … + q^(T-1)): a priori, from extreme eigenvalues alone."""
    contraction: arb
    """q = max(|1 - lr·μ|, |1 - lr·λ|)."""
    smallest: arb
    """μ, the smallest eigenvalue of any batch's H."""
    largest: arb
    """λ, the largest."""
    noise: float
    """G = max ‖∇L_k(θ*)‖: how much the batches disagree about the solution."""

    @property
    def bound(self) -> float:
        """The sharpest of the three."""
        return min(self.from_batches, self.from_norms, self.from_spectrum)


def end_point(
    start: Sequence[float], end: Sequence[float], solution: Sequence[arb], updates: Updates, product: Product
) -> EndPoint:
    """Bounds the distance between the last parameters and the least-squares solution, from the batches alone."""
    with precision(updates.bits):
        rate = arb(updates.learning_rate)
        best = column(solution)
        first = column(start) - best
        drift = column([0] * len(start))
        rounding = norms = noise = rho = arb(0)
        for update, suffix in zip(updates.maps, product.suffixes, strict=True):
            gradient = update.hessian * best - update.right
            drift = drift + suffix * gradient
            rounding = rounding + length(absolute(suffix) * update.rounding)
            size, loss = length(gradient), length(update.rounding)
            norms = norms + norm_bound(suffix) * (rate * size + loss)
            noise, rho = noise.max(size), rho.max(loss)
        smallest, largest = extreme_eigenvalues([u.hessian for u in updates.maps])
        contraction = abs(1 - rate * smallest).max(abs(1 - rate * largest))
        q = arb(contraction.upper())
        geometric, power = arb(0), arb(1)
        for _ in updates.maps:
            geometric, power = geometric + power, power * q
        return EndPoint(
            distance=float(length(column(end) - best).upper()),
            from_batches=upper(length(product.matrix * first) + rate * length(drift) + rounding),
            from_norms=upper(norm_bound(product.matrix) * length(first) + norms),
            from_spectrum=upper(power * length(first) + (rate * noise + rho) * geometric),
            contraction=contraction,
            smallest=smallest,
            largest=largest,
            noise=upper(noise),
        )


@dataclass(frozen=True, slots=True)
class Stability:
    """Whether the iteration can settle at all."""

    diverges: bool | None
    """None where it is too near to the limit to tell."""
    limit: arb
    """2/λ, λ the largest eigenvalue of the whole data's H: the learning rate that full batches must stay below."""
    full_batch: bool
    learning_rate: float

    def __str__(self) -> str:
        """In words, with the limit that was crossed."""
        rate, limit = f"the learning rate {self.learning_rate:g}", f"2/λ_max = {float(self.limit.mid()):.6g}"
        if self.diverges is None:
            return f"{rate} is too near to the limit of stability to tell ({limit})"
        if self.full_batch:
            return f"{rate} is {'past' if self.diverges else 'below'} the limit {limit}"
        product = "the maps of one epoch have a product of spectral radius"
        if self.diverges:
            side = "past" if self.learning_rate > self.limit else "below"
            return f"{product} > 1 at {rate} ({side} the full-batch limit {limit})"
        return f"{product} < 1 (full-batch limit {limit})"


def stability(hessian: arb_mat, epoch: Updates) -> Stability:
    """Whether repeating an epoch's batches diverges.

    Args:
        hessian: Of the whole data.
        epoch: The updates of one epoch. If it is one, the limit is 2/λ_max exactly.
    """
    with precision(epoch.bits):
        _, largest = extreme_eigenvalues([hessian])
        limit = 2 / largest if largest > 0 else arb.pos_inf()
        if len(epoch) == 1:
            rate = arb(epoch.learning_rate)
            diverges = True if rate > limit else False if rate < limit else None
            return Stability(diverges, limit, full_batch=True, learning_rate=epoch.learning_rate)
        product = identity(hessian.nrows())
        for update in epoch.maps:
            product = update.matrix * product
        diverges = spectral_radius_exceeds_one(product)
        return Stability(diverges, limit, full_batch=False, learning_rate=epoch.learning_rate)
