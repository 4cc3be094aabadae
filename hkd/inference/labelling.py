"""A detector's labels of a folder of images, as an annotation file: the body of ``hkd label``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hkd.coco.annotations import read_annotations
from hkd.coco.categories import CategoryNames
from hkd.config import EvaluationConfig, TrialConfig
from hkd.data.conversion.writing import path_between
from hkd.data.unlabelled import check_copies, find_images
from hkd.evaluation.score_thresholds import ScoreThresholds, choose_thresholds
from hkd.files import write_atomically
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.inference.image_detection import ImageDetection
from hkd.inference.pseudo_labels import LabelSummary, label_document
from hkd.models.weight_formats.errors import CheckpointError

_FOLDER: Final = "DIR"
_OPTIONS: Final = ("--object-score", "--ignored-score")


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
        CheckpointError: the weights cannot be used, or an exported detector lacks scores that are needed.
        ScoreThresholdError: too few people are found on the validation images to choose the scores.
    """
    if max_megapixels is None:
        max_megapixels = DEFAULT_MAX_MEGAPIXELS if config is None else config.data.max_megapixels
    evaluation = EvaluationConfig() if config is None else config.evaluation
    given = [score for score in (scores.object_score, scores.ignored_score) if score is not None]
    lowest = min([evaluation.score_threshold, *given])
    evaluation = evaluation.model_copy(update={"score_threshold": lowest})
    detection = ImageDetection(weights, config, evaluation, max_megapixels, is_teacher=True)
    needed = lowest if scores.validation is not None else min(given)
    if detection.lowest_score > needed:
        raise CheckpointError(
            f"{weights}: was exported without scores up to {detection.lowest_score:g}, and labels need those from "
            f"{needed:g} on; export it with --score-threshold {needed:g}, or give the .safetensors file"
        )
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
