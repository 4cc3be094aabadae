"""Device and precision of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)

# Names in torch.cpu.get_capabilities() of instructions for bf16 matrix products (x86, then Arm). Without one of them
# bf16 is emulated on a CPU and slower than fp32.
_CPU_BF16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")


class DeviceError(ValueError):
    """The machine does not have the configured device."""


def resolve_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The configured device; ``auto`` is a GPU if torch finds one, else the CPU.

    Raises:
        DeviceError: ``cuda`` is configured and torch finds no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            'training.device is "cuda", but torch finds no GPU on this machine; '
            'set it to "auto" or "cpu", or install a CUDA build of torch'
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def place(module: AnyModule, device: torch.device | str) -> AnyModule:
    """Move a module to a device, with its weights in channels-last layout, in which convolutions are fastest."""
    return module.to(device).to(memory_format=torch.channels_last)


def autocast_dtype(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> torch.dtype | None:
    """The type for autocast; None for fp32 without autocast.

    ``auto`` is bf16 where the processor has instructions for it (AMX or AVX-512 on x86, BF16 on Arm, NVIDIA GPUs since
    Ampere); elsewhere bf16 works but is slower than fp32.
    """
    if precision == "fp32":
        return None
    if precision == "bf16" or _is_fast_with_bf16(device):
        return torch.bfloat16
    return None


def is_host_readable(tensor: Tensor) -> bool:
    """Whether the host can read a tensor's values without a device-to-host synchronization or a graph break.

    False on a GPU and in a traced graph.
    """
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _is_fast_with_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Absent from the oldest torch that is supported; fp32 is the safe choice there.
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(capabilities.get(instruction, False)) for instruction in _CPU_BF16_INSTRUCTIONS)
