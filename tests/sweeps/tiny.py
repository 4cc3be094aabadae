"""The smallest study whose validation images have pedestrians."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

_SAMPLED = {"sampled_anchors_per_image": 32, "sampled_regions_per_image": 16}
_PROPOSALS = {"pre_nms_proposals_per_level": 16, "proposals_per_image": 16}


def tiny_trial(cache_dir: Path, *, total_epochs: int = 2) -> dict[str, Any]:
    """A trial on a dozen generated scenes, as YAML would give it."""
    return {
        "data": {
            "image_height": 64,
            "image_width": 96,
            # Scenes larger than the network's input: "reasonable" pedestrians are 50 pixels high or more.
            "synthetic": {"train_images": 8, "validation_images": 4, "height": 144, "width": 192},
            "cache_dir": str(cache_dir),
        },
        "teacher": {
            "width_multiplier": 0.25,
            "pyramid_channels": 32,
            "head_channels": 32,
            "training": {"total_epochs": 1, "batch_size": 4, **_SAMPLED},
            **_PROPOSALS,
        },
        "student": {"width_multiplier": 0.125, "pyramid_channels": 16, "head_channels": 16, **_PROPOSALS},
        "training": {"total_epochs": total_epochs, "batch_size": 4, **_SAMPLED},
        "evaluation": {"batch_size": 4},
    }


def with_unlabelled_images(trial: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The trial with five unlabelled images of noise, and scores at which an untrained teacher labels something."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(5):
        pixels = random.integers(0, 255, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    scores = {"unlabelled_object_score": 0.3, "unlabelled_ignored_score": 0.1}
    return {**trial, "data": {**trial["data"], "unlabelled_images": str(folder), **scores}}


def write_tiny_study(path: Path, cache_dir: Path, *, total_epochs: int = 2, **changes: Any) -> None:
    """Write a study with two searched settings around :func:`tiny_trial`."""
    study = {
        "name": "tiny",
        "base": tiny_trial(cache_dir, total_epochs=total_epochs),
        "space": {
            "student.pyramid_channels": {"type": "int", "low": 8, "high": 32, "step": 8},
            "distillation.pyramid.weight": {"type": "float", "low": 0.1, "high": 10.0, "log": True},
        },
        "search": {"num_trials": 2, "startup_trials": 2},
        "resources": {"cpus_per_trial": 1, "max_concurrent_trials": 2},
        **changes,
    }
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
