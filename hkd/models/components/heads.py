"""Heads of the detector: torchvision's modules applied to all images at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead

from hkd.models.components.layer_costs import Cost, convolution_cost, linear_cost
from hkd.models.components.regions import POOLED_SIZE
from hkd.structures import RegionOutput


def at_least_fp32(values: Tensor) -> Tensor:
    """``values`` in fp32 if autocast made them narrower: boxes and losses need its precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class ProposalHead(nn.Module):
    """The region proposal network; parameters ``head.*`` as in torchvision's ``rpn``."""

    def __init__(self, pyramid_channels: int, anchors_per_cell: int) -> None:
        super().__init__()
        self.head = RPNHead(pyramid_channels, anchors_per_cell)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Levels (B, C, H_l, W_l) to objectness logits (B, A) and deltas (B, A, 4), at least fp32.

        Anchors are in the order of :func:`hkd.models.components.anchors.grid_anchors`.
        """
        # One convolution for both outputs: with so few output channels, reading the input dominates its cost.
        logit, delta = self.head.cls_logits, self.head.bbox_pred
        weight, bias = torch.cat([logit.weight, delta.weight]), torch.cat([logit.bias, delta.bias])
        outputs = [functional.conv2d(self.head.conv(level), weight, bias).permute(0, 2, 3, 1) for level in levels]
        anchors_per_cell = logit.out_channels
        flat_logits = [level[..., :anchors_per_cell].flatten(1) for level in outputs]
        flat_deltas = [level[..., anchors_per_cell:].reshape(level.shape[0], -1, 4) for level in outputs]
        return at_least_fp32(torch.cat(flat_logits, dim=1)), at_least_fp32(torch.cat(flat_deltas, dim=1))


def proposal_head_cost(pyramid_channels: int, anchors_per_cell: int, cells: int) -> Cost:
    """Cost of a :class:`ProposalHead` on the ``cells`` of all levels, whose weights the levels share."""
    hidden = convolution_cost(pyramid_channels, pyramid_channels, 3, cells, bias=True)
    # One logit and four deltas an anchor.
    return hidden + convolution_cost(pyramid_channels, 5 * anchors_per_cell, 1, cells, bias=True)


class PersonPredictor(FastRCNNPredictor):  # type: ignore[misc]  # torchvision ships no types
    """The output layers of a box head that was trained on more classes, giving two: anything else, and person.

    The second class keeps the probability that the softmax over all classes gives it. Two of the rows alone would not:
    a dog would be a person wherever that is likelier than the background.
    """

    def __init__(self, in_channels: int, num_scored_classes: int) -> None:
        """Rows of ``cls_score`` are the background, the person and the other classes."""
        super().__init__(in_channels, 2)
        self.cls_score = nn.Linear(in_channels, num_scored_classes)

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (R, 2), at least fp32, and box deltas (R, 8) for an embedding (R, D)."""
        logits, deltas = super().forward(embedding)
        logits = at_least_fp32(logits)
        others = torch.cat([logits[:, :1], logits[:, 2:]], dim=1).logsumexp(dim=1)
        return torch.stack([others, logits[:, 1]], dim=1), deltas


class RegionHead(nn.Module):
    """The box head: two fully connected layers and two outputs; parameters as in torchvision's ``roi_heads``."""

    def __init__(self, pyramid_channels: int, head_channels: int, num_classes: int) -> None:
        """``num_classes`` includes the background."""
        super().__init__()
        self.box_head = TwoMLPHead(pyramid_channels * POOLED_SIZE**2, head_channels)
        self.box_predictor = FastRCNNPredictor(head_channels, num_classes)

    def forward(self, region_features: Tensor) -> RegionOutput:
        """Outputs for pooled features (R, C, 7, 7)."""
        count, channels = region_features.shape[:2]
        # Features are channels-last: permuting the weight copies less than permuting every region.
        rows = region_features.permute(0, 2, 3, 1).reshape(count, -1)
        fc6 = self.box_head.fc6
        weight = fc6.weight.view(-1, channels, POOLED_SIZE**2).transpose(1, 2).reshape(fc6.weight.shape)
        hidden = functional.relu(functional.linear(rows, weight, fc6.bias))
        embedding = functional.relu(self.box_head.fc7(hidden))
        return region_output(self.box_predictor, region_features, embedding)


def region_head_cost(pyramid_channels: int, head_channels: int, num_classes: int, num_regions: int) -> Cost:
    """Cost of a :class:`RegionHead` on ``num_regions`` pooled regions."""
    first = linear_cost(pyramid_channels * POOLED_SIZE**2, head_channels, num_regions)
    second = linear_cost(head_channels, head_channels, num_regions)
    # One logit and four deltas a class.
    return first + second + linear_cost(head_channels, 5 * num_classes, num_regions)


def region_output(box_predictor: nn.Module, region_features: Tensor, embedding: Tensor) -> RegionOutput:
    """Region features (R, C, 7, 7) and embedding (R, D) with the class logits and box deltas of ``box_predictor``."""
    class_logits, box_deltas = box_predictor(embedding)
    return RegionOutput(
        region_features=region_features,
        embedding=embedding,
        class_logits=at_least_fp32(class_logits),
        box_deltas=at_least_fp32(box_deltas),
    )
