"""A detector over a whole store of images: its detections in the original images' pixels, and their evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hkd.config import EvaluationConfig
from hkd.data.annotations import Annotations
from hkd.data.loader import evaluation_batches
from hkd.data.prepare import PreparedData
from hkd.data.store import ImageStore
from hkd.evaluation.evaluator import EvaluationResult, evaluate
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference
from hkd.structures import Detections

PEDESTRIAN_CATEGORY_ID = 1


def evaluate_detector(
    detector: Detector,
    data: PreparedData,
    evaluation: EvaluationConfig,
    *,
    device: torch.device,
    autocast_dtype: torch.dtype | None = None,
) -> EvaluationResult:
    """Judge a detector on the validation images, by the configured protocol."""
    detections = detect_validation(detector, data, evaluation, device=device, autocast_dtype=autocast_dtype)
    return evaluate(data.validation_annotations.raw(), detections, load_protocol(evaluation.protocol))


def detect_validation(
    detector: Detector,
    data: PreparedData,
    evaluation: EvaluationConfig,
    *,
    device: torch.device,
    autocast_dtype: torch.dtype | None = None,
) -> list[dict[str, Any]]:
    """COCO results on the validation images, of a detector as it would be deployed; it is left as it is."""
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
    """The first batch of :func:`detect_validation`, for the memory it takes: later ones take no more."""
    fused = fuse_for_inference(detector, autocast_dtype or torch.float32)
    images, valid_sizes, _ = next(evaluation_batches(data.validation_store, evaluation.batch_size, device))
    _detect_batch(fused, images, valid_sizes, evaluation, autocast_dtype)


@torch.no_grad()
def detect_store(
    detector: Detector,
    store: ImageStore,
    annotations: Annotations,
    evaluation: EvaluationConfig,
    *,
    device: torch.device,
    autocast_dtype: torch.dtype | None = None,
) -> list[dict[str, Any]]:
    """COCO results of a detector on every image of a store: image by image, best first.

    ``bbox`` is [x, y, width, height] in pixels of the original image: the store's letterboxing is undone and boxes are
    clipped to the image. The detector is left in eval mode.
    """
    detector.eval()
    results: list[dict[str, Any]] = []
    for images, valid_sizes, indices in evaluation_batches(store, evaluation.batch_size, device):
        detections = _detect_batch(detector, images, valid_sizes, evaluation, autocast_dtype)
        results.extend(_coco_results(detections, np.asarray(indices.cpu()), store, annotations))
    return results


def _detect_batch(
    detector: Detector,
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


def _coco_results(
    detections: Detections, indices: np.ndarray, store: ImageStore, annotations: Annotations
) -> list[dict[str, Any]]:
    """One batch of detections as COCO results."""
    valid = detections.valid.cpu().numpy()
    scores = detections.scores.float().cpu().numpy()
    boxes = detections.boxes_xyxy.float().cpu().numpy().astype(np.float64)
    results = []
    for row, index in enumerate(indices):
        image = annotations.images[int(index)]
        limits = np.array([image.width, image.height, image.width, image.height], dtype=np.float64)
        corners = np.clip(boxes[row, valid[row]] / store.scales[index], 0.0, limits)
        for (x1, y1, x2, y2), score in zip(corners.tolist(), scores[row, valid[row]].tolist(), strict=True):
            if not (x2 > x1 and y2 > y1):
                continue  # the network's last column may lie beyond the original image: clipped, nothing is left
            results.append(
                {
                    "image_id": image.image_id,
                    "category_id": PEDESTRIAN_CATEGORY_ID,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
    return results
