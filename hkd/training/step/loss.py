"""The loss of one training step, in fixed shapes and without device-to-host synchronization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hkd.distillation.objective import DistillationObjective, total_loss
from hkd.models.detector import Detector
from hkd.structures import Batch, DetectorOutput

GRADIENT_RATIO = "gradient_ratio_"
"""Prefix of the metrics of :func:`gradient_ratios`."""

_DISTILLATION = "distill_"


@dataclass(frozen=True)
class StepLoss:
    """The loss of one batch; all scalars, fp32, on the device."""

    total: Tensor
    """The sum of all losses, with its graph."""
    parts: dict[str, Tensor]
    """All losses by name, and ``loss_total``; detached, for the log."""
    detection: dict[str, Tensor]
    """The detector's own losses, with their graphs."""
    distillation: dict[str, Tensor]
    """``distill_<stage>`` -> weighted loss of that distillation stage, with its graph; empty without a teacher."""


@dataclass(frozen=True)
class SamplingNumbers:
    """How many samples per image the detection losses are computed on."""

    sampled_anchors_per_image: int
    positive_anchor_fraction: float
    sampled_regions_per_image: int
    positive_region_fraction: float


def training_loss(
    student: Detector,
    teacher: Detector | None,
    objective: DistillationObjective | None,
    batch: Batch,
    *,
    anchor_keys: Tensor,
    region_keys: Tensor,
    sampling: SamplingNumbers,
    autocast_dtype: torch.dtype | None = None,
    teacher_pyramid: Mapping[str, Tensor] | None = None,
) -> StepLoss:
    """The loss of one batch, and its named parts.

    A pure function of its tensors, which can be traced as one graph: the random keys come from
    ``student.draw_sampling_keys``. The forwards of student and teacher run in ``autocast_dtype``; losses are fp32. Only
    the teacher's outputs that the objective needs are computed, without gradients.

    Args:
        teacher: Frozen, in eval mode; None if ``objective`` is None.
        anchor_keys: (B, A), uniform in [0, 1).
        region_keys: (B, P + G), uniform in [0, 1).
        autocast_dtype: None for fp32 without autocast.
        teacher_pyramid: Result of :func:`forward_teacher_pyramid` for this batch if it is known; only the teacher's box
            head is computed then.
    """
    assert (teacher is None) == (objective is None), "a teacher requires an objective, and an objective a teacher"
    with _autocast(batch, autocast_dtype):
        output, detection = student.forward_train(
            batch.images,
            batch.valid_sizes,
            batch.targets,
            anchor_keys=anchor_keys,
            region_keys=region_keys,
            sampled_anchors_per_image=sampling.sampled_anchors_per_image,
            positive_anchor_fraction=sampling.positive_anchor_fraction,
            sampled_regions_per_image=sampling.sampled_regions_per_image,
            positive_region_fraction=sampling.positive_region_fraction,
        )
    distillation: dict[str, Tensor] = {}
    if teacher is not None and objective is not None:
        distillation = _distillation_losses(student, teacher, objective, batch, output, autocast_dtype, teacher_pyramid)
    total, parts = total_loss(detection, distillation)
    return StepLoss(total=total, parts=parts, detection=detection, distillation=distillation)


def forward_teacher_pyramid(teacher: Detector, batch: Batch, autocast_dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The frozen teacher's pyramid of a batch, without a graph; arguments as of :func:`training_loss`."""
    # Not inference_mode, whose tensors cannot be saved for the student's backward pass.
    with torch.no_grad(), _autocast(batch, autocast_dtype):
        return teacher.forward_pyramid(batch.images, batch.valid_sizes)


def gradient_ratios(student: Detector, loss: StepLoss) -> dict[str, Tensor]:
    """Gradient norm of each distillation stage's weighted loss over that of the detection losses.

    Both are computed on the parameters of the backbone and its pyramid, which all losses share. The graph is retained
    and no ``.grad`` is changed. The cost is one backward pass per stage and one for the detection losses.

    Returns:
        ``gradient_ratio_<stage>`` -> scalar, for each ``distill_<stage>``; infinite if detection has no gradient.
    """
    shared = [parameter for parameter in student.backbone.parameters() if parameter.requires_grad]
    reference = _gradient_norm(torch.stack(list(loss.detection.values())).sum(), shared)
    return {
        GRADIENT_RATIO + name.removeprefix(_DISTILLATION): _gradient_norm(stage_loss, shared) / reference
        for name, stage_loss in loss.distillation.items()
    }


def _distillation_losses(
    student: Detector,
    teacher: Detector,
    objective: DistillationObjective,
    batch: Batch,
    output: DetectorOutput,
    autocast_dtype: torch.dtype | None,
    teacher_pyramid: Mapping[str, Tensor] | None,
) -> dict[str, Tensor]:
    """Losses of the objective; the teacher gets the same images and, in its box head, the student's regions."""
    height, width = batch.images.shape[2:]
    pyramid = teacher_pyramid or forward_teacher_pyramid(teacher, batch, autocast_dtype)
    region = None
    if objective.needs_teacher_region:
        with torch.no_grad(), _autocast(batch, autocast_dtype):
            taps = output.taps
            if teacher.canonical_region_size != student.canonical_region_size:
                taps = teacher.region_taps(pyramid, output.sampled.regions.boxes_xyxy, height)
            region = teacher.forward_regions(pyramid, taps)
    losses: dict[str, Tensor] = objective(output, pyramid, region, batch.valid_sizes, (height, width))
    return losses


def _autocast(batch: Batch, dtype: torch.dtype | None) -> torch.autocast:
    return torch.autocast(batch.images.device.type, dtype=dtype, enabled=dtype is not None)


def _gradient_norm(loss: Tensor, parameters: list[torch.nn.Parameter]) -> Tensor:
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.nn.utils.get_total_norm(_present(gradients))


def _present(gradients: Sequence[Tensor | None]) -> list[Tensor]:
    return [gradient for gradient in gradients if gradient is not None]
