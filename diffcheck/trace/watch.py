"""What Python does to a tensor without an ATen operation: reading its memory, printing it, `.data`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from torch import Tensor
from torch.overrides import TorchFunctionMode

from diffcheck import torch_internals
from diffcheck.errors import Unsupported


class Watched(Protocol):
    """What is told: `Shadows`."""

    @property
    def looks_away(self) -> bool:
        """Whether what happens is no part of the run."""

    def suspended(self) -> AbstractContextManager[None]:
        """What is done inside is no part of the run."""

    def is_live(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on the inputs."""

    def tell(self, tensor: Tensor, how: str) -> None:
        """Python has been told the tensor's numbers."""

    def about_to_switch(self, enabled: bool) -> None:  # noqa: FBT001 - as PyTorch is told
        """Python is about to switch reverse mode on or off."""


class PythonWatch(TorchFunctionMode):
    """Sees what `Shadows` can't, and tells it."""

    def __init__(self, shadows: Watched) -> None:
        super().__init__()
        self._shadows = shadows
        self.calls = 0
        """Functions of PyTorch's that Python is calling now, one inside of the other."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.calls += 1
        try:
            return self._called(func, args, kwargs or {})
        finally:
            self.calls -= 1

    def _called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        shadows = self._shadows
        if shadows.looks_away:
            return func(*args, **kwargs)
        if torch_internals.switches_reverse_mode(func):
            shadows.about_to_switch(*args)
        if func is _DATA_GETTER:
            return args[0].detach()
        if func in _PRINTING:
            with shadows.suspended():
                return func(*args, **kwargs)
        if func is Tensor.__int__ and args[0].is_floating_point():
            return int(args[0].long())  # which is constant on a region, while the number itself is not
        if func in _TOLD and isinstance(args[0], Tensor) and shadows.is_live(args[0]):
            shadows.tell(args[0], f"Tensor.{func.__name__}")
        if func in _LEAVING and isinstance(args[0], Tensor) and shadows.is_live(args[0]):
            raise Unsupported(f"Tensor.{func.__name__}", "the memory is read there, and no shadow can follow that")
        return func(*args, **kwargs)


_DATA_GETTER: Final = Tensor.data.__get__  # type: ignore[attr-defined]
_PRINTING: Final = (Tensor.__repr__, Tensor.__format__, Tensor.__str__)
_TOLD: Final = (Tensor.tolist, Tensor.numpy, Tensor.__array__)
_LEAVING: Final = (Tensor.data_ptr, Tensor.__dlpack__)
