"""Messages of a study: what it will run, its results, and the next commands."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hkd import metric_names as names
from hkd.text.redaction import is_redacted, redacted_uri
from hkd.tracking_uri import TRACKING_URI_VARIABLE, default_tracking_uri
from sweeps.console import findings
from sweeps.console.display import Display, closing_table
from sweeps.console.metric_format import phrases
from sweeps.console.tables import confirmation_table, ended_table
from sweeps.folder import StudyFolder, display_path
from sweeps.settings.resources import Cluster, TrialResources
from sweeps.settings.space import num_proposals
from sweeps.settings.study import StudyConfig
from sweeps.tracking.tracker import Tracker
from sweeps.tracking.view import runs_link
from sweeps.trials.confirmation import Confirmation
from sweeps.trials.ends import Ends, ends_of
from sweeps.trials.front import front
from sweeps.trials.records.ledger import Ledger
from sweeps.trials.records.teacher import TeacherRecord, read_teacher
from sweeps.trials.records.trial import LedgerTrial

PARETO = Path(__file__).parents[2] / "analysis" / "pareto.py"


def describe_cluster(cluster: Cluster) -> str:
    """One line on the machines that run the trials."""
    where = "this machine" if cluster.address is None else f"the cluster at {cluster.address}"
    return f"Ray: {where}, {cluster.num_cpus:g} CPUs, {cluster.num_gpus:g} GPUs"


def describe_teacher(teacher: TeacherRecord, objectives: Sequence[str]) -> str:
    """One line on the teacher: its objectives and its file."""
    return f"Teacher: {phrases(objectives, teacher.metrics)}; {teacher.path}"


def describe_trials(study: StudyConfig, resources: TrialResources) -> str:
    """One line on the trials that will run."""
    at_a_time = "as many at a time as fit the cluster"
    if resources.max_concurrent is not None:
        at_a_time = f"{resources.max_concurrent} at a time"
    each = f"{resources.num_cpus:g} CPU" + (f" and {resources.num_gpus:g} GPU" if resources.num_gpus else "")
    proposed = f"{num_proposals(study.space, study.search.num_trials)} proposed by {study.search.sampler}"
    return f"Trials: {len(study.baselines)} baselines and {proposed}, {at_a_time}, each with {each}{stopping(study)}"


def stopping(study: StudyConfig) -> str:
    """A clause on the epochs after which trials may be stopped; empty where none is."""
    if not study.rungs:
        return ""
    *first, last = map(str, study.rungs)
    return f"; compared after epochs {', '.join(first)} and {last}, where some are stopped"


def describe_early_stopping(ends: Ends) -> str:
    """One line on what early stopping saved, and after which epochs."""
    stopped = [group for group in ends.groups if group.status == names.STATUS_STOPPED]
    counts = ", ".join(f"{len(group.trial_ids):,} after epoch {group.epoch}" for group in stopped)
    return (
        f"Early stopping saved {100 * ends.saved_epochs / ends.full_epochs:.0f} % of the epochs, "
        f"{ends.saved_epochs:,} of {ends.full_epochs:,}: {ends.num_stopped:,} trials were stopped, {counts}"
    )


def describe_confirmation(study: StudyConfig, num_trainings: int, num_test_images: int | None) -> str:
    """One line on the trainings with other seeds that will run."""
    images = "the validation images, as base.data.test_annotations names none"
    if num_test_images is not None:
        images = f"{num_test_images:,} test images"
    seeds = "1 other seed" if study.confirm_seeds == 1 else f"{study.confirm_seeds} other seeds"
    return (
        f"Confirmation: the front and the baselines are trained again with {seeds} and evaluated on {images}; "
        f"{num_trainings} trainings"
    )


def describe_existing_study(study: StudyConfig, folder: StudyFolder, ledger: Ledger, resume_command: str) -> str:
    """Why a study that exists is not started again, and how to resume it."""
    ended = sum(trial.status != names.STATUS_RUNNING for trial in ledger.trials())
    total = num_planned_trials(study)
    is_finished = ended >= total and not ledger.running()
    state = f"is finished ({ended} trials)" if is_finished else f"exists, with {ended} of {total} trials done"
    remedy = f"Resume it: {resume_command}"
    if is_finished and total < len(study.baselines) + study.search.num_trials:
        remedy = "Its search space has no other configurations"
    elif is_finished:
        remedy = f"Add trials: {resume_command} --num-trials {2 * study.search.num_trials}"
    return f'the study "{study.name}" {state}, in {folder.place}. {remedy}\nOr start another study: --name NAME'


def num_planned_trials(study: StudyConfig) -> int:
    """Baselines and proposed trials of the study."""
    return len(study.baselines) + num_proposals(study.space, study.search.num_trials)


def print_results(
    study: StudyConfig,
    folder: StudyFolder,
    ledger: Ledger,
    tracker: Tracker,
    display: Display,
    usage: str | None,
    *,
    confirmation: Confirmation | None = None,
) -> None:
    """Print the trials by status, the fronts as tables, findings, problems with MLflow and the next commands.

    Args:
        usage: Memory and utilisation of the trials; None if this session ran none.
    """
    trials = ledger.trials()
    # None runs any more.
    words = {names.STATUS_RUNNING: "interrupted"}
    counts = Counter(words.get(trial.status, trial.status) for trial in trials)
    by_status = ", ".join(f"{count} {status}" for status, count in counts.items())
    display.print_line(f"Study {study.name}: {by_status}; in {folder.place}")
    teacher = read_teacher(folder.teacher_file) if study.base.teacher is not None else None
    total_epochs = {trial.trial_id: _total_epochs(study, trial) for trial in trials}
    display.console.print(ended_table(trials, study.objectives, total_epochs))
    ends = ends_of(trials, study.base.training.total_epochs)
    if ends.num_stopped:
        display.print_line(describe_early_stopping(ends))
    best = front(trials, study.objectives)
    if best:
        display.console.print(closing_table(best, study.objectives, None if teacher is None else teacher.metrics))
    _print_confirmation(study, ledger, confirmation, display, None if teacher is None else teacher.metrics)
    for finding in findings.find(study, trials, None if teacher is None else teacher.metrics):
        display.print_line(finding.text)
    if usage is not None:
        display.print_line(usage)
    if tracker.num_pending:
        display.print_line(
            f"Cannot write to MLflow ({tracker.last_error}): {tracker.num_pending} writes are pending. All results are "
            f"in {folder.place}; resuming the study (--resume) writes what MLflow lacks, each epoch included."
        )
    if tracker.rejections:
        display.print_line(
            f"Writes rejected by MLflow: {len(tracker.rejections)} ({tracker.rejections[0]}). "
            f"All results are in {folder.place}."
        )
    uri = redacted_uri(study.tracking.uri)
    store = "" if study.tracking.uri == default_tracking_uri() else f" --tracking-uri {shlex.quote(uri)}"
    display.print_line(f"Report:  python {display_path(PARETO)} --study {study.name}{store}")
    if uri.startswith("http"):
        display.print_line(f"MLflow:  {uri}")
    elif is_redacted(uri):
        display.print_line(f"MLflow:  mlflow ui, with MLFLOW_BACKEND_STORE_URI set to {uri} with its credentials")
    else:
        display.print_line(f"MLflow:  mlflow ui --backend-store-uri {shlex.quote(uri)}")
    display.print_line(f"Runs:    {runs_link(study.tracking.uri, tracker.experiment_id)}")
    if store and is_redacted(uri):
        display.print_line(f"Set {TRACKING_URI_VARIABLE} to the URI with its credentials (***) before the report")


def _print_confirmation(
    study: StudyConfig,
    ledger: Ledger,
    confirmation: Confirmation | None,
    display: Display,
    teacher: Mapping[str, float] | None,
) -> None:
    if confirmation is None:
        if not study.confirm_seeds and front(ledger.trials(), study.objectives):
            display.print_line(
                "Not confirmed: each student was trained with one seed, and the best of many looks better than it is. "
                "The option --confirm trains the front and the baselines again with other seeds"
            )
        return
    display.console.print(confirmation_table(confirmation, study.objectives, teacher))
    failed = [trial.trial_id for trial in ledger.confirmations() if trial.status == names.STATUS_FAILED]
    if failed:
        display.print_line(
            f"Failed trainings of the confirmation, without which means are computed: {', '.join(failed)}"
        )
    if not confirmation.is_on_test:
        display.print_line(
            "These seeds were evaluated on the validation images, by which the search chose the settings: name images "
            "that it did not see in base.data.test_annotations for an independent result"
        )


def _total_epochs(study: StudyConfig, trial: LedgerTrial) -> int:
    epochs = trial.params.get(names.PARAM_TOTAL_EPOCHS, study.base.training.total_epochs)
    assert isinstance(epochs, int)
    return epochs
