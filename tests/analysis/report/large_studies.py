"""Studies of any number of trials with plausible numbers, to look at and to measure the page with."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest

from analysis import results
from analysis.certainty import uncertainty
from analysis.explain.importances import Importances
from analysis.front import find_front
from analysis.records.curves import Curve
from analysis.records.study_records import StudyRecords, TrialRecord
from analysis.results import StudyResults
from hkd import metric_names as names
from hkd.evaluation.formats.stored_detections import StoredDetections
from tests.analysis.studies import found_in, record, records

EPOCHS = 24
NUM_IMAGES = 300
_TEACHER_MISS_RATE = 0.18


def large_study(num_trials: int, *, study: str = "inria", seed: int = 0) -> StudyRecords:
    """Two baselines and ``num_trials`` trials, of which every twelfth failed and every seventh was stopped."""
    random_numbers = random.Random(seed)
    trials = [
        _trained("baseline-undistilled", 0.5, 64, 1.0, 0.0, random_numbers, baseline="undistilled"),
        _trained("baseline-default-weights", 0.5, 64, 1.0, 1.0, random_numbers, baseline="default-weights"),
    ]
    for number in range(num_trials):
        trial = _trained(
            f"trial-{number:03d}",
            random_numbers.choice((0.25, 0.375, 0.5, 0.75, 1.0)),
            random_numbers.choice((32, 48, 64, 96, 128)),
            10 ** random_numbers.uniform(-1, 1),
            10 ** random_numbers.uniform(-1, 0.7),
            random_numbers,
        )
        if number % 12 == 11:
            trial = _ended(trial, names.STATUS_FAILED, 3, "failed after 12 % of its epochs: OutOfMemoryError")
        elif number % 7 == 6:
            trial = _ended(trial, names.STATUS_STOPPED, 8, "stopped after 33 % of its epochs")
        trials.append(trial)
    teacher = record("teacher", _TEACHER_MISS_RATE, 41.3e6, 134e9, role="teacher")
    return records(trials, teacher, study=study)


def confirmed_study(study: StudyRecords, *, seed: int = 1) -> StudyRecords:
    """The study, with its front and baselines trained again: 0 to 4 points worse, on test images another 2."""
    random_numbers = random.Random(seed)
    front = find_front(study)
    chosen = {student.trial_id for student in front.students if student.rank is not None or student.baseline}

    def again(trial: TrialRecord) -> TrialRecord:
        mean = trial.metrics[names.MR2_REASONABLE] + random_numbers.uniform(0, 0.04)
        found = {
            names.CONFIRMED_SEEDS: 3.0,
            f"{names.CONFIRMED_PREFIX}{names.MR2_REASONABLE}": mean,
            f"{names.CONFIRMED_PREFIX}{names.MR2_REASONABLE}{names.STD_SUFFIX}": 0.006,
            f"{names.CONFIRMED_PREFIX}{names.TEST_PREFIX}{names.MR2_REASONABLE}": mean + 0.02,
            f"{names.CONFIRMED_PREFIX}{names.TEST_PREFIX}{names.MR2_REASONABLE}{names.STD_SUFFIX}": 0.008,
        }
        return dataclasses.replace(trial, metrics={**trial.metrics, **found})

    trials = tuple(again(trial) if trial.trial_id in chosen else trial for trial in study.trials)
    assert study.teacher is not None
    on_test = {f"{names.TEST_PREFIX}{names.MR2_REASONABLE}": _TEACHER_MISS_RATE + 0.015}
    teacher = dataclasses.replace(study.teacher, metrics={**study.teacher.metrics, **on_test})
    return dataclasses.replace(study, trials=trials, teacher=teacher)


def large_results(study: StudyRecords) -> StudyResults:
    """Results with intervals, of detections of 300 images that give about the recorded miss rates.

    Importances are left out: they take minutes for a thousand trials.
    """
    recorded = {trial.run_id: trial for trial in (*study.trials, *((study.teacher,) if study.teacher else ()))}

    def read_detections(run_ids: Sequence[str]) -> dict[str, StoredDetections]:
        difficulty = np.random.default_rng(0).permutation((np.arange(NUM_IMAGES) + 0.5) / NUM_IMAGES)
        return {
            run_id: found_in(list(difficulty > recorded[run_id].metrics[names.MR2_REASONABLE])) for run_id in run_ids
        }

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uncertainty, "_SAME_VALUE", 1.0)
        patch.setattr(results, "all_importances", lambda *_: ())
        patch.setattr(results, "first_miss_rate", lambda *_: Importances({}, 0, "left out"))
        return results.compute_results(study, read_detections=read_detections)


def large_curves(study: StudyRecords) -> dict[str, Curve]:
    """Miss rates that fall from above to below the recorded one between 0.01 and 1 false positive per image."""
    recorded = (*study.counted, *((study.teacher,) if study.teacher else ()))
    fppi = [10 ** (-2.2 + 0.1 * step) for step in range(26)]
    return {
        trial.run_id: tuple((x, min(1.0, trial.metrics[names.MR2_REASONABLE] * (x / 0.1) ** -0.25)) for x in fppi)
        for trial in recorded
    }


def _trained(
    trial_id: str,
    width: float,
    channels: int,
    pyramid_weight: float,
    logit_weight: float,
    random_numbers: random.Random,
    baseline: str | None = None,
) -> TrialRecord:
    num_params = round(1.1e6 + 11e6 * width**1.8 + 9e3 * channels)
    flops = 4e9 + 60e9 * width**1.4 + 6e7 * channels
    is_distilled = logit_weight > 0
    gain = 0.05 * is_distilled - 0.012 * abs(pyramid_weight - 1.5) * is_distilled
    last = _TEACHER_MISS_RATE + 0.16 / (1 + 2.2 * width) + 1.2 / channels - gain + random_numbers.gauss(0.02, 0.012)
    history = [
        (epoch, round(last + (0.98 - last) * math.exp(-0.28 * epoch) + abs(random_numbers.gauss(0, 0.01)), 5))
        for epoch in range(1, EPOCHS)
    ]
    trial = record(
        trial_id,
        last,
        num_params,
        flops,
        role="trial" if baseline is None else "baseline",
        baseline=baseline,
        params={
            "student.width_multiplier": width,
            "student.pyramid_channels": channels,
            "distillation.pyramid.weight": pyramid_weight if is_distilled else 0.0,
            "distillation.pyramid.loss": random_numbers.choice(("pearson", "mse")),
            "distillation.logits.weight": logit_weight,
            "training.learning_rate": 10 ** random_numbers.uniform(-3.3, -2),
            "training.total_epochs": EPOCHS,
            "data.image_height": 480,
        },
    )
    return dataclasses.replace(
        trial, history=(*history, (EPOCHS, last)), epoch=EPOCHS, duration_seconds=900 + 1800 * width
    )


def _ended(trial: TrialRecord, status: str, epochs: int, reason: str) -> TrialRecord:
    return dataclasses.replace(
        trial,
        status=status,
        not_counted_because=reason,
        epoch=epochs,
        budget_fraction=epochs / EPOCHS,
        metrics={**trial.metrics, names.MR2_REASONABLE: trial.history[epochs - 1][1]},
        history=trial.history[:epochs],
    )
