"""Which training photographs are for validation.

The official split has none. Photographs are numbered in the order in which they were taken, so that neighbours show one
scene, often the same people. Validation therefore gets whole scenes, a fifth of each kind of photographs: runs of
numbers whose ends were chosen by looking at them. The official test photographs are no scenes of their own: their
numbers lie between those of the training photographs, also within these runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from hkd.coco.notes import Note
from hkd.data.conversion.splits import Split

VALIDATION_RUNS: Final = (
    ("crop", 1103, 1150),  # Paris
    ("crop", 1547, 1572),  # steps and lake of a park in Madrid
    ("crop", 1662, 1681),  # the same park
    ("crop", 1835, 1843),  # surfers and other groups
    ("person_", 281, 320),  # Graz by day
    ("person_and_bike_", 74, 78),  # Graz in winter
    ("person_and_bike_", 155, 191),
    ("person_and_bike_", 207, 209),
)
"""Start of the names, first and last number."""
_NAME = re.compile(r"(\D+)(\d{1,9})")


def is_validation(stem: str) -> bool:
    """Whether a training photograph with this file name, without its ending, is for validation."""
    match = _NAME.fullmatch(stem)
    return match is not None and any(
        match[1] == start and first <= int(match[2]) <= last for start, first, last in VALIDATION_RUNS
    )


def divide(training: Split, stems: Sequence[str], problems: list[str]) -> tuple[list[Split], list[Note]]:
    """Divide the training photographs into ``train`` and ``validation``.

    Args:
        training: All of them; not empty.
        stems: File name without folder and ending of each image.
        problems: Gets a sentence if one of the two would be empty.

    Returns:
        The splits, and a note on the division.
    """
    chosen = {image["id"] for image, stem in zip(training.images, stems, strict=True) if is_validation(stem)}
    runs = ", ".join(f"{_name(start, first)} to {_name(start, last)}" for start, first, last in VALIDATION_RUNS)
    if not chosen or len(chosen) == len(training.images):
        found = "none" if not chosen else "all"
        problems.append(
            f"{found} of the {len(training.images)} training photographs are of the scenes for validation ({runs}); add"
            " the others of the data set"
        )
        return [], []
    splits = [
        Split(name, _of_images(training.images, "id", ids), _of_images(training.annotations, "image_id", ids))
        for name, ids in (("train", {image["id"] for image in training.images} - chosen), ("validation", chosen))
    ]
    sentence = (
        f"validation: {len(chosen)} of the {len(training.images)} official training photographs, whole scenes ({runs})"
    )
    return splits, [Note("validation_sequences", len(chosen), sentence)]


def _of_images(records: Sequence[dict[str, Any]], key: str, ids: set[Any]) -> list[dict[str, Any]]:
    return [record for record in records if record[key] in ids]


def _name(start: str, number: int) -> str:
    return f"{start}{number:0{6 if start == 'crop' else 3}}"
