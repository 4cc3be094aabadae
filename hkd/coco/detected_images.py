"""The images of detections, which name them by id or by file name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final, TypeGuard

import numpy as np

from hkd.coco.boxes import IntArray
from hkd.coco.ground_truth import GroundTruth
from hkd.coco.notes import Note
from hkd.coco.parsing.records import Records
from hkd.coco.parsing.values import as_id, is_integer

_REMEDY: Final = "evaluate detections of the same images, or remove these"
_IMAGE_ENDINGS: Final = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"])
_AMBIGUOUS: Final = -1
_FILE_NAME: Final = "file_name"
_FOLDERS_MATCHED: Final = 16
"""Folders of a path that are compared, with its name; deeper paths must be equal."""

Reference = str | int | float
Readings = Mapping[Reference, int | None]
"""The position of the image that each value of ``image_id`` names; None if there is none, -1 if it may be several."""


class ImageNames:
    """Finds images by file name: with or without folders and ending, as far as this is unambiguous.

    Args:
        file_names: (I,) of the images, relative to some folder, with slashes; empty where unknown.
    """

    def __init__(self, file_names: Iterable[str]) -> None:
        self._with_ending, self._without = _PathEnds(), _PathEnds()
        for position, name in enumerate(file_names):
            if name:
                path = _path(name)
                self._with_ending.add(path.parts, position)
                self._without.add((*path.parts[:-1], path.stem), position)

    def find(self, name: str) -> int | None:
        """Position of the image, None if there is none, -1 if it may be several."""
        path = _path(name)
        found = self._with_ending.find(path.parts)
        if found is None:
            found = self._without.find(path.parts)
        if found is None and path.suffix.lower() in _IMAGE_ENDINGS:
            found = self._without.find((*path.parts[:-1], path.stem))
        return found


def _path(name: str) -> PurePosixPath:
    # macOS decomposes accented letters in file names, other systems keep them as typed.
    return PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/")))


class _PathEnds:
    """Paths by the names at their ends, looked up in time that does not depend on how many there are."""

    def __init__(self) -> None:
        self._whole: dict[tuple[str, ...], int] = {}
        self._ends: dict[tuple[str, ...], int] = {}

    def add(self, parts: tuple[str, ...], position: int) -> None:
        self._whole[parts] = _AMBIGUOUS if parts in self._whole else position
        for length in range(1, min(len(parts), _FOLDERS_MATCHED) + 1):
            end = parts[-length:]
            self._ends[end] = _AMBIGUOUS if end in self._ends else position

    def find(self, parts: tuple[str, ...]) -> int | None:
        """Position of the path that ends in these parts, else of the longest path that they end in."""
        found = self._ends.get(parts)
        for start in range(max(0, len(parts) - _FOLDERS_MATCHED), len(parts)):
            if found is not None:
                break
            found = self._whole.get(parts[start:])
        return found


def images_of_detections(
    records: Records, truth: GroundTruth | None, notes: list[Note], key: str = "image_id"
) -> IntArray:
    """(D,) position of each detection's image in ``truth.image_ids``; notes mistakes in the problems of the records.

    An ``image_id`` (another ``key`` in other formats) is an image's ``id``, as a number or as text, or its file name,
    with or without folders and ending; a number may be the name ``000123.jpg``. All detections of a file are read in
    the same way: by id if all have the id of an image, otherwise by name. Texts that are ids of some images and names
    of others are refused. A ``file_name`` in every detection is used instead, if its images are found, and others than
    by ``image_id`` or none is stated: tools renumber images.
    """
    key = _key_of_images(records, truth, key, notes)
    values = records.column(key, _is_reference, "an integer, or the name of an image's file", _REMEDY)
    if truth is None:
        return np.zeros(len(values), dtype=np.int64)
    distinct = [value for value in dict.fromkeys(filter(_is_reference, values)) if isinstance(value, (str, int, float))]
    by_id = _by_id(distinct, truth)
    if all(position is not None for position in by_id.values()):
        chosen = by_id
        # Numbers are ids, as COCO defines them; numbers as text may be either.
        if all(isinstance(value, str) for value in distinct) and not truth.text_ids:
            by_name = _by_name(distinct, truth)
            if all(position is not None for position in by_name.values()):
                _require_agreement(records, key, values, by_id, by_name)
        elif not truth.text_ids:
            notes += _ambiguous_numbers(values, truth, by_id, key)
    else:
        chosen = _by_name(distinct, truth)
        _require_found(records, key, values, by_id, chosen)
        if not records.problems:
            sentence = f"the images of {len(values):,} detections are found by file name, which their {key} states"
            notes.append(Note("detections_matched_by_name", len(values), sentence))
    return np.array([_looked_up(value, chosen, 0) for value in values], dtype=np.int64)


def _key_of_images(records: Records, truth: GroundTruth | None, key: str, notes: list[Note]) -> str:
    """The key by which images are found: ``key`` or ``file_name``."""
    has_key = any(key in row for row in records.rows)
    names = [name for row in records.rows if isinstance(name := row.get(_FILE_NAME), str)]
    if not names or not has_key:
        return _FILE_NAME if names else key
    if truth is None or len(names) < len(records.rows):
        return key
    by_name = _by_name(dict.fromkeys(names), truth)
    if any(position in (None, _AMBIGUOUS) for position in by_name.values()):
        return key
    values = [row.get(key) for row in records.rows]
    by_id = _by_id([value for value in dict.fromkeys(filter(_is_reference, values)) if _is_key(value)], truth)
    by_stem = _by_name([value for value in by_id if isinstance(value, str)], truth)
    differing = sum(
        by_name[name] not in (_looked_up(value, by_id), _looked_up(value, by_stem))
        for name, value in zip(names, values, strict=True)
    )
    if not differing:
        return key
    sentence = (
        f"the {_FILE_NAME} of {differing:,} of {len(names):,} detections is that of another image than their {key}: "
        "the file names are used"
    )
    notes.append(Note("image_ids_ambiguous", differing, sentence))
    return _FILE_NAME


def _ambiguous_numbers(values: Sequence[object], truth: GroundTruth, by_id: Readings, key: str) -> list[Note]:
    """A note if numbers that are read as ids are also the file names of images, of others than the ids."""
    by_name = _by_name(by_id, truth)
    if any(position in (None, _AMBIGUOUS) for position in by_name.values()):
        return []
    differing = sum(_looked_up(value, by_id) != _looked_up(value, by_name) for value in values)
    if not differing:
        return []
    sentence = (
        f"{key} is read as the id of an image, but for {differing:,} of {len(values):,} detections that number is the "
        "file name of another image; if file names are meant, write them with their endings"
    )
    return [Note("image_ids_ambiguous", differing, sentence)]


def _is_key(value: object) -> TypeGuard[Reference]:
    return isinstance(value, (str, int, float))


def _is_reference(value: object) -> bool:
    return isinstance(value, str) or is_integer(value)


def _by_id(values: Iterable[Reference], truth: GroundTruth) -> dict[Reference, int | None]:
    positions = {image_id: position for position, image_id in enumerate(truth.image_ids.tolist())}
    if truth.text_ids:
        return {value: positions.get(truth.text_ids.get(value)) if isinstance(value, str) else None for value in values}
    ids = {value: as_id(value) for value in values}
    return {value: positions.get(int(id_)) if is_integer(id_) else None for value, id_ in ids.items()}


def _by_name(values: Iterable[Reference], truth: GroundTruth) -> dict[Reference, int | None]:
    images = ImageNames(truth.file_names)
    numbers: dict[int, list[int]] = {}
    for position, name in enumerate(truth.image_names):
        if is_integer(number := as_id(name)):
            numbers.setdefault(int(number), []).append(position)
    found: dict[Reference, int | None] = {}
    for value in values:
        found[value] = images.find(value) if isinstance(value, str) else None
        as_number = as_id(value)
        if found[value] is None and is_integer(as_number) and (named := numbers.get(int(as_number))):
            found[value] = named[0] if len(named) == 1 else _AMBIGUOUS
    return found


def _require_agreement(
    records: Records, key: str, values: Sequence[object], by_id: Readings, by_name: Readings
) -> None:
    """Note texts that are the id of one image and the file name of another."""
    wrong = [
        (position, value)
        for position, value in zip(records.positions, values, strict=True)
        if _looked_up(value, by_id) != _looked_up(value, by_name)
    ]
    records.note(
        f'"{key}"',
        'an "id" or a file name of the ground truth, and not the one of an image and the other of another',
        wrong,
        "give the ids as numbers, or the names with their endings",
    )


def _require_found(records: Records, key: str, values: Sequence[object], by_id: Readings, by_name: Readings) -> None:
    """Note images that are not found by name, or by name and by id as different ones."""
    unknown, ambiguous, mixed = [], [], []
    for position, value in zip(records.positions, values, strict=True):
        named, numbered = _looked_up(value, by_name), _looked_up(value, by_id)
        if not _is_reference(value):
            continue  # reported as such
        if named is None and numbered is None:
            unknown.append((position, value))
        elif named == _AMBIGUOUS:
            ambiguous.append((position, value))
        elif numbered is not None and named != numbered:
            mixed.append((position, value))
    requirement = 'the "id" or the file name of an image of the ground truth'
    records.note(f'"{key}"', requirement, unknown, _REMEDY)
    records.note(
        f'"{key}"',
        "the file name of one image of the ground truth",
        ambiguous,
        "add its folders and ending, or give ids",
    )
    # Otherwise some are found by name, and these by id.
    if not unknown:
        requirement = "an id in all detections, or a file name in all, as some are not ids"
        records.note(f'"{key}"', requirement, mixed, "use one of the two")


def _looked_up(value: object, readings: Readings, default: int | None = None) -> int | None:
    found = readings.get(value) if isinstance(value, (str, int, float)) else None
    return default if found is None else found
