"""Contact sheets: pictures with boxes, of equal size, in a grid below a title and a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from hkd.image_files.headers import ImageFileError, read_header
from hkd.image_files.pixels import read_rgb

MARGIN: Final = 8
"""Pixels around each tile."""
HEADER_HEIGHT: Final = 40
"""Of the title, and of the legend if it is below."""
BACKGROUND: Final = "#101010"
TEXT: Final = "#f0f0f0"
# Tints of three colours of Okabe and Ito, distinguishable with any colour vision.
GREEN: Final = "#1fd6a1"
YELLOW: Final = "#f0e442"
ORANGE: Final = "#ff7f2a"


def read_scaled(
    path: Path, size: tuple[int, int], tile: tuple[int, int], max_megapixels: float
) -> tuple[Image.Image, float]:
    """A picture resized to fit a tile, and the factor.

    Args:
        path: Of the image file.
        size: Its annotated width and height, pixels.
        tile: Width and height of the tile, pixels.
        max_megapixels: Largest number of pixels of an image, in millions.

    Raises:
        OSError: it cannot be read.
        ImageFileError: it cannot be used as an image, or has another size.
    """
    scale = min(tile[0] / size[0], tile[1] / size[1])
    header = read_header(path, max_megapixels)
    if (header.width, header.height) != size:
        found = f"{header.width} x {header.height}"
        raise ImageFileError(f"is {found} pixels, not {size[0]} x {size[1]}; correct the annotation")
    scaled = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    whole = read_rgb(path, max_megapixels, reduced_to=scaled)
    return whole.resize(scaled, Image.Resampling.BILINEAR, reducing_gap=2.0), scale


def draw_box(
    draw: ImageDraw.ImageDraw,
    box_xywh: Sequence[float],
    scale: float,
    colour: str,
    tile: tuple[int, int],
    line: int = 2,
) -> None:
    """Draw a box of the image, with a dark outline that keeps it visible on any background."""
    # A box may extend far beyond its image, which would take long to draw.
    left, top = (max(-9.0, value * scale) for value in box_xywh[:2])
    right = min(tile[0] + 9.0, (box_xywh[0] + box_xywh[2]) * scale)
    bottom = min(tile[1] + 9.0, (box_xywh[1] + box_xywh[3]) * scale)
    if right >= left and bottom >= top:
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=BACKGROUND, width=line + 2)
        draw.rectangle((left, top, right, bottom), outline=colour, width=line)


def draw_label(
    draw: ImageDraw.ImageDraw, box_xywh: Sequence[float], scale: float, text: str, colour: str, width: int
) -> None:
    """Draw a text above a box, or at the edge of a picture of this width if the box is partly outside."""
    font = ImageFont.load_default(12)
    left = max(0.0, min(box_xywh[0] * scale, width - font.getlength(text) - 2))
    top = max(0.0, box_xywh[1] * scale - 14)
    draw.text((left, top), text, fill=colour, font=font, stroke_width=2, stroke_fill=BACKGROUND)


def captioned(picture: Image.Image, tile: tuple[int, int], captions: Sequence[str], height: int) -> Image.Image:
    """A picture centred in its tile, with a line of text below for each caption, ``height`` pixels in all."""
    sheet = Image.new("RGB", (tile[0], tile[1] + height), BACKGROUND)
    sheet.paste(picture, ((tile[0] - picture.width) // 2, (tile[1] - picture.height) // 2))
    draw = ImageDraw.Draw(sheet)
    for number, caption in enumerate(captions):
        draw.text((4, tile[1] + 3 + 18 * number), caption, fill=TEXT, font=ImageFont.load_default(15))
    return sheet


def drawable(text: str, longest: int) -> str:
    """The last ``longest`` characters of a text, with ``?`` for characters that cannot be drawn."""
    line = "".join(character if character.isprintable() else "?" for character in text)
    return line if len(line) <= longest else f"...{line[3 - longest :]}"


def arrange(
    tiles: Sequence[Image.Image], title: str, legend: Sequence[tuple[str, str]], columns: int | None = None
) -> Image.Image:
    """The sheet of all tiles, which have one size.

    Args:
        tiles: At least one.
        title: Above them.
        legend: Colours and what they mean.
        columns: Tiles in a row; None: about as many as rows.
    """
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    step_x, step_y = tiles[0].width + MARGIN, tiles[0].height + MARGIN
    font = ImageFont.load_default(18)
    legend_width = sum(30 + round(font.getlength(text)) + 20 for _, text in legend)
    is_narrow = columns * step_x < legend_width + font.getlength(title) + 4 * MARGIN
    header = HEADER_HEIGHT * (2 if is_narrow else 1)
    sheet = Image.new("RGB", (columns * step_x + MARGIN, header + rows * step_y), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 9), title, fill=TEXT, font=font)
    x = MARGIN if is_narrow else sheet.width - legend_width
    y = header - HEADER_HEIGHT
    for colour, text in legend:
        draw.rectangle((x, y + 10, x + 22, y + 28), outline=colour, width=3)
        draw.text((x + 30, y + 9), text, fill=TEXT, font=font)
        x += 30 + round(font.getlength(text)) + 20
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (MARGIN + number % columns * step_x, header + number // columns * step_y))
    return sheet
