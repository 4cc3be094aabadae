"""Detectors fused for inference: teachers during distillation, and students during evaluation.

Batch norms are folded into the preceding convolutions and weights are stored in the compute dtype. On a CPU, each
convolution with its residual addition and ReLU is one oneDNN call whose weight is reordered once. Outputs equal those
of the original detector up to rounding.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from hkd.models.components.heads import RegionHead, region_output
from hkd.models.components.regions import POOLED_SIZE
from hkd.models.detector import Detector
from hkd.structures import RegionOutput


def fuse_for_inference(detector: Detector, dtype: torch.dtype) -> Detector:
    """An inference-only copy of a detector, in eval mode, which computes in ``dtype``; the original is not modified.

    The copy shares no weights with the original, has no trainable parameters, and its state dict does not fit a
    :class:`Detector`. Boxes, scores and losses stay fp32. Autocast is not needed and, with the same ``dtype``, changes
    nothing.

    Raises:
        AssertionError: a norm of the backbone has no running statistics to fold.
    """
    fused = copy.copy(detector)
    # copy.copy shares these containers: setting or moving a tensor of one detector would change the other.
    fused._modules = dict(detector._modules)
    fused._buffers = dict(detector._buffers)
    fused._anchors = {}
    modules: dict[str, nn.Module] = {
        "backbone": _FusedBackbone(detector.backbone, dtype),
        "rpn": copy.deepcopy(detector.rpn).to(dtype),
        "roi_heads": _FusedRegionHead(detector.roi_heads, dtype),
    }
    for name, module in modules.items():
        fused._modules[name] = module.requires_grad_(False).to(memory_format=torch.channels_last)
    return fused.eval()


class _Convolution(nn.Module):
    """A convolution with a folded norm, an optional addition and an optional ReLU."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, convolution: nn.Conv2d, norm: nn.Module | None, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = folded_convolution(convolution, norm)
        self.register_buffer("weight", weight.to(dtype, memory_format=torch.channels_last))
        self.register_buffer("bias", None if bias is None else bias.to(dtype))
        self._geometry: tuple[list[int], list[int], list[int], int] = (
            [int(side) for side in convolution.padding],
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )
        # The weight in oneDNN's layout, which depends on the input's shape: reordered when the shape changes.
        self._reordered: tuple[torch.Size, Tensor] | None = None

    def forward(self, features: Tensor, *, added: Tensor | None = None, relu: bool = False) -> Tensor:
        """``relu(convolution(features) + added)``; addition and ReLU are optional. ``added`` may be overwritten."""
        if features.device.type == "cpu" and _has_fused_convolutions(self.weight.dtype):
            return self._fused(features, added, relu)
        padding, stride, dilation, groups = self._geometry
        result = functional.conv2d(features, self.weight, self.bias, stride, padding, dilation, groups)
        if added is not None:
            result += added
        return result.relu_() if relu else result

    def _fused(self, features: Tensor, added: Tensor | None, relu: bool) -> Tensor:
        onednn = torch.ops.mkldnn
        if self._reordered is None or self._reordered[0] != features.shape:
            weight = onednn._reorder_convolution_weight(self.weight, *self._geometry, list(features.shape))
            self._reordered = (features.shape, weight)
        arguments = (self._reordered[1], self.bias, *self._geometry)
        result: Tensor
        if added is None:
            result = onednn._convolution_pointwise(features, *arguments, "relu" if relu else "none", [], None)
        else:
            # In place: oneDNN takes twice as long when the sum goes to a new tensor.
            activation = "relu" if relu else None
            result = onednn._convolution_pointwise_.binary(
                added, features, *arguments, "add", None, activation, [], None
            )
        return result

    def extra_repr(self) -> str:
        # str(backbone) is part of the key of the teacher's pyramid cache, which must distinguish geometries that have
        # the same weights.
        padding, stride, dilation, groups = self._geometry
        shape = tuple(self.weight.shape)
        return f"{shape}, {padding=}, {stride=}, {dilation=}, {groups=}"

    def __deepcopy__(self, memo: dict[int, Any]) -> _Convolution:
        # A tensor in oneDNN's layout cannot be copied.
        duplicate = copy.copy(self)
        duplicate._buffers = copy.deepcopy(self._buffers, memo)
        duplicate._reordered = None
        return duplicate


def _has_fused_convolutions(dtype: torch.dtype) -> bool:
    """Whether oneDNN's fused convolutions, which ``torch.compile`` uses on CPUs, support ``dtype`` here.

    False as well if the user disabled oneDNN (``torch.backends.mkldnn.enabled``).
    """
    onednn = torch.ops.mkldnn
    if not (torch._C._has_mkldnn and torch._C._get_mkldnn_enabled() and hasattr(onednn, "_convolution_pointwise")):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(onednn._is_mkldnn_bf16_supported()))


def folded_convolution(convolution: nn.Conv2d, norm: nn.Module | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a convolution followed by a norm with its running statistics, in the weight's dtype."""
    weight = convolution.weight.detach()
    bias = None if convolution.bias is None else convolution.bias.detach()
    if norm is None:
        return weight, bias
    assert isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d), f"{type(norm).__name__} cannot be folded"
    assert norm.running_mean is not None, "a norm without running statistics cannot be folded"
    assert norm.running_var is not None, "a norm without running statistics cannot be folded"
    factor = norm.weight.detach() * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias.detach() - norm.running_mean * factor
    return weight * factor[:, None, None, None], shift if bias is None else shift + bias * factor


class _FusedBlock(nn.Module):
    """A residual block: two or three convolutions; the last adds the shortcut."""

    def __init__(self, block: BasicBlock | Bottleneck, dtype: torch.dtype) -> None:
        super().__init__()
        pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        if isinstance(block, Bottleneck):
            pairs.append((block.conv3, block.bn3))
        self.convolutions = nn.ModuleList(_Convolution(*pair, dtype) for pair in pairs)
        self.shortcut = (
            None if block.downsample is None else _Convolution(block.downsample[0], block.downsample[1], dtype)
        )

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.shortcut is None else self.shortcut(features)
        for convolution in self.convolutions[:-1]:
            features = convolution(features, relu=True)
        result: Tensor = self.convolutions[-1](features, added=shortcut, relu=True)
        return result


class _FusedBackbone(nn.Module):
    """ResNet and feature pyramid, with the forward signature of torchvision's ``BackboneWithFPN``."""

    def __init__(self, backbone: BackboneWithFPN, dtype: torch.dtype) -> None:
        super().__init__()
        body, pyramid = backbone.body, backbone.fpn
        self.stem = _Convolution(body["conv1"], body["bn1"], dtype)
        self.pool = body["maxpool"]
        self.stages = nn.ModuleList(
            nn.Sequential(*(_FusedBlock(block, dtype) for block in body[f"layer{stage}"])) for stage in (1, 2, 3, 4)
        )
        self.lateral, self.output = (
            nn.ModuleList(_Convolution(block[0], None, dtype) for block in blocks)
            for blocks in (pyramid.inner_blocks, pyramid.layer_blocks)
        )
        self.extra_blocks: Callable[..., tuple[list[Tensor], list[str]]] = pyramid.extra_blocks
        self._dtype = dtype

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.pool(self.stem(images.to(self._dtype), relu=True))
        stages = []
        for stage in self.stages:
            features = stage(features)
            stages.append(features)
        levels: list[Tensor] = []
        above: Tensor | None = None
        for lateral, output, stage in reversed(list(zip(self.lateral, self.output, stages, strict=True))):
            if above is not None:
                above = functional.interpolate(above, size=stage.shape[-2:], mode="nearest")
            above = lateral(stage, added=above)
            levels.insert(0, output(above))
        levels, names = self.extra_blocks(levels, stages, ["0", "1", "2", "3"])
        return OrderedDict(zip(names, levels, strict=True))


class _FusedRegionHead(nn.Module):
    """:class:`RegionHead` with the first weight permuted once to the order of channels-last features."""

    def __init__(self, head: RegionHead, dtype: torch.dtype) -> None:
        super().__init__()
        head = copy.deepcopy(head).to(dtype)
        fc6 = head.box_head.fc6
        channels = fc6.in_features // POOLED_SIZE**2
        with torch.no_grad():
            weight = fc6.weight.view(-1, channels, POOLED_SIZE**2).transpose(1, 2).reshape(fc6.weight.shape)
            fc6.weight.copy_(weight.contiguous())
        self.layers = nn.Sequential(fc6, nn.ReLU(inplace=True), head.box_head.fc7, nn.ReLU(inplace=True))
        self.box_predictor = head.box_predictor

    def forward(self, region_features: Tensor) -> RegionOutput:
        embedding = self.layers(region_features.permute(0, 2, 3, 1).flatten(1))
        return region_output(self.box_predictor, region_features, embedding)
