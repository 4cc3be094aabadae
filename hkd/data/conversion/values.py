"""Checks of single values of a data set: boxes, numbers in text, sizes of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hkd.coco.images import turned_images_note
from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.values import is_coordinates, shown
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS, ImageFileError, read_header


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


class ImageSizes:
    """Upright sizes of image files, read for data sets whose annotations do not state them.

    Args:
        max_megapixels: largest number of pixels of an image, in millions.
    """

    def __init__(self, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS) -> None:
        self._max_megapixels = max_megapixels
        self._turned: list[str] = []

    def size(self, path: Path, where: str, problems: list[str]) -> tuple[int, int] | None:
        """Width and height of the upright image; None, with an entry in ``problems``, if it cannot be used."""
        try:
            header = read_header(path, self._max_megapixels)
        except FileNotFoundError:
            problems.append(f"{where}: found no image '{path}'; add it")
        except ImageFileError as error:
            problems.append(f"{where}: '{path}' {error}")
        else:
            if header.orientation != 1:
                self._turned.append(f"'{path.name}' (orientation {header.orientation})")
            return header.width, header.height
        return None

    def notes(self) -> list[Note]:
        """A note on the images that are stored rotated, if there were any."""
        return turned_images_note(self._turned)


def hidden_files_note(hidden: Sequence[str], split: str | None = None) -> list[Note]:
    """A note on the files that were left out because they are hidden, if there are any."""
    return counted_note("files_hidden", hidden, "left out {count} hidden files and backups (first: {first})", split)
