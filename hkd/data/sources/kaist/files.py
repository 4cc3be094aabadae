"""Search for the files of KAIST's data set, whose layouts depend on who published the annotations.

Below ROOT, in any folder, these are found (NN: set, NNN: video, NNNNN: frame, counted from 0):

- images: ``setNN/VNNN/{visible,lwir}/INNNNN.jpg`` as published, ``{visible,lwir}/setNN_VNNN_INNNNN.png`` and
  ``setNN_VNNN_INNNNN_{visible,lwir}.png``;
- annotations: ``setNN/VNNN/INNNNN.xml`` (annotations-xml-new, -sanitized, -15), ``setNN/VNNN/INNNNN.txt``,
  ``setNN_VNNN_INNNNN.txt`` (sanitized, improved), ``setNN/VNNN/{visible,lwir}/INNNNN.txt`` (KAIST-Paired), and
  ``kaist_annotations*.json`` (improved test annotations, of the benchmark's Python evaluation).

An *annotation folder* is what holds the ``setNN`` of one such collection, or the JSON file. Several are read together
if no frame is in two of them, as those of the sanitized training and the improved test annotations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, get_args

from hkd.coco.parsing.errors import AnnotationError
from hkd.data.conversion.finding.folders import files_below
from hkd.data.sources.caltech.bbgt import starts_as_bbgt
from hkd.data.sources.caltech.files import IMAGE_SUFFIXES, FrameKey, frame_of_path
from hkd.data.sources.kaist.benchmark_json import FILE_PATTERN, BenchmarkFrame, read_benchmark_json
from hkd.image_files.listing import is_hidden

Modality = Literal["visible", "lwir"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
_ANNOTATION_SUFFIXES = (".xml", ".txt")


@dataclass(frozen=True)
class KaistFiles:
    """The files of one modality."""

    annotations: Mapping[FrameKey, Path]
    """XML or text of each frame, or the JSON file of many."""
    documents: Mapping[Path, Mapping[FrameKey, BenchmarkFrame]]
    """Content of each JSON file."""
    images: Mapping[FrameKey, Path]
    hidden: tuple[str, ...]
    """Files that were not looked at, because they are hidden or backups."""


def find_files(
    root: Path, modality: Modality, chosen_folders: Sequence[str], problems: list[str], *, with_images: bool
) -> KaistFiles:
    """Search ``root``.

    Args:
        root: Folder of the data set.
        modality: Of images, and of annotations that differ between modalities.
        chosen_folders: Annotation folders to read, relative to ``root`` or by their last names; all if empty.
        problems: Messages: two files for one image or annotation, folders that are ambiguous or do not exist.
        with_images: Search images as well.
    """
    folders: dict[Path, dict[FrameKey, Path]] = {}
    images: dict[FrameKey, Path] = {}
    hidden: list[str] = []
    documents: dict[Path, dict[FrameKey, BenchmarkFrame]] = {}
    for path in files_below(root):
        suffix = path.suffix.lower()
        is_image = suffix in IMAGE_SUFFIXES
        is_document = path.match(FILE_PATTERN)
        if not is_image and not is_document and suffix not in _ANNOTATION_SUFFIXES:
            continue
        if is_hidden(path.relative_to(root)):
            hidden.append(path.relative_to(root).as_posix())
            continue
        if is_document:
            try:
                documents[path] = read_benchmark_json(path)
            except AnnotationError as error:
                problems += error.located_problems
            continue
        found_modality, named = _modality(path)
        key = frame_of_path(named, MODALITIES)
        if key is None or found_modality not in (modality, None) or (is_image and found_modality is None):
            continue
        if not is_image:
            _add(folders.setdefault(_annotation_folder(path), {}), key, path, problems)
        elif with_images:
            _add(images, key, path, problems)
    # Labels of YOLO have the same names; one file shows the format of a folder.
    kinds = {folder: frames for folder, frames in folders.items() if _are_annotations(next(iter(frames.values())))}
    kinds |= {path: dict.fromkeys(frames, path) for path, frames in documents.items()}
    return KaistFiles(_annotations(kinds, root, chosen_folders, problems), documents, images, tuple(hidden))


def _modality(path: Path) -> tuple[str | None, Path]:
    """The modality that a path names, if any, and the path without it in the file's name."""
    for modality in MODALITIES:
        if path.parent.name.lower() == modality:
            return modality, path
        if path.stem.lower().endswith(f"_{modality}"):
            return modality, path.with_name(path.stem[: -len(modality) - 1] + path.suffix)
    return None, path


def _annotation_folder(path: Path) -> Path:
    """The folder above ``setNN``, or that of the file if its name has the set."""
    if path.name.lower().startswith("set"):
        return path.parent
    above = path.parent if path.parent.name.lower() not in MODALITIES else path.parent.parent
    return above.parent.parent


def _are_annotations(path: Path) -> bool:
    return path.suffix.lower() == ".xml" or starts_as_bbgt(path)


def _annotations(
    folders: Mapping[Path, dict[FrameKey, Path]], root: Path, chosen_folders: Sequence[str], problems: list[str]
) -> dict[FrameKey, Path]:
    """The annotation of each frame, of the chosen folders or of all."""
    names = {folder.relative_to(root).as_posix(): folder for folder in folders}
    chosen = list(folders)
    if chosen_folders:
        chosen = []
        for text in chosen_folders:
            matches = [folder for name, folder in names.items() if text.strip("/") in (name, folder.name)]
            if len(matches) == 1:
                chosen += matches
            else:
                problems.append(
                    f"--annotations {text!r} names {len(matches)} annotation folders; found: {_listed(names, folders)}"
                )
    for one, other in combinations(chosen, 2):
        if not folders[one].keys().isdisjoint(folders[other].keys()):
            problems.append(
                f"there are several annotations of the same frames: {_listed(names, folders)}; choose with"
                " --annotations FOLDER"
            )
            break
    return {key: path for folder in chosen for key, path in folders[folder].items()}


def _listed(names: Mapping[str, Path], folders: Mapping[Path, dict[FrameKey, Path]]) -> str:
    return ", ".join(f"'{name}' ({len(folders[folder])} frames)" for name, folder in sorted(names.items())) or "none"


def _add(found: dict[FrameKey, Path], key: FrameKey, path: Path, problems: list[str]) -> None:
    if key in found:
        problems.append(f"'{found[key]}' and '{path}' are the same frame; keep one, or name a narrower folder")
    found.setdefault(key, path)
