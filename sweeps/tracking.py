"""Writes a study into MLflow, from the driver only.

Experiment = study; one parent run; one child run for the teacher and for each trial, found again by its tag
``hkd.trial_id``, so that whatever is written twice is there once. Parameters are the dotted names of the trial's
configuration, metrics carry the epoch as step.

A server that goes away in mid-study does not stop it: what was to be written waits in order, until it can be written.
"""

from __future__ import annotations

import logging
import math
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import sqlalchemy.exc
from mlflow.entities import Experiment, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from hkd import metric_names as names
from hkd.config import TrialConfig
from hkd.config_io import flatten
from sweeps.folder import ARTIFACTS
from sweeps.ledger import LedgerTrial

if TYPE_CHECKING:
    from hkd.models.cost import Cost

TEACHER_ID = "teacher"
TAG_ERROR = "hkd.error"
"""What broke a failed trial."""
TAG_NUM_TRIALS = "hkd.num_trials"
"""A tag because it may be raised when a study is resumed; MLflow's parameters are written once."""

CONNECT_SECONDS = 5.0
RETRY_SECONDS = 15.0
"""Between attempts to write while the server is away."""

_PARENT_TAG = "mlflow.parentRunId"
_MLFLOW_STATUS = {
    names.STATUS_RUNNING: "RUNNING",
    names.STATUS_FINISHED: "FINISHED",
    names.STATUS_STOPPED: "KILLED",
    names.STATUS_FAILED: "FAILED",
}
_PARAMS_PER_BATCH = 100  # MLflow's limit
_MAX_TAG_LENGTH = 5000
# What the server refuses it will refuse again; everything else may pass.
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED")


class TrackingError(ValueError):
    """MLflow cannot be used as asked for."""


def connect(uri: str) -> MlflowClient:
    """Connect to an MLflow store, making an SQLite file that is not there yet.

    Raises:
        TrackingError: the store is unreachable, of an unknown kind, or no MLflow store.
    """
    shown = without_password(uri)
    _be_quiet()
    _check_place(uri, shown)
    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, ImportError, OSError) as error:
        raise TrackingError(
            f"the MLflow store {shown} (tracking.uri) cannot be used: {_first_line(error, uri)}. Start the server, or "
            "name another store: --set tracking.uri=sqlite:///mlflow.db"
        ) from error
    return client


def find_experiment(client: MlflowClient, uri: str, study: str, *, is_begun: bool) -> Experiment | None:
    """The study's experiment, None where there is none yet.

    Raises:
        TrackingError: the name is taken by a deleted experiment, or by runs of a study that is not this one.
    """
    experiment = client.get_experiment_by_name(study)
    shown = without_password(uri)
    if experiment is None:
        return None
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f'the MLflow store {shown} has a deleted experiment "{study}", which keeps its name taken; '
            f"bring it back (mlflow experiments restore --experiment-id {experiment.experiment_id}), remove it for "
            "good (mlflow gc), or choose another name (--name NAME)"
        )
    if not is_begun and client.search_runs([experiment.experiment_id], max_results=1):
        raise TrackingError(
            f'the MLflow store {shown} already has results of a study "{study}", whose folder is not here; '
            "choose another name (--name NAME) or storage_path. The results are untouched."
        )
    return experiment


class Tracker:
    """Writes one study into MLflow.

    Args:
        uri: Where ``client`` is connected to.
        experiment: As :func:`find_experiment` gives it.
    """

    def __init__(self, client: MlflowClient, uri: str, study: str, experiment: Experiment | None) -> None:
        self.trouble: str | None = None
        """Why the last attempt to write failed; None while all is well."""
        self._client = client
        self._study = study
        self._waiting: list[Callable[[], None]] = []
        self._failed_at = -math.inf
        self._experiment_id = (
            experiment.experiment_id
            if experiment is not None
            else client.create_experiment(study, artifact_location=_artifact_location(uri, study))
        )
        self._runs: dict[str, Run] = {}
        self._parent: Run | None = None
        for run in self._all_runs():
            if run.data.tags.get(names.TAG_ROLE) == names.ROLE_STUDY:
                self._parent = run
            elif names.TAG_TRIAL_ID in run.data.tags:
                self._runs[run.data.tags[names.TAG_TRIAL_ID]] = run

    @property
    def num_waiting(self) -> int:
        """How much could not be written yet."""
        return len(self._waiting)

    def begin(self, params: Mapping[str, object], tags: Mapping[str, str], study_yaml: str) -> None:
        """Open the parent run, or open it again."""

        def write() -> None:
            tags_now = {names.TAG_STATUS: names.STATUS_RUNNING, **tags}
            if self._parent is None:
                identity = {names.TAG_STUDY: self._study, names.TAG_ROLE: names.ROLE_STUDY}
                self._parent = self._client.create_run(
                    self._experiment_id, run_name=self._study, tags={**identity, **tags_now}
                )
                self._log_params(self._parent, params)
            else:
                self._client.update_run(self._parent.info.run_id, status="RUNNING")
                self._set_tags(self._parent, tags_now)
            self._client.log_text(self._parent.info.run_id, study_yaml, "study.yaml")

        self._write(write)

    def teacher(
        self,
        params: Mapping[str, object],
        cost: Cost,
        epochs: tuple[Mapping[str, float], ...],
        metrics: Mapping[str, float],
    ) -> None:
        """Write down the teacher, once."""
        if self.status_of(TEACHER_ID) == names.STATUS_FINISHED:
            return

        def write() -> None:
            run = self._run(TEACHER_ID, names.ROLE_TEACHER, {})
            self._log_description(run, params, cost)
            written = run.data.metrics.get(names.EPOCH, 0)
            for epoch, measured in list(enumerate(epochs, start=1))[int(written) :]:
                self._log_metrics(run, {names.EPOCH: epoch, **measured}, step=epoch)
            self._log_metrics(run, {**metrics, names.BUDGET_FRACTION: 1.0}, step=max(1, len(epochs)))
            self._terminate(run, names.STATUS_FINISHED, {})

        self._write(write)

    def start(self, trial: LedgerTrial, config: TrialConfig, cost: Cost) -> None:
        """Open the run of a trial, or open it again."""

        def write() -> None:
            extra = {names.TAG_BASELINE: trial.baseline} if trial.baseline else {}
            run = self._run(trial.trial_id, trial.role, extra)
            if run.data.tags.get(names.TAG_STATUS) != names.STATUS_RUNNING:
                self._client.update_run(run.info.run_id, status="RUNNING")
                self._set_tags(run, {names.TAG_STATUS: names.STATUS_RUNNING})
            self._log_description(run, flatten(config), cost)

        self._write(write)

    def epoch(self, trial_id: str, metrics: Mapping[str, float]) -> None:
        """Write what an epoch measured; an epoch that is there already (from before an interruption) is left out."""

        def write() -> None:
            run = self._runs[trial_id]
            epoch = int(metrics[names.EPOCH])
            if epoch > run.data.metrics.get(names.EPOCH, 0):
                self._log_metrics(run, metrics, step=epoch)

        self._write(write)

    def end(self, trial: LedgerTrial, artifacts: Path | None) -> None:
        """Close the run of a trial as the ledger has it, with the files of its last checkpoint."""

        def write() -> None:
            run = self._runs[trial.trial_id]
            if artifacts is not None:
                for name in ARTIFACTS:
                    if (artifacts / name).is_file():
                        self._client.log_artifact(run.info.run_id, str(artifacts / name))
            if trial.error is not None:
                self._client.log_text(run.info.run_id, trial.error, "error.txt")
            error_tag = {TAG_ERROR: trial.error.strip().splitlines()[-1][:_MAX_TAG_LENGTH]} if trial.error else {}
            self._terminate(run, trial.status, error_tag)

        self._write(write)

    def interrupt(self, trial_id: str) -> None:
        """Mark a trial that was stopped with the study, to go on when that is resumed."""
        self._write(lambda: self._terminate(self._runs[trial_id], names.STATUS_STOPPED, {}))

    def finish(self, status: str) -> None:
        """Close the parent run, trying once more to write what waits."""

        def write() -> None:
            assert self._parent is not None
            self._terminate(self._parent, status, {})

        self._failed_at = -math.inf
        self._write(write)

    def status_of(self, trial_id: str) -> str | None:
        """A trial's status as MLflow has it; None where it has no run."""
        run = self._runs.get(trial_id)
        return None if run is None else run.data.tags.get(names.TAG_STATUS)

    def _write(self, action: Callable[[], None]) -> None:
        self._waiting.append(action)
        if time.monotonic() - self._failed_at < RETRY_SECONDS:
            return
        while self._waiting:
            try:
                self._waiting[0]()
            except (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
                self.trouble = _first_line(error)
                if getattr(error, "error_code", None) not in _REFUSALS:
                    self._failed_at = time.monotonic()
                    return
                logging.getLogger(__name__).warning("MLflow refuses a part of the results: %s", self.trouble)
            else:
                self.trouble = None
            del self._waiting[0]

    def _run(self, trial_id: str, role: str, extra_tags: Mapping[str, str]) -> Run:
        """The run of a trial, made where there is none."""
        if trial_id not in self._runs:
            # A run whose making was not answered in time may be there nevertheless.
            found = self._all_runs(f"tags.`{names.TAG_TRIAL_ID}` = '{trial_id}'")
            assert self._parent is not None
            self._runs[trial_id] = (
                found[0]
                if found
                else self._client.create_run(
                    self._experiment_id,
                    run_name=trial_id,
                    tags={
                        names.TAG_STUDY: self._study,
                        names.TAG_ROLE: role,
                        names.TAG_TRIAL_ID: trial_id,
                        names.TAG_STATUS: names.STATUS_RUNNING,
                        _PARENT_TAG: self._parent.info.run_id,
                        **extra_tags,
                    },
                )
            )
        return self._runs[trial_id]

    def _all_runs(self, filter_string: str = "") -> list[Run]:
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
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

    def _log_description(self, run: Run, params: Mapping[str, object], cost: Cost) -> None:
        """What is known before training; left out where it is there already, whole."""
        if len(run.data.params) < len(params):
            self._log_params(run, params)
        if names.GMACS not in run.data.metrics:
            self._log_metrics(run, _cost_metrics(cost), step=0)

    def _log_params(self, run: Run, params: Mapping[str, object]) -> None:
        entries = [Param(name, str(value)) for name, value in params.items()]
        for first in range(0, len(entries), _PARAMS_PER_BATCH):
            self._client.log_batch(run.info.run_id, params=entries[first : first + _PARAMS_PER_BATCH])
        run.data.params.update({entry.key: entry.value for entry in entries})

    def _log_metrics(self, run: Run, metrics: Mapping[str, float], *, step: int) -> None:
        now = int(time.time() * 1000)
        # A diverged ratio is no number; MLflow would keep it as the largest float there is.
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        self._client.log_batch(
            run.info.run_id, metrics=[Metric(name, value, now, step) for name, value in finite.items()]
        )
        run.data.metrics.update(finite)

    def _set_tags(self, run: Run, tags: Mapping[str, str]) -> None:
        self._client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        run.data.tags.update(tags)

    def _terminate(self, run: Run, status: str, tags: Mapping[str, str]) -> None:
        self._set_tags(run, {names.TAG_STATUS: status, **tags})
        self._client.set_terminated(run.info.run_id, _MLFLOW_STATUS[status])


def without_password(uri: str) -> str:
    """The URI with user and password hidden, fit to be shown and stored."""
    return re.sub(r"://[^/]*@", "://***@", uri)


def _cost_metrics(cost: Cost) -> dict[str, float]:
    return {names.NUM_PARAMS: cost.num_params, names.FLOPS: cost.flops, names.GMACS: cost.gmacs}


def _be_quiet() -> None:
    """Without this MLflow waits minutes for a server that is away, and tells of every table it makes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _check_place(uri: str, shown: str) -> None:
    """Find out quickly what MLflow would take long to find out, or make silently in a mistyped place."""
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise TrackingError(
                f"the MLflow server {shown} (tracking.uri) cannot be reached: {error}. Start it, or name another "
                "store: --set tracking.uri=sqlite:///mlflow.db"
            ) from error
    elif parts.scheme.partition("+")[0] == "sqlite":
        database = _sqlite_path(uri)
        if database is None or not database.absolute().parent.is_dir():
            folder = "" if database is None else f"; there is no folder {database.absolute().parent}"
            raise TrackingError(f"tracking.uri {shown} names no place for a file{folder}; allowed: sqlite:///PATH")


def _sqlite_path(uri: str) -> Path | None:
    path = uri.partition("://")[2].removeprefix("/").partition("?")[0]
    return Path(path) if path else None


def _artifact_location(uri: str, study: str) -> str | None:
    """Beside an SQLite file; where a server keeps artifacts is the server's affair."""
    if urlsplit(uri).scheme.partition("+")[0] != "sqlite":
        return None
    database = _sqlite_path(uri)
    assert database is not None
    return (database.absolute().parent / "mlartifacts" / study).as_uri()


def _first_line(error: Exception, uri: str = "") -> str:
    # MLflow's and SQLAlchemy's messages go on for pages.
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return line.replace(uri, without_password(uri)) if uri else line
