"""Checks of single values of a data set: boxes, numbers in text, sizes of images."""

from __future__ import annotations

from pathlib import Path

from PIL import ExifTags, Image

from hkd.coco.parsing.values import is_coordinates, shown


def box_at(value: object, where: str, problems: list[str]) -> list[float] | None:
    """Four finite numbers, at most 1e9 in size; else ``None``, and a sentence that starts with ``where``."""
    if not is_coordinates(value):
        problems.append(f"{where} is {shown(value)}; it must be four finite numbers, none beyond 1e9")
        return None
    return list(map(float, value))


def decimal(text: str) -> float:
    """Parse a number in ASCII digits.

    Raises:
        ValueError: the text is not a number; unlike ``float()``, also for ``1_0`` and digits of other scripts.
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def upright_size(path: Path, where: str, problems: list[str]) -> tuple[int, int] | None:
    """Width and height of an image; ``None``, with an entry in ``problems``, if it cannot be used.

    An image with an EXIF rotation is rejected: it is unknown whether its boxes refer to the rotated image.
    """
    try:
        with Image.open(path) as image:
            size, orientation = image.size, image.getexif().get(ExifTags.Base.Orientation, 1)
    except FileNotFoundError:
        problems.append(f"{where}: found no image '{path}'; add it")
    except Exception as error:  # noqa: BLE001 (a decoder may raise anything on a damaged file)
        problems.append(f"{where}: '{path}' does not open as an image ({error}); replace it")
    else:
        if orientation == 1:
            return size
        problems.append(
            f"{where}: '{path}' is stored rotated (EXIF orientation {orientation}); store it upright, and see that its"
            " boxes fit"
        )
    return None
