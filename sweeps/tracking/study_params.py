"""The MLflow parameters of a study's parent run."""

from __future__ import annotations

from typing import Any

from hkd import metric_names as names
from sweeps.settings.study import StudyConfig


def study_params(study: StudyConfig) -> dict[str, object]:
    """Objectives, search, scheduler, baselines and search space, by parameter name."""
    params: dict[str, Any] = {
        names.PARAM_OBJECTIVES: ", ".join(study.objectives),
        "search.sampler": study.search.sampler,
        "search.startup_trials": study.search.startup_trials,
        "search.seed": study.search.seed,
        "scheduler.type": study.scheduler.type,
        "baselines": ", ".join(study.baselines),
    }
    if study.rungs:
        params |= {
            "scheduler.rungs": ", ".join(map(str, study.rungs)),
            "scheduler.min_dominators": study.scheduler.min_dominators,
            "scheduler.noise_multiple": study.scheduler.noise_multiple,
        }
    for name, limit in (("max_params", study.search.max_params), ("max_flops", study.search.max_flops)):
        if limit is not None:
            params[f"search.{name}"] = limit
    params |= {f"search.sampler_arguments.{key}": value for key, value in study.search.sampler_arguments.items()}
    for key, parameter in study.space.items():
        if parameter.type == "categorical":
            params[f"space.{key}"] = " | ".join(str(choice) for choice in parameter.choices)
        else:
            scale = ", logarithmic" if parameter.log else ""
            step = f", step {parameter.step:g}" if parameter.step not in (None, 1) else ""
            params[f"space.{key}"] = f"{parameter.low:g} .. {parameter.high:g}{scale}{step}"
        if parameter.prior is not None:
            params[f"space.{key}"] += f", prior {parameter.prior.center} (width {parameter.prior.width:g})"
    return params
