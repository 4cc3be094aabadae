"""Detections as arrays and as COCO results: a list of ``image_id``, ``category_id``, ``bbox`` and ``score``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from hkd.coco.boxes import FloatArray, IntArray
from hkd.coco.categories import PEDESTRIAN_ID, Categories, listed
from hkd.coco.detected_images import images_of_detections
from hkd.coco.ground_truth import GroundTruth
from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.records import Records
from hkd.coco.parsing.values import BOX_REQUIREMENT, is_box, is_empty_box, is_finite, is_integer, kind_of, shown

_REMEDY = "correct or remove the detection"
_NUMBER: Final = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*", re.ASCII)


@dataclass(frozen=True, eq=False)
class DetectedBoxes:
    """D detections; their order decides between equal scores."""

    image_index: IntArray
    """(D,) position of each detection's image in :attr:`hkd.coco.ground_truth.GroundTruth.image_ids`."""
    boxes_xywh: FloatArray
    """(D, 4) pixels of the original image."""
    scores: FloatArray
    """(D,) any finite number; higher means more confident."""
    notes: tuple[Note, ...] = ()
    """Detections of the file that were left out, or not read as written."""

    def coco_results(
        self, image_ids: IntArray, text_ids: Mapping[int, str] | None = None, category_id: int = PEDESTRIAN_ID
    ) -> list[dict[str, Any]]:
        """The detections as COCO results.

        Args:
            image_ids: those that ``image_index`` refers to.
            text_ids: the ids in the annotation file, where they are texts that are no numbers.
            category_id: that of people in the annotation file.
        """
        texts = {} if text_ids is None else text_ids
        return [
            {"image_id": texts.get(image_id, image_id), "category_id": category_id, "bbox": box, "score": score}
            for image_id, box, score in zip(
                image_ids[self.image_index].tolist(), self.boxes_xywh.tolist(), self.scores.tolist(), strict=True
            )
        ]


def no_detections() -> DetectedBoxes:
    """An empty set of detections."""
    return DetectedBoxes(image_index=np.zeros(0, dtype=np.int64), boxes_xywh=np.zeros((0, 4)), scores=np.zeros(0))


def parse_detections(raw: object, source: str, truth: GroundTruth | None) -> DetectedBoxes:
    """Detections from a COCO results list, in its order.

    :func:`hkd.coco.detected_images.images_of_detections` has the rules for ``image_id``, :func:`_people` those for
    ``category_id``. Detections of other categories and boxes without an area are left out, with a note.

    Args:
        raw: the parsed JSON.
        source: the file of the detections; for messages.
        truth: the ground truth. None if it is invalid: images and categories are then not checked, and the result must
            not be used.

    Raises:
        AnnotationError: naming every kind of mistake and its records.
    """
    if not isinstance(raw, list):
        raise AnnotationError([f"detections must be a list of records, but are {kind_of(raw)}; {_hint(raw)}"], source)
    problems: list[str] = []
    notes: list[Note] = []
    records = Records(raw, "detections", problems, named_by=("image_id",))
    ids = records.ids("category_id", "an integer", 'correct the "category_id"')
    if truth is not None:
        is_person = _people(ids, truth.categories, problems, notes)
        records = records.selected(is_person)
    return detections_of_records(records, source, truth, notes)


def detections_of_records(
    records: Records,
    source: str,
    truth: GroundTruth | None,
    notes: list[Note],
    *,
    image_key: str = "image_id",
    box_key: str = "bbox",
) -> DetectedBoxes:
    """Detections of people from records, in their order; see :func:`parse_detections`.

    Raises:
        AnnotationError: if ``records.problems`` is not empty at the end.
    """
    image_index = images_of_detections(records, truth, notes, image_key)
    boxes = records.column(box_key, lambda box: is_box(box) or is_empty_box(box), BOX_REQUIREMENT, _REMEDY)
    scores = _scores(records, notes)
    if records.problems:
        raise AnnotationError(records.problems, source)
    has_area = np.array([is_box(box) for box in boxes], dtype=np.bool_)
    empty = [
        f"{records.place}[{records.positions[i]}], {box_key} {shown(boxes[i])}"
        for i in np.flatnonzero(~has_area).tolist()
    ]
    sentence = f"left out {{count}} of {len(boxes):,} detections, whose boxes have no area (first: {{first}})"
    notes += counted_note("detections_without_area", empty, sentence)
    return DetectedBoxes(
        image_index=image_index[has_area],
        boxes_xywh=np.array(boxes, dtype=np.float64).reshape(-1, 4)[has_area],
        scores=np.array(scores, dtype=np.float64)[has_area],
        notes=tuple(replace(note, sentence=f"{source}: {note.sentence}") for note in notes),
    )


def _hint(raw: object) -> str:
    """What to do about a document that is no list, from what it holds."""
    if not isinstance(raw, dict):
        return "name a file of COCO results"
    annotations = raw.get("annotations")
    if not isinstance(annotations, list):
        return "name a file of COCO results, whose outermost brackets are [ ]"
    if any(isinstance(record, dict) and "score" in record for record in annotations):
        return 'its "annotations" have scores: save that list alone, without the object around it'
    return "it has annotations without scores, as ground truth has; perhaps the two files were swapped"


def _people(ids: list[object], categories: Categories, problems: list[str], notes: list[Note]) -> list[bool]:
    """Whether each detection is of a pedestrian; notes count the others.

    Pedestrians are the detections of the ground truth's categories of people. Only where there is none of these, those
    of category 1, which hkd writes, unless it is another category of the ground truth. It is asked which are people, if
    detections are of an unused category that is named like them; if all are of other categories; and if 0 is an
    unknown category, because ids that are counted from 0 give all categories the ids of others.
    """
    counts = Counter(int(id_) for id_ in ids if is_integer(id_))
    people = categories.people
    if counts and not people & counts.keys() and PEDESTRIAN_ID in counts and PEDESTRIAN_ID not in categories.names:
        sentence = f"category {PEDESTRIAN_ID} is read as {categories.all_shown(people)} of the ground truth"
        notes.append(Note("detections_of_category_1", counts[PEDESTRIAN_ID], sentence))
        people = frozenset([PEDESTRIAN_ID])
    problem = _category_problem(counts, people, categories)
    if problem is not None:
        problems.append(problem)
        # Other fields of all detections are checked.
        return [True] * len(ids)
    others = Counter({id_: count for id_, count in counts.items() if id_ not in people})
    if others:
        counted = categories.counted(others)
        sentence = (
            f"left out {others.total():,} of {len(ids):,} detections, of other categories than "
            f"{categories.all_shown(people)}: {listed(counted)}"
        )
        notes.append(Note("detections_of_other_categories", others.total(), sentence, counted))
    return [not is_integer(id_) or id_ in people for id_ in ids]


def _category_problem(counts: Counter[int], people: frozenset[int], categories: Categories) -> str | None:
    """What is wrong with the categories of detections; None if nothing is."""
    wanted = categories.all_shown(people)
    how_many = f"{counts.total():,} detections"
    if asked := categories.unused_people & counts.keys():
        names = " ".join(f"--person {shown(categories.names[id_])}" for id_ in sorted(asked | people))
        return (
            f"{sum(counts[id_] for id_ in asked):,} of {how_many} are of category {categories.all_shown(asked)}, which "
            f"no box of the ground truth has; its people are {wanted}. Correct the category_id, or count both: {names}"
        )
    if counts and not people & counts.keys():
        found = categories.all_shown(counts)
        guess = (
            ". Perhaps they count categories from 0, and the ground truth does not"
            if _counts_from_0(counts, categories)
            else ""
        )
        return (
            f"none of {how_many} is of category {wanted}, the people of the ground truth; they are of category {found}"
            f"{guess}. Correct the category_id of the people among them"
        )
    if _counts_from_0(counts, categories):
        return (
            f"{counts[0]:,} of {how_many} are of category 0, which the ground truth does not have, beside others of "
            f"{wanted}. Perhaps they count categories from 0, so that the same ids are other categories. Correct the "
            "category_id"
        )
    return None


def _counts_from_0(counts: Counter[int], categories: Categories) -> bool:
    return 0 in counts and 0 not in categories.names and 0 not in categories.people


def _scores(records: Records, notes: list[Note]) -> list[object]:
    """The scores, also those written as text."""
    values = records.column("score", lambda value: is_finite(_number(value)), "a finite number", _REMEDY)
    num_texts = sum(isinstance(value, str) for value in values)
    if num_texts:
        sentence = f"{num_texts:,} of {len(values):,} scores are text, read as numbers"
        notes.append(Note("scores_as_text", num_texts, sentence))
    return [_number(value) for value in values]


def _number(value: object) -> object:
    """The number that a text states; any other value is returned as it is."""
    if isinstance(value, str) and len(value) <= 40 and _NUMBER.fullmatch(value):
        return float(value)
    return value
