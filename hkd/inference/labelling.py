"""A detector's labels of a folder of images, as an annotation file: the body of ``hkd label``."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import torch

from hkd.coco.annotations import Annotations, read_annotations, without_boxes
from hkd.coco.categories import CategoryNames
from hkd.coco.detections import DetectedBoxes
from hkd.config import EvaluationConfig, TrainingConfig, TrialConfig
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.writing import path_between
from hkd.data.store import open_store
from hkd.data.unlabelled import check_copies, find_images
from hkd.evaluation.score_thresholds import ScoreThresholds, choose_thresholds
from hkd.files import write_atomically
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.inference.detector_files import read_detector
from hkd.inference.pseudo_labels import LabelSummary, label_document
from hkd.inference.store_detection import detect_store
from hkd.models.fused import fuse_for_inference
from hkd.runtime.device import autocast_dtype, place, resolve_device

_FOLDER: Final = "DIR"
_OPTIONS: Final = ("--object-score", "--ignored-score")
_IMAGES_AT_A_TIME: Final = 64
"""Decoded images on the disk."""


@dataclass(frozen=True)
class ScoreSources:
    """Where the scores come from, from which on detections are people or ignore regions."""

    object_score: float | None = None
    ignored_score: float | None = None
    validation: Path | None = None
    """Annotation file of the images on which scores that are None are chosen."""
    image_root: Path | None = None
    """Folder of these images; None: as the file states."""
    named: CategoryNames | None = None
    """The categories that the user names."""


def label_folder(
    folder: Path,
    weights: Path,
    out: Path,
    scores: ScoreSources,
    *,
    config: TrialConfig | None = None,
    max_megapixels: float | None = None,
    progress: bool = True,
) -> LabelSummary:
    """Detect people in all images of a folder, at any depth, and write them as an annotation file.

    All images are decoded before anything is detected. At most 64 decoded ones are held, on the disk.

    Args:
        out: its annotations have a ``score`` each, those of doubtful detections ``ignore``; ``info.pseudo_labels`` has
            the thresholds and counts.
        config: its ``teacher`` (its ``student`` without one) and ``data`` replace the metadata of the weights file;
            ``evaluation`` and ``training`` set the detection, device and precision.
        max_megapixels: largest number of pixels of an image, in millions; None: as ``config.data``, else 100.
        progress: show progress bars on stderr.

    Raises:
        UnlabelledImagesError: the folder has no images, unreadable ones, or files of validation images.
        AnnotationError: the annotation file or its images cannot be read.
        CheckpointError: the weights cannot be used.
        ScoreThresholdError: too few people are found on the validation images to choose the scores.
    """
    if max_megapixels is None:
        max_megapixels = DEFAULT_MAX_MEGAPIXELS if config is None else config.data.max_megapixels
    evaluation = EvaluationConfig() if config is None else config.evaluation
    given = [score for score in (scores.object_score, scores.ignored_score) if score is not None]
    lowest = min([evaluation.score_threshold, *given])
    evaluation = evaluation.model_copy(update={"score_threshold": lowest})
    detection = _Detection(weights, config, evaluation, max_megapixels)
    validation = None
    if scores.validation is not None:
        validation = read_annotations(
            scores.validation, scores.image_root, named=scores.named, max_megapixels=max_megapixels
        )
    images = find_images(folder, max_megapixels, is_decoded=True, progress=progress, source=_FOLDER)
    if validation is None:
        assert scores.object_score is not None
        assert scores.ignored_score is not None
        thresholds = ScoreThresholds(scores.object_score, scores.ignored_score)
    else:
        check_copies(images, validation, source=_FOLDER)
        truth = validation.ground_truth()
        found = detection.detect(validation, "Validation images", progress)
        thresholds = choose_thresholds(
            truth,
            found,
            object_score=scores.object_score,
            ignored_score=scores.ignored_score,
            settings=_OPTIONS,
        )
    found = detection.detect(images, "Labelling images", progress)
    document, summary = label_document(images, found, thresholds, image_root=path_between(out.parent, folder))
    write_atomically(out, json.dumps(document, allow_nan=False))
    return summary


class _Detection:
    """A detector, and how it is run."""

    def __init__(
        self, weights: Path, config: TrialConfig | None, evaluation: EvaluationConfig, max_megapixels: float
    ) -> None:
        training = TrainingConfig() if config is None else config.training
        self._device = resolve_device(training.device)
        self._dtype = autocast_dtype(training.precision, self._device)
        detector, self._height, self._width = read_detector(weights, config, is_teacher=True)
        self._detector = fuse_for_inference(place(detector, self._device), self._dtype or torch.float32)
        self._evaluation = evaluation
        self._max_megapixels = max_megapixels

    def detect(self, images: Annotations, title: str, progress: bool) -> DetectedBoxes:
        """Detections on the images; ``image_index`` refers to them by ascending id."""
        records = sorted(images.images, key=lambda image: image.image_id)
        firsts = range(0, len(records), _IMAGES_AT_A_TIME)
        parts = []
        with TemporaryDirectory(prefix="hkd-label-") as folder:
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
