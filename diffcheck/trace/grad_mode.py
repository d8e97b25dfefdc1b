"""Why autograd is off where an operation runs: in a Function's forward nothing is constant for that.

Autograd switches both of its modes off in the forward, the setup_context and the jvp of a `torch.autograd.Function`, in
whatever style that is written and under whatever name its `apply` is kept; `torch.no_grad` switches off reverse mode
alone. C++ has no such difference: a `torch::autograd::Function`'s forward and an `at::NoGradGuard` look alike while
they run, so that what is computed there is presumed constant, until a tensor turns out to come from such a Function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from diffcheck import torch_internals
from diffcheck.errors import Unsupported


@dataclass(frozen=True, slots=True)
class Stop:
    """What keeps derivatives from flowing through an operation."""

    by: Literal["detach", "no_grad"]
    presumed: bool
    """Whether it may turn out that a Function ran, whose derivative is its backward."""
    unknown: Unsupported | None = None
    """What is to be raised once it matters, where this PyTorch does not tell."""


class GradMode:
    """Which of autograd's switches Python has set outside of Functions; it has to be told of each."""

    def __init__(self) -> None:
        self._off = not torch.is_grad_enabled()
        """Switched off by Python, and not by C++ around it."""
        self._on_within_off = False
        """Switched on by Python where C++ has switched off: the next switch restores that."""

    def about_to_switch(self, enabled: bool) -> None:  # noqa: FBT001 - as PyTorch is told
        """Python is about to switch reverse mode on or off."""
        if inside_function():
            return
        before = torch.is_grad_enabled()
        if enabled and not before:
            self._on_within_off, self._off = not self._off, False
        elif before and not enabled:
            self._off, self._on_within_off = not self._on_within_off, False

    def stop(self, *, detaches: bool, called: bool = True) -> Stop | None:
        """What makes the results of an operation that runs now constants, if anything does.

        Args:
            detaches: Whether it is `detach`.
            called: Whether Python is calling some function of PyTorch's. A scripted function is none, and detaches what
                it is given where it has a backward pass of its own.
        """
        off = not torch.is_grad_enabled()
        if not (off or detaches or self._off):
            return None
        try:
            if inside_function():
                return (
                    Stop("no_grad", presumed=False) if self._off else None
                )  # a Function that is applied under no_grad
        except Unsupported as error:
            return Stop("detach", presumed=False, unknown=error)
        presumed = off and not self._off and not torch.is_inference_mode_enabled()
        if detaches:
            return Stop("detach", presumed or not called)
        return Stop("no_grad", presumed) if off else None


def inside_function() -> bool:
    """Whether the forward, the setup_context or the jvp of a custom Function is running."""
    return not torch_internals.forward_mode_is_on() and not torch.is_inference_mode_enabled()


def takes_out() -> bool:
    """Whether a `detach` is autograd's, which takes out a result that it has kept, as a new tensor.

    In the forward phase it does so for a function that asks for a gradient itself.
    """
    return torch_internals.is_running_backward()


def is_from_function(tensor: Tensor) -> bool:
    """Whether a custom Function returned the tensor, in Python or in C++, or a scripted function."""
    node: Any = tensor.grad_fn
    return node is not None and (
        isinstance(node, torch.autograd.function.BackwardCFunction)
        or node.name().startswith(("torch::autograd::CppNode<", "torch::jit::"))
    )
