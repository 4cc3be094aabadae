from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from hkd.files import file_hash
from hkd.inference.deployed.onnx_file import DeployedFile
from hkd.inference.deployed.runtimes import RUNTIMES, RawDetections
from hkd.models.components.heads import PersonPredictor
from hkd.models.weight_formats.errors import CheckpointError
from hkd.structures import Detections
from tests.export.exported import SETTINGS, crowded_detector, detect, export, noise
from tests.training.tiny import HEIGHT, STUDENT, WIDTH


def assert_equal(found: RawDetections, expected: Detections) -> None:
    """Within 1e-3 pixels, and 1e-4 in score."""
    count = expected.valid.sum(dim=1).numpy()
    np.testing.assert_array_equal(found.count, count)
    np.testing.assert_allclose(found.boxes, expected.boxes_xyxy.numpy(), atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores.numpy(), atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_image_of_a_batch_has_the_detections_of_the_detector(tmp_path: Path, runtime: str) -> None:
    detector = crowded_detector()
    file = export(detector, tmp_path, dataclasses.replace(SETTINGS, batch=3))
    images = noise(3)
    # The second picture is smaller than the input: the rest is padding.
    images[1, :, 40:], images[1, :, :, 70:] = 0, 0
    found = RUNTIMES[runtime](file, 1)(images)
    expected = detect(detector, images, [(HEIGHT, WIDTH), (40, 70), (HEIGHT, WIDTH)])
    assert (expected.valid.sum(dim=1) >= 2).all()
    assert found.boxes[1, :, 0::2].max() <= 70
    assert found.boxes[1, :, 1::2].max() <= 40
    assert_equal(found, expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "resnet50", "norm": "frozen_batch"},
        {"anchor_aspect_ratios": (1.0, 2.0, 3.0), "pre_nms_proposals_per_level": 300, "proposals_per_image": 40},
        # More slots than anchors: 24 * 16 + 12 * 8 + 6 * 4 + 3 * 2 + 2 * 1 = 512.
        {"pre_nms_proposals_per_level": 120, "proposals_per_image": 601},
    ],
)
def test_architectures_have_equal_detections(tmp_path: Path, changes: dict[str, object]) -> None:
    config = STUDENT.model_copy(update=changes)
    detector = crowded_detector(config)
    file = export(detector, tmp_path, config=config)
    images = noise(1, seed=1)
    expected = detect(detector, images)
    assert expected.valid.sum() >= 2
    assert_equal(RUNTIMES["onnxruntime"](file, 1)(images), expected)


def test_classes_after_the_person_count_as_background(tmp_path: Path) -> None:
    detector = crowded_detector()
    torch.manual_seed(1)
    detector.roi_heads.box_predictor = PersonPredictor(detector.head_channels, 5)
    file = export(detector, tmp_path)
    images = noise(1)
    expected = detect(detector, images)
    assert expected.valid.any()
    assert_equal(RUNTIMES["onnxruntime"](file, 1)(images), expected)


def test_more_people_than_slots_gives_the_best(tmp_path: Path) -> None:
    detector = crowded_detector()
    settings = dataclasses.replace(SETTINGS, max_detections=2)
    images = noise(1)
    assert detect(detector, images).valid.sum() > 2
    found = RUNTIMES["onnxruntime"](export(detector, tmp_path, settings), 1)(images)
    assert found.count.tolist() == [2]
    assert_equal(found, detect(detector, images, settings=settings))


def test_image_without_people_has_count_zero_and_zeros(tmp_path: Path) -> None:
    detector = crowded_detector()
    with torch.no_grad():
        detector.roi_heads.box_predictor.cls_score.bias[0] += 100
    found = RUNTIMES["onnxruntime"](export(detector, tmp_path), 1)(noise(1))
    assert found.count.tolist() == [0]
    assert not found.boxes.any()
    assert not found.scores.any()


def test_black_image_gives_finite_detections(tmp_path: Path) -> None:
    found = RUNTIMES["onnxruntime"](export(crowded_detector(), tmp_path), 1)(noise(1) * 0)
    assert np.isfinite(found.boxes).all()


def test_weights_that_diverged_give_no_detections(tmp_path: Path) -> None:
    detector = crowded_detector()
    with torch.no_grad():
        detector.rpn.head.bbox_pred.weight.fill_(1e30)
    found = RUNTIMES["onnxruntime"](export(detector, tmp_path), 1)(noise(1))
    assert np.isfinite(found.boxes).all()


@pytest.mark.parametrize(
    ("runtime", "reason"),
    [("onnxruntime", "invalid dimensions"), ("openvino", "are incompatible")],
)
def test_other_sizes_are_refused(tmp_path: Path, runtime: str, reason: str) -> None:
    file = export(crowded_detector(), tmp_path)
    run = RUNTIMES[runtime](file, 1)
    for shape in ((1, 3, HEIGHT + 32, WIDTH), (2, 3, HEIGHT, WIDTH), (1, 1, HEIGHT, WIDTH)):
        with pytest.raises(CheckpointError, match=f"{file.path}: .* cannot run it") as caught:
            run(np.zeros(shape, dtype=np.uint8))
        # Of the runtime itself: hkd does not check shapes here.
        assert reason in str(caught.value.__cause__)


def test_all_shapes_are_fixed(tmp_path: Path) -> None:
    file = export(crowded_detector(), tmp_path)
    session = onnxruntime.InferenceSession(file.content)
    shapes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    assert shapes == {"images": [1, 3, HEIGHT, WIDTH], "boxes": [1, 100, 4], "scores": [1, 100], "count": [1]}


def test_metadata_describes_file_and_origin(tmp_path: Path) -> None:
    file = export(crowded_detector(), tmp_path)
    metadata = file.metadata
    assert metadata.weights_sha256 == file_hash(tmp_path / "student.safetensors")
    assert (metadata.image_height, metadata.image_width, metadata.batch) == (HEIGHT, WIDTH, 1)
    assert metadata.classes == ("pedestrian",)
    assert metadata.metrics == {"mr2_reasonable": 0.25}
    assert metadata.detector == STUDENT
    assert metadata.num_params == sum(parameter.numel() for parameter in crowded_detector().parameters())
    session = onnxruntime.InferenceSession(file.content)
    assert metadata.to_json() == session.get_modelmeta().custom_metadata_map["hkd"]


def test_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    files: list[DeployedFile] = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        files.append(export(crowded_detector(), tmp_path / name))
    assert files[0].content == files[1].content
