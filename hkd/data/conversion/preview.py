"""A contact sheet of a data set: some of its images with their boxes.

It shows mistakes of a conversion that no check of numbers finds: swapped coordinates, shifted frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hkd.coco.annotations import Annotations
from hkd.coco.images import ImageRecord
from hkd.coco.parsing.errors import AnnotationError
from hkd.files import replace_atomically
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS, ImageFileError, read_header
from hkd.image_files.pixels import read_rgb

_TILE_WIDTH, _TILE_HEIGHT = 640, 480
_MARGIN = 8
_CAPTION_HEIGHT = 24
_HEADER_HEIGHT = 40
_BACKGROUND, _TEXT = "#101010", "#f0f0f0"
# Tints of three colours of Okabe and Ito, distinguishable with any colour vision.
_FULL_BODY, _VISIBLE_PART, _IGNORED = "#1fd6a1", "#f0e442", "#ff7f2a"
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
    sheet = _arrange(tiles, f"{name}  {counts}".strip())
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
    scale = min(_TILE_WIDTH / image.width, _TILE_HEIGHT / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    try:
        header = read_header(root / image.file_name, max_megapixels)
        if (header.width, header.height) != (image.width, image.height):
            found = f"{header.width} x {header.height}"
            raise ImageFileError(f"is {found} pixels, not {image.width} x {image.height}; correct the annotation")
        whole = read_rgb(root / image.file_name, max_megapixels, reduced_to=size)
    except (OSError, ImageFileError) as error:
        problems.append(f"image {image.image_id} '{root / image.file_name}' cannot be drawn: it {error}")
        return None
    picture = whole.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    draw = ImageDraw.Draw(picture)
    # Boxes that count are drawn over ignored ones, and text over all boxes.
    ordered = sorted(records, key=lambda record: -record["ignore"])
    for record in ordered:
        visible = record.get("vis_bbox")
        if visible is not None and min(visible[2:]) > 0 and visible != record["bbox"]:
            _draw_box(draw, visible, scale, _VISIBLE_PART)
        _draw_box(draw, record["bbox"], scale, _IGNORED if record["ignore"] else _FULL_BODY)
    for record in ordered:
        _draw_text(draw, record, scale, size[0])
    tile = Image.new("RGB", (_TILE_WIDTH, _TILE_HEIGHT + _CAPTION_HEIGHT), _BACKGROUND)
    tile.paste(picture, ((_TILE_WIDTH - size[0]) // 2, (_TILE_HEIGHT - size[1]) // 2))
    ignored = sum(record["ignore"] for record in records)
    caption = f"{image.image_id}: {_drawable(image.file_name, 60)}  boxes: {len(records)}, ignored: {ignored}"
    ImageDraw.Draw(tile).text((4, _TILE_HEIGHT + 3), caption, fill=_TEXT, font=ImageFont.load_default(15))
    return tile


def _drawable(text: str, longest: int) -> str:
    """The last ``longest`` characters of a text, with ``?`` for characters that cannot be drawn."""
    line = "".join(character if character.isprintable() else "?" for character in text)
    return line if len(line) <= longest else f"...{line[3 - longest :]}"


def _draw_text(draw: ImageDraw.ImageDraw, record: dict[str, Any], scale: float, width: int) -> None:
    """Draw label and visibility above a box, or at the edge of the picture if the box is partly outside."""
    parts = [_drawable(record["label"], 40)] if "label" in record else []
    if record["vis_ratio"] < 1:
        parts.append(f"{record['vis_ratio']:.2f}")
    if parts:
        text, font = " ".join(parts), ImageFont.load_default(12)
        left = max(0.0, min(record["bbox"][0] * scale, width - font.getlength(text) - 2))
        top = max(0.0, record["bbox"][1] * scale - 14)
        colour = _IGNORED if record["ignore"] else _FULL_BODY
        draw.text((left, top), text, fill=colour, font=font, stroke_width=2, stroke_fill=_BACKGROUND)


def _draw_box(draw: ImageDraw.ImageDraw, box_xywh: Sequence[float], scale: float, colour: str) -> None:
    # A box may extend far beyond its image, which would take long to draw.
    left, top = (max(-9.0, value * scale) for value in box_xywh[:2])
    right = min(_TILE_WIDTH + 9.0, (box_xywh[0] + box_xywh[2]) * scale)
    bottom = min(_TILE_HEIGHT + 9.0, (box_xywh[1] + box_xywh[3]) * scale)
    if right >= left and bottom >= top:
        # A dark outline keeps the box visible on any background.
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_BACKGROUND, width=4)
        draw.rectangle((left, top, right, bottom), outline=colour, width=2)


def _arrange(tiles: Sequence[Image.Image], title: str) -> Image.Image:
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    step_x, step_y = _TILE_WIDTH + _MARGIN, _TILE_HEIGHT + _CAPTION_HEIGHT + _MARGIN
    font = ImageFont.load_default(18)
    legend_width = sum(30 + round(font.getlength(text)) + 20 for _, text in _LEGEND)
    is_narrow = columns * step_x < legend_width + font.getlength(title) + 4 * _MARGIN
    header = _HEADER_HEIGHT * (2 if is_narrow else 1)
    sheet = Image.new("RGB", (columns * step_x + _MARGIN, header + rows * step_y), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 9), title, fill=_TEXT, font=font)
    x = _MARGIN if is_narrow else sheet.width - legend_width
    y = header - _HEADER_HEIGHT
    for colour, text in _LEGEND:
        draw.rectangle((x, y + 10, x + 22, y + 28), outline=colour, width=3)
        draw.text((x + 30, y + 9), text, fill=_TEXT, font=font)
        x += 30 + round(font.getlength(text)) + 20
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (_MARGIN + number % columns * step_x, header + number // columns * step_y))
    return sheet
