"""ResNet of any width with a feature pyramid: torchvision's blocks, torchvision's parameter names.

He et al., *Deep Residual Learning*, CVPR 2016; Lin et al., *Feature Pyramid Networks*, CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal

import torch
from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d

BackboneName = Literal["resnet18", "resnet34", "resnet50"]

_BLOCKS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}
_STAGE_CHANNELS = (64, 128, 256, 512)
_CHANNEL_MULTIPLE = 8


def scaled_channels(channels: int, width_multiplier: float) -> int:
    """``channels`` times ``width_multiplier``, to the nearest multiple of 8 and at least 8."""
    multiples = round(channels * width_multiplier / _CHANNEL_MULTIPLE)
    return max(1, multiples) * _CHANNEL_MULTIPLE


class ScaledResNet(ResNet):  # type: ignore[misc]  # torchvision ships no types
    """torchvision's ResNet with every stage's channels multiplied; at width 1 the same network."""

    def __init__(self, name: BackboneName, width_multiplier: float, norm_layer: Callable[..., nn.Module]) -> None:
        """Build ``name`` with the channels of each stage scaled by ``width_multiplier``."""
        block, blocks_per_stage = _BLOCKS[name]
        channels = [scaled_channels(stage, width_multiplier) for stage in _STAGE_CHANNELS]
        is_scaled = channels != list(_STAGE_CHANNELS)
        # Where every stage is made anew, drawing the full-width weights first would take most of the time.
        with torch.device("meta") if is_scaled else nullcontext():
            super().__init__(block, list(blocks_per_stage), norm_layer=norm_layer, num_classes=1)
        if is_scaled:
            self.inplanes = channels[0]
            self.conv1 = nn.Conv2d(3, channels[0], kernel_size=7, stride=2, padding=3, bias=False)
            self.bn1 = norm_layer(channels[0])
            self.layer1 = self._make_layer(block, channels[0], blocks_per_stage[0])
            self.layer2 = self._make_layer(block, channels[1], blocks_per_stage[1], stride=2)
            self.layer3 = self._make_layer(block, channels[2], blocks_per_stage[2], stride=2)
            self.layer4 = self._make_layer(block, channels[3], blocks_per_stage[3], stride=2)
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.stage_channels = [stage * block.expansion for stage in channels]


def build_backbone(
    name: BackboneName, width_multiplier: float, pyramid_channels: int, norm: Literal["batch", "frozen_batch"]
) -> BackboneWithFPN:
    """A backbone whose forward gives the pyramid ``{"0": p2, "1": p3, "2": p4, "3": p5, "pool": p6}``."""
    norm_layer: Callable[..., nn.Module] = FrozenBatchNorm2d if norm == "frozen_batch" else nn.BatchNorm2d
    body = ScaledResNet(name, width_multiplier, norm_layer)
    return_layers = {f"layer{stage}": str(stage - 1) for stage in (1, 2, 3, 4)}
    return BackboneWithFPN(body, return_layers, body.stage_channels, pyramid_channels)
