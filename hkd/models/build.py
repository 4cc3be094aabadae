"""Detectors from configuration."""

from __future__ import annotations

from hkd.config import DetectorConfig
from hkd.models.components.backbone import build_backbone
from hkd.models.detector import Detector

DEFAULT_NUM_CLASSES = 2
"""Background and person."""


def build_detector(config: DetectorConfig, *, num_classes: int = DEFAULT_NUM_CLASSES) -> Detector:
    """A randomly initialised detector (torch's global generator); ``num_classes`` includes the background."""
    backbone = build_backbone(config.backbone, config.width_multiplier, config.pyramid_channels, config.norm)
    return Detector(
        backbone,
        head_channels=config.head_channels,
        num_classes=num_classes,
        anchor_sizes=config.anchor_sizes,
        anchor_aspect_ratios=config.anchor_aspect_ratios,
        canonical_region_size=config.canonical_region_size,
        pre_nms_proposals_per_level=config.pre_nms_proposals_per_level,
        proposals_per_image=config.proposals_per_image,
        proposal_nms_iou=config.proposal_nms_iou,
    )
