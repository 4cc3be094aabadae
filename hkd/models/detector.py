"""A two-stage FPN detector that trains on a whole batch at once.

Parameter names and detections equal those of torchvision's ``FasterRCNN`` with the same weights. Unlike there, every
tensor between the image batch and the losses has a fixed shape, and a training forward needs no device-to-host
synchronization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import batched_nms

from hkd.config import PYRAMID_LEVELS
from hkd.models.components.anchors import grid_anchors, pyramid_grid_sizes
from hkd.models.components.boxes import REGION_DELTA_WEIGHTS, clip_boxes, decode_boxes
from hkd.models.components.heads import ProposalHead, RegionHead
from hkd.models.components.losses import region_losses, rpn_losses
from hkd.models.components.proposals import select_proposals
from hkd.models.components.regions import pool_regions, region_table, region_taps
from hkd.models.components.sampling import append_ground_truth, match_anchors, sample_anchors, sample_regions
from hkd.structures import (
    Detections,
    DetectorOutput,
    RegionOutput,
    Regions,
    RegionTaps,
    RpnOutput,
    TabledPyramid,
    Targets,
)

_REGION_LEVELS = PYRAMID_LEVELS[:4]
# ImageNet statistics that torchvision's weights were trained with.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
# Pixels; torchvision drops smaller detections.
MINIMUM_DETECTION_SIDE = 1e-2


class Detector(nn.Module):
    """Backbone with feature pyramid, RPN and box head; built by :func:`hkd.models.build.build_detector`."""

    def __init__(
        self,
        backbone: BackboneWithFPN,
        *,
        head_channels: int,
        num_classes: int,
        anchor_sizes: Sequence[float],
        anchor_aspect_ratios: Sequence[float],
        canonical_region_size: float,
        pre_nms_proposals_per_level: int,
        proposals_per_image: int,
        proposal_nms_iou: float,
    ) -> None:
        """Arguments as in :class:`hkd.config.DetectorConfig`; ``num_classes`` includes the background."""
        super().__init__()
        self.pyramid_channels: int = backbone.out_channels
        self.head_channels = head_channels
        self.num_classes = num_classes
        self.anchor_sizes = tuple(anchor_sizes)
        self.anchor_aspect_ratios = tuple(anchor_aspect_ratios)
        self.canonical_region_size = canonical_region_size
        self.pre_nms_proposals_per_level = pre_nms_proposals_per_level
        self.proposals_per_image = proposals_per_image
        self.proposal_nms_iou = proposal_nms_iou
        self.backbone = backbone
        self.rpn = ProposalHead(self.pyramid_channels, len(self.anchor_aspect_ratios))
        self.roi_heads = RegionHead(self.pyramid_channels, head_channels, num_classes)
        self.register_buffer("_mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self._mean: Tensor
        self._std: Tensor
        self._anchors: dict[tuple[int, int, torch.device], Tensor] = {}

    def anchors(self, image_height: int, image_width: int, device: torch.device) -> Tensor:
        """All anchors (A, 4) xyxy for an image size in pixels; computed once per size and device."""
        key = (image_height, image_width, device)
        if key not in self._anchors:
            anchors = grid_anchors(image_height, image_width, self.anchor_sizes, self.anchor_aspect_ratios)
            self._anchors[key] = anchors.to(device)
        return self._anchors[key]

    def draw_sampling_keys(
        self, images: Tensor, targets: Targets, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Keys in [0, 1) to sample anchors (B, A) and regions (B, P + G); drawn on the CPU, equal on all devices."""
        batch, _, height, width = images.shape
        num_anchors = len(self.anchor_aspect_ratios) * sum(
            rows * columns for rows, columns in pyramid_grid_sizes(height, width)
        )
        num_candidates = self.proposals_per_image + targets.valid.shape[1]
        keys = torch.rand(batch, num_anchors + num_candidates, generator=generator)
        keys = keys.to(images.device, non_blocking=True)
        return keys[:, :num_anchors], keys[:, num_anchors:]

    def forward_pyramid(self, images: Tensor, valid_sizes: Tensor) -> dict[str, Tensor]:
        """Pyramid ``p2``..``p6`` of images (B, 3, H, W) in [0, 1] that are padded outside ``valid_sizes`` (B, 2)."""
        height, width = images.shape[2:]
        inside_y = torch.arange(height, device=images.device) < valid_sizes[:, :1]
        inside_x = torch.arange(width, device=images.device) < valid_sizes[:, 1:]
        inside = inside_y[:, None, :, None] & inside_x[:, None, None, :]
        # Padding is zero after normalisation, as in torchvision.
        normalised = ((images - self._mean) / self._std) * inside
        features = self.backbone(normalised.contiguous(memory_format=torch.channels_last))
        return dict(zip(PYRAMID_LEVELS, features.values(), strict=True))

    def forward_proposals(
        self, pyramid: dict[str, Tensor], image_height: int, image_width: int, valid_sizes: Tensor
    ) -> tuple[RpnOutput, Regions]:
        """Outputs of the RPN for every anchor, and the ``P`` best proposals per image."""
        levels = [pyramid[name] for name in PYRAMID_LEVELS]
        objectness, deltas = self.rpn(levels)
        anchors = self.anchors(image_height, image_width, objectness.device).to(objectness.dtype)
        rpn = RpnOutput(objectness, deltas, anchors)
        proposals = select_proposals(
            rpn,
            [len(self.anchor_aspect_ratios) * level.shape[2] * level.shape[3] for level in levels],
            valid_sizes,
            pre_nms_proposals_per_level=self.pre_nms_proposals_per_level,
            proposals_per_image=self.proposals_per_image,
            nms_iou=self.proposal_nms_iou,
        )
        return rpn, proposals

    def region_taps(self, pyramid: Mapping[str, Tensor], boxes_xyxy: Tensor, image_height: int) -> RegionTaps:
        """Cells of ``pyramid`` that RoIAlign reads for regions (B, R, 4), in pixels of the network's input."""
        levels = [pyramid[name] for name in _REGION_LEVELS]
        return region_taps(levels, boxes_xyxy, image_height, self.canonical_region_size)

    def forward_regions(self, pyramid: Mapping[str, Tensor], taps: RegionTaps) -> RegionOutput:
        """Outputs of the box head, one row per region of ``taps``."""
        if isinstance(pyramid, TabledPyramid):
            assert tuple(pyramid)[: len(_REGION_LEVELS)] == _REGION_LEVELS, "taps index a table that starts with p2"
            table = pyramid.table
        else:
            table = region_table([pyramid[name] for name in _REGION_LEVELS])
        output: RegionOutput = self.roi_heads(pool_regions(table, taps))
        return output

    def forward_train(
        self,
        images: Tensor,
        valid_sizes: Tensor,
        targets: Targets,
        *,
        anchor_keys: Tensor,
        region_keys: Tensor,
        sampled_anchors_per_image: int,
        positive_anchor_fraction: float,
        sampled_regions_per_image: int,
        positive_region_fraction: float,
    ) -> tuple[DetectorOutput, dict[str, Tensor]]:
        """One training forward: the features that distillation compares, and the four detection losses.

        ``anchor_keys`` and ``region_keys`` come from :meth:`draw_sampling_keys`. The losses are ``rpn_objectness``,
        ``rpn_box``, ``roi_classification`` and ``roi_box``, () float32 each.
        """
        height, width = images.shape[2:]
        pyramid = self.forward_pyramid(images, valid_sizes)
        rpn, proposals = self.forward_proposals(pyramid, height, width, valid_sizes)
        sampled_anchors = sample_anchors(
            match_anchors(rpn.anchors_xyxy, targets),
            targets,
            anchor_keys,
            sampled_anchors_per_image=sampled_anchors_per_image,
            positive_fraction=positive_anchor_fraction,
        )
        sampled = sample_regions(
            append_ground_truth(proposals, targets),
            targets,
            region_keys,
            sampled_regions_per_image=sampled_regions_per_image,
            positive_fraction=positive_region_fraction,
        )
        taps = self.region_taps(pyramid, sampled.regions.boxes_xyxy, height)
        region = self.forward_regions(pyramid, taps)
        losses = rpn_losses(rpn, sampled_anchors) | region_losses(region, sampled)
        return DetectorOutput(pyramid, rpn, proposals, sampled, region, taps), losses

    @torch.no_grad()
    def detect(
        self, images: Tensor, valid_sizes: Tensor, *, score_threshold: float, nms_iou: float, max_detections: int
    ) -> Detections:
        """Final detections of images (B, 3, H, W) in [0, 1], by descending score, ``max_detections`` slots each."""
        height, width = images.shape[2:]
        pyramid = self.forward_pyramid(images, valid_sizes)
        _, proposals = self.forward_proposals(pyramid, height, width, valid_sizes)
        region = self.forward_regions(pyramid, self.region_taps(pyramid, proposals.boxes_xyxy, height))
        batch, count = proposals.valid.shape
        deltas = region.box_deltas.view(batch, count, self.num_classes, 4)
        references = proposals.boxes_xyxy[:, :, None].expand_as(deltas)
        boxes = clip_boxes(decode_boxes(deltas, references, REGION_DELTA_WEIGHTS), valid_sizes)
        scores = region.class_logits.softmax(dim=-1).view(batch, count, self.num_classes)
        # Class 0 is the background.
        wanted = (scores > score_threshold) & proposals.valid[..., None]
        wanted &= (boxes[..., 2:] - boxes[..., :2] >= MINIMUM_DETECTION_SIDE).all(dim=-1)
        wanted[..., 0] = False
        image_index, _, label = wanted.nonzero(as_tuple=True)
        return _select_detections(boxes[wanted], scores[wanted], label, image_index, batch, nms_iou, max_detections)


def _select_detections(
    boxes_xyxy: Tensor,
    scores: Tensor,
    labels: Tensor,
    image_index: Tensor,
    batch: int,
    nms_iou: float,
    max_detections: int,
) -> Detections:
    """NMS of candidates (N, ...) within each image and class, and the best ``D`` of each image."""
    groups = image_index * (int(labels.max()) + 1 if len(labels) else 1) + labels
    kept = batched_nms(boxes_xyxy, scores, groups, nms_iou)  # by descending score over the whole batch
    # A stable sort by image keeps the order of scores within each; the rank within an image is then its column.
    kept = kept[torch.sort(image_index[kept], stable=True).indices]
    image = image_index[kept]
    firsts = torch.searchsorted(image, torch.arange(batch, device=image.device))
    rank = torch.arange(len(kept), device=image.device) - firsts[image]
    kept, image, rank = (values[rank < max_detections] for values in (kept, image, rank))
    found_boxes = boxes_xyxy.new_zeros(batch, max_detections, 4)
    found_scores = scores.new_zeros(batch, max_detections)
    found_labels = labels.new_zeros(batch, max_detections)
    valid = torch.zeros(batch, max_detections, dtype=torch.bool, device=labels.device)
    found_boxes[image, rank] = boxes_xyxy[kept]
    found_scores[image, rank] = scores[kept]
    found_labels[image, rank] = labels[kept]
    valid[image, rank] = True
    return Detections(found_boxes, found_scores, found_labels, valid)
