"""The tables: how every ATen operation acts on shadows, one file per family."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from diffcheck.rules.registry import Rule


@cache
def table() -> Mapping[str, Rule]:
    """All rules, by ATen name. Two families must not both claim an operation."""
    from diffcheck.rules import (
        activation,
        attention,
        complexes,
        discrete,
        drawing,
        factorizations,
        holomorphic,
        indexing,
        layout,
        linalg,
        losses,
        matrix,
        normalization,
        pointwise,
        pooling,
        reduction,
        resampling,
        sampling,
        segments,
        spectral,
        windows,
    )

    families = (
        pointwise, discrete, activation, reduction, layout, indexing, matrix, linalg, windows, resampling, pooling,
        normalization, attention, losses, drawing, sampling, segments, factorizations,
        spectral, complexes, holomorphic,
    )  # fmt: skip
    merged: dict[str, Rule] = {}
    for family in families:
        twice = merged.keys() & family.RULES.keys()
        if twice:
            raise AssertionError(f"{family.__name__} repeats {sorted(twice)}")
        merged |= family.RULES
    return MappingProxyType(merged)
