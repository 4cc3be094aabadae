"""``hkd init``: read annotations, propose settings and write a folder to start from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkd.coco.annotations import Annotations, parse_annotations
from hkd.coco.categories import CategoryNames
from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError, collected_problems
from hkd.coco.writing import annotation_document
from hkd.config import TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.config_files.yaml_format import parse_yaml
from hkd.data.conversion.writing import path_between
from hkd.files import write_all_atomically
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.proposal.config_text import STUDY_CONFIG, TRAIN_CONFIG, DataFiles, study_config_text, train_config_text
from hkd.proposal.settings import Proposal, propose
from hkd.proposal.sources import read_sources, select_images
from hkd.proposal.split import plan_split
from hkd.proposal.survey import people_in_images

TRAIN_ANNOTATIONS = "train.json"
VALIDATION_ANNOTATIONS = "validation.json"


@dataclass(frozen=True)
class Start:
    """What was read, and what a first training and study are started from."""

    proposal: Proposal
    image_root: Path
    split_rule: str
    notes: tuple[Note, ...]
    """Everything that was left out or changed."""
    contents: dict[Path, str]
    """The files of the folder, not written yet."""
    study_name: str


def prepare_start(
    annotations: Path,
    out: Path,
    *,
    validation: Path | None = None,
    image_root: Path | None = None,
    named: CategoryNames | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    input_size: tuple[int, int] | None = None,
    skip_missing: bool = False,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
) -> Start:
    """Read everything and compute the contents of ``out``, without writing.

    Args:
        annotations: COCO-style JSON of the training images, or of all images.
        out: folder of the files to write, as it is to be named in them.
        validation: COCO-style JSON of the validation images; None: some of the images are chosen.
        image_root: folder in or below which the images are; None: as stated in the annotation files.
        named: categories of people and of ignore regions, by the user; None: by their names.
        validation_fraction: fraction of the images to choose for validation.
        seed: of that choice.
        input_size: height and width of the network's input, multiples of 32; None: proposed.
        skip_missing: leave out images that are not there, with their boxes.
        max_megapixels: largest number of pixels of an image, in millions.

    Raises:
        AnnotationError: listing everything that is wrong with the files and images.
    """
    paths = [annotations] if validation is None else [annotations, validation]
    with collected_problems() as collect:
        collect.problems += _path_problems(out, image_root)
        sources = collect(
            lambda: read_sources(
                paths, image_root, named=named, skip_missing=skip_missing, max_megapixels=max_megapixels
            )
        )
    assert sources is not None  # otherwise the problems were raised
    if validation is None:
        train, held_out, rule = _split(sources.sets[0], validation_fraction, seed)
    else:
        train, held_out = sources.sets
        rule = "the two annotation files"
    problems = [f"{part.path}: {_no_people(part)}" for part in (train, held_out) if part.ignore.all()]
    if problems:
        raise AnnotationError(problems)
    proposal = propose(train, held_out, input_size)
    data = DataFiles(
        out / TRAIN_ANNOTATIONS, out / VALIDATION_ANNOTATIONS, sources.image_root, max_megapixels, split_rule=rule
    )
    contents = {
        path: json.dumps(_document(part, path, sources.image_root), allow_nan=False)
        for path, part in ((data.train, train), (data.validation, held_out))
    }
    text = train_config_text(proposal, data)
    parse_config(TrialConfig, parse_yaml(text, TRAIN_CONFIG), source=TRAIN_CONFIG)  # raises where the text is wrong
    contents |= {out / TRAIN_CONFIG: text, out / STUDY_CONFIG: study_config_text(proposal, study_name(out))}
    return Start(proposal, sources.image_root, rule, sources.notes, contents, study_name(out))


def write_start(start: Start) -> None:
    """Write the files, all or none.

    Raises:
        AnnotationError: a file exists with another content.
    """
    problems = [
        f"'{path}' exists with another content; choose another folder (--out), or remove it"
        for path, content in start.contents.items()
        if path.is_symlink() or (path.exists() and not _holds(path, content))
    ]
    if problems:
        raise AnnotationError(problems)
    write_all_atomically({path: content for path, content in start.contents.items() if not path.exists()})


def study_name(out: Path) -> str:
    """The folder's name as that of a study: letters, digits, - and _."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", out.resolve().name).strip("-_")[:63]
    return name if name and name != "teachers" else "hkd-start"


def _path_problems(out: Path, image_root: Path | None) -> list[str]:
    problems = []
    if (out.exists() or out.is_symlink()) and not out.is_dir():
        problems.append(f"'{out}' is not a folder; name another one (--out)")
    for option, path in (("--out", out), ("--images", image_root)):
        try:
            str(path).encode()
        except UnicodeEncodeError:
            problems.append(f"{option}: the name '{path}' is not Unicode text, which YAML requires; rename the folder")
    return problems


def _split(annotations: Annotations, fraction: float, seed: int) -> tuple[Annotations, Annotations, str]:
    """Training and validation images, and the rule by which they were chosen."""
    names = [image.file_name for image in annotations.images]
    has_people = people_in_images(annotations) > 0
    planned = plan_split(names, has_people, fraction, seed)
    if planned is None:
        problem = (
            f"there is no split with people in training and validation: {has_people.sum()} of {len(names)} images have"
            " people that count; name a file of validation images (--validation), or annotate more"
        )
        raise AnnotationError([problem], str(annotations.path))
    train, validation = (select_images(annotations, rows) for rows in (~planned.is_validation, planned.is_validation))
    return train, validation, planned.rule


def _no_people(annotations: Annotations) -> str:
    found = f"all of its {len(annotations.ignore)} boxes are ignored" if len(annotations.ignore) else "it has no box"
    return f"{found}: there is nothing to learn or to measure"


def _document(annotations: Annotations, path: Path, root: Path) -> dict[str, Any]:
    images = [
        {"id": image.image_id, "file_name": image.file_name, "height": image.height, "width": image.width}
        for image in annotations.images
    ]
    document = annotation_document(images, annotations.coco_records(), path_between(path.parent, root))
    parse_annotations(document, path, check_images=False)  # raises where the document is wrong
    return document


def _holds(path: Path, content: str) -> bool:
    try:
        return path.is_file() and path.read_bytes() == content.encode()  # a pipe would block
    except OSError:
        return False
