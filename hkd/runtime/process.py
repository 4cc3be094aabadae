"""Settings of a process, applied by the command, worker or benchmark that starts a training in it."""

from __future__ import annotations

import torch

from hkd.runtime.allocator import keep_freed_memory


def configure_process(device: torch.device, num_threads: int = 0) -> None:
    """Configure torch and the allocator of this process for a training on ``device``.

    Args:
        device: On a CPU freed memory is kept for reuse; on a GPU cuDNN selects the fastest kernels by measurement.
        num_threads: Threads of torch's operators on a CPU; 0 leaves them as they are.
    """
    if num_threads:
        torch.set_num_threads(num_threads)
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # all batches have the same shape: one measurement serves all steps
