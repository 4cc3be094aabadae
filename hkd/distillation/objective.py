"""All distillation losses of one step, weighted, by name; and their union with the detection losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hkd.config import DetectorConfig, DistillationConfig
from hkd.distillation.adapters import Adapter, Adapters
from hkd.distillation.cells import ComparedCells
from hkd.distillation.logits import box_delta_loss, kl_distillation_loss
from hkd.distillation.pyramid import FeatureLoss, pyramid_distillation_loss
from hkd.distillation.region import embedding_distillation_loss, region_distillation_loss
from hkd.metric_names import TOTAL_LOSS
from hkd.structures import DetectorOutput, RegionOutput


class DistillationObjective(nn.Module):
    """The distillation losses that have a weight, with the adapters that some of them train.

    Its parameters are the adapters': give them to the optimiser beside the student's.
    """

    def __init__(
        self,
        adapters: Adapters,
        *,
        pyramid_loss: FeatureLoss,
        pyramid_weight: float,
        region_loss: FeatureLoss,
        region_weight: float,
        embedding_loss: FeatureLoss,
        embedding_weight: float,
        logits_weight: float,
        temperature: float,
        box_deltas_weight: float,
        compared_cells: ComparedCells,
    ) -> None:
        super().__init__()
        self.adapters = adapters
        self.pyramid_loss: FeatureLoss = pyramid_loss
        self.pyramid_weight = pyramid_weight
        self.region_loss: FeatureLoss = region_loss
        self.region_weight = region_weight
        self.embedding_loss: FeatureLoss = embedding_loss
        self.embedding_weight = embedding_weight
        self.logits_weight = logits_weight
        self.temperature = temperature
        self.box_deltas_weight = box_deltas_weight
        self.compared_cells: ComparedCells = compared_cells

    @property
    def needs_teacher_pyramid(self) -> bool:
        """Whether :meth:`forward` reads the teacher's pyramid."""
        return self.pyramid_weight > 0

    @property
    def needs_teacher_region(self) -> bool:
        """Whether :meth:`forward` reads the teacher's answers for the student's sampled regions.

        They take the teacher's pyramid to compute, whatever :attr:`needs_teacher_pyramid` says.
        """
        return any(
            weight > 0
            for weight in (self.region_weight, self.embedding_weight, self.logits_weight, self.box_deltas_weight)
        )

    def forward(
        self,
        student_output: DetectorOutput,
        teacher_pyramid: Mapping[str, Tensor] | None,
        teacher_region: RegionOutput | None,
        valid_sizes: Tensor,
        image_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """The weighted losses, each its own tensor with its own graph, by name; those of weight 0 are absent.

        Args:
            student_output: what the student's training forward made.
            teacher_pyramid: level -> (B, C, H, W); read where :attr:`needs_teacher_pyramid`.
            teacher_region: the teacher's answers for ``student_output.sampled``, R = B * S, image-major; read where
                :attr:`needs_teacher_region`.
            valid_sizes: (B, 2), height and width of each image's picture, pixels of the network's input.
            image_size: height and width of the network's input, pixels.

        Returns:
            () float32 each: ``distill_pyramid``, ``distill_region``, ``distill_embedding``, ``distill_logits``,
            ``distill_box_deltas``.
        """
        parts: dict[str, Tensor] = {}
        if self.needs_teacher_pyramid:
            assert teacher_pyramid is not None, "pyramid distillation needs the teacher's pyramid"
            adapted, weights = {}, {}
            for level, features in student_output.pyramid.items():
                adapted[level], weight = _adapt(self.adapters.pyramid[level], features, self.pyramid_loss)
                if weight is not None:
                    weights[level] = weight
            loss = pyramid_distillation_loss(
                adapted,
                teacher_pyramid,
                valid_sizes,
                image_size,
                self.pyramid_loss,
                weights or None,
                self.compared_cells,
            )
            parts["distill_pyramid"] = self.pyramid_weight * loss
        if self.needs_teacher_region:
            assert teacher_region is not None, "region, embedding and logit distillation need the teacher's regions"
            valid = student_output.sampled.regions.valid.flatten()
            parts |= self._region_parts(student_output.region, teacher_region, valid)
        return parts

    def _region_parts(self, student: RegionOutput, teacher: RegionOutput, valid: Tensor) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        if self.region_weight > 0:
            assert self.adapters.region is not None
            features, weight = _adapt(self.adapters.region, student.region_features, self.region_loss)
            loss = region_distillation_loss(
                features, teacher.region_features, valid, self.region_loss, weight, self.compared_cells
            )
            parts["distill_region"] = self.region_weight * loss
        if self.embedding_weight > 0:
            assert self.adapters.embedding is not None
            embedding, weight = _adapt(self.adapters.embedding, student.embedding, self.embedding_loss)
            loss = embedding_distillation_loss(embedding, teacher.embedding, valid, self.embedding_loss, weight)
            parts["distill_embedding"] = self.embedding_weight * loss
        if self.logits_weight > 0:
            loss = kl_distillation_loss(student.class_logits, teacher.class_logits, self.temperature, valid)
            parts["distill_logits"] = self.logits_weight * loss
        if self.box_deltas_weight > 0:
            loss = box_delta_loss(student.box_deltas, teacher.box_deltas, valid)
            parts["distill_box_deltas"] = self.box_deltas_weight * loss
        return parts


def _adapt(adapter: nn.Module, features: Tensor, kind: FeatureLoss) -> tuple[Tensor, Tensor | None]:
    """The adapted features; or, for the loss that can do without them, the features as they are and the weight."""
    if kind == "pearson" and isinstance(adapter, Adapter):
        return features, adapter.weight
    return adapter(features), None


def build_objective(
    distillation: DistillationConfig, student: DetectorConfig, teacher: DetectorConfig, seed: int
) -> DistillationObjective:
    """The objective that a configuration asks for, on the CPU; a hierarchy of weight 0 gets no adapter."""
    pyramid, region, embedding, logits = (
        distillation.pyramid,
        distillation.region,
        distillation.embedding,
        distillation.logits,
    )
    adapters = Adapters(
        student_channels=student.pyramid_channels,
        teacher_channels=teacher.pyramid_channels,
        student_embedding=student.head_channels,
        teacher_embedding=teacher.head_channels,
        pyramid=pyramid.loss if pyramid.weight > 0 else None,
        region=region.loss if region.weight > 0 else None,
        embedding=embedding.loss if embedding.weight > 0 else None,
        seed=seed,
    )
    return DistillationObjective(
        adapters,
        pyramid_loss=pyramid.loss,
        pyramid_weight=pyramid.weight,
        region_loss=region.loss,
        region_weight=region.weight,
        embedding_loss=embedding.loss,
        embedding_weight=embedding.weight,
        logits_weight=logits.weight,
        temperature=logits.temperature,
        box_deltas_weight=logits.box_deltas_weight,
        compared_cells=distillation.compared_cells,
    )


def total_loss(
    detection_losses: Mapping[str, Tensor], distillation_losses: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """What one step minimises: the sum of all detection losses and all weighted distillation losses.

    With no distillation losses it is, to the bit, what plain training minimises.

    Returns:
        The total, () with its graph; and every part by name with the total among them as ``loss_total``, detached, for
        the log.
    """
    assert not detection_losses.keys() & distillation_losses.keys(), "two losses of one name"
    total = torch.stack(list(detection_losses.values())).sum()
    if distillation_losses:
        total = total + torch.stack(list(distillation_losses.values())).sum()
    parts = {name: loss.detach() for name, loss in (*detection_losses.items(), *distillation_losses.items())}
    parts[TOTAL_LOSS] = total.detach()
    return total, parts
