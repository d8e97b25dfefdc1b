"""Nested inputs: dicts, lists and tuples of tensors (or of annotations) as a flat list with names, and back again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from diffcheck.torch_internals import tree_flatten_with_path, tree_unflatten


def flattened(tree: Mapping[str, Any]) -> tuple[dict[str, Any], Callable[[Sequence[Any]], dict[str, Any]]]:
    """The leaves by name (`params.w`, `layers.0`), in order, and what puts other leaves in their places."""
    if all(isinstance(value, Tensor) for value in tree.values()):
        return dict(tree), lambda others: dict(zip(tree, others, strict=True))
    leaves, spec = tree_flatten_with_path(dict(tree))

    def rebuilt(others: Sequence[Any]) -> dict[str, Any]:
        result: dict[str, Any] = tree_unflatten(list(others), spec)
        return result

    return {".".join(map(_word, path)): leaf for path, leaf in leaves}, rebuilt


def _word(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
