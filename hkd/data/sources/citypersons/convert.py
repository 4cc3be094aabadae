"""CityPersons (Zhang, Benenson, Schiele, CVPR 2017): its annotations and Cityscapes' image folders to COCO JSON.

For each split the first of these that exists is read: ``anno_{train,val}.mat`` of cvgroup-njust/CityPersons, the
evaluation server's ``val_gt.json``, the official release's ``gtBboxCityPersons/**/*_gtBboxCityPersons.json``. They have
the same content: images, ids and boxes of the results are equal. Pedestrians count; riders, sitting persons, other
persons, groups and ignore regions are ignored.
"""

from __future__ import annotations

from pathlib import Path

from hkd.coco.annotations import read_annotations
from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.conversion.finding.missing_images import leave_out_missing_images
from hkd.data.conversion.splits import Split, drop_unusable_boxes_of_all
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.data.sources.citypersons.layout import IMAGE_FOLDER, SplitFiles, find_annotations, find_images
from hkd.data.sources.citypersons.mat import read_mat_split
from hkd.data.sources.citypersons.official_json import FILE_ENDING, read_json_split
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS


def convert(
    root: Path,
    out: Path,
    *,
    annotations_only: bool = False,
    skip_missing: bool = False,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``train.json`` and ``val.json`` to ``out``, for the annotations that exist.

    The images stay where they are, in ``leftImg8bit/{train,val}/<city>``. Image ids start from 1 in each split, in the
    order of the annotations, so that they equal those of ``val_gt.json`` and of detections for it; they stay the same
    if some images are missing.

    Args:
        root: Folder of ``leftImg8bit`` and of the annotations, see :mod:`hkd.data.sources.citypersons.layout`.
        out: Output folder, created if missing.
        annotations_only: Do not check the images, which need not exist; sufficient for evaluation.
        skip_missing: Leave images out whose files do not exist.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every problem of the files.
    """
    root, out = Path(root), Path(out)
    problems: list[str] = []
    notes: list[Note] = []
    splits = []
    for name, files in find_annotations(root, problems).items():
        notes += hidden_files_note(files.hidden, name)
        try:
            splits.append(_read(name, files, problems, notes, progress))
        except AnnotationError as error:
            problems += error.located_problems
    if not splits and not problems:
        problems.append(
            "found no gtBboxCityPersons/{train,val}/CITY/*.json, anno_train.mat, anno_val.mat or val_gt.json; name the"
            " folder that holds them"
        )
    images = find_images(root, problems)
    if images is None and not annotations_only:
        problems.append(
            f"found no folder {IMAGE_FOLDER}; put Cityscapes' images there, or omit them (--annotations-only)"
        )
    if problems:
        raise AnnotationError(problems, str(root))
    image_root = images or root / IMAGE_FOLDER
    if not annotations_only:
        splits, left_out = leave_out_missing_images(splits, image_root, skip_missing, problems)
        notes += left_out
    splits, dropped = drop_unusable_boxes_of_all(splits)
    return write_splits(
        splits,
        out,
        image_root,
        check_images=not annotations_only,
        problems=problems,
        source=str(root),
        notes=[*notes, *dropped],
        max_megapixels=max_megapixels,
        show_progress=progress,
    )


def _read(name: str, files: SplitFiles, problems: list[str], notes: list[Note], progress: bool) -> Split:
    """The split from the preferred one of its annotations; a note names those that are not read."""
    descriptions = {
        "mat": str(files.mat),
        "server_json": str(files.server_json),
        "official_json": f"{len(files.official_json)} files *{FILE_ENDING}",
    }
    used, *others = [description for key, description in descriptions.items() if getattr(files, key)]
    if others:
        sentence = f"read {used}; not read, because one of them is enough: {', '.join(others)}"
        notes.append(Note("annotations_not_read", len(others), sentence, tuple(others), name))
    if files.mat is not None:
        return read_mat_split(files.mat, name, problems, progress=progress)
    if files.server_json is not None:
        return _read_server_json(files.server_json, name, problems)
    return read_json_split(list(files.official_json), name, problems, progress=progress)


def _read_server_json(path: Path, name: str, problems: list[str]) -> Split:
    """Read ``val_gt.json``, which has file names without folders, and ignore flags instead of classes."""
    read = read_annotations(path, check_images=False)
    images = []
    for image in read.images:
        city, separator, _ = image.file_name.partition("_")
        if not separator or "/" in image.file_name:
            problems.append(
                f"{path}: image '{image.file_name}' does not start with its city, as in 'lindau_000000_...'"
            )
        images.append(
            {
                "id": image.image_id,
                "file_name": f"{name}/{city}/{image.file_name}",
                "height": image.height,
                "width": image.width,
            }
        )
    return Split(name, images, read.coco_records())
