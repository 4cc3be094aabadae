"""Detection on any number of image files, by a file of weights or an exported detector."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import torch

from hkd.coco.annotations import Annotations, without_boxes
from hkd.coco.detections import DetectedBoxes
from hkd.config import EvaluationConfig, TrainingConfig, TrialConfig
from hkd.data.conversion.progress import track_progress
from hkd.data.store import open_store
from hkd.inference.deployed.detector import DeployedDetector
from hkd.inference.deployed.onnx_file import is_exported, read_onnx_file
from hkd.inference.detector_files import read_detector
from hkd.inference.store_detection import detect_store
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference
from hkd.models.weight_formats.errors import CheckpointError
from hkd.runtime.device import autocast_dtype, place, resolve_device

_IMAGES_AT_A_TIME: Final = 64
"""Decoded images on the disk."""


class ImageDetection:
    """A detector, and how it is run: image store and fused detector as in a training's evaluation, so that scores equal
    those behind its miss rate.
    """

    def __init__(
        self,
        weights: Path,
        config: TrialConfig | None,
        evaluation: EvaluationConfig,
        max_megapixels: float,
        *,
        is_teacher: bool = False,
    ) -> None:
        """Arguments as of :func:`hkd.inference.detector_files.read_detector`; ``weights`` may be an exported detector.

        Raises:
            CheckpointError: the weights cannot be used, or an exported detector is given with ``config``.
            MissingPackageError: an exported detector needs a package that is not installed.
        """
        training = TrainingConfig() if config is None else config.training
        self._evaluation = evaluation
        self._max_megapixels = max_megapixels
        self._device = resolve_device(training.device)
        self._dtype: torch.dtype | None = None
        self._detector: Detector | DeployedDetector
        self.lowest_score = evaluation.score_threshold
        """Of the detections that are found."""
        if is_exported(weights):
            if config is not None:
                raise CheckpointError(
                    f"{weights}: an exported detector states its own sizes and thresholds; leave --config out"
                )
            deployed = DeployedDetector(read_onnx_file(weights))
            metadata = deployed.metadata
            self._height, self._width = metadata.image_height, metadata.image_width
            self._evaluation = evaluation.model_copy(update={"max_detections_per_image": metadata.max_detections})
            self.lowest_score = max(self.lowest_score, metadata.score_threshold)
            self._device = torch.device("cpu")
            self._detector = deployed
        else:
            self._dtype = autocast_dtype(training.precision, self._device)
            detector, self._height, self._width = read_detector(weights, config, is_teacher=is_teacher)
            self._detector = fuse_for_inference(place(detector, self._device), self._dtype or torch.float32)

    def detect(self, images: Annotations, title: str, progress: bool) -> DetectedBoxes:
        """Detections on the images, by image and descending score; ``image_index`` counts them by ascending id."""
        records = sorted(images.images, key=lambda image: image.image_id)
        firsts = range(0, len(records), _IMAGES_AT_A_TIME)
        parts = []
        with TemporaryDirectory(prefix="hkd-detect-") as folder:
            for first in track_progress(firsts, title, shown=progress):
                some = without_boxes(records[first : first + _IMAGES_AT_A_TIME], images.image_root, images.path)
                parts.append((first, self._detect(some, Path(folder) / str(first))))
        return DetectedBoxes(
            np.concatenate([first + part.image_index for first, part in parts]),
            np.concatenate([part.boxes_xywh for _, part in parts]),
            np.concatenate([part.scores for _, part in parts]),
        )

    def _detect(self, images: Annotations, folder: Path) -> DetectedBoxes:
        store = open_store(
            images, self._height, self._width, folder, progress=False, max_megapixels=self._max_megapixels
        )
        try:
            return detect_store(
                self._detector, store, images, self._evaluation, device=self._device, autocast_dtype=self._dtype
            )
        finally:
            shutil.rmtree(folder)
