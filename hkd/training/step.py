"""One training step: from a batch to its loss, in fixed shapes and without making the host wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hkd.distillation.objective import DistillationObjective, total_loss
from hkd.models.detector import Detector
from hkd.structures import Batch, DetectorOutput

GRADIENT_RATIO = "gradient_ratio_"
"""Prefix of a distillation level's gradient norm over that of the detection losses."""

_DISTILLATION = "distill_"


@dataclass(frozen=True)
class StepLoss:
    """The loss of one batch; all scalars, fp32, on the device."""

    total: Tensor
    """What is minimised: the sum of the losses below, with its graph."""
    parts: dict[str, Tensor]
    """Every loss below by name, and ``loss_total``: detached, for the log."""
    detection: dict[str, Tensor]
    """The detector's own losses, with their graphs."""
    distillation: dict[str, Tensor]
    """``distill_<level>`` -> that level's weighted loss, with its graph; empty without a teacher."""


@dataclass(frozen=True)
class SamplingNumbers:
    """How many examples of an image the detection losses are computed on."""

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

    A pure function of its tensors: the random keys come from ``student.draw_sampling_keys``, so that it traces as one
    graph. The forwards of student and teacher run in ``autocast_dtype``; losses are fp32. The teacher is asked only
    for what the objective needs, and no gradient reaches it.

    Args:
        teacher: frozen, in eval mode; None where ``objective`` is None.
        anchor_keys: (B, A), uniform in [0, 1).
        region_keys: (B, P + G), likewise.
        autocast_dtype: None for plain fp32.
        teacher_pyramid: what :func:`forward_teacher_pyramid` makes of this batch, where the caller has it already: the
            teacher is then asked for no more than its box head's answers.
    """
    assert (teacher is None) == (objective is None), "a teacher and an objective come together"
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
    """The pyramid that a frozen teacher makes of a batch, without a graph; arguments as :func:`training_loss`."""
    # Not inference_mode: its tensors may not be saved for the student's backward.
    with torch.no_grad(), _autocast(batch, autocast_dtype):
        return teacher.forward_pyramid(batch.images, batch.valid_sizes)


def gradient_ratios(student: Detector, loss: StepLoss) -> dict[str, Tensor]:
    """How hard each distillation level pulls, against the detection losses: ratios of gradient norms.

    Gradients are taken at the backbone and its pyramid, which all losses share, of the weighted losses. The graph is
    kept and no ``.grad`` is touched: the step goes on as if nothing had happened. Costs one backward pass a level and
    one for the detection losses.

    Returns:
        ``gradient_ratio_<level>`` -> scalar, for each ``distill_<level>``; infinite where detection has no gradient.
    """
    shared = [parameter for parameter in student.backbone.parameters() if parameter.requires_grad]
    reference = _gradient_norm(torch.stack(list(loss.detection.values())).sum(), shared)
    return {
        GRADIENT_RATIO + name.removeprefix(_DISTILLATION): _gradient_norm(level, shared) / reference
        for name, level in loss.distillation.items()
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
    """The objective's parts; the teacher sees the same images and, for its box head, the student's regions."""
    height, width = batch.images.shape[2:]
    # Regions are pooled from the pyramid: there is no way to them but through it.
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
