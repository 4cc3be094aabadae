"""Linear maps from the student's channels to the teacher's, so that features of different widths can be compared.

Adapters are used in training only: they are neither saved with the student nor counted among its parameters. As in
FitNets (Romero et al., ICLR 2015), features of equal width are compared without an adapter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hkd.config import PYRAMID_LEVELS, FeatureLoss
from hkd.structures import evenly_spaced


class Adapter(nn.Module):
    """A linear map of channels: a 1x1 convolution of (N, C, H, W) or a matrix product of (N, C).

    Unlike ``nn.Conv2d``, it does not draw its initial weights from the global generator, and it computes in the dtype
    of its input, so that bf16 features need no autocast.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        # The gain of a linear unit keeps the variance of the input.
        nn.init.kaiming_uniform_(self.weight, nonlinearity="linear", generator=torch.Generator().manual_seed(seed))

    def forward(self, features: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W), or (N, in) -> (N, out)."""
        weight = self.weight.to(features.dtype)
        bias = None if self.bias is None else self.bias.to(features.dtype)
        if features.dim() == 2:
            return functional.linear(features, weight, bias)
        return functional.conv2d(features, weight[:, :, None, None], bias)


class Adapters(nn.Module):
    """The adapters of all distilled stages: one per pyramid level, one for region features, one for the embedding.

    Each adapter's initial weights depend on ``seed`` and on its own stage and level only: the global generator keeps
    its state, and removing one stage does not change the initial weights of another. Adapters have a bias, except for
    ``pearson``, which subtracts every channel's mean.

    Args:
        student_channels: channels of the student's pyramid and region features.
        teacher_channels: channels of the teacher's.
        student_embedding: width of the student's embedding.
        teacher_embedding: width of the teacher's.
        pyramid: loss of this stage; None makes no adapters for it.
        region: as ``pyramid``.
        embedding: as ``pyramid``.
        seed: of the initial weights.
        is_selected: whether the student's first weights are selected from the teacher's channels. Adapters then map
            each of the student's channels to the one that it was selected from; only the teacher's other channels start
            from random weights.
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
        is_selected: bool = False,
    ) -> None:
        super().__init__()
        # Distinct seeds for all adapters, also between trainings with neighbouring seeds.
        *level_seeds, region_seed, embedding_seed = (
            seed * (len(PYRAMID_LEVELS) + 2) + index for index in range(len(PYRAMID_LEVELS) + 2)
        )
        self.pyramid = nn.ModuleDict()
        if pyramid is not None:
            for level, level_seed in zip(PYRAMID_LEVELS, level_seeds, strict=True):
                self.pyramid[level] = _adapter(student_channels, teacher_channels, pyramid, level_seed, is_selected)
        self.region: nn.Module | None = None
        if region is not None:
            self.region = _adapter(student_channels, teacher_channels, region, region_seed, is_selected)
        self.embedding: nn.Module | None = None
        if embedding is not None:
            self.embedding = _adapter(student_embedding, teacher_embedding, embedding, embedding_seed, is_selected)


def _adapter(in_channels: int, out_channels: int, loss: FeatureLoss, seed: int, is_selected: bool) -> nn.Module:
    if in_channels == out_channels:
        return nn.Identity()
    adapter = Adapter(in_channels, out_channels, bias=loss != "pearson", seed=seed)
    if is_selected and in_channels < out_channels:
        with torch.no_grad():
            adapter.weight[evenly_spaced(in_channels, out_channels)] = torch.eye(in_channels)
    return adapter
