"""First weights of a detector, selected from those of a larger one (or of an equal one, which are then copied).

Xu et al., "Initializing Models with Larger Ones", ICLR 2024: of every layer, evenly spaced channels are taken, and of
every stage the first blocks. The choice depends on the two widths alone, so that all layers that read or write one
residual stream take the same channels of it, and a norm the statistics of its channels. Where no norm follows a layer,
its weights are multiplied by the ratio of its inputs, so that sums over fewer channels keep their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from hkd.models.components.regions import POOLED_SIZE
from hkd.models.weight_formats.errors import CheckpointError
from hkd.structures import evenly_spaced

_BODY: Final = "backbone.body."
_READS_BODY: Final = "backbone.fpn.inner_blocks."
BACKBONE_PARTS: Final = (_BODY, _READS_BODY)
"""Prefixes of the tensors whose channels are those of the backbone."""
_FLATTENED_INPUT: Final = "roi_heads.box_head.fc6.weight"
"""Its inputs are the channels of pooled features, 7 x 7 cells each, channel by channel."""
ANCHOR_OUTPUTS: Final = ("rpn.head.cls_logits.", "rpn.head.bbox_pred.")
"""Prefixes of the tensors whose outputs are those of the anchors of a cell."""
_CLASS_OUTPUTS: Final = "roi_heads.box_predictor."
_OPTIONAL_SUFFIX: Final = ".num_batches_tracked"
_BOTTLENECK_LAYER: Final = "layer1.0.conv3.weight"


@dataclass(frozen=True)
class SelectedWeights:
    """Weights for some or all tensors of a detector."""

    tensors: dict[str, Tensor]
    """By name in the detector's state."""
    left: tuple[str, ...]
    """Names of the detector's tensors for which the source has none; they keep their initial values."""
    has_other_blocks: bool = False
    """Whether the source's blocks are of another kind, so that the backbone is left."""


def select_weights(
    source: Mapping[str, Tensor], target: Mapping[str, Tensor], *, norm_is_frozen: bool, name: str
) -> SelectedWeights:
    """Weights for the detector with the state ``target``, from the state ``source`` of one at least as wide.

    Blocks of another kind (basic, bottleneck) have other channels: the backbone, and the pyramid's convolutions that
    read it, are then left. A class predictor with more classes gives its first ones, background and person.

    Args:
        source: tensors by name; a part of a detector, such as its backbone, is enough.
        target: the state of the detector, whose shapes are used and values are not.
        norm_is_frozen: whether the detector's norms keep their statistics.
        name: of the source, for messages.

    Raises:
        CheckpointError: naming the tensors of which the source has fewer channels, or another kernel.
    """
    other_blocks = _has_bottlenecks(source) != _has_bottlenecks(target)
    tensors: dict[str, Tensor] = {}
    left = []
    problems = []
    for key, wanted in target.items():
        if key not in source or (other_blocks and key.startswith(BACKBONE_PARTS)):
            if not key.endswith(_OPTIONAL_SUFFIX):
                left.append(key)
            continue
        found = source[key]
        if not _is_selectable(key, found, wanted) or not _rows_agree(key, source):
            problems.append(f"{key} is {tuple(found.shape)}, the detector's {tuple(wanted.shape)}")
            continue
        followed_by_norm = key.startswith(_BODY) and not norm_is_frozen
        tensors[key] = _selected(key, found, wanted, rescaled=not followed_by_norm)
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise CheckpointError(
            f"{name}: weights cannot be selected, as it is of another architecture than the detector, with fewer"
            f" channels, or other kernels, anchors or classes: {shown}. Allowed: a network of at least the detector's"
            " width_multiplier, pyramid_channels and head_channels, and as many anchor_aspect_ratios"
        )
    return SelectedWeights(tensors, tuple(left), other_blocks)


def selected_outputs(key: str, count: int, total: int) -> Tensor:
    """(count,) indices of a layer's ``total`` outputs: the first classes of the class predictor, else evenly spaced.

    Args:
        key: Name of one of the layer's tensors.
    """
    return torch.arange(count) if key.startswith(_CLASS_OUTPUTS) else evenly_spaced(count, total)


def has_frozen_norms(detector: nn.Module) -> bool:
    """Whether the detector's norms keep their statistics in training."""
    return any(isinstance(module, FrozenBatchNorm2d) for module in detector.modules())


def _is_selectable(key: str, found: Tensor, wanted: Tensor) -> bool:
    if found.dim() != wanted.dim() or found.shape[2:] != wanted.shape[2:]:
        return False
    if key.startswith(ANCHOR_OUTPUTS) and found.shape[:1] != wanted.shape[:1]:
        return False
    return all(has >= needs for has, needs in zip(found.shape[:2], wanted.shape[:2], strict=True))


def _rows_agree(key: str, source: Mapping[str, Tensor]) -> bool:
    """Whether the weight and the bias of a layer of the class predictor have as many rows."""
    if not key.startswith(_CLASS_OUTPUTS):
        return True
    layer = key.rpartition(".")[0]
    return len({source[name].shape[:1] for name in (f"{layer}.weight", f"{layer}.bias") if name in source}) == 1


def _selected(key: str, found: Tensor, wanted: Tensor, *, rescaled: bool) -> Tensor:
    if found.dim() == 0:
        return found.clone()
    chosen = found[selected_outputs(key, wanted.shape[0], found.shape[0])]
    if found.dim() == 1:
        return chosen
    if key == _FLATTENED_INPUT:
        cells = POOLED_SIZE**2
        channels = evenly_spaced(wanted.shape[1] // cells, found.shape[1] // cells)
        inputs = (channels[:, None] * cells + torch.arange(cells)).flatten()
    else:
        inputs = evenly_spaced(wanted.shape[1], found.shape[1])
    ratio = found.shape[1] / wanted.shape[1] if rescaled else 1.0
    return chosen[:, inputs] * ratio if ratio != 1.0 else chosen[:, inputs]


def _has_bottlenecks(state: Mapping[str, Tensor]) -> bool:
    return f"{_BODY}{_BOTTLENECK_LAYER}" in state
