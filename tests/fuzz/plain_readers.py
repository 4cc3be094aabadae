"""The formats' documented rules, read as simply as can be: what a broken file says, if it says anything."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from tests.fuzz.running import MalformedError

_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def plain_json(content: bytes) -> Any:
    """The document, in which no key stands twice."""

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(members)) < len(members):
            raise MalformedError(f"a key stands twice in {members}")
        return dict(members)

    try:
        return json.loads(content, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"it is no JSON ({error})") from error


def plain_rows(content: bytes, columns: int = 6) -> list[list[float]]:
    """Rows of numbers in decimal digits, parted by commas or blanks."""
    rows = []
    for line in content.decode().removeprefix("\ufeff").split("\n"):
        cells = line.replace(",", " ").split()
        if cells and (len(cells) != columns or not all(map(_DECIMAL.fullmatch, cells))):
            raise MalformedError(f"{line!r} is no row")
        rows += [[float(cell) for cell in cells]] if cells else []
    if not all(math.isfinite(number) for row in rows for number in row):
        raise MalformedError("a number is beyond floating point")
    return rows


def plain_detections_json(content: bytes) -> list[tuple[int, list[float], float]]:
    """Image id, box and score of each record, as they stand."""
    return [(one["image_id"], one["bbox"], one["score"]) for one in plain_json(content)]


def plain_ground_truth(content: bytes) -> dict[str, Any]:
    """Ids of images, and boxes image by image with height, visible share and whether they are ignored."""
    document = plain_json(content)
    boxes = [
        {
            "image_id": one["image_id"],
            "bbox": one["bbox"],
            "height": one["bbox"][3] if "width" in one else one.get("height", one["bbox"][3]),
            "vis_ratio": one.get("vis_ratio", 1),
            "ignore": bool(one.get("ignore", 0) or one.get("iscrowd", 0)),
        }
        for one in document["annotations"]
    ]
    return {
        "image_ids": [image["id"] for image in document["images"]],
        "boxes": sorted(boxes, key=lambda one: int(one["image_id"])),
    }


Box = tuple[str, list[float], int, float, str]
"""File name, box, ignore flag, visible share and label, as :func:`tests.fuzz.running.plain_box` has them."""
Found = tuple[list[tuple[str, int, int]], list[Box]]
"""Images (file name, width, height) and boxes."""
_VISIBLE = {10: 0.75, 40: 0.4, 80: 0.1}


def _share(visible: list[float] | None, box: list[float], none: float = 1.0) -> float:
    area = box[2] * box[3]
    return none if visible is None or area <= 0 else min(1.0, max(0, visible[2]) * max(0, visible[3]) / area)


def _unless_none(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _unique(values: list[Any]) -> None:
    if any(values.count(value) > 1 for value in values):
        raise MalformedError(f"one stands twice in {values}")


def plain_coco(content: bytes) -> Found:
    """People of a COCO file whose images lie in ``val``; crowds are ignored."""
    document = plain_json(content)
    _unique([one["id"] for one in document["categories"]])
    people = {one["id"] for one in document["categories"] if one["name"].strip().lower() in ("person", "pedestrian")}
    images = {one["id"]: (f"val/{one['file_name']}", one["width"], one["height"]) for one in document["images"]}
    boxes = []
    for one in document["annotations"]:
        if one["category_id"] in people:
            is_crowd = _unless_none(one.get("iscrowd"), 0)
            ignore = int(bool(is_crowd or _unless_none(one.get("ignore"), 0)))
            label = _unless_none(one.get("label"), "crowd" if is_crowd else "")
            visible = _share(one.get("vis_bbox"), one["bbox"])
            boxes.append((images[one["image_id"]][0], one["bbox"], ignore, one.get("vis_ratio", visible), label))
    return list(images.values()), boxes


def plain_citypersons_json(content: bytes) -> Found:
    """All boxes of ``val_gt.json``; its images lie in folders of cities."""
    document = plain_json(content)
    return _plain_annotations(document, lambda name: f"val/{name.split('_')[0]}/{name}")


def plain_caltech_json(content: bytes) -> Found:
    """Frames that the names tell, of 640 x 480 pixels whatever the file says; ignored ones are labelled so."""
    document = plain_json(content)

    def named(name: str) -> str:
        if re.fullmatch(r"set\d\d_V\d{3}_I\d{5}\.(jpg|jpeg|png)", name.split("/")[-1]) is None:
            raise MalformedError(f"{name!r} names no frame")
        return f"{name.split('/')[-1][:17]}.jpg"

    images, boxes = _plain_annotations(document, named)
    chosen = {name for name, _, _ in images if (int(name[12:17]) + 1) % 30 == 0 and int(name[3:5]) <= 10}
    return (
        [(name, 640, 480) for name in chosen],
        [(box[0], box[1], box[2], 1, "ignore" if box[2] else "person") for box in boxes if box[0] in chosen],
    )


def _plain_annotations(document: Any, named: Any) -> Found:
    _unique([one["id"] for one in document["categories"]])
    people = [one["id"] for one in document["categories"] if one["name"].strip().lower() in ("person", "pedestrian")]
    pedestrian = people[0] if people else document["categories"][0]["id"]
    images = {
        one["id"]: (named(one.get("file_name", one.get("im_name"))), one["width"], one["height"])
        for one in document["images"]
    }
    _unique([name for name, _, _ in images.values()])
    boxes = []
    for one in document["annotations"]:
        flags = [_unless_none(one.get(key), 0) for key in ("ignore", "iscrowd")]
        ignore = int(any(flags) or one["category_id"] != pedestrian)
        visible = _unless_none(one.get("vis_ratio"), _share(one.get("vis_bbox"), one["bbox"]))
        label = _unless_none(one.get("label"), "")
        boxes.append((images[one["image_id"]][0], one["bbox"], ignore, min(1.0, visible), label))
    return list(images.values()), boxes


def plain_crowdhuman(content: bytes) -> Found:
    """Lines of JSON, each an image of 200 x 120 pixels."""
    images: list[tuple[str, int, int]] = []
    boxes: list[Box] = []
    for line in content.split(b"\n"):
        if line.strip():
            record = plain_json(line)
            name = f"Images/{record['ID']}.jpg"
            images.append((name, 200, 120))
            for one in record["gtboxes"]:
                ignore = int(one["tag"] != "person" or one.get("extra", {}).get("ignore", 0) == 1)
                label = ("ignore" if one["tag"] == "person" else one["tag"]) if ignore else ""
                boxes.append((name, one["fbox"], ignore, _share(one["vbox"], one["fbox"], 0.0), label))
    _unique([name for name, _, _ in images])
    return images, boxes


def plain_eurocity(content: bytes) -> Found:
    """The persons of the frame ``ulm_00001``, children's children too."""
    frame = plain_json(content)
    name = "day/img/train/ulm/ulm_00001.png"
    boxes: list[Box] = []

    def visit(children: list[Any]) -> None:
        for one in children:
            tags = one.get("tags", [])
            hidden = [tag.split(">")[1] for tag in tags if tag.startswith(("occluded>", "truncated>"))]
            if not all(share in ("10", "40", "80") for share in hidden):
                raise MalformedError(f"{tags} are no tags")
            is_person = one["identity"] == "pedestrian"
            is_unreal = any(tag in ("depiction", "reflection") for tag in tags)
            is_vehicle = one["identity"].removesuffix("-group") in (
                *("bicycle", "buggy", "motorbike", "scooter", "tricycle", "wheelchair"),
            )
            if not is_vehicle and not (is_unreal and not is_person):
                reason = ["depiction", "reflection", "sitting-lying", "behind-glass"]
                label = next((tag for tag in reason if tag in tags), "") if is_person else one["identity"]
                box = [one["x0"], one["y0"], one["x1"] - one["x0"], one["y1"] - one["y0"]]
                visible = min((_VISIBLE[int(share)] for share in hidden), default=1)
                boxes.append((name, box, int(label != ""), visible, label))
            visit(one.get("children", []))

    visit(frame["children"])
    return [(name, frame["imagewidth"], frame["imageheight"])], boxes
