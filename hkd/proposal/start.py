"""``hkd init``: read annotations, find their images, propose settings and write a folder to start from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from hkd.coco.annotations import Annotations, parse_annotations, read_annotations
from hkd.coco.boxes import BoolArray
from hkd.coco.images import check_image_files
from hkd.coco.parsing.errors import AnnotationError, collected_problems
from hkd.coco.writing import annotation_document
from hkd.config import TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.config_files.yaml_format import parse_yaml
from hkd.data.conversion.writing import path_between
from hkd.files import write_all_atomically
from hkd.proposal.config_text import STUDY_CONFIG, TRAIN_CONFIG, study_config_text, train_config_text
from hkd.proposal.image_search import ImageSearch, search_images
from hkd.proposal.settings import Proposal, propose
from hkd.proposal.split import plan_split
from hkd.proposal.survey import people_in_images

TRAIN_ANNOTATIONS = "train.json"
VALIDATION_ANNOTATIONS = "validation.json"
_NAMED = 3


@dataclass(frozen=True)
class Start:
    """What was read, and what a first training and study are started from."""

    proposal: Proposal
    image_root: Path
    split_rule: str
    notes: tuple[str, ...]
    """Everything that was left out or changed, one sentence each."""
    contents: dict[Path, str]
    """The files of the folder, not written yet."""
    study_name: str


@dataclass(frozen=True)
class _Source:
    """One annotation file whose images were searched."""

    annotations: Annotations
    search: ImageSearch


def prepare_start(
    annotations: Path,
    out: Path,
    *,
    validation: Path | None = None,
    image_root: Path | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    input_size: tuple[int, int] | None = None,
    skip_missing: bool = False,
) -> Start:
    """Read everything and compute the contents of ``out``, without writing.

    Args:
        annotations: COCO-style JSON of the training images, or of all images.
        out: folder of the files to write, as it is to be named in them.
        validation: COCO-style JSON of the validation images; None: some of the images are chosen.
        image_root: folder in or below which the images are; None: as stated in the annotation files.
        validation_fraction: fraction of the images to choose for validation.
        seed: of that choice.
        input_size: height and width of the network's input, multiples of 32; None: proposed.
        skip_missing: leave out images that are not there, with their boxes.

    Raises:
        AnnotationError: listing everything that is wrong with the files and images.
    """
    paths = [annotations] if validation is None else [annotations, validation]
    with collected_problems() as collect:
        read = [collect(partial(read_annotations, path, image_root, check_images=False)) for path in paths]
    sets = [part for part in read if part is not None]
    root = image_root or _common_root(sets)
    if image_root is None:
        sets = [_named_from(part, root) for part in sets]
    list_files = cache(partial(_image_files, root))
    sources = [_Source(part, search_images(part.images, root, list_files)) for part in sets]
    problems = [problem for source in sources for problem in _image_problems(source, root, list_files, skip_missing)]
    if out.exists() and not out.is_dir():
        problems.append(f"'{out}' is not a folder; name another one (--out)")
    if problems:
        raise AnnotationError(problems)
    notes = [note for source in sources for note in _notes(source, root)]
    found = [_with_found_images(source, root) for source in sources]
    if len(found) == 2:
        train, held_out = found
        rule = "the two annotation files"
        notes += _shared_images(train, held_out)
    else:
        planned = plan_split(
            [image.file_name for image in found[0].images], people_in_images(found[0]) > 0, validation_fraction, seed
        )
        if planned is None:
            raise AnnotationError([_no_split(found[0])], str(annotations))
        train, held_out = (_selected(found[0], rows) for rows in (~planned.is_validation, planned.is_validation))
        rule = planned.rule
    without_people = [str(part.path) for part in (train, held_out) if part.ignore.all()]
    if without_people:
        raise AnnotationError(
            [f"{path}: no box of a person counts, so nothing can be learned or measured" for path in without_people]
        )
    proposal = propose(train, held_out, input_size)
    return Start(
        proposal=proposal,
        image_root=root,
        split_rule=rule,
        notes=tuple(notes),
        contents=_contents(proposal, train, held_out, root, out, rule),
        study_name=study_name(out),
    )


def write_start(start: Start) -> None:
    """Write the files, all or none.

    Raises:
        AnnotationError: a file exists with another content.
    """
    problems = []
    for path, content in start.contents.items():
        if path.is_symlink() or (path.exists() and not _holds(path, content)):
            problems.append(f"'{path}' exists with another content; choose another folder (--out), or remove it")
    if problems:
        raise AnnotationError(problems)
    write_all_atomically({path: content for path, content in start.contents.items() if not path.exists()})


def study_name(out: Path) -> str:
    """The folder's name as that of a study: letters, digits, - and _."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", out.resolve().name).strip("-_")[:63]
    return name if name and name != "teachers" else "hkd-start"


def _common_root(sets: Sequence[Annotations]) -> Path:
    """The folder that both files' images are in or below."""
    roots = {part.image_root.resolve() for part in sets}
    if len(roots) == 1:
        return sets[0].image_root
    common = Path(os.path.commonpath(list(roots)))
    if common == Path(common.anchor):
        listed = ", ".join(f"'{root}'" for root in sorted(roots))
        raise AnnotationError([f"the images are in folders that have nothing in common, {listed}; name one (--images)"])
    return common


def _named_from(annotations: Annotations, root: Path) -> Annotations:
    """The images with names relative to a folder that contains their own root."""
    if annotations.image_root.resolve() == root.resolve():
        return annotations
    below = PurePosixPath(path_between(root, annotations.image_root))
    images = tuple(replace(image, file_name=(below / image.file_name).as_posix()) for image in annotations.images)
    return replace(annotations, images=images)


def _image_problems(
    source: _Source, root: Path, list_files: Callable[[], Sequence[str]], skip_missing: bool
) -> list[str]:
    path, search = source.annotations.path, source.search
    num_images = len(source.annotations.images)
    problems = []
    if not root.is_dir():
        return [f"{path}: there is no folder '{root}' of its images; name the folder of the images (--images)"]
    if len(search.missing) == num_images:
        problems.append(
            f"{path}: none of its {num_images:,} images is in '{root}' or below, which has {len(list_files()):,} image"
            f" files (first missing: {_listed(search.missing)}); name the folder of the images (--images)"
        )
    elif search.missing and not skip_missing:
        problems.append(
            f"{path}: {len(search.missing):,} of its {num_images:,} images are not in '{root}' or below (first:"
            f" {_listed(search.missing)}); add them, name another folder (--images), or leave them out (--skip-missing)"
        )
    for name, files in search.ambiguous[:_NAMED]:
        which = (
            f"may be any of {_listed(files)}"
            if len(files) > 1
            else f"has no file of its own: it fits {_listed(files)}, and so do other images,"
        )
        problems.append(
            f"{path}: image '{name}' {which} in '{root}'; name the folder that its path starts from (--images)"
        )
    if len(search.ambiguous) > _NAMED:
        problems.append(f"{path}: {len(search.ambiguous) - _NAMED:,} more images fit several files, or share one")
    return problems + _size_problems(source, root)


def _size_problems(source: _Source, root: Path) -> list[str]:
    problems: list[str] = []
    if source.search.images:
        check_image_files(source.search.images, root, problems)
    return [f"{source.annotations.path}: {problem}" for problem in problems]


def _notes(source: _Source, root: Path) -> list[str]:
    path, search = source.annotations.path, source.search
    notes = [f"{path}: {sentence}" for sentence in source.annotations.repaired]
    if search.num_moved:
        notes.append(f"{path}: found {search.num_moved:,} images under another path in '{root}' than annotated")
    if search.missing:
        notes.append(
            f"{path}: left out {len(search.missing):,} images that are not in '{root}', and their boxes (first:"
            f" {_listed(search.missing)})"
        )
    return notes


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + (" ..." if len(names) > _NAMED else "")


def _with_found_images(source: _Source, root: Path) -> Annotations:
    found = {image.image_id: image for image in source.search.images}
    rows = np.array([image.image_id in found for image in source.annotations.images], dtype=np.bool_)
    chosen = _selected(source.annotations, rows)
    return replace(chosen, image_root=root, images=tuple(found[image.image_id] for image in chosen.images))


def _selected(annotations: Annotations, images: BoolArray) -> Annotations:
    """The images of these rows with their boxes."""
    boxes = np.flatnonzero(images[annotations.image_index])
    position = np.cumsum(images) - 1
    return replace(
        annotations,
        images=tuple(image for image, is_in in zip(annotations.images, images.tolist(), strict=True) if is_in),
        image_index=position[annotations.image_index[boxes]],
        boxes_xywh=annotations.boxes_xywh[boxes],
        annotated=annotations.annotated.rows(boxes),
    )


def _shared_images(train: Annotations, validation: Annotations) -> list[str]:
    shared = sorted({image.file_name for image in train.images} & {image.file_name for image in validation.images})
    if not shared:
        return []
    note = f"{len(shared):,} images are in both files, so that validation measures images that were trained on"
    return [f"{note} (first: {_listed(shared)})"]


def _no_split(annotations: Annotations) -> str:
    count = int((people_in_images(annotations) > 0).sum())
    return (
        f"there is no split with people in training and validation: {count} of {len(annotations.images)} images have"
        " people that count; name a file of validation images (--validation), or annotate more"
    )


def _contents(
    proposal: Proposal, train: Annotations, validation: Annotations, root: Path, out: Path, rule: str
) -> dict[Path, str]:
    names = (out / TRAIN_ANNOTATIONS, out / VALIDATION_ANNOTATIONS)
    contents = {
        path: json.dumps(_document(part, path, root), allow_nan=False)
        for path, part in zip(names, (train, validation), strict=True)
    }
    text = train_config_text(proposal, *names, root, rule)
    parse_config(
        TrialConfig, parse_yaml(text, TRAIN_CONFIG), source=TRAIN_CONFIG
    )  # a mistake of ours would be raised here
    return contents | {out / TRAIN_CONFIG: text, out / STUDY_CONFIG: study_config_text(proposal, study_name(out))}


def _document(annotations: Annotations, path: Path, root: Path) -> dict[str, Any]:
    images = [
        {"id": image.image_id, "file_name": image.file_name, "height": image.height, "width": image.width}
        for image in annotations.images
    ]
    document = annotation_document(images, annotations.coco_records(), path_between(path.parent, root))
    parse_annotations(document, path, check_images=False)  # a mistake of ours would be raised here
    return document


def _holds(path: Path, content: str) -> bool:
    try:
        return path.read_bytes() == content.encode()
    except OSError:
        return False


def _image_files(root: Path) -> list[str]:
    """Image files in and below the folder, relative to it."""
    endings = set(Image.registered_extensions())
    return [
        Path(folder, name).relative_to(root).as_posix()
        for folder, _, names in os.walk(root)
        for name in names
        if Path(name).suffix.lower() in endings
    ]
