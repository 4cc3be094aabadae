"""Parameters and floating-point operations of single layers, from their shapes."""

from __future__ import annotations

from dataclasses import dataclass

from hkd.metric_names import FLOPS, GMACS, NUM_PARAMS


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a detector, or of a part of one, and of one image through it."""

    num_params: int
    """Parameters, without buffers, adapters and teacher."""
    flops: int
    """Floating-point operations of convolutions and matrix products, 2 per multiply-add."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.num_params + other.num_params, self.flops + other.flops)

    @property
    def gmacs(self) -> float:
        """Billions of multiply-adds, which is half the FLOPs."""
        return self.flops / 2e9

    def as_metrics(self) -> dict[str, float]:
        """The costs by metric name."""
        return {NUM_PARAMS: self.num_params, FLOPS: self.flops, GMACS: self.gmacs}


def convolution_cost(in_channels: int, out_channels: int, side: int, cells: int, *, bias: bool = False) -> Cost:
    """Cost of a convolution with a ``side`` x ``side`` kernel, in one group, that computes ``cells`` output cells.

    ``bias`` adds its parameters; as in ``torch.utils.flop_counter``, additions of a bias are not counted.
    """
    weights = in_channels * out_channels * side**2
    return Cost(weights + (out_channels if bias else 0), 2 * weights * cells)


def linear_cost(in_features: int, out_features: int, rows: int) -> Cost:
    """Cost of a fully connected layer with bias on ``rows`` vectors."""
    return convolution_cost(in_features, out_features, 1, rows, bias=True)
