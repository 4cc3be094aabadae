"""The configuration of one trial: a tree of frozen, strict sections.

The dotted name of a setting (``student.width_multiplier``) is its path in YAML, its ``--set`` override, its key in a
search space and its parameter in MLflow. :mod:`hkd.config_files.parsing` reads configurations and reports mistakes.
"""

from hkd.config.data import AugmentationConfig, DataConfig, SyntheticConfig
from hkd.config.detector import (
    PYRAMID_LEVELS,
    PYRAMID_STRIDES,
    SELECTED_FROM_TEACHER,
    DetectorConfig,
    StudentConfig,
    have_equal_anchors,
)
from hkd.config.distillation import ComparedCells, DistillationConfig, FeatureLoss, FeatureStageConfig, LogitStageConfig
from hkd.config.section import Section, Seed
from hkd.config.teacher import TeacherConfig
from hkd.config.training import EvaluationConfig, LatencyConfig, TrainingConfig
from hkd.config.trial import TrialConfig

__all__ = [
    "PYRAMID_LEVELS",
    "PYRAMID_STRIDES",
    "SELECTED_FROM_TEACHER",
    "AugmentationConfig",
    "ComparedCells",
    "DataConfig",
    "DetectorConfig",
    "DistillationConfig",
    "EvaluationConfig",
    "FeatureLoss",
    "FeatureStageConfig",
    "LatencyConfig",
    "LogitStageConfig",
    "Section",
    "Seed",
    "StudentConfig",
    "SyntheticConfig",
    "TeacherConfig",
    "TrainingConfig",
    "TrialConfig",
    "have_equal_anchors",
]
