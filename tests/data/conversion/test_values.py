from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from hkd.coco.parsing.values import shown
from hkd.data.conversion.values import ImageSizes, box_at


@pytest.mark.parametrize(
    "value", [None, [1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, float("nan")], [1, 2, 3, -float("inf")], [1, 2, 3, 1.1e9]]
)
def test_invalid_box_is_reported(value: object) -> None:
    problems: list[str] = []
    assert box_at(value, "line 3: fbox", problems) is None
    assert problems == [f"line 3: fbox is {shown(value)}; it must be four finite numbers, none beyond 1e9"]


def test_sizes_are_those_of_upright_images(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 30))
    image.save(tmp_path / "upright.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    image.save(tmp_path / "turned.jpg", exif=exif)
    problems: list[str] = []
    sizes = ImageSizes()
    assert sizes.size(tmp_path / "upright.jpg", "line 1", problems) == (40, 30)
    assert sizes.notes() == []
    assert sizes.size(tmp_path / "turned.jpg", "line 2", problems) == (30, 40)
    (note,) = sizes.notes()
    assert (note.kind, note.count, note.examples) == ("images_turned_upright", 1, ("'turned.jpg' (orientation 6)",))
    assert problems == []


@pytest.mark.parametrize(
    ("name", "words"), [("damaged.jpg", "does not open as an image"), ("none.jpg", "found no image")]
)
def test_unusable_images_are_reported(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "damaged.jpg").write_bytes(b"no image")
    problems: list[str] = []
    assert ImageSizes().size(tmp_path / name, "line 1", problems) is None
    (problem,) = problems
    assert problem.startswith("line 1: ")
    assert words in problem
