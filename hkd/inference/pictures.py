"""Image files given by a user: numbering them, and matching them to an annotation file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from hkd.coco.images import ImageRecord
from hkd.data.conversion.progress import track_progress
from hkd.image_files.headers import ImageFileError
from hkd.image_files.listing import image_files
from hkd.image_files.pixels import read_rgb
from hkd.text.escaping import LinesError


class PictureError(LinesError):
    """Image files cannot be read or results cannot be written; ``problems`` lists all reasons."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(*self.problems)


@dataclass(frozen=True)
class PictureFile:
    """An image file that a user names, or one in a folder that they name."""

    path: Path
    relative: Path
    """Its path in the folder, or its name: of its drawing below the folder of drawings."""


def picture_files(paths: Sequence[Path]) -> list[PictureFile]:
    """The image files among ``paths``, and in the folders among them, at any depth and sorted, such as video frames.

    Raises:
        PictureError: a folder has no image files.
    """
    files: list[PictureFile] = []
    problems = []
    for path in paths:
        if not path.is_dir():
            files.append(PictureFile(path, Path(path.name)))
            continue
        found = image_files(path).kept
        files += [PictureFile(file, file.relative_to(path)) for file in found]
        if not found:
            problems.append(f"{path}: the folder has no image files; name image files, or a folder with some")
    if problems:
        raise PictureError(problems)
    return files


def picture_records(
    images: Sequence[Path], max_megapixels: float, problems: list[str], *, progress: bool = False
) -> list[ImageRecord]:
    """Records of the readable images, numbered from 1 in the order given, with their upright sizes.

    Images are decoded, so that damaged ones are reported before anything is computed.

    Args:
        images: image files.
        max_megapixels: largest number of pixels of an image, in millions.
        problems: a message is appended for each image that cannot be read.
        progress: show a progress bar on stderr.
    """
    records = []
    for number, path in enumerate(track_progress(images, "Reading images", shown=progress), start=1):
        try:
            width, height = read_rgb(path, max_megapixels).size
        except FileNotFoundError:
            problems.append(f"{path}: no such file")
        except ImageFileError as error:
            problems.append(f"{path}: {error}")
        else:
            records.append(ImageRecord(number, str(path.resolve()), height, width))
    return records


def numbered_as(
    annotated: Sequence[ImageRecord],
    annotations: Path,
    images: Sequence[Path],
    records: Sequence[ImageRecord],
    problems: list[str],
) -> list[ImageRecord]:
    """``records`` with the image ids of an annotation file, matched by file name.

    If several images of the file have the same name, their parent folders must match as well.

    Args:
        annotated: the images of an annotation file.
        annotations: the file; for messages.
        images: all image files.
        records: records of the readable ones; ``image_id`` is the position in ``images``, from 1.
        problems: a message is appended for each file that matches no image or several, has another size than its
            image, or matches the same image as another file.
    """
    by_name: dict[str, list[ImageRecord]] = {}
    for image in annotated:
        by_name.setdefault(PurePosixPath(image.file_name).name, []).append(image)
    matched: dict[int, Path] = {}
    numbered = []
    for record in records:
        path = images[record.image_id - 1]
        candidates = by_name.get(path.name, [])
        if len(candidates) > 1:
            candidates = [image for image in candidates if _ends_with(path, image.file_name)]
        if len(candidates) != 1:
            number = "no image" if path.name not in by_name else "several images"
            problems.append(
                f"{path}: {annotations} has {number} of this file name; leave it out or use other --annotations"
            )
            continue
        (image,) = candidates
        if (image.height, image.width) != (record.height, record.width):
            problems.append(
                f"{path}: is {record.width} x {record.height} pixels (width x height, upright), but image "
                f"{image.image_id} of {annotations} is {image.width} x {image.height}; use the annotated file"
            )
        elif image.image_id in matched:
            problems.append(
                f"{path}: is image {image.image_id} of {annotations}, and so is {matched[image.image_id]}; give "
                "only one of them"
            )
        else:
            matched[image.image_id] = path
            numbered.append(replace(record, image_id=image.image_id, text_id=image.text_id))
    return numbered


def _ends_with(path: Path, file_name: str) -> bool:
    parts = PurePosixPath(file_name).parts
    return path.resolve().parts[-len(parts) :] == parts
