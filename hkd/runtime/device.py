"""Where a training computes, and in which precision."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from hkd.runtime.usage import machine_bytes

AnyModule = TypeVar("AnyModule", bound=nn.Module)

# Instructions that multiply bf16 matrices, as torch.cpu.get_capabilities() names them (x86, then Arm). Without one of
# them bf16 on a CPU is emulated and slower than fp32.
_CPU_BF16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")


# glibc's names for mallopt's first argument, and the values that switch trimming off and keep blocks of any size on the
# heap; older ones take no more than 32 MB for the latter.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_NEVER = -1
_MMAP_THRESHOLDS = ((1 << 31) - 1, 32 << 20)
# Linux's madvise.
_MADV_HUGEPAGE = 14
_CHUNK_BYTES = 1 << 30
_MOST_CHUNKS = 8
# Of the machine's memory that the heap's address space may grow by.
_RESERVED_SHARE = 0.25
_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
_NO_OVERCOMMIT = "2"


class DeviceError(ValueError):
    """The machine has not got what the configuration asks for."""


def resolve_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device that a configuration names; ``auto`` is a GPU where there is one.

    Raises:
        DeviceError: ``cuda`` is asked for and torch sees no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            'training.device is "cuda", but torch finds no GPU on this machine; '
            'set it to "auto" or "cpu", or install a CUDA build of torch'
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for its next step, and have it in pages of 2 MB.

    A step on a CPU allocates and frees the same large tensors each time. glibc gives such blocks back to the system at
    once, which then has to zero them anew: some 19,000 page faults a step, about a tenth of its time. Another twentieth
    goes into finding the 4 kB pages of memory that is kept. Does nothing where libc is not glibc. What is given back by
    :func:`hkd.runtime.usage.release_memory` comes in small pages again, until the next call.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    if any(libc.mallopt(_M_MMAP_THRESHOLD, most) for most in _MMAP_THRESHOLDS):
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
        _advise_huge_pages(libc)


def _advise_huge_pages(libc: ctypes.CDLL) -> None:
    """Let the heap grow by address space alone, and advise the system to fill that with large pages when it is used.

    Where address space is rationed all stays as it was: it would be taken from what the process may use. It is bounded
    by a share of the machine's memory, because a heap larger than that memory could not be forked.
    """
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return
    try:
        if _OVERCOMMIT.read_text(encoding="ascii").strip() == _NO_OVERCOMMIT:
            return
    except OSError:
        return
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    count = min(_MOST_CHUNKS, int(_RESERVED_SHARE * machine_bytes()) // _CHUNK_BYTES)
    chunks = [chunk for chunk in (libc.malloc(_CHUNK_BYTES) for _ in range(count)) if chunk]
    for chunk in chunks:
        before = chunk % resource.getpagesize()  # on the chunk's first page, which is the heap's as well
        libc.madvise(chunk - before, before + _CHUNK_BYTES, _MADV_HUGEPAGE)
    for chunk in chunks:
        libc.free(chunk)


def place(module: AnyModule, device: torch.device | str) -> AnyModule:
    """The module on the device, its convolutions' weights channels last, which is where they are fastest."""
    return module.to(device).to(memory_format=torch.channels_last)


def autocast_dtype(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> torch.dtype | None:
    """The type that forwards are autocast to, or None for plain fp32.

    ``auto`` is bf16 where the processor has instructions for it (AMX or AVX-512 on x86, BF16 on Arm, any GPU since
    Ampere): elsewhere bf16 works but is slower than fp32.
    """
    if precision == "fp32":
        return None
    if precision == "bf16" or _is_fast_with_bf16(device):
        return torch.bfloat16
    return None


def _is_fast_with_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Not in the oldest torch that we admit; there, fp32 is the safe answer.
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(capabilities.get(instruction, False)) for instruction in _CPU_BF16_INSTRUCTIONS)
