"""Detections of an image store, in pixels of the original images."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.writing import annotation_document, write_documents
from hkd.config import EvaluationConfig
from hkd.data.copies import image_paths
from hkd.data.loader import evaluation_batches
from hkd.data.prepare import PreparedData
from hkd.data.store import ImageStore
from hkd.evaluation.evaluator import evaluate_files
from hkd.inference.picture_detection import CocoResults, detect_command
from hkd.inference.store_detection import detect_store, detect_validation, evaluate_detections
from hkd.models.build import build_detector
from hkd.models.fused import fuse_for_inference
from hkd.structures import Detections
from tests.export.exported import crowded_detector, export
from tests.training.tiny import STUDENT


def test_exported_file_has_the_detections_and_miss_rates_of_a_trainings_evaluation(
    data: PreparedData, tmp_path: Path
) -> None:
    detector, evaluation = crowded_detector(), EvaluationConfig(batch_size=2)
    expected = detect_validation(detector, data, evaluation, device=torch.device("cpu"))
    exported = export(detector, tmp_path)
    annotations = data.validation_annotations
    results = CocoResults(tmp_path / "found.json", annotations.path)
    detect_command(image_paths(annotations), exported.path, None, results=results)
    found, wanted = (
        sorted(each, key=lambda one: (one["image_id"], -one["score"]))
        for each in (json.loads(results.path.read_text()), expected.coco_results(np.sort(annotations.image_ids())))
    )
    assert len(found) > 20
    assert [one["image_id"] for one in found] == [one["image_id"] for one in wanted]
    np.testing.assert_allclose([one["bbox"] for one in found], [one["bbox"] for one in wanted], atol=1e-3)
    np.testing.assert_allclose([one["score"] for one in found], [one["score"] for one in wanted], atol=1e-4)
    assert annotations.path is not None
    evaluated = evaluate_files(annotations.path, results.path, evaluation.protocol).as_metrics()
    assert evaluated == pytest.approx(evaluate_detections(expected, data, evaluation).as_metrics(), abs=1e-4)


class FixedDetector(torch.nn.Module):
    """Returns the same boxes for every image."""

    def __init__(self, boxes_xyxy: list[list[float]], valid: list[bool]) -> None:
        super().__init__()
        self.boxes, self.valid = torch.tensor(boxes_xyxy), torch.tensor(valid)
        self.calls: list[dict[str, Any]] = []

    def detect(self, images: Tensor, valid_sizes: Tensor, **settings: Any) -> Detections:
        assert valid_sizes.shape == (len(images), 2)
        self.calls.append({"images": len(images), "training": self.training, **settings})
        count = len(images)
        return Detections(
            boxes_xyxy=self.boxes.expand(count, -1, -1),
            scores=torch.linspace(0.75, 0.25, len(self.boxes)).expand(count, -1),
            labels=torch.ones(count, len(self.boxes), dtype=torch.int64),
            valid=self.valid.expand(count, -1),
        )


def test_boxes_are_rescaled_and_clipped_to_their_image(data: PreparedData) -> None:
    annotations = data.validation_annotations
    store = ImageStore(
        images=np.zeros((3, 64, 96, 3), dtype=np.uint8),
        scales=np.array([1.0, 0.5, 1.0]),
        valid_sizes=np.array([[64, 96]] * 3),
        image_ids=data.validation_store.image_ids,
    )
    detector = FixedDetector(
        [[10.0, 4.0, 30.0, 40.0], [0.0, 0.0, 1.0, 1.0], [40.0, 8.0, 96.0, 20.0]], [True, False, True]
    )
    results = detect_store(
        detector,  # type: ignore[arg-type]  # a stand-in
        store,
        annotations,
        EvaluationConfig(batch_size=2, score_threshold=0.1, nms_iou=0.4, max_detections_per_image=3),
        device=torch.device("cpu"),
    )
    assert results.image_index.tolist() == [0, 0, 1, 1, 2, 2]
    assert results.scores[:2].tolist() == [0.75, 0.25]
    # Images are 64 x 96 pixels. At scale 1 boxes do not change: x, y, width, height.
    assert results.boxes_xywh[0].tolist() == [10.0, 4.0, 20.0, 36.0]
    assert results.boxes_xywh[1].tolist() == [40.0, 8.0, 56.0, 12.0]
    # At scale 0.5 corners double: (20, 8, 60, 80) is cut at y = 64; (80, 16, 192, 40) at x = 96.
    assert results.boxes_xywh[2].tolist() == [20.0, 8.0, 40.0, 56.0]
    assert results.boxes_xywh[3].tolist() == [80.0, 16.0, 16.0, 24.0]
    settings = {"training": False, "score_threshold": 0.1, "nms_iou": 0.4, "max_detections": 3}
    assert detector.calls == [{"images": 2, **settings}, {"images": 1, **settings}]


def test_box_outside_original_image_is_dropped(data: PreparedData) -> None:
    # Images are 64 x 96 pixels; rounding of a fitted size may let the network see a column more: at scale 0.999 the
    # image ends at 95.904, and a box that starts there has no width left. The evaluator refuses such boxes.
    store = ImageStore(
        images=np.zeros((3, 64, 96, 3), dtype=np.uint8),
        scales=np.array([0.999] * 3),
        valid_sizes=np.array([[64, 96]] * 3),
        image_ids=data.validation_store.image_ids,
    )
    detector = FixedDetector([[95.95, 4.0, 96.0, 40.0], [10.0, 4.0, 30.0, 40.0]], [True, True])
    results = detect_store(
        detector,  # type: ignore[arg-type]  # a stand-in
        store,
        data.validation_annotations,
        EvaluationConfig(batch_size=3),
        device=torch.device("cpu"),
    )
    assert results.scores.tolist() == [0.25] * 3


def test_no_detections_give_empty_results(data: PreparedData) -> None:
    detector = FixedDetector([[0.0, 0.0, 5.0, 5.0]], [False])
    results = detect_store(
        detector,  # type: ignore[arg-type]  # a stand-in
        data.validation_store,
        data.validation_annotations,
        EvaluationConfig(),
        device=torch.device("cpu"),
    )
    assert (len(results.scores), results.boxes_xywh.shape) == (0, (0, 4))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_autocast_dtype_is_applied(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype | None
) -> None:
    detector = FixedDetector([[0.0, 0.0, 5.0, 5.0]], [True])
    seen: list[bool] = []
    original = detector.detect

    def detect(*args: Any, **kwargs: Any) -> Detections:
        seen.append(torch.is_autocast_enabled("cpu"))
        return original(*args, **kwargs)

    monkeypatch.setattr(detector, "detect", detect)
    detect_store(
        detector,  # type: ignore[arg-type]  # a stand-in
        data.validation_store,
        data.validation_annotations,
        EvaluationConfig(),
        device=torch.device("cpu"),
        autocast_dtype=dtype,
    )
    assert seen == [dtype is not None]


class JitteredTruth(torch.nn.Module):
    """Finds the people of a data set at shaken places, and some of no one; calls must be in the store's order."""

    def __init__(self, data: PreparedData) -> None:
        super().__init__()
        self.data = data
        self.position = 0

    def detect(self, images: Tensor, *_: Any, **__: Any) -> Detections:
        generator = np.random.default_rng(self.position)
        count = 12
        boxes = np.zeros((len(images), count, 4))
        for row in range(len(images)):
            index = self.position + row
            people = self.data.validation_annotations.boxes_of(index) * self.data.validation_store.scales[index]
            xywh = np.concatenate([people, generator.uniform(0, 40, (count, 4))])[:count]
            xywh += generator.normal(0, 2, xywh.shape)
            boxes[row] = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        self.position += len(images)
        scores = generator.uniform(0, 1, (len(images), count)).round(1)  # some are equal
        return Detections(
            boxes_xyxy=torch.from_numpy(boxes).float(),
            scores=torch.from_numpy(scores).float(),
            labels=torch.ones(len(images), count, dtype=torch.int64),
            valid=torch.from_numpy(generator.uniform(size=(len(images), count)) < 0.9),
        )


def plain_results(
    detector: Any, store: ImageStore, annotations: Annotations, evaluation: EvaluationConfig
) -> list[dict[str, Any]]:
    """COCO results, box by box."""
    results = []
    for images, valid_sizes, indices in evaluation_batches(store, evaluation.batch_size, "cpu"):
        found = detector.detect(
            images,
            valid_sizes,
            score_threshold=evaluation.score_threshold,
            nms_iou=evaluation.nms_iou,
            max_detections=evaluation.max_detections_per_image,
        )
        for row, index in enumerate(indices.tolist()):
            image = annotations.images[index]
            for box, score, is_valid in zip(found.boxes_xyxy[row], found.scores[row], found.valid[row], strict=True):
                x1, y1, x2, y2 = (number / float(store.scales[index]) for number in box.tolist())
                x1, x2 = (min(max(x, 0.0), float(image.width)) for x in (x1, x2))
                y1, y2 = (min(max(y, 0.0), float(image.height)) for y in (y1, y2))
                if is_valid and x2 > x1 and y2 > y1:
                    results.append(
                        {
                            "image_id": image.image_id,
                            "category_id": 1,
                            "bbox": [x1, y1, x2 - x1, y2 - y1],
                            "score": score.item(),
                        }
                    )
    return results


@pytest.mark.parametrize("kind", ["random network", "near the truth"])
@torch.no_grad()
def test_evaluation_by_arrays_equals_evaluation_of_written_files(
    kind: str, data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ids that descend in the file's order, fields that protocols ask for, and sizes that do not fit the network's.
    annotations = data.validation_annotations
    document = annotation_document(
        [{**asdict(image), "id": 90 - 7 * position} for position, image in enumerate(annotations.images)],
        [
            {**record, "image_id": 90 - 7 * int(position), "occluded": number % 2, "ignore": int(number % 5 == 4)}
            | ({"label": "people"} if number % 7 == 6 else {})
            for number, (record, position) in enumerate(
                zip(annotations.coco_records(), annotations.image_index, strict=True)
            )
        ],
        str(annotations.image_root),
    )
    truth_path, results_path = tmp_path / "truth.json", tmp_path / "results.json"
    write_documents({truth_path: document})
    store = replace(data.validation_store, scales=np.array([1.0, 0.999, 0.37]))
    changed = replace(data, validation_annotations=read_annotations(truth_path), validation_store=store)
    detectors: list[Any] = []
    for _ in range(2):  # the stand-in counts its calls
        torch.manual_seed(3)
        detectors.append(build_detector(STUDENT).eval() if kind == "random network" else JitteredTruth(changed))
    if kind == "near the truth":
        monkeypatch.setattr("hkd.inference.store_detection.fuse_for_inference", lambda detector, _: detector)
    for protocol in ("citypersons", "caltech"):
        config = EvaluationConfig(protocol=protocol, score_threshold=0.0, batch_size=2)
        for detector in detectors:
            detector.position = 0
        detections = detect_validation(detectors[0], changed, config, device=torch.device("cpu"))
        result = evaluate_detections(detections, changed, config)
        results = plain_results(
            fuse_for_inference(detectors[1], torch.float32) if kind == "random network" else detectors[1],
            store,
            changed.validation_annotations,
            config,
        )
        assert len(results) > 10
        assert detections.coco_results(changed.validation_annotations.ground_truth().image_ids) == results
        results_path.write_text(json.dumps(results))
        expected = evaluate_files(truth_path, results_path, protocol)
        assert result.as_metrics() == expected.as_metrics()
        assert result.to_json() == expected.to_json()
        for ours, theirs in zip(result.subsets, expected.subsets, strict=True):
            np.testing.assert_array_equal(ours.fppi, theirs.fppi)
            np.testing.assert_array_equal(ours.miss_rate, theirs.miss_rate)
    if kind == "near the truth":
        assert 0 < result.as_metrics()["ap50"] < 1
