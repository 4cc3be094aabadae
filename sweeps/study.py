"""Runs a study: data, teacher, baselines, proposed trials. Resumes a study that was interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from rich.console import Console

from hkd.coco.annotations import Annotations
from hkd.data.prepare import prepare_data
from sweeps.checks import (
    check_device,
    check_enqueued_costs,
    check_files,
    check_first_weights_of_trials,
    check_limits,
    check_objectives,
    check_room,
    check_test_images,
    with_data_versions,
)
from sweeps.console import messages
from sweeps.console.display import Display
from sweeps.execution.cache_settings import configured_cache, describe_cache
from sweeps.execution.cluster.address import find_address
from sweeps.execution.cluster.connection import connected, head_address, trial_resources
from sweeps.execution.cluster.node_checks import shared_files
from sweeps.execution.cluster.waiting import Waiting
from sweeps.execution.cluster.watch import ClusterWatch
from sweeps.execution.gpu_share import share_gpus
from sweeps.execution.tune.run import TrialInputs
from sweeps.folder import StudyError, StudyFolder
from sweeps.interruption import Interruption
from sweeps.ready_latency import known_latency, ready_latency
from sweeps.ready_teacher import ReadyTeacher, files_of, ready_teacher
from sweeps.session import Session
from sweeps.settings.resources import Cluster, TrialResources
from sweeps.settings.study import StudyConfig
from sweeps.tracking import store
from sweeps.tracking.artifacts import check_artifacts
from sweeps.tracking.origin import origin_of
from sweeps.tracking.tracker import Tracker
from sweeps.trials.node_files import SharedFiles
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.ledger import open_ledger
from sweeps.trials.warm_start import check_same_teacher, find_warm_start


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
        The exit code: 0, or 1 where no trial was trained to its end, or 130 where the study was interrupted. Where the
        cluster was lost, this process ends with 3.

    Raises:
        ValueError: (a class of hkd's or sweeps') the study cannot be run as configured. No trial was started.
    """
    deadline = None if time_budget_seconds is None else time.monotonic() + time_budget_seconds
    folder = StudyFolder(study)
    folder.check(study)  # before the lock, which would write into a folder that is not a study's
    display = Display(console)
    with folder.locked():
        requested = _study_to_run(study, folder, display, is_resumed=is_resumed, resume_command=resume_command)
        requested = with_data_versions(requested)
        study = known_latency(requested, folder)
        test = _check_before_data(study, enqueued, display)
        test_images = None if test is None else test.content_hash()
        address = find_address()
        queue = _open_queue(study, folder, display, test_images) if folder.study_exists else None
        # Read once: the other study may be removed later.
        is_warm = queue is not None and queue.ledger.has_given_results
        warm_start = None if is_warm else find_warm_start(study)
        check_room(study, queue, enqueued)
        open_tracker = _check_tracking(study, folder)  # the last check before data: it may create a database
        if queue is not None and queue.is_empty:
            with Interruption(deadline) as interruption, interruption.deferred():
                return Session(study, folder, display, queue, open_tracker()).report_finished_study()
        display.print_line("Data: loading; scenes are generated and images decoded unless they are cached")
        data = prepare_data(study.base.data)
        check_objectives(study, data.validation_annotations)
        check_test_images(study, data, test)
        loss = _ClusterLoss(folder, display, resume_command)
        words = f"The process of the study was killed. Finished epochs are saved. Resume with:  {resume_command}"
        with (
            connected(address) as cluster,
            Interruption(deadline) as interruption,
            display,
            ClusterWatch(head_address(), words, loss),
        ):
            display.print_line(messages.describe_cluster(cluster))
            resources = trial_resources(study.resources, cluster)
            check_device(study, resources)
            tracker = open_tracker()  # before latencies and teacher: an unusable MLflow would waste minutes or hours
            study = ready_latency(study, folder, display.print_line)
            _check_costs(study, enqueued)  # again: with latencies that were measured now
            teacher = ready_teacher(study, folder, data, cluster, resources, display, test_images)
            if warm_start is not None:
                check_same_teacher(warm_start, None if teacher is None else teacher.teacher.path)
            inputs = _trial_inputs(study, cluster, resources, teacher, len(data.train_annotations.images), display)
            with interruption.deferred():
                folder.write_study(requested)  # after every check: a study that cannot start leaves its name free
                inputs = replace(inputs, shared=_shared_files(study, folder, cluster, teacher))
                queue = queue or _open_queue(study, folder, display, test_images)
                if warm_start is not None and queue.ledger.add_results(warm_start.results):
                    display.print_line(warm_start.describe())
                queue.ledger.enqueue(enqueued)
                num_test_images = None if test is None else len(test.images)
                images = {"training": data.train_annotations, "validation": data.validation_annotations, "test": test}
                origin = origin_of(images, _buckets(study))
                session = Session(
                    study, folder, display, queue, tracker, num_test_images=num_test_images, origin=origin
                )
                loss.session = session
            waiting = None
            if cluster.address is not None:
                trial = inputs.resources
                waiting = Waiting("Trials", trial.num_cpus, trial.num_gpus, display.print_line)
            return session.run(teacher, inputs, interruption, resume_command, waiting)


class _ClusterLoss:
    """What a study does before its process ends because the cluster is lost; called in another thread."""

    def __init__(self, folder: StudyFolder, display: Display, resume_command: str) -> None:
        self._folder, self._display, self._resume_command = folder, display, resume_command
        self.session: Session | None = None
        """None before the first trial."""

    def __call__(self, reason: str) -> None:
        """Print the reason and how to resume, close the runs in MLflow, and complete the record in object storage."""
        if self.session is None:
            self._display.print_line(f"{reason}. Prepared data and finished epochs of the teacher are saved.")
            self._display.print_line(f"Resume with:  {self._resume_command}")
        else:
            self.session.interrupt(reason, self._resume_command)
        self._folder.end_mirror()
        self._display.close()
        self._display.console.file.flush()


def _shared_files(
    study: StudyConfig, folder: StudyFolder, cluster: Cluster, ready: ReadyTeacher | None
) -> SharedFiles | None:
    """What nodes that join the cluster later must see, too."""
    if cluster.address is None:
        return None
    teacher, labels = files_of(ready)
    return shared_files(study, folder, folder.config_file, teacher=teacher, labels=labels)


def _buckets(study: StudyConfig) -> dict[str, str]:
    """URIs of the data sets that are in buckets, by the name of their images."""
    data = study.base.data
    locations = {
        "training": data.train_annotations,
        "validation": data.validation_annotations,
        "test": data.test_annotations,
    }
    return {name: location for name, location in locations.items() if isinstance(location, str)}


def _check_before_data(
    study: StudyConfig, enqueued: Sequence[Mapping[str, object]], display: Display
) -> Annotations | None:
    """Check all that needs no images; returns the test annotations, if configured."""
    _check_costs(study, enqueued)  # needs no files
    test = check_files(study.base, check_images=False, print_line=display.print_line).test
    if test is not None:
        check_objectives(study, test, "test")
    check_first_weights_of_trials(study, print_line=display.print_line)
    return test


def _check_costs(study: StudyConfig, enqueued: Sequence[Mapping[str, object]]) -> None:
    check_limits(study)
    check_enqueued_costs(study, enqueued)


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
    storage = study.storage_path if isinstance(study.storage_path, str) else study.storage_folder
    check_artifacts(experiment, uri, study.name, storage)
    return partial(
        Tracker,
        client,
        uri,
        study.name,
        experiment,
        storage=storage,
        fetch_artifacts=folder.fetch_artifacts,
    )


def _open_queue(study: StudyConfig, folder: StudyFolder, display: Display, test_images: str | None) -> TrialQueue:
    def print_exhausted(num_proposed: int) -> None:
        display.print_line(
            f"The search space is exhausted: the sampler finds no trial beside the {num_proposed} so far"
        )

    return TrialQueue(study, open_ledger(study, folder.journal), print_exhausted, test_images=test_images)


def _trial_inputs(
    study: StudyConfig,
    cluster: Cluster,
    resources: TrialResources,
    ready: ReadyTeacher | None,
    num_train_images: int,
    display: Display,
) -> TrialInputs:
    teacher_file, labels_file = files_of(ready)
    if ready is not None and ready.labels is not None:
        num_train_images += ready.labels.summary.num_images
    cache = configured_cache(study, resources)
    if cache is not None:
        display.print_line(describe_cache(cache, study.base, resources, num_train_images))
    shared = share_gpus(study, cluster, resources, teacher_file, display, labels_file=labels_file)
    return TrialInputs(teacher_file, cache, shared, labels_file)
