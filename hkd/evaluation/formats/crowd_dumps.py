"""Detections as CrowdDet writes them: a line of JSON for each image, ``{"ID": ..., "dtboxes": [...]}``.

A box of ``dtboxes`` has ``box`` [x, y, width, height] in pixels, ``score``, and often ``tag``: 1 or ``person`` for
people.
``ID`` is the name of the image's file without its ending.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from hkd.coco.categories import listed
from hkd.coco.detections import DetectedBoxes, detections_of_records
from hkd.coco.ground_truth import GroundTruth
from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import parse_json
from hkd.coco.parsing.records import Records
from hkd.coco.parsing.values import shown

_PEOPLE: Final = (1, "person")


def is_dump(content: bytes) -> bool:
    """Whether the first line that is not blank is an object with ``dtboxes``."""
    first = next((line for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()), b"")
    if b'"dtboxes"' not in first:
        return False
    try:
        record = parse_json(first, "")
    except AnnotationError:
        return True  # reading it reports the cause, with the line
    return isinstance(record, dict) and "dtboxes" in record


def parse_dump(content: bytes, source: str, truth: GroundTruth | None) -> DetectedBoxes:
    """Detections from a dump, in its order.

    Args:
        content: Of the file.
        source: The file; for messages.
        truth: The ground truth. None if it is invalid: images are then not checked, and the result must not be used.

    Raises:
        AnnotationError: naming every kind of mistake, its lines and records.
    """
    problems: list[str] = []
    notes: list[Note] = []
    lines = _lines(content, problems)
    boxes: list[object] = []
    others: Counter[str] = Counter()
    for number, record in lines:
        for box in record["dtboxes"]:
            if not isinstance(box, dict):
                problems.append(
                    f'line {number}: each of "dtboxes" must be an object, but one is {shown(box)}; correct it'
                )
            elif box.get("tag") in (None, *_PEOPLE):
                boxes.append({"line": number, "ID": record["ID"], "box": box.get("box"), "score": box.get("score")})
            else:
                others[shown(box["tag"])] += 1
    if others and not boxes:
        found = listed([f"{count:,} of {tag}" for tag, count in others.most_common()])
        problems.append(f'no box has the "tag" 1 of people, but there are {found}; correct the tags of people')
    elif others:
        counted = tuple(f"{count:,} of {tag}" for tag, count in others.most_common())
        sentence = f"left out {others.total():,} boxes of other tags than 1: {listed(counted)}"
        notes.append(Note("detections_of_other_categories", others.total(), sentence, counted))
    records = Records(boxes, "dtboxes", problems, named_by=("line", "ID"))
    return detections_of_records(records, source, truth, notes, image_key="ID", box_key="box")


def _lines(content: bytes, problems: list[str]) -> list[tuple[int, dict[str, list[object]]]]:
    """The objects of the lines that are well formed, with the numbers of the lines."""
    lines = []
    seen: dict[object, int] = {}
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = parse_json(line, "")
        except AnnotationError as error:
            problems.append(f"line {number}: {error.problems[0].removeprefix('line 1, ')}")
            continue
        image = record.get("ID") if isinstance(record, dict) else None
        if (
            not isinstance(record, dict)
            or not isinstance(image, (str, int))
            or not isinstance(record.get("dtboxes"), list)
        ):
            problems.append(
                f'line {number}: must be an object with "ID" and a list "dtboxes"; correct or remove the line'
            )
        elif image in seen:
            problems.append(f"line {number}: the ID {shown(image)} is that of line {seen[image]}; merge the two lines")
        else:
            seen[image] = number
            lines.append((number, record))
    return lines
