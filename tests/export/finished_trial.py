"""The files of a trial that a study trained to its end."""

from __future__ import annotations

import json
from pathlib import Path

from hkd.config_files.yaml_format import dump_yaml
from hkd.export.study_trials import STUDY_FILE
from hkd.models.weights import save_detector
from tests.export.exported import crowded_detector
from tests.training.tiny import HEIGHT, STUDENT, WIDTH, trial_config

INT8_WITHOUT_LIMIT = ("--int8", "--max-drop", "100")
"""A random detector misses all or nearly all people, in any precision."""


def write_finished_trial(folder: Path, study: str, trial: str, seed: int = 0) -> Path:
    """Write it below ``folder/runs``, with generated scenes in ``folder/cache``; returns the file of weights.

    People are at least 50 pixels high, so that there is a miss rate.
    """
    checkpoint = folder / "runs" / study / trial / "checkpoint_000000"
    checkpoint.mkdir(parents=True)
    (folder / "runs" / study / STUDY_FILE).touch()
    weights = checkpoint / "student.safetensors"
    save_detector(weights, crowded_detector(seed=seed), STUDENT, image_height=HEIGHT, image_width=WIDTH)
    (checkpoint / "metrics.json").write_text(json.dumps({"budget_fraction": 1.0}))
    config = trial_config(
        folder / "cache",
        data__synthetic__height=3 * HEIGHT,
        data__synthetic__width=3 * WIDTH,
        evaluation__max_detections_per_image=100,
    )
    (checkpoint / "config.yaml").write_text(dump_yaml(config))
    return weights
