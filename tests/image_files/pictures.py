"""Pictures of the tests: one whose corners differ, and EXIF data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

ORIENTATION_TAG = 0x0112


def upright_pixels() -> npt.NDArray[np.uint8]:
    """(32, 48, 3): quadrants of different colours, of which no rotation or reflection gives the same picture."""
    pixels = np.zeros((32, 48, 3), dtype=np.uint8)
    pixels[:16, :24] = (250, 10, 10)
    pixels[:16, 24:] = (10, 250, 10)
    pixels[16:, :24] = (10, 10, 250)
    pixels[16:, 24:] = (240, 240, 240)
    return pixels


def stored_pixels(orientation: int) -> npt.NDArray[np.uint8]:
    """The pixels as a file of this EXIF orientation stores them.

    Exif 2.32, tag 0x0112: the 0th row is the visual (1) top, (2) top, (3) bottom, (4) bottom, (5) left, (6) right,
    (7) right, (8) left side; the 0th column is the visual (1) left, (2) right, (3) right, (4) left, (5) top, (6) top,
    (7) bottom, (8) bottom side.
    """
    first_row = ("top", "top", "bottom", "bottom", "left", "right", "right", "left")[orientation - 1]
    first_column = ("left", "right", "right", "left", "top", "top", "bottom", "bottom")[orientation - 1]
    pixels = upright_pixels()
    if "bottom" in (first_row, first_column):
        pixels = pixels[::-1]
    if "right" in (first_row, first_column):
        pixels = pixels[:, ::-1]
    return pixels if first_row in ("top", "bottom") else pixels.swapaxes(0, 1)


def exif_of(orientation: object) -> Image.Exif:
    """EXIF data that state an orientation."""
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return exif
