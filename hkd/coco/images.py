"""Images of a COCO document: their ids, names and sizes, and their files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from PIL import Image

from hkd.coco.parsing.records import Records
from hkd.coco.parsing.values import ABSENT, is_integer, is_pixel_count, is_size

IMAGE_NAMES = ("id", "file_name", "im_name")
"""Keys that name an image in messages."""
_REMEDY = "correct or remove the image"


@dataclass(frozen=True)
class ImageRecord:
    """One image, as annotated."""

    image_id: int
    file_name: str
    """Relative to the image root; never leaves it."""
    height: int
    """Pixels."""
    width: int


def parse_images(values: list[object], problems: list[str]) -> list[ImageRecord]:
    """The images of the list ``images`` of a document that are well formed; mistakes are added to ``problems``."""
    records = Records(values, "images", problems, named_by=IMAGE_NAMES)
    return read_image_records(records, read_image_ids(records))


def read_image_ids(records: Records) -> list[object]:
    """The id of each image; notes those that are wrong or repeated, and an empty list."""
    if not records.rows and not records.problems:
        records.problems.append('"images" must list at least one image, but is empty; list all images')
    ids = records.column("id", is_integer, "an integer", "number the images")
    records.require_unique("id", ids, "merge or renumber the images")
    return ids


def read_image_records(records: Records, ids: list[object]) -> list[ImageRecord]:
    """The well-formed images, with the fields needed to find their files and to clip boxes."""
    names = [_file_name(row) for row in records.rows]
    subject = '"file_name"'
    records.check(subject, names, _is_file_name, "text, the path of the image's file", _REMEDY)
    texts = [name if _is_file_name(name) else "." for name in names]
    requirement = 'relative to the image root, without ".."'
    records.check(subject, texts, _stays_in_root, requirement, "move the image into the image root, or remove it")
    requirement = "an integer of at least 1 (pixels)"
    heights, widths = (records.column(key, is_pixel_count, requirement, _REMEDY) for key in ("height", "width"))
    images: dict[int, ImageRecord] = {}
    for id_, name, height, width in zip(ids, names, heights, widths, strict=True):
        if (
            is_integer(id_)
            and _is_file_name(name)
            and _stays_in_root(name)
            and is_integer(height)
            and is_integer(width)
            and height >= 1
            and width >= 1
        ):
            images.setdefault(int(id_), ImageRecord(int(id_), str(name), int(height), int(width)))
    return list(images.values())


def image_names(records: Records) -> list[str]:
    """:func:`name_of_image` of each record's file name; empty where it states none."""
    return [name_of_image(name) if isinstance(name, str) else "" for name in map(_file_name, records.rows)]


def name_of_image(file_name: str) -> str:
    """A file name without folder and ending (``set06_V000_I00029``)."""
    return PurePosixPath(file_name.replace("\\", "/")).stem


def largest_image(records: Records) -> tuple[float, float] | None:
    """The largest width and the largest height that images state, pixels; None where none states both."""
    sizes = [(row.get("width"), row.get("height")) for row in records.rows]
    stated = [(float(w), float(h)) for w, h in sizes if is_size(w) and is_size(h)]
    return (max(w for w, _ in stated), max(h for _, h in stated)) if stated else None


def _file_name(row: dict[str, object]) -> object:
    # CityPersons' evaluation server writes im_name.
    return row.get("file_name", row.get("im_name", ABSENT))


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _stays_in_root(name: object) -> bool:
    windows = PureWindowsPath(str(name))
    leaves = PurePosixPath(str(name)).is_absolute() or bool(windows.drive or windows.root) or ".." in windows.parts
    return not leaves


def check_image_files(images: Iterable[ImageRecord], root: Path, problems: list[str]) -> None:
    """Check that every image exists, opens and has the stated size; only headers are read."""
    try:
        state = None if any(root.iterdir()) else "is empty"
    except OSError as error:
        state = f"cannot be listed ({error.strerror})"
    if state is not None:
        problems.append(
            f"the images' folder '{root}' {state}; put the images there, or set image_root (data.image_root)"
        )
        return
    for image in images:
        where = f"image {image.image_id} '{root / image.file_name}'"
        try:
            with Image.open(root / image.file_name) as opened:
                width, height = opened.size
        except FileNotFoundError:
            problems.append(f"{where}: there is no such file; add it, or remove it from the annotations")
        except Exception as error:  # noqa: BLE001 (a decoder may raise anything on a damaged file)
            problems.append(
                f"{where} does not open as an image ({error}); replace it, or remove it from the annotations"
            )
        else:
            if (height, width) != (image.height, image.width):
                problems.append(
                    f"{where} is {width} x {height} pixels (width x height), but annotated as"
                    f" {image.width} x {image.height}; boxes would be misplaced: correct the file or the annotation"
                )
