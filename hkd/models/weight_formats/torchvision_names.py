"""State dicts of torchvision's two-stage detectors and its classification ResNets, in torchvision's present names."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_Weights,
    KeypointRCNN_ResNet50_FPN_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
)
from torchvision.ops import FrozenBatchNorm2d

BACKBONE_PREFIX = "backbone.body."
"""Prefix of the backbone's names in a detector; a classifier's names lack it."""

# Names before pytorch/vision pull request 5444, renamed as FeaturePyramidNetwork and RPNHead rename them on loading.
_OLD_NAMES = (
    (re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)"), r"\1.0.\2"),
    (re.compile(r"(rpn\.head\.conv)\.(weight|bias)"), r"\1.0.0.\2"),
)
# Mask R-CNN and Keypoint R-CNN are Faster R-CNN and these.
_OTHER_HEADS = ("roi_heads.mask_", "roi_heads.keypoint_")
# Weights that torchvision loads with epsilon 0 in the norms (overwrite_eps), because they were trained so.
_WITHOUT_EPSILON = (
    FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    KeypointRCNN_ResNet50_FPN_Weights.COCO_V1,
)
_EPSILON = FrozenBatchNorm2d(1).eps


def with_present_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with old names of the pyramid and the RPN replaced by the present ones."""
    renamed = {}
    for old, tensor in tensors.items():
        name = old
        for pattern, replacement in _OLD_NAMES:
            name = re.sub(rf"\A{pattern.pattern}\Z", replacement, name)
        renamed[name] = tensor
    return renamed


def without_other_heads(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of the box detector, and the names of those of mask and keypoint heads."""
    others = [name for name in tensors if name.startswith(_OTHER_HEADS)]
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_OTHER_HEADS)}, others


def is_trained_without_epsilon(path: Path) -> bool:
    """Whether the file, by its hash, is one of those that torchvision loads with epsilon 0 in the norms."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest.startswith(tuple(_hash_in_url(weights.url) for weights in _WITHOUT_EPSILON))


def scaled_for_epsilon(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Norms of epsilon 1e-5 that compute what the given ones compute with epsilon 0.

    ``w' = w sqrt((v + 1e-5) / v)``, as the norm multiplies by ``w / sqrt(v + epsilon)`` for variance ``v``.
    """
    scaled = dict(tensors)
    for name, variance in tensors.items():
        weight = name.removesuffix("running_var") + "weight"
        if name.startswith(BACKBONE_PREFIX) and name.endswith(".running_var") and weight in tensors:
            exact = variance.double()
            factor = torch.where(exact > 0, ((exact + _EPSILON) / exact).sqrt(), 1.0)
            scaled[weight] = (tensors[weight] * factor).to(tensors[weight].dtype)
    return scaled


def _hash_in_url(url: str) -> str:
    """``258fb6c6`` of ``.../fasterrcnn_resnet50_fpn_coco-258fb6c6.pth``: the start of the file's SHA-256."""
    return url.rpartition("-")[2].removesuffix(".pth")
