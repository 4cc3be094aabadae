"""Simple readers of the formats' documented rules, the reference for the content of broken files."""

from __future__ import annotations

import json
import math
import re
from typing import Any
from xml.etree import ElementTree as ET

from tests.fuzz.running import MalformedError

_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def plain_json(content: bytes) -> Any:
    """The document; duplicate keys are malformed."""

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(members)) < len(members):
            raise MalformedError(f"duplicate key in {members}")
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


def plain_detections_json(content: bytes, ids: dict[str, int]) -> list[tuple[int, list[float], float]]:
    """Image id, box and score of each record of category 1 with an area; ``ids`` are by the stem of the file name."""
    people = [one for one in plain_json(content) if plain_id(one["category_id"]) == 1]
    numbers = [plain_id(one["image_id"]) for one in people]
    if any(number not in ids.values() for number in numbers):
        numbers = [ids[one["image_id"].rsplit("/", 1)[-1].removesuffix(".jpg")] for one in people]
    return [
        (number, one["bbox"], float(one["score"]))
        for number, one in zip(numbers, people, strict=True)
        if has_area(one["bbox"])
    ]


def plain_id(value: Any) -> Any:
    """An id, also where it is text."""
    return int(value.split(".")[0]) if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()) else value


def has_area(box: list[float]) -> bool:
    """Whether a box has an area; no size may be negative."""
    if min(box[2:]) < 0:
        raise MalformedError(f"{box} has a negative size")
    return min(box[2:]) > 0


def plain_ground_truth(content: bytes) -> dict[str, Any]:
    """Ids of images, and boxes image by image with height, visible share and whether they are ignored."""
    document = plain_json(content)
    categories = document.get("categories") or [{"id": 1, "name": "pedestrian"}]
    _unique([one["id"] for one in categories])
    people = [one["id"] for one in categories if one["name"].strip().lower() in ("person", "pedestrian")]
    pedestrian = plain_id(people[0] if people else categories[0]["id"])
    boxes = []
    for one in document["annotations"]:
        if plain_id(one["category_id"]) != pedestrian or not has_area(one["bbox"]):
            continue
        flags = [_unless_none(one.get(key), 0) for key in ("ignore", "iscrowd")]
        is_image_size = "width" in one and "height" in one
        boxes.append(
            {
                "image_id": plain_id(one["image_id"]),
                "bbox": one["bbox"],
                "height": one["bbox"][3] if is_image_size else _unless_none(one.get("height"), one["bbox"][3]),
                "vis_ratio": _unless_none(one.get("vis_ratio"), _share(one.get("vis_bbox"), one["bbox"])),
                "ignore": any(flags),
            }
        )
    return {
        "image_ids": [plain_id(image["id"]) for image in document["images"]],
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
        raise MalformedError(f"duplicate in {values}")


def plain_coco(content: bytes) -> Found:
    """People of a COCO file whose images are in ``val``; crowds are ignored."""
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
    """All boxes of ``val_gt.json``; its images are in folders of cities."""
    document = plain_json(content)
    return _plain_annotations(document, lambda name: f"val/{name.split('_')[0]}/{name}")


def plain_caltech_json(content: bytes) -> Found:
    """Frames by file name, of 640 x 480 pixels whatever size the file states; ignored boxes are labelled so."""
    document = plain_json(content)

    def named(name: str) -> str:
        if re.fullmatch(r"set\d\d_V\d{3}_I\d{5}\.(jpg|jpeg|png)", name.rsplit("/", maxsplit=1)[-1]) is None:
            raise MalformedError(f"{name!r} names no frame")
        return f"{name.rsplit('/', maxsplit=1)[-1][:17]}.jpg"

    images, boxes = _plain_annotations(document, named)
    chosen = {name for name, _, _ in images if (int(name[12:17]) + 1) % 30 == 0 and int(name[3:5]) <= 10}
    return (
        [(name, 640, 480) for name in chosen],
        [(box[0], box[1], box[2], 1, "ignore" if box[2] else "person") for box in boxes if box[0] in chosen],
    )


def _plain_annotations(document: Any, named: Any) -> Found:
    # Without categories, all boxes are of one.
    categories = document.get("categories") or []
    _unique([one["id"] for one in categories])
    people = [one["id"] for one in categories if one["name"].strip().lower() in ("person", "pedestrian")]
    pedestrian = (people or [one["id"] for one in categories] or [1])[0]
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
    """Lines of JSON, each an image of 200 x 120 pixels; those of which there is no file are left out."""
    images: list[tuple[str, int, int]] = []
    boxes: list[Box] = []
    for line in content.split(b"\n"):
        if line.strip():
            record = plain_json(line)
            if record["ID"] not in ("273271,c9db", "273278,1a2b"):
                continue
            name = f"Images/{record['ID']}.jpg"
            images.append((name, 200, 120))
            for one in record["gtboxes"]:
                ignore = int(one["tag"] != "person" or one.get("extra", {}).get("ignore", 0) == 1)
                label = ("ignore" if one["tag"] == "person" else one["tag"]) if ignore else ""
                boxes.append((name, one["fbox"], ignore, _share(one["vbox"], one["fbox"], 0.0), label))
    _unique([name for name, _, _ in images])
    return images, boxes


def plain_eurocity(content: bytes) -> Found:
    """The persons of the frame ``ulm_00001``, including nested children."""
    frame = plain_json(content)
    name = "day/img/train/ulm/ulm_00001.png"
    boxes: list[Box] = []

    def visit(children: list[Any]) -> None:
        """These children, then those below each of them."""
        for one in children:
            tags = one.get("tags") or []
            hidden = [tag.split(">")[1] for tag in tags if tag.startswith(("occluded>", "truncated>"))]
            if not all(share in ("10", "40", "80") for share in hidden):
                raise MalformedError(f"{tags} are no tags")
            identity = one.get("identity") or "unknown"
            is_person = identity == "pedestrian"
            is_unreal = any(tag in ("depiction", "reflection") for tag in tags)
            is_vehicle = identity.removesuffix("-group") in (
                *("bicycle", "buggy", "motorbike", "scooter", "tricycle", "wheelchair"),
            )
            corners = [_float(one.get(key)) for key in ("x0", "y0", "x1", "y1")]
            if not is_vehicle and not (is_unreal and not is_person) and corners != [None] * 4:
                reason = ["depiction", "reflection", "sitting-lying", "behind-glass"]
                label = next((tag for tag in reason if tag in tags), "") if is_person else identity
                x0, y0, x1, y1 = map(float, corners)
                visible = min((_VISIBLE[int(share)] for share in hidden), default=1)
                boxes.append((name, [x0, y0, x1 - x0, y1 - y0], int(label != ""), visible, label))
        below = [child for one in children for child in one.get("children") or []]
        if below:
            visit(below)

    visit(frame["children"])
    return [(name, _float(frame["imagewidth"]), _float(frame["imageheight"]))], boxes


def _float(value: Any) -> Any:
    """A number, also from text in decimal digits; None for null."""
    return float(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else value


def plain_official_citypersons(content: bytes) -> Found:
    """Objects of the image ``lindau_000000_000019`` of the official release."""
    document = plain_json(content)
    name = "val/lindau/lindau_000000_000019_leftImg8bit.png"
    if (document["imgWidth"], document["imgHeight"]) != (2048, 1024):
        raise MalformedError("it is no image of Cityscapes")
    labels = {"pedestrian": "", "person group": "people group", "ignore": "ignore region"}
    boxes: list[Box] = []
    for one in document["objects"]:
        label = labels[" ".join(one["label"].lower().split())]
        share = float(f"{_share(one['bboxVis'], one['bbox']):.12g}")
        boxes.append((name, one["bbox"], int(label != ""), share, label))
    return [(name, 2048, 1024)], boxes


def plain_kaist_xml(content: bytes) -> Found:
    """Objects of the frame ``set06_V000_I00019`` in XML."""
    root = ET.fromstring(content)
    size = [root.findtext(f"size/{tag}") for tag in ("width", "height")]
    if root.tag != "annotation" or size not in ([None, None], ["640", "512"]):
        raise MalformedError(f"{root.tag} of {size} is no annotation")
    name = "images/set06/V000/visible/I00019.jpg"
    boxes: list[Box] = []
    for one in root.iterfind("object"):
        tags = ("x", "y", "w", "h") if one.find("bndbox/w") is not None else ("xmin", "ymin", "xmax", "ymax")
        (box,) = plain_rows(" ".join(one.findtext(f"bndbox/{tag}", "none") for tag in tags).encode(), columns=4)
        if tags[0] == "xmin":
            box = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        label = one.findtext("name", "").strip().lower()
        ignored = int(one.findtext("difficult") or 0) == 1 or label != "person"
        boxes.append((name, box, int(ignored), (1.0, 0.75, 0.25)[int(one.findtext("occlusion") or 0)], label))
    return [(name, 640, 512)], boxes


def plain_kaist_json(content: bytes) -> Found:
    """Frames of the benchmark's JSON that are in ``test-all-20``."""
    document = plain_json(content)
    names = {one["id"]: one["name"] for one in document["categories"]}
    _unique([one["id"] for one in document["categories"]])
    _unique([one["id"] for one in document["images"]])
    images = {}
    for one in document["images"]:
        match = re.fullmatch(r"set(\d\d)/V(\d{3})/I(\d{5})", one["im_name"])
        if match is None:
            raise MalformedError(f"{one['im_name']!r} names no frame")
        if 6 <= int(match[1]) <= 11 and int(match[3]) % 20 == 19:
            images[one["id"]] = f"images/set{match[1]}/V{match[2]}/visible/I{match[3]}.jpg"
    boxes: list[Box] = []
    for one in document["annotations"]:
        label = names[one["category_id"]].lower()
        ignored = int(bool(one.get("ignore")) or label != "person")
        share = (1.0, 0.75, 0.25)[int(one["occlusion"])]
        if one["image_id"] in images:
            boxes.append((images[one["image_id"]], one["bbox"], ignored, share, label))
    return [(name, 640, 512) for name in images.values()], boxes


def plain_kaist_text(content: bytes) -> Found:
    """Objects of the frame ``set06_V000_I00019`` in text; column "occluded" is a level."""
    found = []
    for line in content.decode().removeprefix("\ufeff").splitlines()[1:]:
        if line.strip():
            label, *columns = line.split()
            found.append((label, int(float(columns[4]))))
    _, boxes = plain_bbgt(content)
    name = "images/set06/V000/visible/I00019.jpg"
    shares = [(1.0, 0.75, 0.25)[level] for _, level in found]
    named = [(name, *box[1:3], share, box[4].lower()) for box, share in zip(boxes, shares, strict=True)]
    return [(name, 640, 512)], [(one[0], one[1], one[2], one[3], one[4]) for one in named]


def plain_inria(content: bytes) -> Found:
    """The one image of a file, and its people; boxes without area, or outside the image, are dropped."""
    origins = set(re.findall(r"(?m)^# Top left pixel co-ordinates : \((0, 0|1, 1)\)", content.decode("latin-1")))
    if len(origins) > 1:
        raise MalformedError("two origins")
    shift = 1 if origins == {"0, 0"} else 0
    ((name, width, height),), people = plain_pennfudan(content)
    boxes: list[Box] = [
        (f"Train/pos/{name}", [x + shift, y + shift, w, h], 0, 1.0, "")
        for _, (x, y, w, h), *_ in people
        if w > 0 and h > 0 and -w < x + shift < width and -h < y + shift < height
    ]
    return [(f"Train/pos/{name}", width, height)], boxes


def plain_pennfudan(content: bytes) -> Found:
    """The one image of a file, and its people; corners count from 1."""
    text = content.decode("latin-1")
    name = re.findall(r'(?m)^Image filename : "(.+)"', text)
    size = re.findall(r"(?m)^Image size \(X x Y x C\) : (\d+) x (\d+) x \d+", text)
    count = re.findall(r"(?m)^Objects with ground truth : (\d+)", text)
    corners = re.findall(r"(?m)^Bounding box for object .* : \((-?\d+), (-?\d+)\) - \((-?\d+), (-?\d+)\)", text)
    if (len(name), len(size), len(count)) != (1, 1, 1) or int(count[0]) != len(corners):
        raise MalformedError("lines are missing")
    file_name = name[0].split("/")[-1]
    boxes = []
    for left, top, right, bottom in (map(int, four) for four in corners):
        box = [float(number) for number in (left - 1, top - 1, right - left + 1, bottom - top + 1)]
        boxes.append((file_name, box, 0, 1.0, ""))
    return [(file_name, *map(int, size[0]))], boxes


def plain_bbgt(content: bytes) -> Found:
    """Objects of the frame ``set06_V000_I00029``."""
    head, *lines = content.decode().removeprefix("\ufeff").splitlines()
    if re.fullmatch(r"%\s*bbGt version=3\s*", head) is None:
        raise MalformedError(f"{head!r} is no head")
    name = "set06_V000_I00029.jpg"
    boxes: list[Box] = []
    for line in filter(str.strip, lines):
        label, *_ = line.split()
        if "," in line:
            raise MalformedError(f"{line!r} is parted by commas")
        (row,) = plain_rows(line.strip()[len(label) :].encode(), columns=11)
        box, occluded, visible, ignored = row[:4], row[4], row[5:9], row[9]
        share = _share(visible, box) if occluded and visible[2] * visible[3] > 0 else 1.0
        boxes.append((name, box, int(bool(ignored) or label != "person"), share, label))
    return [(name, 640, 480)], boxes
