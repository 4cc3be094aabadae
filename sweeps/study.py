"""Runs a study: data, teacher, baselines, proposed trials. Resumes a study that was interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from hkd import metric_names as names
from hkd.coco.annotations import Annotations
from hkd.config_files.parsing import flatten
from hkd.config_files.yaml_format import dump_yaml
from hkd.data.prepare import PreparedData, prepare_data
from hkd.data.unlabelled import UnlabelledImages
from hkd.findings import weak_teacher
from hkd.training.teacher.prepare import PreparedTeacher, find_teacher
from hkd.training.teacher.pseudo_labels import PseudoLabels, find_labels, read_labels
from sweeps.checks import (
    check_device,
    check_enqueued_costs,
    check_files,
    check_first_weights_of_trials,
    check_limits,
    check_objectives,
    check_room,
    check_test_images,
)
from sweeps.console import messages
from sweeps.console.display import Display, TeacherBoard, TrialBoard
from sweeps.console.findings import PassedTeacher
from sweeps.console.usage import describe_usage, summarise_usage
from sweeps.execution.cache_settings import configured_cache, describe_cache
from sweeps.execution.cluster import connected, head_address, trial_resources
from sweeps.execution.cluster_address import find_address
from sweeps.execution.cluster_watch import ClusterLostError, ClusterWatch, last_words
from sweeps.execution.early_stopping import StudyStopping
from sweeps.execution.gpu_share import share_gpus
from sweeps.execution.node_checks import check_nodes
from sweeps.execution.teacher_task import Prepared, prepare_on_cluster
from sweeps.execution.teacher_test import teacher_on_test_images
from sweeps.execution.tune_callback import Recorder
from sweeps.execution.tune_run import TrialInputs, run_trials
from sweeps.execution.waiting import Waiting
from sweeps.folder import StudyError, StudyFolder
from sweeps.interruption import Interruption
from sweeps.settings.redaction import redacted
from sweeps.settings.resources import Cluster, TrialResources
from sweeps.settings.study import StudyConfig
from sweeps.tracking import store
from sweeps.tracking.reconciliation import close_runs, write_missing_ends
from sweeps.tracking.study_params import study_params
from sweeps.tracking.tracker import Tracker
from sweeps.trials.confirmation import Confirmation, confirmation_of
from sweeps.trials.ledger import open_ledger
from sweeps.trials.queue import TrialQueue
from sweeps.trials.teacher_record import TeacherRecord, read_teacher, teacher_record, write_teacher
from sweeps.trials.warm_start import check_same_teacher, find_warm_start
from sweeps.trials.worker import WorkerSettings

EXIT_FINISHED = 0
EXIT_NOTHING_FINISHED = 1
EXIT_CLUSTER_LOST = 3
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class ReadyTeacher:
    """The teacher of a study, and its labels of the unlabelled images, if there are any."""

    teacher: PreparedTeacher
    labels: PseudoLabels | None = None
    test_images: str | None = None
    """Hash of the annotations of the test images on which the teacher was evaluated."""

    def tested(self, metrics: Mapping[str, float], test_images: str) -> ReadyTeacher:
        """The teacher with its metrics on test images."""
        teacher = replace(self.teacher, metrics={**self.teacher.metrics, **metrics})
        return replace(self, teacher=teacher, test_images=test_images)

    @property
    def record(self) -> TeacherRecord:
        """The record of the study's folder."""
        return replace(teacher_record(self.teacher, self.labels), test_images=self.test_images)


def run_study(
    study: StudyConfig,
    *,
    is_resumed: bool,
    console: Console,
    resume_command: str,
    time_budget_seconds: float | None = None,
    enqueued: Sequence[Mapping[str, object]] = (),
) -> int:
    """Run a study to its end, or resume it.

    Args:
        is_resumed: Whether to resume a study of this name, if one was started.
        resume_command: Printed when the study is interrupted.
        time_budget_seconds: From now on; at its end, running trials are interrupted, and the results so far printed.
        enqueued: Settings to propose before those of the sampler, from :func:`sweeps.settings.enqueued.read_enqueued`.

    Returns:
        The exit code: 0, or 1 where no trial was trained to its end, or 130 where the study was interrupted.

    Raises:
        ValueError: (a class of hkd's or sweeps') the study cannot be run as configured. No trial was started.
    """
    deadline = None if time_budget_seconds is None else time.monotonic() + time_budget_seconds
    folder = StudyFolder(study)
    folder.check(study)  # before the lock, which would write into a folder that is not a study's
    display = Display(console)
    with folder.locked():
        study = _study_to_run(study, folder, display, is_resumed=is_resumed, resume_command=resume_command)
        test = _check_before_data(study, enqueued, display)
        test_images = None if test is None else test.content_hash()
        address = find_address()
        open_tracker = _check_tracking(study, folder)
        queue = _open_queue(study, folder, display, test_images) if folder.study_exists else None
        # Read once: the other study may be removed later.
        is_warm = queue is not None and queue.ledger.has_given_results
        warm_start = None if is_warm else find_warm_start(study)
        check_room(study, queue, enqueued)
        if queue is not None and queue.is_empty:
            with Interruption(deadline) as interruption, interruption.deferred():
                return _Session(study, folder, display, queue, open_tracker()).report_finished_study()
        display.print_line("Data: loading; scenes are generated and images decoded unless they are cached")
        data = prepare_data(study.base.data)
        check_objectives(study, data.validation_annotations)
        check_test_images(study, data, test)
        with connected(address) as cluster, Interruption(deadline) as interruption, display:
            display.print_line(messages.describe_cluster(cluster))
            resources = trial_resources(study.resources, cluster)
            check_device(study, resources)
            tracker = open_tracker()  # before the teacher: an unusable MLflow would waste hours of training
            given = None if study.base.teacher is None else study.base.teacher.trained_weights
            _check_nodes(study, folder, cluster, display, teacher=given)
            teacher = _prepare_teacher(study, data, cluster, resources, display)
            teacher_file, labels_file = _files_of(teacher)
            _check_nodes(study, folder, cluster, display, teacher=teacher_file, labels=labels_file)
            if teacher is not None and test_images is not None and study.confirm_seeds:
                known = read_teacher(folder.teacher_file)
                on_test = teacher_on_test_images(
                    study, teacher.teacher.path, test_images, resources, display, known=known
                )
                teacher = teacher.tested(on_test, test_images)
            if warm_start is not None:
                check_same_teacher(warm_start, None if teacher is None else teacher.teacher.path)
            inputs = _trial_inputs(study, cluster, resources, teacher, len(data.train_annotations.images), display)
            with interruption.deferred():
                folder.write_study(study)  # after every check: a study that cannot start leaves its name free
                queue = queue or _open_queue(study, folder, display, test_images)
                if warm_start is not None and queue.ledger.add_results(warm_start.results):
                    display.print_line(warm_start.describe())
                queue.ledger.enqueue(enqueued)
                num_test_images = None if test is None else len(test.images)
                session = _Session(study, folder, display, queue, tracker, num_test_images=num_test_images)
            words = f"The process of the study {study.name} was killed. Finished epochs are saved. Resume with:  "
            with last_words(words + resume_command), ClusterWatch(head_address()) as watch:
                waiting = None
                if cluster.address is not None:
                    needed = inputs.resources
                    waiting = Waiting("Trials", needed.num_cpus, needed.num_gpus, display.print_line)
                code = session.run(teacher, inputs, interruption, resume_command, watch, waiting)
            if code == EXIT_CLUSTER_LOST:
                # Ray would wait for the lost cluster for a minute, and then end this process itself.
                display.close()
                console.file.flush()
                os._exit(code)
            return code


def _check_before_data(
    study: StudyConfig, enqueued: Sequence[Mapping[str, object]], display: Display
) -> Annotations | None:
    """Check all that needs no images; returns the test annotations, if configured."""
    check_limits(study)  # needs no files
    check_enqueued_costs(study, enqueued)
    test = check_files(study.base, check_images=False, print_line=display.print_line).test
    if test is not None:
        check_objectives(study, test, "test")
    check_first_weights_of_trials(study, print_line=display.print_line)
    return test


def _study_to_run(
    study: StudyConfig, folder: StudyFolder, display: Display, *, is_resumed: bool, resume_command: str
) -> StudyConfig:
    """The study with no fewer trials than before; checked under the lock, as another process may have started it."""
    resolved = folder.check(study)
    if folder.study_exists and not is_resumed:
        ledger = open_ledger(resolved, folder.journal)
        raise StudyError(*messages.describe_existing_study(resolved, folder, ledger, resume_command).split("\n"))
    if resolved.search.num_trials != study.search.num_trials:
        display.print_line(
            f"Resuming with {resolved.search.num_trials} proposed trials, as requested before "
            f"(search.num_trials is now {study.search.num_trials})"
        )
    return resolved


def _check_tracking(study: StudyConfig, folder: StudyFolder) -> Callable[[], Tracker]:
    """Check that MLflow is usable and the study's name free; returns what opens the study's experiment."""
    uri = study.tracking.uri
    client = store.connect(uri)
    experiment = store.find_experiment(client, uri, study.name, study_exists=folder.study_exists)
    return partial(Tracker, client, uri, study.name, experiment, storage_path=study.storage_path)


def _open_queue(study: StudyConfig, folder: StudyFolder, display: Display, test_images: str | None) -> TrialQueue:
    def print_exhausted(num_proposed: int) -> None:
        display.print_line(
            f"The search space is exhausted: the sampler finds no trial beside the {num_proposed} so far"
        )

    return TrialQueue(study, open_ledger(study, folder.journal), print_exhausted, test_images=test_images)


def _prepare_teacher(
    study: StudyConfig, data: PreparedData, cluster: Cluster, resources: TrialResources, display: Display
) -> ReadyTeacher | None:
    base, images = study.base, data.unlabelled
    if base.teacher is None:
        return None
    # Looked up here first: a worker that only finds the teacher in the cache takes ten seconds to start.
    teacher = find_teacher(base, data, study.storage_path.absolute())
    labels = None if teacher is None else find_labels(base, data, teacher)
    if teacher is None:
        checkpoint = base.teacher.trained_weights
        display.print_line("Teacher: training" if checkpoint is None else f"Teacher: evaluating {checkpoint}")
    if images is not None and labels is None:
        display.print_line(f"Unlabelled images: the teacher labels {len(images.annotations.images)} once it is ready")
    if teacher is None or (images is not None and labels is None):
        prepared = _make_teacher(study, images, cluster, resources, display)
        teacher = prepared.teacher
        if images is not None and prepared.labels is not None:
            labels = read_labels(prepared.labels, images.annotations.image_root)
    display.print_line(messages.describe_teacher(teacher_record(teacher), study.objectives))
    metric = study.main_miss_rate
    weak = weak_teacher(metric, teacher.metrics[metric]) if metric in teacher.metrics else None
    if weak is not None:
        display.print_line(f"Warning: {weak.text}")
    if labels is not None:
        display.print_line(f"Labels of unlabelled images: {labels.summary}; {labels.path}")
    return ReadyTeacher(teacher, labels)


def _check_nodes(
    study: StudyConfig,
    folder: StudyFolder,
    cluster: Cluster,
    display: Display,
    *,
    teacher: Path | None,
    labels: Path | None = None,
) -> None:
    if cluster.address is not None:
        check_nodes(study, folder, teacher=teacher, labels=labels, print_line=display.print_line)


def _files_of(ready: ReadyTeacher | None) -> tuple[Path | None, Path | None]:
    """Weights of the teacher, and its labels."""
    if ready is None:
        return None, None
    return ready.teacher.path, None if ready.labels is None else ready.labels.path


def _make_teacher(
    study: StudyConfig,
    images: UnlabelledImages | None,
    cluster: Cluster,
    resources: TrialResources,
    display: Display,
) -> Prepared:
    # Nothing else runs meanwhile: on a single machine, the teacher uses all CPUs.
    num_cpus = cluster.num_cpus if cluster.address is None else resources.num_cpus
    num_gpus = float(resources.num_gpus > 0)
    return prepare_on_cluster(
        study.base,
        study.storage_path.absolute(),
        WorkerSettings(max(resources.num_threads, int(num_cpus)), num_gpus > 0, Path.cwd()),
        unlabelled=None if images is None else images.annotations.images,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        on_progress=TeacherBoard(display, study.objectives).update,
        waiting=None if cluster.address is None else Waiting("Teacher", num_cpus, num_gpus, display.print_line),
    )


def _trial_inputs(
    study: StudyConfig,
    cluster: Cluster,
    resources: TrialResources,
    ready: ReadyTeacher | None,
    num_train_images: int,
    display: Display,
) -> TrialInputs:
    teacher_file, labels_file = _files_of(ready)
    if ready is not None and ready.labels is not None:
        num_train_images += ready.labels.summary.num_images
    cache = configured_cache(study, resources)
    if cache is not None:
        display.print_line(describe_cache(cache, study.base, resources, num_train_images))
    shared = share_gpus(study, cluster, resources, teacher_file, display, labels_file=labels_file)
    return TrialInputs(teacher_file, cache, shared, labels_file)


class _Session:
    """One session of a study, from its first trial or from where the previous session ended."""

    def __init__(
        self,
        study: StudyConfig,
        folder: StudyFolder,
        display: Display,
        queue: TrialQueue,
        tracker: Tracker,
        *,
        num_test_images: int | None = None,
    ) -> None:
        self._study = study
        self._folder = folder
        self._display = display
        self._ledger = queue.ledger
        self._queue = queue
        self._tracker = tracker
        self._num_test_images = num_test_images

    def run(
        self,
        teacher: ReadyTeacher | None,
        inputs: TrialInputs,
        interruption: Interruption,
        resume_command: str,
        watch: ClusterWatch,
        waiting: Waiting | None,
    ) -> int:
        """Run the trials that are left; returns the exit code."""
        try:
            interruption.raise_if_requested()
            self._open(teacher)
            self._display.print_line(messages.describe_trials(self._study, inputs.resources))
            usage = self._run_trials(inputs, interruption, watch, waiting)
        except KeyboardInterrupt:
            with interruption.deferred():
                reason = "Time budget used up" if interruption.is_time_over else "Interrupted"
                return self._interrupt(reason, resume_command, is_time_over=interruption.is_time_over)
        except ClusterLostError as error:
            with interruption.deferred():
                self._interrupt(str(error), resume_command, is_time_over=False)
            return EXIT_CLUSTER_LOST
        except BaseException:
            with interruption.deferred():
                close_runs(self._ledger, self._tracker, names.STATUS_FAILED)
            raise
        with interruption.deferred():
            return self._finish(usage)

    def report_finished_study(self) -> int:
        """Bring MLflow up to date and print the results of a finished study; returns the exit code."""
        self._open(None)
        return self._finish(None)

    def _open(self, ready: ReadyTeacher | None) -> None:
        """Open the study's run in MLflow and bring it up to date."""
        study, tracker = self._study, self._tracker
        num_trials = {names.TAG_NUM_TRIALS: str(study.search.num_trials)}
        tracker.start_study(study_params(study), num_trials, dump_yaml(redacted(study)))
        if ready is not None:
            teacher = ready.teacher
            of_labels = {} if ready.labels is None else ready.labels.summary.as_metrics()
            write_teacher(self._folder.teacher_file, ready.record)
            settings = flatten(study.base).items()
            params = {key: value for key, value in settings if key.startswith(("teacher.", "data."))}
            metrics = {**teacher.metrics, **of_labels}
            tracker.log_teacher(
                params, teacher.cost, teacher.epochs, metrics, teacher.weights_origin, teacher.detections
            )
        write_missing_ends(study, self._folder.path, self._ledger, tracker)

    def _finish(self, usage: str | None) -> int:
        """Close the study's run and print the results; returns the exit code.

        Args:
            usage: One line on the memory and time that trials used, where this session ran some.
        """
        confirmation = self._confirmation()
        if confirmation is not None:
            teacher = read_teacher(self._folder.teacher_file)
            on_test = {} if teacher is None else teacher.on_test_images
            self._tracker.log_confirmation(confirmation, on_test)
        self._tracker.end_study(
            names.STATUS_FINISHED,
            on_wait=lambda count: self._display.show_progress(f"MLflow: {count} writes pending"),
        )
        return self._print_results(usage)

    def _confirmation(self) -> Confirmation | None:
        ledger = self._ledger
        test_images = self._queue.test_images
        return confirmation_of(ledger.trials(), ledger.confirmations(), self._study.objectives, test_images)

    def _print_results(self, usage: str | None) -> int:
        """Print the results so far; returns the exit code."""
        messages.print_results(
            self._study,
            self._folder,
            self._ledger,
            self._tracker,
            self._display,
            usage,
            confirmation=self._confirmation(),
        )
        is_any_finished = any(trial.status == names.STATUS_FINISHED for trial in self._ledger.trials())
        return EXIT_FINISHED if is_any_finished else EXIT_NOTHING_FINISHED

    def _interrupt(self, reason: str, resume_command: str, *, is_time_over: bool) -> int:
        # Printed first: the user may not wait for MLflow.
        trials, running = (*self._ledger.trials(), *self._ledger.confirmations()), self._ledger.running()
        num_ended = len(trials) - len(running)
        self._display.print_line(f"{reason}: {num_ended} trials ended, {len(running)} resume from their last epoch.")
        self._display.print_line(f"Resume with:  {resume_command}")
        close_runs(self._ledger, self._tracker, names.STATUS_STOPPED)
        return self._print_results(None) if is_time_over else EXIT_INTERRUPTED

    def _run_trials(
        self, inputs: TrialInputs, interruption: Interruption, watch: ClusterWatch, waiting: Waiting | None
    ) -> str | None:
        """Run the queue; returns a line on what trials used, where any reported it."""
        study = self._study
        confirmations = self._ledger.confirmations()
        ended = [trial for trial in (*self._ledger.trials(), *confirmations) if trial.status != names.STATUS_RUNNING]
        teacher = read_teacher(self._folder.teacher_file) if study.base.teacher is not None else None
        board = TrialBoard(
            self._display,
            objectives=study.objectives,
            total=messages.num_planned_trials(study) + len(confirmations),
            ended=ended,
            epochs_per_trial=study.base.training.total_epochs,
            warning_at_end=PassedTeacher(study, None if teacher is None else teacher.metrics, ended).warning,
        )

        def start_confirmation(num_trainings: int) -> None:
            board.expect(num_trainings)
            self._display.print_line(messages.describe_confirmation(study, num_trainings, self._num_test_images))

        self._queue.on_confirmation = start_confirmation
        self._queue.on_patience = lambda: self._display.print_line(
            f"The search ends: the last {study.search.patience} proposals did not enlarge the hypervolume of the front "
            "(search.patience)"
        )
        stopping = StudyStopping(study, self._ledger) if study.rungs else None
        recorder = Recorder(
            self._folder,
            study.objectives,
            self._ledger,
            self._tracker,
            board,
            put_back=self._queue.put_back,
            is_interrupted=lambda: interruption.is_requested,
            waiting=waiting,
            watch=watch,
            stopping=stopping,
        )
        run_trials(study, self._folder, self._queue, recorder, inputs, interruption, stopping=stopping)
        usage = summarise_usage((*self._ledger.trials(), *self._ledger.confirmations()), recorder.max_concurrent)
        if usage is None:
            return None
        is_on_gpu = inputs.resources.num_gpus > 0 and study.base.training.device != "cpu"
        return describe_usage(usage, num_threads=inputs.resources.num_threads, is_on_gpu=is_on_gpu)
