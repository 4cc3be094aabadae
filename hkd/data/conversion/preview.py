"""A contact sheet of a data set: some of its images with their boxes.

It shows mistakes of a conversion that no check of numbers finds: swapped coordinates, shifted frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from hkd.coco.annotations import Annotations
from hkd.coco.images import ImageRecord
from hkd.coco.parsing.errors import AnnotationError
from hkd.files import replace_atomically
from hkd.image_files.contact_sheet import (
    GREEN,
    ORANGE,
    YELLOW,
    arrange,
    captioned,
    draw_box,
    draw_label,
    drawable,
    read_scaled,
)
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS, ImageFileError

_TILE = 640, 480
_CAPTION_HEIGHT = 24
_FULL_BODY, _VISIBLE_PART, _IGNORED = GREEN, YELLOW, ORANGE
_LEGEND = ((_FULL_BODY, "full body"), (_VISIBLE_PART, "visible part, where less"), (_IGNORED, "ignored"))


def draw_preview(
    annotations: Annotations, path: Path, count: int, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
) -> None:
    """Write a PNG of up to ``count`` images with their boxes as annotated, their labels, and visibilities below 1.

    Images are spread evenly over the data set: first those with boxes that count, then those with any boxes.

    Args:
        annotations: Annotations; their images must exist.
        path: PNG file; its folder is created if missing.
        count: At least 1.
        max_megapixels: Largest number of pixels of an image, in millions.

    Raises:
        AnnotationError: listing the chosen images that do not open.
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"a preview of {count} images was requested; allowed: at least 1")
    records: dict[int, list[dict[str, Any]]] = {}
    for record in annotations.coco_records():
        records.setdefault(record["image_id"], []).append(record)
    chosen = [annotations.images[index] for index in choose_images(annotations, count)]
    tiles = []
    problems: list[str] = []
    for image in chosen:
        tile = _draw_tile(image, records.get(image.image_id, []), annotations.image_root, max_megapixels, problems)
        if tile is not None:
            tiles.append(tile)
    if problems:
        raise AnnotationError(problems, str(annotations.path))
    name = "" if annotations.path is None else annotations.path.name
    counts = f"{len(chosen)} of {len(annotations.images)} images, {len(annotations.ignore)} boxes in all"
    sheet = arrange(tiles, f"{name}  {counts}".strip(), _LEGEND)
    with replace_atomically(path) as partial:
        sheet.save(partial, format="PNG")


def choose_images(annotations: Annotations, count: int) -> list[int]:
    """Indices of up to ``count`` images, ascending: first with boxes that count, then with any boxes, then others.

    Images of each of the three groups are evenly spaced.
    """
    num_images = len(annotations.images)
    has_people = np.zeros(num_images, dtype=bool)
    has_people[annotations.image_index[~annotations.ignore]] = True
    has_boxes = np.zeros(num_images, dtype=bool)
    has_boxes[annotations.image_index] = True
    chosen: list[int] = []
    for group in (has_people, has_boxes & ~has_people, ~has_boxes):
        members = np.flatnonzero(group)
        wanted = min(count - len(chosen), len(members))
        # The middle of each of `wanted` intervals of equal length.
        chosen += [int(members[(2 * step + 1) * len(members) // (2 * wanted)]) for step in range(wanted)]
    return sorted(chosen)


def _draw_tile(
    image: ImageRecord, records: Sequence[dict[str, Any]], root: Path, max_megapixels: float, problems: list[str]
) -> Image.Image | None:
    size = image.width, image.height
    try:
        picture, scale = read_scaled(root / image.file_name, size, _TILE, max_megapixels)
    except (OSError, ImageFileError) as error:
        problems.append(f"image {image.image_id} '{root / image.file_name}' cannot be drawn: it {error}")
        return None
    draw = ImageDraw.Draw(picture)
    # Boxes that count are drawn over ignored ones, and text over all boxes.
    ordered = sorted(records, key=lambda record: -record["ignore"])
    for record in ordered:
        visible = record.get("vis_bbox")
        if visible is not None and min(visible[2:]) > 0 and visible != record["bbox"]:
            draw_box(draw, visible, scale, _VISIBLE_PART, _TILE)
        draw_box(draw, record["bbox"], scale, _IGNORED if record["ignore"] else _FULL_BODY, _TILE)
    for record in ordered:
        parts = [drawable(record["label"], 40)] if "label" in record else []
        if record["vis_ratio"] < 1:
            parts.append(f"{record['vis_ratio']:.2f}")
        if parts:
            colour = _IGNORED if record["ignore"] else _FULL_BODY
            draw_label(draw, record["bbox"], scale, " ".join(parts), colour, picture.width)
    ignored = sum(record["ignore"] for record in records)
    caption = f"{image.image_id}: {drawable(image.file_name, 60)}  boxes: {len(records)}, ignored: {ignored}"
    return captioned(picture, _TILE, [caption], _CAPTION_HEIGHT)
