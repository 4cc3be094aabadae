"""Detectors with statistics of their own, and wider ones that compute the same."""

from __future__ import annotations

import torch
from torch import Tensor

from hkd.config import DetectorConfig
from tests.training.tiny import build


def state_with_statistics(config: DetectorConfig, seed: int = 0) -> dict[str, Tensor]:
    """Random weights, with statistics of the norms that differ from channel to channel."""
    state: dict[str, Tensor] = build(config, seed).state_dict()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in state.items():
        # Initial statistics are all 0 and 1, of which any choice is right.
        if name.endswith(("running_mean", "running_var")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return state


def doubled(narrow: dict[str, Tensor], wide: dict[str, Tensor]) -> dict[str, Tensor]:
    """The narrow network with every channel twice, one beside the other: it computes the same."""
    doubled = {}
    for name, tensor in narrow.items():
        grown = tensor
        for axis in range(min(tensor.dim(), 2)):
            if wide[name].shape[axis] == tensor.shape[axis]:  # image channels, anchors, classes
                continue
            if name == "roi_heads.box_head.fc6.weight" and axis == 1:
                grown = grown.reshape(len(grown), -1, 49).repeat_interleave(2, dim=1).flatten(1)
            else:
                grown = grown.repeat_interleave(2, dim=axis)
            if axis == 1:
                grown = grown / 2  # two equal inputs instead of one
        doubled[name] = grown
    return doubled
