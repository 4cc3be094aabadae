from __future__ import annotations

import numpy as np
import pytest

from hkd.proposal.input_size import MAX_PIXELS, measure_input_size, propose_input_size


def _proposed(images: list[tuple[int, int]], height: float) -> tuple[int, int, str]:
    """Height, width and limit for images (width, height), each with one person of this height."""
    images_wh = np.array(images, dtype=np.float64)
    size = propose_input_size(images_wh, np.full(len(images), height), images_wh)
    return size.height, size.width, size.limit


def test_large_people_need_a_small_input() -> None:
    # 48 of 240 pixels: a scale of 0.2 suffices, 96 x 128. 64 x 96 would be 64 / 480 = 0.133: 32 pixels.
    assert _proposed([(640, 480)], 240) == (96, 128, "people")


def test_small_people_need_the_size_of_the_images() -> None:
    # 48 / 50 = 0.96, and a scale above 0.9 is raised to 1.
    assert _proposed([(640, 480)], 50) == (480, 640, "images")
    # 48 / 52 = 0.923: 448 x 608 would suffice.
    assert _proposed([(640, 480)], 52) == (480, 640, "images")
    # Lower than 48 pixels in the image itself: not enlarged.
    assert _proposed([(640, 480)], 20) == (480, 640, "images")


def test_sides_that_are_no_multiples_of_32_are_rounded_to_the_next() -> None:
    # 736 * 16 / 9 = 1308 -> 1312. The limit is 2 ** 20 pixels, which 768 x 1365.3 has exactly: 1344 is the largest
    # multiple that fits.
    assert _proposed([(1920, 1080)], 20) == (768, 1344, "memory")
    # 48 of 72 pixels: 2 / 3 of 1080 are 720, so 736 of 768; 704 x 1248 is a scale of 0.65, 46.8 pixels.
    assert _proposed([(1920, 1080)], 72) == (736, 1312, "people")


def test_input_has_the_median_aspect_ratio() -> None:
    # Eight landscapes and three portraits: the 0.1 quantile of eleven people is that of a portrait. At 96 x 128 the
    # scale of a portrait is 96 / 640 = 0.15, 45 pixels; at 128 x 160 (171 rounded) it is 0.2, 60 pixels.
    assert _proposed([(640, 480)] * 8 + [(480, 640)] * 3, 300) == (128, 160, "people")


def test_one_of_ten_people_may_be_lower() -> None:
    images_wh = np.full((11, 2), (640.0, 480.0))
    heights = np.array([20.0, *[240.0] * 10])
    # The quantile of 0.1 of eleven values is the second lowest.
    size = propose_input_size(images_wh, heights, images_wh)
    assert (size.height, size.width) == (96, 128)
    assert size.low_height == pytest.approx(48)


@pytest.mark.parametrize("image", [(100_000, 100), (100, 100_000), (8, 8)])
def test_extreme_images_give_a_valid_size(image: tuple[int, int]) -> None:
    height, width, _ = _proposed([image], 4)
    assert height % 32 == width % 32 == 0
    assert height >= 64 <= width
    assert height * width <= MAX_PIXELS


def test_given_size_is_described() -> None:
    images_wh = np.array([(640.0, 480.0)])
    size = measure_input_size(256, 320, images_wh, np.array([100.0]), images_wh)
    # min(256 / 480, 320 / 640) = 0.5.
    assert (size.image_scale, size.low_height, size.limit) == (0.5, 50.0, "given")
