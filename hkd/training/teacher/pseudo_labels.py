"""The teacher's labels of the unlabelled images: computed once, then cached beside the teacher."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock

from hkd.coco.annotations import Annotations, parse_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_json
from hkd.config import DetectorConfig, EvaluationConfig, TrialConfig
from hkd.config_files.parsing import config_hash
from hkd.data.prepare import PreparedData
from hkd.data.unlabelled import UnlabelledImages
from hkd.evaluation.score_thresholds import ScoreThresholds, choose_thresholds
from hkd.files import file_hash, remove_irregular, write_atomically
from hkd.inference.pseudo_labels import LabelSummary, label_document
from hkd.inference.store_detection import detect_store, detect_validation
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference
from hkd.runtime.device import autocast_dtype, resolve_device
from hkd.runtime.process import configure_process
from hkd.training.progress import OnProgress, TrainingProgress, ignore_progress
from hkd.training.teacher.prepare import PreparedTeacher, load_teacher

# Part of the key: increment it when a change of the code changes the labels.
_RECIPE = 1


class LabelsCacheError(ValueError):
    """The file of the labels cannot be locked or written."""


@dataclass(frozen=True)
class PseudoLabels:
    """Labels of the unlabelled images."""

    path: Path
    """An annotation file of these images."""
    annotations: Annotations
    summary: LabelSummary


def prepare_labels(
    config: TrialConfig, data: PreparedData, teacher: PreparedTeacher, progress: OnProgress = ignore_progress
) -> PseudoLabels | None:
    """Label the unlabelled images with the teacher, unless its labels are cached; None without such images.

    The labels are cached beside the teacher, by a hash of all that determines them: the teacher's weights, the images'
    names and pixels, the thresholds or the content of the validation images on which they are chosen, and the settings
    of the detection. Concurrent calls wait for the one that labels.

    Args:
        progress: Called after each batch.

    Raises:
        ScoreThresholdError: the teacher finds too few people on the validation images to choose thresholds.
        LabelsCacheError: the labels cannot be written.
    """
    images = data.unlabelled
    if images is None:
        return None
    path = _path(config, data, images, teacher)
    labels = _cached(path, images)
    if labels is None:
        lock = FileLock(f"{path}.lock")
        with _writing(path):
            lock.acquire()
        try:
            labels = _cached(path, images)  # another process may have written it meanwhile
            if labels is None:
                with _writing(path):
                    remove_irregular(path)
                document = _label(config, data, images, teacher, progress)
                with _writing(path):
                    write_atomically(path, json.dumps(document, allow_nan=False))
                labels = _cached(path, images)
        finally:
            lock.release()
    assert labels is not None, f"{path} was just written"
    return labels


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Report an error of the file system as one of the file of labels."""
    try:
        yield
    except OSError as error:
        raise LabelsCacheError(
            f"the file of labels '{path}' cannot be written ({error.strerror or error}); remove it and its .lock, "
            "free some space, or name another folder (data.cache_dir; of a study: storage_path)"
        ) from error


def find_labels(config: TrialConfig, data: PreparedData, teacher: PreparedTeacher) -> PseudoLabels | None:
    """The labels that :func:`prepare_labels` would return, if they are cached; otherwise None. Labels nothing."""
    if data.unlabelled is None:
        return None
    return _cached(_path(config, data, data.unlabelled, teacher), data.unlabelled)


def read_labels(path: Path, image_root: Path) -> PseudoLabels:
    """Labels from the cache.

    Args:
        image_root: Folder of the images.

    Raises:
        AnnotationError: the file cannot be read.
    """
    document = read_json(path)
    annotations = parse_annotations(document, path, image_root, check_images=False)
    try:
        summary = LabelSummary.from_document(document)
    except ValueError as error:
        raise AnnotationError([str(error)], str(path)) from error
    return PseudoLabels(path, annotations, summary)


def _cached(path: Path, images: UnlabelledImages) -> PseudoLabels | None:
    if not path.is_file():
        return None
    try:
        labels = read_labels(path, images.annotations.image_root)
        if labels.annotations.images != images.annotations.images:
            raise AnnotationError(["has other images"], str(path))
    except AnnotationError as error:
        warnings.warn(f"damaged labels, which are computed again: {error}", stacklevel=3)
        return None
    return labels


def _path(config: TrialConfig, data: PreparedData, images: UnlabelledImages, teacher: PreparedTeacher) -> Path:
    return teacher.path.with_name(f"labels-{_key(config, data, images, teacher)}.json")


def _key(config: TrialConfig, data: PreparedData, images: UnlabelledImages, teacher: PreparedTeacher) -> str:
    settings = config.data
    scores = [settings.unlabelled_object_score, settings.unlabelled_ignored_score]
    validation = [data.validation_annotations.content_hash(), data.validation_store.checksum] if None in scores else []
    return config_hash(
        {
            "recipe": _RECIPE,
            "teacher": file_hash(teacher.path),
            "architecture": teacher.config.model_dump(mode="json", include=set(DetectorConfig.model_fields)),
            "precision": teacher.config.training.precision,
            "images": [images.annotations.content_hash(), images.store.checksum],
            "image_size": [settings.image_height, settings.image_width],
            "max_objects": settings.max_objects_per_image,
            "scores": scores,
            "validation": validation,
            "evaluation": config.evaluation.model_dump(mode="json", exclude={"batch_size", "latency", "protocol"}),
        }
    )


def _label(
    config: TrialConfig,
    data: PreparedData,
    images: UnlabelledImages,
    teacher: PreparedTeacher,
    progress: OnProgress,
) -> dict[str, object]:
    training = teacher.config.training
    device = resolve_device(training.device)
    configure_process(device, training.num_threads)
    dtype = autocast_dtype(training.precision, device)
    detector = load_teacher(teacher.path, teacher.config, device)
    evaluation = _low_scores(config)
    # First, because it may fail.
    thresholds = _thresholds(config, data, detector, evaluation, device, dtype)
    total = len(images.annotations.images)

    def on_images(done: int) -> None:
        progress(TrainingProgress("labels of unlabelled images", done, total, epoch=0, total_epochs=0))

    detections = detect_store(
        fuse_for_inference(detector, dtype or torch.float32),
        images.store,
        images.annotations,
        evaluation,
        device=device,
        autocast_dtype=dtype,
        on_images=on_images,
    )
    document, _ = label_document(
        images.annotations,
        detections,
        thresholds,
        image_root=str(images.annotations.image_root.absolute()),
        max_per_image=config.data.max_objects_per_image,
    )
    return document


def _low_scores(config: TrialConfig) -> EvaluationConfig:
    """The settings of detection, with all scores from which labels may be made."""
    given = [config.data.unlabelled_object_score, config.data.unlabelled_ignored_score]
    lowest = min([config.evaluation.score_threshold, *(score for score in given if score is not None)])
    return config.evaluation.model_copy(update={"score_threshold": lowest})


def _thresholds(
    config: TrialConfig,
    data: PreparedData,
    detector: Detector,
    evaluation: EvaluationConfig,
    device: torch.device,
    dtype: torch.dtype | None,
) -> ScoreThresholds:
    """The configured thresholds, or those chosen on the validation images."""
    upper, lower = config.data.unlabelled_object_score, config.data.unlabelled_ignored_score
    if upper is not None and lower is not None:
        return ScoreThresholds(upper, lower)
    detections = detect_validation(detector, data, evaluation, device=device, autocast_dtype=dtype)
    truth = data.validation_annotations.ground_truth()
    return choose_thresholds(truth, detections, object_score=upper, ignored_score=lower)
