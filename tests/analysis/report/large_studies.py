"""Studies of any number of trials with plausible numbers, to look at and to measure the page with."""

from __future__ import annotations

import dataclasses
import random

from analysis.records.study_records import StudyRecords, TrialRecord
from hkd import metric_names as names
from tests.analysis.studies import record, records

EPOCHS = 24
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
    history = tuple(
        (epoch, round(last + (0.98 - last) * 2.718 ** (-0.28 * epoch) + abs(random_numbers.gauss(0, 0.01)), 5))
        for epoch in range(1, EPOCHS)
    ) + ((EPOCHS, last),)
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
    return dataclasses.replace(trial, history=history, epoch=EPOCHS, duration_seconds=900 + 1800 * width)


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
