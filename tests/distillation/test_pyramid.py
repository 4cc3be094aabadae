from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hkd.config import FeatureLoss
from hkd.distillation.pyramid import pyramid_distillation_loss, valid_cell_mask


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestValidCellMask:
    def test_mask_keeps_cells_with_centre_outside_padding(self) -> None:
        # Stride 8 on a 24 x 32 image: rows are centred at 4, 12, 20, columns at 4, 12, 20, 28.
        mask = valid_cell_mask(torch.tensor([[20.0, 12.5], [24.0, 32.0], [4.0, 32.0]]), 3, 4, (24, 32))
        expected = torch.zeros(3, 1, 3, 4, dtype=torch.bool)
        expected[0, 0, :2, :2] = True  # 4, 12 < 20 = 20; 4, 12 < 12.5 < 20
        expected[1] = True
        # The third has no row: 4 is not below 4.
        assert torch.equal(mask, expected)

    def test_mask_does_not_swap_height_and_width(self) -> None:
        mask = valid_cell_mask(torch.tensor([[8.0, 64.0]]), 2, 4, (32, 64))
        # Rows centred at 8, 24: none below 8. Swapped, it would be all rows and no column.
        assert not mask.any()
        assert valid_cell_mask(torch.tensor([[9.0, 64.0]]), 2, 4, (32, 64))[0, 0].tolist() == [[True] * 4, [False] * 4]

    def test_unpadded_image_keeps_last_row_if_stride_does_not_divide_height(self) -> None:
        # p6 of a 224-pixel image has ceil(7 / 2) = 4 cells; with a stride of 64 the last centre would be at 224.
        assert valid_cell_mask(torch.tensor([[224.0, 224.0]]), 4, 4, (224, 224)).all()


class TestPyramid:
    def _maps(self, seed: int) -> dict[str, Tensor]:
        return {
            "p2": _normal(2, 3, 8, 8, seed=seed),
            "p3": _normal(2, 3, 4, 4, seed=seed + 1),
            "p4": _normal(2, 3, 2, 2, seed=seed + 2),
        }

    @pytest.mark.parametrize("kind", ["pearson", "mse"])
    def test_loss_is_mean_over_levels_without_padding(self, kind: FeatureLoss) -> None:
        student, teacher = self._maps(0), self._maps(10)
        # 32 x 32 images, strides 4, 8, 16. The first is cut at height 16, the second at width 24.
        loss = pyramid_distillation_loss(student, teacher, torch.tensor([[16.0, 32.0], [32.0, 24.0]]), (32, 32), kind)
        expected = []
        # Cells kept: rows of the first, columns of the second, of 8, 4 and 2 (centres at 8 and 24: 24 is not below 24).
        for level, rows, columns in (("p2", 4, 6), ("p3", 2, 3), ("p4", 1, 1)):
            a, b = (
                torch.cat([maps[level][0, :, :rows].flatten(1), maps[level][1, :, :, :columns].flatten(1)], dim=1)
                .double()
                .numpy()
                for maps in (student, teacher)
            )
            if kind == "pearson":
                expected.append(np.mean([1 - np.corrcoef(a[channel], b[channel])[0, 1] for channel in range(3)]))
            else:
                expected.append(np.mean((a - b) ** 2))
        assert loss.item() == pytest.approx(np.mean(expected), abs=2e-6)

    @pytest.mark.parametrize("kind", ["pearson", "mse"])
    def test_identical_pyramids_have_exactly_zero_loss(self, kind: FeatureLoss) -> None:
        sizes = torch.tensor([[16.0, 32.0], [32.0, 24.0]])
        assert pyramid_distillation_loss(self._maps(0), self._maps(0), sizes, (32, 32), kind).item() == 0.0

    def test_each_level_is_compared_with_same_level_of_teacher(self) -> None:
        sizes = torch.tensor([[32.0, 32.0], [32.0, 32.0]])
        for level in ("p2", "p3", "p4"):
            teacher = self._maps(0)
            teacher[level] = teacher[level] + 3.0
            # One level of three is off by 3 everywhere.
            loss = pyramid_distillation_loss(self._maps(0), teacher, sizes, (32, 32), "mse")
            assert loss.item() == pytest.approx(3.0**2 / 3, rel=1e-5)

    def test_level_missing_in_teacher_is_refused(self) -> None:
        teacher = self._maps(0)
        del teacher["p3"]
        with pytest.raises(AssertionError, match="levels"):
            pyramid_distillation_loss(self._maps(0), teacher, torch.full((2, 2), 32.0), (32, 32), "mse")
