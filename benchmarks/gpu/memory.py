"""Peak memory of a training, and the share of a GPU that ``gpus_per_trial: auto`` derives from it."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu.records import Measurement
from benchmarks.gpu.sections import Settings
from benchmarks.gpu.trainings import Trainings
from benchmarks.step.report import markdown_table
from benchmarks.step.workload import Workload
from hkd.runtime.allocator import release_memory
from hkd.runtime.memory import format_bytes
from hkd.training.memory import CUDA_CONTEXT_BYTES, measure_need
from sweeps.execution.gpu_fraction import gpu_share

_NOT_ON_CPU = "not on a CPU"


def measure_memory(workload: Workload, _: Settings) -> Measurement:
    """The memory of two steps and a batch of the evaluation, of the student alone and distilled."""
    trainings, device = Trainings(workload), workload.device
    rows, figures, reason = [], dict[str, Any](), ""
    for name, is_distilled in (("hkd, student alone", False), ("hkd, distilled", True)):
        need = measure_need(trainings.make(is_distilled=is_distilled))
        allocated = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        found = gpu_share(need)
        reason = found.reason.removeprefix("Memory: ")
        rows.append(
            [
                name,
                _NOT_ON_CPU if allocated is None else format_bytes(allocated),
                format_bytes(need.peak_bytes),
                format_bytes(need.device_bytes),
                f"{found.share:g}",
            ]
        )
        figures[name] = {
            "peak_bytes": need.peak_bytes,
            "allocated_bytes": allocated,
            "device_bytes": need.device_bytes,
            "share": found.share,
        }
        release_memory(device)
    header = [
        "two steps and a batch of the evaluation",
        "peak allocated",
        "peak reserved, with context" if device.type == "cuda" else "peak resident memory of the process",
        "memory of the device",
        "gpus_per_trial: auto",
    ]
    tables = markdown_table(header, rows)
    if device.type == "cuda":
        context = _context_bytes(device)
        figures["context_bytes"] = context
        tables += (
            f"\n\nMemory outside of torch's allocator, of this process and of any other on the GPU: "
            f"{format_bytes(context)}; {format_bytes(CUDA_CONTEXT_BYTES)} are assumed for each trial."
        )
    return Measurement(tables, f"Of a study whose largest trial is the distilled one: {reason}.", figures)


def _context_bytes(device: torch.device) -> int:
    """Used memory of the GPU that torch's allocator did not reserve."""
    free, total = torch.cuda.mem_get_info(device)
    return total - free - torch.cuda.memory_reserved(device)
