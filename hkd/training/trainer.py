"""The training of one detector, with or without a teacher: its epochs, its evaluation and its state."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from hkd.coco.annotations import Annotations
from hkd.coco.detections import DetectedBoxes
from hkd.config import TrialConfig
from hkd.data.prepare import PreparedData
from hkd.data.store import ImageStore
from hkd.evaluation.evaluator import EvaluationResult
from hkd.inference.store_detection import (
    detect_validation,
    encode_validation,
    evaluate_detections,
    evaluate_on,
    try_detection,
)
from hkd.metric_names import SECONDS
from hkd.models.build import build_detector
from hkd.models.cost import Cost, detector_cost
from hkd.models.detector import Detector
from hkd.models.weights import load_first_weights, save_detector
from hkd.runtime.device import autocast_dtype, place, resolve_device
from hkd.runtime.seeding import seeded
from hkd.structures import Batch
from hkd.training.first_weights import needs_reconstruction, reconstruct_first_weights, set_first_weights
from hkd.training.fused_teacher import FusedTeacher, prepare_distillation
from hkd.training.pyramid_cache.cache import TeacherCache, open_training_cache
from hkd.training.pyramid_cache.capacity import CacheBudget
from hkd.training.resume_settings import settings_to_resume
from hkd.training.state import restore_state, save_state
from hkd.training.step.batches import build_loader
from hkd.training.step.epoch_record import EpochRecord, require_finite, steps_between_syncs_on
from hkd.training.step.loss import SamplingNumbers, StepLoss, forward_teacher_pyramid, gradient_ratios, training_loss
from hkd.training.step.optim import (
    build_optimizer,
    learning_rate_at,
    set_learning_rate,
    step_clipped,
    trainable_parameters,
    update_average,
)

LEARNING_RATE = "learning_rate"
GRADIENT_NORM = "gradient_norm"
"""Norm of all gradients before clipping, mean over the epoch's steps."""
IMAGES_PER_SECOND = "images_per_second"

OnStep = Callable[[int, int, Mapping[str, float]], None]
"""Called after each step with (steps done in this epoch, steps per epoch, latest loss parts on the host)."""


class Trainer:
    """Trains ``config.student``: alone, or distilled from a teacher where ``config.distillation`` has weights.

    All random numbers are a pure function of ``training.seed`` and the epoch: on a CPU, a training that is saved and
    loaded between two epochs is equal to an uninterrupted one, bit for bit. With all distillation weights 0 it is equal
    to a training without a teacher, bit for bit.

    Args:
        teacher: From :func:`hkd.training.teacher.prepare.load_teacher`; it is not changed. Required where the
            distillation has a weight and ``config.teacher`` is not null; ignored otherwise.
        device: Overrides ``training.device``.
        teacher_cache: Cache of the teacher's pyramids, shared with other trainings on the same batches; None computes
            them in each step. On a CPU it does not change the result.
        pseudo_labels: From :func:`hkd.training.teacher.pseudo_labels.prepare_labels`, where the data has unlabelled
            images.
        fused_teacher: ``teacher``, fused for this precision and device by an earlier training; None fuses it.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: PreparedData,
        teacher: Detector | None = None,
        *,
        device: torch.device | str | None = None,
        teacher_cache: CacheBudget | None = None,
        pseudo_labels: Annotations | None = None,
        fused_teacher: FusedTeacher | None = None,
    ) -> None:
        training = config.training
        self.config = config
        self.epoch = 0
        """Number of epochs trained."""
        self.device = torch.device(device) if device is not None else resolve_device(training.device)
        self._data, self._pseudo_labels = data, pseudo_labels
        self._autocast_dtype = autocast_dtype(training.precision, self.device)
        with seeded(training.seed):
            student = build_detector(config.student)
        self.first_weights = set_first_weights(student, config, teacher)
        """What the student's first weights are read or selected from, a sentence each."""
        # Kept until the first epoch, because a training that is resumed does not need it.
        self._source = teacher if needs_reconstruction(config) else None
        self.student: Detector = place(student, self.device)
        """The detector that is trained; :attr:`deployed` is evaluated and saved."""
        self._objective, self._fused_teacher = prepare_distillation(
            config, teacher, fused_teacher, self._autocast_dtype, self.device
        )
        self._teacher = None if self._fused_teacher is None else self._fused_teacher.detector
        self._average = copy.deepcopy(self.student).requires_grad_(False) if training.ema_decay is not None else None
        self._optimizer = build_optimizer(
            self._trained_modules(),
            name=training.optimizer,
            learning_rate=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
        )
        self._sampling = SamplingNumbers(
            sampled_anchors_per_image=training.sampled_anchors_per_image,
            positive_anchor_fraction=training.positive_anchor_fraction,
            sampled_regions_per_image=training.sampled_regions_per_image,
            positive_region_fraction=training.positive_region_fraction,
        )
        self._loader = build_loader(config, data, pseudo_labels, self.device)
        self._settings = settings_to_resume(config, data, pseudo_labels, self._loader.steps_per_epoch)
        self.teacher_cache = self._open_cache(teacher_cache)
        """None without a teacher or without a cache."""
        self._is_within_epoch = False
        self._steps_between_syncs = steps_between_syncs_on(self.device)

    @property
    def total_epochs(self) -> int:
        """Number of epochs planned."""
        return self.config.training.total_epochs

    @property
    def is_evaluation_due(self) -> bool:
        """Whether to evaluate after the current epoch: every ``evaluate_every_epochs``, and after the last."""
        return self.epoch >= self.total_epochs or self.epoch % self.config.training.evaluate_every_epochs == 0

    @property
    def deployed(self) -> Detector:
        """What is evaluated and saved: the moving average of the weights if there is one, else the student."""
        return self.student if self._average is None else self._average

    @cached_property
    def cost(self) -> Cost:
        """Parameters and FLOPs of the deployed student at the data's image size."""
        return detector_cost(self.deployed, self.config.data.image_height, self.config.data.image_width)

    def train_epoch(self, on_step: OnStep | None = None) -> dict[str, float]:
        """Train one more epoch.

        Returns:
            Means of the named loss parts and of the gradient norm over the epoch; the last step's learning rate;
            seconds and images per second; with a teacher, ``gradient_ratio_<stage>``: the gradient norm of that
            stage's loss over that of the detection losses, both on the backbone and pyramid, in the epoch's first
            batch; with a teacher's cache, its counts; in the first epoch, what the fit of selected weights measured.

        Raises:
            FirstWeightsMemoryError: the fit of selected weights does not fit the memory.
            NonFiniteLossError: naming the step and the parts. The training cannot be continued or saved.
        """
        assert self.epoch < self.total_epochs, "all epochs are trained"
        assert not self._is_within_epoch, "an earlier epoch failed; load a state that was saved before it"
        self._is_within_epoch = True
        started = time.perf_counter()
        steps = self._loader.steps_per_epoch
        generator = torch.Generator().manual_seed(_epoch_seed(self.config.training.seed, self.epoch))
        record = EpochRecord(self.epoch, steps, self.device, self._steps_between_syncs)
        ratios: dict[str, Tensor] = {}
        reconstruction = self._reconstruct() if self.epoch == 0 else {}
        self.student.train()
        if self._teacher is not None:
            self._teacher.eval()
        for step, batch in enumerate(self._loader.epoch(self.epoch)):
            loss = self._loss(batch, generator, self._cached_pyramid(batch, step))
            if step == 0:
                ratios = gradient_ratios(self.student, loss) if loss.distillation else {}
            learning_rate = self._update(step, loss, record)
            if on_step is not None:
                on_step(step + 1, steps, record.latest)
        means = record.means()
        require_finite(self.student, self.epoch)
        gradient_norm_ratios = {name: float(ratio) for name, ratio in ratios.items()}
        seconds = time.perf_counter() - started
        self.epoch += 1
        self._is_within_epoch = False
        return {
            **means,
            **{name: ratio for name, ratio in gradient_norm_ratios.items() if math.isfinite(ratio)},
            LEARNING_RATE: learning_rate,
            SECONDS: seconds,
            IMAGES_PER_SECOND: steps * self.config.training.batch_size / seconds,
            **reconstruction,
            **(self.teacher_cache.take_counts() if self.teacher_cache is not None else {}),
        }

    def try_first_weights(self) -> None:
        """Fit the selected weights as the first epoch does, where it does, to measure the memory.

        Raises:
            FirstWeightsMemoryError: the fit does not fit it.
        """
        self._reconstruct()

    def try_batch(self, batch_size: int) -> None:
        """Compute two steps with another batch size, to measure their memory; the training cannot be continued then.

        The second step, as all later ones, has the optimiser's state in memory.
        """
        self._is_within_epoch = True
        self._optimizer.zero_grad(set_to_none=True)
        self.student.train()
        loader, generator = self._loader.with_batch_size(batch_size), torch.Generator()
        for _ in range(2):
            batch = next(loader.epoch(0))
            loss = self._loss(batch, generator, None)
            if loss.distillation:
                gradient_ratios(self.student, loss)
            self._update(0, loss, EpochRecord(self.epoch, 1, self.device, self._steps_between_syncs))

    def try_evaluation(self) -> None:
        """Detect in one batch of the evaluation, to measure its memory."""
        try_detection(
            self.deployed, self._data, self.config.evaluation, device=self.device, autocast_dtype=self._autocast_dtype
        )

    def detect(self) -> DetectedBoxes:
        """Detections of the deployed student on the validation images, in pixels of the original images."""
        return detect_validation(
            self.deployed, self._data, self.config.evaluation, device=self.device, autocast_dtype=self._autocast_dtype
        )

    def evaluate(self, detections: DetectedBoxes) -> EvaluationResult:
        """Evaluate detections on the validation images by the configured protocol."""
        return evaluate_detections(detections, self._data, self.config.evaluation)

    def encode(self, detections: DetectedBoxes) -> bytes:
        """Detections on the validation images as a file; see :mod:`hkd.evaluation.formats.stored_detections`."""
        return encode_validation(detections, self._data, self.config.evaluation)

    def evaluate_on(self, store: ImageStore, annotations: Annotations) -> EvaluationResult:
        """Detect on other images, and evaluate by the configured protocol."""
        return evaluate_on(
            self.deployed,
            store,
            annotations,
            self.config.evaluation,
            device=self.device,
            autocast_dtype=self._autocast_dtype,
        )

    def start_from(self, path: Path, *, person_class: int | None = None) -> None:
        """Initialise the student from a file; arguments as of :func:`hkd.models.weights.load_first_weights`.

        Raises:
            CheckpointError: the file is unreadable, or of another architecture.
        """
        assert self.epoch == 0, "weights are initialised before the first epoch"
        load_first_weights(self.student, path, person_class=person_class)
        if self._average is not None:
            self._average.load_state_dict(self.student.state_dict())

    def export_student(self, path: Path, metrics: Mapping[str, float] | None = None) -> None:
        """Write the deployed student, without adapters and teacher, as ``.safetensors``."""
        save_detector(
            path,
            self.deployed,
            self.config.student,
            image_height=self.config.data.image_height,
            image_width=self.config.data.image_width,
            metrics=metrics,
        )

    def save(self, path: Path) -> None:
        """Write all that a new :class:`Trainer` of the same configuration needs to continue from here.

        It contains no random state: random numbers follow from the seed and the epoch.
        """
        assert not self._is_within_epoch, "a training can be saved only between epochs"
        save_state(path, self._settings, self._stateful_modules(), self._optimizer, epoch=self.epoch)

    def load(self, path: Path) -> None:
        """Continue from a saved state.

        Raises:
            CheckpointError: the file is unreadable, or the state of a training with other settings.
        """
        self.epoch = restore_state(
            path, self._settings, self._stateful_modules(), self._optimizer, total_epochs=self.total_epochs
        )
        self._is_within_epoch = False

    def close(self) -> None:
        """Release the teacher's cache, so that its entries may be evicted."""
        if self.teacher_cache is not None:
            self.teacher_cache.close()

    def _reconstruct(self) -> dict[str, float]:
        """Fit the student's selected weights to the teacher's outputs; what that measured, by metric name."""
        if self._source is None:
            return {}
        measured = reconstruct_first_weights(
            self.student, self._source, self._loader, self.config, asdict(self._sampling)
        )
        self._source = None
        if self._average is not None:
            self._average.load_state_dict(self.student.state_dict())
        return measured

    def _trained_modules(self) -> list[nn.Module]:
        return [self.student] if self._objective is None else [self.student, self._objective]

    def _stateful_modules(self) -> list[nn.Module]:
        return self._trained_modules() + ([] if self._average is None else [self._average])

    def _open_cache(self, budget: CacheBudget | None) -> TeacherCache | None:
        if self._fused_teacher is None or budget is None:
            return None
        return open_training_cache(
            budget,
            self.config,
            self._data,
            self._fused_teacher.detector,
            steps_per_epoch=self._loader.steps_per_epoch,
            device=self.device,
            autocast_dtype=self._autocast_dtype,
            pseudo_labels=self._pseudo_labels,
            weights_hash=self._fused_teacher.weights_hash,
        )

    def _cached_pyramid(self, batch: Batch, step: int) -> dict[str, Tensor] | None:
        """The teacher's pyramid of the batch; None if the step has to compute it."""
        if self._teacher is None or self.teacher_cache is None:
            return None
        forward = partial(forward_teacher_pyramid, self._teacher, autocast_dtype=self._autocast_dtype)

        def later(other_step: int) -> tuple[Tensor, Callable[[], dict[str, Tensor]]]:
            other = self._loader.batch(self.epoch, other_step)
            return other.images, partial(forward, other)

        return self.teacher_cache.pyramid(self.epoch, step, batch.images, partial(forward, batch), later)

    def _loss(self, batch: Batch, generator: torch.Generator, teacher_pyramid: Mapping[str, Tensor] | None) -> StepLoss:
        anchor_keys, region_keys = self.student.draw_sampling_keys(batch.images, batch.targets, generator)
        return training_loss(
            self.student,
            self._teacher,
            self._objective,
            batch,
            anchor_keys=anchor_keys,
            region_keys=region_keys,
            sampling=self._sampling,
            autocast_dtype=self._autocast_dtype,
            teacher_pyramid=teacher_pyramid,
        )

    def _update(self, step: int, loss: StepLoss, record: EpochRecord) -> float:
        """Backward pass and step of the optimiser; returns the learning rate."""
        training = self.config.training
        steps_before = self.epoch * self._loader.steps_per_epoch + step
        learning_rate = learning_rate_at(
            steps_before,
            total_steps=self.total_epochs * self._loader.steps_per_epoch,
            peak=training.learning_rate,
            warmup_fraction=training.warmup_fraction,
            final_fraction=training.final_learning_rate_fraction,
        )
        set_learning_rate(self._optimizer, learning_rate)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.total)
        parameters = trainable_parameters(self._trained_modules())
        norm = step_clipped(self._optimizer, parameters, training.gradient_clip_norm)
        record.add(step, {**loss.parts, GRADIENT_NORM: norm})
        if self._average is not None and training.ema_decay is not None:
            update_average(self._average, self.student, step=steps_before, decay=training.ema_decay)
        return learning_rate


def _epoch_seed(seed: int, epoch: int) -> int:
    # Differs from the loader's seed and for every (seed, epoch): a seed has 31 bits.
    return (epoch + 1) * 2**31 + seed
