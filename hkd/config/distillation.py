"""Losses between student and teacher."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hkd.config.section import LossWeight, Section

FeatureLoss = Literal["pearson", "mse"]
"""``pearson`` compares channels up to scale and offset, ``mse`` compares values."""
ComparedCells = Literal["sample", "all"]
"""``sample``: one in 3 to 11 cells of large maps, see :mod:`hkd.distillation.cells`; ``all``: every cell."""


class FeatureStageConfig(Section):
    """A distillation stage that compares features."""

    loss: FeatureLoss = "pearson"
    """``pearson``: 1 - correlation per channel (PKD, NeurIPS 2022); ``mse``: mean squared difference."""
    weight: LossWeight = 1.0
    """Weight of the loss; 0 disables the stage at no cost."""


class LogitStageConfig(Section):
    """The distillation stage that compares outputs of the box head."""

    loss: Literal["kl"] = "kl"
    weight: LossWeight = 1.0
    """Weight of the loss on class logits; 0 disables it at no cost."""
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 2.0
    """Temperature of both softmax distributions; the loss is scaled by its square (Hinton et al., 2015)."""
    box_deltas_weight: LossWeight = 0.0
    """Weight of the mean squared difference of the pedestrian class's box deltas; 0 disables it."""


class DistillationConfig(Section):
    """Losses between student and teacher, by distillation stage."""

    pyramid: FeatureStageConfig = FeatureStageConfig()
    region: FeatureStageConfig = FeatureStageConfig()
    embedding: FeatureStageConfig = FeatureStageConfig(weight=0.0)
    logits: LogitStageConfig = LogitStageConfig()
    compared_cells: ComparedCells = "sample"
    """Cells at which pyramid and region features are compared. ``sample`` takes one cell in up to 11 of a large map, at
    least 1,000 per batch: faster, for an equally good student (benchmarks/NOTES.md)."""

    @property
    def is_active(self) -> bool:
        """Whether any weight is above 0; otherwise no teacher is needed."""
        return (
            any(stage.weight > 0 for stage in (self.pyramid, self.region, self.embedding, self.logits))
            or self.logits.box_deltas_weight > 0
        )
