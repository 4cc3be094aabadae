"""Parameters and floating-point operations of a deployed detector."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from hkd.config import DetectorConfig
from hkd.models.build import DEFAULT_NUM_CLASSES
from hkd.models.components.anchors import pyramid_grid_sizes
from hkd.models.components.backbone import backbone_cost
from hkd.models.components.heads import proposal_head_cost, region_head_cost
from hkd.models.components.layer_costs import Cost
from hkd.models.components.regions import POOLED_SIZE
from hkd.models.detector import Detector

__all__ = ["Cost", "PartCosts", "config_cost", "detector_cost", "part_costs"]


class PartCosts(NamedTuple):
    """Cost of each part of a detector for one image."""

    backbone: Cost
    """With the feature pyramid."""
    proposals: Cost
    """The RPN's head."""
    regions: Cost
    """The box head, on all proposals."""


def config_cost(config: DetectorConfig, image_height: int, image_width: int) -> Cost:
    """Cost of the configured detector for one image of this size in pixels: :func:`detector_cost` of a built one.

    Computed from numbers only, in well under a millisecond: samplers ask for it for thousands of candidates.
    """
    parts = part_costs(config, image_height, image_width)
    return parts.backbone + parts.proposals + parts.regions


def part_costs(config: DetectorConfig, image_height: int, image_width: int) -> PartCosts:
    """The terms of :func:`config_cost`."""
    cells = [rows * columns for rows, columns in pyramid_grid_sizes(image_height, image_width)]
    backbone = backbone_cost(
        config.backbone, config.width_multiplier, config.pyramid_channels, config.norm, image_height, image_width
    )
    proposals = proposal_head_cost(config.pyramid_channels, len(config.anchor_aspect_ratios), sum(cells))
    regions = region_head_cost(
        config.pyramid_channels, config.head_channels, DEFAULT_NUM_CLASSES, config.proposals_per_image
    )
    return PartCosts(backbone, proposals, regions)


def detector_cost(detector: Detector, image_height: int, image_width: int) -> Cost:
    """Cost of ``detector`` for one image of this size in pixels, counted in a forward pass of shapes without values.

    Unlike :func:`config_cost`, it includes what a weights file changed, such as a box head that scores more classes.
    All ``proposals_per_image`` slots pass the box head, as in detection, so the count does not depend on the image.
    """
    shapes = _without_values(detector).eval()
    images = torch.empty(1, 3, image_height, image_width, device="meta")
    valid_sizes = torch.empty(1, 2, device="meta")
    # RoIAlign has no convolution or matrix product, and takes a third of the time on this device.
    pooled = torch.empty(
        detector.proposals_per_image, detector.pyramid_channels, POOLED_SIZE, POOLED_SIZE, device="meta"
    )
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        pyramid = shapes.forward_pyramid(images, valid_sizes)
        shapes.rpn(list(pyramid.values()))
        shapes.roi_heads(pooled)
    return Cost(
        num_params=sum(parameter.numel() for parameter in detector.parameters()), flops=counter.get_total_flops()
    )


def _without_values(detector: Detector) -> Detector:
    """A copy of ``detector`` on the meta device; no weights are copied."""
    tensors = [*detector.parameters(), *detector.buffers()]
    # deepcopy uses these instead of copying the tensors with these ids.
    return copy.deepcopy(detector, {id(tensor): tensor.detach().to("meta") for tensor in tensors})
