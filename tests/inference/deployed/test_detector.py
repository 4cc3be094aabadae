from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hkd.inference.deployed.detector import DeployedDetector, ImageSizeError, mark_black_borders
from tests.export.exported import SETTINGS, crowded_detector, detect, export, noise
from tests.training.tiny import HEIGHT, WIDTH

ARGUMENTS: dict[str, Any] = {"score_threshold": 0.01, "nms_iou": 0.5, "max_detections": 100}


def test_any_number_of_images_is_run_in_batches(tmp_path: Path) -> None:
    detector = crowded_detector()
    images = noise(5)
    images[4, :, 50:] = 0
    sizes = [(HEIGHT, WIDTH)] * 4 + [(50, WIDTH)]
    deployed = DeployedDetector(export(detector, tmp_path, dataclasses.replace(SETTINGS, batch=2)))
    found = deployed.detect(torch.from_numpy(images).float() / 255, torch.tensor(sizes), **ARGUMENTS)
    expected = detect(detector, images, sizes)
    assert torch.equal(found.valid, expected.valid)
    torch.testing.assert_close(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)


def test_stricter_arguments_hold(tmp_path: Path) -> None:
    images = noise(1)
    deployed = DeployedDetector(export(crowded_detector(), tmp_path))
    sizes = torch.tensor([[HEIGHT, WIDTH]])
    pixels = torch.from_numpy(images).float() / 255
    scores = deployed.detect(pixels, sizes, **ARGUMENTS).scores[0]
    stricter = {**ARGUMENTS, "score_threshold": float(scores[1])}
    assert deployed.detect(pixels, sizes, **stricter).valid.sum() == 1
    assert deployed.detect(pixels, sizes, **{**ARGUMENTS, "max_detections": 2}).boxes_xyxy.shape == (1, 2, 4)


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    deployed = DeployedDetector(export(crowded_detector(), tmp_path))
    with pytest.raises(ImageSizeError, match=f"32 x 32 .* {HEIGHT} x {WIDTH}"):
        deployed.detect(torch.zeros(1, 3, 32, 32), torch.tensor([[32, 32]]), **ARGUMENTS)


def test_picture_with_black_border_is_not_taken_for_padding() -> None:
    images = np.maximum(noise(2), 1)
    images[0, :, 40:] = 0
    sizes = np.array([(50, WIDTH), (HEIGHT, WIDTH)])
    marked = mark_black_borders(images, sizes)
    # The picture ends in row 50, of which rows 41 to 50 are black.
    assert marked[0, 0, 49, WIDTH - 1] == 1
    assert np.count_nonzero(marked != images) == 1
    assert not images[0, :, 40:].any()
