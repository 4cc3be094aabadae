"""Ground truth and detections as checked arrays, from COCO-style JSON.

Everything that goes wrong in one evaluation's inputs is reported together, one sentence for each kind of mistake,
with the records it was found in. Nothing is mended or dropped here: what these functions return is what the file says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeGuard

import numpy as np
import numpy.typing as npt

PEDESTRIAN: Final = 1
"""The one category that is evaluated."""
LARGEST_COORDINATE: Final = 1e9
"""Boxes reach no further, pixels: beyond any image, and far from where areas lose precision or overflow."""
RECORDS_NAMED: Final = 5
"""How many records a sentence names before it only counts them."""


class EvaluationInputError(ValueError):
    """Ground truth or detections cannot be evaluated; the message has one line for each problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """N boxes on I images: images by ascending id, boxes image by image and within one in the file's order."""

    image_ids: npt.NDArray[np.int64]
    """(I,) ascending."""
    image_index: npt.NDArray[np.int64]
    """(N,) ascending: position of each box's image in ``image_ids``."""
    boxes_xywh: npt.NDArray[np.float64]
    """(N, 4) pixels of the original image."""
    heights: npt.NDArray[np.float64]
    """(N,) height of the full body, pixels: the record's ``height``, else that of its box."""
    visibilities: npt.NDArray[np.float64]
    """(N,) visible share of the full body: the record's ``vis_ratio``, else 1."""
    ignore: npt.NDArray[np.bool_]
    """(N,) the record's ``ignore`` or ``iscrowd``: ignored in every subset."""


@dataclass(frozen=True, eq=False)
class DetectedBoxes:
    """D detections in the file's order, which decides between equal scores."""

    image_index: npt.NDArray[np.int64]
    """(D,) position of each detection's image in :attr:`GroundTruth.image_ids`."""
    boxes_xywh: npt.NDArray[np.float64]
    """(D, 4) pixels of the original image."""
    scores: npt.NDArray[np.float64]
    """(D,) higher is surer; any finite number."""


class _Absent:
    """Stands for the value of a key that a record lacks."""


_ABSENT: Final = _Absent()


def _is_integer(value: object) -> TypeGuard[int]:
    # The bounds are int64's. JSON's true and false are no numbers, though Python's bool is an int.
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_number(value: object, low: float, high: float) -> TypeGuard[float]:
    # NaN fails every comparison, and unlike math.isfinite they take integers of any length.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _is_finite(value: object) -> bool:
    return _is_number(value, -sys.float_info.max, sys.float_info.max)


def _is_size(value: object) -> bool:
    return _is_number(value, 0, LARGEST_COORDINATE) and value > 0


def _is_share(value: object) -> bool:
    # A ratio of two areas may pass 1 by a rounding error.
    return _is_number(value, 0, 1 + 1e-6)


def _is_flag(value: object) -> bool:
    return isinstance(value, int) and value in (0, 1)


def _is_category(value: object) -> bool:
    return _is_integer(value) and value == PEDESTRIAN


def _is_box(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    corner_is_right = all(_is_number(number, -LARGEST_COORDINATE, LARGEST_COORDINATE) for number in value[:2])
    return corner_is_right and _is_size(value[2]) and _is_size(value[3])


_BOX = (
    "[x, y, width, height] in pixels (four finite numbers up to 1e9, x and y at least -1e9, width and height above 0)"
)
_CATEGORY = f"{PEDESTRIAN} (pedestrian), the only category that is evaluated"


class _Records:
    """A list of JSON objects of one file, with the problems found in it."""

    def __init__(self, values: list[object], source: str, place: str) -> None:
        """Take ``values``, found as ``place`` in the file ``source``."""
        self.source = source
        self.place = place
        self.problems: list[str] = []
        self.rows = [value for value in values if isinstance(value, dict)]
        """The records that are objects; only these have columns."""
        self._positions = [i for i, value in enumerate(values) if isinstance(value, dict)]
        others = [(i, value) for i, value in enumerate(values) if not isinstance(value, dict)]
        self._note("each record", "an object in braces", others, "correct or remove it")

    def column(
        self, key: str, is_allowed: Callable[[object], bool], requirement: str, remedy: str, default: object = None
    ) -> list[object]:
        """The value of ``key`` in each row, ``default`` where it is absent; notes values that are not allowed.

        The key may be absent if a default is given.
        """
        values = [row.get(key, _ABSENT) for row in self.rows]
        wrong = [
            (i, value)
            for i, value in zip(self._positions, values, strict=True)
            if not is_allowed(value) and (value is not _ABSENT or default is None)
        ]
        self._note(f'"{key}"', requirement, wrong, remedy)
        return [default if value is _ABSENT else value for value in values]

    def require_known_image(self, values: list[object], known: Collection[object], remedy: str) -> None:
        """Note the rows that name, by a well-formed ``image_id``, an image that is not ``known``."""
        unknown = [
            (i, value)
            for i, value in zip(self._positions, values, strict=True)
            if _is_integer(value) and value not in known
        ]
        self._note('"image_id"', 'the "id" of an image of the ground truth', unknown, remedy)

    def require_unique(self, key: str, values: list[object], remedy: str) -> None:
        """Note the rows whose ``key`` repeats an earlier row's."""
        seen: set[int] = set()
        repeated: list[tuple[int, object]] = []
        for i, value in zip(self._positions, values, strict=True):
            if _is_integer(value):
                if value in seen:
                    repeated.append((i, value))
                seen.add(value)
        self._note(f'"{key}"', "different in each record", repeated, remedy)

    def _note(self, subject: str, requirement: str, wrong: Sequence[tuple[int, object]], remedy: str) -> None:
        if not wrong:
            return
        named = [f"{self.place}[{i}] has {_show(value)}" for i, value in wrong[:RECORDS_NAMED]]
        if len(wrong) > RECORDS_NAMED:
            named.append(f"and {len(wrong) - RECORDS_NAMED:,} more records are wrong")
        self.problems.append(f"{self.source}: {subject} must be {requirement}, but {', '.join(named)}; {remedy}.")


def _show(value: object) -> str:
    """A value as JSON writes it, shortened."""
    if value is _ABSENT:
        return "none"
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):  # not from a JSON file, or beyond what Python writes
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_json(path: Path) -> object:
    """What a JSON file holds.

    Raises:
        EvaluationInputError: the file cannot be read, is cut off or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        problem = f"{path}: cannot be read ({reason}); name a JSON file that exists and may be read."
    except json.JSONDecodeError as error:
        problem = (
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}); "
            "the file may be cut off: write or copy it again."
        )
    except (ValueError, RecursionError) as error:
        # Bytes that are no text, integers of thousands of digits, brackets nested without end.
        problem = f"{path}: not valid JSON ({error}); write or copy it again."
    raise EvaluationInputError([problem])


def parse_ground_truth(raw: object, source: str) -> GroundTruth:
    """Ground truth from a COCO dictionary with ``images`` and ``annotations``.

    Of an image only ``id`` is read. An annotation needs ``image_id``, ``category_id`` (1) and ``bbox``; it may have
    ``id``, ``height``, ``vis_ratio``, ``ignore`` and ``iscrowd``. Other keys are not read.

    Args:
        raw: The parsed JSON.
        source: Names the ground truth in messages.

    Raises:
        EvaluationInputError: naming every kind of mistake and its records.
    """
    image_values, annotation_values = _ground_truth_lists(raw, source)
    images = _Records(image_values, source, "images")
    ids = images.column("id", _is_integer, "an integer", "number the images")
    images.require_unique("id", ids, "merge or renumber the images")
    if not image_values:
        images.problems.append(f'{source}: "images" must list at least one image, but is empty; list all images.')

    boxes = _Records(annotation_values, source, "annotations")
    remedy = "correct or remove the annotation"
    image_ids = boxes.column("image_id", _is_integer, "an integer", remedy)
    if not images.problems:
        boxes.require_known_image(image_ids, set(ids), f"add the image, or {remedy}")
    if any("id" in row for row in boxes.rows):
        own_ids = boxes.column("id", _is_integer, "an integer", "number all annotations, or none")
        boxes.require_unique("id", own_ids, "renumber the annotations")
    boxes.column("category_id", _is_category, _CATEGORY, "remove the annotation, or make it category 1 with ignore 1")
    xywh = boxes.column("bbox", _is_box, _BOX, remedy)
    # No record may state a height of 0: it stands for an absent one.
    heights = boxes.column("height", _is_size, "pixels above 0, at most 1e9", remedy, default=0.0)
    visibilities = boxes.column("vis_ratio", _is_share, "a number from 0 to 1", remedy, default=1.0)
    ignore = boxes.column("ignore", _is_flag, "0 or 1", remedy, default=0)
    crowd = boxes.column("iscrowd", _is_flag, "0 or 1", remedy, default=0)
    if problems := images.problems + boxes.problems:
        raise EvaluationInputError(problems)

    sorted_ids = np.sort(np.array(ids, dtype=np.int64))
    image_index = np.searchsorted(sorted_ids, np.array(image_ids, dtype=np.int64))
    order = np.argsort(image_index, kind="stable")
    boxes_xywh = np.array(xywh, dtype=np.float64).reshape(-1, 4)[order]
    stated_heights = np.array(heights, dtype=np.float64)[order]
    return GroundTruth(
        image_ids=sorted_ids,
        image_index=image_index[order],
        boxes_xywh=boxes_xywh,
        heights=np.where(stated_heights > 0, stated_heights, boxes_xywh[:, 3]),
        visibilities=np.array(visibilities, dtype=np.float64)[order],
        ignore=(np.array(ignore, dtype=np.bool_) | np.array(crowd, dtype=np.bool_))[order],
    )


def _ground_truth_lists(raw: object, source: str) -> tuple[list[object], list[object]]:
    """The lists of images and of annotations.

    Raises:
        EvaluationInputError: there are none.
    """
    shape = f'{source}: ground truth must be an object with the lists "images" and "annotations"'
    if not isinstance(raw, dict):
        hint = "were ground truth and detections swapped?" if isinstance(raw, list) else "name a COCO-style file."
        raise EvaluationInputError([f"{shape}, but is {_kind(raw)}; {hint}"])
    images, annotations = raw.get("images"), raw.get("annotations")
    if isinstance(images, list) and isinstance(annotations, list):
        return images, annotations
    found = ", ".join(f"{_show(str(key))} ({_kind(value)})" for key, value in list(raw.items())[:10]) or "nothing"
    raise EvaluationInputError([f"{shape}, but has {found}; name a COCO-style file."])


def _kind(value: object) -> str:
    """What JSON calls such a value."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return "a string" if isinstance(value, str) else _show(value)


def parse_detections(raw: object, source: str, image_ids: npt.NDArray[np.int64] | None) -> DetectedBoxes:
    """Detections from a COCO results list; each needs ``image_id``, ``category_id`` (1), ``bbox`` and ``score``.

    Args:
        raw: The parsed JSON.
        source: Names the detections in messages.
        image_ids: (I,) the ground truth's, ascending. None where the ground truth itself is wrong: all but the images
            is checked, and what is returned has no use.

    Raises:
        EvaluationInputError: naming every kind of mistake and its records.
    """
    if not isinstance(raw, list):
        hint = "were ground truth and detections swapped?" if isinstance(raw, dict) else "name a COCO results file."
        raise EvaluationInputError([f"{source}: detections must be a list of records, but are {_kind(raw)}; {hint}"])
    records = _Records(raw, source, "detections")
    remedy = "correct or remove the detection"
    ids = records.column("image_id", _is_integer, "an integer", remedy)
    if image_ids is not None:
        known = set(image_ids.tolist())
        records.require_known_image(ids, known, "evaluate detections of the same images, or remove these")
    records.column("category_id", _is_category, _CATEGORY, "remove the detection")
    boxes = records.column("bbox", _is_box, _BOX, remedy)
    scores = records.column("score", _is_finite, "a finite number", remedy)
    if records.problems:
        raise EvaluationInputError(records.problems)
    known_ids = np.empty(0, dtype=np.int64) if image_ids is None else image_ids
    return DetectedBoxes(
        image_index=np.searchsorted(known_ids, np.array(ids, dtype=np.int64)),
        boxes_xywh=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        scores=np.array(scores, dtype=np.float64),
    )
