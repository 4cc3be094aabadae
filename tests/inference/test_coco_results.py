"""COCO results of image files: their content, and the image ids of an annotation file."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hkd.coco.detections import DetectedBoxes
from hkd.config import EvaluationConfig
from hkd.evaluation.evaluator import evaluate_files
from hkd.inference.picture_detection import CocoResults, FoundPedestrian, detect_command
from hkd.inference.pictures import PictureError
from tests.training.tiny import HEIGHT, WIDTH


def ground_truth(folder: Path, *images: tuple[int, str, int, int], bbox: Sequence[float] = (1, 1, 4, 6)) -> Path:
    """A person at the same place of each image: (id, file_name, height, width)."""
    path = folder / "truth.json"
    people = [
        {"id": number, "image_id": image[0], "category_id": 1, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}
        for number, image in enumerate(images, 1)
    ]
    document = {
        "images": [{"id": i, "file_name": name, "height": h, "width": w} for i, name, h, w in images],
        "categories": [{"id": 1, "name": "pedestrian"}],
        "annotations": people,
    }
    path.write_text(json.dumps(document))
    return path


def test_results_are_read_by_pycocotools(weights: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "grey.jpg"
    Image.new("L", (50, 40), 128).save(other)
    images = (7, "grey.jpg", 40, 50), (3, "street.png", 2 * HEIGHT, 2 * WIDTH - 20), (5, "unseen.png", 9, 9)
    truth = ground_truth(tmp_path, *images)
    results = CocoResults(tmp_path / "made" / "found.json", truth)
    found = detect_command([picture, other], weights, None, results=results)
    records = json.loads(results.path.read_text())
    assert {type(one["image_id"]) for one in records} == {int}
    assert {one["category_id"] for one in records} == {1}
    assert {one["image_id"] for one in records} <= {3, 7}
    assert sorted(results.path.parent.iterdir()) == [results.path]
    assert [one.drawn for one in found] == [None, None]

    # The ground truth is the box with the highest score.
    ground_truth(tmp_path, *images, bbox=max(records, key=lambda one: one["score"])["bbox"])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(str(results.path)), iouType="bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = evaluate_files(truth, results.path, "citypersons")
    assert ours.num_detections == len(records)
    assert ours.ap == pytest.approx(evaluation.stats[0], abs=1e-12)
    assert evaluation.stats[0] > 0


@pytest.mark.parametrize(
    ("asked", "lowest", "drawn_scores"), [(None, 0.01, [0.9]), (0.02, 0.02, [0.9, 0.03]), (0.7, 0.7, [0.9])]
)
def test_results_keep_low_scores_and_drawings_high_scores(
    asked: float | None,
    lowest: float,
    drawn_scores: list[float],
    weights: Path,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = [score for score in (0.9, 0.03) if score >= lowest]

    def detect_store(*arguments: object, **_: object) -> DetectedBoxes:
        evaluation = arguments[3]
        assert isinstance(evaluation, EvaluationConfig)
        assert evaluation.score_threshold == lowest
        boxes = np.array([[4.0, 3.0, 2.0, 6.0]] * len(scores))
        return DetectedBoxes(np.zeros(len(scores), dtype=np.int64), boxes, np.array(scores))

    monkeypatch.setattr("hkd.inference.image_detection.detect_store", detect_store)
    results = CocoResults(tmp_path / "found.json")
    (found,) = detect_command([picture], weights, tmp_path / "out", results=results, score_threshold=asked)
    assert [one["score"] for one in json.loads(results.path.read_text())] == scores
    assert [one.score for one in found.pedestrians] == drawn_scores


def test_images_without_annotations_are_numbered_in_order_given(weights: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "grey.jpg"
    Image.new("L", (50, 40), 128).save(other)
    results = CocoResults(tmp_path / "found.json")
    drawn, _ = detect_command([picture, other], weights, tmp_path / "out", results=results, score_threshold=0.2)
    assert json.loads((tmp_path / "found.images.json").read_text())["images"] == [
        {"id": 1, "file_name": str(picture), "height": 2 * HEIGHT, "width": 2 * WIDTH - 20},
        {"id": 2, "file_name": str(other), "height": 40, "width": 50},
    ]
    # An explicit threshold applies to drawings and results.
    of_first = [one for one in json.loads(results.path.read_text()) if one["image_id"] == 1]
    assert [FoundPedestrian(tuple(one["bbox"]), one["score"]) for one in of_first] == list(drawn.pedestrians)
    assert len(of_first) > 0


def test_parent_folders_distinguish_images_of_same_name(weights: Path, picture: Path, tmp_path: Path) -> None:
    for city in ("bonn", "ulm"):
        (tmp_path / city).mkdir()
        (tmp_path / city / "street.png").write_bytes(picture.read_bytes())
    size = (2 * HEIGHT, 2 * WIDTH - 20)
    truth = ground_truth(tmp_path, (1, "bonn/street.png", *size), (2, "ulm/street.png", *size))
    results = CocoResults(tmp_path / "found.json", truth)
    detect_command([tmp_path / "ulm" / "street.png"], weights, None, results=results)
    assert {one["image_id"] for one in json.loads(results.path.read_text())} == {2}


def test_annotations_are_needed_for_their_images_only(weights: Path, picture: Path, tmp_path: Path) -> None:
    truth = ground_truth(tmp_path, (2, "street.png", 2 * HEIGHT, 2 * WIDTH - 20), (3, "other.png", 9, 9))
    document = json.loads(truth.read_text())
    # Which of two categories are people is no question here.
    document["categories"].append({"id": 2, "name": "person"})
    document["annotations"][1]["category_id"] = 2
    for changed in (document, {"images": document["images"]}):
        truth.write_text(json.dumps(changed))
        results = CocoResults(tmp_path / "found.json", truth)
        detect_command([picture], weights, None, results=results)
        found = json.loads(results.path.read_text())
        assert {(one["image_id"], one["category_id"]) for one in found} == {(2, 1)}


def test_ids_of_images_and_people_are_those_of_annotations(weights: Path, picture: Path, tmp_path: Path) -> None:
    truth = ground_truth(tmp_path, (1, "other.png", 9, 9), (2, "street.png", 2 * HEIGHT, 2 * WIDTH - 20))
    document = json.loads(truth.read_text())
    for image in document["images"]:
        image["id"] = f"frame {image['id']}"
    document["categories"] = [{"id": 0, "name": "person"}, {"id": 1, "name": "car"}]
    for i, annotation in enumerate(document["annotations"], 1):
        annotation |= {"image_id": f"frame {i}", "category_id": 0}
    truth.write_text(json.dumps(document))
    results = CocoResults(tmp_path / "found.json", truth)
    detect_command([picture], weights, None, results=results)
    found = json.loads(results.path.read_text())
    # 1 would be a car.
    assert {(one["image_id"], one["category_id"]) for one in found} == {("frame 2", 0)}
    assert evaluate_files(truth, results.path, "citypersons").num_detections > 0


def test_all_images_that_do_not_match_annotations_are_listed(weights: Path, picture: Path, tmp_path: Path) -> None:
    for name, size in (("other.png", (8, 8)), ("small.png", (8, 8))):
        Image.new("RGB", size).save(tmp_path / name)
    (tmp_path / "copy").mkdir()
    again = tmp_path / "copy" / "street.png"
    again.write_bytes(picture.read_bytes())
    size = (2 * HEIGHT, 2 * WIDTH - 20)
    truth = ground_truth(
        tmp_path, (1, "street.png", *size), (2, "small.png", 8, 9), (3, "a/two.png", 8, 8), (4, "b/two.png", 8, 8)
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "two.png")
    images = [picture, again, *(tmp_path / name for name in ("other.png", "small.png", "two.png", "absent.png"))]
    with pytest.raises(PictureError) as caught:
        detect_command(images, weights, None, results=CocoResults(tmp_path / "found.json", truth))
    # Each problem starts with its file; the rest must name these facts.
    facts: list[tuple[str, list[str]]] = [
        ("absent.png", ["no such file"]),
        ("copy/street.png", ["image 1 of", str(truth), f"so is {picture}"]),
        ("other.png", [f"{truth} has no image", "--annotations"]),
        ("small.png", ["8 x 8 pixels", f"image 2 of {truth} is 9 x 8"]),
        ("two.png", [f"{truth} has several images", "--annotations"]),
    ]
    for problem, (name, expected) in zip(caught.value.problems, facts, strict=True):
        assert problem.startswith(f"{tmp_path / name}: ")
        assert all(fact in problem for fact in expected), problem
    assert not (tmp_path / "found.json").exists()


def test_results_do_not_overwrite_inputs(weights: Path, picture: Path, tmp_path: Path) -> None:
    truth = ground_truth(tmp_path, (1, "street.png", 2 * HEIGHT, 2 * WIDTH - 20))
    for path in (picture, weights, truth):
        with pytest.raises(PictureError, match=rf"{path.name}: is an input and would be overwritten.*--json"):
            detect_command([picture], weights, None, results=CocoResults(path, truth))
    out = tmp_path / "out"
    with pytest.raises(PictureError, match=r"detections\.json: .* --out .*--json"):
        detect_command([picture], weights, out, results=CocoResults(out / "detections.json"))
