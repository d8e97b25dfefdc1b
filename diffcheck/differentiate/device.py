"""Where PyTorch computes: devices by name, and whether they are there."""

from __future__ import annotations

import contextlib
import os

import torch

from diffcheck.modes import CPU


def why_absent(name: str) -> str:
    """Why PyTorch can't compute there; empty if it can."""
    try:
        device = torch.device(name)
    except RuntimeError:
        return f"{name!r} is no device of PyTorch's, as cpu, cuda and cuda:1 are"
    if device.type == "meta":
        return "tensors on meta hold no numbers"
    if device.type == CPU:
        return f"PyTorch knows one {CPU}" if device.index else ""
    # To ask the driver itself would leave CUDA unusable in processes that are forked from this one.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    try:
        module = torch.get_device_module(device)
    except RuntimeError:
        module = None
    if module is None or not module.is_available():
        what = "GPU" if device.type == "cuda" else "such device"
        return f"torch {torch.__version__} finds no {what} here (torch.{device.type}.is_available() is False)"
    count = module.device_count()
    if (device.index or 0) >= count:
        return f"there are {count}, the last one is {device.type}:{count - 1}"
    return ""


def computing_on(name: str) -> contextlib.AbstractContextManager[object]:
    """Makes new tensors there: those that are drawn, and those that a function makes of nothing."""
    return contextlib.nullcontext() if name == CPU else torch.device(name)


def seed_generator(device: str, seed: int) -> None:
    """Sets what random numbers are drawn from on a device."""
    if device == CPU:
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` looks for every kind of accelerator each time
    else:
        torch.manual_seed(seed)
