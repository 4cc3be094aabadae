"""What a study needs of its data and its machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hkd.config import TrialConfig
from hkd.config_io import parse_config
from hkd.data.prepare import prepare_data
from sweeps.checks import check_device, check_objectives
from sweeps.cluster import TrialResources
from sweeps.folder import StudyError
from sweeps.study_config import StudyConfig
from tests.sweeps.tiny import tiny_trial

WITHOUT_GPU = TrialResources(1.0, 0.0, 1, 2)
WITH_GPU = TrialResources(1.0, 0.25, 1, 2)


def test_an_objective_must_have_a_value_on_the_validation_images(tmp_path: Path) -> None:
    raw = tiny_trial(tmp_path)
    # So small that no pedestrian is 50 pixels high, as "reasonable" ones are.
    raw["data"]["synthetic"] |= {"height": 64, "width": 96}
    base = parse_config(TrialConfig, raw, source="tiny")
    data = prepare_data(base.data, progress=False)
    assert data.validation_annotations.heights.max() < 50
    with pytest.raises(
        StudyError, match=r"mr2_reasonable has no value on the validation .* allowed: mr2_all, num_params"
    ):
        check_objectives(StudyConfig(name="x", base=base), data)
    check_objectives(StudyConfig(name="x", base=base, objectives=("mr2_all", "flops")), data)


@pytest.mark.parametrize(
    ("base", "setting"),
    [
        ({"training": {"device": "cuda"}}, "base.training.device"),
        ({"teacher": {"training": {"device": "cuda"}}}, "base.teacher.training.device"),
    ],
)
def test_a_gpu_that_is_insisted_on_must_be_given(base: dict[str, Any], setting: str) -> None:
    study = StudyConfig.model_validate({"name": "x", "base": base})
    with pytest.raises(StudyError, match=f"{setting} is cuda, but trials are given no GPU"):
        check_device(study, WITHOUT_GPU)
    check_device(study, WITH_GPU)
    check_device(StudyConfig(name="x"), WITHOUT_GPU)
