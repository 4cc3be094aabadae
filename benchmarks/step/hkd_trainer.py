"""Distillation steps of ``hkd``, from the functions that its training loop calls.

:class:`hkd.training.trainer.Trainer` is not used because it requires safetensors and pycocotools, which a bare GPU
machine may not have; a test checks that :class:`HkdTrainer` gives bit-identical weights. Gradient ratios and mean
losses are measured by :meth:`HkdTrainer.train_epoch` only, not by single steps.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.step.workload import Pictures, make_annotations
from hkd.coco.annotations import Annotations
from hkd.config import TrialConfig
from hkd.data.loader import BatchLoader
from hkd.data.store import ImageStore
from hkd.distillation.objective import DistillationObjective, build_objective
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference
from hkd.runtime.device import autocast_dtype, place
from hkd.structures import Batch, TabledPyramid
from hkd.training.pyramid_cache.entry_file import checksum, read_pyramid, write_pyramid
from hkd.training.step.epoch_record import EpochRecord, steps_between_syncs_on
from hkd.training.step.loss import SamplingNumbers, StepLoss, forward_teacher_pyramid, gradient_ratios, training_loss
from hkd.training.step.optim import build_optimizer, step_clipped, trainable_parameters


@dataclass(frozen=True)
class Learner:
    """The modules that one trial trains, and their optimiser."""

    detector: Detector
    objective: DistillationObjective | None
    optimizer: torch.optim.Optimizer

    @property
    def modules(self) -> list[nn.Module]:
        """The student and, with a teacher, the adapters."""
        return [self.detector] if self.objective is None else [self.detector, self.objective]


class HkdTrainer:
    """Students, their teacher and their optimisers; :meth:`step` trains each student on the same batch.

    Args:
        config: the trial's configuration.
        store: training images.
        annotations: their boxes.
        device: of all modules and batches.
        teacher: result of :func:`fuse_teacher`; None trains the students alone.
        students: number of students, which share each batch and one forward of the teacher's backbone.
    """

    def __init__(
        self,
        config: TrialConfig,
        store: ImageStore,
        annotations: Annotations,
        device: torch.device,
        *,
        teacher: Detector | None = None,
        students: int = 1,
    ) -> None:
        training = config.training
        self.config = config
        self.teacher = teacher
        self._device = device
        self.learners = [self._learner(config, device, seed) for seed in range(students)]
        self.generator = torch.Generator().manual_seed(training.seed)
        """Draws the keys by which anchors and regions are sampled."""
        self.autocast_dtype = autocast_dtype(training.precision, device)
        self.pyramids: PyramidFiles | None = None
        """The teacher's pyramids if they are read from files instead of computed."""
        self._sampling = SamplingNumbers(
            sampled_anchors_per_image=training.sampled_anchors_per_image,
            positive_anchor_fraction=training.positive_anchor_fraction,
            sampled_regions_per_image=training.sampled_regions_per_image,
            positive_region_fraction=training.positive_region_fraction,
        )
        self.loader = BatchLoader(
            store,
            annotations,
            batch_size=training.batch_size,
            max_objects=config.data.max_objects_per_image,
            seed=training.seed,
            device=device,
            augmentation=config.data.augmentation.model_dump(),
        )
        self._batches = _endless(self.loader)

    def step(self) -> Tensor:
        """One step on the next batch; returns the loss () of the (last) student."""
        return self.train_on(self.next_batch())

    def next_batch(self) -> Batch:
        """The next augmented batch, on the device; epochs follow each other without end."""
        return next(self._batches)

    def train_on(self, batch: Batch) -> Tensor:
        """One step of each student on this batch."""
        pyramid = self._teacher_pyramid(batch)
        for learner in self.learners:
            loss = self.loss(learner, batch, pyramid)
            self.backward(learner, loss)
            self.update(learner)
        return loss.total.detach()

    def train_epoch(self) -> dict[str, float]:
        """Train the only student for an epoch; returns the metrics that the training loop measures per epoch."""
        (learner,) = self.learners
        steps = self.loader.steps_per_epoch
        record = EpochRecord(0, steps, self._device, steps_between_syncs_on(self._device))
        ratios: dict[str, Tensor] = {}
        for step in range(steps):
            batch = self.next_batch()
            loss = self.loss(learner, batch, self._teacher_pyramid(batch))
            if step == 0 and loss.distillation:
                ratios = gradient_ratios(learner.detector, loss)
            self.backward(learner, loss)
            norm = self.update(learner)
            record.add(step, {**loss.parts, "gradient_norm": norm})
        return {**record.means(), **{name: float(ratio) for name, ratio in ratios.items()}}

    def draw_keys(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The keys of the next step, by which anchors and regions are sampled; equal shapes for all students."""
        return self.learners[0].detector.draw_sampling_keys(batch.images, batch.targets, self.generator)

    def loss(
        self,
        learner: Learner,
        batch: Batch,
        pyramid: Mapping[str, Tensor] | None,
        keys: tuple[Tensor, Tensor] | None = None,
    ) -> StepLoss:
        """Forwards of student and teacher, and all losses; ``keys`` are drawn if they are None."""
        anchor_keys, region_keys = self.draw_keys(batch) if keys is None else keys
        return training_loss(
            learner.detector,
            self.teacher,
            learner.objective,
            batch,
            anchor_keys=anchor_keys,
            region_keys=region_keys,
            sampling=self._sampling,
            autocast_dtype=self.autocast_dtype,
            teacher_pyramid=pyramid,
        )

    def backward(self, learner: Learner, loss: StepLoss) -> None:
        """Compute the gradients of all parameters."""
        learner.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.total)

    def update(self, learner: Learner) -> Tensor:
        """Clip gradients and run the optimiser; returns the gradient norm () before clipping."""
        parameters = trainable_parameters(learner.modules)
        return step_clipped(learner.optimizer, parameters, self.config.training.gradient_clip_norm)

    def _learner(self, config: TrialConfig, device: torch.device, seed: int) -> Learner:
        training = config.training
        detector = place(build_detector(config.student), device).train()
        objective = None
        if self.teacher is not None:
            assert config.teacher is not None
            objective = place(build_objective(config.distillation, config.student, config.teacher, seed), device)
        optimizer = build_optimizer(
            [detector] if objective is None else [detector, objective],
            name=training.optimizer,
            learning_rate=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
        )
        return Learner(detector, objective, optimizer)

    def _teacher_pyramid(self, batch: Batch) -> Mapping[str, Tensor] | None:
        """The pyramid shared by the students; None if the training step computes it."""
        if self.pyramids is not None:
            return self.pyramids.read(batch.images)
        if self.teacher is not None and len(self.learners) > 1:
            return forward_teacher_pyramid(self.teacher, batch, self.autocast_dtype)
        return None


class PyramidFiles:
    """Teacher pyramids of an epoch's batches in files of :mod:`hkd.training.pyramid_cache.cache`, in the page cache.

    Every read verifies the checksum, as a training does for a file that another trial wrote. Images are still loaded
    and augmented, although the pyramids belong to earlier batches: the time is that of a cache hit.
    """

    def __init__(self, teacher: Detector, batches: Sequence[Batch], dtype: torch.dtype | None) -> None:
        folder = Path(tempfile.mkdtemp(prefix="hkd-benchmark-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._device = batches[0].images.device
        self._paths = [folder / f"{number}.pyramid" for number in range(len(batches))]
        for path, batch in zip(self._paths, batches, strict=True):
            pyramid = forward_teacher_pyramid(teacher, batch, dtype)
            write_pyramid(path, pyramid, path.name)
        self._reads = 0

    @property
    def bytes_per_batch(self) -> int:
        """Size of the file of one batch."""
        return self._paths[0].stat().st_size

    def read(self, images: Tensor) -> Mapping[str, Tensor]:
        """The pyramid of the next batch, on the device."""
        checksum(images)  # the cache checks that its entry belongs to these images
        path = self._paths[self._reads % len(self._paths)]
        self._reads += 1
        pyramid = read_pyramid(path, path.name)
        if isinstance(pyramid, TabledPyramid):
            return pyramid.to(self._device)
        return {level: features.to(self._device) for level, features in pyramid.items()}


def fuse_teacher(teacher: Detector, config: TrialConfig, device: torch.device) -> Detector:
    """The teacher as the training loop prepares it."""
    return place(
        fuse_for_inference(teacher, autocast_dtype(config.training.precision, device) or torch.float32), device
    )


def store_in_memory(pictures: Pictures) -> tuple[ImageStore, Annotations]:
    """An image store in memory, and its annotations."""
    count, height, width = pictures.images.shape[:3]
    store = ImageStore(
        images=pictures.images,
        scales=np.ones(count),
        valid_sizes=np.tile(np.array([height, width], dtype=np.int64), (count, 1)),
        image_ids=np.arange(1, count + 1, dtype=np.int64),
    )
    return store, make_annotations(pictures, Path(), [f"{number}.jpg" for number in range(count)])


def _endless(loader: BatchLoader) -> Iterator[Batch]:
    for epoch in itertools.count():
        yield from loader.epoch(epoch)
