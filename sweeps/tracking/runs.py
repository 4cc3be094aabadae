"""Requests that write to one run of MLflow. Each also changes the run's copy here: a retry sends what is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from hkd import metric_names as names

MLFLOW_STATUS = {
    names.STATUS_RUNNING: "RUNNING",
    names.STATUS_FINISHED: "FINISHED",
    names.STATUS_STOPPED: "KILLED",
    names.STATUS_FAILED: "FAILED",
}
_PARAMS_PER_BATCH = 100
"""MLflow's limit."""
_MOST_PER_BATCH = 1000
"""MLflow's limit on metrics, parameters and tags together."""


class Step(NamedTuple):
    """Metrics of one step, and when they were recorded, in milliseconds since 1970.

    The time is that of the record: MLflow stores a metric of equal time, step and value once.
    """

    number: int
    time_ms: int
    metrics: Mapping[str, float]


def search(client: MlflowClient, experiment_id: str, filter_string: str = "") -> list[Run]:
    """All runs of an experiment that are not deleted, oldest first."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string,
            run_view_type=ViewType.ACTIVE_ONLY,
            max_results=500,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            return runs


def log_params(client: MlflowClient, run: Run, params: Mapping[str, object], metrics: Sequence[Metric] = ()) -> None:
    """Log parameters, and metrics with the first of them."""
    entries = [Param(name, str(value)) for name, value in params.items()]
    if not entries and metrics:
        client.log_batch(run.info.run_id, metrics=metrics)
    for first in range(0, len(entries), _PARAMS_PER_BATCH):
        batch = entries[first : first + _PARAMS_PER_BATCH]
        client.log_batch(run.info.run_id, params=batch, metrics=metrics if first == 0 else ())
    run.data.params.update({entry.key: entry.value for entry in entries})


def log_metrics(client: MlflowClient, run: Run, metrics: Mapping[str, float], *, step: int, time_ms: int) -> None:
    """Log the finite ones of the metrics that differ."""
    values = {name: value for name, value in finite(metrics).items() if run.data.metrics.get(name) != value}
    if values:
        entries = [Metric(name, value, time_ms, step) for name, value in values.items()]
        client.log_batch(run.info.run_id, metrics=entries)
        run.data.metrics.update(values)


def log_steps(
    client: MlflowClient,
    run: Run,
    steps: Sequence[Step],
    counter: str,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Log the finite metrics of steps that the run lacks, in order, in as few requests as possible.

    Args:
        counter: Metric of every step whose value is its number: where it ends in the run, a retry continues.
        tags: Set with the last step, if they differ.
    """
    logged = run.data.metrics.get(counter, 0)
    new = [step._replace(metrics=finite(step.metrics)) for step in steps if step.number > logged]
    while new:
        # Whole steps.
        limit = _MOST_PER_BATCH - len(tags)
        count = max(1, sum(total <= limit for total in accumulate(len(step.metrics) for step in new)))
        batch, new = new[:count], new[count:]
        metrics = [
            Metric(name, value, step.time_ms, step.number) for step in batch for name, value in step.metrics.items()
        ]
        changed = {} if new else _changed_tags(run, tags)
        run_tags = [RunTag(name, value) for name, value in changed.items()]
        client.log_batch(run.info.run_id, metrics=metrics, tags=run_tags)
        run.data.tags.update(changed)
        for step in batch:
            run.data.metrics.update(step.metrics)
    set_tags(client, run, tags)


def set_tags(client: MlflowClient, run: Run, tags: Mapping[str, str]) -> None:
    """Set the tags that differ."""
    changed = _changed_tags(run, tags)
    if changed:
        client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in changed.items()])
        run.data.tags.update(changed)


def log_file(client: MlflowClient, run: Run, path: Path) -> None:
    """Log a file, without the request for the run by which MLflow's client finds the place of its artifacts."""
    if run.info.artifact_uri is None:
        client.log_artifact(run.info.run_id, str(path))
    else:
        get_artifact_repository(run.info.artifact_uri, client.tracking_uri).log_artifact(str(path))  # type: ignore[no-untyped-call]


def terminate(
    client: MlflowClient,
    run: Run,
    status: str,
    tags: Mapping[str, str],
    *,
    steps: Sequence[Step] = (),
) -> None:
    """End a run with a status of hkd.

    Args:
        steps: Epochs to log with its tags, as far as the run lacks them.
    """
    # The tag last: a resumed study writes a run's end again unless its tag has the status.
    client.set_terminated(run.info.run_id, MLFLOW_STATUS[status])
    log_steps(client, run, steps, names.EPOCH, tags={names.TAG_STATUS: status, **tags})


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Without infinite values, which MLflow would store as the largest float, and NaN."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _changed_tags(run: Run, tags: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if run.data.tags.get(name) != value}
