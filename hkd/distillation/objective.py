"""The weighted distillation losses of one step by name, and their sum with the detection losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hkd.config import ComparedCells, DetectorConfig, DistillationConfig, FeatureLoss
from hkd.distillation.adapters import Adapter, Adapters
from hkd.distillation.logits import box_delta_loss, kl_distillation_loss
from hkd.distillation.pyramid import pyramid_distillation_loss
from hkd.distillation.region import embedding_distillation_loss, region_distillation_loss
from hkd.metric_names import TOTAL_LOSS
from hkd.structures import DetectorOutput, RegionOutput


class DistillationObjective(nn.Module):
    """The distillation losses with a weight above 0, and their adapters.

    Its parameters are those of the adapters: optimise them together with the student's.
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
        """Whether :meth:`forward` reads the teacher's box head outputs for the student's sampled regions.

        Computing them requires the teacher's pyramid, even if :attr:`needs_teacher_pyramid` is False.
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
        """The weighted losses by name; those of weight 0 are absent.

        Args:
            student_output: of the student's training forward.
            teacher_pyramid: level -> (B, C, H_l, W_l); read if :attr:`needs_teacher_pyramid`.
            teacher_region: outputs of the teacher's box head for ``student_output.sampled``, R = B * S, image by image;
                read if :attr:`needs_teacher_region`.
            valid_sizes: (B, 2), height and width of each image without padding, in pixels of the network's input.
            image_size: height and width of the network's input, in pixels.

        Returns:
            ``distill_pyramid``, ``distill_region``, ``distill_embedding``, ``distill_logits``, ``distill_box_deltas``,
            () float32 each, with separate graphs for gradient norms of single stages.
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
            assert teacher_region is not None, "region, embedding and logit distillation need the teacher's box head"
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
    """Adapted features and None; for ``pearson``, the features and the adapter's weight (no adapted map needed)."""
    if kind == "pearson" and isinstance(adapter, Adapter):
        return features, adapter.weight
    return adapter(features), None


def build_objective(
    distillation: DistillationConfig,
    student: DetectorConfig,
    teacher: DetectorConfig,
    seed: int,
    *,
    is_selected: bool = False,
) -> DistillationObjective:
    """The configured objective, on the CPU. Stages of weight 0 have no adapter.

    ``seed`` and ``is_selected`` initialise the adapters, see :class:`hkd.distillation.adapters.Adapters`.
    """
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
        is_selected=is_selected,
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
    """The loss of one step: the sum of the detection losses and the weighted distillation losses, all ().

    Without distillation losses it equals the loss of plain training exactly.

    Returns:
        The total () with its graph; and all losses and the total (``loss_total``) by name, detached, for logging.
    """
    assert not detection_losses.keys() & distillation_losses.keys(), "two losses have the same name"
    total = torch.stack(list(detection_losses.values())).sum()
    if distillation_losses:
        total = total + torch.stack(list(distillation_losses.values())).sum()
    parts = {name: loss.detach() for name, loss in (*detection_losses.items(), *distillation_losses.items())}
    parts[TOTAL_LOSS] = total.detach()
    return total, parts
