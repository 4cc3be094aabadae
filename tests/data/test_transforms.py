"""Batched augmentation of images and boxes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torchvision.transforms.functional as reference
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from hkd.data.transforms import augment, to_float
from hkd.structures import Targets

HEIGHT, WIDTH = 48, 64
_UNCHANGED = {
    "flip_probability": 0.0,
    "scale_min": 1.0,
    "scale_max": 1.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "minimum_visible_fraction": 0.4,
}
_BYTE = 1e-4
"""Rounding of sampling positions, on values up to 1."""


def _images(batch: int, valid: tuple[int, int] = (HEIGHT, WIDTH), low: int = 0, high: int = 256) -> Tensor:
    images = torch.zeros(batch, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    noise = torch.randint(low, high, (batch, *valid, 3), generator=torch.Generator().manual_seed(5))
    images[:, : valid[0], : valid[1]] = noise.to(torch.uint8)
    return images


def _sizes(batch: int, valid: tuple[int, int] = (HEIGHT, WIDTH)) -> Tensor:
    return torch.tensor([valid] * batch, dtype=torch.float32)


def _targets(batch: int, *boxes: tuple[float, float, float, float], ignore: tuple[bool, ...] = ()) -> Targets:
    """The same boxes in every image, and one unused slot."""
    padded = torch.tensor([*boxes, (0, 0, 0, 0)], dtype=torch.float32).expand(batch, -1, -1)
    valid = torch.tensor([True] * len(boxes) + [False]).expand(batch, -1)
    ignored = torch.tensor([*(ignore or [False] * len(boxes)), False]).expand(batch, -1)
    return Targets(padded, valid, ignored)


def _augment(
    images: Tensor, sizes: Tensor, targets: Targets, *, seed: int = 0, **changes: float
) -> tuple[Tensor, Tensor, Targets]:
    return augment(images, sizes, targets, torch.Generator().manual_seed(seed), **(_UNCHANGED | changes))


def _ramps(batch: int, valid: tuple[int, int] = (HEIGHT, WIDTH)) -> Tensor:
    """Red is four times the column, green four times the row, blue 255: pixels that say where they come from."""
    images = torch.zeros(batch, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    images[:, : valid[0], : valid[1], 0] = (4 * torch.arange(valid[1])).to(torch.uint8)
    images[:, : valid[0], : valid[1], 1] = (4 * torch.arange(valid[0])).to(torch.uint8)[:, None]
    images[:, : valid[0], : valid[1], 2] = 255
    return images


def _affine_of(values: Tensor, size: float) -> tuple[float, float]:
    """(a, b) of source = a + b * position along one axis of a ramp's sampled pixels, both counted in pixel edges."""
    source = values * 255 / 4 + 0.5
    position = torch.arange(len(values)) + 0.5
    # The outermost pixels of the original are repeated beyond their centres: away from them the ramp is straight.
    inner = slice(2, int(size) - 2)
    slope = (source[inner][-1] - source[inner][0]) / (position[inner][-1] - position[inner][0])
    assert torch.allclose(source[inner], source[inner][0] + slope * (position[inner] - position[inner][0]), atol=5e-3)
    return float(source[inner][0] - slope * position[inner][0]), float(slope)


def test_to_float() -> None:
    images = _images(2)
    result = to_float(images)
    assert result.shape == (2, 3, HEIGHT, WIDTH)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, images.permute(0, 3, 1, 2).float() / 255)


def test_no_augmentation_changes_nothing() -> None:
    images, valid = _images(3, (40, 50)), (40, 50)
    targets = _targets(3, (1, 2, 11, 32), (3, 3, 50, 40), ignore=(False, True))
    result, sizes, boxes = _augment(images, _sizes(3, valid), targets)
    torch.testing.assert_close(result, to_float(images), atol=_BYTE, rtol=0, check_stride=False)
    assert sizes.tolist() == [[40, 50]] * 3
    torch.testing.assert_close(boxes.boxes_xyxy, targets.boxes_xyxy)
    assert torch.equal(boxes.valid, targets.valid)
    assert torch.equal(boxes.ignore, targets.ignore)
    assert (result.dtype, sizes.dtype, boxes.boxes_xyxy.dtype) == (torch.float32,) * 3


def test_mirrored_picture_stays_at_top_left() -> None:
    images = _images(2, (40, 50))
    result, sizes, targets = _augment(images, _sizes(2, (40, 50)), _targets(2, (1, 2, 11, 32)), flip_probability=1)
    expected = to_float(images)
    expected[..., :50] = expected[..., :50].flip(-1)
    torch.testing.assert_close(result, expected, atol=_BYTE, rtol=0, check_stride=False)
    assert sizes.tolist() == [[40, 50]] * 2
    # 50 columns: x1 = 50 - 11, x2 = 50 - 1.
    torch.testing.assert_close(targets.boxes_xyxy[:, 0], torch.tensor([[39.0, 2, 49, 32]] * 2))
    assert not targets.boxes_xyxy[:, 1].any()


def test_images_are_mirrored_with_configured_probability() -> None:
    images = _ramps(400)
    result = _augment(images, _sizes(400), _targets(400), flip_probability=0.3)[0]
    share = (result[:, 0, 5, 5] > result[:, 0, 5, 50]).float().mean().item()
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 400) ** 0.5  # four standard deviations


@pytest.mark.parametrize("flip_probability", [0.0, 1.0])
@pytest.mark.parametrize(
    ("scale", "valid"),
    [(1.4, (HEIGHT, WIDTH)), (1.4, (40, 30)), (1.1, (HEIGHT, 33)), (0.7, (HEIGHT, WIDTH)), (0.55, (31, 64))],
)
def test_boxes_move_with_picture(flip_probability: float, scale: float, valid: tuple[int, int]) -> None:
    batch = 16
    targets = _targets(batch, (10, 12, 22, 28))
    images, sizes, moved = _augment(
        _ramps(batch, valid),
        _sizes(batch, valid),
        targets,
        flip_probability=flip_probability,
        scale_min=scale,
        scale_max=scale,
        minimum_visible_fraction=0,
    )
    for image, (height, width), boxes, is_valid in zip(
        images, sizes.tolist(), moved.boxes_xyxy, moved.valid, strict=True
    ):
        # A picture that still fits is as large as zoomed, to the pixel; else it fills the canvas.
        assert height == min(HEIGHT, round(valid[0] * scale))
        assert width == min(WIDTH, round(valid[1] * scale))
        assert not image[:, int(height) :].any()
        assert not image[:, :, int(width) :].any()
        torch.testing.assert_close(image[2, : int(height), : int(width)], torch.ones(int(height), int(width)))
        x_start, x_slope = _affine_of(image[0, int(height) // 2], width)
        y_start, y_slope = _affine_of(image[1, :, int(width) // 2], height)
        # One zoom for both axes, but for the rounding of a size to whole pixels.
        assert abs(x_slope) == pytest.approx(1 / scale, rel=0.5 / (width - 0.5))
        assert y_slope == pytest.approx(1 / scale, rel=0.5 / (height - 0.5))
        assert (x_slope < 0) == (flip_probability == 1)
        # The window lies inside the picture.
        ends = [x_start, x_start + x_slope * width]
        assert min(ends) > -0.02
        assert max(ends) < valid[1] + 0.02
        assert y_start > -0.02
        assert y_start + y_slope * height < valid[0] + 0.02
        x1, x2 = sorted((x - x_start) / x_slope for x in (10, 22))
        y1, y2 = ((y - y_start) / y_slope for y in (12, 28))
        expected = torch.tensor([x1, y1, x2, y2]).clamp(min=0).minimum(torch.tensor([width, height] * 2))
        if is_valid[0]:
            torch.testing.assert_close(boxes[0], expected, atol=0.02, rtol=0)
        else:
            assert (expected[2:] - expected[:2]).min() < 1 + 0.02
    assert moved.valid[:, 0].sum() > batch // 2


def test_zoom_and_window_differ_from_image_to_image() -> None:
    images, sizes, _ = _augment(_ramps(64), _sizes(64), _targets(64), scale_min=0.5, scale_max=2)
    small = sizes[:, 0] < HEIGHT
    # A third of [0.5, 2] is below 1; windows of enlarged pictures start anywhere.
    assert abs(small.float().mean().item() - 1 / 3) < 4 * (2 / 9 / 64) ** 0.5
    assert len({tuple(size) for size in sizes[small].tolist()}) > 10
    top_left = (images[~small][:, :2, 0, 0] * 255 / 4).round()
    for origins in top_left.T.tolist():
        assert len(set(origins)) > 5


def test_boxes_cut_by_window_are_ignored_and_boxes_outside_dropped() -> None:
    # Zoomed twice, the window holds 24 x 32 of 48 x 64 original pixels, anywhere.
    box = (20.0, 10, 30, 30)
    _, sizes, moved = _augment(_images(200), _sizes(200), _targets(200, box), scale_min=2, scale_max=2)
    assert sizes.tolist() == [[HEIGHT, WIDTH]] * 200
    found = moved.boxes_xyxy[:, 0]
    area = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    share = area / (4 * 10 * 20)  # both sides are doubled
    gone = ~moved.valid[:, 0]
    assert gone.any()
    assert (found[gone] == 0).all()
    assert not moved.ignore[:, 0][gone].any()
    kept = moved.valid[:, 0]
    assert torch.equal(moved.ignore[:, 0][kept], share[kept] < 0.4)
    assert moved.ignore[:, 0].any()
    assert (kept & ~moved.ignore[:, 0]).any()
    assert (found[kept] >= 0).all()
    assert (found[kept][:, 2:] <= torch.tensor([WIDTH, HEIGHT])).all()
    assert (found[kept][:, 2:] - found[kept][:, :2]).min() >= 1


def test_box_below_one_pixel_is_dropped() -> None:
    targets = _targets(1, (10, 10, 11.9, 30), (10, 10, 12.1, 30))
    moved = _augment(_images(1), _sizes(1), targets, scale_min=0.5, scale_max=0.5)[2]
    assert moved.valid.tolist() == [[False, True, False]]  # 0.95 and 1.05 pixels wide


def test_ignore_region_is_kept() -> None:
    targets = _targets(8, (10, 10, 30, 30), ignore=(True,))
    moved = _augment(_images(8), _sizes(8), targets, flip_probability=0.5, scale_min=0.8, scale_max=1.1)[2]
    assert moved.ignore[:, 0].all()
    assert not moved.ignore[:, 1].any()


def _factor(name: str, images: Tensor, index: int) -> float:
    """The factor that seed 0 gives to one image, found by applying this change alone to a picture without clamping."""
    alone: dict[str, Any] = {name: 0.3}
    changed = _augment(images, _sizes(len(images)), _targets(len(images)), **alone)[0][index]
    before = to_float(images)[index]
    if name == "brightness":
        return float(changed.mean() / before.mean())
    if name == "contrast":
        return float(changed.std() / before.std())
    difference = (before[0] - before[2]).flatten()  # saturation stretches the differences of channels
    return float(((changed[0] - changed[2]).flatten() @ difference) / (difference @ difference))


def test_colour_changes_equal_torchvision() -> None:
    images = _images(6, low=100, high=150)  # far from 0 and 255: torchvision clamps after each change
    result = _augment(images, _sizes(6), _targets(6), brightness=0.3, contrast=0.3, saturation=0.3)[0]
    factors = {name: [_factor(name, images, i) for i in range(6)] for name in ("brightness", "contrast", "saturation")}
    for values in factors.values():
        assert all(0.7 < value < 1.3 for value in values)
        assert max(values) - min(values) > 0.1
    for index in range(6):
        expected = to_float(images)[index]
        expected = reference.adjust_brightness(expected, factors["brightness"][index])
        expected = reference.adjust_contrast(expected, factors["contrast"][index])
        expected = reference.adjust_saturation(expected, factors["saturation"][index])
        # torchvision's weights of grey are rounded to four digits and sum to 0.9999.
        torch.testing.assert_close(result[index], expected, atol=2e-4, rtol=0, check_stride=False)


def test_colours_stay_in_range_and_leave_padding_black() -> None:
    images = _images(16, (40, 50))
    result = _augment(images, _sizes(16, (40, 50)), _targets(16), brightness=1, contrast=1, saturation=1)[0]
    assert result.min() == 0
    assert result.max() == 1
    assert not result[:, :, 40:].any()
    assert not result[:, :, :, 50:].any()


def test_contrast_pivot_excludes_padding() -> None:
    # A flat picture has no contrast to change, wherever it ends.
    images = torch.zeros(8, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    images[:, :20, :30] = 120
    result = _augment(images, _sizes(8, (20, 30)), _targets(8), contrast=1)[0]
    torch.testing.assert_close(result[:, :, :20, :30], torch.full((8, 3, 20, 30), 120 / 255))


def test_all_random_numbers_come_from_generator() -> None:
    arguments = (_images(4), _sizes(4), _targets(4, (10, 10, 30, 40)))
    changes: dict[str, Any] = {
        "flip_probability": 0.5,
        "scale_min": 0.8,
        "scale_max": 1.3,
        "brightness": 0.2,
        "saturation": 0.2,
    }
    state = torch.get_rng_state()
    first, again, other = (_augment(*arguments, seed=seed, **changes) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[2].boxes_xyxy, again[2].boxes_xyxy)
    assert not torch.equal(first[0], other[0])


def test_change_of_image_does_not_depend_on_rest_of_batch() -> None:
    """No image's change depends on what else is in the batch: the same place gets the same change."""
    images, targets = _images(4), _targets(4, (10, 10, 30, 40))
    changes: dict[str, Any] = {"flip_probability": 0.5, "scale_min": 0.8, "scale_max": 1.3, "contrast": 0.3}
    whole = _augment(images, _sizes(4), targets, **changes)[0]
    darker = images.clone()
    darker[1:] = 0
    assert torch.equal(_augment(darker, _sizes(4), targets, **changes)[0][0], whole[0])


def test_augmentation_has_no_device_to_host_synchronization() -> None:
    """Fake tensors on a fake GPU have no values: whatever would read one back to the host raises."""
    with FakeTensorMode():
        images = torch.empty(4, HEIGHT, WIDTH, 3, dtype=torch.uint8, device="cuda")
        sizes = torch.empty(4, 2, device="cuda")
        targets = _targets(4, (10, 10, 30, 40))
        moved = Targets(*(getattr(targets, part.name).to("cuda") for part in dataclasses.fields(targets)))
        changes: dict[str, Any] = {"flip_probability": 0.5, "scale_min": 0.8, "scale_max": 1.3, "brightness": 0.2}
        result, new_sizes, boxes = _augment(images, sizes, moved, **changes)
        for tensor in (result, new_sizes, boxes.boxes_xyxy, boxes.valid, boxes.ignore):
            assert tensor.device.type == "cuda"
