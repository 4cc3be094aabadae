"""Miss rates of converted KAIST annotations, against the rules of its evaluation scripts written out plainly."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from hkd.data.sources.kaist.convert import convert
from hkd.evaluation.evaluator import evaluate_files

NUM_IMAGES = 80
_LABELS = {1: "person", 2: "cyclist", 3: "people", 4: "person?"}
Boxes = list[dict[str, Any]]


def _drawn(seed: int) -> tuple[Boxes, Boxes]:
    """Annotations, and detections of most of them and of nothing; boxes as [x, y, width, height]."""
    draw = random.Random(seed)
    truth: Boxes = []
    found: Boxes = []
    for image_id in range(NUM_IMAGES):
        for _ in range(3):
            box = [draw.randint(0, 600), draw.randint(0, 440), 30, draw.randint(40, 130)]
            category, level = draw.choice([1, 1, 1, 2, 3, 4]), draw.choice([0, 0, 1, 2])
            one = {"image_id": image_id, "category_id": category, "bbox": box, "occlusion": level, "ignore": 0}
            truth.append({"id": len(truth), **one})
            if draw.random() < 0.8:
                found.append({"image_id": image_id, "category_id": 1, "bbox": box, "score": draw.random()})
        if draw.random() < 0.4:
            box = [300, 350, 30, 80]
            found.append({"image_id": image_id, "category_id": 1, "bbox": box, "score": 0.7 * draw.random()})
    return truth, found


def _overlap(detection: list[int], box: list[int], is_ignored: bool) -> float:
    shared = [min(detection[i] + detection[i + 2], box[i] + box[i + 2]) - max(detection[i], box[i]) for i in range(2)]
    if min(shared) <= 0:
        return 0.0
    areas = detection[2] * detection[3], box[2] * box[3]
    intersection = shared[0] * shared[1]
    return intersection / (areas[0] if is_ignored else sum(areas) - intersection)


def _plain_miss_rate(truth: Boxes, found: Boxes, heights: tuple[float, float], levels: set[int]) -> tuple[float, int]:
    """MR^-2 and number of boxes that count, as kaist_eval_full.m and bbGt.m compute them."""
    results = []
    num_counted = 0
    for image_id in range(NUM_IMAGES):
        boxes = []
        for one in (one for one in truth if one["image_id"] == image_id):
            x, y, width, height = one["bbox"]
            is_inside = x >= 5 and y >= 5 and x + width <= 635 and y + height <= 507
            counts = _LABELS[one["category_id"]] == "person" and one["occlusion"] in levels and is_inside
            boxes.append((one["bbox"], not (counts and heights[0] <= height <= heights[1])))
        boxes.sort(key=lambda box: box[1])
        num_counted += sum(not is_ignored for _, is_ignored in boxes)
        taken = set()
        detections = [one for one in found if one["image_id"] == image_id]
        for detection in sorted(detections, key=lambda one: -one["score"]):
            best, matched = 0.5, None
            for i, (box, is_ignored) in enumerate(boxes):
                if i in taken:
                    continue
                if matched is not None and not boxes[matched][1] and is_ignored:
                    break
                if (overlap := _overlap(detection["bbox"], box, is_ignored)) >= best:
                    best, matched = overlap, i
            if matched is None:
                results.append((detection["score"], 0))
            elif not boxes[matched][1]:
                taken.add(matched)
                results.append((detection["score"], 1))
    curve = []
    hits = errors = 0
    for _, is_hit in sorted(results, reverse=True):
        hits, errors = hits + is_hit, errors + 1 - is_hit
        curve.append((errors / NUM_IMAGES, 1 - hits / num_counted))
    logarithms = []
    for k in range(9):
        reached = [miss_rate for fppi, miss_rate in curve if fppi <= 10 ** (-2 + k / 4)]
        logarithms.append(math.log(max(1e-10, reached[-1] if reached else 1)))
    return math.exp(sum(logarithms) / 9), num_counted


def test_miss_rates_equal_the_rules_of_the_scripts(tmp_path: Path) -> None:
    truth, found = _drawn(seed=0)
    images = [{"id": i, "im_name": f"set06/V000/I{20 * i + 19:05d}"} for i in range(NUM_IMAGES)]
    categories = [{"id": id_, "name": name} for id_, name in _LABELS.items()]
    document = {"images": images, "annotations": truth, "categories": categories}
    (tmp_path / "kaist_annotations_test20.json").write_text(json.dumps(document))
    convert(tmp_path, tmp_path / "out", annotations_only=True, progress=False)
    (tmp_path / "detections.json").write_text(json.dumps(found))
    rows = [[one["image_id"] + 1, *one["bbox"], one["score"]] for one in found]  # det-test-all.txt counts from 1
    (tmp_path / "det-test-all.txt").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    expected = {
        "reasonable": _plain_miss_rate(truth, found, (55, math.inf), {0, 1}),
        "all": _plain_miss_rate(truth, found, (20, math.inf), {0, 1, 2}),
        "scale_near": _plain_miss_rate(truth, found, (115, math.inf), {0}),
        "scale_medium": _plain_miss_rate(truth, found, (45, 115), {0}),
        "scale_far": _plain_miss_rate(truth, found, (1, 45), {0}),
        "occ_none": _plain_miss_rate(truth, found, (1, math.inf), {0}),
        "occ_partial": _plain_miss_rate(truth, found, (1, math.inf), {1}),
        "occ_heavy": _plain_miss_rate(truth, found, (1, math.inf), {2}),
    }
    for file in ("detections.json", "det-test-all.txt"):
        subsets = evaluate_files(tmp_path / "out" / "test.json", tmp_path / file, "kaist").subsets
        assert {one.name: one.num_ground_truth for one in subsets} == {name: n for name, (_, n) in expected.items()}
        for subset in subsets:
            assert subset.log_average_miss_rate == pytest.approx(expected[subset.name][0], rel=1e-12)
