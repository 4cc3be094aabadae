"""Everyone who takes part in the speed benchmarks, by name, each ready to make one step after another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.step.baseline_torchvision import BaselineDataset, BaselineTrainer, collate
from benchmarks.step.ours import OursTrainer, PyramidFiles, fuse_teacher, store_in_memory
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
    OURS_SHARED: f"hkd, distilled, {SHARING_STUDENTS} students to one teacher forward, each",
    OURS_ALONE: "hkd, student alone",
}
BASELINES = (BASELINE_FP32, BASELINE_BF16)
_PICTURES = 64


@dataclass(frozen=True)
class Contender:
    """One way of doing the step."""

    trainer: BaselineTrainer | OursTrainer
    step: Callable[[], Tensor]
    students: int = 1
    """How many students a step trains."""


class Contenders:
    """Makes contenders that share their pictures and, those of ours, their teacher."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    @cached_property
    def pictures(self) -> Pictures:
        """As large as the networks' input: the step begins at decoded pictures."""
        return make_pictures(_PICTURES, self.workload.image_height, self.workload.image_width)

    @cached_property
    def teacher(self) -> Detector:
        """The one teacher of ours."""
        return fuse_teacher(build_detector(self.workload.teacher), self.workload.config, self.workload.device)

    def make(self, name: str) -> Contender:
        """The contender of this name, with fresh weights."""
        return self._baseline(name) if name in (*BASELINES, BASELINE_SAMPLED) else self._ours(name)

    def _baseline(self, name: str) -> Contender:
        trainer = BaselineTrainer(self.workload, is_mixed=name == BASELINE_BF16, samples_cells=name == BASELINE_SAMPLED)
        batches = _baseline_batches(self.workload, self.pictures)
        return Contender(trainer, lambda: trainer.step(*next(batches)))

    def _ours(self, name: str) -> Contender:
        workload = self.workload
        store, annotations = store_in_memory(self.pictures)
        teacher = None if name == OURS_ALONE else self.teacher
        students = SHARING_STUDENTS if name == OURS_SHARED else 1
        trainer = OursTrainer(
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


def prepare_process(name: str, device: torch.device) -> None:
    """What a training does once a process: ours keeps freed memory on a CPU; both let cuDNN search."""
    torch.manual_seed(0)
    if device.type == "cpu" and name not in BASELINES:
        keep_freed_memory()
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def loader_workers(device: torch.device) -> int:
    """Workers of the baseline's loader that reads files: two on a CPU, whose cores they share with the training."""
    return 2 if device.type == "cpu" else min(8, os.cpu_count() or 1)


def _baseline_batches(workload: Workload, pictures: Pictures) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
    """Augmented batches without end.

    For a GPU they come from workers, which go on while the others have their turn: that favours the baseline. On a
    CPU workers would take the others' time instead, so that the augmentation is done in the step.
    """
    is_gpu = workload.device.type == "cuda"
    loader = DataLoader(
        BaselineDataset(workload, pictures),
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
