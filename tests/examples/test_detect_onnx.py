from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from hkd.inference.picture_detection import detect_command
from tests.conftest import REPOSITORY
from tests.export.exported import crowded_detector, export
from tests.training.tiny import HEIGHT, WIDTH

EXAMPLE = REPOSITORY / "examples" / "detect_onnx.py"


@pytest.mark.parametrize("black_rows", [0, 40])
def test_example_has_the_detections_of_hkd_in_40_lines(
    black_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40
    monkeypatch.setattr("hkd.inference.image_detection.autocast_dtype", lambda *_: None)
    picture = tmp_path / "street.png"
    pixels = np.random.default_rng(0).integers(0, 256, (2 * HEIGHT + 3, 2 * WIDTH - 31, 3), dtype=np.uint8)
    pixels[len(pixels) - black_rows :] = 0  # the border of a film
    Image.fromarray(pixels).save(picture)
    exported = export(crowded_detector(), tmp_path).path
    specification = importlib.util.spec_from_file_location("detect_onnx", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    boxes, scores = example.detect(onnxruntime.InferenceSession(exported), picture)
    (expected,) = detect_command([picture], tmp_path / "student.safetensors", tmp_path / "out", score_threshold=0.01)
    assert len(expected.pedestrians) == len(boxes) > 0
    corners = np.array([one.bbox for one in expected.pedestrians])
    corners[:, 2:] += corners[:, :2]
    np.testing.assert_allclose(boxes, corners, atol=2e-3)
    np.testing.assert_allclose(scores, [one.score for one in expected.pedestrians], atol=1e-4)
