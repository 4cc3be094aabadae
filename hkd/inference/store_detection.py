"""Detections of a detector on a whole store of images, in pixels of the original images, and their evaluation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hkd.coco.annotations import Annotations
from hkd.coco.boxes import FloatArray, IntArray
from hkd.coco.detections import DetectedBoxes
from hkd.config import EvaluationConfig
from hkd.data.loader import evaluation_batches
from hkd.data.prepare import PreparedData
from hkd.data.store import ImageStore
from hkd.evaluation.evaluator import EvaluationResult, evaluate_boxes
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.evaluation.formats.stored_detections import encode_detections, stored_detections
from hkd.inference.deployed.detector import DeployedDetector
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference
from hkd.structures import Detections


def evaluate_detections(
    detections: DetectedBoxes, data: PreparedData, evaluation: EvaluationConfig
) -> EvaluationResult:
    """Evaluate detections on the validation images, by the configured protocol."""
    protocol = load_protocol(evaluation.protocol)
    return evaluate_boxes(data.validation_annotations.ground_truth(), detections, protocol)


def encode_validation(detections: DetectedBoxes, data: PreparedData, evaluation: EvaluationConfig) -> bytes:
    """Detections on the validation images as a file; see :mod:`hkd.evaluation.formats.stored_detections`."""
    protocol = load_protocol(evaluation.protocol)
    return encode_detections(stored_detections(data.validation_annotations.ground_truth(), detections, protocol))


def evaluate_on(
    detector: Detector,
    store: ImageStore,
    annotations: Annotations,
    evaluation: EvaluationConfig,
    *,
    device: torch.device,
    autocast_dtype: torch.dtype | None = None,
) -> EvaluationResult:
    """Evaluate a detector's deployed form on any images, by the configured protocol; the detector is not changed."""
    detections = detect_store(
        fuse_for_inference(detector, autocast_dtype or torch.float32),
        store,
        annotations,
        evaluation,
        device=device,
        autocast_dtype=autocast_dtype,
    )
    return evaluate_boxes(annotations.ground_truth(), detections, load_protocol(evaluation.protocol))


def detect_validation(
    detector: Detector,
    data: PreparedData,
    evaluation: EvaluationConfig,
    *,
    device: torch.device,
    autocast_dtype: torch.dtype | None = None,
) -> DetectedBoxes:
    """Detections on the validation images, by the detector's deployed form; the detector is not changed."""
    return detect_store(
        fuse_for_inference(detector, autocast_dtype or torch.float32),
        data.validation_store,
        data.validation_annotations,
        evaluation,
        device=device,
        autocast_dtype=autocast_dtype,
    )


@torch.no_grad()
def try_detection(
    detector: Detector,
    data: PreparedData,
    evaluation: EvaluationConfig,
    *,
    device: torch.device,
    autocast_dtype: torch.dtype | None = None,
) -> None:
    """The first batch of :func:`detect_validation`, to measure its memory: later batches need no more."""
    fused = fuse_for_inference(detector, autocast_dtype or torch.float32)
    images, valid_sizes, _ = next(evaluation_batches(data.validation_store, evaluation.batch_size, device))
    _detect_batch(fused, images, valid_sizes, evaluation, autocast_dtype)


@torch.no_grad()
def detect_store(
    detector: Detector | DeployedDetector,
    store: ImageStore,
    annotations: Annotations,
    evaluation: EvaluationConfig,
    *,
    device: torch.device,
    autocast_dtype: torch.dtype | None = None,
    on_images: Callable[[int], None] | None = None,
) -> DetectedBoxes:
    """Detections on every image of a store: image by image in the store's order, best first.

    Boxes are in pixels of the original images: the store's letterboxing is undone and boxes are clipped to the image.
    ``image_index`` refers to the images by ascending id, as :meth:`hkd.coco.annotations.Annotations.ground_truth` has
    them. The detector is left in eval mode. ``on_images`` is called after each batch, with the number of images so far.
    """
    detector.eval()
    image_ids = annotations.image_ids()
    ground_truth_index = np.searchsorted(np.sort(image_ids), image_ids)
    image_index: list[IntArray] = [np.zeros(0, dtype=np.int64)]
    boxes: list[FloatArray] = [np.zeros((0, 4))]
    scores: list[FloatArray] = [np.zeros(0)]
    for images, valid_sizes, indices in evaluation_batches(store, evaluation.batch_size, device):
        detections = _detect_batch(detector, images, valid_sizes, evaluation, autocast_dtype)
        positions, batch_boxes, batch_scores = _in_original_pixels(
            detections, np.asarray(indices.cpu()), store, annotations
        )
        image_index.append(ground_truth_index[positions])
        boxes.append(batch_boxes)
        scores.append(batch_scores)
        if on_images is not None:
            on_images(int(indices[-1]) + 1)
    return DetectedBoxes(np.concatenate(image_index), np.concatenate(boxes), np.concatenate(scores))


def _detect_batch(
    detector: Detector | DeployedDetector,
    images: Tensor,
    valid_sizes: Tensor,
    evaluation: EvaluationConfig,
    autocast_dtype: torch.dtype | None,
) -> Detections:
    with torch.autocast(images.device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
        return detector.detect(
            images,
            valid_sizes,
            score_threshold=evaluation.score_threshold,
            nms_iou=evaluation.nms_iou,
            max_detections=evaluation.max_detections_per_image,
        )


def _in_original_pixels(
    detections: Detections, indices: IntArray, store: ImageStore, annotations: Annotations
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Positions in the store (D,), boxes (D, 4) xywh and scores (D,) of a batch's valid detections, image by image."""
    valid = detections.valid.cpu().numpy()
    row, _ = np.nonzero(valid)
    positions = indices[row]
    sizes = np.array([(annotations.images[i].width, annotations.images[i].height) for i in indices.tolist()])
    limits = np.tile(sizes[row], 2).astype(np.float64)
    corners = detections.boxes_xyxy.float().cpu().numpy()[valid].astype(np.float64)
    corners = np.clip(corners / store.scales[positions][:, None], 0.0, limits)
    sides = corners[:, 2:] - corners[:, :2]
    scores = detections.scores.float().cpu().numpy()[valid].astype(np.float64)
    # The network's last column may be outside the original image: such a box has no area after clipping.
    has_area = (sides > 0).all(axis=1)
    return positions[has_area], np.concatenate([corners[:, :2], sides], axis=1)[has_area], scores[has_area]
