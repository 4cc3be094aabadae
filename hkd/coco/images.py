"""Images of a COCO document: their ids, names and sizes, and their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.records import Records
from hkd.coco.parsing.values import ABSENT, as_id, is_integer, is_pixel_count, is_size
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS, ImageFileError, ImageHeader, read_header
from hkd.image_files.listing import is_file

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
    text_id: str | None = None
    """The id in the file where the ids are texts that are no numbers; see :func:`numbers_of_text_ids`."""


def parse_images(values: list[object], problems: list[str]) -> list[ImageRecord]:
    """The images of the list ``images`` of a document that are well formed; mistakes are added to ``problems``."""
    records = Records(values, "images", problems, named_by=IMAGE_NAMES)
    return read_image_records(records, read_image_ids(records))


def read_image_ids(records: Records) -> list[object]:
    """The id of each image; notes those that are wrong or repeated, and an empty list.

    Where the ids are texts that are no numbers, they are those of :func:`numbers_of_text_ids`.
    """
    if not records.rows and not records.problems:
        records.problems.append('"images" must list at least one image, but is empty; list all images')
    numbers = numbers_of_text_ids(records)
    if numbers:
        ids: list[object] = [numbers[str(row["id"])] for row in records.rows]
    else:
        ids = records.ids("id", "an integer, or text in every image", "number the images")
    records.require_unique("id", ids, "merge or renumber the images")
    return ids


def numbers_of_text_ids(records: Records) -> dict[str, int]:
    """Numbers from 1 in the file's order for images whose ids are all texts, at least one of which is no number.

    Empty for all other images: their ids are integers.
    """
    ids = [row.get("id") for row in records.rows]
    texts = [value for value in ids if isinstance(value, str)]
    if len(texts) < len(ids) or all(is_integer(as_id(text)) for text in texts):
        return {}
    return {text: number for number, text in enumerate(dict.fromkeys(texts), start=1)}


def read_image_records(records: Records, ids: list[object], root: Path | None = None) -> list[ImageRecord]:
    """The well-formed images, with the fields needed to find their files and to clip boxes.

    Backslashes in file names are folder separators, as Windows writes them, unless ``root`` has a file of that very
    name.
    """
    names = [_with_slashes(_file_name(row), root) for row in records.rows]
    subject = '"file_name"'
    records.check(subject, names, _is_file_name, "text, the path of the image's file", _REMEDY)
    texts = [name if _is_file_name(name) else "." for name in names]
    requirement = 'relative to the image root, without ".."'
    records.check(subject, texts, _stays_in_root, requirement, "move the image into the image root, or remove it")
    requirement = "an integer of at least 1 (pixels)"
    heights, widths = (records.column(key, is_pixel_count, requirement, _REMEDY) for key in ("height", "width"))
    text_of = {number: text for text, number in numbers_of_text_ids(records).items()}
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
            number = int(id_)
            images.setdefault(number, ImageRecord(number, str(name), int(height), int(width), text_of.get(number)))
    return list(images.values())


def text_ids(images: Iterable[ImageRecord]) -> dict[int, str]:
    """The text of each id that is a text in the file."""
    return {image.image_id: image.text_id for image in images if image.text_id is not None}


def file_names(records: Records) -> list[str]:
    """The file name of each record, with slashes; empty where it states none."""
    names = (_with_slashes(_file_name(row)) for row in records.rows)
    return [name if isinstance(name, str) else "" for name in names]


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


def _with_slashes(name: object, root: Path | None = None) -> object:
    if not isinstance(name, str) or "\\" not in name:
        return name
    exists = root is not None and is_file(root / name)
    return name if exists else name.replace("\\", "/")


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def can_be_annotated(file_name: str) -> bool:
    """Whether annotations may name such a file: on Windows, ``a:b`` is a path on a drive."""
    return _is_file_name(file_name) and _stays_in_root(file_name)


def _stays_in_root(name: object) -> bool:
    windows = PureWindowsPath(str(name))
    leaves = PurePosixPath(str(name)).is_absolute() or bool(windows.drive or windows.root) or ".." in windows.parts
    return not leaves


def check_image_files(
    images: Iterable[ImageRecord], root: Path, problems: list[str], max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
) -> list[Note]:
    """Check that every image exists, opens and has the stated upright size; only headers are read.

    Returns:
        A note on the images that are stored rotated, if there are any: labelling tools that ignore EXIF would have
        their boxes elsewhere.
    """
    try:
        state = None if any(root.iterdir()) else "is empty"
    except OSError as error:
        state = f"cannot be listed ({error.strerror})"
    if state is not None:
        problems.append(
            f"the images' folder '{root}' {state}; put the images there, or set image_root (data.image_root)"
        )
        return []
    turned = []
    for image in images:
        where = f"image {image.image_id} '{root / image.file_name}'"
        try:
            header = read_header(root / image.file_name, max_megapixels)
        except FileNotFoundError:
            problems.append(f"{where}: there is no such file; add it, or remove it from the annotations")
        except ImageFileError as error:
            problems.append(f"{where} {error}, or remove it from the annotations")
        else:
            if (header.height, header.width) != (image.height, image.width):
                problems.append(f"{where} {_size_problem(image, header)}")
            elif header.orientation != 1:
                turned.append(f"'{image.file_name}' (orientation {header.orientation})")
    return turned_images_note(turned)


def turned_images_note(turned: Sequence[str]) -> list[Note]:
    """A note on the described images, if there are any."""
    return counted_note(
        "images_turned_upright",
        turned,
        "{count} images are stored rotated (EXIF orientation) and are read upright, as their boxes must be"
        " (first: {first})",
    )


def _size_problem(image: ImageRecord, header: ImageHeader) -> str:
    if header.stored_size == (image.width, image.height):
        return (
            f"has EXIF orientation {header.orientation}: upright it is {header.width} x {header.height} pixels (width x"
            f" height), but it is annotated as {image.width} x {image.height}, the size of its pixels as stored. If its"
            " boxes fit the stored pixels, remove the orientation from the file; if they fit the upright picture,"
            " correct the annotated size"
        )
    turned = "" if header.orientation == 1 else f", turned upright by its EXIF orientation {header.orientation}"
    return (
        f"is {header.width} x {header.height} pixels (width x height{turned}), but annotated as {image.width} x"
        f" {image.height}; boxes would be misplaced: correct the file or the annotation"
    )
