"""Untrained detectors as ONNX files: latency depends on the architecture, and not on the weights."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hkd.config import DetectorConfig, EvaluationConfig
from hkd.export.onnx_export import ExportSettings, export_detector
from hkd.models.build import build_detector
from hkd.models.weights import DETECTOR_SUFFIX, save_detector
from hkd.runtime.seeding import seeded


def export_untrained(
    architecture: DetectorConfig, image_height: int, image_width: int, evaluation: EvaluationConfig, out: Path
) -> None:
    """Write the detector with random weights.

    Raises:
        ExportError: it has more proposals than can be exported.
    """
    with seeded(0):
        detector = build_detector(architecture)
    with TemporaryDirectory(prefix="hkd-untrained-") as folder:
        weights = Path(folder) / f"{out.stem}{DETECTOR_SUFFIX}"
        save_detector(weights, detector, architecture, image_height=image_height, image_width=image_width)
        export_detector(weights, out, ExportSettings.of_evaluation(evaluation))
