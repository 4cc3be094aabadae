"""The smallest detectors, batches and data sets that exercise everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hkd.config import DetectorConfig, DistillationConfig, FeatureStageConfig, LogitStageConfig, TrialConfig
from hkd.config_files.parsing import apply_overrides
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.structures import Batch, Targets
from hkd.training.step.loss import SamplingNumbers

HEIGHT, WIDTH = 64, 96
MAX_OBJECTS = 4

STUDENT = DetectorConfig(
    width_multiplier=0.125,
    pyramid_channels=8,
    head_channels=16,
    pre_nms_proposals_per_level=16,
    proposals_per_image=8,
)
TEACHER_SHAPE = STUDENT.model_copy(update={"pyramid_channels": 16, "head_channels": 32})
ALL_STAGES = DistillationConfig(
    embedding=FeatureStageConfig(weight=0.5), logits=LogitStageConfig(box_deltas_weight=0.25)
)
NO_LEVELS = DistillationConfig(
    pyramid=FeatureStageConfig(weight=0.0),
    region=FeatureStageConfig(weight=0.0),
    embedding=FeatureStageConfig(weight=0.0),
    logits=LogitStageConfig(weight=0.0),
)
TRAINING: dict[str, Any] = {
    "total_epochs": 3,
    "batch_size": 2,
    "sampled_anchors_per_image": 32,
    "sampled_regions_per_image": 8,
}
SAMPLING = SamplingNumbers(
    sampled_anchors_per_image=32,
    positive_anchor_fraction=0.5,
    sampled_regions_per_image=8,
    positive_region_fraction=0.25,
)


def make_batch(seed: int = 0) -> Batch:
    """Two noise images with two pedestrians each; the second image is padded."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.zeros(2, MAX_OBJECTS, 4)
    boxes[:, 0] = torch.tensor([10.0, 5.0, 30.0, 55.0])
    boxes[:, 1] = torch.tensor([50.0, 20.0, 60.0, 45.0])
    valid = torch.zeros(2, MAX_OBJECTS, dtype=torch.bool)
    valid[:, :2] = True
    return Batch(
        images=torch.rand(2, 3, HEIGHT, WIDTH, generator=generator),
        valid_sizes=torch.tensor([[HEIGHT, WIDTH], [60.0, 90.0]]),
        targets=Targets(boxes_xyxy=boxes, valid=valid, ignore=torch.zeros_like(valid)),
    )


def trial_config(cache_dir: Path, **changes: Any) -> TrialConfig:
    """A trial on five generated scenes, of two steps an epoch; ``changes`` are dotted, with ``__`` for the dot."""
    raw: dict[str, Any] = {
        "data": {
            "synthetic": {"train_images": 5, "validation_images": 3, "height": HEIGHT, "width": WIDTH},
            "image_height": HEIGHT,
            "image_width": WIDTH,
            "cache_dir": str(cache_dir),
        },
        "teacher": {**TEACHER_SHAPE.model_dump(), "training": TRAINING},
        "student": STUDENT.model_dump(),
        "distillation": ALL_STAGES.model_dump(),
        "training": TRAINING,
        "evaluation": {"max_detections_per_image": 8, "batch_size": 2},
    }
    overrides = {name.replace("__", "."): value for name, value in changes.items()}
    return TrialConfig.model_validate(apply_overrides(raw, overrides))


def build(config: DetectorConfig, seed: int) -> Detector:
    """A detector whose weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_detector(config)
