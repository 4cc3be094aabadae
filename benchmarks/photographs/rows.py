"""The rows of the comparison: one student, with other first weights and with or without its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hkd.config import DetectorConfig, TeacherConfig, TrialConfig
from hkd.config_files.parsing import apply_overrides, parse_config
from hkd.config_files.yaml_format import load_yaml
from sweeps.settings.study import NO_DISTILLATION

TEACHER: Final = "teacher"
ALONE: Final = "alone"
PRETRAINED: Final = "pretrained"
_OVERRIDES: Final[Mapping[str, Mapping[str, object]]] = {
    ALONE: {**NO_DISTILLATION, "student.init_from": None},
    PRETRAINED: NO_DISTILLATION,  # first weights: see with_pretrained_student
    "selected": {**NO_DISTILLATION, "student.init_from": "teacher"},
    "distilled": {"student.init_from": None},
    "both": {"student.init_from": "teacher"},
}
STUDENTS: Final = tuple(_OVERRIDES)
ROWS: Final = (TEACHER, *STUDENTS)
REFERENCES: Final = (TEACHER, ALONE, PRETRAINED)
"""Rows that the others are compared with."""
DESCRIPTIONS: Final[Mapping[str, str]] = {
    TEACHER: "teacher",
    ALONE: "student alone",
    PRETRAINED: "alone, pretrained on generated scenes like the teacher",
    "selected": "alone, first weights selected from the teacher",
    "distilled": "distilled",
    "both": "distilled, first weights selected from the teacher",
}


def load_base(path: Path, overrides: Mapping[str, object]) -> dict[str, Any]:
    """The raw trial of a YAML file: the file itself, or the ``base`` of a study, inline or by its path.

    Raises:
        ConfigError: the file cannot be read.
    """
    raw = load_yaml(path)
    base = raw.get("base", raw)
    if isinstance(base, str):
        base = load_yaml(path.parent / base)
    return apply_overrides(base, overrides)


def row_config(
    raw: Mapping[str, Any], row: str, seed: int, threads: int, *, one_teacher: bool, source: str
) -> TrialConfig:
    """The configuration of one row and seed.

    Args:
        raw: The base trial.
        row: One of :data:`ROWS`; of the teacher, the settings under ``teacher`` count.
        seed: Of the student, and of the teacher unless ``one_teacher``.
        threads: CPU threads of the training.
        one_teacher: All seeds share the configured teacher.
        source: Name of the configuration in messages.

    Raises:
        ConfigError: listing the mistakes.
    """
    settings: dict[str, object] = {"training.seed": seed, "training.num_threads": threads}
    if isinstance(raw.get("teacher"), Mapping):
        settings["teacher.training.num_threads"] = threads
        if not one_teacher:
            settings["teacher.training.seed"] = seed
    overrides = {**settings, **_OVERRIDES.get(row, {})}
    return parse_config(TrialConfig, apply_overrides(raw, overrides), source=f"{source}, {row}")


def student_pretraining(config: TrialConfig) -> TrialConfig:
    """The student's pretraining on generated scenes: the teacher's data, schedule and seed, for its architecture."""
    assert config.teacher is not None
    assert config.teacher.init_from_synthetic is not None
    student = config.student.model_dump(include=set(DetectorConfig.model_fields))
    schedule = config.teacher.init_from_synthetic.model_copy(update={"num_threads": config.training.num_threads})
    return config.model_copy(
        update={
            "data": config.data.with_generated_scenes(),
            "teacher": TeacherConfig(**student, training=schedule),
        }
    )


def with_pretrained_student(config: TrialConfig, weights: Path) -> TrialConfig:
    """The configuration with the student's first weights from a file."""
    return config.model_copy(update={"student": config.student.model_copy(update={"init_from": weights})})
