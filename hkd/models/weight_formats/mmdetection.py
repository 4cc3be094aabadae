"""Weights of mmdetection's Faster R-CNN (versions 2 and 3), by an explicit map to torchvision's names.

Equal there and here, and therefore not converted: the backbone in style "pytorch", the pyramid, the order of anchors,
the standard deviations of box deltas (0.1, 0.1, 0.2, 0.2: torchvision's weights 10, 10, 5, 5), the levels of regions,
and the normalisation of images. :data:`DIFFERENCES` cannot be represented.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hkd.models.weight_formats.errors import CheckpointError

DIFFERENCES = (
    "mmdetection pools regions half a cell further to the upper left (RoIAlign with aligned=True) and does not round "
    "anchors to whole pixels; hkd does as torchvision, so detections are close to mmdetection's and not equal"
)

_NAMES = (
    (r"backbone\.(conv1|bn1|layer\d)\.", r"backbone.body.\1."),
    (r"neck\.lateral_convs\.(\d)\.conv\.", r"backbone.fpn.inner_blocks.\1.0."),
    (r"neck\.fpn_convs\.(\d)\.conv\.", r"backbone.fpn.layer_blocks.\1.0."),
    (r"rpn_head\.rpn_conv\.", "rpn.head.conv.0.0."),
    (r"rpn_head\.rpn_cls\.", "rpn.head.cls_logits."),
    (r"rpn_head\.rpn_reg\.", "rpn.head.bbox_pred."),
    (r"roi_head\.bbox_head\.shared_fcs\.0\.", "roi_heads.box_head.fc6."),
    (r"roi_head\.bbox_head\.shared_fcs\.1\.", "roi_heads.box_head.fc7."),
    (r"roi_head\.bbox_head\.fc_cls\.", "roi_heads.box_predictor.cls_score."),
    (r"roi_head\.bbox_head\.fc_reg\.", "roi_heads.box_predictor.bbox_pred."),
)
_OTHER_HEADS = "roi_head.mask_head."
_CAFFE = re.compile(r"style\s*=\s*['\"]caffe['\"]|to_rgb\s*=\s*False")


def converted(tensors: Mapping[str, Tensor], content: Any, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under torchvision's names with the background as the first class, and notes.

    Args:
        tensors: Under mmdetection's names.
        content: All of the file, whose ``meta`` states the configuration.
        path: For messages.

    Raises:
        CheckpointError: the network cannot be represented.
    """
    if any(name.startswith("bbox_head.") for name in tensors):
        raise CheckpointError(
            f"{path}: has the names of mmdetection 1; convert it with mmdetection's "
            "tools/model_converters/upgrade_model_version.py first"
        )
    if _CAFFE.search(_config_text(content)):
        raise CheckpointError(
            f"{path}: its configuration (meta) states a backbone of style caffe or images in BGR, whose strides and "
            'colours are not those of this ResNet; allowed: weights of a configuration with style="pytorch"'
        )
    renamed, others = {}, []
    for name, tensor in tensors.items():
        if name.startswith(_OTHER_HEADS):
            others.append(name)
        else:
            renamed[_renamed(name)] = tensor
    notes = ["converted from mmdetection's names; " + DIFFERENCES]
    if not _config_text(content):
        notes.append('states no configuration: a backbone of style="pytorch" and images in RGB are assumed')
    if others:
        notes.append(f"not read: {len(others)} tensors of the mask head")
    return _background_first(renamed, path), notes


def class_names(content: Any) -> tuple[str, ...]:
    """Names of the classes, without the background, as the file states them; empty if it does not."""
    meta = content.get("meta") if isinstance(content, Mapping) else None
    for source in (meta, meta.get("dataset_meta") if isinstance(meta, Mapping) else None):
        if isinstance(source, Mapping):
            for key in ("CLASSES", "classes"):
                names = source.get(key)
                if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
                    return tuple(names)
    return ()


def _config_text(content: Any) -> str:
    meta = content.get("meta") if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping):
        return ""
    return "\n".join(str(meta[key]) for key in ("config", "cfg") if isinstance(meta.get(key), str))


def _renamed(name: str) -> str:
    for pattern, replacement in _NAMES:
        renamed, count = re.subn(rf"\A{pattern}", replacement, name)
        if count:
            return renamed
    return name


def _background_first(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Class predictors with the background first; mmdetection has it last, without box deltas.

    Box deltas for as many classes as there are scores include the background's, which is first then (mmdetection 1).
    """
    ordered = dict(tensors)
    for kind in ("weight", "bias"):
        scores = tensors.get(f"roi_heads.box_predictor.cls_score.{kind}")
        deltas = tensors.get(f"roi_heads.box_predictor.bbox_pred.{kind}")
        if scores is None or deltas is None or deltas.dim() == 0 or scores.shape[:1] in ((), (0,)):
            continue  # reported as missing or of another shape
        num_scores, num_deltas = scores.shape[0], deltas.shape[0]
        if num_deltas == 4 * num_scores:
            continue
        if num_deltas not in (4, 4 * (num_scores - 1)):
            raise CheckpointError(
                f"{path}: roi_head.bbox_head.fc_reg.{kind} has {num_deltas} rows, for {num_scores} of fc_cls; allowed: "
                f"{4 * (num_scores - 1)} (four for each class but the background) or 4 (for all classes alike)"
            )
        ordered[f"roi_heads.box_predictor.cls_score.{kind}"] = torch.cat([scores[-1:], scores[:-1]])
        background = torch.zeros_like(deltas[:4])
        of_classes = deltas.repeat(num_scores - 1, *[1] * (deltas.dim() - 1)) if num_deltas == 4 else deltas
        ordered[f"roi_heads.box_predictor.bbox_pred.{kind}"] = torch.cat([background, of_classes])
    return ordered
