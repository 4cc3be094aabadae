"""Reader of ``kaist_annotations_test20.json``, the test annotations of the benchmark's Python evaluation.

COCO-style, with the frame as ``im_name`` (``set06/V000/I00019``), the level of occlusion as ``occlusion`` and ids of
images from 0, which detections in COCO's results format use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hkd.coco.categories import read_category_names
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_json
from hkd.coco.parsing.records import Records
from hkd.coco.parsing.values import COORDINATES_REQUIREMENT, is_coordinates, is_flag, is_integer, is_text
from hkd.data.sources.caltech.files import FrameKey
from hkd.data.sources.caltech.vbb import VideoObject
from hkd.data.sources.kaist.frame_lists import frame_of_name
from hkd.data.sources.kaist.xml_annotations import HEAVY_OCCLUSION

FILE_PATTERN = "kaist_annotations*.json"
_REMEDY = "correct or remove the record"


@dataclass(frozen=True)
class BenchmarkFrame:
    """One frame of the file."""

    image_id: int
    objects: tuple[VideoObject, ...]


def read_benchmark_json(path: Path) -> dict[FrameKey, BenchmarkFrame]:
    """Read the frames of the file.

    Raises:
        AnnotationError: it cannot be read, or records are wrong; lists every kind of mistake.
    """
    document = read_json(path)
    lists = [
        document.get(key) if isinstance(document, dict) else None for key in ("images", "annotations", "categories")
    ]
    images, annotations, categories = (value if isinstance(value, list) else None for value in lists)
    if images is None or annotations is None or categories is None:
        problem = 'it must be an object with the lists "images", "annotations" and "categories"'
        raise AnnotationError([problem], str(path))
    problems: list[str] = []
    image_records = Records(images, "images", problems, named_by=("id", "im_name"))
    ids = image_records.column("id", is_integer, "an integer", "number the images")
    image_records.require_unique("id", ids, "merge or renumber the images")
    requirement = "the name of a frame, as set06/V000/I00019, of one image"
    keys = [frame_of_name(str(name)) for name in image_records.column("im_name", is_text, requirement, _REMEDY)]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    wrong = [i for i, key in enumerate(keys) if key is None or first[key] != i]
    named = [(image_records.positions[i], image_records.rows[i].get("im_name")) for i in wrong]
    image_records.note('"im_name"', requirement, named, _REMEDY)
    names = read_category_names(categories, problems)
    objects = _objects(Records(annotations, "annotations", problems, named_by=("id", "image_id")), ids, names or {})
    if problems:
        raise AnnotationError(problems, str(path))
    return {
        key: BenchmarkFrame(int(id_), tuple(objects.get(int(id_), ())))
        for key, id_ in zip(keys, ids, strict=True)
        if key is not None and is_integer(id_)
    }


def _objects(records: Records, image_ids: list[object], names: dict[int, str]) -> dict[int, list[VideoObject]]:
    """The objects of each image; mistakes are noted in the records' problems."""
    num_problems = len(records.problems)
    of_images = records.column("image_id", is_integer, "an integer", _REMEDY)
    records.require_known_image(
        of_images, set(filter(is_integer, image_ids)), 'the "id" of one of the "images"', _REMEDY
    )
    categories = records.column(
        "category_id", lambda value: is_integer(value) and value in names, 'one of the "categories"', _REMEDY
    )
    boxes = records.column("bbox", is_coordinates, COORDINATES_REQUIREMENT, _REMEDY)
    levels = records.column(
        "occlusion", lambda value: value in range(HEAVY_OCCLUSION + 1), "0 (none), 1 (partial) or 2 (heavy)", _REMEDY
    )
    ignored = records.column("ignore", is_flag, "0 or 1", _REMEDY, default=0)
    found: dict[int, list[VideoObject]] = {}
    if len(records.problems) > num_problems:
        return found
    for image_id, category, box, level, is_ignored in zip(of_images, categories, boxes, levels, ignored, strict=True):
        assert is_integer(image_id)
        assert is_integer(category)
        assert is_integer(level)
        assert is_coordinates(box)
        x, y, width, height = map(float, box)
        label = names[int(category)]
        found.setdefault(int(image_id), []).append(
            VideoObject(label, (x, y, width, height), int(level), None, ignored=bool(is_ignored))
        )
    return found
