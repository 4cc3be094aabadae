"""The work of one distillation step as ``hkd`` does it, put together from what its training loop calls.

:class:`hkd.training.loop.Trainer` itself is not used, because it imports what a bare GPU machine has not got
(safetensors, pycocotools). That :class:`OursTrainer` does the same, to the bit, is held by a test.

Imported by ``benchmarks/step.py``, which measures it.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.workload import Pictures, annotations_of
from hkd.config import TrialConfig
from hkd.data.annotations import Annotations
from hkd.data.loader import BatchLoader, evaluation_batches
from hkd.data.store import ImageStore
from hkd.distillation.objective import DistillationObjective, build_objective
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.structures import Batch
from hkd.training.device import autocast_dtype, place
from hkd.training.optim import build_optimizer, trainable_parameters
from hkd.training.step import SamplingNumbers, StepLoss, training_loss

TAKES_TEACHER_PYRAMID = "teacher_pyramid" in inspect.signature(training_loss).parameters
"""Whether the training step can be given a teacher's pyramid that was computed elsewhere."""


@dataclass(frozen=True)
class Learner:
    """What one trial trains."""

    detector: Detector
    objective: DistillationObjective | None
    optimizer: torch.optim.Optimizer

    @property
    def modules(self) -> list[nn.Module]:
        """The student, and its adapters where it has a teacher."""
        return [self.detector] if self.objective is None else [self.detector, self.objective]


class OursTrainer:
    """Students, their teacher and their optimisers; :meth:`step` is one step of each student on one batch.

    Args:
        config: the trial; its ``student`` is trained.
        teacher: as :func:`freeze_teacher` makes it; None trains the students alone.
        students: more than one share each batch and one forward of the teacher's backbone.
        pyramids: the teacher's pyramids of the store's images, where they are read instead of computed.
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
        pyramids: HeldPyramids | None = None,
    ) -> None:
        training = config.training
        self.config = config
        self.teacher = teacher
        self.learners = [self._learner(config, device, seed) for seed in range(students)]
        self.generator = torch.Generator().manual_seed(training.seed)
        """Of the keys by which anchors and regions are sampled."""
        self.autocast_dtype = autocast_dtype(training.precision, device)
        self._pyramids = pyramids
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
        """One step on the next batch; returns the (last) student's loss."""
        return self.train_on(self.next_batch())

    def next_batch(self) -> Batch:
        """The next batch of an endless row of epochs, augmented, on the device."""
        return next(self._batches)

    def train_on(self, batch: Batch) -> Tensor:
        """One step of each student on this batch."""
        pyramid = self._teacher_pyramid(batch)
        for learner in self.learners:
            loss = self.loss(learner, batch, pyramid)
            self.backward(learner, loss)
            self.update(learner)
        return loss.total.detach()

    def loss(self, learner: Learner, batch: Batch, pyramid: Mapping[str, Tensor] | None) -> StepLoss:
        """Both forwards and all losses."""
        anchor_keys, region_keys = learner.detector.draw_sampling_keys(batch.images, batch.targets, self.generator)
        given: dict[str, Any] = {} if pyramid is None else {"teacher_pyramid": pyramid}
        return training_loss(
            learner.detector,
            self.teacher,
            learner.objective,
            batch,
            anchor_keys=anchor_keys,
            region_keys=region_keys,
            sampling=self._sampling,
            autocast_dtype=self.autocast_dtype,
            **given,
        )

    def backward(self, learner: Learner, loss: StepLoss) -> None:
        """The gradients of all parameters."""
        learner.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.total)

    def update(self, learner: Learner) -> None:
        """Clipping and the optimiser."""
        parameters = trainable_parameters(learner.modules)
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.config.training.gradient_clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.config.training.gradient_clip_norm, norm)
        learner.optimizer.step()

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
        """The pyramid that the students are given; None where the training step computes it itself."""
        if self._pyramids is not None:
            return self._pyramids.of(batch)
        if self.teacher is not None and len(self.learners) > 1:
            return teacher_pyramid(self.teacher, batch.images, batch.valid_sizes, self.autocast_dtype)
        return None


class HeldPyramids:
    """A teacher's pyramids of all images of a store, held on the device in the type that the teacher computes in.

    What a cache could save at best: reading it from a disk is not in this. Pictures are augmented all the same, though
    their pyramids are of the pictures as they are: the time is that of a cache whose augmentation fits.
    """

    def __init__(self, teacher: Detector, store: ImageStore, config: TrialConfig, device: torch.device) -> None:
        dtype = autocast_dtype(config.training.precision, device)
        parts: dict[str, list[Tensor]] = {}
        for images, valid_sizes, _ in evaluation_batches(store, config.training.batch_size, device):
            for level, features in teacher_pyramid(teacher, images, valid_sizes, dtype).items():
                parts.setdefault(level, []).append(features.permute(0, 2, 3, 1).contiguous())
        self._levels = {level: torch.cat(features) for level, features in parts.items()}

    @property
    def bytes_per_image(self) -> int:
        """Size of one image's pyramid."""
        return sum(level[0].numel() * level.element_size() for level in self._levels.values())

    def of(self, batch: Batch) -> dict[str, Tensor]:
        """The pyramids of a batch, laid out channels last."""
        return {level: features[batch.indices].permute(0, 3, 1, 2) for level, features in self._levels.items()}


@torch.no_grad()
def teacher_pyramid(
    teacher: Detector, images: Tensor, valid_sizes: Tensor, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """The teacher's pyramid as the training step computes it."""
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None):
        return teacher.forward_pyramid(images, valid_sizes)


def freeze_teacher(teacher: Detector, device: torch.device) -> Detector:
    """The teacher as the training loop makes it ready."""
    return place(teacher, device).requires_grad_(False).eval()


def store_in_memory(pictures: Pictures) -> tuple[ImageStore, Annotations]:
    """A store of the pictures and their boxes, without a file."""
    count, height, width = pictures.images.shape[:3]
    store = ImageStore(
        images=pictures.images,
        scales=np.ones(count),
        valid_sizes=np.tile(np.array([height, width], dtype=np.int64), (count, 1)),
        image_ids=np.arange(1, count + 1, dtype=np.int64),
    )
    return store, annotations_of(pictures, Path(), [f"{number}.jpg" for number in range(count)])


def _endless(loader: BatchLoader) -> Iterator[Batch]:
    for epoch in itertools.count():
        yield from loader.epoch(epoch)
