"""Sprites, the pen that draws them, and the canvas with an identity map."""

from __future__ import annotations

import colorsys
import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]
PixelBox = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are the first column and row outside."""

OPAQUE_FROM = 128
"""A pixel belongs to a sprite if its coverage (0..255) is at least this, i.e. half."""

_NOISE_ROWS, _NOISE_COLUMNS = 1024, 2048
_NOISE_SEED = 20190925
_OPAQUE_TABLE = [0] * OPAQUE_FROM + [255] * (256 - OPAQUE_FROM)


@functools.cache
def _noise_bank() -> NDArray[np.float32]:
    # Sampled once per process: white noise is the most expensive part of a scene, and windows of one bank suffice.
    return np.random.Generator(np.random.PCG64(_NOISE_SEED)).standard_normal(
        (_NOISE_ROWS, _NOISE_COLUMNS), dtype=np.float32
    )


def noise(rng: random.Random, height: int, width: int) -> NDArray[np.float32]:
    """White noise (height, width) of mean 0 and standard deviation 1: a random window of a fixed field."""
    bank = _noise_bank()
    if height > _NOISE_ROWS or width > _NOISE_COLUMNS:
        bank = np.tile(bank, (math.ceil(height / _NOISE_ROWS), math.ceil(width / _NOISE_COLUMNS)))
    row, column = rng.randint(0, bank.shape[0] - height), rng.randint(0, bank.shape[1] - width)
    return bank[row : row + height, column : column + width]


@functools.cache
def _scaling_table(percent: int) -> list[int]:
    return [round(level * percent / 100) for level in range(256)]


def smooth_noise(rng: random.Random, height: int, width: int, grain: int) -> NDArray[np.float32]:
    """Noise (height, width) whose blobs are about ``grain`` pixels wide."""
    coarse = noise(rng, max(2, math.ceil(height / grain)), max(2, math.ceil(width / grain)))
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(smooth)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Colour from hue, saturation and value in [0, 1] (hue wraps)."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return round(red * 255), round(green * 255), round(blue * 255)


def shade(colour: Colour, factor: float) -> Colour:
    """Multiply the brightness of a colour."""
    red, green, blue = (min(255, max(0, round(part * factor))) for part in colour)
    return red, green, blue


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Interpolate linearly: ``share`` 0 is ``first``, 1 is ``second``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


@dataclass(frozen=True)
class Sprite:
    """A drawn object, and its pixel that touches the ground."""

    image: Image.Image
    """RGBA."""
    foot_x: int
    foot_y: int
    """Column and row in ``image`` of the point that touches the ground."""

    def opaque_box(self) -> PixelBox | None:
        """Tight box of the pixels that belong to the sprite; ``None`` for an empty sprite."""
        return self.opacity().getbbox()

    def opacity(self) -> Image.Image:
        """Mask of the pixels that belong to the sprite: 255 or 0."""
        return self.image.getchannel("A").point(_OPAQUE_TABLE)


@dataclass(frozen=True)
class Footprint:
    """Position of a sprite in a picture, including parts outside the picture or occluded by later sprites."""

    box: PixelBox
    """Tight box of the sprite's pixels, in the picture's coordinates."""
    opacity: Image.Image
    """Mask (L, 255 or 0) of the sprite's pixels in ``box``."""

    def num_pixels(self, within: PixelBox) -> int:
        """Number of the sprite's pixels in a box of the picture."""
        left, top = self.box[:2]
        inside = self.opacity.crop((within[0] - left, within[1] - top, within[2] - left, within[3] - top))
        return int(np.count_nonzero(np.asarray(inside)))


class SpritePen:
    """Draws one sprite in metres or body heights: x to the right, y up, origin on the ground.

    Args:
        unit_px: pixels per unit.
        left, right, bottom, top: extent of the drawing area from the origin, in units.
    """

    def __init__(self, unit_px: float, *, left: float, right: float, bottom: float, top: float) -> None:
        # More samples per pixel for small objects, where aliased edges are a large part of the shape.
        paper_px = unit_px * (top + bottom)
        self._samples = 4 if paper_px < 90 else 2 if paper_px < 400 else 1
        self._left_px = math.ceil(left * unit_px) + 1
        self._top_px = math.ceil(top * unit_px) + 1
        width_px = self._left_px + math.ceil(right * unit_px) + 1
        height_px = self._top_px + math.ceil(bottom * unit_px) + 1
        self._scale = unit_px * self._samples
        self._image = Image.new("RGBA", (width_px * self._samples, height_px * self._samples))
        self._draw = ImageDraw.Draw(self._image)

    def _at(self, x: float, y: float) -> Point:
        return self._left_px * self._samples + x * self._scale, self._top_px * self._samples - y * self._scale

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Filled polygon."""
        self._draw.polygon([self._at(x, y) for x, y in points], fill=colour)

    def box(self, left: float, bottom: float, right: float, top: float, colour: Colour) -> None:
        """Filled upright rectangle."""
        self._draw.rectangle((*self._at(left, top), *self._at(right, bottom)), fill=colour)

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> None:
        """Filled upright ellipse about (x, y)."""
        self._draw.ellipse((*self._at(x - radius_x, y + radius_y), *self._at(x + radius_x, y - radius_y)), fill=colour)

    def limb(self, start: Point, end: Point, start_width: float, end_width: float, colour: Colour) -> None:
        """Tapered stroke with round ends."""
        (x1, y1), (x2, y2) = start, end
        length = math.hypot(x2 - x1, y2 - y1) or 1.0
        across_x, across_y = (y2 - y1) / length / 2, (x1 - x2) / length / 2
        self.polygon(
            [
                (x1 + across_x * start_width, y1 + across_y * start_width),
                (x2 + across_x * end_width, y2 + across_y * end_width),
                (x2 - across_x * end_width, y2 - across_y * end_width),
                (x1 - across_x * start_width, y1 - across_y * start_width),
            ],
            colour,
        )
        self.ellipse(x1, y1, start_width / 2, start_width / 2, colour)
        self.ellipse(x2, y2, end_width / 2, end_width / 2, colour)

    def sprite(self) -> Sprite:
        """The drawing, reduced to one sample per pixel."""
        image = self._image.reduce(self._samples) if self._samples > 1 else self._image
        drawn = image.getchannel("A").getbbox() or (0, 0, 1, 1)
        return Sprite(image.crop(drawn), self._left_px - drawn[0], self._top_px - drawn[1])


class Canvas:
    """A picture, and for each pixel the identity of the sprite painted last."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        """RGB."""
        self.identities = Image.new("L", picture.size)
        """One byte per pixel; 0 where there is no pedestrian."""

    def paste(self, sprite: Sprite, x: int, y: int, identity: int) -> Footprint | None:
        """Paint a sprite with its foot at (x, y); return its footprint, ``None`` for an empty sprite."""
        corner = x - sprite.foot_x, y - sprite.foot_y
        opacity = sprite.opacity()
        self.picture.paste(sprite.image, corner, sprite.image)
        self.identities.paste(identity, corner, opacity)
        box = opacity.getbbox()
        if box is None:
            return None
        placed = box[0] + corner[0], box[1] + corner[1], box[2] + corner[0], box[3] + corner[1]
        return Footprint(placed, opacity.crop(box))

    def darken(self, mask: Image.Image, x: int, y: int, strength: float) -> None:
        """Paint a shadow: black through ``mask`` (L) with its top left corner at (x, y), at a strength in [0, 1]."""
        self.picture.paste((0, 0, 0), (x, y), mask.point(_scaling_table(round(100 * strength))))

    def mean_colour(self, box: PixelBox) -> Colour | None:
        """Mean colour of the part of ``box`` inside the picture; ``None`` if there is none."""
        left, top = max(box[0], 0), max(box[1], 0)
        right, bottom = min(box[2], self.picture.width), min(box[3], self.picture.height)
        if left >= right or top >= bottom:
            return None
        pixel = self.picture.resize((1, 1), Image.Resampling.BOX, box=(left, top, right, bottom)).getpixel((0, 0))
        assert isinstance(pixel, tuple)
        return int(pixel[0]), int(pixel[1]), int(pixel[2])

    def num_visible(self, identity: int, within: PixelBox) -> int:
        """Number of visible pixels of ``identity`` in a box inside the picture."""
        return int(np.count_nonzero(np.asarray(self.identities.crop(within)) == identity))

    def visible_box(self, identity: int, within: PixelBox) -> PixelBox | None:
        """Tight box of the visible pixels of ``identity`` in ``within``; ``None`` if there are none.

        Args:
            within: Box inside the picture.
        """
        seen = np.asarray(self.identities)[within[1] : within[3], within[0] : within[2]] == identity
        columns = np.flatnonzero(seen.any(axis=0))
        rows = np.flatnonzero(seen.any(axis=1))
        if columns.size == 0:
            return None
        return (
            within[0] + int(columns[0]),
            within[1] + int(rows[0]),
            within[0] + int(columns[-1]) + 1,
            within[1] + int(rows[-1]) + 1,
        )
