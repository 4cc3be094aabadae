from __future__ import annotations

import contextlib
import io
from copy import deepcopy

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hkd.evaluation.average_precision import AveragePrecision, average_precision
from tests.evaluation.coco_files import Json, coco, crowded_scene, detection, parse, person


def by_pycocotools(ground_truth: Json, detections: list[Json]) -> AveragePrecision:
    """AP and AP50 as its own demonstration computes them: all sizes and numbers of detections, then summarize."""
    data_set = deepcopy(ground_truth)
    data_set["categories"] = [{"id": 1, "name": "pedestrian"}]
    for i, annotation in enumerate(data_set["annotations"]):
        box = annotation["bbox"]
        annotation |= {"id": i + 1, "iscrowd": annotation.get("ignore", 0), "area": box[2] * box[3]}
    truth = COCO()
    truth.dataset = data_set
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(deepcopy(detections)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return AveragePrecision(ap=float(evaluation.stats[0]), ap50=float(evaluation.stats[1]))


def test_one_box_equals_hand_computation(capsys: pytest.CaptureFixture[str]) -> None:
    # IoU 0.82 is a match at 0.50, 0.55 ... 0.80: at 7 of the 10 thresholds the precision is 1, at the others 0.
    truth, boxes = parse(coco(1, [person(1, [0, 0, 100, 100])]), [detection(1, [0, 0, 82, 100], 0.9)])
    result = average_precision(truth, boxes)
    assert result is not None
    assert result.ap == pytest.approx(0.7, rel=1e-12)
    assert result.ap50 == pytest.approx(1.0, rel=1e-12)
    assert capsys.readouterr().out == ""


def test_detections_on_ignored_ground_truth_are_neither_true_nor_false_positives() -> None:
    person_and_region = [person(1, [0, 0, 100, 100]), person(1, [200, 0, 100, 100], ignore=1)]
    on_region = [detection(1, [200, 0, 50, 50], 0.9), detection(1, [250, 0, 50, 50], 0.8)]
    truth, boxes = parse(coco(1, person_and_region), [*on_region, detection(1, [0, 0, 100, 100], 0.7)])
    result = average_precision(truth, boxes)
    assert result is not None
    assert [result.ap, result.ap50] == pytest.approx([1.0, 1.0], rel=1e-12)
    # Without the region the two come first and are wrong: precision 1 / 3 at every recall.
    truth, boxes = parse(coco(1, person_and_region[:1]), [*on_region, detection(1, [0, 0, 100, 100], 0.7)])
    result = average_precision(truth, boxes)
    assert result is not None
    assert [result.ap, result.ap50] == pytest.approx([1 / 3, 1 / 3], rel=1e-12)


@pytest.mark.parametrize("people", [[], [person(1, [0, 0, 9, 9], ignore=1)]])
def test_no_value_without_counted_ground_truth(people: list[Json]) -> None:
    for detections in ([], [detection(1, [0, 0, 9, 9], 0.9)]):
        assert average_precision(*parse(coco(1, people), detections)) is None


def test_precision_is_zero_without_detections() -> None:
    assert average_precision(*parse(coco(1, [person(1, [0, 0, 9, 9])]), [])) == AveragePrecision(ap=0.0, ap50=0.0)


@pytest.mark.parametrize(("num_images", "people", "detections"), [(12, 6, 10), (2, 20, 150)])
def test_equals_summary_of_pycocotools(num_images: int, people: int, detections: int) -> None:
    # The second has more than COCO's 100 detections an image.
    ground_truth, found = crowded_scene(5, num_images, people, detections)
    expected = by_pycocotools(ground_truth, found)
    assert 0.02 < expected.ap < expected.ap50 < 0.98
    # Its ids in an order that is not ascending, and its detections shuffled between images.
    ground_truth["images"].reverse()
    result = average_precision(*parse(ground_truth, sorted(found, key=lambda record: -record["image_id"])))
    assert result == expected
