"""Tiny detectors, exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import FrozenBatchNorm2d

from hkd.config import DetectorConfig, EvaluationConfig
from hkd.export.onnx_export import ExportSettings, export_detector
from hkd.inference.deployed.onnx_file import DeployedFile, read_onnx_file
from hkd.models.detector import Detector
from hkd.models.weights import save_detector
from hkd.structures import Detections
from tests.training.tiny import HEIGHT, STUDENT, WIDTH, build

SETTINGS = ExportSettings.of_evaluation(EvaluationConfig())


def crowded_detector(config: DetectorConfig = STUDENT, seed: int = 0) -> Detector:
    """A random detector whose boxes differ from each other, most with scores above the threshold."""
    detector = build(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if "rpn.head" in name or "box_predictor" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        for norm in detector.modules():
            if isinstance(norm, torch.nn.BatchNorm2d | FrozenBatchNorm2d):
                assert norm.running_mean is not None
                norm.running_mean.uniform_(-0.1, 0.1, generator=generator)
                # Without training, features grow from block to block, and their rounding errors with them.
                norm.weight.fill_(0.5)
    return detector.eval()


def export(
    detector: Detector, folder: Path, settings: ExportSettings = SETTINGS, config: DetectorConfig = STUDENT
) -> DeployedFile:
    """The exported file of a detector."""
    weights = folder / "student.safetensors"
    save_detector(weights, detector, config, image_height=HEIGHT, image_width=WIDTH, metrics={"mr2_reasonable": 0.25})
    return read_onnx_file(export_detector(weights, folder / "student.onnx", settings).path)


def noise(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Images (N, 3, H, W)."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, HEIGHT, WIDTH), dtype=np.uint8)


def detect(
    detector: Detector,
    images: npt.NDArray[np.uint8],
    sizes: list[tuple[int, int]] | None = None,
    settings: ExportSettings = SETTINGS,
) -> Detections:
    """Detections of the original detector."""
    return detector.detect(
        torch.from_numpy(images).float() / 255,
        torch.tensor(sizes or [(HEIGHT, WIDTH)] * len(images), dtype=torch.float32),
        score_threshold=settings.score_threshold,
        nms_iou=settings.nms_iou,
        max_detections=settings.max_detections,
    )
