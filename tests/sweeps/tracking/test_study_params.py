"""The parameters of a study's parent run in MLflow."""

from __future__ import annotations

from sweeps.settings.study import StudyConfig
from sweeps.tracking.study_params import study_params


def test_params_of_parent_run_have_search_and_space() -> None:
    study = StudyConfig.model_validate(
        {
            "name": "x",
            "search": {"sampler": "random"},
            "baselines": {"undistilled": {}},
            "space": {
                "student.width_multiplier": {"type": "float", "low": 0.25, "high": 1.0, "step": 0.25},
                "distillation.pyramid.weight": {"type": "float", "low": 0.1, "high": 10.0, "log": True},
                "student.pyramid_channels": {"type": "int", "low": 8, "high": 32},
                "distillation.pyramid.loss": {"type": "categorical", "choices": ["pearson", "mse"]},
            },
        }
    )
    assert study_params(study) == {
        "objectives": "mr2_reasonable, num_params, flops",
        "search.sampler": "random",
        "search.startup_trials": 10,
        "search.seed": 0,
        "scheduler.type": "fifo",
        "baselines": "undistilled",
        "space.student.width_multiplier": "0.25 .. 1, step 0.25",
        "space.distillation.pyramid.weight": "0.1 .. 10, logarithmic",
        "space.student.pyramid_channels": "8 .. 32",
        "space.distillation.pyramid.loss": "pearson | mse",
    }


def test_rungs_are_parameters_where_trials_are_stopped() -> None:
    raw = {"name": "x", "base": {"training": {"total_epochs": 16}}, "scheduler": {"type": "front", "first_rung": 2}}
    params = study_params(StudyConfig.model_validate(raw))
    assert {key: value for key, value in params.items() if key.startswith("scheduler.")} == {
        "scheduler.type": "front",
        "scheduler.rungs": "2, 6",
        "scheduler.min_dominators": 2,
        "scheduler.noise_multiple": 1.0,
    }


def test_limits_arguments_and_priors_are_parameters_where_set() -> None:
    rate = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True, "prior": {"center": 1e-3, "width": 0.25}}
    study = StudyConfig.model_validate(
        {
            "name": "x",
            "search": {
                "sampler": "front",
                "max_params": 10,
                "max_flops": 20,
                "sampler_arguments": {"cost_scale": "log"},
            },
            "space": {"training.learning_rate": rate},
        }
    )
    params = study_params(study)
    assert (params["search.max_params"], params["search.max_flops"]) == (10, 20)
    assert params["search.sampler_arguments.cost_scale"] == "log"
    assert params["space.training.learning_rate"] == "0.0001 .. 0.01, logarithmic, prior 0.001 (width 0.25)"
