from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from analysis.records.reader import parse_parameter
from analysis.records.study_records import ParameterValue
from hkd.config import TrialConfig
from hkd.config_files.parsing import flatten
from tests.analysis.studies import record

NO_STAGES = {stage: {"weight": 0.0} for stage in ("pyramid", "region", "embedding", "logits")}


@pytest.mark.parametrize(
    ("settings", "is_distilled"),
    [
        ({}, True),
        ({"teacher": None}, False),
        ({"distillation": NO_STAGES}, False),
        ({"distillation": {**NO_STAGES, "logits": {"weight": 1.0}}}, True),
        ({"distillation": {**NO_STAGES, "logits": {"weight": 0.0, "box_deltas_weight": 0.5}}}, True),
        ({"distillation": {**NO_STAGES, "logits": {"weight": 1.0}}, "teacher": None}, False),
    ],
)
def test_configuration_determines_whether_trial_is_distilled(settings: Mapping[str, Any], is_distilled: bool) -> None:
    config = TrialConfig.model_validate(settings)
    assert config.is_distilled is is_distilled
    logged = {key: parse_parameter(str(value)) for key, value in flatten(config).items()}
    assert record("t", 0.3, 1e6, 1e9, params=logged).is_distilled is is_distilled


@pytest.mark.parametrize(
    ("params", "is_distilled"),
    [
        # Stages without a record have weight 0, also where today's default is above 0.
        ({"distillation.logits.weight": 0.0}, False),
        ({"distillation.logits.weight": 1.0}, True),
        ({"distillation.logits.weight": 0.0, "distillation.logits.box_deltas_weight": 0.5}, True),
        ({"distillation.logits.weight": 1.0, "teacher": None}, False),
    ],
)
def test_partly_recorded_settings(params: Mapping[str, ParameterValue], is_distilled: bool) -> None:
    assert record("t", 0.3, 1e6, 1e9, params=params).is_distilled is is_distilled


@pytest.mark.parametrize(
    "params",
    [{}, {"distillation.logits.weight": "strong"}, {"distillation.logits": 1.0, "distillation.logits.weight": 0.0}],
    ids=["missing", "not a weight", "not a section"],
)
def test_name_of_baseline_decides_where_settings_are_not_readable(params: Mapping[str, ParameterValue]) -> None:
    plain = record("b", 0.3, 1e6, 1e9, role="baseline", baseline="undistilled", params=params)
    assert not plain.is_distilled
    assert record("t", 0.3, 1e6, 1e9, params=params).is_distilled
