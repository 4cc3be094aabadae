"""Writes a study to MLflow, from the driver only.

An experiment is a study, with the runs of :mod:`sweeps.tracking.study_runs`. Parameters are the dotted names of the
trial's configuration; the step of a metric is its epoch.

The methods return at once: a thread writes, in order. If the server cannot be reached, writes stay pending and the
study continues. The ledger has each epoch of each trial, from which a resumed study writes what MLflow lacks. A write
that MLflow rejects is logged and dropped.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlflow.entities import Experiment, Run
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from hkd import metric_names as names
from hkd.config import TrialConfig
from hkd.config_files.parsing import flatten
from hkd.models.cost import Cost
from sweeps.folder import ARTIFACTS
from sweeps.tracking import runs
from sweeps.tracking.artifacts import artifact_location, is_in_bucket
from sweeps.tracking.background import BackgroundWriter
from sweeps.tracking.front import FrontWriter, GrowingFront
from sweeps.tracking.origin import Origin
from sweeps.tracking.store import is_transient, raising_tracking_errors
from sweeps.tracking.study_runs import StudyRuns
from sweeps.tracking.view import experiment_tags
from sweeps.trials.confirmation import Confirmation
from sweeps.trials.records.trial import EpochRecord, LedgerTrial

_MAX_TAG_LENGTH = 5000


class Tracker:
    """Writes one study to MLflow.

    Args:
        uri: Tracking URI of ``client``.
        experiment: Result of :func:`sweeps.tracking.store.find_experiment`; None creates the experiment.
        storage: Of the study, a folder or the URI of a bucket: where its artifacts go, if the store is a database
            other than SQLite.
        fetch_artifacts: Called with the folder of a checkpoint before its files are logged.

    Raises:
        TrackingError: the experiment cannot be created or read.
    """

    def __init__(
        self,
        client: MlflowClient,
        uri: str,
        study: str,
        experiment: Experiment | None,
        *,
        storage: Path | str = Path("runs"),
        fetch_artifacts: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self._fetch_artifacts = fetch_artifacts
        self._are_artifacts_away = False
        """Whether the last files to log could not be fetched."""
        self._client = client
        self._writer = BackgroundWriter(uri, self._answers)
        self._lock = threading.Lock()
        self._collecting: dict[str, _Epochs] = {}
        """Trial id -> epochs whose write is pending and was not attempted: later epochs join it."""
        self._front: FrontWriter | None = None
        location = artifact_location(uri, study, storage) if experiment is None else experiment.artifact_location
        self._is_bucket_ours = location is not None and is_in_bucket(location, storage)
        """Whether artifacts are in the bucket of the study, which waits for it too when it is away."""
        with raising_tracking_errors(uri):
            self._experiment_id = (
                client.create_experiment(study, artifact_location=location)
                if experiment is None
                else experiment.experiment_id
            )
            self._runs = StudyRuns(client, self._experiment_id, study)

    @property
    def num_pending(self) -> int:
        """Number of pending writes."""
        return self._writer.num_pending

    @property
    def last_error(self) -> str | None:
        """Message of the last failed write; None after a successful one."""
        return self._writer.last_error

    @property
    def rejections(self) -> list[str]:
        """Messages of the dropped writes, one each."""
        return self._writer.rejections

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the study's experiment."""
        return self._experiment_id

    def start_study(
        self, params: Mapping[str, object], tags: Mapping[str, str], study_yaml: str, origin: Origin | None = None
    ) -> None:
        """Create the parent run, or set it to running again.

        Args:
            origin: Of the results that this process computes; None if it computes none.
        """
        self._runs.origin = origin or Origin()
        self._writer.add(lambda: self._runs.start(params, tags))
        # A separate write, because the artifact store can fail on its own.
        self._writer.add(lambda: self._log_text(self._runs.parent, study_yaml, "study.yaml"))

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
        # The run is created after the training: it starts as long ago as the epochs took.
        start_ms = now - round(1000 * sum(epoch.get(names.SECONDS, 0.0) for epoch in epochs))

        def write_files() -> None:
            run = self._runs.get_or_create(names.TEACHER_TRIAL_ID, names.ROLE_TEACHER, {}, start_ms)
            if weights_origin:
                self._log_text(run, "".join(f"{note}\n" for note in weights_origin), names.ARTIFACT_WEIGHTS_ORIGIN)
            if detections is not None:
                with self._artifact_store():
                    runs.log_file(self._client, run, detections)

        def write() -> None:
            run = self._runs.get_or_create(names.TEACHER_TRIAL_ID, names.ROLE_TEACHER, {}, start_ms)
            self._runs.log_description(run, params, cost, now)
            steps = [runs.Step(epoch, now, {names.EPOCH: epoch, **each}) for epoch, each in enumerate(epochs, start=1)]
            runs.log_steps(self._client, run, steps, names.EPOCH)
            # The last epoch has most of them.
            last = max(1, len(epochs))
            runs.log_metrics(self._client, run, {**metrics, names.BUDGET_FRACTION: 1.0}, step=last, time_ms=now)
            self._terminate(run, names.STATUS_FINISHED, {})

        if weights_origin or detections is not None:
            self._writer.add(write_files)  # before the run ends, after which nothing is written again
        self._writer.add(write)

    def start_trial(self, trial: LedgerTrial, config: TrialConfig, cost: Cost) -> None:
        """Create the run of a trial, or set it to running again; then log the epochs in the ledger that it lacks."""
        now = _now_ms()

        def write() -> None:
            extra = {names.TAG_BASELINE: trial.baseline} if trial.baseline else {}
            extra |= {names.TAG_CONFIRMS: trial.confirms} if trial.confirms else {}
            run = self._runs.get_or_create(trial.trial_id, trial.role, extra)
            # Tag and run status differ if an earlier process was killed between the two requests.
            if (run.data.tags.get(names.TAG_STATUS), run.info.status) != (names.STATUS_RUNNING, "RUNNING"):
                self._client.update_run(run.info.run_id, status="RUNNING")
                runs.set_tags(self._client, run, {names.TAG_STATUS: names.STATUS_RUNNING})
            self._runs.log_description(run, flatten(config), cost, now)

        self._writer.add(write)
        for epoch, record in trial.epochs.items():
            self.log_epoch(trial.trial_id, epoch, record)

    def log_epoch(self, trial_id: str, epoch: int, record: EpochRecord) -> None:
        """Log the metrics of an epoch, unless they were logged before an interruption."""
        with self._lock:
            if (collecting := self._collecting.get(trial_id)) is not None:
                collecting.records[epoch] = record
                return
            epochs = self._collecting[trial_id] = _Epochs({epoch: record})

        def write() -> None:
            with self._lock:
                if self._collecting.get(trial_id) is epochs:
                    del self._collecting[trial_id]
            run = self._runs.of(trial_id)
            if run is not None and not epochs.are_with_end:  # without a run, MLflow rejected it
                runs.log_steps(self._client, run, epochs.as_steps(), names.EPOCH)

        self._writer.add(write)

    def end_trial(self, trial: LedgerTrial, artifacts: Path | None) -> None:
        """Log the files of a trial's last checkpoint, and end its run with the status in the ledger."""
        with self._lock:  # epochs of another attempt come after this end
            epochs = self._collecting.pop(trial.trial_id, None)
            if epochs is not None:
                epochs.are_with_end = True

        def write_files() -> None:
            run = self._runs.of(trial.trial_id)
            with self._artifact_store():
                if artifacts is not None:
                    self._fetch_artifacts(artifacts)
                for name in ARTIFACTS:
                    if run is not None and artifacts is not None and (artifacts / name).is_file():
                        runs.log_file(self._client, run, artifacts / name)
            if trial.error is not None:
                self._log_text(run, trial.error, "error.txt")

        error_tag = {names.TAG_ERROR: trial.error.strip().splitlines()[-1][:_MAX_TAG_LENGTH]} if trial.error else {}
        tags, front = {**_end_tags(trial), **error_tag}, self._front

        def write_end() -> None:
            on_front = {} if front is None else front.tags_of(trial)
            steps = () if epochs is None else epochs.as_steps()
            self._terminate(self._runs.of(trial.trial_id), trial.status, {**tags, **on_front}, steps)

        # A separate write, because the artifact store can fail on its own.
        self._writer.add(write_files)
        self._writer.add(write_end)
        if front is not None:
            front.request()

    def log_confirmation(self, confirmation: Confirmation, teacher: Mapping[str, float]) -> None:
        """Log means and spreads over seeds on the runs of the confirmed trials, and all of them on the parent run.

        Args:
            teacher: Metrics of the teacher on the test images, for its run; empty without.
        """
        now = _now_ms()
        text = json.dumps(confirmation.as_dict(), indent=1, allow_nan=False)
        tags = {names.TAG_CONFIRMED_ON: "test" if confirmation.is_on_test else "validation"}

        def write_run(trial_id: str, metrics: Mapping[str, float]) -> None:
            run = self._runs.of(trial_id)
            if run is not None and any(run.data.metrics.get(name) != value for name, value in metrics.items()):
                runs.log_metrics(
                    self._client, run, metrics, step=int(run.data.metrics.get(names.EPOCH, 0)), time_ms=now
                )

        def write_parent() -> None:
            if (parent := self._runs.parent) is not None:
                runs.set_tags(self._client, parent, tags)
                self._log_text(parent, text, names.ARTIFACT_CONFIRMATION)

        for each in confirmation.trials:
            self._writer.add(partial(write_run, each.trial.trial_id, each.as_metrics()))
        self._writer.add(partial(write_run, names.TEACHER_TRIAL_ID, teacher))
        self._writer.add(write_parent)

    def follow_front(
        self, objectives: Sequence[str], reference: Mapping[str, float], trials: Sequence[LedgerTrial]
    ) -> None:
        """From now on, log the front as trials end, and what of it MLflow lacks.

        Args:
            reference: Reference point of the hypervolume by objective.
            trials: All trials and baselines so far.
        """
        tags = experiment_tags(objectives)
        self._writer.add(lambda: self._tag_experiment(tags))
        front = GrowingFront(objectives, reference)
        self._front = FrontWriter(self._client, self._writer, self._runs, front)
        self._front.add(trials)

    def describe(self, text: str) -> None:
        """Set the description of the study's run, unless a user wrote another one.

        Args:
            text: Markdown; its first line is that of earlier descriptions.
        """

        def write() -> None:
            if (parent := self._runs.parent) is not None:
                present = self._client.get_run(parent.info.run_id).data.tags.get(MLFLOW_RUN_NOTE, "")
                if present == "" or present.startswith(text.partition("\n")[0]):
                    runs.set_tags(self._client, parent, {MLFLOW_RUN_NOTE: text})

        self._writer.add(write)

    def interrupt_trial(self, trial_id: str) -> None:
        """End the run of an interrupted trial; :meth:`start_trial` continues it when the study is resumed.

        Its tag stays ``running``: ``stopped`` is the end of a trial that was stopped early.
        """
        interrupted = {names.TAG_STATUS: names.STATUS_RUNNING}
        self._writer.add(lambda: self._terminate(self._runs.of(trial_id), names.STATUS_STOPPED, interrupted))

    def end_study(self, status: str, on_wait: Callable[[int], None] = lambda _: None) -> None:
        """End the parent run and wait for pending writes, after another attempt if the server could not be reached.

        Args:
            on_wait: Called several times a second with the number of pending writes.
        """
        self._writer.add(lambda: self._terminate(self._runs.parent, status, {}))
        self._writer.flush(is_retried=True, on_wait=on_wait)

    def flush(self) -> None:
        """Wait until no write is pending, or the server cannot be reached."""
        self._writer.flush()

    def trial_status(self, trial_id: str) -> str | None:
        """The trial's ``hkd.status`` in MLflow; None if it has no run."""
        run = self._runs.of(trial_id)
        return None if run is None else run.data.tags.get(names.TAG_STATUS)

    def has_end(self, trial: LedgerTrial) -> bool:
        """Whether MLflow has the end of a trial: its status, and why it was stopped."""
        run = self._runs.of(trial.trial_id)
        return run is not None and all(run.data.tags.get(tag) == value for tag, value in _end_tags(trial).items())

    def _log_text(self, run: Run | None, text: str, name: str) -> None:
        """Log a text as a file of a run, if there is one."""
        if run is not None:
            with self._artifact_store():
                self._client.log_text(run.info.run_id, text, name)

    @contextmanager
    def _artifact_store(self) -> Iterator[None]:
        """Note whether what is done cannot reach the bucket of the study."""
        self._are_artifacts_away = False
        try:
            yield
        # Artifact stores are plug-ins and can raise anything.
        except Exception as error:
            is_away = isinstance(error, ConnectionError) or (self._is_bucket_ours and is_transient(error))
            self._are_artifacts_away = is_away
            raise

    def _answers(self) -> bool:
        if self._are_artifacts_away:
            return False  # the write is not dropped: the object storage is away, whatever MLflow answers
        try:
            self._runs.search_parent()
        except Exception:  # noqa: BLE001 (as above)
            return False
        return True

    def _terminate(
        self, run: Run | None, status: str, tags: Mapping[str, str], steps: Sequence[runs.Step] = ()
    ) -> None:
        if run is not None:
            runs.terminate(self._client, run, status, tags, steps=steps)

    def _tag_experiment(self, tags: Mapping[str, str]) -> None:
        present = self._client.get_experiment(self._experiment_id).tags
        for name, value in tags.items():
            if present.get(name) != value:
                self._client.set_experiment_tag(self._experiment_id, name, value)


@dataclass
class _Epochs:
    """Epochs of a trial that are logged together."""

    records: dict[int, EpochRecord]
    are_with_end: bool = False
    """Whether the end of the trial logs them."""

    def as_steps(self) -> list[runs.Step]:
        return [runs.Step(epoch, each.time_ms, each.metrics) for epoch, each in sorted(self.records.items())]


def _end_tags(trial: LedgerTrial) -> dict[str, str]:
    """How a trial ended."""
    is_stopped = trial.status == names.STATUS_STOPPED and trial.dominators
    reason = {names.TAG_STOPPED_BECAUSE_OF: ", ".join(trial.dominators)} if is_stopped else {}
    return {names.TAG_STATUS: trial.status, **reason}


def _now_ms() -> int:
    return int(time.time() * 1000)
