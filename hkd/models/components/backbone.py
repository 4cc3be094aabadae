"""ResNet of any width with a feature pyramid, from torchvision's blocks and with torchvision's parameter names.

He et al., "Deep residual learning for image recognition", CVPR 2016; Lin et al., "Feature pyramid networks for object
detection", CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d

from hkd.models.components.anchors import pyramid_grid_sizes
from hkd.models.components.layer_costs import Cost, convolution_cost

BackboneName = Literal["resnet18", "resnet34", "resnet50"]

_BLOCKS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}
_STAGE_CHANNELS = (64, 128, 256, 512)
_CHANNEL_MULTIPLE = 8
# With fewer channels, the backward pass of oneDNN's strided 1x1 convolution writes out of bounds (8 channels, fp32, odd
# batch sizes; torch 2.15), which crashes trainings or corrupts memory.
_SAFE_STRIDED_CHANNELS = 16


def scaled_channels(channels: int, width_multiplier: float) -> int:
    """``channels`` times ``width_multiplier``, rounded to a multiple of 8, at least 8."""
    multiples = round(channels * width_multiplier / _CHANNEL_MULTIPLE)
    return max(1, multiples) * _CHANNEL_MULTIPLE


class ScaledResNet(ResNet):  # type: ignore[misc]  # torchvision ships no types
    """torchvision's ResNet with the channels of every stage scaled; at width 1 the same network."""

    def __init__(self, name: BackboneName, width_multiplier: float, norm_layer: Callable[..., nn.Module]) -> None:
        """Channels of each stage are those of :func:`scaled_channels`."""
        block, blocks_per_stage = _BLOCKS[name]
        channels = [scaled_channels(stage, width_multiplier) for stage in _STAGE_CHANNELS]
        is_scaled = channels != list(_STAGE_CHANNELS)
        # Every stage is rebuilt below: initialising full-width weights first would take most of the time.
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
        for module in self.modules():
            if isinstance(module, BasicBlock | Bottleneck) and module.downsample is not None:
                module.downsample[0] = _without_stride(module.downsample[0])
        self.stage_channels = [stage * block.expansion for stage in channels]


class _SubsampledConvolution(nn.Conv2d):
    """A strided 1x1 convolution without bias, computed as one of stride 1 on the subsampled input."""

    def forward(self, features: Tensor) -> Tensor:
        rows, columns = self.stride
        return nn.functional.conv2d(features[:, :, ::rows, ::columns], self.weight)


def _without_stride(convolution: nn.Conv2d) -> nn.Conv2d:
    """An equal convolution with the same weight that avoids oneDNN's defect, or ``convolution`` if it is unaffected."""
    if convolution.stride == (1, 1) or convolution.in_channels >= _SAFE_STRIDED_CHANNELS:
        return convolution
    with torch.device("meta"):
        subsampled = _SubsampledConvolution(convolution.in_channels, convolution.out_channels, 1, stride=2, bias=False)
    assert (subsampled.kernel_size, subsampled.stride) == (convolution.kernel_size, convolution.stride)
    subsampled.weight = convolution.weight
    return subsampled


def build_backbone(
    name: BackboneName, width_multiplier: float, pyramid_channels: int, norm: Literal["batch", "frozen_batch"]
) -> BackboneWithFPN:
    """A backbone whose forward returns the pyramid ``{"0": p2, "1": p3, "2": p4, "3": p5, "pool": p6}``."""
    norm_layer: Callable[..., nn.Module] = FrozenBatchNorm2d if norm == "frozen_batch" else nn.BatchNorm2d
    body = ScaledResNet(name, width_multiplier, norm_layer)
    return_layers = {f"layer{stage}": str(stage - 1) for stage in (1, 2, 3, 4)}
    return BackboneWithFPN(body, return_layers, body.stage_channels, pyramid_channels)


def backbone_cost(
    name: BackboneName,
    width_multiplier: float,
    pyramid_channels: int,
    norm: Literal["batch", "frozen_batch"],
    image_height: int,
    image_width: int,
) -> Cost:
    """Cost of :func:`build_backbone`'s network for one image of this size in pixels."""
    # A learned norm has a scale and a shift per channel; the others hold them as buffers.
    params_per_norm = 0 if norm == "frozen_batch" else 2

    def normalised(in_channels: int, out_channels: int, side: int, cells: int) -> Cost:
        return convolution_cost(in_channels, out_channels, side, cells) + Cost(params_per_norm * out_channels, 0)

    block, blocks_per_stage = _BLOCKS[name]
    widths = [scaled_channels(stage, width_multiplier) for stage in _STAGE_CHANNELS]
    # Every strided layer rounds up, so that a stage has the cells of its pyramid level.
    stage_cells = [rows * columns for rows, columns in pyramid_grid_sizes(image_height, image_width)[: len(widths)]]
    in_channels, in_cells = widths[0], stage_cells[0]
    cost = normalised(3, in_channels, 7, -(-image_height // 2) * -(-image_width // 2))
    for stage, (width, num_blocks, cells) in enumerate(zip(widths, blocks_per_stage, stage_cells, strict=True)):
        out_channels = width * block.expansion
        if stage > 0 or in_channels != out_channels:
            cost += normalised(in_channels, out_channels, 1, cells)  # the shortcut of the first block
        for _ in range(num_blocks):
            if block is Bottleneck:
                # The 3x3 convolution has the stride: the one before it still computes the cells of the stage before.
                cost += normalised(in_channels, width, 1, in_cells)
                cost += normalised(width, width, 3, cells)
                cost += normalised(width, out_channels, 1, cells)
            else:
                cost += normalised(in_channels, width, 3, cells)
                cost += normalised(width, width, 3, cells)
            in_channels, in_cells = out_channels, cells
        cost += convolution_cost(out_channels, pyramid_channels, 1, cells, bias=True)
        cost += convolution_cost(pyramid_channels, pyramid_channels, 3, cells, bias=True)
    return cost
