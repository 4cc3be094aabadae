"""Writes a study into MLflow, from the driver only.

Experiment = study; one parent run; one child run for the teacher and for each trial, found again by its tag
``hkd.trial_id``, so that whatever is written twice is there once. Parameters are the dotted names of the trial's
configuration, metrics carry the epoch as step.

A server that goes away in mid-study does not stop it: what was to be written waits in order, until it can be written.
What it refuses is counted, told, and left out: the study's own folder has it all.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mlflow.entities import Experiment, Metric, Param, Run, RunTag, ViewType
from mlflow.tracking import MlflowClient

from hkd import metric_names as names
from hkd.config import TrialConfig
from hkd.config_io import flatten
from hkd.models.cost import Cost
from sweeps.folder import ARTIFACTS
from sweeps.tracking.store import artifact_location, is_transient, raising_tracking_errors, short_message
from sweeps.trials.ledger import LedgerTrial

RETRY_SECONDS = 15.0
"""Between attempts to write while the server is away."""
MAX_ATTEMPTS = 4
"""After which something that a server which answers fails to take is left out, and holds up the rest no longer."""

_PARENT_TAG = "mlflow.parentRunId"
_MLFLOW_STATUS = {
    names.STATUS_RUNNING: "RUNNING",
    names.STATUS_FINISHED: "FINISHED",
    names.STATUS_STOPPED: "KILLED",
    names.STATUS_FAILED: "FAILED",
}
_PARAMS_PER_BATCH = 100  # MLflow's limit
_MAX_TAG_LENGTH = 5000


class Tracker:
    """Writes one study into MLflow.

    Args:
        uri: Where ``client`` is connected to.
        experiment: As :func:`sweeps.tracking.store.find_experiment` gives it.

    Raises:
        TrackingError: the experiment cannot be made or read.
    """

    def __init__(self, client: MlflowClient, uri: str, study: str, experiment: Experiment | None) -> None:
        self.last_error: str | None = None
        """Why the last attempt to write failed; None while all is well."""
        self.rejections: list[str] = []
        """Why parts of the results were left out: one entry a part."""
        self._client = client
        self._uri = uri
        self._study = study
        self._pending: list[Callable[[], None]] = []
        self._failed_at = -math.inf
        self._attempts = 0
        """At what waits first."""
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
        """How much could not be written yet."""
        return len(self._pending)

    def start_study(self, params: Mapping[str, object], tags: Mapping[str, str], study_yaml: str) -> None:
        """Open the parent run, or open it again."""

        def write() -> None:
            tags_now = {names.TAG_STATUS: names.STATUS_RUNNING, **tags}
            # As in _run: it may be there although its making was not answered.
            known = (
                [self._parent] if self._parent else self._all_runs(f"tags.`{names.TAG_ROLE}` = '{names.ROLE_STUDY}'")
            )
            if known:
                self._parent = known[0]
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
        # Apart: a store of artifacts may refuse what the store of runs takes.
        self._write(lambda: self._log_text(self._parent, study_yaml, "study.yaml"))

    def log_teacher(
        self,
        params: Mapping[str, object],
        cost: Cost,
        epochs: tuple[Mapping[str, float], ...],
        metrics: Mapping[str, float],
    ) -> None:
        """Write down the teacher, once."""
        if self.trial_status(names.TEACHER_TRIAL_ID) == names.STATUS_FINISHED:
            return
        now = _now_ms()

        def write() -> None:
            run = self._run(names.TEACHER_TRIAL_ID, names.ROLE_TEACHER, {})
            self._log_description(run, params, cost, now)
            written = run.data.metrics.get(names.EPOCH, 0)
            for epoch, measured in list(enumerate(epochs, start=1))[int(written) :]:
                self._log_metrics(run, {names.EPOCH: epoch, **measured}, step=epoch, time_ms=now)
            last = max(1, len(epochs))
            self._log_metrics(run, {**metrics, names.BUDGET_FRACTION: 1.0}, step=last, time_ms=now)
            self._terminate(run, names.STATUS_FINISHED, {})

        self._write(write)

    def start_trial(self, trial: LedgerTrial, config: TrialConfig, cost: Cost) -> None:
        """Open the run of a trial, or open it again."""
        now = _now_ms()

        def write() -> None:
            extra = {names.TAG_BASELINE: trial.baseline} if trial.baseline else {}
            run = self._run(trial.trial_id, trial.role, extra)
            # One may say that it runs and the other not, where an earlier process was cut off between them.
            if (run.data.tags.get(names.TAG_STATUS), run.info.status) != (names.STATUS_RUNNING, "RUNNING"):
                self._client.update_run(run.info.run_id, status="RUNNING")
                self._set_tags(run, {names.TAG_STATUS: names.STATUS_RUNNING})
            self._log_description(run, flatten(config), cost, now)

        self._write(write)

    def log_epoch(self, trial_id: str, metrics: Mapping[str, float]) -> None:
        """Write what an epoch measured; an epoch that is there already (from before an interruption) is left out."""
        # Taken once: what is sent again because its answer was lost is, to MLflow, the same measurement.
        now = _now_ms()

        def write() -> None:
            run = self._runs.get(trial_id)
            epoch = int(metrics[names.EPOCH])
            # A trial whose run was refused has none.
            if run is not None and epoch > run.data.metrics.get(names.EPOCH, 0):
                self._log_metrics(run, metrics, step=epoch, time_ms=now)

        self._write(write)

    def end_trial(self, trial: LedgerTrial, artifacts: Path | None) -> None:
        """Close the run of a trial as the ledger has it, with the files of its last checkpoint."""

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

    def interrupt_trial(self, trial_id: str) -> None:
        """Mark a trial that was stopped with the study, to go on when that is resumed."""
        self._write(lambda: self._terminate(self._runs.get(trial_id), names.STATUS_STOPPED, {}))

    def end_study(self, status: str) -> None:
        """Close the parent run, trying once more to write what waits."""
        self._failed_at = -math.inf
        self._write(lambda: self._terminate(self._parent, status, {}))

    def trial_status(self, trial_id: str) -> str | None:
        """A trial's status as MLflow has it; None where it has no run."""
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
            # Stores of runs and of artifacts are others' code, with libraries of their own that may even be missing;
            # no trouble with them is worth a study.
            except Exception as error:  # noqa: BLE001
                self.last_error = short_message(error, self._uri)
                if is_transient(error) and (self._attempts < MAX_ATTEMPTS or not self._answers()):
                    self._failed_at = time.monotonic()
                    return
                if self.last_error not in self.rejections:
                    logging.getLogger(__name__).warning("MLflow refuses a part of the results: %s", self.last_error)
                self.rejections.append(self.last_error)
            else:
                self.last_error = None
            del self._pending[0]
            self._attempts = 0

    def _answers(self) -> bool:
        try:
            self._all_runs(f"tags.`{names.TAG_ROLE}` = '{names.ROLE_STUDY}'")
        except Exception:  # noqa: BLE001 (as above)
            return False
        return True

    def _run(self, trial_id: str, role: str, extra_tags: Mapping[str, str]) -> Run:
        """The run of a trial, made where there is none."""
        if trial_id not in self._runs:
            # A run whose making was not answered in time may be there nevertheless.
            found = self._all_runs(f"tags.`{names.TAG_TRIAL_ID}` = '{trial_id}'")
            if self._parent is None:
                raise _NoParentError("the run of the study, below which all others stand, was refused")
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

    def _log_description(self, run: Run, params: Mapping[str, object], cost: Cost, time_ms: int) -> None:
        """What is known before training; left out where it is there already, whole."""
        if len(run.data.params) < len(params):
            self._log_params(run, params)
        if names.GMACS not in run.data.metrics:
            self._log_metrics(run, _cost_metrics(cost), step=0, time_ms=time_ms)

    def _log_params(self, run: Run, params: Mapping[str, object]) -> None:
        entries = [Param(name, str(value)) for name, value in params.items()]
        for first in range(0, len(entries), _PARAMS_PER_BATCH):
            self._client.log_batch(run.info.run_id, params=entries[first : first + _PARAMS_PER_BATCH])
        run.data.params.update({entry.key: entry.value for entry in entries})

    def _log_text(self, run: Run | None, text: str, name: str) -> None:
        if run is not None:
            self._client.log_text(run.info.run_id, text, name)

    def _log_metrics(self, run: Run, metrics: Mapping[str, float], *, step: int, time_ms: int) -> None:
        # A diverged ratio is no number; MLflow would keep it as the largest float there is.
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
        # The tag last: whoever resumes the study writes a run again whose tag does not say that it has ended.
        self._client.set_terminated(run.info.run_id, _MLFLOW_STATUS[status])
        self._set_tags(run, {names.TAG_STATUS: status, **tags})


class _NoParentError(Exception):
    """There is no run to write below."""


def _now_ms() -> int:
    return int(time.time() * 1000)


def _cost_metrics(cost: Cost) -> dict[str, float]:
    return {names.NUM_PARAMS: cost.num_params, names.FLOPS: cost.flops, names.GMACS: cost.gmacs}
