"""Failed allocations: what recognises them, and what a message says about the device."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hkd.runtime.memory import format_bytes, machine_bytes

# Messages of errors without a type: of torch's CPU allocator, and of libraries that allocate by themselves.
_OUT_OF_MEMORY_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    # oneDNN reports a failed allocation as one of these, without a cause.
    "could not create a primitive",
    "could not create a memory object",
    "could not execute a primitive",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error reports a failed allocation, on a GPU or on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _OUT_OF_MEMORY_MESSAGES)


def first_line(error: BaseException) -> str:
    """First line of an error's message, or its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def allocation_failure(compute: Callable[[], None]) -> str | None:
    """The allocator's message if memory runs out during ``compute``; None if it does not."""
    try:
        compute()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return first_line(error)
    return None


def describe_device(device: torch.device) -> str:
    """A device and its memory, for messages."""
    if device.type != "cuda":
        return f"this machine's memory ({format_bytes(machine_bytes())})"
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    index = torch.cuda.current_device() if str(device) == "cuda" else device.index
    return f"GPU {index} ({properties.name}, {format_bytes(total)}, of which {format_bytes(free)} are free for a step)"
