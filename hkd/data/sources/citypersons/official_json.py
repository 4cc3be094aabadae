"""Reader of the official CityPersons release on Cityscapes' site: one JSON file for each image.

``gtBboxCityPersons/{train,val}/CITY/NAME_gtBboxCityPersons.json`` holds::

    {"imgHeight": 1024, "imgWidth": 2048, "objects": [{"instanceId": 24000, "bbox": [947, 406, 17, 40],
     "bboxVis": [950, 407, 14, 39], "label": "pedestrian"}, ...]}

Boxes are [x, y, width, height] of the full body and of the visible part. The labels are those of :data:`CLASSES`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_json
from hkd.coco.parsing.values import VISIBLE_BOX_REQUIREMENT, is_coordinates, is_visible_box, shown
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split
from hkd.data.sources.citypersons.records import (
    IMAGE_ENDING,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    LARGEST_ROWS,
    box_record,
    image_record,
)

FILE_ENDING: Final = "_gtBboxCityPersons.json"
CLASSES: Final = {
    "ignore": 0,
    "pedestrian": 1,
    "rider": 2,
    "sitting person": 3,
    "person (other)": 4,
    "person group": 5,
}
"""Class of each label, as in the ``.mat`` files."""


def read_json_split(files: list[Path], name: str, problems: list[str], *, progress: bool) -> Split:
    """Read the files of one split; what is wrong in them is added to ``problems``.

    Image ids start from 1 by city and name, which is the order of the ``.mat`` files and of ``val_gt.json``.

    Args:
        files: ``CITY/NAME_gtBboxCityPersons.json``.
        name: of the split, ``train`` or ``val``.
        problems: messages with file and object.
        progress: Show a progress bar on stderr.
    """
    split = Split(name, [], [])
    ordered = sorted(files, key=lambda path: (path.parent.name, path.name))
    for number, path in enumerate(track_progress(ordered, f"Reading {name}", shown=progress), 1):
        image_name = path.name.removesuffix(FILE_ENDING) + IMAGE_ENDING
        split.images.append(image_record(number, f"{name}/{path.parent.name}/{image_name}"))
        try:
            objects = _objects(read_json(path))
        except AnnotationError as error:
            problems += [f"{path}: {problem}" for problem in error.problems]
            continue
        if len(split.annotations) + len(objects) > LARGEST_ROWS:
            problems.append(f"{path}: up to here there are more than {LARGEST_ROWS} boxes, which CityPersons has not")
            break
        for index, value in enumerate(objects):
            record = _record(number, value, f"{path}, objects[{index}]", problems)
            if record is not None:
                split.annotations.append(record)
    return split


def _objects(document: object) -> list[Any]:
    """The objects of one file.

    Raises:
        AnnotationError: it has none, or states another size than that of Cityscapes' images.
    """
    objects = document.get("objects") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(objects, list):
        raise AnnotationError(["it must be an object with imgWidth, imgHeight and a list 'objects'"])
    size = document.get("imgWidth"), document.get("imgHeight")
    if size != (IMAGE_WIDTH, IMAGE_HEIGHT):
        found = " x ".join(map(shown, size))
        raise AnnotationError(
            [f"imgWidth x imgHeight is {found}; CityPersons' images are {IMAGE_WIDTH} x {IMAGE_HEIGHT} pixels"]
        )
    return objects


def _record(image_id: int, value: object, where: str, problems: list[str]) -> dict[str, Any] | None:
    """The record of one object; ``None``, with an entry in ``problems``, if it is malformed."""
    if not isinstance(value, dict):
        problems.append(f"{where} is {shown(value)}; it must be an object with label, bbox and bboxVis")
        return None
    label, box, visible = (value.get(key) for key in ("label", "bbox", "bboxVis"))
    class_id = CLASSES.get(" ".join(label.lower().split())) if isinstance(label, str) else None
    if class_id is None:
        problems.append(f"{where}: label is {shown(label)}; it must be one of {', '.join(CLASSES)}")
    elif not is_coordinates(box):
        problems.append(f"{where}: bbox is {shown(box)}; it must be [x, y, width, height], four finite numbers to 1e9")
    elif not is_coordinates(visible) or not is_visible_box(visible):
        problems.append(f"{where}: bboxVis is {shown(visible)}; it must be {VISIBLE_BOX_REQUIREMENT}")
    else:
        return box_record(image_id, class_id, box, visible)
    return None
