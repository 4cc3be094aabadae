from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hkd.config import ComparedCells, FeatureLoss
from hkd.distillation.cells import compared_maps, is_known_full, sampling_stride
from hkd.distillation.feature_losses import feature_loss
from hkd.distillation.pyramid import pyramid_distillation_loss, valid_cell_mask
from hkd.distillation.region import region_distillation_loss


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _numbered(count: int, height: int, width: int) -> Tensor:
    """(N, 1, H, W), each cell its number, row after row."""
    return torch.arange(count * height * width).view(count, 1, height, width)


@pytest.mark.parametrize(
    ("count", "height", "width", "step"),
    [
        (8, 48, 64, 11),  # 24,576 / 11 = 2,234 cells
        (512, 7, 7, 11),
        (8, 24, 32, 5),  # 6,144: 1,228 at 5; 877 at 7
        (8, 40, 55, 9),  # 17,600: 55 = 5 x 11; at 11, all rows would sample the same columns
        (8, 40, 99, 7),  # 99 = 9 x 11, which shares 3 with 9
        (8, 40, 66, 7),  # 66 = 6 x 11
        (8, 40, 77, 9),
        (8, 40, 105, 11),  # 3 x 5 x 7
        (1, 40, 75, 1),  # 3,000 would leave 1,000 at 3, a factor of 75
        (1, 40, 76, 3),
        (1, 30, 100, 3),  # 1,000
        (1, 27, 111, 1),  # 2,997: 999 at 3
        (1, 1, 1, 1),
    ],
)
def test_stride_leaves_1000_cells_and_shares_no_factor_with_width(
    count: int, height: int, width: int, step: int
) -> None:
    assert sampling_stride(_normal(count, 2, height, width, seed=0)) == step


# Widths of p2 in images of 256, 224, 160 and 220 pixels, and of a region.
@pytest.mark.parametrize(
    ("count", "height", "width"), [(8, 48, 64), (8, 40, 56), (8, 30, 40), (8, 40, 55), (512, 7, 7)]
)
def test_sample_is_every_nth_cell_and_covers_columns_evenly(count: int, height: int, width: int) -> None:
    numbers = _numbered(count, height, width)
    step = sampling_stride(numbers)
    student, teacher, mask = compared_maps(numbers, 10 * numbers.repeat(1, 3, 1, 1), numbers % 2 == 0, "sample")
    sampled = torch.arange(0, numbers.numel(), step)
    assert step > 1
    assert torch.equal(student, sampled[None, None, :, None])
    assert torch.equal(teacher, 10 * sampled[None, None, :, None].expand(1, 3, -1, 1))
    assert mask is not None
    assert torch.equal(mask, student % 2 == 0)
    rows, columns = sampled // width % height, sampled % width
    # Columns, and the four positions below a cell of the next coarser level, are sampled as often as they occur, except
    # for the ends of the map.
    for places, of_all in (
        (columns, numbers.flatten() % width),
        (2 * (rows % 2) + columns % 2, 2 * (numbers.flatten() // width % height % 2) + numbers.flatten() % width % 2),
    ):
        shares, wanted = torch.bincount(places) / len(sampled), torch.bincount(of_all) / numbers.numel()
        torch.testing.assert_close(shares, wanted, rtol=0.05, atol=0.0)


def test_maps_are_returned_unchanged_if_all_cells_are_compared() -> None:
    many, few = _normal(2, 3, 40, 50, seed=0), _normal(2, 3, 37, 40, seed=1)
    cases: tuple[tuple[Tensor, ComparedCells], ...] = ((many, "all"), (few, "sample"))
    for features, cells in cases:
        mask = torch.ones(2, 1, *features.shape[2:], dtype=torch.bool)
        maps = compared_maps(features, features, mask, cells)
        assert all(found is given for found, given in zip(maps, (features, features, mask), strict=True))
    assert compared_maps(many, many, None, "sample")[2] is None


# Half of the second picture padding: at its right, or below.
@pytest.mark.parametrize("half", [[[160.0, 200.0], [160.0, 100.0]], [[160.0, 200.0], [80.0, 200.0]]])
@pytest.mark.parametrize("kind", ["pearson", "mse"])
def test_losses_compare_and_train_sampled_cells_only(kind: FeatureLoss, half: list[list[float]]) -> None:
    # p2 of 4,000 cells is sampled at every third, p3 of 1,000 is not.
    student = {"p2": _normal(2, 3, 40, 50, seed=0), "p3": _normal(2, 3, 20, 25, seed=1)}
    teacher = {"p2": _normal(2, 3, 40, 50, seed=2), "p3": _normal(2, 3, 20, 25, seed=3)}
    sizes = torch.tensor(half)
    p2 = student["p2"].requires_grad_()
    found = pyramid_distillation_loss(student, teacher, sizes, (160, 200), kind, cells="sample")
    (gradient,) = torch.autograd.grad(found, p2)
    is_compared = valid_cell_mask(sizes, 40, 50, (160, 200)) & (_numbered(2, 40, 50) % 3 == 0)
    expected = torch.stack(
        [
            feature_loss(student["p2"], teacher["p2"], is_compared, kind),
            feature_loss(student["p3"], teacher["p3"], valid_cell_mask(sizes, 20, 25, (160, 200)), kind),
        ]
    ).mean()
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    (expected_gradient,) = torch.autograd.grad(expected, p2)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-9)
    assert torch.equal(gradient != 0, is_compared.expand_as(gradient))


def test_region_loss_compares_sampled_cells_of_valid_regions() -> None:
    # 100 regions' 4,900 cells: every third.
    student, teacher = _normal(100, 4, 7, 7, seed=0), _normal(100, 4, 7, 7, seed=1)
    for valid in (torch.arange(100) % 4 != 1, torch.ones(100, dtype=torch.bool)):
        is_compared = valid[:, None, None, None] & (_numbered(100, 7, 7) % 3 == 0)
        expected = feature_loss(student, teacher, is_compared, "pearson").item()
        found = region_distillation_loss(student, teacher, valid, "pearson", cells="sample").item()
        assert found == pytest.approx(expected, abs=1e-6)
        assert found != region_distillation_loss(student, teacher, valid, "pearson").item()


def test_adapter_applies_to_sampled_maps() -> None:
    student, teacher = {"p2": _normal(2, 3, 40, 50, seed=0)}, {"p2": _normal(2, 5, 40, 50, seed=1)}
    weight, sizes = _normal(5, 3, seed=2), torch.tensor([[160.0, 200.0], [160.0, 200.0]])
    found = pyramid_distillation_loss(student, teacher, sizes, (160, 200), "pearson", {"p2": weight}, "sample")
    adapted = torch.einsum("nshw,ts->nthw", student["p2"], weight)
    expected = feature_loss(adapted, teacher["p2"], _numbered(2, 40, 50) % 3 == 0, "pearson")
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_sampling_traces_as_one_graph_for_several_sizes() -> None:
    traced = torch.compile(pyramid_distillation_loss, fullgraph=True, backend="aot_eager")
    sizes = torch.tensor([[160.0, 200.0], [160.0, 100.0]])
    for width in (50, 52, 64):
        student, teacher = ({"p2": _normal(2, 3, 40, width, seed=seed)} for seed in (0, 1))
        found = traced(student, teacher, sizes, (160, 200), "mse", cells="sample")
        expected = pyramid_distillation_loss(student, teacher, sizes, (160, 200), "mse", cells="sample")
        assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_mask_is_read_on_cpu_only() -> None:
    assert is_known_full(torch.tensor([True, True]))
    assert not is_known_full(torch.tensor([True, False]))
    assert not is_known_full(torch.ones(2, dtype=torch.bool, device="meta"))
