"""The runs of one study in MLflow: its own, the parent, and one child each for the teacher and the trials.

Child runs are identified by the tag ``hkd.trial_id``, so that a resumed study continues them.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlflow.entities import Metric, Run
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from hkd import metric_names as names
from hkd.models.cost import Cost
from sweeps.tracking import runs
from sweeps.tracking.origin import Origin

_IS_PARENT = f"tags.`{names.TAG_ROLE}` = '{names.ROLE_STUDY}'"  # MLflow's filter syntax


class StudyRuns:
    """Finds the runs of a study, and creates those that do not exist.

    Raises:
        MlflowException: they cannot be read.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, study: str) -> None:
        self._client, self._experiment_id, self._study = client, experiment_id, study
        self.parent: Run | None = None
        """None before :meth:`start`, and if MLflow rejected it."""
        self.origin = Origin()
        """Of the runs that are created or continued from now on."""
        self._runs: dict[str, Run] = {}
        self._requested: set[str] = set()
        """Trials of which this process has requested a run."""
        self._with_datasets: set[str] = set()
        """Ids of runs whose data sets this process has logged."""
        for run in runs.search(client, experiment_id):
            if run.data.tags.get(names.TAG_ROLE) == names.ROLE_STUDY:
                self.parent = run
            elif names.TAG_TRIAL_ID in run.data.tags:
                self._runs[run.data.tags[names.TAG_TRIAL_ID]] = run

    def of(self, trial_id: str) -> Run | None:
        """The run of a trial; None if it was not created, or MLflow rejected it."""
        return self._runs.get(trial_id)

    def search_parent(self) -> list[Run]:
        """Request the parent run from MLflow; empty if there is none."""
        return runs.search(self._client, self._experiment_id, _IS_PARENT)

    def start(self, params: Mapping[str, object], tags: Mapping[str, str]) -> None:
        """Create the parent run, or set it to running again."""
        tags_now = {names.TAG_STATUS: names.STATUS_RUNNING, **tags, **self.origin.tags}
        # As in get_or_create: the run may exist although the response to create_run was lost.
        existing = [self.parent] if self.parent else self.search_parent()
        if existing:
            self.parent = existing[0]
            self._client.update_run(self.parent.info.run_id, status="RUNNING")
            runs.set_tags(self._client, self.parent, tags_now)
        else:
            identity = {names.TAG_STUDY: self._study, names.TAG_ROLE: names.ROLE_STUDY}
            self.parent = self._client.create_run(
                self._experiment_id, run_name=self._study, tags={**identity, **tags_now}
            )
        if len(self.parent.data.params) < len(params):
            runs.log_params(self._client, self.parent, params)
        self._log_datasets(self.parent)

    def get_or_create(
        self, trial_id: str, role: str, extra_tags: Mapping[str, str], start_ms: int | None = None
    ) -> Run:
        """The run of a trial, created if it does not exist."""
        if trial_id not in self._runs:
            found: list[Run] = []
            if trial_id in self._requested:
                # The run may exist although the response to create_run was lost.
                found = runs.search(self._client, self._experiment_id, f"tags.`{names.TAG_TRIAL_ID}` = '{trial_id}'")
            if self.parent is None:
                raise _NoParentError("the parent run of the study was rejected")
            self._requested.add(trial_id)
            self._runs[trial_id] = (
                found[0]
                if found
                else self._client.create_run(
                    self._experiment_id,
                    start_time=start_ms,
                    run_name=trial_id,
                    tags={
                        names.TAG_STUDY: self._study,
                        names.TAG_ROLE: role,
                        names.TAG_TRIAL_ID: trial_id,
                        names.TAG_STATUS: names.STATUS_RUNNING,
                        MLFLOW_PARENT_RUN_ID: self.parent.info.run_id,
                        **self.origin.tags,
                        **extra_tags,
                    },
                )
            )
        return self._runs[trial_id]

    def log_description(self, run: Run, params: Mapping[str, object], cost: Cost, time_ms: int) -> None:
        """Log data sets, parameters and costs of a run, unless they are logged."""
        self._log_datasets(run)
        metrics = {} if names.GMACS in run.data.metrics else cost.as_metrics()
        missing = params if len(run.data.params) < len(params) else {}
        runs.log_params(
            self._client, run, missing, [Metric(name, value, time_ms, 0) for name, value in metrics.items()]
        )
        run.data.metrics.update(metrics)

    def _log_datasets(self, run: Run) -> None:
        run_id, datasets = run.info.run_id, self.origin.datasets
        is_logged = run_id in self._with_datasets or (run.inputs is not None and run.inputs.dataset_inputs)
        if datasets and not is_logged:
            self._client.log_inputs(run_id, datasets)
            self._with_datasets.add(run_id)


class _NoParentError(Exception):
    """The study has no parent run."""
