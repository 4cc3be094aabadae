"""A training with unlabelled images, and what its tests share."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

from rich.console import Console

from hkd.coco.annotations import Annotations, parse_annotations
from hkd.coco.writing import annotation_document
from hkd.config import TrialConfig
from tests.training.tiny import trial_config

# A teacher of six steps finds nobody: low scores make some of its detections labels.
SCORES = {"data__unlabelled_object_score": 0.2, "data__unlabelled_ignored_score": 0.02}


def changed(cache: Path, frames: Path, **changes: Any) -> TrialConfig:
    return trial_config(
        cache, **{"data__unlabelled_images": str(frames), "training__batch_size": 4, **SCORES, **changes}
    )


def without_footage(config: TrialConfig) -> TrialConfig:
    return config.model_copy(update={"data": config.data.model_copy(update={"unlabelled_images": None})})


def without_last_box(annotations: Annotations) -> Annotations:
    return parse_annotations(
        annotation_document(
            [{**dataclasses.asdict(image), "id": image.image_id} for image in annotations.images],
            annotations.coco_records()[:-1],
            ".",
        ),
        Path("other.json"),
        check_images=False,
    )


def silent() -> Console:
    return Console(file=io.StringIO(), width=500)
