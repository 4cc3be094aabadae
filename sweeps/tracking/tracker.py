"""Writes a study to MLflow, from the driver only.

An experiment is a study. It has one parent run, and one child run for the teacher and for each trial. Child runs are
identified by the tag ``hkd.trial_id``, so that a resumed study continues them. Parameters are the dotted names of the
trial's configuration; the step of a metric is its epoch.

Writes are queued and executed in order. If the server cannot be reached, they stay pending and the study continues. A
write that MLflow rejects is logged and dropped: the study's folder has all results.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from mlflow.entities import Experiment, Metric, Param, Run, RunTag, ViewType
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from hkd import metric_names as names
from hkd.config import TrialConfig
from hkd.config_files.parsing import flatten
from hkd.models.cost import Cost
from sweeps.folder import ARTIFACTS
from sweeps.tracking.store import artifact_location, is_transient, raising_tracking_errors, short_message
from sweeps.trials.confirmation import Confirmation
from sweeps.trials.ledger import LedgerTrial

RETRY_SECONDS = 15.0
"""Between attempts while the server cannot be reached."""
MAX_ATTEMPTS = 4
"""Number of transient failures after which a write is dropped, if the server answers other requests."""

_MLFLOW_STATUS = {
    names.STATUS_RUNNING: "RUNNING",
    names.STATUS_FINISHED: "FINISHED",
    names.STATUS_STOPPED: "KILLED",
    names.STATUS_FAILED: "FAILED",
}
_PARAMS_PER_BATCH = 100  # MLflow's limit
_MAX_TAG_LENGTH = 5000
_IS_PARENT = f"tags.`{names.TAG_ROLE}` = '{names.ROLE_STUDY}'"  # MLflow's filter syntax


class Tracker:
    """Writes one study to MLflow.

    Args:
        uri: Tracking URI of ``client``.
        experiment: Result of :func:`sweeps.tracking.store.find_experiment`; None creates the experiment.

    Raises:
        TrackingError: the experiment cannot be created or read.
    """

    def __init__(self, client: MlflowClient, uri: str, study: str, experiment: Experiment | None) -> None:
        self.last_error: str | None = None
        """Message of the last failed write; None after a successful one."""
        self.rejections: list[str] = []
        """Messages of the dropped writes, one each."""
        self._client = client
        self._uri = uri
        self._study = study
        self._pending: list[Callable[[], None]] = []
        self._failed_at = -math.inf
        self._attempts = 0
        """Of the first pending write."""
        self._runs: dict[str, Run] = {}
        self._parent: Run | None = None
        with raising_tracking_errors(uri):
            self._experiment_id = (
                experiment.experiment_id
                if experiment is not None
                else client.create_experiment(study, artifact_location=artifact_location(uri, study))
            )
            runs = self._all_runs()
        for run in runs:
            if run.data.tags.get(names.TAG_ROLE) == names.ROLE_STUDY:
                self._parent = run
            elif names.TAG_TRIAL_ID in run.data.tags:
                self._runs[run.data.tags[names.TAG_TRIAL_ID]] = run

    @property
    def num_pending(self) -> int:
        """Number of pending writes."""
        return len(self._pending)

    def start_study(self, params: Mapping[str, object], tags: Mapping[str, str], study_yaml: str) -> None:
        """Create the parent run, or set it to running again."""

        def write() -> None:
            tags_now = {names.TAG_STATUS: names.STATUS_RUNNING, **tags}
            # As in _run: the run may exist although the response to create_run was lost.
            existing = [self._parent] if self._parent else self._all_runs(_IS_PARENT)
            if existing:
                self._parent = existing[0]
                self._client.update_run(self._parent.info.run_id, status="RUNNING")
                self._set_tags(self._parent, tags_now)
            else:
                identity = {names.TAG_STUDY: self._study, names.TAG_ROLE: names.ROLE_STUDY}
                self._parent = self._client.create_run(
                    self._experiment_id, run_name=self._study, tags={**identity, **tags_now}
                )
            if len(self._parent.data.params) < len(params):
                self._log_params(self._parent, params)

        self._write(write)
        # A separate write, because the artifact store can fail on its own.
        self._write(lambda: self._log_text(self._parent, study_yaml, "study.yaml"))

    def log_teacher(
        self,
        params: Mapping[str, object],
        cost: Cost,
        epochs: tuple[Mapping[str, float], ...],
        metrics: Mapping[str, float],
        weights_origin: Sequence[str] = (),
        detections: Path | None = None,
    ) -> None:
        """Log the teacher as a finished run, unless that was done before.

        Args:
            weights_origin: Sentences on what its weights were read from; logged as a file.
            detections: Its detections on the validation images, a file; None where there are none.
        """
        if self.trial_status(names.TEACHER_TRIAL_ID) == names.STATUS_FINISHED:
            return
        now = _now_ms()

        def write_files() -> None:
            run = self._run(names.TEACHER_TRIAL_ID, names.ROLE_TEACHER, {})
            if weights_origin:
                self._log_text(run, "".join(f"{note}\n" for note in weights_origin), names.ARTIFACT_WEIGHTS_ORIGIN)
            if detections is not None:
                self._client.log_artifact(run.info.run_id, str(detections))

        def write() -> None:
            run = self._run(names.TEACHER_TRIAL_ID, names.ROLE_TEACHER, {})
            self._log_description(run, params, cost, now)
            num_logged = int(run.data.metrics.get(names.EPOCH, 0))
            for epoch, measured in list(enumerate(epochs, start=1))[num_logged:]:
                self._log_metrics(run, {names.EPOCH: epoch, **measured}, step=epoch, time_ms=now)
            last = max(1, len(epochs))
            self._log_metrics(run, {**metrics, names.BUDGET_FRACTION: 1.0}, step=last, time_ms=now)
            self._terminate(run, names.STATUS_FINISHED, {})

        if weights_origin or detections is not None:
            self._write(write_files)  # before the run ends, after which nothing is written again
        self._write(write)

    def start_trial(self, trial: LedgerTrial, config: TrialConfig, cost: Cost) -> None:
        """Create the run of a trial, or set it to running again."""
        now = _now_ms()

        def write() -> None:
            extra = {names.TAG_BASELINE: trial.baseline} if trial.baseline else {}
            extra |= {names.TAG_CONFIRMS: trial.confirms} if trial.confirms else {}
            run = self._run(trial.trial_id, trial.role, extra)
            # Tag and run status differ if an earlier process was killed between the two requests.
            if (run.data.tags.get(names.TAG_STATUS), run.info.status) != (names.STATUS_RUNNING, "RUNNING"):
                self._client.update_run(run.info.run_id, status="RUNNING")
                self._set_tags(run, {names.TAG_STATUS: names.STATUS_RUNNING})
            self._log_description(run, flatten(config), cost, now)

        self._write(write)

    def log_epoch(self, trial_id: str, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an epoch, unless they were logged before an interruption."""
        # One timestamp for all attempts: MLflow stores a metric with equal timestamp, step and value once.
        now = _now_ms()

        def write() -> None:
            run = self._runs.get(trial_id)
            epoch = int(metrics[names.EPOCH])
            # There is no run if MLflow rejected it.
            if run is not None and epoch > run.data.metrics.get(names.EPOCH, 0):
                self._log_metrics(run, metrics, step=epoch, time_ms=now)

        self._write(write)

    def end_trial(self, trial: LedgerTrial, artifacts: Path | None) -> None:
        """Log the files of a trial's last checkpoint, and end its run with the status in the ledger."""

        def write_files() -> None:
            run = self._runs.get(trial.trial_id)
            for name in ARTIFACTS:
                if run is not None and artifacts is not None and (artifacts / name).is_file():
                    self._client.log_artifact(run.info.run_id, str(artifacts / name))
            if trial.error is not None:
                self._log_text(run, trial.error, "error.txt")

        error_tag = {names.TAG_ERROR: trial.error.strip().splitlines()[-1][:_MAX_TAG_LENGTH]} if trial.error else {}
        self._write(write_files)
        self._write(lambda: self._terminate(self._runs.get(trial.trial_id), trial.status, error_tag))

    def log_confirmation(self, confirmation: Confirmation, teacher: Mapping[str, float]) -> None:
        """Log means and spreads over seeds on the runs of the confirmed trials, and all of them on the parent run.

        Args:
            teacher: Metrics of the teacher on the test images, for its run; empty without.
        """
        now = _now_ms()
        text = json.dumps(confirmation.as_dict(), indent=1, allow_nan=False)
        tags = {names.TAG_CONFIRMED_ON: "test" if confirmation.is_on_test else "validation"}

        def write_run(trial_id: str, metrics: Mapping[str, float]) -> None:
            run = self._runs.get(trial_id)
            if run is not None and any(run.data.metrics.get(name) != value for name, value in metrics.items()):
                self._log_metrics(run, metrics, step=int(run.data.metrics.get(names.EPOCH, 0)), time_ms=now)

        def write_parent() -> None:
            if self._parent is not None:
                self._set_tags(self._parent, tags)
                self._log_text(self._parent, text, names.ARTIFACT_CONFIRMATION)

        for each in confirmation.trials:
            self._write(partial(write_run, each.trial.trial_id, each.as_metrics()))
        self._write(partial(write_run, names.TEACHER_TRIAL_ID, teacher))
        self._write(write_parent)

    def interrupt_trial(self, trial_id: str) -> None:
        """End the run of an interrupted trial; :meth:`start_trial` continues it when the study is resumed."""
        self._write(lambda: self._terminate(self._runs.get(trial_id), names.STATUS_STOPPED, {}))

    def end_study(self, status: str) -> None:
        """End the parent run, after another attempt at the pending writes."""
        self._failed_at = -math.inf
        self._write(lambda: self._terminate(self._parent, status, {}))

    def trial_status(self, trial_id: str) -> str | None:
        """The trial's ``hkd.status`` in MLflow; None if it has no run."""
        run = self._runs.get(trial_id)
        return None if run is None else run.data.tags.get(names.TAG_STATUS)

    def _write(self, action: Callable[[], None]) -> None:
        self._pending.append(action)
        if time.monotonic() - self._failed_at < RETRY_SECONDS:
            return
        while self._pending:
            self._attempts += 1
            try:
                self._pending[0]()
            # Tracking and artifact stores are plug-ins and can raise anything, ImportError included.
            except Exception as error:  # noqa: BLE001
                self.last_error = short_message(error, self._uri)
                if is_transient(error) and (self._attempts < MAX_ATTEMPTS or not self._answers()):
                    self._failed_at = time.monotonic()
                    return
                if self.last_error not in self.rejections:
                    logging.getLogger(__name__).warning("MLflow rejected a write: %s", self.last_error)
                self.rejections.append(self.last_error)
            else:
                self.last_error = None
            del self._pending[0]
            self._attempts = 0

    def _answers(self) -> bool:
        try:
            self._all_runs(_IS_PARENT)
        except Exception:  # noqa: BLE001 (as above)
            return False
        return True

    def _run(self, trial_id: str, role: str, extra_tags: Mapping[str, str]) -> Run:
        """The run of a trial, created if it does not exist."""
        if trial_id not in self._runs:
            # The run may exist although the response to create_run was lost.
            found = self._all_runs(f"tags.`{names.TAG_TRIAL_ID}` = '{trial_id}'")
            if self._parent is None:
                raise _NoParentError("the parent run of the study was rejected")
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
                        MLFLOW_PARENT_RUN_ID: self._parent.info.run_id,
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

    def _log_description(self, run: Run, params: Mapping[str, object], cost: Cost, time_ms: int) -> None:
        """Log parameters and costs, unless all of them are logged."""
        if len(run.data.params) < len(params):
            self._log_params(run, params)
        if names.GMACS not in run.data.metrics:
            self._log_metrics(run, cost.as_metrics(), step=0, time_ms=time_ms)

    def _log_params(self, run: Run, params: Mapping[str, object]) -> None:
        entries = [Param(name, str(value)) for name, value in params.items()]
        for first in range(0, len(entries), _PARAMS_PER_BATCH):
            self._client.log_batch(run.info.run_id, params=entries[first : first + _PARAMS_PER_BATCH])
        run.data.params.update({entry.key: entry.value for entry in entries})

    def _log_text(self, run: Run | None, text: str, name: str) -> None:
        if run is not None:
            self._client.log_text(run.info.run_id, text, name)

    def _log_metrics(self, run: Run, metrics: Mapping[str, float], *, step: int, time_ms: int) -> None:
        # MLflow would store infinity as the largest float.
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        self._client.log_batch(
            run.info.run_id, metrics=[Metric(name, value, time_ms, step) for name, value in finite.items()]
        )
        run.data.metrics.update(finite)

    def _set_tags(self, run: Run, tags: Mapping[str, str]) -> None:
        self._client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        run.data.tags.update(tags)

    def _terminate(self, run: Run | None, status: str, tags: Mapping[str, str]) -> None:
        if run is None:
            return
        # The tag last: a resumed study writes a run's end again unless its tag has the status.
        self._client.set_terminated(run.info.run_id, _MLFLOW_STATUS[status])
        self._set_tags(run, {names.TAG_STATUS: status, **tags})


class _NoParentError(Exception):
    """The study has no parent run."""


def _now_ms() -> int:
    return int(time.time() * 1000)
