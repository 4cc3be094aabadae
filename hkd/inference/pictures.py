"""Pictures that a user names: opened upright, numbered for COCO results, refused with all reasons at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from PIL import Image, ImageOps

from hkd.data.annotations import Annotations, ImageRecord

_ORIENTATION: Final = 0x0112
"""EXIF's tag: how a camera was held. 1 is upright."""


class PictureError(ValueError):
    """Pictures cannot be read, or what is found in them has no place; ``problems`` lists all of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def open_upright(path: Path) -> Image.Image:
    """A picture in RGB as a viewer shows it: turned as its EXIF orientation says.

    Raises:
        OSError: and whatever else a decoder raises on a damaged file.
    """
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened) if is_turned(opened) else opened
        return picture.convert("RGB")


def is_turned(picture: Image.Image) -> bool:
    """Whether the pixels as stored are not those that a viewer shows."""
    try:
        return picture.getexif().get(_ORIENTATION, 1) in range(2, 9)
    except Exception:  # noqa: BLE001 (a damaged note of how the camera was held leaves the pixels as good as before)
        return False


def picture_records(images: Sequence[Path], turned: Path, problems: list[str]) -> list[ImageRecord]:
    """Pictures numbered from 1 in the order given, with their upright sizes; those that do not open are left out.

    Args:
        images: Picture files.
        turned: A folder for upright copies of those whose pixels are not stored upright.
        problems: Gets a sentence for each picture that does not open.
    """
    records = []
    for number, path in enumerate(images, start=1):
        try:
            picture = open_upright(path)
            with Image.open(path) as opened:
                stored_upright = not is_turned(opened)
        except FileNotFoundError:
            problems.append(f"{path}: there is no such picture")
        except IsADirectoryError:
            problems.append(f"{path}: is a folder; name the pictures in it, such as {path}/*.jpg")
        except Exception as error:  # noqa: BLE001 (a decoder may raise anything on a damaged file)
            problems.append(f"{path}: does not open as a picture ({error})")
        else:
            source = path.resolve()
            if not stored_upright:
                source = turned / f"{number}.png"
                picture.save(source)
            records.append(ImageRecord(number, str(source), picture.height, picture.width))
    return records


def without_boxes(records: Sequence[ImageRecord]) -> Annotations:
    """Pictures as a data set of which nothing is known yet."""
    return Annotations(
        path=None,
        image_root=Path(),
        images=tuple(records),
        image_index=np.zeros(0, dtype=np.int64),
        boxes_xywh=np.zeros((0, 4)),
        vis_ratio=np.zeros(0),
        heights=np.zeros(0),
        ignore=np.zeros(0, dtype=np.bool_),
        records=(),
    )


def numbered_as(
    annotations: Annotations, images: Sequence[Path], records: Sequence[ImageRecord], problems: list[str]
) -> list[ImageRecord]:
    """The pictures' records with the image ids that a ground truth gives them, by file name.

    Where the ground truth has several images of one name, the folders before it decide.

    Args:
        annotations: The ground truth.
        images: All pictures.
        records: Those of them that open, by their number (from 1).
        problems: Gets a sentence for each picture that the ground truth does not know, knows twice, or knows in
            another size, where boxes would not lie on its people; and for pictures that are one image of it.
    """
    by_name: dict[str, list[ImageRecord]] = {}
    for image in annotations.images:
        by_name.setdefault(PurePosixPath(image.file_name).name, []).append(image)
    taken: dict[int, Path] = {}
    numbered = []
    for record in records:
        path = images[record.image_id - 1]
        candidates = by_name.get(path.name, [])
        if len(candidates) > 1:
            candidates = [image for image in candidates if _ends_with(path, image.file_name)]
        if len(candidates) != 1:
            reason = "names no image of that file name" if path.name not in by_name else "has several of that file name"
            problems.append(f"{path}: {annotations.path} {reason}; leave the picture out, or name another ground truth")
            continue
        (image,) = candidates
        if (image.height, image.width) != (record.height, record.width):
            problems.append(
                f"{path}: is {record.width} x {record.height} pixels upright (width x height), but {annotations.path} "
                f"has image {image.image_id} as {image.width} x {image.height}; take the picture that was annotated"
            )
        elif image.image_id in taken:
            problems.append(
                f"{path}: is image {image.image_id} of {annotations.path}, as {taken[image.image_id]} is; give one"
            )
        else:
            taken[image.image_id] = path
            numbered.append(replace(record, image_id=image.image_id))
    return numbered


def _ends_with(path: Path, file_name: str) -> bool:
    parts = PurePosixPath(file_name).parts
    return path.resolve().parts[-len(parts) :] == parts
