"""The contact sheet: which images it shows, and that boxes are drawn where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from hkd.coco.annotations import Annotations, parse_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.writing import annotation_document
from hkd.data.conversion import preview
from hkd.data.conversion.preview import choose_images, draw_preview
from hkd.image_files import contact_sheet


def _annotations(root: Path, boxes: dict[int, list[dict[str, Any]]], size: tuple[int, int] = (320, 240)) -> Annotations:
    """One grey image per key, with these annotations."""
    width, height = size
    images = []
    for image_id in boxes:
        Image.new("RGB", size, "#808080").save(root / f"{image_id}.png")
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": height, "width": width})
    records = [{"image_id": image_id, **box} for image_id, of_image in boxes.items() for box in of_image]
    return parse_annotations(annotation_document(images, records, "."), root / "street.json")


def _colour_at(sheet: Path, x: int, y: int) -> str:
    """Colour of a pixel of the first tile, whose picture starts below the header and right of the margin."""
    with Image.open(sheet) as opened:
        pixel = opened.getpixel((contact_sheet.MARGIN + x, contact_sheet.HEADER_HEIGHT * 2 + y))
    assert isinstance(pixel, tuple)
    return "#{:02x}{:02x}{:02x}".format(*pixel)


def test_boxes_are_drawn_in_place_and_colour(tmp_path: Path) -> None:
    boxes: list[dict[str, Any]] = [
        {"bbox": [100, 50, 40, 100], "vis_bbox": [100, 50, 40, 60]},
        {"bbox": [200, 20, 50, 30], "ignore": 1, "label": "people"},
        {"bbox": [20, 60, 30, 90], "vis_bbox": [0, 0, 0, 0], "vis_ratio": 1},
    ]
    sheet = tmp_path / "new" / "preview.png"
    draw_preview(_annotations(tmp_path, {1: boxes}), sheet, 5)
    # The image fills its tile of 640 x 480 at scale 2, and the header of so narrow a sheet has two rows.
    assert _colour_at(sheet, 200, 220) == preview._FULL_BODY  # left edge, in the middle of its height
    assert _colour_at(sheet, 240, 300) == preview._FULL_BODY  # lower edge of the body, y = 150
    assert _colour_at(sheet, 240, 220) == preview._VISIBLE_PART  # lower edge of the visible part, y = 110
    assert _colour_at(sheet, 400, 70) == preview._IGNORED
    assert _colour_at(sheet, 40, 200) == preview._FULL_BODY
    assert _colour_at(sheet, 240, 260) == "#808080"  # inside a box nothing is drawn
    assert _colour_at(sheet, 1, 1) == "#808080"  # an empty visible box is none


@pytest.mark.parametrize(
    ("box", "region_xyxy"),
    [
        ({"bbox": [100, 50, 40, 100], "label": "rider"}, (200, 86, 230, 98)),
        ({"bbox": [100, 50, 40, 100], "vis_ratio": 0.5}, (200, 86, 226, 98)),
        ({"bbox": [100, -20, 40, 100], "label": "rider"}, (200, 0, 230, 14)),  # starts above the picture
        ({"bbox": [315, 50, 40, 100], "label": "rider"}, (612, 86, 638, 98)),  # would not fit on its right
    ],
)
def test_label_and_visibility_are_drawn_above_box(
    tmp_path: Path, box: dict[str, Any], region_xyxy: tuple[int, int, int, int]
) -> None:
    sheets = []
    for name, record in (("with", box), ("without", {"bbox": box["bbox"]})):
        sheets.append(tmp_path / f"{name}.png")
        draw_preview(_annotations(tmp_path, {1: [record]}), sheets[-1], 1)
    pixels = [np.asarray(Image.open(sheet), dtype=int) for sheet in sheets]
    changed = np.argwhere((pixels[0] != pixels[1]).any(axis=2)) - [
        contact_sheet.HEADER_HEIGHT * 2,
        contact_sheet.MARGIN,
    ]
    left, top, right, bottom = region_xyxy
    # Outlines of the text extend two pixels around it; the text itself must be inside the picture.
    assert (changed.min(axis=0) >= [top - 3, left - 3]).all()
    assert (changed.max(axis=0) <= [bottom + 3, right + 3]).all()
    assert np.ptp(changed, axis=0)[1] >= 20  # complete


def test_box_far_outside_image_is_clipped(tmp_path: Path) -> None:
    sheet = tmp_path / "preview.png"
    draw_preview(_annotations(tmp_path, {1: [{"bbox": [100, -4e8, 8e8, 8e8]}]}), sheet, 1)
    assert _colour_at(sheet, 200, 220) == preview._FULL_BODY
    assert _colour_at(sheet, 100, 220) == "#808080"


def test_colours_differ() -> None:
    colours = [preview._FULL_BODY, preview._VISIBLE_PART, preview._IGNORED, contact_sheet.BACKGROUND]
    rgb = np.array([ImageColor.getrgb(colour) for colour in colours], dtype=int)
    assert min(np.abs(rgb[i] - rgb[j]).max() for i in range(4) for j in range(i)) > 64


def test_images_with_people_are_chosen_first_and_evenly(tmp_path: Path) -> None:
    person: dict[str, Any] = {"bbox": [1, 1, 9, 9]}
    crowd = person | {"iscrowd": 1}
    content: list[list[dict[str, Any]]] = [
        [person] if n % 2 else [] for n in range(8)
    ]  # people at positions 1, 3, 5, 7
    content[4] = [crowd]
    annotations = _annotations(tmp_path, dict(enumerate(content, 1)))
    # Of two halves of the four with people, the second of each: positions 3 and 7.
    assert choose_images(annotations, 2) == [3, 7]
    assert choose_images(annotations, 4) == [1, 3, 5, 7]
    assert choose_images(annotations, 5) == [1, 3, 4, 5, 7]  # then images with any boxes
    assert choose_images(annotations, 6) == [1, 2, 3, 4, 5, 7]  # then, of 0, 2 and 6, the middle
    assert choose_images(annotations, 99) == list(range(8))


def test_sheet_has_a_tile_for_each_image(tmp_path: Path) -> None:
    annotations = _annotations(tmp_path, {n: [] for n in range(1, 6)})
    draw_preview(annotations, tmp_path / "preview.png", 5)
    with Image.open(tmp_path / "preview.png") as sheet:
        # Five tiles in three columns (of 640 + 8 pixels, and a margin) and two rows (480 + 24 + 8, and the header).
        assert sheet.size == (3 * 648 + 8, 40 + 2 * 512)


def test_unreadable_images_are_reported_together_and_keep_old_sheet(tmp_path: Path) -> None:
    annotations = _annotations(tmp_path, {1: [], 2: [], 3: []})
    (tmp_path / "1.png").unlink()
    Image.new("RGB", (9, 9)).save(tmp_path / "3.png")
    sheet = tmp_path / "preview.png"
    sheet.write_text("old")
    with pytest.raises(AnnotationError) as caught:
        draw_preview(annotations, sheet, 3)
    missing, other_size = caught.value.problems
    assert missing.startswith(f"image 1 '{tmp_path / '1.png'}' cannot be drawn")
    assert "9 x 9 pixels, not 320 x 240" in other_size
    assert sheet.read_text() == "old"


@pytest.mark.parametrize("label", ["\ud800", "a\nb", "\0", "歩行者", "a" * 100_000])
def test_any_label_can_be_drawn(tmp_path: Path, label: str) -> None:
    annotations = _annotations(tmp_path, {1: [{"bbox": [100, 50, 40, 100], "label": label}]})
    sheet = tmp_path / "preview.png"
    draw_preview(annotations, sheet, 1)
    assert _colour_at(sheet, 200, 220) == preview._FULL_BODY


def test_long_names_are_truncated_at_start() -> None:
    assert contact_sheet.drawable("abcdefgh", 8) == "abcdefgh"
    assert contact_sheet.drawable("abcdefghi", 8) == "...efghi"


def test_preview_of_zero_images_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a preview of 0 images was requested"):
        draw_preview(_annotations(tmp_path, {1: []}), tmp_path / "preview.png", 0)
