"""The study whose trainings are recorded: its configurations, and which of them no policy may be tuned on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from hkd.config import TrialConfig
from hkd.config_files.parsing import config_hash
from sweeps.search.encoding import Space
from sweeps.settings.space import distributions, trial_config
from sweeps.settings.study import StudyConfig, load_study
from sweeps.trials.cost import student_cost

Costs = Callable[[Mapping[str, Any]], Mapping[str, float]]

TASK = Path(__file__).with_name("task.yaml")
CONFIGURATIONS = 96
SEEDS = (0, 1, 2)
TEACHER_IMAGES = 1200
"""Training scenes of the teacher, which starts with those of its students."""
_HELD_BACK_ONE_IN = 3


@dataclass(frozen=True)
class Configuration:
    """Settings of a training, without its seed."""

    number: int
    params: dict[str, Any]
    """The searched settings by dotted name."""

    @property
    def is_held_back(self) -> bool:
        """Whether it is one of the third that no policy is tuned on: by a hash of its settings."""
        return int(config_hash(self.params), 16) % _HELD_BACK_ONE_IN == 0


def load_task(path: Path = TASK) -> StudyConfig:
    """The study."""
    return load_study(path)


def configurations(task: StudyConfig, count: int = CONFIGURATIONS) -> list[Configuration]:
    """The first configurations of a Sobol sequence over the searched space, scrambled with a fixed seed."""
    space = Space(distributions(task.space), {})
    engine = qmc.Sobol(len(space.settings), scramble=True, rng=0)
    points = space.snapped(engine.random_base2(int(np.ceil(np.log2(count))))[:count])
    return [
        Configuration(number, {name: _rounded(value) for name, value in params.items()})
        for number, params in enumerate(space.configurations(points))
    ]


def training_config(task: StudyConfig, params: dict[str, Any], seed: int) -> TrialConfig:
    """The configuration of one training."""
    return trial_config(task.base, {**params, "training.seed": seed})


def exact_costs(task: StudyConfig) -> Costs:
    """Function from a configuration to its costs, computed once for each shape."""
    shape_names = sorted(name for name in task.space if name.startswith("student."))

    @cache
    def of_shape(*values: Any) -> Mapping[str, float]:
        return student_cost(trial_config(task.base, dict(zip(shape_names, values, strict=True)))).as_metrics()

    return lambda params: of_shape(*(params[name] for name in shape_names))


def _rounded(value: Any) -> Any:
    """Four significant digits of a number, so that the table is readable."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
