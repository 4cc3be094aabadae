from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from hkd.coco.parsing.values import shown
from hkd.data.conversion.values import box_at, upright_size


@pytest.mark.parametrize(
    "value", [None, [1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, float("nan")], [1, 2, 3, -float("inf")], [1, 2, 3, 1.1e9]]
)
def test_invalid_box_is_reported(value: object) -> None:
    problems: list[str] = []
    assert box_at(value, "line 3: fbox", problems) is None
    assert problems == [f"line 3: fbox is {shown(value)}; it must be four finite numbers, none beyond 1e9"]


def test_rotated_and_damaged_images_are_reported(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 30))
    image.save(tmp_path / "upright.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    image.save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "damaged.jpg").write_bytes(b"no image")
    problems: list[str] = []
    assert upright_size(tmp_path / "upright.jpg", "line 1", problems) == (40, 30)
    assert problems == []
    for name, words in (
        ("turned.jpg", "is stored rotated (EXIF orientation 6)"),
        ("damaged.jpg", "does not open as an image"),
        ("none.jpg", "found no image"),
    ):
        assert upright_size(tmp_path / name, "line 1", problems) is None
        assert problems[-1].startswith("line 1: ")
        assert words in problems[-1]
