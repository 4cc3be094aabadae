"""The INRIA Person data set to COCO JSON: its original distribution, or its photographs with annotations in our format.

The distribution is a folder with ``Train`` and ``Test``. In each, ``annotations/*.txt`` and ``pos`` have the
photographs with people, and ``neg`` has photographs without any, which have no annotation files. All files are PASCAL
v1.00 text (:mod:`hkd.data.conversion.file_formats.pascal_text`) and state that pixels count from (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hkd.bounded_files import read_bounded
from hkd.coco.annotations import read_annotations
from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.conversion.file_formats.pascal_text import PascalFile, read_pascal_text
from hkd.data.conversion.finding.missing_images import leave_out_missing_images
from hkd.data.conversion.finding.root_folder import nothing_found
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split, drop_unusable_boxes_of_all
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import ImageSizes, hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.data.sources.inria.validation import divide
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.image_files.listing import image_files, is_file, split_hidden

_FOLDERS = {"train": "Train", "test": "Test"}
LARGEST_LIST_BYTES = 1 << 20
"""Of a list of the distribution's files."""
_OWN_FILES = {name: f"{name}.json" for name in _FOLDERS}
_PATTERNS = ("Train/annotations/*.txt", "Test/annotations/*.txt", "train.json", "test.json")


@dataclass(frozen=True)
class _Official:
    """The official splits, as far as they exist."""

    splits: list[Split]
    image_root: Path
    notes: list[Note]


def convert(
    root: Path,
    out: Path,
    *,
    with_negatives: bool = False,
    skip_missing: bool = False,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``train.json``, ``validation.json`` and ``test.json`` to ``out``; the images stay where they are.

    Validation photographs are those of :mod:`hkd.data.sources.inria.validation`.

    Args:
        root: Folder that holds ``Train`` and ``Test``; or ``train.json`` and ``test.json``, annotations of the same
            photographs in our format, such as corrected ones.
        out: Output folder, created if missing.
        with_negatives: Also convert the photographs without people, in ``neg``, for training and test.
        skip_missing: Leave images out whose files do not exist.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show progress bars on stderr.

    Raises:
        AnnotationError: listing every malformed file, box and image.
    """
    root, out = Path(root), Path(out)
    problems: list[str] = []
    if any((root / folder / "annotations").is_dir() for folder in _FOLDERS.values()):
        official = _read_distribution(root, with_negatives, max_megapixels, progress, problems)
    elif any(is_file(root / name) for name in _OWN_FILES.values()):
        official = _read_own_format(root, out, with_negatives, problems)
    else:
        remedy = "name the folder that holds Train and Test"
        problem = nothing_found(root, "Train/annotations/*.txt or train.json", _PATTERNS, remedy)
        raise AnnotationError([problem], str(root))
    kept, missing_notes = leave_out_missing_images(official.splits, official.image_root, skip_missing, problems)
    splits, notes = [], [*official.notes, *missing_notes]
    for split in kept:
        if split.name == "train":
            stems = [PurePosixPath(image["file_name"]).stem for image in split.images]
            divided, division = divide(split, stems, problems)
            splits += divided
            notes += division
        else:
            splits.append(split)
    splits, dropped = drop_unusable_boxes_of_all(splits)
    return write_splits(
        *(splits, out, official.image_root),
        check_images=True,
        problems=problems,
        source=str(root),
        notes=[*notes, *dropped],
        max_megapixels=max_megapixels,
        show_progress=progress,
    )


def _read_distribution(
    root: Path, with_negatives: bool, max_megapixels: float, progress: bool, problems: list[str]
) -> _Official:
    """The official splits, with image ids from 1 over all of them."""
    splits: list[Split] = []
    notes: list[Note] = []
    sizes = ImageSizes(max_megapixels)
    next_id = 1
    for name, folder in _FOLDERS.items():
        files = split_hidden((root / folder / "annotations").glob("*.txt"), root)
        notes += hidden_files_note([path.relative_to(root).as_posix() for path in files.hidden], name)
        if not files.kept:
            sentence = f"left out, because there is no {folder}/annotations/*.txt"
            notes.append(Note("splits_missing", 1, sentence, split=name))
            continue
        split = Split(name, [], [])
        found_elsewhere: list[str] = []
        read: list[PascalFile] = []
        for path in track_progress(files.kept, f"Reading annotations of {name}", shown=progress):
            file = read_pascal_text(path, path.relative_to(root).as_posix(), problems)
            if file is not None:
                read.append(file)
                image_name = _image_name(root / folder / "pos", file.image_name, found_elsewhere)
                _add(split, next_id, f"{folder}/pos/{image_name}", file.width, file.height, file)
                next_id += 1
        notes += _file_notes(root, folder, name, read, found_elsewhere)
        notes += _missing_files_note(root, folder, name, problems)
        negatives = image_files(root / folder / "neg").kept
        for path in track_progress(negatives if with_negatives else (), f"Reading {folder}/neg", shown=progress):
            file_name = path.relative_to(root).as_posix()
            size = sizes.size(path, file_name, problems)
            if size is not None:
                _add(split, next_id, file_name, *size, None)
                next_id += 1
        if negatives and not with_negatives:
            sentence = f"left out {len(negatives):,} photographs without people in {folder}/neg; --negatives reads them"
            notes.append(Note("images_excluded", len(negatives), sentence, split=name))
        if split.images:
            splits.append(split)
    return _Official(splits, root, notes)


def _add(split: Split, image_id: int, file_name: str, width: int, height: int, file: PascalFile | None) -> None:
    split.images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
    split.annotations.extend({"image_id": image_id, "bbox": box.bbox} for box in (() if file is None else file.boxes))


def _image_name(folder: Path, stated: str, found_elsewhere: list[str]) -> str:
    """The stated image, or the only one of its name with another ending, as copies of the data set have."""
    if not is_file(folder / stated) and stated not in ("", ".", ".."):
        stem = PurePosixPath(stated).stem
        others = [path.name for ending in (".jpg", ".png", ".jpeg") if is_file(path := folder / f"{stem}{ending}")]
        if len(others) == 1:
            found_elsewhere.append(f"{stated} is {others[0]}")
            return others[0]
    return stated


def _file_notes(
    root: Path, folder: str, name: str, files: Sequence[PascalFile], found_elsewhere: Sequence[str]
) -> list[Note]:
    """Notes on how the files of a split were read, and on photographs without annotations."""
    annotated = {PurePosixPath(file.image_name).stem for file in files}
    others = [
        path.relative_to(root).as_posix()
        for path in image_files(root / folder / "pos").kept
        if path.stem not in annotated
    ]
    from_zero = sum(file.first_pixel == 0 for file in files)
    counted = counted_note(
        "images_excluded",
        others,
        f"left out {{count}} photographs of {folder}/pos that have no annotation file (first: {{first}}): whom they"
        " show is not known",
        name,
    )
    counted += counted_note(
        "images_found_elsewhere",
        found_elsewhere,
        "found {count} images with another ending than stated (first: {first})",
        name,
    )
    if from_zero:
        sentence = f"corners count from 0 in {from_zero} of {len(files)} files, as they state, and from 1 in the others"
        counted.append(Note("corners_interpreted", from_zero, sentence, split=name))
    return counted


def _missing_files_note(root: Path, folder: str, name: str, problems: list[str]) -> list[Note]:
    """A note on annotation files that the distribution's own list names and that do not exist."""
    path = root / folder / "annotations.lst"
    if not is_file(path):
        return []
    try:
        lines = read_bounded(path, LARGEST_LIST_BYTES).decode("latin-1").splitlines()
    except OSError as error:
        problems.append(f"{folder}/annotations.lst: cannot be read ({error.strerror})")
        return []
    names = [PurePosixPath(line.strip()).name for line in lines if line.strip()]
    return counted_note(
        "files_missing",
        [file for file in names if not is_file(root / folder / "annotations" / file)],
        f"{{count}} of the {len(names):,} files that {folder}/annotations.lst lists are missing, and their photographs"
        " left out (first: {first}); extract the archive again",
        name,
    )


def _read_own_format(root: Path, out: Path, with_negatives: bool, problems: list[str]) -> _Official:
    """The splits of ``train.json`` and ``test.json``; their image ids do not change."""
    splits: list[Split] = []
    notes: list[Note] = []
    roots: list[Path] = []
    if with_negatives:
        problems.append("--negatives reads Train/neg and Test/neg of the distribution; omit it for train.json")
    for name, file in _OWN_FILES.items():
        if not is_file(root / file):
            notes.append(Note("splits_missing", 1, f"left out, because there is no {file}", split=name))
            continue
        if (root / file).resolve() == (out / file).resolve():
            problems.append(f"{file} would be overwritten by the conversion; write to another folder (--out)")
        try:
            annotations = read_annotations(root / file, check_images=False)
        except AnnotationError as error:
            problems += [f"{file}: {problem}" for problem in error.problems]
            continue
        images: list[dict[str, Any]] = [
            {"id": image.image_id, "file_name": image.file_name, "height": image.height, "width": image.width}
            for image in annotations.images
        ]
        splits.append(Split(name, images, annotations.coco_records()))
        roots.append(annotations.image_root)
    if len({path.resolve() for path in roots}) > 1:
        problems.append(f"{' and '.join(_OWN_FILES.values())} name two folders of images (info.image_root); name one")
    return _Official(splits, roots[0] if roots else root, notes)
