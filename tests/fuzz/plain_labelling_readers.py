"""Simple readers of VOC, CVAT, MOT and YOLO files, the reference for the content of broken files."""

from __future__ import annotations

import math
import os
from typing import Any
from xml.etree import ElementTree as ET

import yaml

from tests.fuzz.plain_readers import _DECIMAL, Box, Found, _unique
from tests.fuzz.running import MalformedError


def plain_voc(content: bytes) -> Found:
    """The file ``a.xml``, of an image of 200 x 120 pixels, with corners as pixels counted from 1."""
    if b"<!DOCTYPE" in content:
        raise MalformedError("it has a document type")
    try:
        top = ET.fromstring(content)
    except ET.ParseError as error:
        raise MalformedError(f"it is no XML ({error})") from error
    size = [(top.findtext(f"size/{key}") or "0").strip() or "0" for key in ("width", "height")]
    if not all(map(_DECIMAL.fullmatch, size)) or ([*map(float, size)] != [200, 120] and min(map(float, size)) != 0):
        raise MalformedError(f"the size {size} is not the image's")
    boxes: list[Box] = []
    for one in top.findall("object"):
        name = (one.findtext("name") or "").strip()
        texts = [(one.findtext(f"bndbox/{key}") or "").strip() for key in ("xmin", "ymin", "xmax", "ymax")]
        difficult = (one.findtext("difficult") or "").strip() or "0"
        if not name or not all(map(_DECIMAL.fullmatch, texts)) or difficult not in ("0", "1", "true", "false"):
            raise MalformedError(f"{name!r} {texts} {difficult!r} is no object")
        left, top_, right, bottom = map(float, texts)
        if right < left or bottom < top_ or not all(map(math.isfinite, (left, top_, right, bottom))):
            raise MalformedError(f"{texts} are no corners")
        ignore = int(difficult in ("1", "true"))
        if name == "person":
            box = [left - 1, top_ - 1, right - left + 1, bottom - top_ + 1]
            boxes.append(("a.jpg", box, ignore, 1.0, "difficult" if ignore else ""))
    return [("a.jpg", 200, 120)], boxes


def plain_cvat(content: bytes) -> Found:
    """``annotations.xml`` with boxes and polygons on images of 200 x 120 pixels in ``images``."""
    if b"<!DOCTYPE" in content:
        raise MalformedError("it has a document type")
    try:
        top = ET.fromstring(content)
    except ET.ParseError as error:
        raise MalformedError(f"it is no XML ({error})") from error
    images = []
    boxes: list[Box] = []
    for image in top.findall("image"):
        name = f"images/{image.get('name')}"
        images.append((name, int(float(image.get("width", ""))), int(float(image.get("height", "")))))
        for shape in image:
            if shape.tag == "polygon":
                pairs = [pair.split(",") for pair in shape.get("points", "").split(";") if pair.strip()]
                xs, ys = [float(x) for x, _ in pairs], [float(y) for _, y in pairs]
                corners = [min(xs), min(ys), max(xs), max(ys)]
            else:
                corners = [float(shape.get(key, "")) for key in ("xtl", "ytl", "xbr", "ybr")]
            if not all(map(math.isfinite, corners)) or corners[2] < corners[0] or corners[3] < corners[1]:
                raise MalformedError(f"{corners} are no box")
            box = [corners[0], corners[1], corners[2] - corners[0], corners[3] - corners[1]]
            label = shape.get("label", "")
            if label in ("person", "ignore"):
                boxes.append((name, box, int(label == "ignore"), 1.0, label if label == "ignore" else ""))
    return images, boxes


def plain_mot(content: bytes) -> Found:
    """``gt.txt`` of the sequence ``MOT17-02`` with three frames of 200 x 120 pixels."""
    names = [f"MOT17-02/img1/{number:06d}.jpg" for number in (1, 2, 3)]
    labels = {2: "person on vehicle", 7: "static person", 8: "distractor", 12: "reflection"}
    boxes: list[Box] = []
    for line in content.decode("utf-8-sig").split("\n"):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.strip().rstrip(", ").split(",")]
        if not 6 <= len(cells) <= 10 or not all(map(_DECIMAL.fullmatch, cells)):
            raise MalformedError(f"{line!r} is no row")
        numbers = [float(cell) for cell in cells]
        frame, _, left, top, width, height = numbers[:6]
        consider, kind, visible = ([*numbers[6:7], 1, 1] if len(numbers) == 10 else [*numbers[6:9], 1, 1, 1])[:3]
        if len(numbers) < 9 and len(numbers) != 10:
            consider, kind, visible = [*numbers[6:], *[1.0, 1.0, 1.0][len(numbers) - 6 :]]
        if frame not in (1, 2, 3) or consider not in (0, 1) or not 0 <= visible <= 1:
            raise MalformedError(f"{line!r} has values that are not allowed")
        if kind in (1, *labels):
            label = labels.get(int(kind), "" if consider else "not considered")
            boxes.append((names[int(frame) - 1], [left - 1, top - 1, width, height], int(label != ""), visible, label))
    return [(name, 200, 120) for name in names], boxes


def _plain_shares(content: bytes, name: str, people: tuple[int, ...] = (0,)) -> list[Box]:
    """Boxes on an image of 200 x 120 pixels; lines that repeat another are dropped."""
    boxes: list[Box] = []
    seen = []
    for line in content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig").split("\n"):
        cells = line.split()
        if not cells:
            continue
        if (len(cells) != 5 and (len(cells) < 7 or len(cells) % 2 == 0)) or not all(map(_DECIMAL.fullmatch, cells)):
            raise MalformedError(f"{line!r} is neither a box nor a polygon")
        kind, *shares = map(float, cells)
        if not all(-0.01 <= share <= 1.01 for share in shares):
            raise MalformedError(f"{line!r} reaches far beyond the image")
        shares = [share if 0 <= share <= 1 + 1e-6 else min(max(share, 0.0), 1.0) for share in shares]
        if len(shares) > 4:
            left, right, top, bottom = min(shares[::2]), max(shares[::2]), min(shares[1::2]), max(shares[1::2])
            shares = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        x, y, width, height = shares
        box = [(x - width / 2) * 200, (y - height / 2) * 120, width * 200, height * 120]
        if (row := [kind, *shares, len(cells)]) not in seen and kind in people:
            boxes.append((name, box, 0, 1.0, ""))
        seen.append(row)
    return boxes


def plain_yolo_labels(others: bytes) -> Any:
    """Reads the labels of the first image, ``others`` being those of the second."""

    def read(content: bytes) -> Found:
        names = ("images/train/a.jpg", "images/val/b.jpg")
        boxes = [*_plain_shares(content, names[0]), *_plain_shares(others, names[1])]
        return [(name, 200, 120) for name in names], boxes

    return read


def plain_yolo_places(labels: bytes) -> Any:
    """Reads a ``data.yaml``, of whose images all have these labels."""

    def read(content: bytes) -> Found:
        said = yaml.safe_load(content)
        top = yaml.compose(content, Loader=yaml.SafeLoader)
        assert isinstance(top, yaml.MappingNode)
        for node in (top, *(value for _, value in top.value)):
            _unique([key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else [])
        names = said["names"]
        numbered = dict(enumerate(names)) if isinstance(names, list) else names
        people = tuple(i for i, name in numbered.items() if name.strip().lower() in ("person", "pedestrian"))
        folders = {
            "images/train": ["train/a"],
            "val.txt": ["val/b"],
            "images/val": ["val/b"],
            "images": ["train/a", "val/b"],
        }
        images = []
        boxes = []
        for key in ("train", "val", "test"):
            place = os.path.normpath(said[key].removeprefix("../")) if said.get(key) else ""
            if place and place not in folders and key == "train":
                raise MalformedError(f"there is no {place}")
            for name in folders.get(place, ()):  # other splits may not have been exported
                images.append((f"images/{name}.jpg", 200, 120))
                boxes += _plain_shares(labels, f"images/{name}.jpg", people)
        return images, boxes

    return read
