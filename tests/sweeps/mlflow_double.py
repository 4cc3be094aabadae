"""An in-memory double of MLflow's client that can lose its connection. Creating a real store takes seconds."""

# Signatures are MLflow's.
# ruff: noqa: ARG002

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    ExperimentTag,
    LifecycleStage,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from mlflow.store.entities.paged_list import PagedList
from mlflow.tracking import MlflowClient


@dataclass
class StoredRun:
    """A run in the store."""

    name: str
    status: str = "RUNNING"
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    history: list[tuple[str, int, float]] = field(default_factory=list)
    """(metric, step, value) as logged."""
    artifacts: dict[str, str] = field(default_factory=dict)
    datasets: list[tuple[str, str]] = field(default_factory=list)
    """(name, digest) of each."""
    start_time: int | None = None
    times: set[int] = field(default_factory=set)
    """Of its metrics."""

    def steps_of(self, metric: str) -> list[int]:
        return [step for name, step, _ in self.history if name == metric]


class MlflowDouble:
    """The methods of MlflowClient that a tracker uses."""

    def __init__(self) -> None:
        self.runs: dict[str, StoredRun] = {}
        self.artifact_location: str | None = None
        self.tags: dict[str, str] = {}
        """Of the experiment."""
        self.is_unreachable = False
        """Every request fails."""
        self.loses_responses = False
        """The next request is executed, but its response is lost."""
        self.num_metric_requests = 0
        self._ids = itertools.count()
        self._metrics: set[tuple[str, str, int, float, int]] = set()

    def client(self) -> MlflowClient:
        return cast("MlflowClient", self)

    def named(self, name: str) -> StoredRun:
        (run,) = (run for run in self.runs.values() if run.name == name)
        return run

    def create_experiment(self, name: str, artifact_location: str | None = None) -> str:
        self.artifact_location = artifact_location
        return "1"

    def search_runs(self, experiment_ids: list[str], filter_string: str = "", **_: Any) -> PagedList[Run]:
        self._respond()
        wanted = re.fullmatch(r"tags\.`(.+)` = '(.+)'", filter_string)
        found = [
            self._run(run_id)
            for run_id, run in self.runs.items()
            if wanted is None or run.tags.get(wanted[1]) == wanted[2]
        ]
        return PagedList(found, token=None)

    def get_experiment(self, experiment_id: str) -> Experiment:
        self._respond()
        return Experiment("1", "study", "", LifecycleStage.ACTIVE, [ExperimentTag(*tag) for tag in self.tags.items()])

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        self._receive()
        self.tags[key] = value
        self._respond()

    def get_run(self, run_id: str) -> Run:
        self._respond()
        return self._run(run_id)

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetInput]) -> None:
        self._receive()
        known = self.runs[run_id].datasets
        known += [entry for each in datasets if (entry := (each.dataset.name, each.dataset.digest)) not in known]
        self._respond()

    def create_run(self, experiment_id: str, run_name: str, tags: dict[str, str], start_time: int | None = None) -> Run:
        self._receive()
        run_id = f"run{next(self._ids)}"
        self.runs[run_id] = StoredRun(run_name, tags=dict(tags), start_time=start_time)
        self._respond()
        return self._run(run_id)

    def update_run(self, run_id: str, status: str) -> None:
        self._receive()
        self.runs[run_id].status = status
        self._respond()

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric] = (), params: Sequence[Param] = (), tags: Sequence[RunTag] = ()
    ) -> None:
        self._receive()
        run = self.runs[run_id]
        assert len(params) <= 100, "MLflow's limit"
        assert len(metrics) <= 1000, "MLflow's limit"
        self.num_metric_requests += bool(metrics)
        for param in params:
            if run.params.setdefault(param.key, param.value) != param.value:
                raise MlflowException("Changing param values is not allowed", INVALID_PARAMETER_VALUE)
        run.tags.update({tag.key: tag.value for tag in tags})
        for metric in metrics:
            # MLflow stores a metric with equal timestamp, step and value once.
            entry = (metric.key, metric.step, metric.value)
            identity = (run_id, *entry, metric.timestamp)
            if identity not in self._metrics or entry not in run.history:
                self._metrics.add(identity)
                run.times.add(metric.timestamp)
                run.history.append(entry)
        self._respond()

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        self._receive()
        self.runs[run_id].artifacts[artifact_file] = text

    def log_artifact(self, run_id: str, local_path: str) -> None:
        self._receive()
        self.runs[run_id].artifacts[Path(local_path).name] = Path(local_path).read_text(
            encoding="utf-8", errors="replace"
        )

    def set_terminated(self, run_id: str, status: str) -> None:
        self._receive()
        self.runs[run_id].status = status
        self._respond()

    def _receive(self) -> None:
        if self.is_unreachable:
            raise MlflowException("API request failed: connection refused\nand more", TEMPORARILY_UNAVAILABLE)

    def _respond(self) -> None:
        self._receive()
        if self.loses_responses:
            self.loses_responses = False
            raise MlflowException("timed out", TEMPORARILY_UNAVAILABLE)

    def _run(self, run_id: str) -> Run:
        run = self.runs[run_id]
        info = RunInfo(run_id, "1", "someone", run.status, 0, None, LifecycleStage.ACTIVE, run_name=run.name)
        data = RunData(
            metrics=[Metric(name, value, 0, step) for name, step, value in run.history],
            params=[Param(name, value) for name, value in run.params.items()],
            tags=[RunTag(name, value) for name, value in run.tags.items()],
        )
        inputs = [DatasetInput(Dataset(*each, "local", "{}")) for each in run.datasets]
        return Run(info, data, RunInputs(inputs))


def experiment(lifecycle_stage: str = LifecycleStage.ACTIVE) -> Experiment:
    """An experiment of the store."""
    return Experiment("1", "study", "", lifecycle_stage)
