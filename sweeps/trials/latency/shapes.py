"""The detectors of a study whose latency is measured: teacher, baselines, and students spread over the space."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy.stats import qmc

from hkd.config import DetectorConfig
from sweeps.search.encoding import Space
from sweeps.settings.space import distributions, extreme_sizes, trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.latency.model import ShapeKey, shape_key

_STUDENT = "student."
_POINTS = 1024
"""Of a Sobol sequence, a power of 2: students of other shapes than earlier ones are searched among these."""


def detectors_to_measure(study: StudyConfig) -> list[DetectorConfig]:
    """Architectures of different shapes: ``num_students`` students at most, then baselines and the teacher.

    The first students are the smallest and the largest of the space, for each of the first combinations of choices;
    the others follow a Sobol sequence. A space with fewer shapes is measured completely. Limits on costs do not count:
    prediction is better between measurements than beyond them.
    """
    latency = study.base.evaluation.latency
    assert latency is not None
    size = study.base.data.image_height, study.base.data.image_width
    baselines = [trial_config(study.base, changes).student for changes in study.baselines.values()]
    teacher = [] if study.base.teacher is None else [study.base.teacher]
    shapes = {shape_key(each, *size): each for each in _students(study, latency.num_students)}
    for other in (*baselines, *teacher):
        shapes.setdefault(shape_key(other, *size), other)
    return [_architecture(each) for each in shapes.values()]


def _students(study: StudyConfig, most: int) -> list[DetectorConfig]:
    size = study.base.data.image_height, study.base.data.image_width
    found: dict[ShapeKey, DetectorConfig] = {}
    for sizes in _sizes(study):
        student = trial_config(study.base, sizes).student
        found.setdefault(shape_key(student, *size), student)
        if len(found) == most:
            break
    return list(found.values())


def _sizes(study: StudyConfig) -> Iterator[Mapping[str, Any]]:
    searched = {
        key: parameter
        for key, parameter in study.space.items()
        if key.startswith(_STUDENT) and key.removeprefix(_STUDENT) in DetectorConfig.model_fields
    }
    if not searched:
        yield {}
        return
    latency = study.base.evaluation.latency
    assert latency is not None
    for low, high in itertools.islice(extreme_sizes(searched), latency.num_students // 4):
        yield low
        yield high
    space = Space(distributions(searched), {})
    sequence = qmc.Sobol(len(searched), scramble=True, rng=np.random.default_rng(study.search.seed))
    points = space.configurations(space.snapped(sequence.random(_POINTS)))
    # Each once: a space of few sizes has many points of the same ones.
    yield from {tuple(sizes.values()): sizes for sizes in points}.values()


def _architecture(detector: DetectorConfig) -> DetectorConfig:
    """Without what a student or a teacher has beside it."""
    return DetectorConfig(**{name: getattr(detector, name) for name in DetectorConfig.model_fields})
