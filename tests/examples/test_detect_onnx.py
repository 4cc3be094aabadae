from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from hkd.inference.picture_detection import detect_command
from tests.conftest import REPOSITORY
from tests.export.exported import crowded_detector, export
from tests.training.tiny import HEIGHT, WIDTH

EXAMPLE = REPOSITORY / "examples" / "detect_onnx.py"


def run_example(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, EXAMPLE, file], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(("precision", "miss_rate"), [("fp32", "0.25"), ("int8", "0.375")])
def test_example_prints_the_miss_rate_of_the_file(
    precision: Literal["fp32", "int8"], miss_rate: str, tmp_path: Path
) -> None:
    file = export(crowded_detector(), tmp_path)
    metrics = {"mr2_reasonable": 0.25, "fp32_mr2_reasonable": 0.26, "int8_mr2_reasonable": 0.375}
    metadata = file.metadata.model_copy(update={"precision": precision, "metrics": metrics})
    model = onnx.load_model_from_string(file.content)
    onnx.helper.set_model_props(model, {"hkd": metadata.to_json()})
    file.path.write_bytes(model.SerializeToString())
    assert run_example(file.path).stdout == f"pedestrian, {precision}, MR^-2 {miss_rate}\n"


def test_example_refuses_a_file_of_another_program(tmp_path: Path) -> None:
    file = export(crowded_detector(), tmp_path)
    model = onnx.load_model_from_string(file.content)
    del model.metadata_props[:]
    file.path.write_bytes(model.SerializeToString())
    done = run_example(file.path)
    assert done.returncode != 0
    assert f"{file.path}: " in done.stderr
    assert "hkd export" in done.stderr
    assert "Traceback" not in done.stderr


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
