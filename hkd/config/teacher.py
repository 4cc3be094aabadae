"""The teacher: its architecture, the origin of its weights and its training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from hkd.config.detector import DetectorConfig
from hkd.config.training import TrainingConfig


class TeacherConfig(DetectorConfig):
    """The large detector from which students learn: loaded from a checkpoint, or trained once and cached."""

    width_multiplier: Annotated[float, Field(ge=0.125, le=2.0)] = 1.0
    pyramid_channels: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 128
    head_channels: Annotated[int, Field(ge=16, le=4096, multiple_of=8)] = 256
    checkpoint: Path | None = None
    """Trained weights (.safetensors of hkd, or a .pth of torchvision or mmdetection); the teacher is then not trained.
    A .pth does not state its anchors: set anchor_sizes, anchor_aspect_ratios and canonical_region_size with it."""
    torchvision: Path | None = None
    """Trained weights of torchvision's fasterrcnn_resnet50_fpn (or of its Mask or Keypoint R-CNN), in place of
    ``checkpoint``. All settings of the architecture, anchors included, are then torchvision's."""
    person_class: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Row of the person in the class predictor of a file (0 is the background); null: 1 of two classes or of COCO's."""
    init_from: Path | None = None
    """Initial weights of the teacher's training: a detector of this architecture, or a classification ResNet for the
    backbone alone."""
    init_from_synthetic: TrainingConfig | None = None
    """Schedule of a pretraining on generated scenes (data.synthetic); null: no pretraining."""
    training: TrainingConfig = TrainingConfig()
    """Schedule of the teacher's training; not used with ``checkpoint``."""

    @property
    def trained_weights(self) -> Path | None:
        """The file of a teacher that is not trained here: ``checkpoint`` or ``torchvision``."""
        return self.checkpoint or self.torchvision

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = ("checkpoint", "torchvision", "init_from", "init_from_synthetic")
        named = [name for name in origins if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"set at most one of {', '.join(origins)}; found {', '.join(named)}")
        return self

    @model_validator(mode="after")
    def _torchvision_preset(self) -> Self:
        """Fill in torchvision's settings, and refuse others."""
        if self.torchvision is None:
            return self
        different = [
            f"{name} is {_plain_text(getattr(self, name))} instead of {_plain_text(value)}"
            for name, value in _TORCHVISION_ARCHITECTURE.items()
            if name in self.model_fields_set and getattr(self, name) != value
        ]
        if different:
            raise ValueError(
                f"torchvision is set, and these settings are not those of its fasterrcnn_resnet50_fpn: "
                f"{'; '.join(different)}. Remove them, or set checkpoint instead of torchvision"
            )
        unset = {
            name: value
            for name, value in (_TORCHVISION_ARCHITECTURE | _TORCHVISION_NUMBERS).items()
            if name not in self.model_fields_set
        }
        self.__dict__.update(unset)  # the section is frozen for all others
        return self


# torchvision.models.detection.fasterrcnn_resnet50_fpn; its defaults stand in the signature of FasterRCNN.
_TORCHVISION_ARCHITECTURE: dict[str, object] = {
    "backbone": "resnet50",
    "width_multiplier": 1.0,
    "pyramid_channels": 256,
    "head_channels": 1024,
    "norm": "frozen_batch",
    "anchor_sizes": (32.0, 64.0, 128.0, 256.0, 512.0),
    "anchor_aspect_ratios": (0.5, 1.0, 2.0),
    "canonical_region_size": 224.0,
}
# Numbers that a user may change: they trade time for a few detections, and do not change what the weights mean.
_TORCHVISION_NUMBERS: dict[str, object] = {
    "pre_nms_proposals_per_level": 1000,
    "proposals_per_image": 1000,
    "proposal_nms_iou": 0.7,
}


def _plain_text(value: object) -> str:
    return str(list(value) if isinstance(value, tuple) else value)
