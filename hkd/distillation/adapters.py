"""Maps from the student's channels to the teacher's, so that features of unlike width can be compared.

Adapters belong to training only: they are neither saved with the student nor counted as its parameters. As in
FitNets (Romero et al., 2015) there is one only where the widths differ; at equal widths the student's own features are
compared, and nothing stands between it and its teacher.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hkd.config import PYRAMID_LEVELS
from hkd.distillation.pyramid import FeatureLoss


class Adapter(nn.Module):
    """A linear map of channels: a 1x1 convolution of (N, C, H, W), a matrix product of (N, C).

    Its own few lines rather than ``nn.Conv2d``, which draws its first weights from the global generator.
    It computes in the type of its input, so that it serves bf16 features outside autocast as well.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        # Keeps the variance of its input: its gain is that of a linear unit.
        nn.init.kaiming_uniform_(self.weight, nonlinearity="linear", generator=torch.Generator().manual_seed(seed))

    def forward(self, features: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W), or (N, in) -> (N, out)."""
        weight = self.weight.to(features.dtype)
        bias = None if self.bias is None else self.bias.to(features.dtype)
        if features.dim() == 2:
            return functional.linear(features, weight, bias)
        return functional.conv2d(features, weight[:, :, None, None], bias)


class Adapters(nn.Module):
    """The adapters of all distilled hierarchies: one a pyramid level, one of the region features, one of the embedding.

    For each hierarchy, name the loss it is distilled with, or none if it is not: then nothing is made for it.
    An adapter has a bias only for ``mse``: ``pearson`` takes each channel's mean away, and a bias with it.
    The first weights are a function of the seed and of the adapter's place alone: the global generator is left as it
    was, and leaving one hierarchy out does not change another's.
    """

    def __init__(
        self,
        *,
        student_channels: int,
        teacher_channels: int,
        student_embedding: int,
        teacher_embedding: int,
        pyramid: FeatureLoss | None,
        region: FeatureLoss | None,
        embedding: FeatureLoss | None,
        seed: int,
    ) -> None:
        super().__init__()
        # Distinct for each adapter of one seed, and of neighbouring seeds.
        first_seed = seed * (len(PYRAMID_LEVELS) + 2)
        self.pyramid = nn.ModuleDict()
        if pyramid is not None:
            for place, level in enumerate(PYRAMID_LEVELS):
                self.pyramid[level] = _adapter(student_channels, teacher_channels, pyramid, first_seed + place)
        self.region: nn.Module | None = None
        if region is not None:
            place = len(PYRAMID_LEVELS)
            self.region = _adapter(student_channels, teacher_channels, region, first_seed + place)
        self.embedding: nn.Module | None = None
        if embedding is not None:
            place = len(PYRAMID_LEVELS) + 1
            self.embedding = _adapter(student_embedding, teacher_embedding, embedding, first_seed + place)


def _adapter(in_channels: int, out_channels: int, loss: FeatureLoss, seed: int) -> nn.Module:
    if in_channels == out_channels:
        return nn.Identity()
    return Adapter(in_channels, out_channels, bias=loss == "mse", seed=seed)
