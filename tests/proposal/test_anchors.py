from __future__ import annotations

import numpy as np
import pytest

from hkd.proposal.anchors import propose_anchors


def _boxes(sizes: list[float], ratio: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Boxes (N, 2) of these square roots of areas and this height / width."""
    roots = np.array(sizes)
    return np.stack([roots / np.sqrt(ratio), roots * np.sqrt(ratio)], axis=1)


def test_equal_boxes_give_anchors_from_their_size_upwards() -> None:
    # 20, then times 1.8: 36, 64.8, 116.6, 210.0.
    anchors = propose_anchors(_boxes([20.0] * 5, 2.44))
    assert anchors.sizes == (20, 36, 65, 117, 210)
    assert anchors.aspect_ratios == (2.44,)


def test_wide_range_of_sizes_doubles_the_anchors() -> None:
    # 101 sizes from 10 to 1,010: the 10th percentile is 110, the 98th 990; (990 / 110) ** 0.25 = 1.73, below 1.8.
    assert propose_anchors(_boxes(list(np.arange(10.0, 1011.0, 10.0)), 2.0)).sizes == (110, 198, 356, 642, 1155)
    # Geometric sizes from 8 to 512: percentiles 10 and 98 are 8 * 64 ** 0.1 = 12.1 and 8 * 64 ** 0.98 = 471.1, a growth
    # of 2.5 a level, more than 2: 12.1 to 24.3, 48.5, 97.0, 194.0.
    sizes = [8.0 * 64 ** (step / 100) for step in range(101)]
    assert propose_anchors(_boxes(sizes, 2.0)).sizes == (12, 24, 49, 97, 194)


def test_growth_reaches_the_largest_people_where_it_can() -> None:
    # (16 * 12.25)  = 196: the growth is 12.25 ** 0.25 = 1.871, between its limits; 16, 29.9, 56, 104.8, 196.
    sizes = [16.0] * 50 + [196.0] * 50
    assert propose_anchors(_boxes(sizes, 2.0)).sizes == (16, 30, 56, 105, 196)


def test_widely_varying_shapes_give_three_aspect_ratios() -> None:
    # A third each of 1, 2 and 4: percentiles 10 and 90 are 1 and 4. The medians of the thirds are these.
    boxes = np.concatenate([_boxes([30.0] * 7, ratio) for ratio in (1.0, 2.0, 4.0)])
    assert propose_anchors(boxes).aspect_ratios == (1.0, 2.0, 4.0)


def test_slivers_give_aspect_ratios_in_range() -> None:
    assert propose_anchors(_boxes([30.0] * 3, 1e6)).aspect_ratios == (10.0,)
    assert propose_anchors(_boxes([30.0] * 3, 1e-6)).aspect_ratios == (0.1,)


def test_tiny_boxes_give_positive_anchors() -> None:
    assert min(propose_anchors(np.full((3, 2), 0.1)).sizes) == 1


@pytest.mark.parametrize("growth", [1.8, 2.0])
def test_every_person_in_range_has_an_anchor_of_similar_size(growth: float) -> None:
    # Between two levels, the worst is off by the root of the growth; boxes of equal shape then have an IoU of
    # 1 / growth: 0.56 or 0.5, enough for a region to be positive.
    sizes = [10.0 * growth ** (step / 25) for step in range(101)]
    anchors = np.array(propose_anchors(_boxes(sizes, 2.44)).sizes, dtype=np.float64)
    in_range = np.array([size for size in sizes if anchors[0] <= size <= anchors[-1]])
    ratio = np.exp(np.abs(np.log(in_range[:, None] / anchors)).min(axis=1))
    assert (1 / ratio**2).min() > 0.48  # anchors are whole pixels
