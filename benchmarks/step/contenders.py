"""The implementations under comparison by name, each with a function that runs its next training step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.step.hkd_trainer import HkdTrainer, PyramidFiles, fuse_teacher, store_in_memory
from benchmarks.step.timing import time_interleaved
from benchmarks.step.torchvision_trainer import TorchvisionDataset, TorchvisionTrainer, collate
from benchmarks.step.workload import Pictures, Workload, make_pictures
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.runtime.allocator import keep_freed_memory

BASELINE_FP32 = "baseline_fp32"
BASELINE_BF16 = "baseline_bf16"
BASELINE_SAMPLED = "baseline_fp32_sampled"
OURS = "ours"
OURS_ALONE = "ours_alone"
OURS_CACHED = "ours_cached"
OURS_SHARED = "ours_shared"

SHARING_STUDENTS = 2
LABELS = {
    BASELINE_FP32: "torchvision, fp32",
    BASELINE_SAMPLED: "torchvision, fp32, comparing as few cells as hkd",
    BASELINE_BF16: "torchvision, bf16 autocast and channels_last",
    OURS: "hkd, distilled",
    OURS_CACHED: "hkd, distilled, teacher's pyramids read from the cache",
    OURS_SHARED: f"hkd, {SHARING_STUDENTS} students per teacher forward, time per student",
    OURS_ALONE: "hkd, student alone",
}
BASELINES = (BASELINE_FP32, BASELINE_BF16)
_PICTURES = 64


@dataclass(frozen=True)
class Contender:
    """One implementation of the training step."""

    trainer: TorchvisionTrainer | HkdTrainer
    step: Callable[[], Tensor]
    students: int = 1
    """Number of students that a step trains."""


class Contenders:
    """Builds contenders, which share their images and, those of hkd, their teacher."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    @cached_property
    def pictures(self) -> Pictures:
        """Decoded images in the size of the network's input."""
        return make_pictures(_PICTURES, self.workload.image_height, self.workload.image_width)

    @cached_property
    def teacher(self) -> Detector:
        """The teacher of hkd's contenders."""
        return fuse_teacher(build_detector(self.workload.teacher), self.workload.config, self.workload.device)

    def make(self, name: str) -> Contender:
        """Build a contender with randomly initialised weights."""
        return self._baseline(name) if name in (*BASELINES, BASELINE_SAMPLED) else self._ours(name)

    def _baseline(self, name: str) -> Contender:
        trainer = TorchvisionTrainer(
            self.workload, is_bf16=name == BASELINE_BF16, samples_cells=name == BASELINE_SAMPLED
        )
        batches = _baseline_batches(self.workload, self.pictures)
        return Contender(trainer, lambda: trainer.step(*next(batches)))

    def _ours(self, name: str) -> Contender:
        workload = self.workload
        store, annotations = store_in_memory(self.pictures)
        teacher = None if name == OURS_ALONE else self.teacher
        students = SHARING_STUDENTS if name == OURS_SHARED else 1
        trainer = HkdTrainer(
            workload.config,
            store,
            annotations,
            workload.device,
            teacher=teacher,
            students=students,
        )
        if name == OURS_CACHED:
            batches = [trainer.next_batch() for _ in range(trainer.loader.steps_per_epoch)]
            trainer.pyramids = PyramidFiles(self.teacher, batches, trainer.autocast_dtype)
        return Contender(trainer, trainer.step, students)


def time_steps(contenders: Mapping[str, Contender], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Milliseconds per student of each contender's step in each round."""
    calls = {name: contender.step for name, contender in contenders.items()}
    # Two warm-up rounds: the first step allocates the optimiser's state and, on a GPU, runs cuDNN's benchmark.
    milliseconds = time_interleaved(calls, rounds, 2, device, "step")
    return {name: [value / contenders[name].students for value in values] for name, values in milliseconds.items()}


def prepare_process(name: str, device: torch.device) -> None:
    """Configure the process as a training does: hkd keeps freed memory on a CPU, all use cuDNN's benchmark mode."""
    torch.manual_seed(0)
    if device.type == "cpu" and name not in BASELINES:
        keep_freed_memory()
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def loader_workers(device: torch.device) -> int:
    """Workers of the baseline's DataLoader for files; on a CPU two, as they share its cores with the training."""
    return 2 if device.type == "cpu" else min(8, os.cpu_count() or 1)


def _baseline_batches(workload: Workload, pictures: Pictures) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
    """An endless iterator of augmented batches.

    On a GPU, workers prepare batches also while other contenders are measured, which favours the baseline. On a CPU,
    workers would slow down other contenders, so that augmentation is part of the step.
    """
    is_gpu = workload.device.type == "cuda"
    loader = DataLoader(
        TorchvisionDataset(workload, pictures),
        workload.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=loader_workers(workload.device) if is_gpu else 0,
        persistent_workers=is_gpu,
        pin_memory=is_gpu,
        collate_fn=collate,
    )
    while True:
        yield from loader
