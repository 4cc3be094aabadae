"""One training of the comparison, and its detections on the photographs that it is evaluated on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.detections import DetectedBoxes
from hkd.config import TrialConfig
from hkd.data.locations import annotation_files, named_categories
from hkd.data.prepare import prepare_data
from hkd.data.store import open_store
from hkd.files import file_hash, write_atomically, write_json
from hkd.inference.store_detection import detect_store
from hkd.metric_names import ARTIFACT_WEIGHTS
from hkd.models.cost import Cost, detector_cost
from hkd.models.fused import fuse_for_inference
from hkd.models.weights import load_detector
from hkd.runtime.device import autocast_dtype, place, resolve_device
from hkd.runtime.process import configure_process
from hkd.training.run import train_into_folder
from hkd.training.teacher.prepare import prepare_teacher


@dataclass(frozen=True)
class Measured:
    """One trained detector."""

    cost: Cost
    detections: dict[str, Path]
    """Files of its detections, by the name of the set of photographs; see :func:`read_detections`."""


def train_teacher(config: TrialConfig) -> Path:
    """Train the configured teacher, or find it in the cache (``data.cache_dir``); returns its weights."""
    data = prepare_data(config.data, progress=False)
    return prepare_teacher(config, data, config.data.cache_dir).path


def train_student(config: TrialConfig, folder: Path) -> Path:
    """Train or resume the student in a folder, whose ``log.txt`` has the progress; returns its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        train_into_folder(config, folder, resume=True, console=Console(file=log, width=200))
    return folder / ARTIFACT_WEIGHTS


def measure(config: TrialConfig, weights: Path, sets: dict[str, Path], folder: Path) -> Measured:
    """Detect on every set of photographs, unless ``folder`` has the detections of these weights; copy them there.

    Args:
        config: Thresholds, input size, precision and cache.
        weights: Of a detector, as hkd saves it.
        sets: Annotation files by name.
        folder: Of the files of detections, and of the copy of a teacher's weights, which are in the cache.
    """
    if weights.parent != folder:
        write_atomically(folder / weights.name, weights.read_bytes())
    device = resolve_device(config.training.device)
    configure_process(device, config.training.num_threads)
    detector, _ = load_detector(weights)
    dtype = autocast_dtype(config.training.precision, device)
    deployed = fuse_for_inference(place(detector, device), dtype or torch.float32)
    digest = file_hash(weights)
    found: dict[str, Path] = {}
    for name, path in sets.items():
        annotations = photographs(config, path)
        found[name] = folder / f"{name}_detections.json"
        origin: dict[str, object] = {
            "weights": digest,
            "annotations": annotations.content_hash(),
            "image_size": [config.data.image_height, config.data.image_width],
            "precision": str(dtype),
            "evaluation": config.evaluation.model_dump(mode="json", exclude={"latency"}),
        }
        if _is_of(found[name], origin):
            continue
        data = config.data
        store = open_store(
            annotations,
            data.image_height,
            data.image_width,
            data.cache_dir,
            progress=False,
            max_megapixels=data.max_megapixels,
        )
        boxes = detect_store(deployed, store, annotations, config.evaluation, device=device, autocast_dtype=dtype)
        content = {
            "origin": origin,
            "image_index": boxes.image_index.tolist(),
            "boxes_xywh": boxes.boxes_xywh.tolist(),
            "scores": boxes.scores.tolist(),
        }
        write_json(found[name], content, indent=None)
    return Measured(detector_cost(detector, config.data.image_height, config.data.image_width), found)


def photographs(config: TrialConfig, location: str | Path) -> Annotations:
    """The annotations of a set of photographs, read as those of the validation."""
    files = annotation_files(location, config.data)
    return read_annotations(
        files.annotations,
        files.image_root,
        named=named_categories(config.data),
        max_megapixels=config.data.max_megapixels,
    )


def read_detections(path: Path) -> DetectedBoxes:
    """Detections that :func:`measure` wrote."""
    content = json.loads(path.read_bytes())
    return DetectedBoxes(
        np.array(content["image_index"], dtype=np.int64),
        np.array(content["boxes_xywh"], dtype=np.float64).reshape(-1, 4),
        np.array(content["scores"], dtype=np.float64),
    )


def _is_of(path: Path, origin: dict[str, object]) -> bool:
    """Whether a file has the detections of these weights on these photographs."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("origin") == origin
