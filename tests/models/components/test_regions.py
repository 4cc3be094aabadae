from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from hkd.models.components.regions import _bins_of_cells, pool_regions, region_levels, region_table, region_taps

HEIGHT, WIDTH = 96, 160


def _levels(generator: torch.Generator) -> list[Tensor]:
    return [torch.randn(3, 5, HEIGHT // s, WIDTH // s, generator=generator, requires_grad=True) for s in (4, 8, 16, 32)]


def _boxes(generator: torch.Generator) -> Tensor:
    """Random boxes of all sizes, and those at which kernels go wrong: slivers and points at the borders."""
    corners = torch.rand(3, 40, 2, generator=generator) * torch.tensor([WIDTH - 10.0, HEIGHT - 10.0])
    sizes = 2 ** (7 * torch.rand(3, 40, 2, generator=generator))
    boxes = torch.cat((corners, torch.minimum(corners + sizes, torch.tensor([WIDTH, HEIGHT]))), dim=-1)
    awkward = torch.tensor(
        [
            [WIDTH - 0.5, 10.0, WIDTH, 60.0],  # thinner than a cell, at the right border: samples fall outside
            [10.0, HEIGHT - 0.25, 90.0, HEIGHT],  # flatter than a cell, at the bottom
            [0.0, 0.0, 0.5, 0.5],
            [0.0, 0.0, WIDTH, HEIGHT],
        ],
    )
    return torch.cat((boxes, awkward.expand(3, -1, -1)), dim=1)


@pytest.mark.parametrize("canonical_size", [224.0, 40.0])
def test_features_and_gradients_equal_torchvision(canonical_size: float) -> None:
    generator = torch.Generator().manual_seed(2)
    levels, boxes = _levels(generator), _boxes(generator)
    pooled = pool_regions(region_table(levels), region_taps(levels, boxes, HEIGHT, canonical_size))
    reference = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2, canonical_scale=int(canonical_size))
    features = OrderedDict((str(index), level) for index, level in enumerate(levels))
    expected = reference(features, list(boxes), [(HEIGHT, WIDTH)] * 3)
    torch.testing.assert_close(pooled, expected, atol=2e-5, rtol=1e-5)
    weights = torch.randn(expected.shape, generator=generator)
    ours = torch.autograd.grad((pooled * weights).sum(), levels)
    theirs = torch.autograd.grad((expected * weights).sum(), levels)
    for our_gradient, their_gradient in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our_gradient, their_gradient, atol=1e-4, rtol=1e-4)


def test_bins_of_cells_are_equal_by_counting_and_by_sorting() -> None:
    # A traced graph sorts. Of 7 cells, some of which no bin reads, the last one included; some are read twice by a bin.
    taps = torch.tensor([[4, 1, 1], [2, 4, 1], [5, 5, 0]], dtype=torch.int32)
    # Cell 0: bin 2; 1: bins 0, 0, 1; 2: bin 1; 3: none; 4: bins 0, 1; 5: bins 2, 2; 6: none.
    expected = ([2, 0, 0, 1, 1, 0, 1, 2, 2], [0, 1, 4, 5, 5, 7, 9], [8, 1, 2, 5, 3, 0, 4, 6, 7])
    by_sorting = torch.compile(_bins_of_cells, fullgraph=True, backend="eager")
    for bins_of_cells in (_bins_of_cells, by_sorting):
        parts = bins_of_cells(taps, 7)
        assert tuple(part.tolist() for part in parts) == expected
        assert [part.dtype for part in parts[:2]] == [torch.int32, torch.int32]


def test_empty_boxes_give_finite_features() -> None:
    # A slot of zeros is pooled like a point at the image's corner; callers mask it.
    levels = _levels(torch.Generator().manual_seed(0))
    pooled = pool_regions(region_table(levels), region_taps(levels, torch.zeros(3, 2, 4), HEIGHT, 224.0))
    assert torch.isfinite(pooled).all()


def test_region_levels_follow_equation_1_of_fpn() -> None:
    # k = floor(4 + log2(sqrt(w h) / 224)), kept within 2..5; counted from p2 = 0.
    sides = torch.tensor([10.0, 56.0, 112.0, 223.0, 224.0, 448.0, 2000.0])
    boxes = torch.stack((torch.zeros(7), torch.zeros(7), sides, sides), dim=-1)
    assert region_levels(boxes, 224.0, 2, 5).tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_table_rows_above_2_to_24_are_exact() -> None:
    # 255 images whose p2 has 257 x 257 cells: p3 starts at row 255 * 257 * 257 = 16,842,495, which fp32 rounds to
    # 16,842,496. A region of 112 pixels is p3's; that at the origin of the first image reads its first cells.
    levels = [torch.empty(255, 1, side, side, device="meta") for side in (257, 129, 65, 33)]
    boxes = torch.zeros(255, 1, 4)
    boxes[..., 2:] = 112.0
    assert region_taps(levels, boxes, 1028, 224.0).cells[:49].min() == 16_842_495
