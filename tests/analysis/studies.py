"""Small studies: written into an MLflow store as sweeps/tracking/tracker.py does, and as records."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from analysis.objectives import OBJECTIVES
from analysis.records.study_records import StudyRecords, TrialRecord
from hkd import metric_names as names
from hkd.evaluation.formats.stored_detections import StoredDetections

EPOCHS = 4
DISTILLED = {"distillation.pyramid.weight": 1.0}
"""The settings by which the report recognises a distilled trial."""
_MLFLOW_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


@dataclass(frozen=True)
class Written:
    """One run to write; by default, a trial that was trained for all its epochs."""

    trial_id: str
    mr2: Sequence[float] = (0.9, 0.6, 0.5, 0.4)
    """``miss_rate`` of epochs 1, 2, ..."""
    miss_rate: str = names.MR2_REASONABLE
    num_params: float | None = 1e6
    flops: float | None = 2e9
    role: str | None = "trial"
    baseline: str | None = None
    status: str | None = "finished"
    mlflow_status: str | None = None
    error: str | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Logged at the last epoch; overrides the other fields."""


def make_empty_database(path: Path) -> None:
    """An SQLite file with MLflow's tables and nothing in them."""
    with warnings.catch_warnings():
        # MLflow's SQL store uses deprecated functions of SQLAlchemy.
        warnings.simplefilter("ignore", DeprecationWarning)
        MlflowClient(f"sqlite:///{path}")


def write_study(
    client: MlflowClient,
    study: str,
    runs: Sequence[Written],
    *,
    parent: bool = True,
    objectives: Sequence[str] | None = names.DEFAULT_OBJECTIVES,
) -> str:
    """Write an experiment with its runs, each started one second after the last; returns the experiment's id.

    With ``objectives`` None, the parent run has no record of them.
    """
    experiment = client.create_experiment(study)
    if parent:
        tags = {names.TAG_ROLE: names.ROLE_STUDY, names.TAG_STUDY: study, "mlflow.source.git.commit": "0123abc"}
        run = client.create_run(experiment, run_name=study, start_time=1000, tags=tags)
        params = [Param("seed", "0")]
        if objectives is not None:
            params.append(Param(names.PARAM_OBJECTIVES, ", ".join(objectives)))
        client.log_batch(run.info.run_id, params=params)
        client.set_terminated(run.info.run_id, "FINISHED", end_time=60_000)
    for index, written in enumerate(runs):
        _write_run(client, experiment, study, written, start_time=2000 + 1000 * index)
    return experiment


def _write_run(client: MlflowClient, experiment: str, study: str, written: Written, start_time: int) -> None:
    tags = {
        names.TAG_STUDY: study,
        names.TAG_ROLE: written.role,
        names.TAG_TRIAL_ID: written.trial_id,
        names.TAG_BASELINE: written.baseline,
        names.TAG_STATUS: written.status,
        names.TAG_ERROR: written.error,
    }
    run_id = client.create_run(
        experiment,
        run_name=written.trial_id,
        start_time=start_time,
        tags={key: value for key, value in tags.items() if value is not None},
    ).info.run_id
    metrics: dict[tuple[str, int], float] = {}
    for epoch, mr2 in enumerate(written.mr2, start=1):
        metrics[written.miss_rate, epoch] = mr2
        metrics[names.BUDGET_FRACTION, epoch] = epoch / EPOCHS
    for name, cost in ((names.NUM_PARAMS, written.num_params), (names.FLOPS, written.flops)):
        if cost is not None:
            metrics[name, 0] = cost
    if written.flops is not None:
        metrics[names.GMACS, 0] = written.flops / 2e9
    metrics.update({(name, len(written.mr2)): value for name, value in written.metrics.items()})
    params = {"training.total_epochs": EPOCHS, **DISTILLED, **written.params}
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, start_time + step, step) for (name, step), value in metrics.items()],
        params=[Param(key, str(value)) for key, value in params.items()],
    )
    status = written.mlflow_status or _MLFLOW_STATUS.get(written.status or "finished")
    if status is not None:
        client.set_terminated(run_id, status, end_time=start_time + 30_000)


def record(
    trial_id: str,
    mr2: float,
    num_params: float,
    flops: float,
    *,
    role: str = "trial",
    baseline: str | None = None,
    params: Mapping[str, bool | int | float | str | None] | None = None,
    not_counted_because: str | None = None,
    status: str = "finished",
    metrics: Mapping[str, float] | None = None,
) -> TrialRecord:
    """A record as the reader returns it; ``metrics`` are further ones."""
    return TrialRecord(
        trial_id=trial_id,
        run_id=f"run-of-{trial_id}",
        role=role,
        baseline=baseline,
        status=status,
        not_counted_because=not_counted_because,
        epoch=EPOCHS,
        budget_fraction=1.0,
        duration_seconds=30.0,
        metrics={names.MR2_REASONABLE: mr2, names.NUM_PARAMS: num_params, names.FLOPS: flops, **(metrics or {})},
        params=params or {},
        history=((EPOCHS, mr2),),
    )


def records(
    trials: Sequence[TrialRecord],
    teacher: TrialRecord | None = None,
    study: str = "demo",
    objectives: Sequence[str] = names.DEFAULT_OBJECTIVES,
) -> StudyRecords:
    """A study as the reader returns it."""
    return StudyRecords(
        study=study,
        tracking_uri="sqlite:///mlflow.db",
        objectives=tuple(OBJECTIVES[name] for name in objectives),
        trials=tuple(trials),
        teacher=teacher,
        settings={"seed": "0"},
        tags={},
        notes=(),
    )


def found_in(images: Sequence[bool], num_false: int = 0) -> StoredDetections:
    """Detections on images of one person each, of whom those are found: MR^-2 is the share of the others.

    ``num_false`` false positives of lower scores change nothing: nobody is found after them.
    """
    found = np.flatnonzero(images)
    index = np.concatenate([found, np.zeros(num_false, dtype=np.int64)])
    return StoredDetections(
        protocol="citypersons",
        subsets=("reasonable",),
        fppi_points=tuple(10 ** (-2 + 0.25 * i) for i in range(9)),
        miss_rate_floor=0.0,
        num_detections=len(index),
        image_ids=np.arange(len(images)),
        image_index=index,
        boxes_xywh=np.tile([0.0, 0.0, 20.0, 60.0], (len(index), 1)),
        scores=np.linspace(1.0, 0.1, len(index)),
        outcomes=np.repeat([1, 0], [len(found), num_false])[None].astype(np.int8),
        counted_per_image=np.ones((1, len(images)), dtype=np.int64),
    )


TEACHER = record("teacher", 0.2, 6e6, 10e9, role="teacher")
