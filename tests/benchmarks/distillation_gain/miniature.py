"""The smallest benchmark: tiny networks on a few generated scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from benchmarks.distillation_gain.conditions import Benchmark, Condition, load_catalogue
from benchmarks.distillation_gain.jobs import Jobs
from benchmarks.distillation_gain.scenes import Scenes

_PROPOSALS = {"pre_nms_proposals_per_level": 16, "proposals_per_image": 16}
MINIATURE: dict[str, Any] = {
    "scenes": {"height": 144, "width": 192, "train_images": 8, "validation_images": 8, "unlabelled_images": 2},
    "base": {
        "data": {"image_height": 64, "image_width": 96},
        "teacher": {"width_multiplier": 0.25, "pyramid_channels": 32, "head_channels": 32, **_PROPOSALS},
        "student": _PROPOSALS,
        "training": {"batch_size": 4, "sampled_anchors_per_image": 32, "sampled_regions_per_image": 16},
    },
    "students": {
        "small": {"student.width_multiplier": 0.125, "student.pyramid_channels": 16, "student.head_channels": 16}
    },
    "teachers": {"strong": {"labels": 8, "steps": 4}},
    "rows": {
        "alone": {f"distillation.{stage}.weight": 0 for stage in ("pyramid", "region", "logits")},
        "default": {"from": "alone", "distillation.pyramid.weight": 1, "student.init_from": "teacher"},
        "unlabelled": {
            "from": "alone",
            "data.unlabelled_images": "unlabelled",
            # The teacher is hardly trained: no thresholds can be chosen on the validation scenes.
            "data.unlabelled_object_score": 0.1,
            "data.unlabelled_ignored_score": 0.05,
        },
    },
    "plans": {
        "length": [
            {
                "teachers": ["strong"],
                "students": ["small"],
                "rows": ["alone", "default"],
                "labels": [8],
                "steps": [4],
                "seeds": [0],
            }
        ]
    },
}


ALONE = Condition("small", "alone", None, 4, 8, 0)
DISTILLED = Condition("small", "default", "strong", 4, 8, 0)


def write_miniature(path: Path) -> Path:
    """Write the conditions as YAML."""
    path.write_text(yaml.safe_dump(MINIATURE, sort_keys=False), encoding="utf-8")
    return path


def miniature_benchmark(folder: Path, **changes: Any) -> Benchmark:
    """The benchmark of the YAML file; ``changes`` are arguments of :class:`Benchmark`."""
    return Benchmark(load_catalogue(write_miniature(folder / "conditions.yaml")), **changes)


def miniature_jobs(benchmark: Benchmark, out: Path, **options: Any) -> Jobs:
    """Its trainings; ``options`` are arguments of :class:`Jobs`."""
    return Jobs(benchmark, Scenes(out, benchmark.catalogue.scenes, progress=False), out, **options)
