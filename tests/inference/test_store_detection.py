"""Detections of an image store, in pixels of the original images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hkd.config import EvaluationConfig
from hkd.data.prepare import PreparedData
from hkd.data.store import ImageStore
from hkd.inference.store_detection import detect_store
from hkd.structures import Detections


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
